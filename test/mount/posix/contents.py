"""Bytes: reading, writing, mapping, holes, and files that have lost their name."""

import ctypes
import mmap
import os
import random

from suite import LIBC, called, case, equal, fails, forked, write_all
from errno import EEXIST, EFBIG, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO, EOPNOTSUPP

SEEK_DATA, SEEK_HOLE = 3, 4


def pattern(length, seed=1):
    return random.Random(seed).randbytes(length)


def aligned(content):
    """A page-aligned buffer with this content, as O_DIRECT wants it."""
    buffer = mmap.mmap(-1, max(len(content), 1))
    buffer[:] = content
    return buffer


@case
def write_and_read(world):
    """What one descriptor wrote another reads at once, also in another process."""
    writer = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    reader = os.open(world.path('file'), os.O_RDONLY)
    expected = pattern(3_000_001)
    write_all(writer, expected)
    equal(os.fstat(reader).st_size, len(expected), 'size')
    equal(b''.join(iter(lambda: os.read(reader, 65_537), b'')), expected, 'another descriptor')
    equal(forked(world.content, 'file'), expected, 'another process')
    os.pwrite(writer, b'CHANGED', 4090)
    changed = expected[4089:4090] + b'CHANGED' + expected[4097:4098]
    equal(os.pread(reader, 9, 4089), changed, 'again')
    os.close(writer)
    os.close(reader)


@case
def small_writes(world):
    """Many small writes at odd places give the bytes of the last writer."""
    expected = bytearray(200_000)
    chance = random.Random(7)
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, len(expected))
    for turn in range(400):
        at, length = chance.randrange(len(expected) - 9000), chance.randrange(1, 9000)
        piece = bytes([turn % 256]) * length
        equal(os.pwrite(fd, piece, at), length, 'written')
        expected[at:at + length] = piece
        if turn % 50 == 0:
            equal(os.pread(fd, 20_000, max(at - 5000, 0)),
                  bytes(expected[max(at - 5000, 0):max(at - 5000, 0) + 20_000]), f'turn {turn}')
    equal(world.content('file'), bytes(expected), 'before close')
    os.close(fd)
    equal(world.content('file'), bytes(expected), 'after close')


@case
def large_file(world):
    """24 MiB, written in pieces of 1 MiB and read in pieces of 1 MiB and of 100,000 bytes."""
    expected = pattern(24 << 20, seed=3)
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    for at in range(0, len(expected), 1 << 20):
        equal(os.pwrite(fd, expected[at:at + (1 << 20)], at), 1 << 20, 'written')
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for size in (1 << 20, 100_000):
        os.lseek(fd, 0, os.SEEK_SET)
        got = b''.join(iter(lambda: os.read(fd, size), b''))
        assert got == expected, f'in pieces of {size}'
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@case
def end_of_file(world):
    """Reading across, at and behind the end gives what there is, then nothing."""
    fd = os.open(world.make('file', b'0123456789'), os.O_RDONLY)
    equal(os.pread(fd, 100, 0), b'0123456789', 'whole')
    equal(os.pread(fd, 100, 7), b'789', 'across')
    equal(os.pread(fd, 100, 10), b'', 'at')
    equal(os.pread(fd, 100, 1 << 40), b'', 'behind')
    equal(os.pread(fd, 0, 3), b'', 'nothing asked')
    os.close(fd)


@case
def holes(world):
    """A write far behind the end leaves zeros before it."""
    fd = os.open(world.make('file', b'start'), os.O_RDWR)
    os.pwrite(fd, b'far', 5_000_000)
    equal(os.fstat(fd).st_size, 5_000_003, 'size')
    equal(os.pread(fd, 10, 0), b'start' + bytes(5), 'start')
    equal(os.pread(fd, 1 << 20, 2_000_000), bytes(1 << 20), 'hole')
    equal(os.pread(fd, 10, 4_999_998), b'\0\0far', 'end')
    os.close(fd)
    equal(world.content('file'), b'start' + bytes(4_999_995) + b'far', 'whole')


