/**
 * A hard mount whose server is killed and restarted: callers wait, then go on without a wrong byte,
 * and what fsync acknowledged is there.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PYTHON } from '../mount/children.ts';
import { withMount } from '../mount/mount-fixture.ts';

/** Sent again after half a second, so that the tests do not wait for the default minute. */
const QUICK = ['hard', 'timeo=5', 'retrans=1'];

const WRITER = `
import os, sys
path, blocks = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_CREAT | os.O_WRONLY)
for block in range(blocks):
    content = block.to_bytes(8, 'big') * 8192
    assert os.pwrite(fd, content, block * 65536) == 65536
    if block % 16 == 15:
        os.fsync(fd)
        print('synced', block + 1, flush=True)
os.close(fd)
print('closed', flush=True)
`;

const READER = `
import hashlib, os, sys
path, rounds = sys.argv[1], int(sys.argv[2])
for round in range(rounds):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    digest = hashlib.sha256()
    while piece := os.read(fd, 1 << 20): digest.update(piece)
    os.close(fd)
    print('round', round, digest.hexdigest(), flush=True)
`;

describe('a server that is killed and restarted', () => {
  it('loses nothing of a writer that fsyncs', async () => {
    await withMount({ options: QUICK }, async (mount) => {
      const blocks = 512;
      const writer = await mount.children.start(PYTHON, [
        ...['-c', WRITER, join(mount.mountpoint, 'file'), String(blocks)],
      ]);
      for (const mark of [32, 160, 320]) {
        await writer.says(`synced ${mark}\n`);
        await mount.server.kill();
        const synced = Number(/synced (\d+)\n(?!.*synced)/s.exec(writer.stdout)?.[1]);
        checkBlocks(readFileSync(join(mount.serverDirectory, 'file')), synced);
        await sleep(300);
        await mount.server.restart();
      }
      await writer.succeed();
      checkBlocks(readFileSync(join(mount.serverDirectory, 'file')), blocks);
    });
  });

  it('gives a reader every byte, round after round', async () => {
    await withMount({ options: QUICK }, async (mount) => {
      const content = randomBytes(24 << 20);
      writeFileSync(join(mount.serverDirectory, 'file'), content);
      const expected = createHash('sha256').update(content).digest('hex');
      const rounds = 30;
      const reader = await mount.children.start(PYTHON, [
        ...['-c', READER, join(mount.mountpoint, 'file'), String(rounds)],
      ]);
      for (const mark of [0, 4, 8]) {
        await reader.says(`round ${mark} `);
        await mount.server.kill();
        await sleep(300);
        await mount.server.restart();
      }
      const lines = (await reader.succeed()).trim().split('\n');
      assert.deepEqual(
        lines,
        Array.from({ length: rounds }, (_, round) => `round ${round} ${expected}`),
      );
    });
  });

  it('is sent again what it had taken as unstable and lost', async () => {
    await withMount({ options: QUICK }, async (mount) => {
      const path = join(mount.serverDirectory, 'file');
      const writer = await mount.children.start(PYTHON, [
        '-c',
        `import os, signal, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.pwrite(fd, b'S' * 1000000, 0)
os.fsync(fd)
os.pwrite(fd, b'U' * 3000000, 1000000)
print('written', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
os.fsync(fd)
print('synced', flush=True)`,
        join(mount.mountpoint, 'file'),
      ]);
      await writer.says('written');
      await mount.server.kill();
      // As a power loss would: what was not committed is gone, what was is there.
      assert.ok(
        readFileSync(path)
          .subarray(0, 1_000_000)
          .every((byte) => byte === 0x53),
      );
      const fd = openSync(path, 'r+');
      writeSync(fd, Buffer.alloc(3_000_000), 0, 3_000_000, 1_000_000);
      closeSync(fd);
      await sleep(1100); // nfs-ganesha's write verifier is the second in which it was started
      await mount.server.restart();
      process.kill(writer.pid, 'SIGCONT');
      await writer.succeed();
      const content = readFileSync(path);
      assert.equal(content.length, 4_000_000);
      assert.ok(content.subarray(0, 1_000_000).every((byte) => byte === 0x53));
      assert.ok(
        content.subarray(1_000_000).every((byte) => byte === 0x55),
        'lost for good',
      );
    });
  });

  it('does each create, rename, link and unlink once', async () => {
    await withMount({ options: QUICK }, async (mount) => {
      const worker = await mount.children.start(PYTHON, [
        '-c',
        `import os, sys
os.chdir(sys.argv[1])
strangers = 0
for turn in range(400):
    name = str(turn)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        # nfs-ganesha makes the file, then sets the times that hold the call's verifier: killed in
        # between, it takes the file for somebody else's when the call comes again.
        assert os.stat(name).st_size == 0
        strangers += 1
    os.mkdir('d' + name)
    os.rename(name, 'd' + name + '/moved')
    os.link('d' + name + '/moved', 'l' + name)
    os.symlink('l' + name, 's' + name)
    os.unlink('d' + name + '/moved')
    os.rmdir('d' + name)
    if turn % 2:
        os.unlink('s' + name)
        os.unlink('l' + name)
    print('turn', turn, '.', flush=True)
assert strangers <= 4, strangers  # one a kill
os.chdir('/')`,
        mount.mountpoint,
      ]);
      for (const mark of [20, 100, 180, 260]) {
        await worker.says(`turn ${mark} .`);
        await mount.server.kill();
        await mount.server.restart();
      }
      await worker.succeed();
      const expected = Array.from({ length: 200 }, (_, pair) => [`l${pair * 2}`, `s${pair * 2}`]);
      assert.deepEqual(readdirSync(mount.serverDirectory).sort(), expected.flat().sort());
    });
  });
});

describe('a server that stops answering for a while', () => {
  it('delays a reader and a writer and spoils nothing', async () => {
    await withMount({ options: QUICK }, async (mount) => {
      const content = randomBytes(8 << 20);
      writeFileSync(join(mount.serverDirectory, 'read'), content);
      const expected = createHash('sha256').update(content).digest('hex');
      const reader = await mount.children.start(PYTHON, [
        ...['-c', READER, join(mount.mountpoint, 'read'), '20'],
      ]);
      const writer = await mount.children.start(PYTHON, [
        ...['-c', WRITER, join(mount.mountpoint, 'written'), '256'],
      ]);
      for (const mark of [1, 4]) {
        await reader.says(`round ${mark} `);
        mount.server.pause();
        await sleep(1500); // longer than the time after which calls are sent again
        mount.server.resume();
      }
      const lines = (await reader.succeed()).trim().split('\n');
      assert.ok(lines.every((line) => line.endsWith(expected)));
      await writer.succeed();
      checkBlocks(readFileSync(join(mount.serverDirectory, 'written')), 256);
    });
  });
});

/** The first `count` blocks of 64 KiB hold their own number, 8 bytes big-endian, all over. */
function checkBlocks(content: Buffer, count: number): void {
  assert.ok(count > 0 && content.length >= count * 65_536, `${content.length} bytes`);
  for (let at = 0; at < count * 65_536; at += 8) {
    const expected = Math.floor(at / 65_536);
    if (content.readUInt32BE(at + 4) !== expected || content.readUInt32BE(at) !== 0) {
      assert.fail(`a wrong byte near ${at}, in block ${expected} of ${count}`);
    }
  }
}
