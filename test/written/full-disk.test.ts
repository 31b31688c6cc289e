/** C7: the cache's disk fills up under writers, who see success or ENOSPC, and never a loss. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LoopDisk, withDisk } from '../mount/loop-disk.ts';
import { withWrittenExport, writeBack } from './written-export.ts';

const DISK_MIB = 16;
const IMAGE_BYTES = 12 << 20;
const OPERATIONS = 350;

describe('a cache disk that fills up', () => {
  for (const kind of ['ext4', 'tmpfs'] as const) {
    it(`under writers loses nothing (${kind})`, () => fillUp(kind, false));
  }

  it('with other things, too, loses nothing', () => fillUp('ext4', true));

  async function fillUp(kind: 'ext4' | 'tmpfs', withOthers: boolean): Promise<void> {
    await withDisk(LoopDisk[kind](DISK_MIB), async (disk) => {
      await withWrittenExport(
        async (written) => {
          const { place } = written;
          const mount = await place.mount('session=exclusive', 'write=deferred', 'cachefree=0%');
          const images = [
            written.image('one.raw', IMAGE_BYTES),
            written.image('other.raw', IMAGE_BYTES),
          ];
          for (const [at, image] of images.entries()) {
            await image.write(mount, 2, 1000 * at, { operations: OPERATIONS, goOnWhenFull: true });
          }
          if (withOthers) {
            const script = `dd if=/dev/zero of=${disk.path}/full bs=1M 2>/dev/null || true`;
            execFileSync('sh', ['-c', script]);
          }
          for (const { child } of images.flatMap(({ writers }) => writers)) {
            await child.succeed(100_000);
          }
          const { bytesToServer } = await place.relay.counters();
          assert.ok(bytesToServer > 1 << 20, 'there was room for all of it');
          const outcomes = images
            .flatMap(({ writers }) => writers)
            .map((writer) => writer.journal().length);
          assert.deepEqual(outcomes, [OPERATIONS, OPERATIONS, OPERATIONS, OPERATIONS]);
          for (const image of images) await image.assertKept(mount, 'acknowledged', 'when full');
          await writeBack(mount, 'deferred');
          for (const image of images) image.assertAtServer('after the write-back');
          await mount.close();
          written.assertAtServer();
        },
        { cacheAt: join(disk.path, 'cache') },
      );
    });
  }
});
