"""Locks between processes of one host: POSIX, open file description and flock."""

import fcntl
import os
import signal
import struct

from suite import case, equal, fails, forked
from errno import EACCES, EAGAIN

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
BUSY = (EAGAIN, EACCES)


def ofd(fd, kind, start=0, length=0, command=F_OFD_SETLK):
    """An open file description lock, as QEMU takes them on images."""
    return fcntl.fcntl(fd, command, struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, 0))


def try_in_child(world, lock, *arguments):
    """Opens the file anew in another process and tries to lock it."""

    def child():
        lock(os.open(world.path('file'), os.O_RDWR), *arguments)

    return forked(child)


@case
def posix(world):
    """POSIX locks: ranges conflict where they overlap, shared ones do not, close lets go."""
    fd = os.open(world.make('file', bytes(100)), os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 50)
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    shared = fcntl.LOCK_SH | fcntl.LOCK_NB
    fails(BUSY, try_in_child, world, fcntl.lockf, exclusive, 5, 5)
    fails(BUSY, try_in_child, world, fcntl.lockf, shared, 5, 5)
    fails(BUSY, try_in_child, world, fcntl.lockf, exclusive, 1, 55)
    try_in_child(world, fcntl.lockf, shared, 10, 50)
    try_in_child(world, fcntl.lockf, exclusive, 10, 20)
    os.close(os.open(world.path('file'), os.O_RDONLY))  # POSIX: any close drops them all
    try_in_child(world, fcntl.lockf, exclusive, 100, 0)
    os.close(fd)


@case
def open_file_description(world):
    """OFD locks conflict between descriptors, also of one process, and go with the last close."""
    first = os.open(world.make('file', bytes(300)), os.O_RDWR)
    second = os.open(world.path('file'), os.O_RDWR)
    ofd(first, fcntl.F_RDLCK, 100, 1)
    ofd(second, fcntl.F_RDLCK, 100, 1)
    fails(BUSY, ofd, second, fcntl.F_WRLCK, 100, 1)
    fails(BUSY, try_in_child, world, ofd, fcntl.F_WRLCK, 100, 1)
    ofd(first, fcntl.F_WRLCK, 200, 1)
    os.close(os.open(world.path('file'), os.O_RDONLY))  # not dropped by another close
    fails(BUSY, ofd, second, fcntl.F_WRLCK, 200, 1)
    found = ofd(second, fcntl.F_WRLCK, 200, 1, F_OFD_GETLK)
    equal(struct.unpack('hhqqi4x', found)[:4], (fcntl.F_WRLCK, 0, 200, 1), 'who holds it')
    twin = os.dup(first)
    os.close(first)
    fails(BUSY, ofd, second, fcntl.F_WRLCK, 200, 1)
    os.close(twin)
    ofd(second, fcntl.F_WRLCK, 200, 1)
    os.close(second)


@case
def flock(world):
    """flock: exclusive keeps others out, shared lets them in, upgrade and unlock work."""
    first = os.open(world.make('file'), os.O_RDWR)
    second = os.open(world.path('file'), os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fails(BUSY, fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fails(BUSY, try_in_child, world, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(first, fcntl.LOCK_SH)
    fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fails(BUSY, fcntl.flock, first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(second, fcntl.LOCK_UN)
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(first)
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(second)


@case
def waiting(world):
    """A process that waits for a lock gets it when the holder dies by SIGKILL."""
    world.make('file')
    ready, held = os.pipe()
    holder = os.fork()
    if holder == 0:
        fcntl.lockf(os.open(world.path('file'), os.O_RDWR), fcntl.LOCK_EX)
        os.write(held, b'!')
        while True:
            signal.pause()
    os.read(ready, 1)
    fails(BUSY, try_in_child, world, fcntl.lockf, fcntl.LOCK_EX | fcntl.LOCK_NB)
    waiter = os.fork()
    if waiter == 0:
        fd = os.open(world.path('file'), os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.write(fd, b'got it')
        os._exit(0)
    os.kill(holder, 9)
    os.waitpid(holder, 0)
    equal(os.waitpid(waiter, 0)[1], 0, 'how the waiter ended')
    equal(world.content('file'), b'got it', 'what it wrote')


@case
def many_increments(world):
    """A counter that four processes increment under a lock loses nothing."""
    world.make('file', b'0')

    def increment():
        fd = os.open(world.path('file'), os.O_RDWR)
        for _ in range(100):
            fcntl.lockf(fd, fcntl.LOCK_EX)
            value = int(os.pread(fd, 20, 0))
            os.pwrite(fd, str(value + 1).encode(), 0)
            fcntl.lockf(fd, fcntl.LOCK_UN)
        os._exit(0)

    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            increment()
        children.append(pid)
    for pid in children:
        equal(os.waitpid(pid, 0)[1], 0, 'how a child ended')
    equal(world.content('file'), b'400', 'the counter')
