/**
 * kill -9 ends whoever waits for a dead server, whatever it waits in; the mount then works on. How
 * long it takes is told as a diagnostic. O_DIRECT is left out: the kernel does not interrupt it.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type Child, PYTHON } from '../mount/children.ts';
import { type Mount, mountExport } from '../mount/mount-fixture.ts';

/** Python: what is done while the server answers, then what waits for it. */
const callers: Record<string, { prepare?: string; wait: string }> = {
  'a buffered read': { prepare: 'fd = open_old()', wait: 'os.pread(fd, 4096, 0)' },
  'a read ahead': { prepare: 'fd = open_old()', wait: 'while os.read(fd, 65536): pass' },
  'a page fault': {
    prepare:
      'import mmap; fd = open_old(); view = mmap.mmap(fd, 0, prot=mmap.PROT_READ); ' +
      'view.madvise(mmap.MADV_RANDOM)',
    wait: 'view[500000]',
  },
  'a write': {
    prepare: 'fd = open_new()',
    wait: 'while True: os.write(fd, bytes(1 << 20))', // till no more is taken
  },
  'an fsync': { prepare: 'fd = open_new(); os.write(fd, bytes(100000))', wait: 'os.fsync(fd)' },
  'a close': { prepare: 'fd = open_new(); os.write(fd, bytes(100000))', wait: 'os.close(fd)' },
  'a stat of an unknown name': { wait: "os.stat('unknown-' + own)" },
  'an open': { wait: "os.open('old', os.O_RDONLY)" },
  'a creation': { wait: "os.open('created-' + own, os.O_CREAT | os.O_EXCL)" },
  'a mkdir': { wait: "os.mkdir('directory-' + own)" },
  'an unlink': { prepare: 'os.close(open_new())', wait: "os.unlink('new-' + own)" },
  'a rename': { prepare: 'os.close(open_new())', wait: "os.rename('new-' + own, 'to-' + own)" },
  'a listing': { wait: "os.listdir('.')" },
  'a truncate': { prepare: 'fd = open_new()', wait: 'os.ftruncate(fd, 5)' },
  'a statvfs': { wait: "os.statvfs('.')" },
};

const PROGRAM = `
import os, signal, sys
os.chdir(sys.argv[1])
own = str(os.getpid())
def open_old():
    fd = os.open('old', os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd
def open_new():
    return os.open('new-' + own, os.O_CREAT | os.O_RDWR)
exec(sys.argv[2])
print('prepared', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
exec(sys.argv[3])
print('not waited', flush=True)
`;

for (const [state, silence] of Object.entries({
  'does not answer': (server: Ganesha) => server.pause(),
  'is dead': (server: Ganesha) => server.kill(),
})) {
  describe(`a caller waits for a server that ${state}, and is killed`, () => {
    let server: Ganesha;
    let mount: Mount;
    const prepared = new Map<string, Child>();

    before(async () => {
      server = await startGanesha();
      writeFileSync(join(server.directory, 'old'), randomBytes(1 << 20));
      mount = await mountExport(server, { options: ['hard', 'timeo=10', 'retrans=2'] });
      for (const [what, { prepare, wait }] of Object.entries(callers)) {
        const child = await mount.children.start(PYTHON, [
          ...['-c', PROGRAM, mount.mountpoint, prepare ?? 'pass', wait],
        ]);
        await child.says('prepared');
        prepared.set(what, child);
      }
      await silence(server);
    });
    after(async () => {
      try {
        if (state === 'is dead') await server.restart();
        else server.resume();
        await mount?.close();
      } finally {
        await server?.stop();
      }
    });

    for (const what of Object.keys(callers)) {
      it(`in ${what}`, async (test) => {
        const child = prepared.get(what);
        assert.ok(child);
        process.kill(child.pid, 'SIGCONT');
        await untilAsleep(child);
        const waiting = child.whereabouts();
        child.kill();
        const killedAt = performance.now();
        await child.finish(20_000);
        assert.doesNotMatch(child.stdout, /not waited/);
        test.diagnostic(`${waiting}; gone after ${Math.round(performance.now() - killedAt)} ms`);
      });
    }

    it('and everything works when the server is back', async () => {
      if (state === 'is dead') await server.restart();
      else server.resume();
      await mount.children.sh(
        'cd "$1" && cat old >/dev/null && echo again >again && mv again there && ls >/dev/null',
        [mount.mountpoint],
      );
      assert.equal(readFileSync(join(server.directory, 'there'), 'utf8'), 'again\n');
    });
  });
}

/** Waits until it runs no more and sleeps in the kernel, twice in a row. */
async function untilAsleep(child: Child): Promise<void> {
  let seen = '';
  for (let waitedMs = 0; waitedMs < 20_000; waitedMs += 50) {
    await sleep(50);
    assert.ok(child.alive(), `it ended by itself: ${child.stdout}${child.stderr}`);
    assert.doesNotMatch(child.stdout, /not waited/);
    const now = child.whereabouts();
    if (/^[SD]/.test(now) && now === seen) return;
    seen = now;
  }
  assert.fail(`it never came to wait: ${seen}`);
}
