/**
 * What one client sees of another's work. "Directly" is another client: the test writes in the
 * exported directory itself.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Mount, mountExport, withMount } from './mount-fixture.ts';
import { POSIX_ENVIRONMENT } from './posix-suite.ts';

const WATCHFUL = { watchful: true };
/** Attributes and names are believed for one second. */
const BRIEFLY = ['actimeo=1'];
/** They are believed for longer than any test takes. */
const FOR_LONG = ['actimeo=3600'];

describe('close-to-open', () => {
  it('what one mount wrote and closed, another sees when it opens', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (one) => {
      const two = await mountExport(one.server, { options: FOR_LONG });
      try {
        // Same size, and often the same second: only an honest check at open tells them apart.
        for (let round = 0; round < 30; round++) {
          const content = `round ${String(round).padStart(5, '0')} `.repeat(1000);
          const [writer, reader] = round % 2 === 0 ? [one, two] : [two, one];
          await writer.children.sh('cat >"$1"', [join(writer.mountpoint, 'file')], {
            input: content,
          });
          assert.equal(await cat(reader, 'file'), content, `round ${round}`);
        }
      } finally {
        await two.close();
      }
    });
  });

  it('a new open sees what changed directly, though pages and attributes are cached', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      const direct = join(mount.serverDirectory, 'file');
      writeFileSync(direct, 'first version');
      assert.equal(await cat(mount, 'file'), 'first version');
      writeFileSync(direct, 'other version');
      assert.equal(await cat(mount, 'file'), 'other version');
      appendFileSync(direct, ', and more');
      assert.equal(await cat(mount, 'file'), 'other version, and more');
      writeFileSync(direct, 'short');
      assert.equal(await cat(mount, 'file'), 'short');
      writeFileSync(`${direct}.new`, 'replaced');
      renameSync(`${direct}.new`, direct);
      assert.equal(await cat(mount, 'file'), 'replaced');
    });
  });

  it('an open descriptor goes on while a new open brings news', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      const direct = join(mount.serverDirectory, 'file');
      writeFileSync(direct, 'a'.repeat(100_000));
      const printed = await mount.children.python(
        `import os, sys
path, direct = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
assert os.pread(fd, 200000, 0) == b'a' * 100000
with open(direct, 'wb') as file: file.write(b'b' * 100000)
again = os.open(path, os.O_RDONLY)
assert os.pread(again, 200000, 0) == b'b' * 100000
assert os.pread(fd, 200000, 0) == b'b' * 100000
print('as expected')`,
        [join(mount.mountpoint, 'file'), direct],
      );
      assert.equal(printed.trim(), 'as expected');
    });
  });
});

describe('appending', () => {
  it('goes to the end that another client has left, whatever the kernel believed', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      const direct = join(mount.serverDirectory, 'log');
      writeFileSync(direct, 'begin\n');
      await mount.children.python(
        `import os, sys
def append(path, line):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, line)
    os.close(fd)
path, direct = sys.argv[1:]
for _ in range(20):
    os.stat(path)
    append(direct, b'theirs\\n')
    append(path, b'ours\\n')
    append(path, b'ours\\n')`,
        [join(mount.mountpoint, 'log'), direct],
      );
      const expected = `begin\n${'theirs\nours\nours\n'.repeat(20)}`;
      assert.equal(readFileSync(direct, 'utf8'), expected);
    });
  });
});

