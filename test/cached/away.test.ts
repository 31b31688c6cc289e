/** The server is away: what is kept is served, what is not waits, and nothing is taken for gone. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { checksum, withCachedExport } from './cached-export.ts';

const IMAGE_BYTES = 8 << 20;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A reader of one page that is not there, which waits. */
const READER = `import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print('open', flush=True)
sys.stdin.readline()
page = os.pread(fd, 4096, int(sys.argv[2]))
sys.stdout.write(page.hex())`;

describe('while the server is away', () => {
  it('present pages are served, though a hundred readers wait for absent ones', async () => {
    await withCachedExport(async (place) => {
      const present = sha256(place.image('present.raw', IMAGE_BYTES));
      const absent = place.image('absent.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive');
      await checksum(mount, 'present.raw');
      const offsets = Array.from({ length: 100 }, (_, at) => 4096 * (at * 16));
      const script = `import os, sys, threading
fd = os.open(sys.argv[1], os.O_RDONLY)
print('open', flush=True)
sys.stdin.readline()
pages = {}
def read(at): pages[at] = os.pread(fd, 4096, at)
threads = [threading.Thread(target=read, args=(int(at),)) for at in sys.argv[2:]]
[thread.start() for thread in threads]
print('waiting', flush=True)
[thread.join() for thread in threads]
for at in sys.argv[2:]: print(pages[int(at)].hex())`;
      const readers = await mount.children.start(
        PYTHON,
        ['-c', script, join(mount.mountpoint, 'absent.raw'), ...offsets.map(String)],
        { interactive: true },
      );
      await readers.says('open');
      await place.relay.cut();
      readers.tell('go');
      await readers.says('waiting');
      for (let round = 0; round < 3; round++) {
        await mount.children.run('dd', [
          ...[`if=${mount.mountpoint}/present.raw`, 'of=/dev/null', 'bs=1M', 'iflag=direct'],
        ]);
        assert.equal(await checksum(mount, 'present.raw'), present);
      }
      const listed = await mount.children.run('stat', [
        ...['-c', '%s', join(mount.mountpoint, 'present.raw')],
      ]);
      assert.equal(Number(listed), IMAGE_BYTES);
      await place.relay.restore();
      const { stdout, code } = await readers.finish();
      assert.equal(code, 0);
      const pages = stdout.split('\n').filter((line) => line.length === 8192);
      assert.deepEqual(
        pages,
        offsets.map((at) => absent.subarray(at, at + 4096).toString('hex')),
      );
    });
  });

  for (const away of ['refuses connections', 'is silent']) {
    it(`a readonly session mounts from what the cache knows (the server ${away})`, () =>
      mountsAway(away));
  }

  async function mountsAway(away: string): Promise<void> {
    await withCachedExport(async (place) => {
      const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
      const first = await place.mount('session=readonly');
      assert.equal(await checksum(first, 'disk.raw'), expected);
      await first.children.run('ls', ['-l', first.mountpoint]);
      await first.close();
      if (away === 'is silent') await place.relay.cut();
      else await place.server.stop();
      const second = await place.mount('session=readonly');
      assert.equal(await checksum(second, 'disk.raw'), expected);
      const size = await second.children.run('stat', ['-c', '%s', `${second.mountpoint}/disk.raw`]);
      assert.equal(Number(size), IMAGE_BYTES);
      const refused = await second.children.finish('truncate', [
        ...['-s', '0', `${second.mountpoint}/disk.raw`],
      ]);
      assert.match(refused.stderr, /Read-only file system/);
    });
  }

  it('in a shared session known files are opened and read, and changes seen when it is back', async () => {
    await withCachedExport(async (place) => {
      const expected = sha256(place.image('disk.raw', IMAGE_BYTES));
      const mount = await place.mount('session=shared', 'actimeo=1');
      assert.equal(await checksum(mount, 'disk.raw'), expected);
      await place.relay.cut();
      assert.equal(await checksum(mount, 'disk.raw'), expected, 'while it is away');
      const changed = sha256(place.image('disk.raw', IMAGE_BYTES - 4096));
      await place.relay.restore();
      for (let tries = 0; tries < 50; tries++) {
        if ((await checksum(mount, 'disk.raw')) === changed) return;
        await new Promise((done) => setTimeout(done, 200));
      }
      assert.fail('the change was not seen after the server was back');
    });
  });

  it('a reader of an absent page gets EIO on a soft mount', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', IMAGE_BYTES);
      const mount = await place.mount('session=exclusive', 'soft', 'timeo=5', 'retrans=1');
      const reader = await mount.children.start(
        PYTHON,
        ['-c', READER, join(mount.mountpoint, 'disk.raw'), '1048576'],
        { interactive: true },
      );
      await reader.says('open');
      await place.relay.cut();
      reader.tell('go');
      const { stderr } = await reader.finish();
      assert.match(stderr, /Input\/output error/);
    });
  });
});
