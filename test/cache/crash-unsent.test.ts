/**
 * The daemon is killed, or the power cut, after each single change of the disk in the life of an
 * image with unsent writes. After a kill every acknowledged write is there, after a power loss
 * every synced one (C3), and nothing that was not written (C2).
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import type { ImageDirectory } from '../../src/cache/image-directory.ts';
import type { UnsentNote } from '../../src/cache/info-file.ts';
import {
  type Content,
  content,
  fill,
  nextBoot,
  openExport,
  openImage,
  thisBoot,
} from './image-worlds.ts';
import { Killed, PaperDisk } from './paper-disk.ts';

const POWER_CUTS = 2;
const PAGES_AT_FIRST = 40;
const PAGES_AT_MOST = 60;

/** What a page held, one after the other: a byte that fills it; undefined beyond the end. */
type Value = number | undefined;

class History {
  readonly values: Value[];
  acknowledged = 0;
  synced = 0;

  constructor(first: Value) {
    this.values = [first];
  }

  /** What it may be like after a crash that keeps what `from` says. */
  allowed(from: 'acknowledged' | 'synced'): Set<Value> {
    const values = this.values.slice(this[from]);
    // Of a write that makes the file longer the size may be there without the bytes.
    return new Set(values.includes(undefined) ? [...values, 0] : values);
  }
}

class Life {
  readonly disk = new PaperDisk();
  readonly pages = Array.from(
    { length: PAGES_AT_MOST },
    (_, page) => new History(page < PAGES_AT_FIRST ? 1 + page : undefined),
  );
  /** What the server's file holds, and how often it was changed. */
  server: Value[] = this.pages.map(({ values }) => values[0]);
  version = 1;

  get served(): Content {
    const held = this.server.filter((value) => value !== undefined);
    const bytes = Buffer.concat(held.map((value) => Buffer.alloc(PAGE_BYTES, value)));
    return content(bytes, this.version);
  }

  async live(): Promise<void> {
    let exportDirectory = await openExport('/cache', this.disk.io, { paths: this.disk.paths });
    let image = await openImage(exportDirectory, this.served);
    await fill(image, this.disk.io, this.served, 0, 20);
    await image.persistMarks();
    await this.write(image, 3, 5, 101);
    await this.write(image, 18, 19, 102);
    await this.write(image, 30, 33, 103);
    await this.sync(image);
    await this.write(image, 3, 4, 104);
    // Rewritten and evicted beside a sync.
    await all([this.sync(image), this.write(image, 4, 7, 105), evict(image, 16, 32)]);
    await fill(image, this.disk.io, this.served, 20, 30);
    await this.write(image, 5, 8, 106);
    await this.write(image, 40, 44, 107);
    await this.sync(image);
    await this.write(image, 42, 43, 108);
    await this.sync(image);
    await this.write(image, 44, 50, 109);
    await this.cut(image, 42);
    await this.write(image, 42, 45, 110);
    await this.sync(image);
    await this.send(image);
    await this.write(image, 0, 2, 111);
    await this.sync(image);
    await image.close(true);
    await exportDirectory.close();
    exportDirectory = await openExport('/cache', this.disk.io, { paths: this.disk.paths });
    image = await openImage(exportDirectory, this.served);
    assert.equal(image.map.dirtyPages, 2, image.why);
    await this.write(image, 1, 3, 112);
    await all([this.sync(image), this.write(image, 17, 18, 0)]);
    // Dropped by order: what the server has counts.
    await this.discard(image);
    await image.close(true);
    await exportDirectory.close();
  }

  async write(image: ImageDirectory, start: number, end: number, value: number): Promise<void> {
    const pages = this.pages.slice(start, end);
    for (const page of pages) page.values.push(value);
    if (image.unsent === undefined) assert.equal(await image.noteUnsent(note, 'light'), 0);
    assert.equal(await image.grow(end * PAGE_BYTES), 0);
    const first = Math.floor(start / PAGES_PER_BLOCK);
    const count = Math.ceil(end / PAGES_PER_BLOCK) - first;
    const compare = Uint16Array.from({ length: count }, (_, i) => image.map.cleanMask(first + i));
    const bytes = Buffer.alloc((end - start) * PAGE_BYTES, value);
    const done = await this.disk.io.overwrite(image.dataFd, start * PAGE_BYTES, bytes, compare);
    for (const [i, changed] of done.changed.entries()) {
      if (changed !== 0) image.map.makeDirty(first + i, changed, done.oldSums[i] ?? 0);
    }
    assert.equal(await image.persistMarks(), 0);
    for (const page of pages) page.acknowledged = page.values.lastIndexOf(value);
  }

  async sync(image: ImageDirectory): Promise<void> {
    const synced = this.pages.map(({ acknowledged }) => acknowledged);
    assert.equal(await image.sync(), 0);
    for (const [page, index] of synced.entries()) this.#at(page).synced = index;
  }

  async cut(image: ImageDirectory, end: number): Promise<void> {
    const pages = this.pages.slice(end);
    for (const { values } of pages) if (values.at(-1) !== undefined) values.push(undefined);
    this.server = this.server.map((value, page) => (page < end ? value : undefined));
    this.version += 1;
    assert.equal(await image.resize(end * PAGE_BYTES), 0);
    for (const page of pages) page.acknowledged = page.synced = page.values.length - 1;
  }

