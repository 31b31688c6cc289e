import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HandleId } from '../../src/base/brand.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { PaperCache } from './kept-caches.ts';
import { MemoryBacking, MemoryImages } from './memory-images.ts';
import { MemoryServer } from './memory-server.ts';
import {
  alice,
  bob,
  by,
  bytesOf,
  errno,
  gate,
  Mounted,
  name,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  settled,
  value,
} from './mounted.ts';

const O_DIRECT = 0o40000;
const O_TRUNC = 0o1000;
const text = 'the bytes of an image, in some pages of eight';

function cached(options: Partial<VfsOptions> = {}, backing?: MemoryBacking) {
  const server = new MemoryServer();
  server.putFile('/image', text, 0o666, alice);
  const images = new MemoryImages(server);
  const all = { smallFileBytes: 0, ...options };
  const mount = () => new Mounted(all, {}, server, { cache: images, backing });
  return { server, images, mount, mounted: mount() };
}

describe('reads through the cache', () => {
  it('cross the network once, also after a remount', async () => {
    const { server, images, mount, mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), text);
    assert.equal((await mounted.read(handle, 4, 5)).toString(), text.slice(4, 9));
    assert.equal(server.count('read'), 1);
    mounted.fs.release(handle);
    await mounted.fs.close();
    const again = mount();
    const reopened = await again.open('/image', O_RDONLY);
    assert.equal((await again.read(reopened, 0, 100)).toString(), text);
    assert.equal(server.count('read'), 1);
    assert.equal(images.taken, 1);
  });

  it('of present pages are answered in the same turn', async () => {
    const { mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    await mounted.read(handle, 0, 100);
    const outcome = mounted.fs.read(by(alice), handle, 3, 7);
    assert(!(outcome instanceof Promise));
    assert.equal(bytesOf(outcome).toString(), text.slice(3, 10));
  });

  it('see what another client had closed before the open', async () => {
    const { server, images, mounted } = cached();
    const first = await mounted.open('/image', O_RDONLY);
    await mounted.read(first, 0, 100);
    server.putFile('/image', text.toUpperCase());
    const second = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(second, 0, 100)).toString(), text.toUpperCase());
    assert.equal((await mounted.read(first, 0, 100)).toString(), text.toUpperCase());
    assert.equal(images.replaced, 1);
  });

  it('look at the attributes again when these are old, and see a change by others', async () => {
    const { server, mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    await mounted.read(handle, 0, 100);
    server.putFile('/image', 'short');
    assert.equal((await mounted.read(handle, 0, 100)).toString(), text, 'believed for a while');
    mounted.clock.advance(61_000);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'short');
  });

  it('never give a byte of before a change that came while it was on its way', async () => {
    const { server, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    const held = gate();
    server.after = (call) => (call.procedure === 'read' ? held.opened : undefined);
    const slow = mounted.read(handle, 0, 100);
    await settled();
    server.after = () => undefined;
    value(await mounted.write(handle, 0, 'THE'));
    held.open();
    await slow;
    assert.equal((await mounted.read(handle, 0, 9)).toString(), 'THE bytes');
  });

  it('are what was written, though the server lost it before it was durable', async () => {
    const { server, images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    value(await mounted.write(handle, 4, 'BYTES'));
    server.restart();
    images.evict(1);
    assert.equal((await mounted.read(handle, 0, 9)).toString(), 'the BYTES');
    value(await mounted.fsync(handle));
    assert.equal(server.stableBytesOf('/image').toString().slice(0, 9), 'the BYTES');
  });

  it('go to the server where the kept file cannot be opened', async () => {
    const { server, images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    images.evict(1);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), text);
    server.fail = (call) => (call.procedure === 'read' ? 'NFS3ERR_IO' : undefined);
    images.evict(1);
    assert.equal(errno(await mounted.fs.read(by(alice), handle, 0, 10)), 'EIO');
  });

  it('ask in the name of whoever opened the file, and open asks for each caller', async () => {
    const { server, mounted } = cached();
    server.setMode('/image', 0o600);
    const handle = await mounted.open('/image', O_RDONLY);
    await mounted.read(handle, 0, 100);
    const { ino } = await mounted.walk('/image', bob);
    assert.equal(errno(await mounted.fs.open(by(bob), ino, O_RDONLY)), 'EACCES');
  });
});

