/**
 * The daemon is killed, or the power cut, after each single change of the disk in the life of an
 * image: whatever the next daemon believes is true (C1, C2, C3), for whichever content of the
 * server's file it opens the image.
 */
import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type FileIo, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import type { PathIo } from '../../src/cache/path-io.ts';
import {
  absentAreZeros,
  assertTrue,
  type Content,
  content,
  fill,
  got,
  nextBoot,
  openExport,
  openImage,
  thisBoot,
} from './image-worlds.ts';
import { mortalDisk } from './mortal-disk.ts';
import { Killed, PaperDisk } from './paper-disk.ts';

const POWER_CUTS = 3;
const first = content(pattern(38 * PAGE_BYTES + 100, 1), 1);
const written = content(changed(first.bytes, 20 * PAGE_BYTES, pattern(2 * PAGE_BYTES, 2)), 2);
const longer = content(Buffer.concat([written.bytes, pattern(30 * PAGE_BYTES, 3)]), 3);
const foreign = content(pattern(50 * PAGE_BYTES + 1, 4), 4);
const contents = [first, written, longer, foreign];

describe('a crash after any change', () => {
  it('of a daemon: its marks are true', async () => {
    await eachCrash(1, async (disk) => {
      for (const one of contents) await assertBelievable(disk.afterKill(), one, thisBoot);
    });
  });

  it('of the power: the synced marks are true', async () => {
    const chance = numbers(17);
    await eachCrash(POWER_CUTS, async (disk) => {
      const left = disk.afterPowerCut(chance);
      for (const one of contents) await assertBelievable(left.afterKill(), one, nextBoot);
    });
  });

  it('of a daemon on the local disk: its marks are true', async () => {
    const io = got(NativeFileIo.open());
    const root = await mkdtemp(join(tmpdir(), 'gvfs-crash-'));
    try {
      // Each change is tried on paper: here, a few of them and the whole life.
      for (let killAfter = 10; ; killAfter += 23) {
        const cacheDir = join(root, String(killAfter));
        const disk = mortalDisk(io, killAfter);
        const ended = await endOf(lifeOf(disk, cacheDir));
        disk.bury();
        for (const one of contents) {
          const copy = `${cacheDir}-copy`;
          await cp(cacheDir, copy, { recursive: true });
          const next = mortalDisk(io, Number.POSITIVE_INFINITY);
          await assertBelievable(next, one, thisBoot, copy);
          await rm(copy, { recursive: true });
        }
        if (ended) break;
      }
    } finally {
      await io.close();
      await rm(root, { recursive: true, force: true });
    }
  });

  it('leaves what was synced before it, after a power cut', async () => {
    const disk = new PaperDisk();
    const exportDirectory = await openExport('/cache', disk.io, { paths: disk.paths });
    const image = await openImage(exportDirectory, first);
    await fill(image, disk.io, first, 0, 20);
    assert.equal(await image.sync(), 0);
    await fill(image, disk.io, first, 20, 30);
    assert.equal(await image.persistMarks(), 0);
    const chance = numbers(3);
    for (let cut = 0; cut < 20; cut += 1) {
      const left = disk.afterPowerCut(chance);
      const next = await openExport('/cache', left.io, { paths: left.paths, bootId: nextBoot });
      const again = await openImage(next, first);
      assert.equal(again.found, 'kept', again.why);
      assert.deepEqual(again.map.presentRuns(0, 39), [{ start: 0, end: 20 }]);
    }
  });
});

/** Kills the daemon after 0, 1, 2, ... changes, until it comes to its end. */
async function eachCrash(times: number, check: (disk: PaperDisk) => Promise<void>): Promise<void> {
  for (let after = 0; ; after += 1) {
    const disk = new PaperDisk();
    disk.killAfter = after;
    const ended = await endOf(lifeOf(disk, '/cache'));
    if (ended) assert.equal(disk.openFiles, 0);
    try {
      for (let time = 0; time < times; time += 1) await check(disk);
    } catch (error) {
      throw new Error(`after ${after} changes`, { cause: error });
    }
    if (ended) {
      assert.ok(after > 100, `only ${after} changes in the whole life`);
      return;
    }
  }
}

/** Whether a daemon came to the end of its life, or was killed. */
async function endOf(life: Promise<void>): Promise<boolean> {
  try {
    await life;
    return true;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return false;
  }
}

interface Disk {
  readonly io: FileIo;
  readonly paths: PathIo;
}

