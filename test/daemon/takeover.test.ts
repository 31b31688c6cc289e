/** One daemon has the cache of an export: who comes second is told so, or takes it over. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checksum, withCachedExport } from '../cached/cached-export.ts';
import { PYTHON } from '../mount/children.ts';

/** Writes without fsync, says so, and waits with the file open. */
const WRITER = `import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
os.pwrite(fd, b'kept' * 1024, 0)
print('written', flush=True)
sys.stdin.readline()`;

describe('the cache of an export that is mounted already', () => {
  it('is refused, with who has it', async () => {
    await withCachedExport(async (place) => {
      const first = await place.mount();
      await assert.rejects(place.mount(), (error: Error) => {
        assert.match(error.message, /the cache is taken/);
        assert.ok(error.message.includes(`daemon ${first.daemonPid}`), error.message);
        assert.ok(error.message.includes(first.mountpoint), error.message);
        assert.match(error.message, /-o nocache/);
        return true;
      });
      assert.ok(first.daemonAlive());
    });
  });

  it('is had at once by who mounts right after an unmount', async () => {
    await withCachedExport(async (place) => {
      place.image('disk.raw', 1 << 20);
      for (let round = 0; round < 3; round++) {
        const mount = await place.mount();
        const sum = await checksum(mount, 'disk.raw');
        const next = mount.unmount();
        const again = await place.mount();
        assert.equal(await checksum(again, 'disk.raw'), sum);
        assert.equal(await next, 0);
        assert.equal(await again.unmount(), 0);
      }
    });
  });

  it('is let go of by a daemon that waits for its server, and what it holds is not lost', async () => {
    await withCachedExport(async (place) => {
      const first = await place.mount();
      const writer = await first.children.start(
        PYTHON,
        ['-c', WRITER, join(first.mountpoint, 'new')],
        { interactive: true },
      );
      await writer.says('written');
      await place.relay.cut();
      writer.kill();
      await writer.ended;
      await first.unmount(0);
      // With the server away it cannot mount; but it has asked for the cache.
      await assert.rejects(
        place.mount('session=readonly'),
        /does not answer|accepts no connection/,
      );
      assert.match(first.log(), /the cache is given to the next mount/);
      assert.ok(first.daemonAlive());
      await place.relay.restore();
      assert.equal(await first.daemonExit(60_000), 0);
      const written = readFileSync(join(place.server.directory, 'new'), 'utf8');
      assert.equal(written, 'kept'.repeat(1024));
    });
  });
});
