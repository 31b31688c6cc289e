/** What a mount does without its server: what is known is answered, and there is a way out. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { isMounted, type Mount, withMount } from '../mount/mount-fixture.ts';

const PATIENT = ['hard', 'timeo=10', 'retrans=2', 'actimeo=3600'];

/** 100 readers of pages that nobody has; it tells how many pages were right. */
const READERS = `
import os, signal, sys, threading
fds = [os.open(sys.argv[1] + '/big', os.O_RDONLY) for _ in range(100)]
os.posix_fadvise(fds[0], 0, 0, os.POSIX_FADV_DONTNEED)
os.posix_fadvise(fds[0], 0, 0, os.POSIX_FADV_RANDOM)
print('prepared', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
right = []
def read(index):
    page = os.pread(fds[index], 4096, index * 65536)
    right.append(page == index.to_bytes(4, 'big') * 1024)
threads = [threading.Thread(target=read, args=[index]) for index in range(100)]
for thread in threads: thread.start()
print('started', flush=True)
for thread in threads: thread.join()
print('right', sum(right), flush=True)
`;

describe('while the server is away', () => {
  it('known names and attributes are answered beside 100 waiting readers', async () => {
    await withMount({ options: PATIENT }, async (mount) => {
      const { server, children, mountpoint } = mount;
      const big = Buffer.alloc(100 * 65_536);
      for (let at = 0; at < big.length; at += 4) big.writeUInt32BE(Math.floor(at / 65_536), at);
      writeFileSync(join(mount.serverDirectory, 'big'), big);
      await children.sh(
        `mkdir -p "$1/tree/sub"; for n in $(seq 200); do echo $n >"$1/tree/sub/$n"; done
         ln -s target "$1/tree/link"`,
        [mount.serverDirectory],
      );
      const known = 'stat -c "%n %s %y %a" "$1"/tree "$1"/tree/sub "$1"/tree/sub/{1..200} "$1"/big';
      const before = await children.sh(known, [mountpoint]);
      const readers = await children.start(PYTHON, ['-c', READERS, mountpoint]);
      await readers.says('prepared');
      server.pause();
      process.kill(readers.pid, 'SIGCONT');
      await readers.says('started');
      for (let round = 0; round < 3; round++) {
        assert.equal(await children.sh(known, [mountpoint], { timeoutMs: 20_000 }), before);
      }
      assert.doesNotMatch(readers.stdout, /right/);
      server.resume();
      assert.match(await readers.succeed(), /right 100/);
    });
  });

  it('an idle mount is unmounted, and its daemon ends', async () => {
    await withMount({ options: PATIENT }, async (mount) => {
      await used(mount);
      await mount.server.kill();
      assert.equal(await mount.unmount(), 0, mount.log());
      assert.ok(!isMounted(mount.mountpoint));
    });
  });

  it('an idle mount is unmounted when the server hangs', async () => {
    await withMount({ options: PATIENT }, async (mount) => {
      await used(mount);
      mount.server.pause();
      assert.equal(await mount.unmount(), 0, mount.log());
      mount.server.resume();
    });
  });

  it('SIGTERM ends the daemon, as it does with a server', async () => {
    await withMount({ options: PATIENT }, async (mount) => {
      await used(mount);
      await mount.server.kill();
      mount.signal('SIGTERM');
      assert.equal(await mount.daemonExit(), 0, mount.log());
      assert.ok(!isMounted(mount.mountpoint));
    });
  });

  it('a server that comes back is used again by an idle mount', async () => {
    await withMount({ options: ['hard', 'timeo=5', 'retrans=1'] }, async (mount) => {
      for (let round = 0; round < 3; round++) {
        await used(mount);
        await mount.server.restart();
      }
      await used(mount);
    });
  });

  it('is told once, and that it is back is told once', async () => {
    await withMount({ options: ['hard', 'timeo=5', 'retrans=1'] }, async (mount) => {
      mount.server.pause();
      const waiting = await Promise.all(
        ['a', 'b', 'c'].map((name) =>
          mount.children.start('stat', [join(mount.mountpoint, `absent-${name}`)]),
        ),
      );
      const count = (pattern: RegExp) => mount.log().match(pattern)?.length ?? 0;
      while (count(/not responding/g) === 0) {
        assert.ok(waiting.every((child) => child.alive()));
        await new Promise((again) => setTimeout(again, 50));
      }
      mount.server.resume();
      for (const child of waiting) assert.equal((await child.finish()).code, 1);
      await mount.children.sh('ls "$1" >/dev/null', [mount.mountpoint]);
      assert.equal(count(/not responding/g), 1, mount.log());
      assert.equal(count(/server.* OK/gi), 1, mount.log());
    });
  });
});

/** Files have been written and read: connections and caches are warm, nothing is unsent. */
async function used({ children, mountpoint }: Mount): Promise<void> {
  await children.sh('echo content >"$1/file"; cat "$1/file" >/dev/null; ls "$1" >/dev/null', [
    mountpoint,
  ]);
}
