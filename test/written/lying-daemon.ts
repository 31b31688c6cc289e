/**
 * `gvfs-mount` that breaks a promise, so that the tests of that promise can be seen to fail. Its first
 * argument is the lie, the rest are gvfs-mount's:
 *
 *   unsynced   once an image has pages, nothing more is made durable on the cache's disk, and everybody
 *              is told that it is
 *   unmarked   a write is acknowledged while the marks that it is unsent are not on the disk yet
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MapFile } from '../../src/cache/map-file.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';

const LATE_MS = 3_000;

const lies: Record<string, () => void> = {
  unsynced() {
    const { writeChanged } = MapFile.prototype;
    MapFile.prototype.writeChanged = function (...args) {
      NativeFileIo.prototype.sync = () => Promise.resolve(0);
      return writeChanged.apply(this, args);
    };
  },
  unmarked() {
    const { writeChanged } = MapFile.prototype;
    MapFile.prototype.writeChanged = function (...args) {
      void sleep(LATE_MS).then(() => writeChanged.apply(this, args));
      return Promise.resolve(0);
    };
  },
};

const [lie = ''] = process.argv.splice(2, 1);
const tell = lies[lie];
if (tell === undefined) throw new Error(`there is no lie ${lie}`);
tell();
await import('../../src/cli/gvfs-mount.ts');
