/** The files of an image: what is believed at an open, and what is not. On real files. */
import assert from 'node:assert/strict';
import { fstatSync, truncateSync } from 'node:fs';
import {
  chmod,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import type { ExportDirectory } from '../../src/cache/export-directory.ts';
import { type FileIo, PAGE_BYTES } from '../../src/cache/file-io.ts';
import { ImageDirectory } from '../../src/cache/image-directory.ts';
import { encodeMapHeader, MAP_HEADER_BYTES } from '../../src/cache/map-file.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import {
  absentAreZeros,
  assertTrue,
  type Content,
  content,
  fill,
  got,
  imageFile,
  nextBoot,
  openExport,
  openImage,
} from './image-worlds.ts';
import { PaperDisk } from './paper-disk.ts';

const { EINVAL, EIO, ENOSPC, EROFS } = constants.errno;
const PAGES = 70;
const first = content(bytesOf(PAGES * PAGE_BYTES - 1000, 1), 1);
const second = content(bytesOf(PAGES * PAGE_BYTES - 1000, 2), 2);
const otherFile = Buffer.from('ff', 'hex') as FileHandle;

describe('image directory', () => {
  let io: FileIo;
  let root: string;
  let cacheDir: string;
  let worlds = 0;
  let exportDirectory: ExportDirectory;

  before(async () => {
    io = got(NativeFileIo.open());
    root = await mkdtemp(join(tmpdir(), 'gvfs-image-'));
  });
  after(async () => {
    await io.close();
    await rm(root, { recursive: true, force: true });
  });
  beforeEach(async () => {
    worlds += 1;
    cacheDir = join(root, String(worlds));
    exportDirectory = await openExport(cacheDir, io);
  });

  /** The next daemon, of the same boot unless said. */
  async function restart(bootId?: string): Promise<void> {
    await exportDirectory.close();
    exportDirectory = await openExport(cacheDir, io, bootId === undefined ? {} : { bootId });
  }

  /** An image with pages 0 to 20 and 40 to 70, the first 10 of them synced; closed. */
  async function keepImage(clean: boolean): Promise<string> {
    const image = await openImage(exportDirectory, first);
    assert.equal(image.found, 'fresh');
    assert.equal(image.holes, 'trusted');
    await fill(image, io, first, 0, 10);
    assert.equal(await image.sync(), 0);
    await fill(image, io, first, 10, 20);
    await fill(image, io, first, 40, PAGES);
    assert.equal(await image.persistMarks(), 0);
    await image.close(clean);
    return join(exportDirectory.path, image.fileId);
  }

  async function assertSetAside(one: Content, why: RegExp): Promise<ImageDirectory> {
    const image = await openImage(exportDirectory, one);
    assert.equal(image.found, 'setAside');
    assert.match(image.why ?? '', why);
    assert.equal(image.map.presentPages, 0);
    assert.ok(await absentAreZeros(image, io));
    await fill(image, io, one, 0, 3);
    await assertTrue(image, io, one);
    return image;
  }

  it('is kept over a restart, and its holes are trusted after an orderly close', async () => {
    for (const [clean, holes] of [
      [true, 'trusted'],
      [false, 'punch'],
    ] as const) {
      await keepImage(clean);
      await restart();
      const image = await openImage(exportDirectory, first);
      assert.deepEqual([image.found, image.why, image.holes], ['kept', undefined, holes]);
      const runs = [
        { start: 0, end: 20 },
        { start: 40, end: PAGES },
      ];
      assert.deepEqual(image.map.presentRuns(0, PAGES), runs);
      await assertTrue(image, io, first);
      assert.equal(image.lastUsedMs, 1_700_000_000_000);
      // Once it is open it is not closed in order any more.
      await image.close(false);
      await restart();
      const again = await openImage(exportDirectory, first);
      assert.deepEqual([again.found, again.holes], ['kept', 'punch']);
      await again.drop();
      await again.close(false);
    }
  });

  it('C3: after another boot only the synced marks are believed, and go on from there', async () => {
    await keepImage(false);
    await restart(nextBoot);
    const image = await openImage(exportDirectory, first);
    assert.deepEqual([image.found, image.why, image.holes], ['kept', undefined, 'punch']);
    assert.deepEqual(image.map.presentRuns(0, PAGES), [{ start: 0, end: 10 }]);
    await fill(image, io, first, 10, 15);
    assert.equal(await image.persistMarks(), 0);
    await image.close(false);
    await restart(nextBoot);
    const again = await openImage(exportDirectory, first);
    assert.deepEqual(again.map.presentRuns(0, PAGES), [{ start: 0, end: 15 }]);
    await assertTrue(again, io, first);
    await again.close(false);
  });

  it('C2: of another content or file, or being written, it is set aside', async () => {
    await keepImage(true);
    const changed = await assertSetAside(second, /has changed on the server/);
    assert.equal(await changed.markWriting(), 0);
    await changed.close(true);
    await restart();
    const cut = await assertSetAside(second, /was being written/);
    await cut.close(true);
    const { attributes, bytes } = second;
    const reused = { bytes, attributes: { ...attributes, fileid: 43n } };
    await (await assertSetAside(reused, /of another file/)).close(true);
  });

  const damages: [string, (path: string) => Promise<void>, RegExp][] = [
    ['info is gone', (path) => unlink(join(path, 'info')), /info is missing/],
    ['info is damaged', (path) => flip(join(path, 'info'), 30), /info is damaged/],
    ['info is cut', async (path) => truncateSync(join(path, 'info'), 50), /info is damaged/],
    ['data is gone', (path) => unlink(join(path, 'data')), /data cannot be opened/],
    ['data is cut', async (path) => truncateSync(join(path, 'data'), 4096), /data has a wrong/],
    ['data is longer', async (path) => truncateSync(join(path, 'data'), 1 << 20), /data has a/],
    [
      'both maps are damaged',
      async (path) => {
        await flip(join(path, 'map'), 60);
        await flip(join(path, 'map.synced'), 40);
      },
      /map has a damaged header, map.synced has a damaged header/,
    ],
    ['the directory is open to others', (path) => chmod(path, 0o755), /open to others/],
    [
      'the directory is a file',
      async (path) => {
        await rm(path, { recursive: true });
        await writeFile(path, 'x');
      },
      /is not a directory/,
    ],
  ];
  for (const [what, damage, why] of damages) {
    it(`C2: it is set aside, and said, when ${what}`, async () => {
      const path = await keepImage(true);
      await damage(path);
      const image = await assertSetAside(first, why);
      await image.close(true);
      const kept = await openImage(exportDirectory, first);
      assert.deepEqual([kept.found, kept.map.presentPages], ['kept', 3]);
      await kept.close(true);
    });
  }

  const mapDamages: [string, (path: string) => Promise<void>, RegExp][] = [
    ['is gone', (path) => unlink(join(path, 'map')), /map is missing/],
    ['has a damaged header', (path) => flip(join(path, 'map'), 25), /map has a damaged header/],
    ['is cut', async (path) => truncateSync(join(path, 'map'), 5000), /map has a wrong length/],
    ['is empty', async (path) => truncateSync(join(path, 'map'), 0), /map is cut short/],
    ['is of another file', (path) => foreignHeader(path, { fileId: 'ab'.repeat(16) }), /another f/],
    ['is of another size', (path) => foreignHeader(path, { sizeBytes: 1 }), /of another size/],
  ];
  for (const [what, damage, why] of mapDamages) {
    it(`C2: the synced map is taken, and it is said, when the live one ${what}`, async () => {
      const path = await keepImage(false);
      await damage(path);
      const image = await openImage(exportDirectory, first);
      assert.deepEqual([image.found, image.holes], ['kept', 'punch']);
      assert.match(image.why ?? '', why);
      assert.deepEqual(image.map.presentRuns(0, PAGES), [{ start: 0, end: 10 }]);
      await assertTrue(image, io, first);
      await image.close(true);
      const again = await openImage(exportDirectory, first);
      assert.deepEqual([again.found, again.why], ['kept', undefined]);
      await again.close(true);
    });
  }

  it('C2: a damaged synced map is made anew, and it is said', async () => {
    const path = await keepImage(false);
    await flip(join(path, 'map.synced'), 25);
    const image = await openImage(exportDirectory, first);
    assert.match(image.why ?? '', /map.synced has a damaged header/);
    assert.equal(image.map.presentPages, 50);
    assert.equal(await image.sync(), 0);
    await image.close(false);
    await restart(nextBoot);
    const again = await openImage(exportDirectory, first);
    assert.deepEqual([again.why, again.map.presentPages], [undefined, 50]);
    await again.close(true);
  });

  it('C2: a record with bits that are not written is not believed, and it is said', async () => {
    const path = await keepImage(true);
    await flip(join(path, 'map'), MAP_HEADER_BYTES + 2);
    const image = await openImage(exportDirectory, first);
    assert.match(image.why ?? '', /map has damaged records/);
    assert.equal(image.holes, 'punch');
    assert.equal(image.map.presentPages, 50 - 16);
    await assertTrue(image, io, first);
    assert.equal(await image.persistMarks(), 0);
    await image.close(false);
    const again = await openImage(exportDirectory, first);
    assert.deepEqual([again.why, again.map.presentPages], [undefined, 34]);
    await again.close(true);
  });

  it('C2: bytes and records of others are told by their sums', async () => {
    const path = await keepImage(true);
    const other = await openImage(exportDirectory, content(second.bytes, 1), otherFile);
    await fill(other, io, second, 0, PAGES);
    await other.close(true);
    const otherPath = join(exportDirectory.path, other.fileId);
    await rename(join(otherPath, 'data'), join(path, 'data'));
    const image = await openImage(exportDirectory, first);
    assert.equal(image.found, 'kept');
    for (const block of [0, 1, 2, 3, 4]) {
      const { sums } = await io.sums(image.dataFd, block, Uint16Array.of(image.map.mask(block)));
      assert.notEqual(sums[0], image.map.sum(block), `block ${block}`);
    }
    await image.close(true);
  });

  it('C9: replaced or dropped, it lives on until it is closed', async () => {
    const old = await openImage(exportDirectory, first);
    await fill(old, io, first, 0, PAGES);
    await old.setPinned(true);
    const about = { path: 'images/b.img', nowMs: 5 };
    const image = got(await old.replace(second.attributes, about));
    assert.deepEqual([image.found, image.map.presentPages, image.pinned], ['fresh', 0, true]);
    await fill(image, io, second, 0, 30);
    assert.equal(await image.persistMarks(), 0);
    // What is under way for the old one touches nothing of the new one.
    const works = [old.persistMarks(), old.sync(), old.setPinned(false), old.markWriting()];
    assert.deepEqual(await Promise.all(works), [0, 0, 0, 0]);
    const kept = got(await exportDirectory.describe(image.fileId));
    assert.deepEqual([kept.state, kept.pinned, kept.path], ['settled', true, 'images/b.img']);
    await assertTrue(old, io, first);
    assert.equal(await exportDirectory.sweepGone(), 1);
    await assertTrue(old, io, first);
    assert.equal(fstatSync(old.dataFd).nlink, 0);
    await old.close(true);
    assert.equal(exportDirectory.isOpen(image.fileId), true);
    await image.close(true);
    const again = await openImage(exportDirectory, second);
    assert.deepEqual([again.found, again.pinned], ['kept', true]);
    await assertTrue(again, io, second);
    assert.equal(await again.drop(), 0);
    await assertTrue(again, io, second);
    await again.close(true);
    assert.deepEqual(got(await exportDirectory.images()), []);
  });

  it('is open once: an open waits for a close', async () => {
    const image = await openImage(exportDirectory, first);
    await assert.rejects(openImage(exportDirectory, first), { name: 'InvariantError' });
    await fill(image, io, first, 0, 5);
    const closing = image.close(true);
    const again = await openImage(exportDirectory, first);
    assert.deepEqual([again.found, again.map.presentPages], ['kept', 5]);
    await closing;
    await again.close(true);
  });

  it('counts what its files take as du does', async () => {
    const image = await openImage(exportDirectory, first);
    await fill(image, io, first, 0, PAGES);
    assert.equal(await image.sync(), 0);
    const path = join(exportDirectory.path, image.fileId);
    const places = [path, ...(await readdir(path)).map((name) => join(path, name))];
    const stats = await Promise.all(places.map((place) => stat(place)));
    const du = stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
    assert.equal(await image.allocated(), du);
    await image.close(true);
    const info = got(await exportDirectory.describe(image.fileId));
    assert.equal(info.presentPages, PAGES);
    // A page each of records and info may come to the disk after it was asked.
    assert.ok(Math.abs(info.allocatedBytes - du) <= 2 * PAGE_BYTES);
  });

  it('takes neither disk nor memory for what is absent of a large image', async () => {
    const bytes = Buffer.alloc(0);
    const large = content(bytes, 1);
    const attributes = { ...large.attributes, size: 2 ** 40 };
    const image = await openImage(exportDirectory, { bytes, attributes });
    const last = Buffer.alloc(PAGE_BYTES, 7);
    const stored = await io.store(image.dataFd, 2 ** 40 - PAGE_BYTES, last, image.holes);
    image.map.mark(2 ** 28 - 1, 2 ** 28, stored.sums);
    await image.close(true);
    assert.ok((await image.allocated()) <= 8192);
    await restart(nextBoot);
    const before = process.memoryUsage().arrayBuffers;
    const again = await openImage(exportDirectory, { bytes, attributes });
    assert.deepEqual(again.map.presentRuns(0, 2 ** 28), [{ start: 2 ** 28 - 1, end: 2 ** 28 }]);
    assert.ok((await again.allocated()) < 40_000);
    assert.ok(process.memoryUsage().arrayBuffers - before < 8 << 20);
    await again.close(true);
  });

  it('settles only what has its size, and not while the next write begins', async () => {
    const image = await openImage(exportDirectory, first);
    assert.equal(await image.markWriting(), 0);
    assert.equal(image.state, 'writing');
    const longer = { ...second.attributes, size: second.attributes.size + 1 };
    assert.equal(await image.settle(longer), EINVAL);
    const settling = image.settle(second.attributes);
    assert.equal(await image.markWriting(), 0);
    assert.equal(await settling, 0);
    assert.equal(image.state, 'writing');
    assert.equal(await image.settle(second.attributes, 'light'), 0);
    assert.equal(image.state, 'settled');
    assert.equal(image.stamp.mtimeNs, second.attributes.mtimeNs);
    await image.close(false);
    await (await assertSetAside(first, /has changed/)).close(true);
  });
});

