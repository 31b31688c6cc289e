/**
 * A smoke test of the second transport: the same file system in memory, by libfuse's paths. Needs
 * the packages fuse-native and libfuse2.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PathOperations } from '../../src/fuse/path-operations.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { MemoryFs } from './memory-fs.ts';
import { mountMemory } from './memory-mount.ts';

describe('a mount by fuse-native', () => {
  it('serves files, directories and links, and ends when it is unmounted', async (t) => {
    const mount = await mountMemory(t, { transport: 'fuse-native' });
    await mount.sh(`
      dd if=/dev/urandom of=a bs=1M count=4 status=none
      cp a b; cmp a b; dd if=b bs=64k iflag=direct status=none | cmp - a
      head -c 100000 zeros | cmp -n 100000 - /dev/zero
      truncate -s 10 b; test $(stat -c %s b) = 10
      mkdir -p d/e; echo 1 > d/e/f; mv d/e/f d/g; ln d/g d/h; ln -s g d/i; test $(readlink d/i) = g
      test $(cat d/i) = 1; chmod 640 d/g; test $(stat -c %a%h d/g) = 6402
      touch -d @1234567890 d/g; test $(stat -c %Y d/g) = 1234567890
      echo 2 >> d/g; test $(cat d/g | wc -l) = 2; sync d/g
      rmdir d/e; test "$(ls d | tr '\\n' ' ')" = 'g h i '
      rm -r d a b; df . > /dev/null; test ! -e none`);
    const { status, last } = await mount.finish();
    assert.deepEqual([status, last.end], [0, { reason: 'unmounted' }]);
    assert.equal(last.held?.handles, 0);
  });

  it('is read-only where it should be, shows its source, and unmounts when asked', async (t) => {
    const settings = { transport: 'fuse-native', readOnly: true, source: 'a,b:/c' };
    const mount = await mountMemory(t, settings);
    await assert.rejects(mount.sh('echo x > new'), /Read-only file system/);
    assert.match(await mount.sh('cat /proc/self/mountinfo'), / ro,.* - fuse\.gvfs a,b:\/c ro/);
    mount.order('unmount');
    assert.equal((await mount.line()).unmount?.ok, true);
    assert.equal((await mount.last()).status, 0);
  });
});

it('by paths: every lookup is given back', async () => {
  const fs = new MemoryFs();
  const caller = { pid: 0, credentials: { uid: 0, gid: 0, groups: [] } };
  const paths = new PathOperations(fs, caller);
  const before = fs.held;
  await paths.mkdir('/d', 0o755);
  await paths.mkdir('/d/e', 0o755);
  const created = await paths.create('/d/e/f', 0o644);
  assert.ok(created.ok);
  assert.equal((await paths.write(created.value, Buffer.from('text'), 2)).ok, true);
  const into = Buffer.alloc(10);
  assert.deepEqual(await paths.read(created.value, into, 1), { ok: true, value: 5 });
  assert.equal(into.toString('latin1', 0, 5), '\0text');
  assert.deepEqual(
    fs.held,
    { ...before, nodes: before.nodes + 1, handles: 1 },
    'the open file is held',
  );
  paths.release(created.value);
  await paths.link('/d/e/f', '/g');
  await paths.rename('/d/e/f', '/d/h');
  await paths.symlink('to', '/d/s');
  await paths.utimens('/g', 1, 2);
  for (const failing of [
    await paths.getattr('/d/none'),
    await paths.getattr('/none/e'),
    await paths.getattr(`/d/${'n'.repeat(256)}`),
    await paths.rmdir('/d'),
    await paths.unlink('/'),
    await paths.open('/d/none', 0),
    await paths.mkdir('/d', 0o755),
  ]) {
    assert.equal(failing.ok, false);
  }
  const stat = await paths.getattr('/g');
  assert.ok(stat.ok);
  assert.deepEqual([stat.value.mode, stat.value.size, stat.value.mtime], [0o100644, 6, 2]);
  assert.deepEqual(await paths.readdir('/d'), { ok: true, value: ['.', '..', 'e', 'h', 's'] });
  assert.deepEqual(fs.held, before);
  assert.equal((await fs.getattr(caller, ROOT_INO)).ok, true);
});
