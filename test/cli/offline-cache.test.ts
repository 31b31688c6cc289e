/**
 * `gvfs cache` where no daemon runs: a cache as one left it, on the disk.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileIdOf } from '../../src/cache/file-id.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import { content, fill, got, imageFile, openExport, openImage } from '../cache/image-worlds.ts';
import { type FakeWorld, fakeWorld } from './fake-shell.ts';

const noMount = '22 1 254:0 / / rw - ext4 /dev/vda1 rw\n';
const PAGE = 4096;

describe('gvfs cache without a daemon', () => {
  it('ls and du of a directory that is named', async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    const listed = await world.gvfs('cache', 'ls', '--cachedir', directory);
    assert.match(listed.out, /^server:2049:\/export, no daemon\n {2}cached/);
    assert.match(listed.out, /\n {4}25 % {2}256 KiB {2,}[\d.]+ KiB {2}20\d\d-.* images\/a.img\n$/);
    assert.deepEqual([listed.status, listed.err], [0, '']);
    const used = await world.gvfs('cache', 'du', '--json', '--cachedir', directory);
    const { caches } = JSON.parse(used.out) as {
      caches: { cache: { allocatedBytes: number }; images: { allocatedBytes: number }[] }[];
    };
    const [image] = caches[0]?.images ?? [];
    assert.ok((image?.allocatedBytes ?? 0) >= 16 * PAGE);
    assert.ok((caches[0]?.cache.allocatedBytes ?? 0) >= (image?.allocatedBytes ?? 0));
  });

  it('takes the default directory when nothing is named, and finds nothing where none is', async () => {
    await using world = await fakeWorld(noMount);
    await world.die();
    const none = await world.gvfs('cache', 'ls');
    assert.deepEqual([none.out, none.err, none.status], ['no cache of yours here\n', '', 0]);
    await leaveCache(world);
    assert.match((await world.gvfs('cache', 'ls')).out, /images\/a.img/);
    const wrong = await world.gvfs('cache', 'ls', '--cachedir', '/proc/none');
    assert.match(wrong.err, /^gvfs: no cache in \/proc\/none: name a directory/);
    assert.equal(wrong.status, 32);
  });

  it('chooses images by their path in the export, or their id', async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    for (const name of ['images/a.img', '/images/a.img', fileIdOf(imageFile)]) {
      const ran = await world.gvfs('cache', 'ls', '--cachedir', directory, name);
      assert.match(ran.out, /images\/a.img/, name);
    }
    const none = await world.gvfs('cache', 'ls', '--cachedir', directory, 'a.img');
    assert.match(none.err, /there is no image a.img in .*: gvfs cache ls names them\n$/);
    assert.deepEqual([none.out, none.status], ['', 32]);
  });

  it('verify finds what is damaged, once', async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    const good = await world.gvfs('cache', 'verify', '--cachedir', directory);
    assert.match(good.out, /: 1 image, 64.0 KiB checked, nothing damaged\n$/);
    assert.equal(good.status, 0);
    damage(join(await exportOf(world, directory), fileIdOf(imageFile), 'data'));
    const bad = await world.gvfs('cache', 'verify', '--cachedir', directory);
    assert.match(bad.out, /64.0 KiB damaged\n {2}images\/a.img: 64.0 KiB dropped\n$/);
    assert.equal(bad.status, 5);
    assert.equal((await world.gvfs('cache', 'verify', '--cachedir', directory)).status, 0);
  });

  it('evict makes room', async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    const refused = await world.gvfs('cache', 'evict', '--cachedir', directory);
    assert.equal(refused.status, 1);
    const ran = await world.gvfs('cache', 'evict', '--all', '--cachedir', directory);
    assert.match(ran.out, /: 1 image evicted, [\d.]+ KiB freed\n$/);
    assert.match((await world.gvfs('cache', 'ls')).out, /no images\n$/);
  });

  it('of a mount whose daemon was killed, by paths in the mount', async () => {
    await using world = await fakeWorld(
      `${noMount}41 22 0:50 / /mnt/vm rw - fuse.gvfs server:/export rw\n`,
    );
    await leaveCache(world);
    await world.die();
    const ran = await world.gvfs('cache', 'ls', '/mnt/vm/images/a.img');
    assert.match(ran.out, /^server:2049:\/export, no daemon\n.*\n.*a.img\n$/);
    assert.equal(ran.status, 0);
    const pinned = await world.gvfs('cache', 'pin', '/mnt/vm/images/a.img');
    assert.deepEqual([pinned.out, pinned.status], ['/mnt/vm/images/a.img: pinned\n', 0]);
    assert.match((await world.gvfs('cache', 'ls', '/mnt/vm')).out, /a.img {2}\(pinned\)\n$/);
    const none = await world.gvfs('cache', 'pin', '/mnt/vm/images/none.img');
    assert.match(none.err, /there is no such image: gvfs cache ls names them\n$/);
    assert.equal(none.status, 32);
  });

  it('pins of what is gone at the server are taken back, or go with it', async () => {
    await using world = await fakeWorld(noMount);
    await world.die();
    const directory = await leaveCache(world);
    const id = fileIdOf(imageFile);
    const at = ['--cachedir', directory];
    assert.equal((await world.gvfs('cache', 'pin', ...at, 'images/a.img')).status, 0);
    const kept = await world.gvfs('cache', 'evict', ...at, 'images/a.img');
    assert.match(kept.out, /a.img is kept: it is pinned\n$/);
    assert.equal(kept.status, 5);
    // By its id, with the default directory.
    assert.equal((await world.gvfs('cache', 'unpin', id)).out, `${id}: not pinned\n`);
    assert.doesNotMatch((await world.gvfs('cache', 'ls', ...at)).out, /pinned/);
    assert.equal((await world.gvfs('cache', 'verify', ...at)).status, 0);
    assert.equal((await world.gvfs('cache', 'pin', ...at, id)).status, 0);
    const forced = await world.gvfs('cache', 'evict', '--force', ...at, id);
    assert.match(forced.out, /1 image evicted/);
    assert.match((await world.gvfs('cache', 'ls')).out, /no images\n$/);
    assert.equal((await world.gvfs('cache', 'unpin', ...at, id)).status, 32);
  });

  it("says what is wrong with a directory that is open to others, or another user's", async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    chmodSync(directory, 0o755);
    for (const args of [['--cachedir', directory], []]) {
      const open = await world.gvfs('cache', 'ls', ...args);
      assert.match(
        open.err,
        /^gvfs: the cache is refused, .* is open to others .*: chmod 700 \/.*\n$/,
      );
      assert.ok(open.err.endsWith(`chmod 700 ${directory}\n`), open.err);
      assert.equal(open.status, 32);
    }
    chmodSync(directory, 0o700);
    chownSync(directory, 65_534, 65_534);
    const other = await world.gvfs('cache', 'ls', '--cachedir', directory);
    assert.match(other.err, /^gvfs: .* is another user's cache \(.*: run gvfs as that user/);
    assert.equal(other.status, 32);
  });

  it('verify of an image whose info is damaged says so, once', async () => {
    await using world = await fakeWorld(noMount);
    const directory = await leaveCache(world);
    const id = fileIdOf(imageFile);
    writeFileSync(join(await exportOf(world, directory), id, 'info'), 'none');
    const bad = await world.gvfs('cache', 'verify', '--cachedir', directory);
    assert.match(
      bad.out,
      /1 image, 0 B checked, 1 image unbelievable\n.*: all of it dropped, .*\n$/,
    );
    assert.equal(bad.status, 5);
  });

  it('asks the daemon for what that has', async () => {
    await using world = await fakeWorld(noMount);
    const io = got(NativeFileIo.open());
    const directory = join(world.directory, 'cache', 'gvfs');
    const held = await openExport(directory, io, { socket: world.socket, mountpoint: '/mnt/vm' });
    try {
      const ran = await world.gvfs('cache', 'ls', '--cachedir', directory);
      assert.match(ran.out, /^server:2049:\/export on \/mnt\/vm\n.*\n.*vm\/disk.img/);
      assert.equal(ran.status, 0);
      await world.die();
      const dead = await world.gvfs('cache', 'ls', '--cachedir', directory);
      assert.match(dead.err, /^gvfs: .*: ask whoever has it, or try again\n$/);
      assert.equal(dead.status, 32);
    } finally {
      await held.close();
      await io.close();
    }
  });
});

/** An export's cache with an image of 64 pages, of which the first 16 are present. */
async function leaveCache(world: FakeWorld): Promise<string> {
  const directory = join(world.directory, 'cache', 'gvfs');
  const io = got(NativeFileIo.open());
  const exported = await openExport(directory, io);
  const bytes = Buffer.alloc(64 * PAGE, 'image');
  const of = content(bytes, 1);
  const image = await openImage(exported, of);
  await fill(image, io, of, 0, 16);
  await image.persistMarks();
  await image.sync();
  await image.close(true);
  await exported.close();
  await io.close();
  return directory;
}

async function exportOf(world: FakeWorld, directory: string): Promise<string> {
  const { out } = await world.gvfs('cache', 'du', '--json', '--cachedir', directory);
  const { caches } = JSON.parse(out) as { caches: { cache: { directory: string } }[] };
  return caches[0]?.cache.directory ?? '';
}

function damage(path: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, 'X', 1234);
  closeSync(fd);
}
