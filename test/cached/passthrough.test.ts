/** Images that the kernel reads by itself: never an old byte, never a zero that is not the file's. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Children, PYTHON } from '../mount/children.ts';
import { checksum, complete, gvfs, statusOf, withCachedExport } from './cached-export.ts';

const IMAGE_BYTES = 8 << 20;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/**
 * Holds the image open and mapped. Each line of its input is a question: `read`, `map`, `both` print
 * the checksums of what is seen now.
 */
const HOLDER = `import hashlib, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
view = mmap.mmap(fd, size, prot=mmap.PROT_READ)
print('holding', flush=True)
for line in sys.stdin:
    read = hashlib.sha256(os.pread(fd, size, 0)).hexdigest()
    mapped = hashlib.sha256(view[:]).hexdigest()
    print('seen', read, mapped, flush=True)`;

describe('passthrough', () => {
  it('serves a complete image in a read-only session, and no READ comes to the daemon', async () => {
    await withCachedExport(async (place) => {
      const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
      const mount = await place.mount('session=readonly');
      await complete(mount, 'disk.raw');
      const holder = await hold(mount.children, join(mount.mountpoint, 'disk.raw'));
      const reads = async () =>
        (await statusOf(mount)).operations.find(({ operation }) => operation === 'READ')?.calls ??
        0;
      const before = await reads();
      assert.deepEqual(await holder.seen(), [expected, expected]);
      assert.equal(await checksum(mount, 'disk.raw'), expected);
      const { open } = await statusOf(mount);
      assert.deepEqual(
        open.map(({ path, servedBy }) => [path, servedBy]),
        [['disk.raw', 'passthrough']],
      );
      assert.equal(await reads(), before);
      await holder.end();
    });
  });

  it('is not used where a writer can come, nor for what is not complete; status says why', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      for (const session of ['exclusive', 'readonly'] as const) {
        const mount = await place.mount(`session=${session}`);
        const holder = await hold(mount.children, join(mount.mountpoint, 'disk.raw'));
        const [file] = (await statusOf(mount)).open;
        assert.equal(file?.servedBy, 'daemon', session);
        assert.ok(file.why, 'no reason is given');
        await holder.end();
        await mount.close();
      }
    });
  });

  it('shows no old and no wrong byte when the file is replaced on the server (ro, shared)', async () => {
    await withCachedExport(async (place) => {
      const old = sha256(place.image('disk.raw', IMAGE_BYTES));
      const mount = await place.mount('ro', 'session=shared', 'actimeo=0');
      await complete(mount, 'disk.raw');
      const holder = await hold(mount.children, join(mount.mountpoint, 'disk.raw'));
      assert.equal((await statusOf(mount)).open[0]?.servedBy, 'passthrough');
      // In place, so that it is the same file to the server, and by rename.
      const changed = sha256(place.image('disk.raw', IMAGE_BYTES));
      assert.equal(await checksum(mount, 'disk.raw'), changed, 'a new open');
      assert.deepEqual(await holder.seen(), [old, old], 'who has the old one open');
      const renamed = sha256(place.image('next.raw', IMAGE_BYTES - 4096));
      renameSync(
        join(place.server.directory, 'next.raw'),
        join(place.server.directory, 'disk.raw'),
      );
      assert.equal(await checksum(mount, 'disk.raw'), renamed, 'a new open after the rename');
      assert.deepEqual(await holder.seen(), [old, old], 'who has the old one open still');
      await holder.end();
    });
  });

  it('stays whole under eviction of everything', async () => {
    await withCachedExport(async (place) => {
      const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
      const other = sha256(place.image('other.raw', IMAGE_BYTES));
      const mount = await place.mount('session=readonly');
      await complete(mount, 'disk.raw');
      assert.equal(await checksum(mount, 'other.raw'), other);
      const holder = await hold(mount.children, join(mount.mountpoint, 'disk.raw'));
      await gvfs(mount, 'cache', 'evict', mount.mountpoint);
      assert.deepEqual(await holder.seen(), [expected, expected]);
      assert.equal(await checksum(mount, 'other.raw'), other);
      assert.deepEqual(await holder.seen(), [expected, expected]);
      await holder.end();
    });
  });
});

interface Holder {
  /** The checksums of what read(2) and the mapping show now. */
  seen(): Promise<string[]>;
  end(): Promise<void>;
}

async function hold(children: Children, path: string): Promise<Holder> {
  const program = ['-c', HOLDER, path];
  const child = await children.start(PYTHON, program, { interactive: true });
  await child.says('holding');
  return {
    seen: async () => (await child.ask('look')).split(' ').slice(1),
    async end() {
      child.endInput();
      await child.succeed();
    },
  };
}
