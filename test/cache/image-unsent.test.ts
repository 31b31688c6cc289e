/** Unsent writes in the files of an image: what is kept of them, whatever happens. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import type { ExportDirectory } from '../../src/cache/export-directory.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import type { ImageDirectory } from '../../src/cache/image-directory.ts';
import type { UnsentNote } from '../../src/cache/info-file.ts';
import {
  decodeRecord,
  encodeRecord,
  MAP_HEADER_BYTES,
  RECORD_BYTES,
} from '../../src/cache/map-file.ts';
import {
  assertTrue,
  type Content,
  content,
  fill,
  nextBoot,
  openExport,
  openImage,
  thisBoot,
} from './image-worlds.ts';
import { PaperDisk } from './paper-disk.ts';

const { EBUSY, EINVAL } = constants.errno;
const PAGES = 70;
const SIZE = PAGES * PAGE_BYTES - 1000;
const served = content(Buffer.alloc(SIZE, 1), 1);
const changed = content(Buffer.alloc(SIZE, 9), 2);
const note: UnsentNote = {
  size: SIZE,
  mtimeNs: 1_800_000_000_000_000_000n,
  mtimeIsExact: false,
  sinceMs: 1_700_000_000_000,
  as: { uid: 7, gid: 8, groups: [9] },
  conflict: false,
};

/** An image, and what our programs see of it. */
class World {
  disk = new PaperDisk();
  exportDirectory!: ExportDirectory;
  image!: ImageDirectory;
  bytes = Buffer.from(served.bytes);
}