describe('image directory on a disk of paper', () => {
  it('C1: a mark lost while bytes are synced is not made durable after all', async () => {
    const disk = new PaperDisk();
    const gate = gated(disk.io);
    const exportDirectory = await openExport('/cache', gate.io, { paths: disk.paths });
    const image = await openImage(exportDirectory, first);
    await fill(image, gate.io, first, 0, 40);
    const held = gate.hold();
    const syncing = image.sync();
    await held.reached;
    // Evicted and filled again behind the fdatasync that is under way.
    assert.equal(await image.clearDurably(0, 16), 0);
    assert.equal(await image.discard(0, 16), 0);
    await fill(image, gate.io, first, 0, 16);
    assert.equal(await image.persistMarks(), 0);
    held.release();
    assert.equal(await syncing, 0);
    const left = disk.afterPowerCut(() => 0.999);
    const next = await openExport('/cache', left.io, { paths: left.paths, bootId: nextBoot });
    const again = await openImage(next, first);
    assert.deepEqual(again.map.presentRuns(0, PAGES), [{ start: 16, end: 40 }]);
    assert.equal(await image.sync(), 0);
    const later = disk.afterPowerCut(() => 0.999);
    const last = await openExport('/cache', later.io, { paths: later.paths, bootId: nextBoot });
    assert.equal((await openImage(last, first)).map.presentPages, 40);
  });

  it('what is replaced or dropped does not come back after a power cut', async () => {
    for (const leave of ['replace', 'drop', 'drop closed', 'changed'] as const) {
      const disk = new PaperDisk();
      const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
      const image = await openImage(exportDirectory, first);
      await fill(image, disk.io, first, 0, 40);
      assert.equal(await image.sync(), 0);
      const about = { path: 'a', nowMs: 0 };
      if (leave === 'replace') got(await image.replace(second.attributes, about));
      else if (leave === 'drop') assert.equal(await image.drop(), 0);
      else await image.close(true);
      if (leave === 'drop closed') assert.equal(await exportDirectory.drop(image.fileId), 0);
      if (leave === 'changed') await openImage(exportDirectory, second);
      const left = disk.afterPowerCut(() => 0);
      const next = await openExport('/cache', left.io, { paths: left.paths, bootId: nextBoot });
      assert.notEqual((await openImage(next, first)).found, 'kept', leave);
    }
  });

  it('knows its holes: they are trusted again when what was cleared is punched', async () => {
    const disk = new PaperDisk();
    const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    const image = await openImage(exportDirectory, first);
    await fill(image, disk.io, first, 0, PAGES);
    assert.equal(await image.clearDurably(3, 40), 0);
    assert.deepEqual(image.map.presentRuns(0, PAGES), [{ start: 48, end: PAGES }]);
    assert.equal(image.holes, 'punch');
    assert.equal(await image.discard(0, 32), 0);
    assert.equal(image.holes, 'punch');
    assert.equal(await image.discard(32, 48), 0);
    assert.equal(image.holes, 'trusted');
    assert.ok(await absentAreZeros(image, disk.io));
    assert.equal(await image.clearDurably(64, PAGES), 0);
    assert.equal(await image.discard(64, PAGES), 0);
    assert.equal(image.holes, 'trusted');
    assert.equal(await image.clearDurably(48, 64), 0);
    disk.failWith = EIO;
    assert.equal(await image.discard(48, 64), EIO);
    assert.equal(image.holes, 'punch');
  });

  it('writes only what changed', async () => {
    const disk = new PaperDisk();
    const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    const image = await openImage(exportDirectory, first);
    await fill(image, disk.io, first, 0, 8);
    const before = disk.effects;
    const joined = await Promise.all([1, 2, 3].map(() => image.persistMarks()));
    assert.deepEqual(joined, [0, 0, 0]);
    assert.equal(await image.persistMarks(), 0);
    assert.equal(disk.effects - before, 1);
    assert.equal(await image.sync(), 0);
    const synced = disk.effects;
    assert.equal(await image.sync(), 0);
    assert.equal(disk.effects, synced);
  });

  it('an fdatasync that failed is not asked again', async () => {
    const disk = new PaperDisk();
    let failing = true;
    const io: FileIo = {
      ...disk.io,
      sync: (fd) => (failing ? Promise.resolve(EIO) : disk.io.sync(fd)),
    };
    const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    const { attributes } = first;
    const about = { path: 'a', nowMs: 0 };
    const image = got(await ImageDirectory.open(exportDirectory, imageFile, attributes, about, io));
    await fill(image, io, first, 0, 8);
    assert.equal(await image.sync(), EIO);
    failing = false;
    assert.equal(await image.sync(), EIO);
    assert.equal(await image.settle(attributes), EIO);
  });

  it('a disk that refuses everything makes errors, and nothing is thrown', async () => {
    for (const errno of [ENOSPC, EROFS, EIO]) {
      const disk = new PaperDisk();
      const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
      const image = await openImage(exportDirectory, first);
      await fill(image, disk.io, first, 0, 8);
      disk.failWith = errno;
      assert.equal(await image.persistMarks(), errno);
      assert.equal(await image.sync(), errno);
      assert.equal(await image.clearDurably(0, 8), errno);
      assert.equal(await image.markWriting(), errno);
      assert.equal(image.state, 'settled');
      assert.equal(await image.setPinned(true), errno);
      assert.equal(await image.settle(first.attributes), errno);
      const about = { path: 'a', nowMs: 0 };
      const replaced = await image.replace(first.attributes, about);
      assert.ok(!replaced.ok);
      await image.close(true);
      const made = await ImageDirectory.open(
        exportDirectory,
        otherFile,
        first.attributes,
        about,
        disk.io,
      );
      assert.ok(!made.ok);
      assert.equal(made.error.errno, { [ENOSPC]: 'ENOSPC', [EROFS]: 'EROFS', [EIO]: 'EIO' }[errno]);
      assert.equal(disk.openFiles, 1);
    }
  });

  it('is dropped by a second try where the disk refused the first one', async () => {
    const disk = new PaperDisk();
    const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    const image = await openImage(exportDirectory, first);
    disk.failWith = EROFS;
    assert.equal(await image.drop(), EROFS);
    disk.failWith = 0;
    assert.equal(await image.setPinned(true), 0);
    assert.equal(got(await exportDirectory.describe(image.fileId)).pinned, false);
    assert.equal(await image.drop(), 0);
    assert.ok(!(await exportDirectory.describe(image.fileId)).ok);
    const made = got(await image.replace(second.attributes, { path: 'a', nowMs: 0 }));
    assert.equal(await image.drop(), 0);
    assert.ok((await exportDirectory.describe(made.fileId)).ok);
  });

  it('leaves nothing open or half made when any one change of an open fails', async () => {
    for (let at = 0; ; at += 1) {
      const disk = new PaperDisk();
      const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
      const failed = failingAt(disk, at);
      const about = { path: 'a', nowMs: 0 };
      const { attributes } = first;
      const made = await ImageDirectory.open(
        exportDirectory,
        imageFile,
        attributes,
        about,
        failed.io,
      );
      if (made.ok) {
        assert.ok(at > 3);
        return;
      }
      assert.equal(made.error.errno, 'ENOSPC');
      assert.equal(disk.openFiles, 1);
      const image = await openImage(exportDirectory, first);
      assert.equal(image.found, 'fresh');
    }
  });
});

