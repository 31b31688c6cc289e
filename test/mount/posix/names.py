"""Names are bytes: anything but a slash and a zero, up to 255 of them."""

import os

from suite import case, equal, fails
from errno import ENAMETOOLONG, ENOENT, ENOTDIR

ODD = [
    b'\xff\xfe\x80',  # not UTF-8
    'ü'.encode(),
    'u\u0308'.encode(),  # the same letter in two code points: another name
    b'new\nline',
    b'-rf',
    b' ',
    b' leading and trailing ',
    b'...',
    b'..hidden',
    b'*?[x]',
    b'back\\slash',
    b'tab\t"quote"\'s',
    b'\x01\x7f',
    b'percent%20',
    b'Case',
    b'case',
]


@case
def odd_names(world):
    """Odd names of files, directories and links are kept to the byte."""
    for name in ODD:
        world.make(name, name)
    equal(sorted(os.listdir(world.directory)), sorted(ODD), 'listed')
    for name in ODD:
        equal(world.content(name), name, 'content')
        os.unlink(world.path(name))
    for name in ODD:
        os.mkdir(world.path(name))
        os.symlink(name, os.path.join(world.path(name), name))
    equal(sorted(os.listdir(world.directory)), sorted(ODD), 'directories')
    for name in ODD:
        equal(os.readlink(os.path.join(world.path(name), name)), name, 'link')
        os.rename(os.path.join(world.path(name), name), os.path.join(world.path(name), b'r' + name))
        equal(os.listdir(world.path(name)), [b'r' + name], 'renamed')


@case
def long_names(world):
    """255 bytes are a name, 256 are too long for every call."""
    longest, longer = b'n' * 255, b'n' * 256
    world.make(longest, b'content')
    equal(world.content(longest), b'content', 'content')
    equal(os.listdir(world.directory), [longest], 'listed')
    many = 'ß'.encode() * 127 + b'x'
    os.rename(world.path(longest), world.path(many))
    os.mkdir(world.path(longest))
    equal(sorted(os.listdir(world.directory)), sorted([longest, many]), 'listed')
    path = world.path(longer)
    fails(ENAMETOOLONG, os.open, path, os.O_CREAT | os.O_WRONLY)
    fails(ENAMETOOLONG, os.open, path, os.O_RDONLY)
    fails(ENAMETOOLONG, os.stat, path)
    fails(ENAMETOOLONG, os.mkdir, path)
    fails(ENAMETOOLONG, os.rmdir, path)
    fails(ENAMETOOLONG, os.unlink, path)
    fails(ENAMETOOLONG, os.mkfifo, path)
    fails(ENAMETOOLONG, os.symlink, 'target', path)
    fails(ENAMETOOLONG, os.link, world.path(many), path)
    fails(ENAMETOOLONG, os.rename, world.path(many), path)
    equal(sorted(os.listdir(world.directory)), sorted([longest, many]), 'nothing changed')


@case
def dots(world):
    """Dot and dot-dot lead where they should."""
    os.mkdir(world.path('a'))
    os.mkdir(world.path('a/b'))
    here = os.stat(world.path('a')).st_ino
    equal(os.stat(world.path('a/.')).st_ino, here, 'dot')
    equal(os.stat(world.path('a/b/..')).st_ino, here, 'dot-dot')
    equal(os.stat(world.path('a/b/../b/./../../a')).st_ino, here, 'mixed')
    world.make('file')
    fails(ENOTDIR, os.stat, world.path('file/'))
    fails(ENOTDIR, os.stat, world.path('file/.'))


@case
def absent_names(world):
    """A name that was looked for in vain is found as soon as it is made, in whatever way."""
    world.make('source', b'x')
    makers = {
        'created': lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
        'directory': os.mkdir,
        'linked': lambda path: os.link(world.path('source'), path),
        'symlinked': lambda path: os.symlink('source', path),
        'fifo': os.mkfifo,
        'renamed': lambda path: os.rename(world.path('source'), path),
    }
    for name, make in makers.items():
        for _ in range(2):
            fails(ENOENT, os.lstat, world.path(name))
        make(world.path(name))
        os.lstat(world.path(name))
        assert name.encode() in os.listdir(world.directory), name
    for name, make in makers.items():
        path = world.path(name)
        os.rmdir(path) if name == 'directory' else os.unlink(path)
        fails(ENOENT, os.lstat, path)
    fails(ENOENT, os.stat, world.path('source'))
    equal(os.listdir(world.directory), [], 'left')