describe('changes through the cache', () => {
  it('of our own keep what is kept', async () => {
    const { server, images, mount, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    value(await mounted.write(handle, 0, 'THE BYTES OF'));
    assert.equal((await mounted.read(handle, 0, 15)).toString(), 'THE BYTES OF an');
    value(await mounted.fs.setattr(by(alice), (await mounted.walk('/image')).ino, { mode: 0o640 }));
    value(
      await mounted.fs.rename(by(alice), 1 as never, name('image'), 1 as never, name('disk'), 0),
    );
    value(await mounted.fsync(handle));
    mounted.fs.release(handle);
    await settled();
    assert.equal(images.openImages, 0);
    const { ino } = await mounted.walk('/disk');
    value(await mounted.fs.setattr(by(alice), ino, { mode: 0o600, mtime: 'now' }));
    await mounted.fs.close();
    const again = mount();
    const reopened = await again.open('/disk', O_RDONLY);
    assert.equal((await again.read(reopened, 0, 15)).toString(), 'THE BYTES OF an');
    assert.equal(server.count('read'), 1);
    assert.equal(images.replaced + images.setAside, 0);
  });

  it('of a small file that is new to the cache make no image', async () => {
    const { server, images, mounted } = cached({ smallFileBytes: 100 });
    const { handle } = await mounted.create('/new');
    assert.equal((await mounted.read(handle, 0, 100)).length, 0);
    value(await mounted.write(handle, 0, 'small'));
    const existing = await mounted.open('/image', O_RDWR);
    value(await mounted.write(existing, 0, 'THE'));
    assert.equal(images.openImages, 0);
    value(await mounted.write(existing, 200, 'large'));
    assert.equal(images.openImages, 1);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'small');
    assert.equal(images.openImages, 2);
    value(await mounted.write(handle, 0, 'SMALL'));
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'SMALL');
    assert.equal((await mounted.read(existing, 0, 9)).toString(), 'THE bytes');
    assert.equal(server.unreleasedReads, 0);
  });

  it('of what is kept are told, though the file is small', async () => {
    const { images, mounted } = cached({ smallFileBytes: 100 });
    const reader = await mounted.open('/image', O_RDONLY);
    await mounted.read(reader, 0, 100);
    mounted.fs.release(reader);
    await settled();
    const writer = await mounted.open('/image', O_WRONLY);
    value(await mounted.write(writer, 0, 'THE'));
    assert.equal(images.taken, 1);
    mounted.fs.release(writer);
    await settled();
    const again = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(again, 0, 9)).toString(), 'THE bytes');
    assert.equal(images.setAside, 0);
  });

  it('of what is not kept make no image', async () => {
    const { images, mounted } = cached();
    const { ino } = await mounted.walk('/image');
    value(await mounted.fs.setattr(by(alice), ino, { mode: 0o600 }));
    await settled();
    assert.equal(images.settled, 0);
    assert.equal(images.openImages, 0);
  });

  it('that shorten a file leave zeros where it grows again', async () => {
    const { mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    const { ino } = await mounted.walk('/image');
    const resize = (size: number) => mounted.fs.setattr(by(alice), ino, { size }, handle);
    value(await resize(5));
    value(await resize(20));
    const expected = Buffer.concat([Buffer.from(text.slice(0, 5)), Buffer.alloc(15)]);
    assert.deepEqual(await mounted.read(handle, 0, 100), expected);
    const truncated = await mounted.open('/image', O_WRONLY | O_TRUNC);
    value(await mounted.write(truncated, 2, 'x'));
    assert.deepEqual(await mounted.read(handle, 0, 100), Buffer.from('\0\0x'));
  });

  it('that fail leave nothing that is believed', async () => {
    const { server, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    server.fail = (call) => (call.procedure === 'write' ? 'NFS3ERR_NOSPC' : undefined);
    assert.equal(errno(await mounted.write(handle, 0, 'THE')), 'ENOSPC');
    server.fail = () => undefined;
    const reads = server.count('read');
    assert.equal((await mounted.read(handle, 0, 100)).toString(), text);
    assert.equal(server.count('read'), reads + 1);
  });

  it('are settled at the last close, and at quiet', async () => {
    const { images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    value(await mounted.write(handle, 0, 'THE'));
    value(await mounted.fsync(handle));
    await settled();
    assert.equal(images.settled, 0);
    mounted.clock.advance(6_000);
    await settled();
    assert.equal(images.settled, 1);
    value(await mounted.write(handle, 4, 'BYTES'));
    mounted.fs.release(handle);
    await settled();
    assert.equal(images.settled, 2, 'after it was committed');
    assert.equal(images.openImages, 0);
  });

  it('are not settled while the server may lose them', async () => {
    const { images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    value(await mounted.write(handle, 0, 'THE'));
    mounted.clock.advance(6_000);
    await settled();
    assert.equal(images.settled, 0);
    value(await mounted.fsync(handle));
    mounted.clock.advance(6_000);
    await settled();
    assert.equal(images.settled, 1);
  });

  it('by another client that come with ours are seen by their wcc', async () => {
    const { server, images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    server.putFile('/image', text.toUpperCase());
    value(await mounted.write(handle, 0, 'the'));
    assert.equal((await mounted.read(handle, 0, 9)).toString(), 'the BYTES');
    assert.equal(images.replaced, 1);
  });

  it('by others that the server took for ours are asked for: an answer without attributes', async () => {
    const { server, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    server.omitWcc = true;
    value(await mounted.write(handle, 0, 'THE'));
    server.putFile('/image', text.toUpperCase());
    const again = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(again, 0, 100)).toString(), text.toUpperCase());
  });
});

describe('an image', () => {
  it('that cannot be opened fails its reader, and is tried again', async () => {
    const { images, mounted } = cached();
    const open = images.open.bind(images);
    images.open = () => Promise.reject(new Error('no such luck'));
    const handle = await mounted.open('/image', O_RDONLY);
    await assert.rejects(mounted.read(handle, 0, 100), /no such luck/);
    images.open = open;
    const again = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(again, 0, 100)).toString(), text);
  });

  it('is not opened once the session has ended', async () => {
    const { server, images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    value(await mounted.fs.rename(by(alice), ROOT_INO, name('image'), ROOT_INO, name('other'), 0));
    const asked = gate();
    server.after = () => asked.opened;
    const reading = mounted.fs.read(by(alice), handle, 0, 10);
    await settled();
    await mounted.fs.close();
    asked.open();
    bytesOf(await reading);
    await settled();
    assert.equal(images.openImages, 0);
  });

  it('is settled and closed though the server goes away meanwhile', async () => {
    const { server, images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.read(handle, 0, 100);
    value(await mounted.fs.rename(by(alice), ROOT_INO, name('image'), ROOT_INO, name('other'), 0));
    const never = gate();
    server.after = () => never.opened;
    const closing = mounted.fs.close();
    await settled();
    mounted.fs.serverState('away');
    await closing;
    assert.equal(images.openImages, 0);
  });
});

describe('passthrough', () => {
  const readOnly = { readOnly: true };

  async function complete(options: Partial<VfsOptions> = readOnly) {
    const backing = new MemoryBacking();
    const all = cached(options, backing);
    const handle = await all.mounted.open('/image', O_RDONLY);
    await all.mounted.read(handle, 0, 100);
    const { ino } = await all.mounted.walk('/image');
    const open = async (flags = O_RDONLY) =>
      value(await all.mounted.fs.open(by(alice), ino, flags));
    return { ...all, backing, handle, ino, open };
  }

  it('is chosen when the image is complete and nobody has it open, with one id for all', async () => {
    const { mounted, backing, handle, open } = await complete();
    const mixed = await open();
    assert.equal(mixed.backingId, undefined, 'a cached-mode open is there');
    mounted.fs.release(handle);
    const still = await open();
    assert.equal(still.backingId, undefined);
    const [line] = mounted.fs.openFiles();
    assert.deepEqual([line?.servedBy, line?.why], ['daemon', 'not complete in the cache']);
    mounted.fs.release(mixed.handle);
    mounted.fs.release(still.handle);
    const opened = [await open(), await open(), await open(O_DIRECT)];
    for (const { backingId } of opened) assert.equal(backingId, 1, 'mixing ways would be EIO');
    assert.deepEqual(
      mounted.fs.openFiles().map(({ servedBy, why, readers }) => [servedBy, why, readers]),
      [['passthrough', undefined, 3]],
    );
    assert.equal(mounted.fs.figures().passthroughImages, 1);
    for (const [i, each] of opened.entries()) {
      assert.equal(backing.ids.size, 1, `before release ${i}`);
      mounted.fs.release(each.handle);
    }
    assert.equal(backing.ids.size, 0);
  });

  it('is not for those who could write, for O_DIRECT, nor where the kernel refuses', async () => {
    for (const [options, flags, why] of [
      [{}, O_RDONLY, 'it can be written here'],
      [readOnly, O_DIRECT, 'opened with O_DIRECT'],
      [readOnly, O_RDONLY, 'the kernel refuses it'],
    ] as const) {
      const { mounted, backing, handle, open } = await complete(options);
      mounted.fs.release(handle);
      await settled();
      backing.refuses = why === 'the kernel refuses it';
      assert.equal((await open(flags)).backingId, undefined);
      assert.equal(mounted.fs.openFiles()[0]?.why, why);
    }
  });

  it('keeps the old file for its readers when the server has another', async () => {
    const { server, mounted, backing, handle, ino, open } = await complete();
    mounted.fs.release(handle);
    await settled();
    const old = await open();
    assert.equal(old.backingId, 1);
    server.putFile('/image', 'another file');
    // An open of what the kernel knows is sent back once, and the name leads to another inode.
    assert.equal(errno(await mounted.fs.open(by(alice), ino, O_RDONLY)), 'ESTALE');
    const found = await mounted.walk('/image');
    assert.notEqual(found.ino, ino);
    assert.equal(found.attributes.size, 12);
    const opened = value(await mounted.fs.open(by(alice), found.ino, O_RDONLY));
    assert.equal(opened.backingId, undefined);
    assert.equal((await mounted.read(opened.handle, 0, 100)).toString(), 'another file');
    assert.equal(await mounted.size(ino), text.length, 'the old one stays what it was');
    assert.equal(backing.ids.size, 1);
    mounted.fs.release(old.handle);
    assert.equal(backing.ids.size, 0);
    mounted.fs.release(opened.handle);
    await settled();
    const again = value(await mounted.fs.open(by(alice), found.ino, O_RDONLY));
    assert.equal(again.backingId, 2);
  });

  it('keeps the old file on the disk, too, and caches the new one beside it', async () => {
    const server = new MemoryServer();
    const [before, after] = [Buffer.alloc(200_000, 'old'), Buffer.alloc(150_000, 'new')];
    server.putFile('/image', before);
    const kept = new PaperCache(server, () => 0);
    await kept.next();
    const backing = new MemoryBacking();
    const parts = { cache: kept.cache, backing };
    const mounted = new Mounted({ session: 'readonly' }, {}, server, parts);
    const { fs } = mounted;
    const all = async (handle: HandleId) =>
      kept.taken(value(await fs.read(by(alice), handle, 0, 1_000_000)));
    const first = await mounted.open('/image', O_RDONLY);
    assert.deepEqual(await all(first), before);
    await settled();
    fs.release(first);
    await settled();
    const { ino } = await mounted.walk('/image');
    const old = value(await fs.open(by(alice), ino, O_RDONLY));
    assert.equal(fs.openFiles()[0]?.why, undefined);
    const fd = backing.ids.get(old.backingId ?? 0) ?? 0;

    // A readonly session does not ask; it is told by an answer about something else.
    server.putFile('/image', after);
    const directory = value(await fs.opendir(by(alice), ROOT_INO));
    await mounted.list(directory, true);
    const fresh = await mounted.open('/image', O_RDONLY);
    assert.deepEqual(await all(fresh), after);
    await settled();
    const reads = server.count('read');
    assert.deepEqual(await all(fresh), after);
    assert.equal(server.count('read'), reads);
    assert.deepEqual(await kept.fileBytes(fd, before.length), before);
    fs.release(old.handle);
    assert.equal(backing.ids.size, 0);
    fs.release(fresh);
    await fs.close();
    await kept.end();
  });

  it('lets the local file go when the session ends before its last close', async () => {
    const { mounted, backing, handle, open } = await complete();
    mounted.fs.release(handle);
    await settled();
    assert.notEqual((await open()).backingId, undefined);
    await mounted.fs.close();
    assert.equal(backing.ids.size, 0);
  });

  it('of an old file goes on for who opens it by an open descriptor', async () => {
    const { server, mounted, handle, ino, open } = await complete();
    mounted.fs.release(handle);
    await settled();
    const old = await open();
    server.putFile('/image', 'another file');
    assert.equal(errno(await mounted.fs.open(by(alice), ino, O_RDONLY)), 'ESTALE');
    // No lookup in between: /proc/self/fd leads to the inode itself.
    const again = value(await mounted.fs.open(by(alice), ino, O_RDONLY));
    assert.equal(again.backingId, old.backingId);
  });

  it('never leads a name to an old file, whoever saw the change', async () => {
    for (const see of ['lookup', 'getattr', 'list'] as const) {
      const { server, mounted, handle, ino, open } = await complete();
      mounted.fs.release(handle);
      await settled();
      await open();
      server.putFile('/image', 'another file');
      mounted.clock.advance(61_000);
      if (see === 'getattr') await mounted.fs.getattr(by(alice), ino);
      if (see === 'list') {
        const directory = value(await mounted.fs.opendir(by(alice), 1 as never));
        const { inos } = await mounted.list(directory, true);
        assert(!inos.includes(ino));
      }
      const found = await mounted.walk('/image');
      assert.notEqual(found.ino, ino, see);
      assert.equal(found.attributes.size, 12);
    }
  });
});

describe('the daemon', () => {
  it('finds files by path, and opens their images', async () => {
    const { server, images, mounted } = cached();
    server.putDirectory('/deep');
    server.putFile('/deep/disk', text);
    const { fs } = mounted;
    const found = value(await fs.locate(alice, [name('deep'), name('disk')]));
    assert.equal(found.attributes.size, text.length);
    const result = await fs.withImage(alice, found.ino, async (image) => {
      assert.equal(images.openImages, 1);
      return typeof image.hold();
    });
    assert.equal(value(result), 'object');
    await settled();
    assert.equal(images.openImages, 0);
    assert.equal(errno(await fs.locate(alice, [name('deep'), name('no')])), 'ENOENT');
    assert.equal(errno(await fs.locate(alice, [name('..')])), 'EINVAL');
    const directory = value(await fs.locate(alice, [name('deep')]));
    const run = async () => undefined;
    assert.equal(errno(await fs.withImage(alice, directory.ino, run)), 'EISDIR');
    server.setMode('/deep/disk', 0o600);
    mounted.clock.advance(61_000);
    assert.equal(errno(await fs.withImage(bob, found.ino, run)), 'EACCES');
  });

  it('sees what is open', async () => {
    const { server, mounted } = cached();
    server.putDirectory('/deep');
    server.putFile('/deep/disk', text);
    await mounted.open('/deep/disk', O_RDWR);
    await mounted.open('/deep/disk', O_RDONLY);
    const [line] = mounted.fs.openFiles();
    assert.equal(line?.path, 'deep/disk');
    assert.equal(mounted.fs.pathOf(line.ino), 'deep/disk');
    assert.equal(mounted.fs.pathOf(4711 as never), undefined);
    assert.equal(line.sizeBytes, text.length);
    assert.deepEqual([line.readers, line.writers], [1, 1]);
    assert.equal(line.why, 'it can be written here');
    const plain = new Mounted({}, {}, server);
    await plain.open('/image', O_RDONLY);
    assert.equal(plain.fs.openFiles()[0]?.servedBy, 'server');
  });

  it('makes no image of a directory, though it is opened as a file', async () => {
    const { images, mounted } = cached();
    value(await mounted.fs.getattr(by(alice), ROOT_INO));
    const { handle } = value(await mounted.fs.open(by(alice), ROOT_INO, O_RDONLY));
    await mounted.fs.read(by(alice), handle, 0, 4096);
    mounted.fs.release(handle);
    await settled();
    assert.equal(images.taken + images.setAside + images.openImages, 0);
    assert.equal(await images.isKept(mounted.server.root), false);
  });

  it('does not show the root, which only a rehearsal opens as a file', async () => {
    const { mounted } = cached();
    value(await mounted.fs.getattr(by(alice), ROOT_INO));
    value(await mounted.fs.open(by(alice), ROOT_INO, O_RDONLY));
    assert.deepEqual(mounted.fs.openFiles(), []);
  });
});

describe('doubt about a file that was written here, and is closed', () => {
  for (const [which, ofAll] of [
    ['that file', false],
    ['everything', true],
  ] as const) {
    for (const isForgotten of [false, true]) {
      const state = isForgotten ? 'closed and forgotten' : 'closed';
      it(`in ${which} drops what is kept of it, ${state}`, async () => {
        const { server, mounted } = cached();
        const handle = await mounted.open('/image', O_RDWR);
        await mounted.read(handle, 0, 100);
        value(await mounted.write(handle, 0, 'THE'));
        value(await mounted.fsync(handle));
        mounted.fs.release(handle);
        await settled();
        // Another's write that overlapped ours: it has passed for ours.
        const theirs = Buffer.from(`THE ${text.slice(4).toUpperCase()}`);
        Object.assign(server.nodeAt('/image'), { bytes: theirs, stable: theirs });
        const { ino } = await mounted.walk('/image');
        if (isForgotten) mounted.fs.forget(ino, 2);
        const now = await mounted.walk('/image');
        mounted.fs.doubt(ofAll ? undefined : now.ino);
        mounted.fs.forget(now.ino, isForgotten ? 1 : 3);
        const again = await mounted.open('/image', O_RDONLY);
        assert.equal((await mounted.read(again, 0, 100)).toString(), theirs.toString());
      });
    }
  }

  it('leaves what is kept of what was only read', async () => {
    const { images, mounted } = cached();
    const handle = await mounted.open('/image', O_RDONLY);
    await mounted.read(handle, 0, 100);
    mounted.fs.release(handle);
    await settled();
    mounted.fs.doubt();
    const { fetchedBytes } = images;
    const again = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(again, 0, 100)).toString(), text);
    assert.equal(images.fetchedBytes, fetchedBytes);
  });
});