function bytesOf(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = (at * seed + (at >> 12) * 7 + seed) & 255;
  // A few zero pages.
  bytes.fill(0, 5 * PAGE_BYTES, 6 * PAGE_BYTES);
  return bytes;
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

async function foreignHeader(
  path: string,
  change: { fileId?: string; sizeBytes?: number },
): Promise<void> {
  const bytes = await readFile(join(path, 'map'));
  const header = {
    fileId: bytes.toString('hex', 24, 40),
    bootId: bytes.toString('hex', 40, 56),
    sizeBytes: Number(bytes.readBigUInt64LE(56)),
    clean: true,
  };
  encodeMapHeader({ ...header, ...change }).copy(bytes);
  await writeFile(join(path, 'map'), bytes);
}

/** A FileIo of which one sync can be held before it is over. */
function gated(under: FileIo): {
  io: FileIo;
  hold: () => { reached: Promise<void>; release: () => void };
} {
  let waiting: { reach: () => void; released: Promise<void> } | undefined;
  const io: FileIo = {
    ...under,
    async sync(fd) {
      const held = waiting;
      waiting = undefined;
      const errno = await under.sync(fd);
      held?.reach();
      await held?.released;
      return errno;
    },
  };
  return {
    io,
    hold() {
      let reach = (): void => undefined;
      let release = (): void => undefined;
      const reached = new Promise<void>((resolve) => {
        reach = resolve;
      });
      const released = new Promise<void>((resolve) => {
        release = resolve;
      });
      waiting = { reach, released };
      return { reached, release };
    },
  };
}

/** A FileIo whose change number `at` fails, once, as a full disk does. */
function failingAt(disk: PaperDisk, at: number): { io: FileIo } {
  let changes = 0;
  function change(work: () => Promise<number>): Promise<number> {
    changes += 1;
    return changes === at + 1 ? Promise.resolve(ENOSPC) : work();
  }
  const io: FileIo = {
    ...disk.io,
    write: (fd, offset, bytes) => change(() => disk.io.write(fd, offset, bytes)),
    truncate: (fd, sizeBytes) => change(() => disk.io.truncate(fd, sizeBytes)),
  };
  return { io };
}
