/**
 * `gvfs recover`: a cache with unsent writes in it, as a killed daemon left it.
 */
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileIdOf } from '../../src/cache/file-id.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import { content, fill, got, imageFile, openExport, openImage } from '../cache/image-worlds.ts';
import { type FakeWorld, fakeWorld } from './fake-shell.ts';

const noMount = '22 1 254:0 / / rw - ext4 /dev/vda1 rw\n';
const PAGE = 4096;
const id = fileIdOf(imageFile);

describe('gvfs recover', () => {
  it('lists what is unsent', async () => {
    await using world = await fakeWorld(noMount);
    const { directory } = await leaveUnsent(world);
    const listed = await world.gvfs('recover', '--list', '--cachedir', directory);
    assert.match(listed.out, /^ *unsent +size +for +state +export +file\n/);
    assert.match(
      listed.out,
      /\n8\.0 KiB +256 KiB .* dirty +server:2049:\/export +images\/a.img\n$/,
    );
    assert.deepEqual([listed.status, listed.err], [0, '']);
    const json = await world.gvfs('recover', '--list', '--json', '--cachedir', directory);
    const { unsent } = JSON.parse(json.out) as { unsent: Record<string, unknown>[] };
    assert.deepEqual(
      unsent.map(({ path, id, unsentBytes, state }) => [path, id, unsentBytes, state]),
      [['images/a.img', id, 2 * PAGE, 'dirty']],
    );
  });

  it('copies what is known, and says what was never fetched', async () => {
    await using world = await fakeWorld(noMount);
    const { directory, bytes } = await leaveUnsent(world);
    const to = join(world.directory, 'rescue');
    const nowhere = await world.gvfs('recover', '--export', to, '--cachedir', directory);
    assert.equal(nowhere.status, 1);
    mkdirSync(to);
    const ran = await world.gvfs('recover', '--export', to, '--cachedir', directory);
    assert.deepEqual([ran.status, ran.err], [0, '']);
    const file = join(to, 'a.img');
    assert.equal(ran.out, `${file}: 256 KiB, 8.0 KiB of it unsent, 184 KiB never fetched: holes\n`);
    const copy = readFileSync(file);
    assert.equal(copy.length, 64 * PAGE);
    assert.ok(copy.subarray(0, 16 * PAGE).equals(bytes.subarray(0, 16 * PAGE)));
    assert.ok(copy.subarray(20 * PAGE, 22 * PAGE).equals(Buffer.alloc(2 * PAGE, 'ours')));
    assert.ok(copy.subarray(22 * PAGE).every((byte) => byte === 0));
    const about = JSON.parse(readFileSync(`${file}.json`, 'utf8')) as Record<string, unknown>;
    assert.deepEqual(about.unsent, [{ start: 20 * PAGE, end: 22 * PAGE }]);
    assert.deepEqual(about.absent, [
      { start: 16 * PAGE, end: 20 * PAGE },
      { start: 22 * PAGE, end: 64 * PAGE },
    ]);
    // What is there is not written over.
    const again = await world.gvfs('recover', '--export', to, '--cachedir', directory, id);
    assert.match(again.out, /a\.img\.1: 256 KiB/);
    const other = await world.gvfs('recover', '--export', to, '--cachedir', directory, 'b.img');
    assert.deepEqual([other.status, other.out], [32, '']);
    assert.equal(other.err, 'gvfs: b.img is not unsent: gvfs recover --list names all that is\n');
  });

  it('takes clean bytes that are damaged for absent, and keeps the unsent ones', async () => {
    await using world = await fakeWorld(noMount);
    const { directory, exportPath } = await leaveUnsent(world);
    const fd = openSync(join(exportPath, id, 'data'), 'r+');
    writeSync(fd, 'X', 1234);
    closeSync(fd);
    const to = join(world.directory, 'rescue');
    mkdirSync(to);
    await world.gvfs('recover', '--export', to, '--cachedir', directory);
    const copy = readFileSync(join(to, 'a.img'));
    assert.ok(copy.subarray(0, 20 * PAGE).every((byte) => byte === 0));
    assert.ok(copy.subarray(20 * PAGE, 22 * PAGE).equals(Buffer.alloc(2 * PAGE, 'ours')));
  });

  it('finds what was put aside', async () => {
    await using world = await fakeWorld(noMount);
    const { directory, exportPath } = await leaveUnsent(world, 'lost');
    assert.ok(existsSync(join(exportPath, '.lost')));
    const listed = await world.gvfs('recover', '--list', '--cachedir', directory);
    assert.match(listed.out, /lost \(a test wants it so\)/);
    assert.equal(listed.status, 5);
    const sent = await world.gvfs('recover', '--write-back', '--cachedir', directory);
    assert.deepEqual([sent.status, sent.out], [75, '']);
    assert.match(sent.err, /cannot be sent \(a test wants it so\): gvfs recover --export/);
    const to = join(world.directory, 'rescue');
    mkdirSync(to);
    const ran = await world.gvfs('recover', '--export', to, '--cachedir', directory);
    assert.equal(ran.status, 0);
    const copy = readFileSync(join(to, 'a.img'));
    assert.ok(copy.subarray(20 * PAGE, 22 * PAGE).equals(Buffer.alloc(2 * PAGE, 'ours')));
  });

  it('wants one thing to do', async () => {
    await using world = await fakeWorld(noMount);
    assert.equal((await world.gvfs('recover')).status, 1);
    assert.equal((await world.gvfs('recover', '--list', '--write-back')).status, 1);
    const port = await world.gvfs('recover', '--write-back', '-o', 'port=2050');
    assert.equal(port.status, 1);
    assert.match(port.err, /the cache knows the port of its server: leave port out/);
    const none = await world.gvfs('recover', '--list', '--cachedir', '/proc/none');
    assert.deepEqual([none.status, none.out], [32, '']);
  });

  it('finds nothing to send where nothing is unsent', async () => {
    await using world = await fakeWorld(noMount);
    const directory = join(world.directory, 'cache', 'gvfs');
    const io = got(NativeFileIo.open());
    await (await openExport(directory, io)).close();
    await io.close();
    const sent = await world.gvfs('recover', '--write-back', '--cachedir', directory);
    assert.deepEqual(sent, { status: 0, out: 'nothing is unsent\n', err: '' });
    const listed = await world.gvfs('recover', '--list', '--cachedir', directory);
    assert.deepEqual(listed, { status: 0, out: 'nothing is unsent\n', err: '' });
  });
});