@case
def enormous(world):
    """Offsets beyond 1 TiB work, and the largest that is no error is checked."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 1 << 40)
    equal(os.fstat(fd).st_size, 1 << 40, 'size')
    os.pwrite(fd, b'here', (1 << 40) + 4093)
    os.fsync(fd)
    equal(os.fstat(fd).st_size, (1 << 40) + 4097, 'size')
    equal(os.pread(fd, 100, (1 << 40) + 4091), b'\0\0here', 'end')
    equal(os.pread(fd, 4096, 1 << 39), bytes(4096), 'middle')
    os.close(fd)
    equal(os.stat(world.path('file')).st_size, (1 << 40) + 4097, 'size')
    fd = os.open(world.path('file'), os.O_RDWR)
    fails((EFBIG, EINVAL), os.pwrite, fd, b'x', (1 << 63) - 1)
    fails((EFBIG, EINVAL), os.ftruncate, fd, (1 << 63) - 1)
    os.close(fd)


@case
def seeking(world):
    """SEEK_DATA and SEEK_HOLE never call data a hole, and end with ENXIO at the end."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b'x' * 65536, 1 << 20)
    os.ftruncate(fd, 3 << 20)
    os.fsync(fd)
    data = os.lseek(fd, 0, SEEK_DATA)
    assert data <= 1 << 20, f'data starts at {data}'
    equal(os.lseek(fd, 1 << 20, SEEK_DATA), 1 << 20, 'data in data')
    hole = os.lseek(fd, 1 << 20, SEEK_HOLE)
    assert (1 << 20) + 65536 <= hole <= 3 << 20, f'hole at {hole}'
    fails(ENXIO, os.lseek, fd, 3 << 20, SEEK_DATA)
    fails(ENXIO, os.lseek, fd, 3 << 20, SEEK_HOLE)
    equal(os.lseek(fd, -5, os.SEEK_END), (3 << 20) - 5, 'end')
    os.close(fd)


@case
def exclusive(world):
    """O_CREAT with O_EXCL makes a file once, of ten processes that try at once."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    equal(os.fstat(fd).st_mode & 0o777, 0o640, 'mode')
    os.close(fd)
    fails(EEXIST, os.open, world.path('file'), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink('nowhere', world.path('dangling'))
    fails(EEXIST, os.open, world.path('dangling'), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    pids, won = [], 0
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                os.open(world.path('race'), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                os._exit(0)
            except FileExistsError:
                os._exit(1)
        pids.append(pid)
    for pid in pids:
        won += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    equal(won, 1, 'winners')


@case
def truncating_open(world):
    """O_TRUNC empties the file for all who have it open."""
    path = world.make('file', b'0123456789')
    fd = os.open(path, os.O_RDWR)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    equal(os.fstat(fd).st_size, 0, 'size')
    equal(os.pread(fd, 10, 0), b'', 'content')
    os.pwrite(fd, b'ab', 3)
    equal(world.content('file'), b'\0\0\0ab', 'content')
    os.close(fd)


@case
def appenders(world):
    """Two processes that append lose no record."""
    count = 500

    def append(letter):
        fd = os.open(world.path('log'), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for index in range(count):
            os.write(fd, f'{letter} {index:06}\n'.encode())
        os.close(fd)

    pids = []
    for letter in 'ab':
        pid = os.fork()
        if pid == 0:
            append(letter)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0, 'how an appender ended')
    lines = world.content('log').decode().splitlines()
    equal(len(lines), 2 * count, 'records')
    for letter in 'ab':
        own = [line for line in lines if line.startswith(letter)]
        equal(own, [f'{letter} {index:06}' for index in range(count)], 'records in order')


@case
def sizes_while_appending(world):
    """After each of 1000 appends the size is right at once, and so is the byte at the end."""
    fd = os.open(world.path('log'), os.O_CREAT | os.O_RDWR | os.O_APPEND)
    other = os.open(world.path('log'), os.O_RDONLY)
    for index in range(1000):
        os.write(fd, bytes([index % 251]) * 37)
        equal(os.fstat(fd).st_size, 37 * (index + 1), 'size')
        if index % 10 == 0:
            equal(os.fstat(other).st_size, 37 * (index + 1), 'size through another descriptor')
            equal(os.pread(other, 50, 37 * index), bytes([index % 251]) * 37, 'last record')
    equal(os.lseek(fd, 0, os.SEEK_END), 37_000, 'end')
    os.close(fd)
    os.close(other)


@case
def direct(world):
    """O_DIRECT reads and writes what buffered descriptors see, in 512 bytes and in 1 MiB."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    buffered = os.open(world.path('file'), os.O_RDWR)
    expected = bytearray(pattern(2 << 20))
    equal(os.pwritev(fd, [aligned(bytes(expected))], 0), 2 << 20, 'written')
    equal(os.pread(buffered, 2 << 20, 0), bytes(expected), 'buffered after direct')
    for at, length in ((4096, 4096), (512, 512), (1 << 20, 1 << 20), (1536, 2048)):
        piece = pattern(length, seed=at)
        equal(os.pwritev(fd, [aligned(piece)], at), length, 'written')
        expected[at:at + length] = piece
        into = aligned(bytes(length))
        equal(os.preadv(fd, [into], at), length, 'read')
        equal(into[:], piece, 'direct after direct')
        equal(os.pread(buffered, length, at), piece, 'buffered after direct')
    os.pwrite(buffered, b'buffered', 8192)
    expected[8192:8200] = b'buffered'
    into = aligned(bytes(2 << 20))
    equal(os.preadv(fd, [into], 0), 2 << 20, 'read')
    assert into[:] == bytes(expected), 'direct after buffered'
    os.close(buffered)
    os.close(fd)
    assert world.content('file') == bytes(expected), 'after close'


