/**
 * The commands on a real mount, as a user runs them.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { methods, type ResultOf } from '../../src/daemon/control/schema.ts';
import { checkAny } from '../../src/daemon/control/shape.ts';
import { statusOf, withCachedExport } from '../cached/cached-export.ts';
import { PYTHON } from '../mount/children.ts';
import type { Mount } from '../mount/mount-fixture.ts';
import { gvfs } from './run.ts';

const IMAGE_BYTES = 8 << 20;

describe('gvfs on a mount', () => {
  it('warms what is absent, draws it, and keeps what is pinned', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive');
      const image = join(mount.mountpoint, 'disk.raw');
      // What it has tried itself by is nobody's concern.
      assert.equal((await run(mount, 'events', mount.mountpoint)).stdout, '');
      const cold = await run(mount, 'warm', '--check', image);
      assert.deepEqual([cold.code, cold.stdout], [5, `${image}: 0 B of 8.0 MiB present (0 %)\n`]);
      const part = await run(mount, 'warm', '--json', '--range', '1M-3M', image);
      const { files } = JSON.parse(part.stdout) as { files: ResultOf<'warm'>[] };
      assert.deepEqual([files[0]?.fetchedBytes, files[0]?.totalBytes], [2 << 20, 2 << 20]);
      const drawn = await run(mount, 'map', '--json', image);
      const { parts } = JSON.parse(drawn.stdout) as ResultOf<'map'>;
      const present = parts.reduce((sum, one) => sum + one.present, 0);
      assert.equal(present, (2 << 20) / 4096);
      const moved = await place.fetched(() => run(mount, 'warm', image));
      assert.ok(moved >= 6 << 20 && moved < 7 << 20, `${moved} bytes came`);
      assert.equal((await run(mount, 'warm', '--check', image)).code, 0);
      assert.equal((await run(mount, 'cache', 'pin', image)).code, 0);
      assert.equal((await run(mount, 'cache', 'evict', image)).code, 5);
      assert.equal((await run(mount, 'cache', 'unpin', image)).code, 0);
      const verified = await run(mount, 'cache', 'verify', image);
      assert.match(verified.stdout, /: 1 image, 8.0 MiB checked, nothing damaged\n$/);
      assert.equal((await run(mount, 'cache', 'evict', image)).code, 0);
      assert.equal((await run(mount, 'warm', '--check', image)).code, 5);
    });
  });

  it('answers while the server is away, and fails what waits for it', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive');
      const image = join(mount.mountpoint, 'disk.raw');
      const reader = await mount.children.start(PYTHON, ['-c', DIRECT_READER, image], {
        interactive: true,
      });
      await reader.says('open');
      await place.relay.cut();
      reader.tell('go');
      await until(async () => {
        const status = await statusOf(mount);
        return status.waiting.some(({ path, operation }) => {
          return path === 'disk.raw' && operation === 'READ';
        });
      });
      const failed = await run(mount, 'fail-waiting', image);
      assert.match(failed.stdout, /: [1-9]\d* requests? failed\n$/);
      const { stdout } = await reader.finish();
      assert.match(stdout, /EIO/);
      await place.relay.restore();
    });
  });

  it('stops a warm at Ctrl-C, while nothing comes any more', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive');
      const image = join(mount.mountpoint, 'disk.raw');
      assert.equal((await run(mount, 'warm', '--range', '0-1M', image)).code, 0);
      await place.relay.cut();
      const warming = await mount.children.start(process.execPath, [gvfs, 'warm', image]);
      await until(async () => (await statusOf(mount)).tasks.length === 1);
      process.kill(warming.pid, 'SIGINT');
      const { code, stderr } = await warming.finish();
      assert.equal(code, 8);
      assert.match(stderr, /gvfs: interrupted: what was done until then stays\n$/);
      await until(async () => (await statusOf(mount)).tasks.length === 0);
      await place.relay.restore();
      assert.equal((await run(mount, 'warm', '--check', '--range', '0-1M', image)).code, 0);
    });
  });

  it('has a status of its own schema', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive');
      const image = join(mount.mountpoint, 'disk.raw');
      await mount.children.run('dd', [`if=${image}`, 'of=/dev/null', 'bs=1M', 'status=none']);
      const status = await statusOf(mount);
      const checked = checkAny(methods.status.result, status, 'refuse');
      assert.deepEqual(checked, { ok: true, value: status });
      assert.equal(status.mountpoint, mount.mountpoint);
      assert.ok(status.bytes.server + status.bytes.cache >= IMAGE_BYTES);
      assert.ok(status.rpcs.some(({ procedure, calls }) => procedure === 'READ' && calls > 0));
      assert.ok(status.operations.some(({ operation }) => operation === 'READ'));
    });
  });
});

/** Reads with O_DIRECT, which the kernel does not interrupt. */
const DIRECT_READER = `import errno, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
print('open', flush=True)
sys.stdin.readline()
try: os.preadv(fd, [page], 4 << 20)
except OSError as error: print(errno.errorcode[error.errno])`;

/** A command as a child, whatever its exit status. */
async function run(mount: Mount, ...args: string[]) {
  const child = await mount.children.start(process.execPath, [gvfs, ...args]);
  return child.finish();
}

/** Each round is a run of gvfs: some minutes for what takes moments. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let round = 0; !(await condition()); round++) assert.ok(round < 300, 'it never happens');
}
