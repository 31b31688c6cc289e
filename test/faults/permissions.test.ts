/**
 * The server decides who may do what, caller by caller, and no cache is a way round it. Files are
 * first used by who may, so that names, attributes and pages are in every cache.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Mount, withMount } from '../mount/mount-fixture.ts';
import { POSIX_ENVIRONMENT } from '../mount/posix-suite.ts';

/** On the server: what user 1000 owns, what a group may read, and what anyone may. */
const PREPARE = `
cd "$1"
chmod 777 .
mkdir private open sticky
echo secret >private/file; echo secret >mine; echo grouped >grouped; echo public >public
ln -s file private/link
chown -R 1000:1000 private mine open sticky; chown 1000:2000 grouped; chown 1000:1000 public
chmod 700 private; chmod 600 mine private/file; chmod 640 grouped; chmod 644 public
chmod 755 open; echo o >open/file; chown 1000:1000 open/file; chmod 644 open/file
chmod 1777 sticky; echo s >sticky/file; chown 1000:1000 sticky/file; chmod 666 sticky/file
`;

/** Everything is in the caches by its owner's use; then others try. */
const COMMON = `
import errno, os, stat, sys
from errno import EACCES, ENOENT, EPERM, EROFS
from suite import as_user, equal, fails
mount, server = sys.argv[1:]
os.chdir(mount)
OWNER, OTHER, GROUP = 1000, 1001, 2000
DENIED = (EACCES, EPERM)

def content(path):
    with open(path, 'rb') as file: return file.read()

def use():
    for path in ('mine', 'private/file', 'private/link', 'grouped', 'public', 'open/file'):
        content(path); os.stat(path); os.access(path, os.R_OK)
    for path in ('.', 'private', 'open', 'sticky'): os.listdir(path)

def denied(function, *arguments): fails(DENIED, function, *arguments)

def state():
    """All of the export, as the server has it."""
    return sorted((path, names, [(os.lstat(os.path.join(path, name)).st_mode,
                                  os.lstat(os.path.join(path, name)).st_uid,
                                  os.lstat(os.path.join(path, name)).st_size) for name in names])
                  for path, _, names in os.walk(server))
as_user(OWNER, use)
before = state()
`;

const STRANGER = `
def stranger():
    denied(content, 'mine')
    denied(content, 'private/file')
    denied(content, 'private/link')
    denied(os.stat, 'private/file')
    denied(os.readlink, 'private/link')
    denied(os.listdir, 'private')
    denied(os.open, 'mine', os.O_WRONLY)
    denied(os.open, 'public', os.O_WRONLY)
    denied(os.open, 'public', os.O_RDONLY | os.O_TRUNC)
    denied(os.truncate, 'public', 0)
    denied(os.chmod, 'public', 0o777)
    denied(os.chown, 'public', os.getuid(), -1)
    denied(os.utime, 'public')
    denied(os.utime, 'public', (1, 1))
    denied(os.unlink, 'open/file')
    denied(os.rename, 'open/file', 'open/other')
    denied(os.rename, 'open/file', 'taken')
    denied(os.rename, 'public', 'open/public')
    denied(os.link, 'public', 'open/linked')
    denied(os.symlink, 'x', 'open/symlink')
    denied(os.mkdir, 'open/directory')
    denied(os.mkfifo, 'open/fifo')
    denied(os.open, 'open/new', os.O_CREAT | os.O_WRONLY)
    denied(os.unlink, 'sticky/file')
    denied(os.rename, 'sticky/file', 'sticky/other')
    equal(os.access('mine', os.R_OK), False, 'access')
    equal(os.access('public', os.R_OK), True, 'access')
    equal(os.access('public', os.W_OK), False, 'access')
    equal(content('public'), b'public\\n', 'public')
    equal(content('open/file'), b'o\\n', 'open')
    equal(os.stat('mine').st_size, 7, 'attributes of what is seen')
`;

describe('with Root_Squash', () => {
  it('root reads and changes nothing that the server denies to nobody', async () => {
    await prepared(
      'Root_Squash',
      `${STRANGER}
stranger()
denied(content, 'grouped')
denied(os.chown, 'public', 0, 0)
equal(state(), before, 'what root has changed')
# What root makes is nobody's, and nobody may do with it what an owner may.
os.mkdir('made')
with open('made/file', 'wb') as file: file.write(b'by root')
equal((os.stat('made/file').st_uid, os.stat('made').st_uid), (65534, 65534), 'owner')
equal(content('made/file'), b'by root', 'content')
os.rename('made/file', 'made/renamed'); os.unlink('made/renamed'); os.rmdir('made')
as_user(OWNER, use)`,
    );
  });

  it('what the owner has cached is no way round for root', async () => {
    await prepared(
      'Root_Squash',
      `
for _ in range(5):
    as_user(OWNER, content, 'mine')
    denied(content, 'mine')
    denied(content, 'private/file')
# A descriptor that the owner opened is the owner's wherever it goes.
reading, sent = os.pipe()
import socket
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    os.setgroups([]); os.setgid(OWNER); os.setuid(OWNER)
    socket.send_fds(theirs, [b'x'], [os.open('mine', os.O_RDWR)])
    os._exit(0)
_, [fd], _, _ = socket.recv_fds(ours, 1, 1)
os.waitpid(pid, 0)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
equal(os.pread(fd, 100, 0), b'secret\\n', 'through the descriptor')
os.pwrite(fd, b'SECRET', 0)
os.fsync(fd)
os.ftruncate(fd, 6)
equal(os.pread(fd, 100, 0), b'SECRET', 'after writing')
os.close(fd)`,
    );
  });
});