describe('attributes and names', () => {
  it('are seen anew when their time is over', async () => {
    await withMount({ server: WATCHFUL, options: BRIEFLY }, async (mount) => {
      const { serverDirectory } = mount;
      const direct = (name: string) => join(serverDirectory, name);
      writeFileSync(direct('grows'), '1');
      writeFileSync(direct('goes'), '');
      mkdirSync(direct('directory'));
      await mount.children.sh(
        'cd "$1"; ls -lR . >/dev/null; stat grows goes >/dev/null; ! stat comes 2>/dev/null',
        [mount.mountpoint],
      );
      writeFileSync(direct('grows'), '12345');
      unlinkSync(direct('goes'));
      writeFileSync(direct('comes'), '');
      writeFileSync(direct('directory/inside'), '');
      await mount.children.sh(
        `cd "$1"
         until test "$(stat -c %s grows)" = 5; do sleep 0.1; done
         until ! stat goes 2>/dev/null >&2; do sleep 0.1; done
         until stat comes >/dev/null 2>&1; do sleep 0.1; done
         until test "$(ls directory)" = inside; do sleep 0.1; done
         test "$(ls)" = $'comes\\ndirectory\\ngrows'`,
        [mount.mountpoint],
        { timeoutMs: 30_000 },
      );
    });
  });

  it('are asked for each time with noac', async () => {
    await withMount({ server: WATCHFUL, options: ['noac'] }, async (mount) => {
      const direct = join(mount.serverDirectory, 'file');
      for (const length of [1, 5, 3, 0, 9]) {
        writeFileSync(direct, 'x'.repeat(length));
        const size = await mount.children.run('stat', ['-c', '%s', `${mount.mountpoint}/file`]);
        assert.equal(Number(size), length);
      }
      unlinkSync(direct);
      const { code } = await mount.children.finish('stat', [`${mount.mountpoint}/file`]);
      assert.equal(code, 1);
    });
  });

  it('of our own changes are right at once, however long they are believed', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      await mount.children.sh(
        `cd "$1"; mkdir d; ls d; stat d >/dev/null
         ! stat d/f 2>/dev/null; echo 12345 >d/f; test "$(stat -c %s d/f)" = 6
         echo 67890 >>d/f; test "$(stat -c %s d/f)" = 12; test "$(ls d)" = f
         mv d/f d/g; ! stat d/f 2>/dev/null; test "$(ls d)" = g
         ln d/g d/h; test "$(stat -c %h d/g)" = 2
         rm d/g; test "$(stat -c %h d/h)" = 1; chmod 600 d/h; test "$(stat -c %a d/h)" = 600
         truncate -s 3 d/h; test "$(cat d/h)" = 123; rm d/h; test -z "$(ls d)"; rmdir d
         ! stat d 2>/dev/null`,
        [mount.mountpoint],
      );
    });
  });
});

describe('a file that is gone on the server', () => {
  it('gives ESTALE or ENOENT, and a new one of its name is found', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      const direct = join(mount.serverDirectory, 'file');
      writeFileSync(direct, 'x'.repeat(100_000));
      mkdirSync(join(mount.serverDirectory, 'directory'));
      writeFileSync(join(mount.serverDirectory, 'directory/file'), 'old');
      const reader = await mount.children.start(
        '/usr/bin/python3',
        [
          '-uc',
          `import errno, os, sys
from suite import fails
path, direct = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
os.stat(os.path.dirname(path) + '/directory/file')
os.unlink(direct)
with open(direct, 'wb') as file: file.write(b'another')
os.rename(os.path.dirname(direct) + '/directory', os.path.dirname(direct) + '/moved')
os.system('rm -r ' + os.path.dirname(direct) + '/moved')
os.mkdir(os.path.dirname(direct) + '/directory')
with open(os.path.dirname(direct) + '/directory/file', 'wb') as file: file.write(b'new')
fails((errno.ESTALE, errno.ENOENT), os.pread, fd, 10, 50000)
with open(path, 'rb') as file: assert file.read() == b'another'
with open(os.path.dirname(path) + '/directory/file', 'rb') as file: assert file.read() == b'new'
print('as expected')`,
          join(mount.mountpoint, 'file'),
          direct,
        ],
        { env: POSIX_ENVIRONMENT },
      );
      assert.equal((await reader.succeed()).trim(), 'as expected');
    });
  });

  it('can be made again in its old place', async () => {
    await withMount({ server: WATCHFUL, options: FOR_LONG }, async (mount) => {
      await mount.children.sh('mkdir "$1/d" && echo 1 >"$1/d/f"', [mount.mountpoint]);
      rmSync(join(mount.serverDirectory, 'd'), { recursive: true });
      await mount.children.sh('echo 2 >"$1/g"', [mount.mountpoint]);
      assert.equal(readFileSync(join(mount.serverDirectory, 'g'), 'utf8'), '2\n');
      mkdirSync(join(mount.serverDirectory, 'd'));
      await mount.children.sh('echo 3 >"$1/d/f"', [mount.mountpoint]);
      assert.equal(readFileSync(join(mount.serverDirectory, 'd/f'), 'utf8'), '3\n');
    });
  });
});

async function cat(mount: Mount, name: string): Promise<string> {
  return mount.children.run('cat', [join(mount.mountpoint, name)]);
}
