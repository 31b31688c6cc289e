"""What stat tells and what changes it."""

import ctypes
import os
import stat
import time

from suite import LIBC, as_user, called, case, equal, fails, forked, write_all
from errno import EACCES, EEXIST, ENOENT, ENOTSUP, EPERM

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD = -100
USER, OTHER, GROUP = 1000, 1001, 2000


class Timespec(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]


def utimens(path, atime, mtime):
    """utimensat(2); a time is (seconds, nanoseconds)."""
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    return called(LIBC.utimensat(AT_FDCWD, path, times, 0))


@case
def fresh(world):
    """A new file is empty, its creator's, with the mode that the umask leaves."""
    fd = os.open(world.path('new'), os.O_CREAT | os.O_RDWR, 0o666)
    for found in (os.fstat(fd), os.stat(world.path('new'))):
        equal(stat.S_IFMT(found.st_mode), stat.S_IFREG, 'type')
        equal(stat.S_IMODE(found.st_mode), 0o644, 'mode')
        equal((found.st_size, found.st_nlink), (0, 1), 'size and links')
        equal((found.st_uid, found.st_gid), (os.geteuid(), os.getegid()), 'owner')
    os.close(fd)


@case
def fresh_of_user(world):
    """What a user makes is the user's, with the user's group."""
    os.chmod(world.directory, 0o777)

    def make():
        os.close(os.open(world.path('file'), os.O_CREAT | os.O_WRONLY, 0o600))
        os.mkdir(world.path('directory'), 0o700)
        os.symlink('file', world.path('link'))
        os.mkfifo(world.path('fifo'), 0o600)

    as_user(USER, make, gid=GROUP)
    for name in ('file', 'directory', 'link', 'fifo'):
        found = os.lstat(world.path(name))
        equal((found.st_uid, found.st_gid), (USER, GROUP), name)


@case
def set_gid_directory(world):
    """In a set-group-id directory new files take the directory's group."""
    os.mkdir(world.path('shared'))
    os.chown(world.path('shared'), 0, GROUP)
    os.chmod(world.path('shared'), 0o2777)
    world.make('shared/file')
    equal(os.stat(world.path('shared/file')).st_gid, GROUP, 'group')


@case
def modes(world):
    """chmod sets any mode, of files and of directories."""
    world.make('file')
    os.mkdir(world.path('directory'))
    for name in ('file', 'directory'):
        for mode in (0o000, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6755, 0o600):
            os.chmod(world.path(name), mode)
            equal(stat.S_IMODE(os.stat(world.path(name)).st_mode), mode, name)


@case
def mode_through_descriptor(world):
    """fchmod and fchown work on an open file, and on one that has no name any more."""
    fd = os.open(world.make('file'), os.O_RDWR)
    os.fchmod(fd, 0o640)
    os.unlink(world.path('file'))
    os.fchmod(fd, 0o604)
    os.fchown(fd, USER, GROUP)
    found = os.fstat(fd)
    equal(stat.S_IMODE(found.st_mode), 0o604, 'mode')
    equal((found.st_uid, found.st_gid), (USER, GROUP), 'owner')
    os.close(fd)


@case
def owners(world):
    """Root gives a file away; -1 leaves a part as it is; a link itself can be given away."""
    path = world.make('file')
    os.chown(path, USER, GROUP)
    os.chown(path, -1, OTHER)
    equal((os.stat(path).st_uid, os.stat(path).st_gid), (USER, OTHER), 'owner')
    os.chown(path, OTHER, -1)
    equal((os.stat(path).st_uid, os.stat(path).st_gid), (OTHER, OTHER), 'owner')
    os.symlink('file', world.path('link'))
    os.lchown(world.path('link'), USER, GROUP)
    equal(os.lstat(world.path('link')).st_uid, USER, 'owner of the link')
    equal(os.stat(path).st_uid, OTHER, 'owner of its target')


