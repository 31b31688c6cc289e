"""Truth tables: what the kernel answers to every combination, printed a line each.

    tables.py open DIRECTORY         every combination of open flags on every kind of file
    tables.py permissions DIRECTORY  what a user may do with a file of each mode

The same program runs on a local file system and on the mount; the lines have to be equal.
"""

import errno
import itertools
import os
import stat
import sys

ACCESS = {'RDONLY': os.O_RDONLY, 'WRONLY': os.O_WRONLY, 'RDWR': os.O_RDWR}
EXTRA = ['CREAT', 'EXCL', 'TRUNC', 'APPEND', 'DIRECTORY', 'NOFOLLOW']


def outcome(function, *arguments):
    """What it answered, or its errno's name."""
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def absent(path):
    pass


def file(path):
    with open(path, 'wb') as made:
        made.write(b'content')


def link_to_file(path):
    file(path + '-target')
    os.symlink(os.path.basename(path) + '-target', path)


def link_to_directory(path):
    os.mkdir(path + '-target')
    os.symlink(os.path.basename(path) + '-target', path)


def dangling(path):
    os.symlink(os.path.basename(path) + '-nowhere', path)


def open_table(directory):
    kinds = [absent, file, os.mkdir, link_to_file, link_to_directory, dangling]
    count = 0
    for kind in kinds:
        for access, extra in itertools.product(ACCESS, subsets(EXTRA)):
            count += 1
            path = os.path.join(directory, f'{count}')
            kind(path)
            flags = ACCESS[access]
            for name in extra:
                flags |= getattr(os, 'O_' + name)
            print(kind.__name__, '|'.join([access, *extra]), opened(path, flags))


def subsets(names):
    return itertools.chain.from_iterable(
        itertools.combinations(names, count) for count in range(len(names) + 1))


def opened(path, flags):
    """The open's errno; else what a read, a write and the file afterwards give."""
    fd = outcome(os.open, path, flags, 0o640)
    if isinstance(fd, str):
        return fd
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        os.close(fd)
        return 'a directory'
    read = outcome(os.read, fd, 4)
    written = outcome(os.write, fd, b'XY')
    end = os.lseek(fd, 0, os.SEEK_CUR)
    size = os.fstat(fd).st_size
    os.close(fd)
    with open(path, 'rb') as content:
        return read, written, end, size, content.read(), oct(found.st_mode)


OWNER, GROUP, OTHER = 1000, 2000, 1001
PEOPLE = {
    'owner': (OWNER, OWNER, []),
    'group': (OTHER, GROUP, []),
    'member': (OTHER, OTHER, [3000, GROUP]),
    'other': (OTHER, OTHER, []),
}
MODES = [0o000, 0o400, 0o200, 0o600, 0o040, 0o020, 0o060, 0o004, 0o002, 0o006, 0o644, 0o664, 0o070]


def permissions_table(directory):
    """Each person in a process of its own, on files that root has in its caches."""
    os.chmod(directory, 0o755)
    for mode in MODES:
        path = os.path.join(directory, f'{mode:03o}')
        os.mkdir(path + '-d')
        for target in (path, path + '-d/inside'):
            file(target)
            os.chown(target, OWNER, GROUP)
            os.chmod(target, mode)
        os.chown(path + '-d', OWNER, GROUP)
        # A directory is entered with x: give it along with r.
        os.chmod(path + '-d', mode | (mode & 0o444) >> 2)
        with open(path, 'rb') as cached:
            cached.read()
        os.listdir(path + '-d')
    for person, (uid, gid, groups) in PEOPLE.items():
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            for mode in MODES:
                permissions_of(person, os.path.join(directory, f'{mode:03o}'))
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def permissions_of(person, path):
    name = os.path.basename(path)

    def say(what, *answer):
        print(name, person, what, *answer)

    def read():
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)

    for access in ACCESS:
        say(f'open {access}', closed(outcome(os.open, path, ACCESS[access])))
    say('read', outcome(read))
    say('access', *(os.access(path, bit) for bit in (os.R_OK, os.W_OK, os.X_OK)))
    say('truncate', outcome(os.truncate, path, 7))
    say('utime now', outcome(os.utime, path))
    say('utime', outcome(os.utime, path, (5, 5)))
    say('chmod', outcome(os.chmod, path, int(name, 8)))
    directory = path + '-d'
    say('list', outcome(os.listdir, directory))
    say('enter', outcome(os.chdir, directory))
    os.chdir('/')
    say('stat inside', outcome(lambda: os.stat(directory + '/inside').st_size))
    say('open inside', closed(outcome(os.open, directory + '/inside', os.O_RDONLY)))
    say('create', closed(outcome(os.open, directory + '/new', os.O_CREAT | os.O_RDWR, 0o600)))
    say('mkdir', outcome(os.mkdir, directory + '/made'))
    say('symlink', outcome(os.symlink, 'x', directory + '/link'))
    # Locally fs.protected_hardlinks may refuse it first, with EPERM.
    linked = outcome(os.link, directory + '/inside', directory + '/linked')
    say('link', 'EACCES' if linked == 'EPERM' else linked)
    say('rename', outcome(os.rename, directory + '/new', directory + '/renamed'))
    for left in ('new', 'renamed', 'link', 'linked'):
        say(f'unlink {left}', outcome(os.unlink, directory + '/' + left))
    say('rmdir', outcome(os.rmdir, directory + '/made'))


def closed(fd):
    if isinstance(fd, int):
        os.close(fd)
        return 'opened'
    return fd


def main():
    _, table, directory = sys.argv
    os.umask(0o022)
    {'open': open_table, 'permissions': permissions_table}[table](directory)


if __name__ == '__main__':
    main()