describe('with No_Root_Squash', () => {
  it('another user is denied what the server denies, whoever has it cached', async () => {
    await prepared(
      'No_Root_Squash',
      `${STRANGER}
use()  # root may
as_user(OTHER, stranger)
equal(state(), before, 'what the stranger has changed')`,
    );
  });

  it('groups count, also supplementary ones, and no longer when dropped', async () => {
    await prepared(
      'No_Root_Squash',
      `
equal(as_user(OTHER, content, 'grouped', groups=[GROUP]), b'grouped\\n', 'supplementary')
equal(as_user(OTHER, content, 'grouped', gid=GROUP), b'grouped\\n', 'first')
fails(EACCES, as_user, OTHER, content, 'grouped')
fails(EACCES, as_user, OTHER, lambda: os.open('grouped', os.O_WRONLY), groups=[GROUP])
for _ in range(3):
    equal(as_user(OTHER, content, 'grouped', groups=[7, GROUP]), b'grouped\\n', 'again')
    fails(EACCES, as_user, OTHER, content, 'grouped', groups=[7, 8])`,
    );
  });

  it('a mode that is taken away counts at the next open', async () => {
    await prepared(
      'No_Root_Squash',
      `
equal(as_user(OTHER, content, 'public'), b'public\\n', 'public')
os.chmod('public', 0o600)
fails(EACCES, as_user, OTHER, content, 'public')
os.chmod('public', 0o644)
equal(as_user(OTHER, content, 'public'), b'public\\n', 'public again')
# By another client, without our knowing.
os.chmod(server + '/public', 0o600)
fails(EACCES, as_user, OTHER, content, 'public')
os.chmod(server + '/open', 0o700)
import time
for _ in range(200):
    try: as_user(OTHER, os.stat, 'open/file')
    except PermissionError: break
    time.sleep(0.1)
else: raise AssertionError('still let in')`,
      ['actimeo=1'],
    );
  });
});

describe('with All_Squash', () => {
  it('everyone is nobody', async () => {
    await prepared(
      'All_Squash',
      `
for user in (0, OWNER, OTHER):
    fails(EACCES, as_user, user, content, 'mine')
    fails(DENIED, as_user, user, os.chmod, 'public', 0o600)
    equal(as_user(user, content, 'public'), b'public\\n', 'public')
    as_user(user, lambda: os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o644)))
    equal(os.stat('made').st_uid, 65534, 'owner')
    as_user(user, os.unlink, 'made')`,
      [],
      '# nobody may use it\n',
    );
  });
});

/** Every change fails with one of these errors. */
const refused = (errors: string) => `
REFUSED = ${errors}
calls = [
    (os.open, 'public', os.O_WRONLY), (os.open, 'public', os.O_RDWR),
    (os.open, 'new', os.O_CREAT | os.O_WRONLY), (os.truncate, 'public', 0),
    (os.unlink, 'public'), (os.mkdir, 'made'), (os.rmdir, 'open'),
    (os.rename, 'public', 'renamed'), (os.link, 'public', 'linked'), (os.symlink, 'x', 'link'),
    (os.chmod, 'public', 0o600), (os.chown, 'public', 1, 1), (os.utime, 'public', (1, 1)),
    (os.mkfifo, 'fifo'), (os.open, 'public', os.O_RDONLY | os.O_TRUNC),
]
for function, *arguments in calls: fails(REFUSED, function, *arguments)
fails(REFUSED, as_user, OWNER, os.open, 'mine', os.O_WRONLY)
equal(os.access('public', os.W_OK), False, 'access')
equal(as_user(OTHER, content, 'public'), b'public\\n', 'content')
equal(state(), before, 'what has changed')
`;

describe('read-only', () => {
  it('an export that is read-only on the server gives EROFS', async () => {
    await withMount({ server: { squash: 'No_Root_Squash', access: 'RO' } }, async (mount) => {
      // Such a server grants no write at open: that reads as EACCES.
      await run(mount, refused('(EROFS, EACCES)'));
    });
  });

  it('a mount with ro gives EROFS', async () => {
    await withMount({ options: ['ro'] }, async (mount) => {
      await run(mount, refused('EROFS'));
    });
  });
});

/** Runs Python against an export that has the files, as root, after their owner has used them. */
async function prepared(
  squash: 'Root_Squash' | 'No_Root_Squash' | 'All_Squash',
  program: string,
  options: string[] = [],
  ownersUse?: string,
): Promise<void> {
  const server = { squash, watchful: true };
  await withMount({ server, options }, (mount) => run(mount, program, ownersUse));
}

async function run(mount: Mount, program: string, ownersUse?: string): Promise<void> {
  await mount.children.sh(PREPARE, [mount.serverDirectory]);
  const common =
    ownersUse === undefined ? COMMON : COMMON.replace('as_user(OWNER, use)\n', ownersUse);
  const printed = await mount.children.python(
    `${common}${program}\nos.chdir('/')\nprint('as expected')`,
    [mount.mountpoint, join(mount.serverDirectory)],
    { env: POSIX_ENVIRONMENT },
  );
  assert.equal(printed.trim(), 'as expected');
}