@case
def owners_of_user(world):
    """A user cannot give a file away, but may set its group to one of the user's own."""
    path = world.make('file')
    os.chown(path, USER, USER)
    fails(EPERM, as_user, USER, os.chown, path, OTHER, -1)
    fails(EPERM, as_user, USER, os.chown, path, -1, GROUP)
    as_user(USER, os.chown, path, -1, GROUP, groups=[GROUP])
    equal(os.stat(path).st_gid, GROUP, 'group')
    fails(EPERM, as_user, OTHER, os.chmod, path, 0o777)
    fails(EPERM, as_user, OTHER, utimens, path, (1, 0), (1, 0))
    fails(EACCES, as_user, OTHER, utimens, path, (0, UTIME_NOW), (0, UTIME_NOW))


@case
def set_user_id_is_dropped(world):
    """A write by another user takes the set-user-id bit away."""
    path = world.make('tool', b'old')
    os.chmod(path, 0o4777)

    def write():
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b'new')
        os.close(fd)

    as_user(USER, write)
    equal(oct(stat.S_IMODE(os.stat(path).st_mode)), oct(0o777), 'mode')
    equal(world.content('tool'), b'new', 'content')


@case
def exact_times(world):
    """utimensat keeps nanoseconds, of files, directories and links, also before 2001."""
    world.make('file')
    os.mkdir(world.path('directory'))
    os.symlink('file', world.path('link'))
    for atime, mtime in ((1234567890_123456789, 987654321_000000001), (1, 2), (1 << 62, 5)):
        if atime == 1 << 62:
            atime = 2_000_000_000_999999999
        # nfs-ganesha takes the times of a link, says yes and leaves them as they are.
        for name in ('file', 'directory') if world.mount else ('file', 'directory', 'link'):
            os.utime(world.path(name), ns=(atime, mtime), follow_symlinks=False)
            found = os.lstat(world.path(name))
            equal((found.st_atime_ns, found.st_mtime_ns), (atime, mtime), name)


@case
def times_now_and_omitted(world):
    """UTIME_NOW takes this moment, UTIME_OMIT leaves a time alone."""
    path = world.make('file')
    utimens(path, (1000, 5), (2000, 7))
    utimens(path, (0, UTIME_OMIT), (3000, 9))
    found = os.stat(path)
    equal((found.st_atime_ns, found.st_mtime_ns), (1000_000000005, 3000_000000009), 'omitted')
    utimens(path, (4000, 1), (0, UTIME_OMIT))
    found = os.stat(path)
    equal((found.st_atime_ns, found.st_mtime_ns), (4000_000000001, 3000_000000009), 'omitted')
    utimens(path, (0, UTIME_OMIT), (0, UTIME_NOW))
    found = os.stat(path)
    equal(found.st_atime_ns, 4000_000000001, 'omitted')
    assert found.st_mtime > 1_500_000_000, found


@case
def times_survive_close(world):
    """Times that were set after writing are still there after close, as rsync and tar need it."""
    fd = os.open(world.path('copy'), os.O_CREAT | os.O_RDWR, 0o644)
    for _ in range(64):
        write_all(fd, b'x' * 65536)
    os.utime(fd, ns=(111_000000222, 333_000000444))
    os.close(fd)
    equal(os.stat(world.path('copy')).st_mtime_ns, 333_000000444, 'after close')
    fd = os.open(world.path('copy'), os.O_RDONLY)
    os.fsync(fd)
    equal(os.fstat(fd).st_mtime_ns, 333_000000444, 'after fsync')
    os.close(fd)


@case
def times_move(world):
    """A write moves mtime and ctime, chmod only ctime, a new name the directory's mtime."""
    path = world.make('file', b'one')
    os.utime(path, ns=(5_000000000, 6_000000000))
    os.utime(world.directory, ns=(5_000000000, 6_000000000))
    os.chmod(path, 0o600)
    equal(os.stat(path).st_mtime_ns, 6_000000000, 'mtime after chmod')
    fd = os.open(path, os.O_WRONLY)
    before = os.fstat(fd).st_ctime_ns
    os.write(fd, b'two')
    after = os.fstat(fd)
    assert after.st_mtime_ns > 6_000000000, after
    assert after.st_ctime_ns >= before, (before, after)
    os.close(fd)
    assert os.stat(path).st_mtime_ns > 6_000000000
    equal(os.stat(world.directory).st_mtime_ns, 6_000000000, 'directory before')
    world.make('another')
    assert os.stat(world.directory).st_mtime_ns > 6_000000000