@case
def direct_at_the_end(world):
    """O_DIRECT across the end is short, behind it empty, and a write there extends the file."""
    fd = os.open(world.make('file', b'x' * 5000), os.O_RDWR | os.O_DIRECT)
    into = aligned(bytes(8192))
    equal(os.preadv(fd, [into], 0), 5000, 'across')
    equal(into[:5000], b'x' * 5000, 'content')
    equal(os.preadv(fd, [into], 8192), 0, 'behind')
    equal(os.preadv(fd, [into], 1 << 30), 0, 'far behind')
    equal(os.pwritev(fd, [aligned(b'y' * 4096)], 8192), 4096, 'written')
    equal(os.fstat(fd).st_size, 12_288, 'size')
    os.close(fd)
    equal(world.content('file'), b'x' * 5000 + bytes(3192) + b'y' * 4096, 'content')


@case
def vectors(world):
    """readv and writev with many pieces keep their order."""
    pieces = [pattern(length, seed=length) for length in (1, 4095, 4097, 70_000, 3, 131_072)]
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    equal(os.pwritev(fd, pieces, 10), sum(map(len, pieces)), 'written')
    into = [bytearray(len(piece)) for piece in pieces]
    equal(os.preadv(fd, into, 10), sum(map(len, pieces)), 'read')
    equal([bytes(each) for each in into], pieces, 'pieces')
    os.close(fd)


@case
def mapped_shared(world):
    """A shared mapping's stores are read by another process after msync, and by anyone later."""
    path = world.make('file', bytes(50_000))
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, 50_000)
    view[10:15] = b'hello'
    view[49_990:50_000] = b'the end...'
    view.flush()
    found = forked(world.content, 'file')
    equal((found[10:15], found[-10:]), (b'hello', b'the end...'), 'after msync')
    os.pwrite(fd, b'WRITE', 20_000)
    equal(view[20_000:20_005], b'WRITE', 'write seen by the mapping')
    view[30_000:30_003] = b'map'
    equal(os.pread(fd, 3, 30_000), b'map', 'store seen by read')
    view.close()
    os.close(fd)
    equal(world.content('file')[30_000:30_003], b'map', 'after close')


@case
def mapped_by_two(world):
    """Two processes that map one file shared see one another's stores."""
    fd = os.open(world.make('file', bytes(8192)), os.O_RDWR)
    view = mmap.mmap(fd, 8192)

    def other():
        mine = mmap.mmap(os.open(world.path('file'), os.O_RDWR), 8192)
        seen = mine[0:4]
        mine[4096:4101] = b'other'
        return seen

    view[0:4] = b'mine'
    equal(forked(other), b'mine', 'what the other saw')
    equal(view[4096:4101], b'other', 'what it stored')
    view.close()
    os.close(fd)


