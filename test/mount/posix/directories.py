"""Directories, special files and symbolic links."""

import ctypes
import os
import socket
import stat
import time

from suite import LIBC, as_user, called, case, equal, fails
from errno import EACCES, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ESTALE

USER, OTHER = 1000, 1001


class Dirent(ctypes.Structure):
    _fields_ = [
        ('ino', ctypes.c_uint64),
        ('off', ctypes.c_int64),
        ('reclen', ctypes.c_uint16),
        ('type', ctypes.c_uint8),
        ('name', ctypes.c_char * 256),
    ]


LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir64.restype = ctypes.POINTER(Dirent)
LIBC.readdir64.argtypes = [ctypes.c_void_p]
LIBC.telldir.restype = ctypes.c_long
LIBC.telldir.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
LIBC.rewinddir.argtypes = [ctypes.c_void_p]
LIBC.closedir.argtypes = [ctypes.c_void_p]


class Listing:
    """opendir(3) and its relatives, which Python hides."""

    def __init__(self, path):
        self.stream = LIBC.opendir(path)
        assert self.stream, 'opendir'

    def next(self):
        """A name, or None at the end."""
        entry = LIBC.readdir64(self.stream)
        return entry.contents.name if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return LIBC.telldir(self.stream)

    def seek(self, position):
        LIBC.seekdir(self.stream, position)

    def rewind(self):
        LIBC.rewinddir(self.stream)

    def close(self):
        LIBC.closedir(self.stream)


@case
def make_and_remove(world):
    """mkdir and rmdir, and why they refuse."""
    path = world.path('directory')
    os.mkdir(path, 0o750)
    equal(stat.S_IMODE(os.stat(path).st_mode), 0o750, 'mode')
    equal(sorted(Listing(path).rest()), [b'.', b'..'], 'entries')
    fails(EEXIST, os.mkdir, path)
    world.make('directory/file')
    fails(ENOTEMPTY, os.rmdir, path)
    fails(EISDIR, os.unlink, path)
    fails(ENOTDIR, os.rmdir, world.path('directory/file'))
    fails(ENOTDIR, os.mkdir, world.path('directory/file/below'))
    fails(ENOENT, os.mkdir, world.path('absent/below'))
    fails(ENOENT, os.rmdir, world.path('absent'))
    fails(ENOENT, os.unlink, world.path('absent'))
    fails(EINVAL, os.rmdir, world.path('directory/.'))
    fails(ENOTEMPTY, os.rmdir, world.path('directory/..'))
    os.unlink(world.path('directory/file'))
    os.rmdir(path)
    fails(ENOENT, os.stat, path)
    os.mkdir(path)  # the name that is known to be absent can be made again
    equal(os.listdir(path), [], 'entries')


@case
def sticky(world):
    """In a sticky directory users remove and rename only what is theirs."""
    os.mkdir(world.path('tmp'))
    os.chmod(world.path('tmp'), 0o1777)
    path = world.path('tmp/file')
    as_user(USER, lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)))
    fails((EPERM, EACCES), as_user, OTHER, os.unlink, path)
    fails((EPERM, EACCES), as_user, OTHER, os.rename, path, world.path('tmp/mine'))
    as_user(USER, os.rename, path, world.path('tmp/renamed'))
    as_user(USER, os.unlink, world.path('tmp/renamed'))


@case
def ten_thousand(world):
    """A directory of 10,000 lists each name once, and once more through stat."""
    expected = {f'entry-{index:05}-{"x" * (index % 50)}'.encode() for index in range(10_000)}
    for name in expected:
        os.close(os.open(world.path(name), os.O_CREAT | os.O_WRONLY))
    for _ in range(2):
        listed = os.listdir(world.directory)
        equal(len(listed), 10_000, 'count')
        assert set(listed) == expected, 'names'
    with os.scandir(world.directory) as entries:
        types = {entry.name: (entry.is_file(), entry.inode()) for entry in entries}
    for name in sorted(expected)[::500]:
        equal(types[name], (True, os.stat(world.path(name)).st_ino), 'type and inode')
    for name in expected:
        os.unlink(world.path(name))
    equal(os.listdir(world.directory), [], 'emptied')