@case
def blocks(world):
    """A file with bytes has blocks, a sparse one fewer than its size: tar -S and cp believe it."""
    fd = os.open(world.path('full'), os.O_CREAT | os.O_RDWR)
    write_all(fd, b'x' * 300_000)
    assert os.fstat(fd).st_blocks > 0, 'before fsync'
    os.fsync(fd)
    assert os.fstat(fd).st_blocks * 512 >= 300_000, os.fstat(fd)
    os.close(fd)
    assert os.stat(world.path('full')).st_blocks * 512 >= 300_000
    fd = os.open(world.path('sparse'), os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b'end', 1 << 30)
    os.fsync(fd)
    found = os.fstat(fd)
    assert 0 < found.st_blocks * 512 < found.st_size // 2, found
    os.close(fd)


@case
def truncate(world):
    """truncate and ftruncate shrink and grow; what grows back is zeros."""
    path = world.make('file', b'x' * 10_000)
    os.truncate(path, 5_000)
    equal(os.stat(path).st_size, 5_000, 'size')
    os.truncate(path, 20_000)
    equal(world.content('file'), b'x' * 5_000 + bytes(15_000), 'content')
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 3)
    equal(os.pread(fd, 100, 0), b'xxx', 'through the descriptor')
    os.ftruncate(fd, 5)
    equal(os.pread(fd, 100, 0), b'xxx\0\0', 'grown')
    equal(forked(os.stat, path).st_size, 5, 'size for another process')
    os.close(fd)
    os.truncate(path, 0)
    equal(world.content('file'), b'', 'emptied')


@case
def truncate_through_descriptor_after_chmod(world):
    """What the descriptor may is settled at open: a mode that changes later takes nothing away."""
    path = world.make('file', b'0123456789')
    os.chmod(world.directory, 0o777)
    os.chown(path, USER, USER)

    def user():
        fd = os.open(path, os.O_RDWR)
        os.chmod(path, 0o400)
        os.ftruncate(fd, 4)
        os.pwrite(fd, b'AB', 4)
        content = os.pread(fd, 100, 0)
        fails(EACCES, os.open, path, os.O_WRONLY)
        fails(EACCES, os.truncate, path, 1)
        os.close(fd)
        return content

    equal(as_user(USER, user), b'0123AB', 'content')


@case
def read_only_at_birth(world):
    """A file created with mode 0400 can be written through the descriptor that created it."""
    os.chmod(world.directory, 0o777)

    def user():
        fd = os.open(world.path('file'), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o400)
        write_all(fd, b'written')
        os.ftruncate(fd, 5)
        os.fsync(fd)
        os.close(fd)
        fails(EACCES, os.open, world.path('file'), os.O_WRONLY)

    as_user(USER, user)
    equal(world.content('file'), b'writt', 'content')
    equal(stat.S_IMODE(os.stat(world.path('file')).st_mode), 0o400, 'mode')


@case
def links_are_counted(world):
    """Hard links share one inode and are counted."""
    path = world.make('one', b'shared')
    os.link(path, world.path('two'))
    os.link(world.path('two'), world.path('three'))
    found = [os.stat(world.path(name)) for name in ('one', 'two', 'three')]
    equal(len({each.st_ino for each in found}), 1, 'inodes')
    equal([each.st_nlink for each in found], [3, 3, 3], 'links')
    fd = os.open(world.path('three'), os.O_WRONLY)
    os.write(fd, b'SHARED')
    os.close(fd)
    equal(world.content('one'), b'SHARED', 'content')
    os.unlink(path)
    equal(os.stat(world.path('two')).st_nlink, 2, 'links')
    fails(ENOENT, os.stat, path)
    fails(EEXIST, os.link, world.path('two'), world.path('three'))
    fails(ENOENT, os.link, world.path('one'), world.path('four'))
    fails(EPERM, os.link, world.directory, world.path('directory'))


