/** SQLite, git and a checksumming fio work on while their server is killed again and again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withMount } from '../mount/mount-fixture.ts';

const KILLS = 20;

describe('a server that is killed again and again', () => {
  it('harms neither a database nor a repository nor an image', async () => {
    await withMount({ options: ['hard', 'timeo=5', 'retrans=1'] }, async (mount) => {
      const { children, mountpoint, server } = mount;
      const stop = `${mountpoint}/stop`;
      const workers = await Promise.all(
        [
          `sqlite3 -batch db 'CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB);'
           n=0; until test -e stop; do n=$((n + 1))
             sqlite3 -bail -batch db "INSERT INTO t VALUES ($n, randomblob(5000));"; done
           test "$(sqlite3 db 'PRAGMA integrity_check')" = ok
           test "$(sqlite3 db 'SELECT count(*) FROM t')" = $n`,
          `export HOME=$PWD; git init -q repository; cd repository
           git config user.email t@example.org; git config user.name T
           n=0; until test -e ../stop; do n=$((n + 1)); echo $n >file
             git add file; git commit -q -m $n; done
           git fsck --full --strict; test "$(git rev-list --count HEAD)" = $n`,
          `until test -e stop; do
             fio --name=verify --size=16m --ioengine=libaio --direct=1 --rw=randrw --bs=4k \
               --iodepth=8 --verify=crc32c --verify_fatal=1 \\
               --verify_state_save=0 --minimal >/dev/null; done`,
        ].map((script) =>
          children.start('bash', [
            '-euo',
            'pipefail',
            '-c',
            `cd "$1"; ${script}`,
            'bash',
            mountpoint,
          ]),
        ),
      );
      for (let kill = 0; kill < KILLS; kill++) {
        await sleep(3000);
        assert.ok(workers.every((worker) => worker.alive()));
        await server.kill();
        await sleep(500);
        await server.restart();
      }
      await children.sh(': >"$1"', [stop]);
      for (const worker of workers) await worker.succeed(600_000);
    });
  });
});