@case
def positions(world):
    """telldir and seekdir come back to where they were; rewinddir sees what is new."""
    names = [f'{index:04}'.encode() for index in range(1500)]
    for name in names:
        os.close(os.open(world.path(name), os.O_CREAT | os.O_WRONLY))
    listing = Listing(world.directory)
    order, places = [], []
    while (name := listing.next()) is not None:
        order.append(name)
        places.append(listing.tell())
    equal(sorted(order), sorted([b'.', b'..', *names]), 'names')
    equal(len(set(places)), len(places), 'distinct positions')
    for index in (1400, 3, 700, 0, 1100, 701):
        listing.seek(places[index])
        equal(listing.next(), order[index + 1], f'after position {index}')
    listing.seek(places[500])
    equal(listing.rest(), order[501:], 'the rest')
    world.make('new')
    listing.rewind()
    equal(sorted(listing.rest()), sorted([b'.', b'..', b'new', *names]), 'after rewinding')
    listing.close()


@case
def changes_while_listing(world):
    """Names that stay are listed exactly once while others come and go."""
    stay = {f'stay-{index:04}'.encode() for index in range(1200)}
    go = {f'go-{index:04}'.encode() for index in range(1200)}
    for name in stay | go:
        os.close(os.open(world.path(name), os.O_CREAT | os.O_WRONLY))
    listing = Listing(world.directory)
    seen = [listing.next() for _ in range(300)]
    for name in go:
        os.unlink(world.path(name))
    for index in range(300):
        os.close(os.open(world.path(f'new-{index}'), os.O_CREAT | os.O_WRONLY))
    seen += listing.rest()
    listing.close()
    for name in stay:
        equal(seen.count(name), 1, f'{name!r}')
    equal(len(seen), len(set(seen)), 'no name twice')
    equal({name for name in os.listdir(world.directory) if name.startswith(b'go')}, set(), 'gone')


@case
def delete_as_it_lists(world):
    """rm -r removes a large tree in one go."""
    for directory in range(5):
        os.mkdir(world.path(f'd{directory}'))
        for index in range(300):
            os.close(os.open(world.path(f'd{directory}/{index}'), os.O_CREAT | os.O_WRONLY))
    equal(os.spawnvp(os.P_WAIT, 'rm', ['rm', '-r', *[world.path(f'd{n}') for n in range(5)]]), 0)
    equal(os.listdir(world.directory), [], 'left')