@case
def directories_are_counted(world):
    """A directory's link count follows its subdirectories."""
    equal(os.stat(world.directory).st_nlink, 2, 'empty')
    os.mkdir(world.path('a'))
    os.mkdir(world.path('b'))
    equal(os.stat(world.directory).st_nlink, 4, 'with two')
    os.rmdir(world.path('a'))
    equal(os.stat(world.directory).st_nlink, 3, 'with one')


@case
def access(world):
    """access(2) judges the real user, the groups and the mode."""
    table = {0o600: 'rw-', 0o640: 'rw-', 0o604: 'rw-', 0o400: 'r--', 0o755: 'rwx', 0o011: '---'}
    bits = {'r': os.R_OK, 'w': os.W_OK, 'x': os.X_OK}

    def may(path):
        return ''.join(flag if os.access(path, bit) else '-' for flag, bit in bits.items())

    for mode, owner in table.items():
        path = world.make(f'{mode:o}', mode=mode)
        os.chown(path, USER, GROUP)
        shown = lambda shift: ''.join(
            flag if mode >> shift & value else '-'
            for flag, value in (('r', 4), ('w', 2), ('x', 1)))
        equal(as_user(USER, may, path), owner, f'{mode:o} for its owner')
        equal(as_user(OTHER, may, path, groups=[GROUP]), shown(3), f'{mode:o} for its group')
        equal(as_user(OTHER, may, path), shown(0), f'{mode:o} for others')
    equal(may(world.path('600')), 'rw-', 'for root')
    fails(ENOENT, os.stat, world.path('absent'))
    assert not os.access(world.path('absent'), os.F_OK)


@case
def groups_of_the_caller(world):
    """A supplementary group opens a file, and no longer when it has been dropped."""
    path = world.make('file', b'secret', mode=0o640)
    os.chown(path, 0, GROUP)

    def read():
        with open(path, 'rb') as file:
            return file.read()

    def read_and_drop():
        content = read()
        os.setgroups([])
        return content

    equal(as_user(USER, read, groups=[GROUP]), b'secret', 'with the group')
    fails(EACCES, as_user, USER, read)
    equal(as_user(USER, read, gid=GROUP), b'secret', 'as first group')
    many = [5000 + index for index in range(14)]
    equal(as_user(USER, read, groups=[*many, GROUP]), b'secret', 'the last of fifteen')

    def drop():
        os.setgroups([GROUP])
        os.setgid(USER)
        os.setresuid(USER, USER, 0)
        first = read()
        os.seteuid(0)
        os.setgroups([])
        os.setresuid(USER, USER, 0)
        for _ in range(100):  # the mount may believe for a second what it read from /proc
            try:
                read()
            except PermissionError:
                return first
            time.sleep(0.1)
        raise AssertionError('still let in')

    equal(forked(drop), b'secret', 'before it was dropped')


@case
def statfs(world):
    """statvfs tells sizes that fit together, and names of 255 bytes."""
    found = os.statvfs(world.directory)
    assert found.f_bsize > 0 and found.f_frsize > 0, found
    assert found.f_blocks >= found.f_bfree >= found.f_bavail > 0, found
    assert found.f_files >= found.f_ffree > 0, found
    equal(found.f_namemax, 255, 'namemax')


@case
def extended_attributes(world):
    """Extended attributes: not supported on the mount, and said so."""
    path = world.make('file')
    calls = [
        (os.setxattr, path, 'user.gvfs', b'1'),
        (os.getxattr, path, 'user.gvfs'),
        (os.removexattr, path, 'user.gvfs'),
    ]
    for function, *arguments in calls:
        if world.mount:
            fails(ENOTSUP, function, *arguments)
        else:
            function(*arguments)
    if world.mount:
        try:
            equal(os.listxattr(path), [], 'listed')
        except OSError as error:
            equal(error.errno, ENOTSUP, 'listxattr')
