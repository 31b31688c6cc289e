"""rename in all its cases."""

import os

from suite import LIBC, called, case, equal, fails
from errno import EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY

AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def rename2(source, target, flags):
    return called(LIBC.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))


@case
def files(world):
    """A file is renamed, over another, over itself, and into other directories."""
    world.make('a', b'a')
    world.make('b', b'b')
    ino = os.stat(world.path('a')).st_ino
    os.rename(world.path('a'), world.path('c'))
    fails(ENOENT, os.stat, world.path('a'))
    equal((world.content('c'), os.stat(world.path('c')).st_ino), (b'a', ino), 'renamed')
    os.rename(world.path('c'), world.path('b'))
    equal((world.content('b'), os.listdir(world.directory)), (b'a', [b'b']), 'over another')
    os.rename(world.path('b'), world.path('b'))
    equal(world.content('b'), b'a', 'over itself')
    os.link(world.path('b'), world.path('twin'))
    os.rename(world.path('b'), world.path('twin'))
    equal(sorted(os.listdir(world.directory)), [b'b', b'twin'], 'over its own twin: both stay')
    os.mkdir(world.path('d'))
    os.rename(world.path('b'), world.path('d/b'))
    equal(world.content('d/b'), b'a', 'into a directory')
    world.make('x', b'x')
    os.rename(world.path('x'), world.path('d/b'))
    equal((world.content('d/b'), os.listdir(world.path('d'))), (b'x', [b'b']), 'over one there')
    equal(world.content('twin'), b'a', 'its twin')
    equal(os.stat(world.path('twin')).st_nlink, 1, 'links of its twin')


@case
def directories(world):
    """A directory is renamed with all below it, and over an empty one."""
    os.makedirs(world.path('a/below'))
    world.make('a/below/file', b'deep')
    os.mkdir(world.path('empty'))
    os.rename(world.path('a'), world.path('b'))
    equal(world.content('b/below/file'), b'deep', 'renamed')
    os.rename(world.path('b'), world.path('empty'))
    equal(world.content('empty/below/file'), b'deep', 'over an empty one')
    equal(os.listdir(world.directory), [b'empty'], 'left')
    os.mkdir(world.path('other'))
    os.rename(world.path('empty/below'), world.path('other/below'))
    equal(world.content('other/below/file'), b'deep', 'into another')
    equal(os.stat(world.path('other/below/..')).st_ino, os.stat(world.path('other')).st_ino, '..')
    equal(os.stat(world.path('empty')).st_nlink, 2, 'links of the old parent')
    equal(os.stat(world.path('other')).st_nlink, 3, 'links of the new parent')


@case
def refused(world):
    """Renames that must be refused say why and change nothing."""
    os.makedirs(world.path('d/below'))
    os.mkdir(world.path('full'))
    world.make('full/file')
    world.make('file', b'content')
    fails(ENOTEMPTY, os.rename, world.path('d'), world.path('full'))
    fails(EINVAL, os.rename, world.path('d'), world.path('d/below/d'))
    fails((ENOTEMPTY, EEXIST), os.rename, world.path('d/below'), world.path('d'))
    fails(EISDIR, os.rename, world.path('file'), world.path('d'))
    fails(ENOTDIR, os.rename, world.path('d'), world.path('file'))
    fails(ENOENT, os.rename, world.path('absent'), world.path('x'))
    fails(ENOENT, os.rename, world.path('file'), world.path('absent/x'))
    fails(ENOTDIR, os.rename, world.path('file'), world.path('file/x'))
    equal(sorted(os.listdir(world.directory)), [b'd', b'file', b'full'], 'nothing changed')
    equal(world.content('file'), b'content', 'nothing changed')


@case
def without_replacing(world):
    """RENAME_NOREPLACE takes a free name and refuses one in use."""
    world.make('a', b'a')
    world.make('b', b'b')
    fails(EEXIST, rename2, world.path('a'), world.path('b'), NOREPLACE)
    equal((world.content('a'), world.content('b')), (b'a', b'b'), 'nothing changed')
    fails(ENOENT, os.stat, world.path('c'))
    rename2(world.path('a'), world.path('c'), NOREPLACE)
    equal(world.content('c'), b'a', 'renamed')
    equal(sorted(os.listdir(world.directory)), [b'b', b'c'], 'renamed')
    fails(EINVAL, rename2, world.path('b'), world.path('c'), NOREPLACE | EXCHANGE)


@case
def exchanging(world):
    """RENAME_EXCHANGE: NFS version 3 cannot, and the mount refuses it unchanged."""
    world.make('a', b'a')
    world.make('b', b'b')
    if world.mount:
        fails(EINVAL, rename2, world.path('a'), world.path('b'), EXCHANGE)
        fails(EINVAL, rename2, world.path('a'), world.path('c'), WHITEOUT)
        equal((world.content('a'), world.content('b')), (b'a', b'b'), 'nothing changed')
    else:
        rename2(world.path('a'), world.path('b'), EXCHANGE)
        equal((world.content('a'), world.content('b')), (b'b', b'a'), 'exchanged')


@case
def replaced_while_watched(world):
    """Of a file that is replaced by renames, a reader sees always a whole version."""
    world.make('file', b'0' * 5000)
    stop, writer = world.path('stop'), os.fork()
    if writer == 0:
        version = 0
        while not os.path.exists(stop):
            version = (version + 1) % 10
            with open(world.path('next'), 'wb') as file:
                file.write(b'%d' % version * 5000)
            os.rename(world.path('next'), world.path('file'))
        os._exit(0)
    try:
        for _ in range(200):
            content = world.content('file')
            equal((len(content), len(set(content))), (5000, 1), 'a whole version')
    finally:
        world.make('stop')
        equal(os.waitpid(writer, 0)[1], 0, 'how the writer ended')