  /** All that is dirty reaches the server, and is committed. */
  async send(image: ImageDirectory): Promise<void> {
    assert.equal(await image.markSending(), 0);
    for (let block = 0; block < image.map.blockCount; block += 1) {
      const dirty = image.map.dirtyMask(block);
      for (let i = 0; i < PAGES_PER_BLOCK; i += 1) {
        const page = block * PAGES_PER_BLOCK + i;
        if (((dirty >> i) & 1) === 1) this.server[page] = this.#at(page).values.at(-1);
      }
      this.version += 1;
      const { sums } = await this.disk.io.sums(image.dataFd, block, Uint16Array.of(dirty));
      image.map.makeClean(block, dirty, sums[0] ?? 0);
    }
    assert.equal(await image.settle(this.served.attributes), 0);
    assert.equal(await image.noteUnsent(undefined, 'durable'), 0);
    // W11: from now on no older write may come back.
    for (const page of this.pages) page.synced = page.acknowledged;
  }

  async discard(image: ImageDirectory): Promise<void> {
    for (const [page, { values }] of this.pages.entries()) values.push(this.server[page]);
    assert.equal(await image.dropDirtyDurably(0, image.map.pageCount), 0);
    assert.equal(await image.discard(0, image.map.pageCount), 0);
    assert.equal(await image.noteUnsent(undefined, 'durable'), 0);
    for (const page of this.pages) page.acknowledged = page.synced = page.values.length - 1;
  }

  /** What the next daemon shows to our programs. */
  async check(left: PaperDisk, how: 'acknowledged' | 'synced', bootId: string): Promise<void> {
    const exportDirectory = await openExport('/cache', left.io, { paths: left.paths, bootId });
    const image = await openImage(exportDirectory, this.served);
    const { map } = image;
    assert.deepEqual(await exportDirectory.lost(), [], image.why);
    if (map.dirtyPages > 0) assert.ok(image.unsent !== undefined);
    for (let block = 0; block < map.blockCount; block += 1) {
      const mask = Uint16Array.of(map.cleanMask(block));
      const { sums } = await left.io.sums(image.dataFd, block, mask);
      if (sums[0] !== map.sum(block))
        map.clear(block * PAGES_PER_BLOCK, block * PAGES_PER_BLOCK + 1);
    }
    for (const [page, history] of this.pages.entries()) {
      const found = await this.#valueAt(image, left, page);
      const allowed = history.allowed(how);
      assert.ok(allowed.has(found), `page ${page}: ${found}, not one of ${[...allowed].join()}`);
    }
    await image.close(true);
    await exportDirectory.close();
  }

  async #valueAt(image: ImageDirectory, left: PaperDisk, page: number): Promise<Value> {
    if (page >= image.map.pageCount) return undefined;
    if (!image.map.isPresent(page, page + 1)) return this.server[page] ?? 0;
    const bytes = Buffer.alloc(PAGE_BYTES);
    await left.io.read(image.dataFd, page * PAGE_BYTES, bytes);
    const [value = 0] = bytes;
    assert.ok(bytes.equals(Buffer.alloc(PAGE_BYTES, value)), `page ${page} is mixed`);
    return value;
  }

  #at(page: number): History {
    const history = this.pages[page];
    assert.ok(history !== undefined);
    return history;
  }
}

const note: UnsentNote = {
  size: 0,
  mtimeNs: 1n,
  mtimeIsExact: false,
  sinceMs: 1,
  as: { uid: 0, gid: 0, groups: [] },
  conflict: false,
};

describe('a crash after any change, with unsent writes', () => {
  it('of a daemon: every acknowledged write is there', async () => {
    await eachCrash((life) => life.check(life.disk.afterKill(), 'acknowledged', thisBoot));
  });

  it('of the power: every synced write is there', async () => {
    let seed = 5;
    const chance = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    await eachCrash(async (life) => {
      for (let cut = 0; cut < POWER_CUTS; cut += 1) {
        const left = life.disk.afterPowerCut(chance);
        await life.check(left, 'synced', nextBoot);
        // And once more, from what the next daemon left.
        await life.check(left.afterPowerCut(chance), 'synced', 'b2'.repeat(16));
      }
    });
  });
});

/** Kills the daemon after 0, 1, 2, ... changes, until it comes to its end. */
async function eachCrash(check: (life: Life) => Promise<void>): Promise<void> {
  for (let after = 0; ; after += 1) {
    const life = new Life();
    life.disk.killAfter = after;
    const ended = await life.live().then(
      () => true,
      (error) => {
        if (!(error instanceof Killed)) throw error;
        return false;
      },
    );
    try {
      await check(life);
    } catch (error) {
      throw new Error(`after ${after} changes`, { cause: error });
    }
    if (!ended) continue;
    assert.ok(after > 150, `only ${after} changes in the whole life`);
    return;
  }
}

async function evict(image: ImageDirectory, start: number, end: number): Promise<void> {
  assert.equal(await image.clearDurably(start, end), 0);
  assert.equal(await image.discard(start, end), 0);
}

/** All come to their end, dead or alive. */
async function all(works: Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(works);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}
