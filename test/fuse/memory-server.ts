/**
 * A process that serves a `MemoryFs` at a mountpoint: the one who is asked must never be the one
 * who asks. Arguments: the mountpoint, and JSON with any of `MemoryOptions` and `MountSettings`, and
 * `transport`, the native one unless it says `fuse-native`.
 *
 * Prints one JSON line when the mount can be used (`{"mounted":...}` or `{"error":...}`) and one
 * when it has ended (`{"end":...}`). Exits 0 after an unmount. A line on standard input is an
 * order, answered by a line:
 *
 *   unmount            asks for an unmount
 *   abandon            ends the mount, whoever uses it
 *   poke NAME TEXT     changes a file of the root behind the kernel's back
 *   inode NAME TEXT    the same, and has the kernel drop what it knows of the file
 *   entry NAME TEXT    the same, and has the kernel look the name up again
 *   fail NAME          fails what waits of a file of the root
 *   status             tells what `ServerStatus` has
 */
import { createInterface } from 'node:readline';
import type { Name } from '../../src/base/brand.ts';
import { FuseNativeTransport } from '../../src/fuse/fuse-native-transport.ts';
import { NativeTransport } from '../../src/fuse/native-transport.ts';
import type { Mounted } from '../../src/fuse/transport.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { MemoryFs } from './memory-fs.ts';
import type { ServerStatus } from './memory-mount.ts';

const [mountpoint = '', json = '{}'] = process.argv.slice(2);
const options = JSON.parse(json);
const fs = new MemoryFs(options);

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function obey(mount: Mounted, order: string): Promise<void> {
  const [verb, name = '', text = ''] = order.split(' ');
  if (verb === 'unmount') {
    say({ unmount: await mount.unmount() });
    return;
  }
  if (verb === 'abandon') {
    await mount.abandon();
    return;
  }
  if (verb === 'fail') {
    say({ failed: mount.failWaiting(fs.inoOf(name)) });
    return;
  }
  if (verb === 'status') {
    say({
      passthrough: mount.capabilities.passthrough,
      localReads: fs.localReads,
      waiting: mount.waiting(),
      answered: Object.fromEntries([...mount.latencies()].map(([of, { count }]) => [of, count])),
    } satisfies ServerStatus);
    return;
  }
  const ino = fs.poke(name, text);
  if (verb === 'inode') await mount.notices.invalidateInode(ino, 0, 0);
  if (verb === 'entry') await mount.notices.invalidateEntry(ROOT_INO, Buffer.from(name) as Name);
  say({ done: order });
}

const transport =
  options.transport === 'fuse-native' ? new FuseNativeTransport() : new NativeTransport();
const mounted = await transport.mount(fs, {
  mountpoint,
  source: 'memory:/test',
  readOnly: false,
  allowOther: false,
  defaultPermissions: false,
  autoInvalidate: true,
  readAheadKib: 1024,
  ...options,
});
if (!mounted.ok) {
  say({ error: mounted.error });
  process.exitCode = 32;
} else {
  const mount = mounted.value;
  fs.backing = mount.backing;
  say({ mounted: mount.capabilities });
  const orders = createInterface({ input: process.stdin });
  orders.on('line', (order) => void obey(mount, order));
  const end = await mount.ended;
  orders.close();
  process.stdin.destroy();
  await fs.close();
  const error = end.reason === 'failed' ? end.error.message : undefined;
  say({
    end: { reason: end.reason, error },
    counters: 'counters' in mount ? mount.counters : {},
    held: fs.held,
  });
  process.exit(end.reason === 'unmounted' ? 0 : 1); // fuse-native would hold us
}