describe('unsent writes of an image', () => {
  let world: World;
  beforeEach(async () => {
    world = new World();
    const { disk } = world;
    world.exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    world.image = await openImage(world.exportDirectory, served);
    await fill(world.image, disk.io, served, 0, 40);
  });

  /** As an acknowledged write does; answers its pages. */
  async function write(offset: number, bytes: Buffer): Promise<void> {
    const { image, disk } = world;
    assert.equal(image.unsent === undefined ? await image.noteUnsent(note, 'light') : 0, 0);
    const end = offset + bytes.length;
    // Of a page that is written in part the rest is fetched.
    for (const at of [offset, end]) {
      const page = Math.floor(at / PAGE_BYTES);
      if (at % PAGE_BYTES !== 0 && page < PAGES) await fill(image, disk.io, served, page, page + 1);
    }
    assert.equal(await image.grow(end), 0);
    const first = Math.floor(offset / BLOCK_BYTES);
    const count = Math.ceil(end / BLOCK_BYTES) - first;
    const compare = Uint16Array.from({ length: count }, (_, i) => image.map.cleanMask(first + i));
    const done = await disk.io.overwrite(image.dataFd, offset, bytes, compare);
    assert.equal(done.errno, 0);
    for (const [i, pages] of done.changed.entries()) {
      if (pages !== 0) image.map.makeDirty(first + i, pages, done.oldSums[i] ?? 0);
    }
    assert.equal(await image.persistMarks(), 0);
    const grown = Buffer.alloc(Math.max(world.bytes.length, end));
    world.bytes.copy(grown);
    bytes.copy(grown, offset);
    world.bytes = grown;
  }

  /** The server has all of the dirty pages. */
  async function settlePages(): Promise<void> {
    const { image, disk } = world;
    for (let block = 0; block < image.map.blockCount; block += 1) {
      const dirty = image.map.dirtyMask(block);
      if (dirty === 0) continue;
      const { sums } = await disk.io.sums(image.dataFd, block, Uint16Array.of(dirty));
      image.map.makeClean(block, dirty, sums[0] ?? 0);
    }
  }

  /** The next daemon on what is left. */
  async function next(how: 'kill' | 'power', one: Content, chance: () => number = () => 0.999) {
    const left = how === 'kill' ? world.disk.afterKill() : world.disk.afterPowerCut(chance);
    const bootId = how === 'kill' ? thisBoot : nextBoot;
    world.disk = left;
    world.exportDirectory = await openExport('/cache', left.io, { paths: left.paths, bootId });
    world.image = await openImage(world.exportDirectory, one);
    return world.image;
  }

  const now = (): Content => ({ bytes: world.bytes, attributes: served.attributes });

  it('survive a kill when they are acknowledged, with the clean pages beside them', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(2 * PAGE_BYTES, 2));
    await write(5 * PAGE_BYTES + 7, Buffer.alloc(20, 3));
    await write(60 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 4));
    await write(7 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 1));
    const image = await next('kill', served);
    assert.deepEqual([image.found, image.why], ['kept', undefined]);
    assert.deepEqual(image.takenUp, { unsettled: false, changed: false });
    assert.deepEqual(image.map.dirtyRuns(0, PAGES), [
      { start: 3, end: 6 },
      { start: 60, end: 61 },
    ]);
    assert.equal(image.map.presentPages, 41);
    assert.deepEqual([image.unsent?.as, image.unsent?.sinceMs], [note.as, note.sinceMs]);
    await assertTrue(image, world.disk.io, now());
    const [recovered, ...more] = await world.exportDirectory.recovered();
    assert.equal(more.length, 0);
    assert.deepEqual(recovered, {
      file: image.file,
      fsid: 7n,
      fileid: 42n,
      path: 'images/a.img',
      as: note.as,
      unsent: {
        bytes: 4 * PAGE_BYTES,
        size: SIZE,
        mtimeNs: note.mtimeNs,
        state: 'dirty',
        sinceMs: note.sinceMs,
      },
    });
  });

  it('C3: survive a power loss when they are synced, whatever else arrived', async () => {
    let seed = 1;
    const chance = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    const before = world;
    await write(3 * PAGE_BYTES, Buffer.alloc(2 * PAGE_BYTES, 2));
    await write(SIZE, Buffer.alloc(3 * PAGE_BYTES, 5));
    assert.equal(await world.image.sync(), 0);
    const synced = Buffer.from(world.bytes);
    await write(10 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 6));
    await write(synced.length, Buffer.alloc(40 * PAGE_BYTES, 6));
    const { disk } = before;
    for (let cut = 0; cut < 40; cut += 1) {
      world.disk = disk;
      const image = await next('power', served, chance);
      assert.equal(image.found, 'kept', image.why);
      assert.equal(image.map.sizeBytes, synced.length);
      assert.deepEqual(image.map.dirtyRuns(0, image.map.pageCount), [
        { start: 3, end: 5 },
        { start: 69, end: 73 },
      ]);
      const found = Buffer.alloc(4 * PAGE_BYTES);
      const { got: length } = await world.disk.io.read(image.dataFd, 69 * PAGE_BYTES, found);
      assert.ok(found.subarray(0, length).equals(synced.subarray(69 * PAGE_BYTES)));
    }
  });

  it('are kept when the clean pages are not to be believed, and it is said why', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    const { disk } = world;
    const other = await next('kill', changed);
    assert.deepEqual(other.takenUp, { unsettled: false, changed: true });
    assert.deepEqual(other.map.presentRuns(0, PAGES), [{ start: 3, end: 4 }]);
    assert.equal(other.holes, 'punch');
    assert.equal(other.stamp.mtimeNs, served.attributes.mtimeNs);
    for (const mark of ['markSending', 'markWriting'] as const) {
      world.disk = disk.afterKill();
      const { io, paths } = world.disk;
      world.exportDirectory = await openExport('/cache', io, { paths });
      world.image = await openImage(world.exportDirectory, served);
      assert.equal(await world.image[mark](), 0);
      const image = await next('kill', served);
      assert.deepEqual(image.takenUp, { unsettled: true, changed: false });
      assert.deepEqual(image.map.presentRuns(0, PAGES), [{ start: 3, end: 4 }]);
      // It is not believed later on either.
      assert.equal(await image.settle(served.attributes), 0);
      const last = await next('kill', served);
      assert.deepEqual(last.map.presentRuns(0, PAGES), [{ start: 3, end: 4 }]);
    }
  });

  it('W11: are forgotten only when no map tells of them any more', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(2 * PAGE_BYTES, 2));
    assert.equal(await world.image.sync(), 0);
    assert.equal(await world.image.noteUnsent(undefined, 'durable'), EBUSY);
    assert.equal(await world.image.markSending(), 0);
    await settlePages();
    const sent = content(world.bytes, 5);
    assert.equal(await world.image.settle(sent.attributes), 0);
    assert.equal(await world.image.noteUnsent(undefined, 'durable'), 0);
    assert.deepEqual(await world.exportDirectory.recovered(), []);
    const image = await next('power', sent, () => 0);
    assert.deepEqual([image.found, image.unsent, image.map.dirtyPages], ['kept', undefined, 0]);
    assert.equal(image.map.presentPages, 40);
    await assertTrue(image, world.disk.io, sent);
  });

  it('a rewrite of what is synced costs one fdatasync, and callers share it', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(2 * PAGE_BYTES, 2));
    assert.equal(await world.image.sync(), 0);
    await write(4 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 7));
    const before = world.disk.effects;
    assert.equal(await world.image.sync(), 0);
    assert.equal(world.disk.effects - before, 1);
    assert.equal(await world.image.sync(), 0);
    assert.equal(world.disk.effects - before, 1);
    await write(4 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 8));
    const running = world.disk.effects;
    const all = await Promise.all(Array.from({ length: 8 }, () => world.image.sync()));
    assert.ok(all.every((errno) => errno === 0));
    assert.equal(world.disk.effects - running, 1);
    const image = await next('power', served, () => 0.999);
    const found = Buffer.alloc(PAGE_BYTES);
    await world.disk.io.read(image.dataFd, 4 * PAGE_BYTES, found);
    assert.ok(found.equals(Buffer.alloc(PAGE_BYTES, 8)));
  });

  it('C4: stay when clean pages around them are cleared, punched, and synced again', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    assert.equal(await world.image.sync(), 0);
    await write(5 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 3));
    const { image } = world;
    // A sync that has noted the old records, while the blocks lose theirs.
    const [synced, cleared] = await Promise.all([image.sync(), image.clearDurably(0, 32)]);
    assert.deepEqual([synced, cleared], [0, 0]);
    assert.equal(await image.discard(0, 32), 0);
    assert.deepEqual(image.map.presentRuns(0, 40), [
      { start: 3, end: 4 },
      { start: 5, end: 6 },
      { start: 32, end: 40 },
    ]);
    await assertTrue(image, world.disk.io, now());
    const after = await next('power', served, () => 0.999);
    assert.equal(after.map.countDirty(3, 4), 1);
    await assertTrue(after, world.disk.io, now());
  });

  it('C1: what is dropped does not come back, after a power loss neither', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(3 * PAGE_BYTES, 2));
    assert.equal(await world.image.sync(), 0);
    assert.equal(await world.image.dropDirtyDurably(4, 5), 0);
    assert.equal(await world.image.discard(4, 5), 0);
    const image = await next('power', served, () => 0);
    assert.deepEqual(image.map.dirtyRuns(0, PAGES), [
      { start: 3, end: 4 },
      { start: 5, end: 6 },
    ]);
    await assertTrue(image, world.disk.io, now());
  });

  it('C1: what is dropped beside a sync that has noted it does not come back', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    await write(20 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 3));
    const { image } = world;
    const { effects } = world.disk;
    const syncing = image.sync();
    while (world.disk.effects === effects) await Promise.resolve();
    assert.equal(await image.dropDirtyDurably(20, 21), 0);
    assert.equal(await syncing, 0);
    assert.equal(await image.discard(20, 21), 0);
    const after = await next('power', served, () => 0);
    assert.deepEqual(after.map.dirtyRuns(0, PAGES), [{ start: 3, end: 4 }]);
  });

  it('W11: a power loss does not bring back what was forgotten, synced or not', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    assert.equal(await world.image.sync(), 0);
    await settlePages();
    assert.equal(await world.image.noteUnsent(undefined, 'durable'), 0);
    const image = await next('power', served, () => 0);
    assert.deepEqual([image.found, image.map.dirtyPages], ['kept', 0]);
    assert.deepEqual(await world.exportDirectory.lost(), []);
  });

  it('C11: what is cut off does not come back, and what is left stays', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    await write(20 * PAGE_BYTES, Buffer.alloc(3 * PAGE_BYTES, 3));
    await write(SIZE, Buffer.alloc(400 * BLOCK_BYTES, 4));
    assert.equal(await world.image.sync(), 0);
    const cut = 21 * PAGE_BYTES + 10;
    assert.equal(await world.image.resize(cut), 0);
    const { disk } = world;
    for (const how of ['kill', 'power'] as const) {
      world.disk = disk;
      const image = await next(how, served, () => 0);
      assert.equal(image.found, 'kept', image.why);
      assert.equal(image.map.sizeBytes, cut);
      assert.deepEqual(image.map.dirtyRuns(0, PAGES), [
        { start: 3, end: 4 },
        { start: 20, end: 22 },
      ]);
      assert.equal((await world.disk.io.size(image.dataFd)).sizeBytes, cut);
      world.bytes = world.bytes.subarray(0, cut);
      await assertTrue(image, world.disk.io, now());
      assert.equal(await image.resize(cut + 5 * PAGE_BYTES), 0);
    }
  });

  it('a longer image than the server has is kept so, and settled beside it', async () => {
    await write(SIZE, Buffer.alloc(10_000, 4));
    assert.equal(await world.image.settle(served.attributes), 0);
    const longer = content(Buffer.alloc(SIZE + 10_001), 1);
    assert.equal(await world.image.settle(longer.attributes), EINVAL);
    const image = await next('kill', served);
    assert.equal(image.map.sizeBytes, SIZE + 10_000);
    await assertTrue(image, world.disk.io, now());
    assert.equal(image.map.dirtyBytes(), 10_000 + SIZE - 69 * PAGE_BYTES);
  });

  it('C4: closed or open, an image that has them is put aside and never removed', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    const { image, exportDirectory, disk } = world;
    const { fileId } = image;
    await image.close(true);
    assert.equal(await exportDirectory.drop(fileId), EBUSY);
    world.image = await openImage(exportDirectory, served);
    assert.equal(world.image.map.dirtyPages, 1);
    assert.equal(await world.image.drop(), 0);
    await world.image.close(true);
    await exportDirectory.sweepGone();
    const [lost, ...more] = await exportDirectory.lost();
    assert.equal(more.length, 0);
    assert.match(lost?.why ?? '', /dropped/);
    assert.deepEqual(lost?.info?.unsent?.as, note.as);
    const kept = disk.fileAt(join(lost?.path ?? '', 'data')).bytes;
    assert.ok(kept.subarray(3 * PAGE_BYTES, 4 * PAGE_BYTES).equals(Buffer.alloc(PAGE_BYTES, 2)));
    assert.deepEqual(await exportDirectory.recovered(), []);
    // By order they go.
    world.image = await openImage(exportDirectory, served);
    await write(0, Buffer.alloc(10, 2));
    await world.image.close(true);
    assert.equal(await exportDirectory.drop(fileId, 'all'), 0);
    assert.equal((await exportDirectory.lost()).length, 1);
  });

  const damages: [string, (disk: PaperDisk, path: string) => void, RegExp][] = [
    [
      'a bit of the live map',
      (disk, path) => flipRecord(disk, join(path, 'map'), 0, 20),
      /records/,
    ],
    ['a whole record', (disk, path) => flipRecord(disk, join(path, 'map'), 3, 70), /records/],
    ['its header', (disk, path) => flip(disk, join(path, 'map'), 26), /damaged header/],
    ['info', (disk, path) => flip(disk, join(path, 'info'), 40), /info is damaged/],
    ['data', (disk, path) => cut(disk, join(path, 'data')), /data has a wrong length/],
  ];
  for (const [what, damage, why] of damages) {
    it(`C4: are put aside, and it is said, when ${what} is damaged`, async () => {
      await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
      assert.equal(await world.image.sync(), 0);
      const path = join(world.exportDirectory.path, world.image.fileId);
      damage(world.disk, path);
      const image = await next('kill', served);
      assert.equal(image.found, 'setAside');
      assert.match(image.why ?? '', why);
      assert.equal(image.map.presentPages, 0);
      const [lost] = await world.exportDirectory.lost();
      assert.match(lost?.why ?? '', why);
      assert.ok(world.disk.has(join(lost?.path ?? '', 'map.synced')));
    });
  }

  it('C4: no flipped bit of a record turns what is dirty into something else', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    const path = join(world.exportDirectory.path, world.image.fileId, 'map');
    for (let bit = 0; bit < 8 * RECORD_BYTES; bit += 1) {
      const left = world.disk.afterKill();
      flipRecord(left, path, 0, bit);
      const { io, paths } = left;
      const exportDirectory = await openExport('/cache', io, { paths });
      const image = await openImage(exportDirectory, served);
      assert.equal(image.found, 'setAside', `bit ${bit}`);
      assert.equal((await exportDirectory.lost()).length, 1);
    }
  });

  it('C4: dirty marks of which info knows nothing are put aside', async () => {
    const path = join(world.exportDirectory.path, world.image.fileId, 'map');
    assert.equal(await world.image.persistMarks(), 0);
    const { bytes } = world.disk.fileAt(path);
    const record = decodeRecord(0, bytes, MAP_HEADER_BYTES);
    assert.ok(record !== undefined);
    encodeRecord(0, { ...record, dirty: 1 }, bytes, MAP_HEADER_BYTES);
    assert.equal((await next('kill', served)).found, 'setAside');
    assert.equal((await world.exportDirectory.lost()).length, 1);
  });

  it('the time of a write that info does not tell is that of data', async () => {
    await write(3 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 2));
    const path = join(world.exportDirectory.path, world.image.fileId, 'data');
    const later = note.mtimeNs + 5n;
    world.disk.fileAt(path).mtimeNs = later;
    assert.equal((await next('kill', served)).unsent?.mtimeNs, later);
    assert.equal(await world.image.noteUnsent({ ...note, mtimeIsExact: true }, 'light'), 0);
    assert.equal((await next('kill', served)).unsent?.mtimeNs, note.mtimeNs);
  });

  it('cost no look at an image where there are none, however many are kept', async () => {
    const { disk } = world;
    assert.equal(await world.image.persistMarks(), 0);
    const looked: string[] = [];
    const left = disk.afterKill();
    const paths = {
      ...left.paths,
      read: (path: string, most: number) => {
        looked.push(path);
        return left.paths.read(path, most);
      },
    };
    const exportDirectory = await openExport('/cache', left.io, { paths });
    looked.length = 0;
    assert.deepEqual(await exportDirectory.recovered(), []);
    assert.deepEqual(looked, []);
  });
});

function flip(disk: PaperDisk, path: string, at: number): void {
  const { bytes } = disk.fileAt(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
}

function flipRecord(disk: PaperDisk, path: string, block: number, bit: number): void {
  const { bytes } = disk.fileAt(path);
  const at = MAP_HEADER_BYTES + block * RECORD_BYTES + (bit >> 3);
  bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (bit & 7)), at);
}

function cut(disk: PaperDisk, path: string): void {
  const file = disk.fileAt(path);
  file.bytes = file.bytes.subarray(0, PAGES_PER_BLOCK * PAGE_BYTES);
}
