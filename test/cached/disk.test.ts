/** The cache's own disk fills up or fails: readers get the server's bytes, and nobody hangs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LoopDisk, withDisk } from '../mount/loop-disk.ts';
import { checksum, withCachedExport } from './cached-export.ts';

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

describe("the cache's disk", () => {
  it('is smaller than the images: they are read right, and the limit is kept', async () => {
    await withDisk(LoopDisk.ext4(192), async (disk) => {
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
        { cacheAt: join(disk.path, 'cache') },
      );
    });
  });

  it('is full of other things: reads go on, from the server', async () => {
    await withDisk(LoopDisk.ext4(32), async (disk) => {
      await withCachedExport(
        async (place) => {
          const expected = sha256(place.image('a.raw', 20 << 20));
          const mount = await place.mount('session=exclusive', 'cachefree=0%');
          execFileSync('sh', [
            '-c',
            `dd if=/dev/zero of=${disk.path}/full bs=1M 2>/dev/null || true`,
          ]);
          assert.equal(await checksum(mount, 'a.raw'), expected);
          rmSync(join(disk.path, 'full'));
          assert.equal(await checksum(mount, 'a.raw'), expected);
        },
        { cacheAt: join(disk.path, 'cache') },
      );
    });
  });

  it('fails: reads and writes go on, from the server', async () => {
    await withDisk(LoopDisk.ext4(128), async (disk) => {
      await withCachedExport(
        async (place) => {
          const [a, b] = ['a.raw', 'b.raw'].map((name) => sha256(place.image(name, 8 << 20)));
          const mount = await place.mount('session=exclusive');
          assert.equal(await checksum(mount, 'a.raw'), a);
          disk.cutPower();
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
        { cacheAt: join(disk.path, 'cache') },
      );
    });
  });
});
