import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checksum, withCachedExport } from './cached-export.ts';

const IMAGE_BYTES = 8 << 20;
/** Attributes, names and permissions, and the headers of READ answers, but no image. */
const SMALL_TALK_BYTES = 64 << 10;

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

describe('a cached image', () => {
  for (const session of ['shared', 'exclusive', 'readonly']) {
    it(`crosses the network once, and not again after a remount (${session})`, async () => {
      await withCachedExport(async (place) => {
        const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
        const first = await place.mount(`session=${session}`);
        const whole = await place.fetched(async () => {
          assert.equal(await checksum(first, 'disk.raw'), expected);
        });
        assert.ok(whole >= IMAGE_BYTES && whole < IMAGE_BYTES * 1.05, `${whole} bytes came`);
        const again = await place.fetched(async () => {
          await first.children.run('dd', [
            ...[`if=${first.mountpoint}/disk.raw`, 'of=/dev/null', 'bs=1M', 'iflag=direct'],
          ]);
          assert.equal(await checksum(first, 'disk.raw'), expected);
        });
        assert.ok(again < SMALL_TALK_BYTES, `${again} bytes came for what was there`);
        await first.close();

        const second = await place.mount(`session=${session}`);
        const after = await place.fetched(async () => {
          assert.equal(await checksum(second, 'disk.raw'), expected);
        });
        assert.ok(after < SMALL_TALK_BYTES, `${after} bytes came after the remount`);
      });
    });
  }

  it('of a file that another client changed shows the change at the next open (shared)', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=shared', 'actimeo=0');
      await checksum(mount, 'disk.raw');
      for (const round of [1, 2, 3]) {
        const changed = place.image('disk.raw', IMAGE_BYTES - round * 5000);
        assert.equal(await checksum(mount, 'disk.raw'), sha256(changed), `round ${round}`);
      }
      await mount.close();
      const changed = place.image('disk.raw', IMAGE_BYTES);
      const second = await place.mount('session=shared');
      assert.equal(await checksum(second, 'disk.raw'), sha256(changed), 'changed while unmounted');
    });
  });

  it('keeps what is written, which is on the server at once', async () => {
    await withCachedExport(async (place) => {
      const content = place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive', 'write=through');
      await checksum(mount, 'disk.raw');
      const pieces = [
        { at: 0, byte: 'a', length: 4096 },
        { at: 5000, byte: 'b', length: 100 },
        { at: 1 << 20, byte: 'c', length: 300_000 },
        { at: IMAGE_BYTES - 10, byte: 'd', length: 5000 },
      ];
      for (const { at, byte, length } of pieces) {
        await mount.children.python(
          `import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
assert os.pwrite(fd, sys.argv[3].encode() * int(sys.argv[4]), int(sys.argv[2])) == int(sys.argv[4])
os.fsync(fd)
os.close(fd)`,
          [join(mount.mountpoint, 'disk.raw'), String(at), byte, String(length)],
        );
      }
      const expected = Buffer.alloc(IMAGE_BYTES - 10 + 5000);
      content.copy(expected);
      for (const { at, byte, length } of pieces) expected.fill(byte, at, at + length);
      const again = await place.fetched(async () => {
        assert.equal(await checksum(mount, 'disk.raw'), sha256(expected));
      });
      assert.ok(again < SMALL_TALK_BYTES, `${again} bytes of it were fetched again`);
      const onServer = await mount.children.run('sha256sum', [
        join(place.server.directory, 'disk.raw'),
      ]);
      assert.equal(onServer.slice(0, 64), sha256(expected), 'on the server');
      await mount.close();
      const second = await place.mount('session=exclusive', 'write=through');
      const after = await place.fetched(async () => {
        assert.equal(await checksum(second, 'disk.raw'), sha256(expected), 'after a remount');
      });
      assert.ok(after < SMALL_TALK_BYTES, `${after} bytes came after the remount`);
    });
  });

  it('that was cut and grew again holds zeros there, and no old byte', async () => {
    await withCachedExport(async (place) => {
      const content = place.image('disk.raw', 1 << 20);
      const mount = await place.mount('session=exclusive');
      await checksum(mount, 'disk.raw');
      await mount.children.sh('truncate -s 5000 "$1" && truncate -s 300000 "$1"', [
        join(mount.mountpoint, 'disk.raw'),
      ]);
      const expected = Buffer.alloc(300_000);
      content.copy(expected, 0, 0, 5000);
      assert.equal(await checksum(mount, 'disk.raw'), sha256(expected));
      await mount.close();
      const second = await place.mount('session=exclusive');
      assert.equal(await checksum(second, 'disk.raw'), sha256(expected), 'after a remount');
    });
  });

  it('that was replaced by a rename is the new file', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', 1 << 20);
      const mount = await place.mount('session=exclusive');
      await checksum(mount, 'disk.raw');
      const fresh = Buffer.alloc(700_000, 'new');
      const local = join(place.cache, 'fresh');
      writeFileSync(local, fresh);
      await mount.children.sh('cp "$1" "$2/new.raw" && mv "$2/new.raw" "$2/disk.raw"', [
        local,
        mount.mountpoint,
      ]);
      assert.equal(await checksum(mount, 'disk.raw'), sha256(fresh));
      await mount.close();
      const second = await place.mount('session=exclusive');
      assert.equal(await checksum(second, 'disk.raw'), sha256(fresh), 'after a remount');
    });
  });
});
