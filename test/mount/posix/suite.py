"""The POSIX suite: what programs may expect of a file system, a case at a time.

    suite.py --list                     the cases' names, a line each
    suite.py --run NAME DIRECTORY WORLD runs one case in the (empty) DIRECTORY

WORLD is `local` or `mount`. Every case passes on a plain local file system, which is the proof that
it expects what the kernel does; the few that know the mount's limits (what NFS version 3 lacks) say
so with `world.mount`.
"""

import ctypes
import errno
import importlib
import os
import pickle
import sys
import traceback

CASES = {}
MODULES = ['attributes', 'contents', 'directories', 'locks', 'names', 'renames']
LIBC = ctypes.CDLL(None, use_errno=True)


class World:
    """Where a case runs: `path(name)` is inside its own empty directory."""

    def __init__(self, directory, kind):
        self.directory = os.fsencode(directory)
        self.mount = kind == 'mount'

    def path(self, name):
        return os.path.join(self.directory, os.fsencode(name))

    def make(self, name, content=b'', mode=0o644):
        """A file with this content, whatever the umask."""
        fd = os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            os.fchmod(fd, mode)
            write_all(fd, content)
        finally:
            os.close(fd)
        return self.path(name)

    def content(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()


def case(function):
    """Registers a case; its docstring is its title."""
    name = ' '.join(function.__doc__.split()).rstrip('.')
    assert name not in CASES, name
    CASES[name] = function
    return function


def equal(actual, expected, what=''):
    assert actual == expected, f'{what}: got {actual!r}, expected {expected!r}'


def fails(expected, function, *arguments, **named):
    """The call must fail with this errno (one, or a tuple of allowed ones)."""
    allowed = expected if isinstance(expected, tuple) else (expected,)
    names = '/'.join(errno.errorcode[number] for number in allowed)
    try:
        result = function(*arguments, **named)
    except OSError as error:
        got = errno.errorcode.get(error.errno, error.errno)
        assert error.errno in allowed, f'{arguments}: got {got}, expected {names}'
        return
    raise AssertionError(f'{arguments}: succeeded with {result!r}, expected {names}')


def write_all(fd, content):
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view):]


def called(result):
    """What ctypes answered for a system call; raises OSError for -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def forked(function, *arguments):
    """Runs it in a process of its own; answers its result, raises what it raised."""
    outcome, sent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(outcome)
        try:
            answer = (True, function(*arguments))
        except BaseException as error:  # whatever it was, the parent has to hear it
            answer = (False, error if isinstance(error, OSError) else traceback.format_exc())
        with os.fdopen(sent, 'wb') as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(sent)
    with os.fdopen(outcome, 'rb') as pipe:
        pickled = pipe.read()
    os.waitpid(child, 0)
    succeeded, answer = pickle.loads(pickled)
    if succeeded:
        return answer
    raise answer if isinstance(answer, OSError) else AssertionError(answer)


def as_user(uid, function, *arguments, gid=None, groups=()):
    """Runs it in a process of this user."""

    def become():
        os.setgroups(list(groups))
        os.setgid(uid if gid is None else gid)
        os.setuid(uid)
        return function(*arguments)

    return forked(become)


def main():
    os.umask(0o022)
    for module in MODULES:
        importlib.import_module(module)
    if sys.argv[1] == '--list':
        print('\n'.join(CASES))
        return
    _, _, name, directory, kind = sys.argv
    CASES[name](World(directory, kind))


if __name__ == '__main__':
    # The cases import this file by its name: it must be the same module.
    sys.modules['suite'] = sys.modules['__main__']
    main()
