/** A soft mount: while the server is away callers get EIO after the retries, and then no longer. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { withMount } from '../mount/mount-fixture.ts';
import { POSIX_ENVIRONMENT } from '../mount/posix-suite.ts';

const PROGRAM = `
import os, signal, sys, time
from errno import EIO
from suite import fails
os.chdir(sys.argv[1])
old = os.open('old', os.O_RDONLY)
os.posix_fadvise(old, 0, 0, os.POSIX_FADV_DONTNEED)
new = os.open('new', os.O_CREAT | os.O_RDWR)
os.write(new, b'first')
os.fsync(new)
# A directory for each change: the kernel does them one after the other in one.
for what in ('create', 'rename', 'mkdir'):
    os.mkdir(what)
    os.close(os.open(what + '/old', os.O_CREAT))
late = os.open('late', os.O_CREAT | os.O_RDWR)
os.write(late, b'x' * 100000)
print('prepared', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)

def write_and_sync():
    os.write(new, b'second')
    os.fsync(new)

calls = {
    'read': lambda: os.pread(old, 4096, 500000),
    'write': write_and_sync,
    'fsync': lambda: os.fsync(late),
    'stat': lambda: os.stat('unknown'),
    'open': lambda: os.open('old', os.O_RDONLY),
    'create': lambda: os.open('create/new', os.O_CREAT | os.O_EXCL),
    'rename': lambda: os.rename('rename/old', 'rename/new'),
    'mkdir': lambda: os.mkdir('mkdir/new'),
    'listing': lambda: os.listdir('unlisted'),
}
# All at once, so that the back-offs do not add up.
pids = {}
for what, call in calls.items():
    pid = os.fork()
    if pid == 0:
        try:
            fails(EIO, call)
            os._exit(0)
        except BaseException as error:
            print(what, error, file=sys.stderr, flush=True)
            os._exit(1)
    pids[pid] = what
failed = []
for _ in calls:
    pid, status = os.wait()
    if status: failed.append(pids[pid])
print('failed:', *failed, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)

# It may take a moment until the daemon notices.
began = time.monotonic()
while True:
    try:
        assert len(os.pread(old, 4096, 500000)) == 4096
        break
    except OSError as error:
        assert error.errno == EIO, error
        time.sleep(0.1)
print('back after', round(time.monotonic() - began, 1), 's')
again = os.open('again', os.O_CREAT | os.O_RDWR)
os.write(again, b'works')
os.fsync(again)
os.close(again)
assert sorted(os.listdir('unlisted')) == ['listed']
print('works again', flush=True)
os.chdir('/')
`;

describe('a soft mount', () => {
  for (const kind of ['does not answer', 'is dead'] as const) {
    it(`gives EIO while the server ${kind}, and works when it is back`, async (test) => {
      await withMount({ options: ['soft', 'timeo=5', 'retrans=1'] }, async (mount) => {
        const { server, children } = mount;
        writeFileSync(join(mount.serverDirectory, 'old'), randomBytes(1 << 20));
        await children.sh('mkdir "$1/unlisted"; : >"$1/unlisted/listed"', [mount.serverDirectory]);
        const program = await children.start(PYTHON, ['-c', PROGRAM, mount.mountpoint], {
          env: POSIX_ENVIRONMENT,
        });
        await program.says('prepared');
        if (kind === 'is dead') await server.kill();
        else server.pause();
        process.kill(program.pid, 'SIGCONT');
        await program.says('failed:');
        assert.match(program.stdout, /^failed:\s*$/m, program.stderr);
        if (kind === 'is dead') await server.restart();
        else server.resume();
        process.kill(program.pid, 'SIGCONT');
        const printed = await program.succeed();
        assert.match(printed, /works again/);
        test.diagnostic(/back after .*/.exec(printed)?.[0] ?? '');
      });
    });
  }
});