@case
def mapped_private(world):
    """A private mapping's stores stay its own; a read-only descriptor can be mapped."""
    fd = os.open(world.make('file', b'original' * 1000), os.O_RDONLY)
    private = mmap.mmap(fd, 8000, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    private[0:8] = b'modified'
    equal(world.content('file')[:8], b'original', 'the file')
    equal(private[8:16], b'original', 'the rest')
    shared = mmap.mmap(fd, 8000, prot=mmap.PROT_READ)
    equal(shared[:8], b'original', 'a shared view')
    os.close(fd)
    shared.close()
    private.close()


@case
def mapped_outlives_descriptor(world):
    """A mapping works on when its descriptor is closed and its file unlinked."""
    fd = os.open(world.make('file', pattern(100_000)), os.O_RDWR)
    view = mmap.mmap(fd, 100_000)
    os.close(fd)
    os.unlink(world.path('file'))
    equal(view[:], pattern(100_000), 'content')
    view[0:3] = b'abc'
    view.flush()
    equal(view[0:4], b'abc' + pattern(100_000)[3:4], 'stores')
    view.close()


@case
def programs_run(world):
    """A program on the file system can be run."""
    path = world.make('tool', b'#!/bin/sh\necho it runs "$@"\n', mode=0o755)
    with os.popen(f'{os.fsdecode(path)} well') as output:
        equal(output.read(), 'it runs well\n', 'a script')
    with open('/bin/true', 'rb') as tool:
        world.make('true', tool.read(), mode=0o755)
    equal(os.spawnv(os.P_WAIT, world.path('true'), ['true']), 0, 'a binary')


@case
def unlinked(world):
    """An open file that was unlinked stays readable, writable and truncatable."""
    path = world.make('file', b'before')
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    fails(ENOENT, os.stat, path)
    fails(ENOENT, os.open, path, os.O_RDONLY)
    equal(os.pread(fd, 10, 0), b'before', 'content')
    os.pwrite(fd, b'after' * 1000, 0)
    os.fsync(fd)
    equal(os.fstat(fd).st_size, 5000, 'size')
    os.ftruncate(fd, 8)
    equal(os.pread(fd, 10, 0), b'afteraft', 'content')
    world.make('file', b'another')
    equal(os.pread(fd, 10, 0), b'afteraft', 'content beside a new file of that name')
    equal(world.content('file'), b'another', 'the new file')
    os.close(fd)


@case
def unlinked_with_two_opens(world):
    """An unlinked file lives until the last of its descriptors is closed, in any process."""
    path = world.make('file', b'content')
    first = os.open(path, os.O_RDONLY)
    second = os.open(path, os.O_RDWR)
    os.unlink(path)
    os.close(first)
    equal(os.pread(second, 10, 0), b'content', 'after the first close')
    equal(forked(os.pread, second, 10, 0), b'content', 'in a child')
    os.close(second)
    equal(os.listdir(world.directory), [], 'what is left')


@case
def created_and_unlinked(world):
    """A temporary file: created, unlinked at once, and used; its directory can then go."""
    os.mkdir(world.path('tmp'))
    fd = os.open(world.path('tmp/file'), os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.unlink(world.path('tmp/file'))
    write_all(fd, b'x' * 100_000)
    equal(os.pread(fd, 200_000, 0), b'x' * 100_000, 'content')
    os.close(fd)
    os.rmdir(world.path('tmp'))


@case
def renamed_over(world):
    """An open file that another was renamed over stays what it was."""
    old = world.make('target', b'old content')
    world.make('source', b'new content')
    fd = os.open(old, os.O_RDWR)
    os.rename(world.path('source'), old)
    equal(os.pread(fd, 20, 0), b'old content', 'through the descriptor')
    equal(world.content('target'), b'new content', 'by name')
    os.pwrite(fd, b'OLD', 0)
    os.fsync(fd)
    equal(os.pread(fd, 20, 0), b'OLD content', 'through the descriptor')
    equal(world.content('target'), b'new content', 'by name')
    os.close(fd)
    equal(os.listdir(world.directory), [b'target'], 'what is left')


@case
def renamed_while_open(world):
    """A file that is renamed while open goes on under its new name."""
    fd = os.open(world.make('one', b'1'), os.O_RDWR)
    os.rename(world.path('one'), world.path('two'))
    os.pwrite(fd, b'12', 0)
    equal(world.content('two'), b'12', 'content')
    os.mkdir(world.path('d'))
    os.rename(world.path('two'), world.path('d/three'))
    os.pwrite(fd, b'123', 0)
    equal(world.content('d/three'), b'123', 'content')
    os.unlink(world.path('d/three'))
    equal(os.pread(fd, 9, 0), b'123', 'unlinked')
    os.close(fd)


@case
def refused_opens(world):
    """Opens that must be refused say why."""
    world.make('file')
    os.mkdir(world.path('directory'))
    os.symlink('file', world.path('link'))
    os.symlink('loop', world.path('loop'))
    fails(EISDIR, os.open, world.path('directory'), os.O_WRONLY)
    fails(EISDIR, os.open, world.path('directory'), os.O_CREAT | os.O_RDWR)
    fails(ENOTDIR, os.open, world.path('file'), os.O_DIRECTORY)
    fails(ENOTDIR, os.open, world.path('file/below'), os.O_RDONLY)
    fails(ELOOP, os.open, world.path('link'), os.O_NOFOLLOW)
    fails(ELOOP, os.open, world.path('loop'), os.O_RDONLY)
    fails(ENOENT, os.open, world.path('absent'), os.O_RDWR)
    fails(ENOENT, os.open, world.path('absent/file'), os.O_RDWR | os.O_CREAT)
    fails(EISDIR, os.read, os.open(world.path('directory'), os.O_RDONLY), 10)


@case
def preallocation(world):
    """fallocate: not supported on the mount, and said so; posix_fallocate makes the size right."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    allocate = lambda: called(LIBC.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(100_000)))
    if world.mount:
        fails(EOPNOTSUPP, allocate)
    else:
        allocate()
    os.posix_fallocate(fd, 0, 200_000)  # libc writes a byte to each block where it has to
    equal(os.fstat(fd).st_size, 200_000, 'size')
    os.close(fd)


@case
def copies_in_the_kernel(world):
    """sendfile and copy_file_range copy every byte."""
    expected = pattern(3_000_000)
    source = os.open(world.make('source', expected), os.O_RDONLY)
    sent = os.open(world.path('sent'), os.O_CREAT | os.O_WRONLY)
    at = 0
    while at < len(expected):
        at += os.sendfile(sent, source, at, len(expected) - at)
    os.close(sent)
    assert world.content('sent') == expected, 'sendfile'
    copied = os.open(world.path('copied'), os.O_CREAT | os.O_WRONLY)
    at = 0
    while at < len(expected):
        at += os.copy_file_range(source, copied, len(expected) - at, at, at)
    os.close(copied)
    assert world.content('copied') == expected, 'copy_file_range'
    os.close(source)


@case
def synchronous(world):
    """O_SYNC and O_DSYNC writes, fsync, fdatasync and fsync of a directory work."""
    for name, flag in (('sync', os.O_SYNC), ('dsync', os.O_DSYNC)):
        fd = os.open(world.path(name), os.O_CREAT | os.O_WRONLY | flag)
        write_all(fd, b'y' * 10_000)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        equal(world.content(name), b'y' * 10_000, name)
    fd = os.open(world.directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@case
def duplicated(world):
    """dup and fork share the offset; closing one keeps the other open."""
    fd = os.open(world.path('file'), os.O_CREAT | os.O_RDWR)
    twin = os.dup(fd)
    os.write(fd, b'one')
    os.write(twin, b'two')
    os.close(fd)
    forked(os.write, twin, b'three')
    os.write(twin, b'four')
    os.close(twin)
    equal(world.content('file'), b'onetwothreefour', 'content')


@case
def reopened_through_proc(world):
    """A descriptor can be opened again through /proc/self/fd, also when the file lost its name."""
    fd = os.open(world.make('file', b'content'), os.O_RDONLY)
    again = os.open(f'/proc/self/fd/{fd}', os.O_RDWR)
    os.pwrite(again, b'CON', 0)
    equal(os.pread(fd, 10, 0), b'CONtent', 'content')
    os.close(again)
    os.unlink(world.path('file'))
    again = os.open(f'/proc/self/fd/{fd}', os.O_RDWR)
    os.pwrite(again, b'TENT', 3)
    equal(os.pread(fd, 10, 0), b'CONTENT', 'content')
    os.close(again)
    os.close(fd)
