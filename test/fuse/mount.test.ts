/**
 * The native transport on the real kernel: a file system in memory in one process, programs that
 * use it in others. Needs root, /dev/fuse, fuse3 and python3.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readMounts } from '../../src/fuse/mountinfo.ts';
import { SPECIAL_BYTES } from './memory-fs.ts';
import { MemoryMount, mountMemory, run, temporaryFolder } from './memory-mount.ts';

describe('files', () => {
  let folder: string;
  let mount: MemoryMount;
  before(async () => {
    folder = await temporaryFolder();
    await writeFile(join(folder, 'local'), randomBytes(SPECIAL_BYTES));
    await mkdir(join(folder, 'mnt'));
    mount = new MemoryMount(join(folder, 'mnt'), { localPath: join(folder, 'local') });
    const { mounted } = await mount.line();
    assert.match(mounted?.protocol ?? '', /^7\.(3[1-9]|4[0-9])$/);
    assert.equal(mounted?.readAheadKib, 1024);
  });
  after(async () => {
    const { last } = await mount.finish();
    await mount.destroy();
    await rm(folder, { recursive: true });
    assert.deepEqual([last.held?.handles, last.held?.replies], [0, 0], 'all is given back');
  });

  it('of 8 MiB go in and come out the same, buffered and O_DIRECT, in large and small pieces', async () => {
    await mount.sh(`
      dd if=../local of=a bs=1M status=none
      cmp a ../local
      dd if=../local of=b bs=1M oflag=direct status=none
      cmp b ../local
      dd if=b bs=1M iflag=direct status=none | cmp - ../local
      dd if=b bs=4k iflag=direct status=none | cmp - ../local
      dd if=../local of=c bs=3000 status=none
      cmp c ../local
      dd if=../local of=d bs=33k status=none
      cmp d ../local
      rm a b c d`);
  });

  it('are answered from a local file and from zeros, whole', async () => {
    await mount.sh(`
      for bs in 4k 64k 100k 128k 1M; do
        dd if=local bs=$bs iflag=direct status=none | cmp - ../local
        dd if=zeros bs=$bs iflag=direct status=none | cmp -n ${SPECIAL_BYTES} - /dev/zero
      done
      cmp local ../local
      test $(cat zeros | tr -d '\\0' | wc -c) = 0
      test $(cat zeros | wc -c) = ${SPECIAL_BYTES}`);
  });

  it('are answered from a local file in ranges of any length and place', async () => {
    await mount.python(`
import mmap, os, random
expected = open('../local', 'rb').read()
for flags in (0, os.O_DIRECT):
    fd = os.open('local', os.O_RDONLY | flags)
    room = mmap.mmap(-1, 4 << 20)
    for offset, length in [(1, 3 << 20), (4095, 1 << 20), ((1 << 20) - 1, (1 << 20) + 2), (0, 4 << 20),
                           (${SPECIAL_BYTES} - 5, 4096), (${SPECIAL_BYTES}, 1)] \
            + [(random.randrange(8 << 20), random.randrange(1, 3 << 20)) for _ in range(50)]:
        at = random.choice([0, 1, 512, 4095])
        view = memoryview(room)[at:min(at + length, 4 << 20)]
        got = os.preadv(fd, [view], offset)
        want = expected[offset:offset + len(view)]
        assert got == len(want) and view[:got] == want, (flags, offset, length, at, got)
    os.close(fd)`);
  });

  it('whose local file cannot be read are answered with what stands for it, never with less', async () => {
    await mount.python(`
import os
EISDIR, ESTALE = 21, 116
for flags in (0, os.O_DIRECT):
    fd = os.open('unreadable', os.O_RDONLY | flags)
    for length in (4096, 1 << 16, 1 << 20):
        assert os.pread(fd, length, 0) == bytes([EISDIR]) * length, length
    os.close(fd)
    fd = os.open('cut', os.O_RDONLY | flags)
    for length in (4096, 1 << 16, 1 << 20):
        try: os.pread(fd, length, 0); assert False
        except OSError as e: assert e.errno == ESTALE or flags == 0, e
    os.close(fd)`);
  });

  it('are cut, grown with zeros, and overwritten in the middle', async () => {
    await mount.sh(`
      printf 0123456789 > t
      truncate -s 4 t; truncate -s 6 t
      printf XY | dd of=t bs=1 seek=1 conv=notrunc status=none
      test "$(od -An -c t | tr -d ' ')" = '0XY3\\0\\0'
      : > t; test ! -s t; rm t`);
  });

  it('take appends of two writers, none lost', async () => {
    await mount.sh(`
      : > log
      append() { i=0; while [ $i -lt 300 ]; do echo $1 >> log; i=$((i+1)); done; }
      append a & append b & wait
      test $(grep -c '^a$' log) = 300; test $(grep -c '^b$' log) = 300; rm log`);
  });

  it('are mapped, shared and private', async () => {
    await mount.python(`
import mmap, os
fd = os.open('m', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 1 << 20)
shared = mmap.mmap(fd, 1 << 20)
private = mmap.mmap(fd, 1 << 20, flags=mmap.MAP_PRIVATE)
shared[4096:4101] = b'hello'; shared.flush()
assert os.pread(fd, 5, 4096) == b'hello'
private[0:3] = b'own'
assert os.pread(fd, 3, 0) == b'\\0\\0\\0' and private[0:3] == b'own'
os.pwrite(fd, b'new', 8192)
assert shared[8192:8195] == b'new'
shared.close(); private.close(); os.close(fd)
assert open('m', 'rb').read()[4096:4101] == b'hello'
os.unlink('m')`);
  });

  it('keep what was unlinked while it is open', async () => {
    await mount.sh('echo kept > u; exec 3< u; rm u; test ! -e u; read line <&3; test $line = kept');
  });

  it('have names of 255 bytes, with newlines, not in UTF-8; 256 are too many', async () => {
    await mount.python(`
import os
names = [b'n' * 255, b'new\\nline', b'\\xff\\xfe', b' ', b'-', b'\\\\', '\\u00e9'.encode()]
os.mkdir('names')
for name in names: os.close(os.open(b'names/' + name, os.O_CREAT | os.O_EXCL))
assert sorted(os.listdir(b'names')) == sorted(names)
for name in names: os.unlink(b'names/' + name)
os.rmdir('names')
try: os.stat('n' * 256); assert False
except OSError as e: assert e.errno == 36`);
  });

  it('have attributes: mode, owner, times to the nanosecond, links, devices', async () => {
    await mount.python(`
import os, stat
os.close(os.open('f', os.O_CREAT | os.O_WRONLY, 0o640))
os.chown('f', 12, 34); os.chmod('f', 0o4751)
os.utime('f', ns=(1234567890123456789, -1))
os.link('f', 'g'); os.symlink('to/nowhere', 's'); os.mkfifo('p'); os.mknod('b', 0o060600, os.makedev(259, 1048575))
s = os.stat('f')
assert (s.st_mode, s.st_uid, s.st_gid, s.st_nlink) == (0o104751, 12, 34, 2), s
assert (s.st_atime_ns, s.st_mtime_ns) == (1234567890123456789, -1), s
assert os.stat('g').st_ino == s.st_ino
assert os.readlink('s') == 'to/nowhere'
assert stat.S_ISFIFO(os.stat('p').st_mode)
assert os.stat('b').st_rdev == os.makedev(259, 1048575)
for name in 'fgspb': os.unlink(name)`);
  });

  it('are renamed, over others too, but not with NOREPLACE', async () => {
    await mount.sh(`
      mkdir r; echo 1 > r/a; echo 2 > b
      mv r/a c; mv -n c b; test $(cat b) = 2
      mv -f c b; test $(cat b) = 1; test ! -e c
      mkdir e; mv e r/; test -d r/e; ! rmdir r 2> /dev/null
      rmdir r/e r; rm b`);
  });

  it('get the right errno for what there is not', async () => {
    await mount.python(`
import os, errno
def fails(number, call, *args):
    try: call(*args); assert False, call
    except OSError as e: assert e.errno == number, e
open('x', 'w').close(); fd = os.open('x', os.O_RDWR)
for _ in range(2):
    fails(errno.EOPNOTSUPP, os.setxattr, 'x', 'user.a', b'1')
    fails(errno.EOPNOTSUPP, os.getxattr, 'x', 'user.a')
    fails(errno.ENOENT, os.stat, 'none')
    fails(errno.ENOTDIR, os.stat, 'x/y')
os.posix_fallocate(fd, 0, 4096) # which glibc does by writing, where the kernel says EOPNOTSUPP
assert os.fstat(fd).st_size == 4096
os.close(fd); os.unlink('x')
import fcntl
a = open('l', 'w'); b = open('l', 'w')
fcntl.flock(a, fcntl.LOCK_EX)
fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
a.close(); fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB); os.unlink('l')`);
  });
});

it('a directory of 10,000 is listed whole, and emptied while it is read', async (t) => {
  const mount = await mountMemory(t);
  await mount.python(`
import os
os.mkdir('many')
for i in range(10000): os.close(os.open('many/%d' % i, os.O_CREAT))
assert sorted(map(int, os.listdir('many'))) == list(range(10000))
seen = 0
with os.scandir('many') as entries:
    for e in entries: os.unlink(e.path); seen += 1
assert seen == 10000 and os.listdir('many') == []
os.rmdir('many')`);
  const { status, last } = await mount.finish();
  assert.equal(status, 0);
  assert.deepEqual(last.held?.handles, 0);
});

describe('kill -9 ends who waits for an answer that never comes', () => {
  const waiting: Record<string, string> = {
    LOOKUP: 'cat hang-lookup',
    'a buffered READ': 'cat hang-read',
    WRITE: 'echo x >> hang-write',
    FSYNC: 'sync hang-fsync',
  };
  for (const [what, script] of Object.entries(waiting)) {
    it(what, async (t) => {
      const mount = await mountMemory(t);
      const child = spawn('sh', ['-c', script], { cwd: mount.mountpoint, detached: true });
      await asleepInFuse(child);
      killGroup(child);
      const [, signal] = await once(child, 'close');
      assert.equal(signal, 'SIGKILL');
      assert.match(await mount.sh('ls'), /zeros/); // and the mount lives on
    });
  }
});

it('a signal that is handled does not end a slow call: no EINTR', async (t) => {
  const mount = await mountMemory(t);
  await mount.python(`
import ctypes, signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.access(b'slow', 0) == 0, ctypes.get_errno()`);
  const { last } = await mount.finish();
  assert.notEqual(last.counters?.interrupts, 0);
});

describe('notices', () => {
  const obeyed = async (mount: MemoryMount, order: string) => {
    mount.order(order);
    assert.equal((await mount.line()).done, order);
  };

  it('make the kernel forget pages and attributes', async (t) => {
    // Nothing else would: neither an open nor another mtime drops them.
    const mount = await mountMemory(t, {
      validMs: 3_600_000,
      keepCache: true,
      autoInvalidate: false,
    });
    await obeyed(mount, 'poke f old');
    assert.equal(await mount.sh('cat f'), 'old');
    await obeyed(mount, 'poke f new');
    assert.equal(await mount.sh('cat f'), 'old', 'or there is nothing to be shown here');
    await obeyed(mount, 'inode f newer');
    assert.equal(await mount.sh('cat f; stat -c %s f'), 'newer5\n');
  });

  it('make the kernel look up again what did not exist', async (t) => {
    const mount = await mountMemory(t, { validMs: 3_600_000 });
    await mount.sh('test ! -e f');
    await obeyed(mount, 'poke f text');
    await mount.sh('test ! -e f');
    await obeyed(mount, 'entry f text');
    assert.equal(await mount.sh('cat f'), 'text');
  });

  it('of what the kernel does not know are done at once', async (t) => {
    const mount = await mountMemory(t);
    await obeyed(mount, 'inode unknown text');
    await obeyed(mount, 'entry unknown text');
  });
});

describe('an unmount ends the server with status 0', () => {
  for (const command of ['fusermount3 -u', 'fusermount -u', 'umount']) {
    it(command, async (t) => {
      const mount = await mountMemory(t);
      await mount.sh('echo x > f; mkdir d; ls -lR > /dev/null; cat f');
      const [program = '', ...args] = command.split(' ');
      assert.equal((await run(program, [...args, mount.mountpoint])).status, 0);
      const { status, last } = await mount.last();
      assert.deepEqual(last.end, { reason: 'unmounted' });
      assert.equal(status, 0);
      assert.equal(last.held?.handles, 0);
      const { requests = 0, replies = 0, unsupported = 0 } = last.counters ?? {};
      assert.equal(replies + unsupported, requests);
    });
  }

  it('asked of the server: refused while a file is open, then done', async (t) => {
    const mount = await mountMemory(t);
    const holder = spawn('sh', ['-c', 'exec 3> open; echo ready; read end'], {
      cwd: mount.mountpoint,
    });
    t.after(() => holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    mount.order('unmount');
    assert.equal((await mount.line()).unmount?.error?.code, 'BUSY');
    holder.stdin.end('\n');
    await once(holder, 'close');
    mount.order('unmount');
    const { status } = await mount.last();
    assert.equal(status, 0);
  });

  it('dirty pages of a mapping are written first, by the server that unmounts', async (t) => {
    const mount = await mountMemory(t);
    await mount.python(`
import mmap, os
fd = os.open('m', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 1 << 20)
mmap.mmap(fd, 1 << 20)[0:1 << 20] = b'x' * (1 << 20)`);
    mount.order('unmount');
    const { status } = await mount.last();
    assert.equal(status, 0);
  });
});

describe('what waits', () => {
  const reader = (mount: MemoryMount) =>
    spawn('dd', [
      ...['iflag=direct', 'bs=4k', 'count=1', 'of=/dev/null', 'status=none'],
      `if=${join(mount.mountpoint, 'hang-read')}`,
    ]);

  it('is told when it has waited long, and can be failed though no signal reaches it', async (t) => {
    const mount = await mountMemory(t);
    const readers = [reader(mount), reader(mount)];
    const ended = Promise.all(readers.map((child) => once(child, 'close')));
    for (const child of readers) await asleepInFuse(child);
    let { waiting } = await mount.status();
    while (waiting.length < 2) ({ waiting } = await mount.status());
    assert.deepEqual(
      waiting.map(({ operation }) => operation),
      ['READ', 'READ'],
    );
    assert.ok(waiting.every(({ ageMs }) => ageMs >= 1000));
    mount.order('fail zeros');
    assert.equal((await mount.line()).failed, 0, 'nothing waits of another file');
    mount.order('fail hang-read');
    assert.equal((await mount.line()).failed, 2);
    assert.deepEqual(
      (await ended).map(([status]) => status),
      [1, 1],
    );
    assert.deepEqual((await mount.status()).waiting, []);
    assert.equal((await mount.finish()).status, 0);
  });

  it('for a local disk that hangs holds up nothing else, and can be failed', async (t) => {
    const disk = await mountMemory(t);
    const mount = await mountMemory(t, { localPath: join(disk.mountpoint, 'hang-read') });
    const readers = Array.from({ length: 6 }, (_, at) =>
      spawn('dd', [
        ...['iflag=direct', 'bs=1M', 'count=1', 'of=/dev/null', 'status=none', `skip=${at}`],
        `if=${join(mount.mountpoint, 'local')}`,
      ]),
    );
    const ended = Promise.all(readers.map((child) => once(child, 'close')));
    for (const child of readers) await asleepInFuse(child);
    await mount.sh(`
      dd if=/dev/urandom of=a bs=1M count=4 oflag=direct status=none
      dd if=a of=/dev/null bs=1M iflag=direct status=none
      dd if=zeros of=/dev/null bs=1M iflag=direct status=none`);
    mount.order('fail local');
    assert.equal((await mount.line()).failed, 6);
    for (const [status] of await ended) assert.equal(status, 1);
    // The threads hang on, until their disk is gone.
    mount.order('abandon');
    assert.equal((await mount.last()).status, 0);
  });

  it('is counted when it is answered, by operation', async (t) => {
    const mount = await mountMemory(t);
    await mount.sh('dd if=zeros of=/dev/null bs=4k count=7 iflag=direct status=none');
    const { answered } = await mount.status();
    assert.equal(answered.READ, 7);
    assert.equal(answered.OPEN, 1);
    assert.equal(answered.WRITE, undefined);
  });
});

describe('a mount that is abandoned', () => {
  it('ends with a request that is never answered, and a notice that waits for it', async (t) => {
    const mount = await mountMemory(t);
    const reader = spawn('head', ['-c1', join(mount.mountpoint, 'hang-read')]);
    const ended = once(reader, 'close');
    await asleepInFuse(reader);
    await run('umount', ['-l', mount.mountpoint]); // no unmount reaches it any more
    mount.order('inode hang-read changed');
    mount.order('abandon');
    assert.equal((await mount.last()).status, 0);
    assert.notEqual((await ended)[0], 0);
  });

  it('leaves what it was mounted over', async (t) => {
    const mountpoint = await temporaryFolder();
    await run('mount', ['-t', 'tmpfs', 'beneath', mountpoint]);
    const mount = new MemoryMount(mountpoint);
    t.after(async () => {
      await run('umount', ['-l', mountpoint]);
      await mount.destroy();
    });
    await mount.line();
    mount.order('abandon');
    assert.equal((await mount.last()).status, 0);
    assert.deepEqual(await sourcesAt(mountpoint), ['beneath']);
  });
});

it('umount -f of a mount in use fails what waits, and leaves no dead mount', async (t) => {
  const mount = await mountMemory(t);
  const reader = spawn('dd', [
    ...['iflag=direct', 'bs=4k', 'count=1', 'of=/dev/null', 'status=none'],
    `if=${join(mount.mountpoint, 'hang-read')}`,
  ]);
  const ended = once(reader, 'close');
  await asleepInFuse(reader);
  await run('umount', ['-f', '--no-canonicalize', '--internal-only', mount.mountpoint]);
  assert.equal((await mount.last()).status, 0);
  assert.equal((await ended)[0], 1);
  assert.deepEqual(await sourcesAt(mount.mountpoint), []);
});

it('an unmount does not take away what was mounted in its place', async (t) => {
  const mount = await mountMemory(t);
  const holder = spawn('sh', ['-c', 'exec 3> open; echo ready; read end'], {
    cwd: mount.mountpoint,
  });
  t.after(async () => {
    holder.kill('SIGKILL');
    await run('umount', ['-l', mount.mountpoint]);
  });
  await once(holder.stdout, 'data');
  await run('umount', ['-l', mount.mountpoint]);
  await run('mount', ['-t', 'tmpfs', 'successor', mount.mountpoint]);
  mount.order('unmount');
  assert.equal((await mount.line()).unmount?.error?.code, 'NOT_MOUNTED');
  assert.deepEqual(await sourcesAt(mount.mountpoint), ['successor']);
  holder.stdin.end('\n');
  assert.equal((await mount.last()).status, 0);
});

it('a broken invariant ends the server with an error, and the mount with it', async (t) => {
  const mount = await mountMemory(t);
  await assert.rejects(mount.sh('cat throw-read')); // EIO, or what an abort makes of it
  const { status, last } = await mount.last();
  assert.deepEqual(last.end, { reason: 'failed', error: 'asked to break' });
  assert.equal(status, 1);
  assert.doesNotMatch(await readFile('/proc/self/mountinfo', 'utf8'), new RegExp(mount.mountpoint));
});

describe('a mount is refused', () => {
  const refusal = async (mountpoint: string) => {
    const mount = new MemoryMount(mountpoint);
    try {
      const line = await mount.line();
      assert.notEqual(await mount.exited, 0);
      return line.error?.code;
    } finally {
      if (mount.server.exitCode === null) mount.server.kill('SIGKILL');
    }
  };

  it('where there is no directory', async () => {
    assert.equal(await refusal('/no/such/folder'), 'MOUNTPOINT_MISSING');
    assert.equal(await refusal('/proc/version'), 'MOUNTPOINT_NOT_DIRECTORY');
    assert.equal(await refusal('/proc/version/x'), 'MOUNTPOINT_NOT_DIRECTORY');
  });

  it('where a mount lives, and where one has died', async (t) => {
    const mount = await mountMemory(t);
    assert.equal(await refusal(mount.mountpoint), 'MOUNTPOINT_BUSY');
    mount.server.kill('SIGKILL');
    await mount.exited;
    assert.equal(await refusal(mount.mountpoint), 'MOUNTPOINT_STALE');
    assert.equal((await run('fusermount3', ['-u', mount.mountpoint])).status, 0);
    const again = new MemoryMount(mount.mountpoint);
    t.after(() => again.destroy());
    assert.notEqual((await again.line()).mounted, undefined);
    assert.equal((await again.finish()).status, 0);
  });
});

it('a read-only mount refuses writes', async (t) => {
  const mount = await mountMemory(t, { readOnly: true });
  await assert.rejects(mount.sh('echo x > new'), /Read-only file system/);
  await mount.sh('head -c 10 zeros');
});

async function sourcesAt(mountpoint: string): Promise<string[]> {
  const mounts = await readMounts();
  return mounts.filter((line) => line.mountpoint === mountpoint).map(({ source }) => source);
}

function killGroup({ pid }: ChildProcess): void {
  assert.ok(pid !== undefined);
  process.kill(-pid, 'SIGKILL');
}

/** Waits until the child, or a child of its, waits in a FUSE request. */
async function asleepInFuse({ pid }: ChildProcess): Promise<void> {
  for (;;) {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1');
    for (const id of [pid, ...children.split(' ').filter(Boolean)]) {
      const stack = await readFile(`/proc/${id}/wchan`, 'latin1').catch(() => '');
      if (/fuse|request_wait|folio_wait|wait_on_page/.test(stack)) return;
    }
    await sleep(20);
  }
}
