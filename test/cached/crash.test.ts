/** kill -9 of the daemon at any moment: the next one serves the server's bytes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PYTHON } from '../mount/children.ts';
import { checksum, withCachedExport } from './cached-export.ts';

const IMAGE_BYTES = 16 << 20;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Reads at random, and writes too where told; prints nothing, ends when the mount dies. */
const BUSY = `import os, random, sys
path, writes = sys.argv[1], sys.argv[2] == 'writes'
random.seed(int(sys.argv[3]))
fd = os.open(path, os.O_RDWR if writes else os.O_RDONLY)
size = os.fstat(fd).st_size
print('running', flush=True)
while True:
    at = random.randrange(size // 4096) * 4096
    if writes and random.random() < 0.3:
        os.pwrite(fd, os.urandom(random.choice([100, 4096, 40000])), at)
    else:
        os.pread(fd, random.choice([4096, 65536, 300000]), at)`;

describe('after kill -9 of the daemon', () => {
  for (const work of ['reads', 'writes']) {
    it(`under random ${work}, what is read is what the server has`, async () => {
      await withCachedExport(async (place) => {
        place.image('disk.raw', IMAGE_BYTES);
        for (let round = 0; round < 6; round++) {
          const mount = await place.mount('session=exclusive', 'write=through');
          const busy = await mount.children.start(PYTHON, [
            ...['-c', BUSY, join(mount.mountpoint, 'disk.raw'), work, String(round)],
          ]);
          await busy.says('running');
          await sleep(50 + 150 * round);
          await mount.crash();
          await busy.finish();
          const again = await place.mount('session=exclusive', 'write=through');
          const onServer = sha256(readFileSync(join(place.server.directory, 'disk.raw')));
          assert.equal(await checksum(again, 'disk.raw'), onServer, `round ${round}`);
          await again.close();
        }
      });
    });
  }

  it('pages that were read before are still there', async () => {
    await withCachedExport(async (place) => {
      const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
      const mount = await place.mount('session=exclusive');
      await checksum(mount, 'disk.raw');
      await sleep(500);
      await mount.crash();
      const again = await place.mount('session=exclusive');
      const fetched = await place.fetched(async () => {
        assert.equal(await checksum(again, 'disk.raw'), expected);
      });
      assert.ok(fetched < IMAGE_BYTES / 10, `${fetched} bytes came again`);
    });
  });
});