@case
def removed_while_open(world):
    """A directory that was removed while open is empty and takes nothing new."""
    os.mkdir(world.path('directory'))
    fd = os.open(world.path('directory'), os.O_RDONLY)
    os.rmdir(world.path('directory'))
    try:
        equal(os.listdir(fd), [], 'entries')
    except OSError as error:  # NFS keeps no directory for those who have it open
        assert world.mount and error.errno == ESTALE, error
    gone = (ENOENT, ESTALE) if world.mount else ENOENT
    fails(gone, os.open, 'file', os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


@case
def relative_to_descriptors(world):
    """openat, mkdirat, unlinkat and fchdir go from a directory that is moved meanwhile."""
    os.mkdir(world.path('a'))
    os.mkdir(world.path('b'))
    fd = os.open(world.path('a'), os.O_PATH | os.O_DIRECTORY)
    os.rename(world.path('a'), world.path('b/moved'))
    os.close(os.open('file', os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.mkdir('below', dir_fd=fd)
    equal(sorted(os.listdir(world.path('b/moved'))), [b'below', b'file'], 'entries')
    os.chdir(world.path('b/moved/below'))
    equal(os.path.basename(os.getcwdb()), b'below', 'cwd')
    equal(os.stat('..').st_ino, os.stat(world.path('b/moved')).st_ino, 'parent')
    os.chdir('/')
    os.unlink('file', dir_fd=fd)
    os.rmdir('below', dir_fd=fd)
    os.close(fd)


@case
def deep(world):
    """A path of 100 directories is made, used and removed."""
    path = world.directory
    for index in range(100):
        path = os.path.join(path, b'level-%d' % index)
    os.makedirs(path)
    os.symlink('../up', os.path.join(path, b'link'))
    equal(os.readlink(os.path.join(path, b'link')), b'../up', 'at the bottom')
    os.unlink(os.path.join(path, b'link'))
    while path != world.directory:
        os.rmdir(path)
        path = os.path.dirname(path)


@case
def symbolic_links(world):
    """Symbolic links keep any target, up to a path's longest, and are followed."""
    targets = [b'file', b'../up/and/down', b'/absolute', b'\xff\xfe not text\n', b'x' * 4000]
    for index, target in enumerate(targets):
        os.symlink(target, world.path(f'{index}'))
        equal(os.readlink(world.path(f'{index}')), target, 'target')
        found = os.lstat(world.path(f'{index}'))
        assert stat.S_ISLNK(found.st_mode), found
        equal(found.st_size, len(target), 'size')
    fails(EEXIST, os.symlink, 'file', world.path('0'))
    fails(ENOENT, os.stat, world.path('0'))
    world.make('file', b'followed')
    equal(world.content('0'), b'followed', 'through the link')
    fails(EINVAL, os.readlink, world.path('file'))
    os.mkdir(world.path('directory'))
    os.symlink('directory', world.path('to-directory'))
    world.make('to-directory/inside')
    equal(os.listdir(world.path('directory')), [b'inside'], 'made through the link')
    os.link(world.path('0'), world.path('hard'), follow_symlinks=False)
    equal(os.readlink(world.path('hard')), b'file', 'hard link to a link')


@case
def special_files(world):
    """Fifos, sockets and device nodes are made; a fifo carries bytes, a device is its device."""
    os.mkfifo(world.path('fifo'), 0o600)
    assert stat.S_ISFIFO(os.stat(world.path('fifo')).st_mode)
    if os.fork() == 0:
        with open(world.path('fifo'), 'wb') as fifo:
            fifo.write(b'through the pipe')
        os._exit(0)
    equal(world.content('fifo'), b'through the pipe', 'fifo')
    os.wait()
    os.mknod(world.path('null'), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = os.stat(world.path('null'))
    assert stat.S_ISCHR(found.st_mode), found
    equal(found.st_rdev, os.makedev(1, 3), 'device')
    os.mknod(world.path('block'), stat.S_IFBLK | 0o600, os.makedev(259, 300_000))
    equal(os.stat(world.path('block')).st_rdev, os.makedev(259, 300_000), 'large minor number')
    os.mknod(world.path('regular'), stat.S_IFREG | 0o640)
    equal(os.stat(world.path('regular')).st_mode, stat.S_IFREG | 0o640, 'regular')
    os.chmod(world.directory, 0o777)
    device = (world.path('x'), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fails(EPERM, as_user, USER, os.mknod, *device)
    os.chdir(world.directory)  # a socket's path is short
    server = socket.socket(socket.AF_UNIX)
    server.bind('socket')
    server.listen()
    assert stat.S_ISSOCK(os.stat('socket').st_mode)
    client = socket.socket(socket.AF_UNIX)
    client.connect('socket')
    client.sendall(b'hello')
    equal(server.accept()[0].recv(9), b'hello', 'socket')
    os.chdir('/')


@case
def permissions_of_directories(world):
    """A directory's mode decides who lists, enters and changes it."""
    os.mkdir(world.path('d'))
    world.make('d/file', b'x')
    path = world.path('d/file')
    os.chmod(world.path('d'), 0o711)
    equal(as_user(USER, os.stat, path).st_size, 1, 'entered')
    fails(EACCES, as_user, USER, os.listdir, world.path('d'))
    fails(EACCES, as_user, USER, os.unlink, path)
    fails(EACCES, as_user, USER, os.mkdir, world.path('d/below'))
    fails(EACCES, as_user, USER, os.rename, path, world.path('d/other'))
    fails(EACCES, as_user, USER, os.symlink, 'x', world.path('d/link'))
    os.chmod(world.path('d'), 0o744)
    equal(as_user(USER, os.listdir, world.path('d')), [b'file'], 'listed')
    if world.mount:
        time.sleep(1.5)  # names of what was open to all are believed for up to a second
    fails(EACCES, as_user, USER, os.stat, path)
    fails(EACCES, as_user, USER, os.chdir, world.path('d'))
    os.chmod(world.path('d'), 0o700)
    equal(world.content('d/file'), b'x', 'for root, who has it cached')
    fails(EACCES, as_user, USER, os.stat, path)
    fails(EACCES, as_user, USER, os.open, path, os.O_RDONLY)
    fails(EACCES, as_user, USER, os.listdir, world.path('d'))
