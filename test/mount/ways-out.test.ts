import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isMounted, withMount } from './mount-fixture.ts';

describe('the daemon ends with 0 and leaves no mount', () => {
  for (const [program, ...args] of [['umount'], ['fusermount', '-u'], ['fusermount3', '-u']]) {
    it(`by ${program}`, async () => {
      await withMount({}, async (mount) => {
        await mount.children.sh('echo content >"$1/file"', [mount.mountpoint]);
        await mount.children.run(program ?? '', [...args, mount.mountpoint]);
        assert.equal(await mount.daemonExit(), 0, mount.log());
        assert.ok(!isMounted(mount.mountpoint));
      });
    });
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`by ${signal}`, async () => {
      await withMount({}, async (mount) => {
        await mount.children.sh('ls "$1"', [mount.mountpoint]);
        mount.signal(signal);
        assert.equal(await mount.daemonExit(), 0, mount.log());
        assert.ok(!isMounted(mount.mountpoint));
      });
    });
  }

  it('is refused while a file is open, and works afterwards', async () => {
    await withMount({}, async (mount) => {
      await mount.children.sh('head -c 1000000 /dev/urandom >"$1/file"', [mount.mountpoint]);
      const holder = await mount.children.start('bash', [
        ...['-c', 'exec 3<"$1/file"; echo open; read -rn1 -u3; sleep 1000'],
        ...['bash', mount.mountpoint],
      ]);
      await holder.says('open');
      const { code } = await mount.children.finish('fusermount3', ['-u', mount.mountpoint]);
      assert.notEqual(code, 0);
      assert.equal(
        (await mount.children.run('stat', ['-c%s', `${mount.mountpoint}/file`])).trim(),
        '1000000',
      );
      holder.killGroup();
      await holder.ended;
      assert.equal(await mount.unmount(), 0, mount.log());
    });
  });
});