describe('gvfs cache, without a daemon', () => {
  it('says what has unsent writes, and that it is kept for them', async () => {
    await using world = await fakeWorld();
    const { directory } = await leaveUnsent(world);
    const at = ['--cachedir', directory];
    assert.match((await world.gvfs('cache', 'ls', ...at)).out, / {2}\(unsent\)\n$/);
    const { images } = JSON.parse((await world.gvfs('cache', 'ls', '--json', ...at)).out)
      .caches[0] as { images: { open: boolean; unsent: boolean }[] };
    assert.deepEqual(
      images.map(({ open, unsent }) => [open, unsent]),
      [[false, true]],
    );
    const evicted = await world.gvfs('cache', 'evict', '--all', ...at);
    assert.match(evicted.out, / is kept: it has unsent writes, see gvfs recover\n$/);
  });
});

/** Pages 0 to 15 are clean, 20 and 21 dirty, the others absent. */
async function leaveUnsent(world: FakeWorld, how: 'kept' | 'lost' = 'kept') {
  const directory = join(world.directory, 'cache', 'gvfs');
  const io = got(NativeFileIo.open());
  const exported = await openExport(directory, io);
  const bytes = Buffer.alloc(64 * PAGE, 'image');
  const of = content(bytes, 1);
  const image = await openImage(exported, of);
  await fill(image, io, of, 0, 16);
  const as = { uid: 0, gid: 0, groups: [] };
  const sinceMs = Date.now() - 60_000;
  const note = { size: bytes.length, mtimeNs: 1n, mtimeIsExact: true, sinceMs, as };
  assert.equal(await image.noteUnsent({ ...note, conflict: false }, 'durable'), 0);
  const ours = Buffer.alloc(2 * PAGE, 'ours');
  assert.equal((await io.store(image.dataFd, 20 * PAGE, ours, 'trusted')).errno, 0);
  image.map.makeDirty(1, 0b11_0000, 0);
  assert.equal(await image.persistMarks(), 0);
  assert.equal(await image.sync(), 0);
  await image.close(true);
  if (how === 'lost') assert.equal(await exported.setAside(id, 'a test wants it so'), 0);
  const { path: exportPath } = exported;
  await exported.close();
  await io.close();
  return { directory, exportPath, bytes };
}
