/**
 * A process that serves a `MemoryFs` at a mountpoint: the one who is asked must never be the one
 * who asks. Arguments: the mountpoint, and JSON with `localPath` and any mount settings.
 *
 * Prints one JSON line when the mount can be used (`{"mounted":...}` or `{"error":...}`) and one
 * when it has ended (`{"end":...}`). A line on standard input unmounts. Exits 0 after an unmount.
 */
import { NativeTransport } from '../../src/fuse/native-transport.ts';
import { MemoryFs } from './memory-fs.ts';

const [mountpoint = '', options = '{}'] = process.argv.slice(2);
const { localPath, ...settings } = JSON.parse(options);

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const fs = new MemoryFs(localPath);
const mounted = await new NativeTransport().mount(fs, {
  mountpoint,
  source: 'memory:/test',
  readOnly: false,
  allowOther: false,
  defaultPermissions: false,
  autoInvalidate: true,
  readAheadKib: 1024,
  ...settings,
});
if (!mounted.ok) {
  say({ error: mounted.error });
  process.exitCode = 32;
} else {
  const mount = mounted.value;
  say({ mounted: mount.capabilities });
  process.stdin.on('data', () => {
    void mount.unmount().then((result) => say({ unmount: result }));
  });
  const end = await mount.ended;
  process.stdin.destroy();
  await fs.close();
  const error = end.reason === 'failed' ? end.error.message : undefined;
  say({ end: { reason: end.reason, error }, counters: mount.counters, held: fs.held });
  process.exitCode = end.reason === 'unmounted' ? 0 : 1;
}
