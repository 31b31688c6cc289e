/** The cache's own disk fills up or fails: readers get the server's bytes, and nobody hangs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { checksum, withCachedExport } from './cached-export.ts';

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A file system of its own on a loop device, unmounted and removed at the end. */
async function withDisk(mib: number, body: (path: string) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'gvfs-disk-'));
  const image = `${home}.img`;
  execFileSync('truncate', ['-s', `${mib}M`, image]);
  execFileSync('mkfs.ext4', ['-q', '-m', '0', image]);
  execFileSync('mount', ['-o', 'loop', image, home]);
  try {
    await body(home);
  } finally {
    execFileSync('umount', ['-l', home]);
    rmdirSync(home);
    rmSync(image);
  }
}

/** Everything asked of the file system fails from now on (ext4: EXT4_IOC_SHUTDOWN). */
function shutDown(path: string): void {
  const program = `import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))`;
  execFileSync(PYTHON, ['-c', program, path]);
}

describe("the cache's disk", () => {
  it('is smaller than the images: they are read right, and the limit is kept', async () => {
    await withDisk(192, async (disk) => {
      await withCachedExport(
        async (place) => {
          const images = ['a.raw', 'b.raw', 'c.raw'].map((name) => ({
            name,
            expected: sha256(place.image(name, 40 << 20)),
          }));
          const mount = await place.mount('session=exclusive', 'cachesize=64M', 'cachefree=5%');
          for (const { name, expected } of [...images, ...images]) {
            assert.equal(await checksum(mount, name), expected, name);
          }
          const used = Number(
            execFileSync('du', ['-sk', place.cache], { encoding: 'utf8' }).split('\t')[0],
          );
          assert.ok(used <= 70 << 10, `${used} KiB are used of 64 MiB`);
        },
        { cacheAt: join(disk, 'cache') },
      );
    });
  });

  it('is full of other things: reads go on, from the server', async () => {
    await withDisk(32, async (disk) => {
      await withCachedExport(
        async (place) => {
          const expected = sha256(place.image('a.raw', 20 << 20));
          const mount = await place.mount('session=exclusive', 'cachefree=0%');
          execFileSync('sh', ['-c', `dd if=/dev/zero of=${disk}/full bs=1M 2>/dev/null || true`]);
          assert.equal(await checksum(mount, 'a.raw'), expected);
          rmSync(join(disk, 'full'));
          assert.equal(await checksum(mount, 'a.raw'), expected);
        },
        { cacheAt: join(disk, 'cache') },
      );
    });
  });

  it('fails: reads and writes go on, from the server', async () => {
    await withDisk(128, async (disk) => {
      await withCachedExport(
        async (place) => {
          const [a, b] = ['a.raw', 'b.raw'].map((name) => sha256(place.image(name, 8 << 20)));
          const mount = await place.mount('session=exclusive');
          assert.equal(await checksum(mount, 'a.raw'), a);
          shutDown(disk);
          assert.equal(await checksum(mount, 'a.raw'), a);
          assert.equal(await checksum(mount, 'b.raw'), b);
          await mount.children.sh('printf changed | dd of="$1" conv=notrunc,fsync 2>/dev/null', [
            join(mount.mountpoint, 'b.raw'),
          ]);
          const onServer = execFileSync('sha256sum', [join(place.server.directory, 'b.raw')], {
            encoding: 'utf8',
          });
          assert.equal(await checksum(mount, 'b.raw'), onServer.slice(0, 64));
        },
        { cacheAt: join(disk, 'cache') },
      );
    });
  });
});