/** Everything that is done to an image, some of it at the same time. */
async function lifeOf(disk: Disk, cacheDir: string): Promise<void> {
  const { io, paths } = disk;
  let exportDirectory = await openExport(cacheDir, io, { paths });
  let image = await openImage(exportDirectory, first);
  await fill(image, io, first, 0, 16);
  await image.persistMarks();
  await fill(image, io, first, 18, 24);
  await image.sync();
  await fill(image, io, first, 24, 39);
  await image.persistMarks();
  // Evicted while a sync is under way, and filled again.
  const syncing = image.sync();
  const evicted = evict(image, 0, 16).then(() => fill(image, io, first, 0, 7));
  await all([syncing, evicted]);
  await image.persistMarks();
  await image.sync();
  await image.setPinned(true);
  // Closed and opened again.
  await image.close(true);
  await exportDirectory.close();
  exportDirectory = await openExport(cacheDir, io, { paths });
  image = await openImage(exportDirectory, first);
  assert.equal(image.found, 'kept', image.why);
  await evict(image, 16, 32);
  await fill(image, io, first, 16, 24);
  await image.persistMarks();

  // Written: the server has it first, then the cache.
  await image.markWriting();
  await rewrite(image, 20, 22);
  await all([image.persistMarks(), image.sync(), fill(image, io, written, 30, 34)]);
  await image.settle(written.attributes);
  await image.sync();
  // Longer, then settled without waiting.
  await image.markWriting();
  await image.resize(longer.bytes.length);
  await clearAndFill(38, 60);
  await image.settle(longer.attributes, 'light');
  await fill(image, io, longer, 60, 69);
  await image.persistMarks();
  // Shorter again, and settled while the next write begins.
  await image.markWriting();
  await image.resize(written.bytes.length);
  const settled = image.settle(written.attributes);
  const writing = image.markWriting();
  await all([settled, writing]);
  assert.equal(image.state, 'writing');
  await image.settle(written.attributes);

  // Another has changed the file.
  const old = image;
  const about = { path: 'a', nowMs: 1 };
  image = got(await old.replace(foreign.attributes, about));
  await all([fill(image, io, foreign, 0, 20), old.persistMarks(), old.sync()]);
  await old.close(false);
  await image.persistMarks();
  await image.markWriting();
  await image.settle(foreign.attributes, 'light');
  await image.close(true);
  await exportDirectory.sweepGone();
  image = await openImage(exportDirectory, foreign);
  await image.drop();
  await image.close(true);
  image = await openImage(exportDirectory, first);
  await image.close(true);
  await exportDirectory.drop(image.fileId);
  await exportDirectory.sweepGone();
  await exportDirectory.close();

  async function evict(from: typeof image, start: number, end: number): Promise<void> {
    assert.equal(await from.clearDurably(start, end), 0);
    assert.equal(await from.discard(start, end), 0);
  }

  async function rewrite(into: typeof image, start: number, end: number): Promise<void> {
    const block = Math.floor(start / PAGES_PER_BLOCK);
    const pages = ((1 << (end - start)) - 1) << (start % PAGES_PER_BLOCK);
    const { sums } = await io.sums(into.dataFd, block, Uint16Array.of(pages));
    into.map.unmark(block, pages, sums[0] ?? 0);
    into.distrustHoles();
    await fill(into, io, written, start, end);
  }

  async function clearAndFill(start: number, end: number): Promise<void> {
    image.map.clear(start, end);
    image.distrustHoles();
    await fill(image, io, longer, start, end);
  }
}

async function assertBelievable(
  disk: Disk,
  one: Content,
  bootId: string,
  cacheDir = '/cache',
): Promise<void> {
  const { io, paths } = disk;
  const exportDirectory = await openExport(cacheDir, io, { paths, bootId });
  const image = await openImage(exportDirectory, one);
  await assertTrue(image, io, one);
  if (image.holes === 'trusted') assert.ok(await absentAreZeros(image, io), 'no holes');
  // What is taken up can be gone on with.
  const { found } = image;
  if (found === 'kept') await fill(image, io, one, 0, image.map.pageCount);
  await image.close(true);
  if (found === 'kept') {
    const again = await openImage(exportDirectory, one);
    assert.equal(again.found, 'kept', again.why);
    assert.ok(again.map.complete);
    await assertTrue(again, io, one);
    await again.close(false);
  }
  await exportDirectory.close();
}

/** All come to their end, dead or alive. */
async function all(works: Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(works);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

function pattern(length: number, seed: number): Buffer {
  const next = numbers(seed);
  const bytes = Buffer.alloc(length);
  for (let page = 0; page * PAGE_BYTES < length; page += 1) {
    // Every fifth page is zeros.
    if (page % 5 === 4) continue;
    const end = Math.min((page + 1) * PAGE_BYTES, length);
    bytes.fill(Math.floor(next() * 255) + 1, page * PAGE_BYTES, end);
    bytes[page * PAGE_BYTES] = page;
  }
  return bytes;
}

function changed(bytes: Buffer, offset: number, change: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  change.copy(copy, offset);
  return copy;
}

/** Numbers of [0, 1), the same every time (a linear congruence). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
