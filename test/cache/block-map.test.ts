/** The map of an image against a plain list of pages. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockMap, CHUNK_BLOCKS, CHUNK_PAGES } from '../../src/cache/block-map.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';

/** What the map has to be like: a number for each present page, which is its part of the sum. */
class PlainMap {
  parts: (number | undefined)[];
  /** Dirty ones, which are not in `parts`. */
  readonly dirty = new Set<number>();

  constructor(pages: number) {
    this.parts = new Array<number | undefined>(pages).fill(undefined);
  }

  cut(pages: number): void {
    for (const page of this.dirty) if (page >= pages) this.dirty.delete(page);
  }

  sum(block: number): number {
    const parts = this.parts.slice(block * PAGES_PER_BLOCK, (block + 1) * PAGES_PER_BLOCK);
    return parts.reduce<number>((sum, part) => (sum ^ (part ?? 0)) >>> 0, 0);
  }

  is(page: number, what: 'present' | 'dirty'): boolean {
    return this.dirty.has(page) || (what === 'present' && this.parts[page] !== undefined);
  }

  runs(
    start: number,
    end: number,
    wanted: boolean,
    what: 'present' | 'dirty' = 'present',
  ): { start: number; end: number }[] {
    const runs: { start: number; end: number }[] = [];
    for (let page = start; page < end; page += 1) {
      if (this.is(page, what) !== wanted) continue;
      const last = runs.at(-1);
      if (last?.end === page) last.end += 1;
      else runs.push({ start: page, end: page + 1 });
    }
    return runs;
  }
}

// Ends within a page, a block and a chunk; operations meet at the borders of chunks.
const PAGES = CHUNK_PAGES + 3 * PAGES_PER_BLOCK + 5;
const SIZE = (PAGES - 1) * PAGE_BYTES + 100;
const page = fc.oneof(
  fc.nat(PAGES - 1),
  fc.integer({ min: CHUNK_PAGES - 40, max: CHUNK_PAGES + 40 }),
  fc.nat(40),
);
const operation = fc.record({
  kind: fc.constantFrom(
    ...(['mark', 'mark', 'mark', 'clear', 'unmark', 'resize'] as const),
    ...(['write', 'write', 'settle', 'drop'] as const),
  ),
  page,
  count: fc.oneof(fc.nat(70), fc.nat(PAGES)),
  part: fc.nat(0xffffffff),
});

describe('block map', () => {
  it('is what a plain list of pages is', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 25 }), page, page, (operations, a, b) => {
        const map = new BlockMap(SIZE);
        const plain = new PlainMap(PAGES);
        for (const { kind, page, count, part } of operations) {
          const pageCount = map.pageCount;
          const start = Math.min(page, pageCount);
          const end = Math.min(start + count, pageCount);
          if (kind === 'mark') {
            for (const run of map.absentRuns(start, end)) {
              for (let at = run.start; at < run.end; at += 1) {
                map.mark(at, at + 1, Uint32Array.of((part + at) >>> 0));
                plain.parts[at] = (part + at) >>> 0;
              }
            }
          } else if (kind === 'clear') {
            const cleared = map.clear(start, end);
            plain.parts.fill(undefined, cleared.start, cleared.end);
            assert.ok(cleared.start <= start && cleared.end >= end);
          } else if (kind === 'unmark' && plain.parts[start] !== undefined) {
            const block = Math.floor(start / PAGES_PER_BLOCK);
            map.unmark(block, 1 << (start % PAGES_PER_BLOCK), plain.parts[start] ?? 0);
            plain.parts[start] = undefined;
          } else if (kind === 'write') {
            for (let block = Math.floor(start / 16); block * 16 < end; block += 1) {
              let pages = 0;
              let oldSum = 0;
              for (
                let at = Math.max(block * 16, start);
                at < Math.min(end, block * 16 + 16);
                at += 1
              ) {
                pages |= 1 << (at % 16);
                oldSum ^= plain.parts[at] ?? 0;
                plain.parts[at] = undefined;
                plain.dirty.add(at);
              }
              map.makeDirty(block, pages, oldSum);
            }
          } else if (kind === 'settle') {
            for (const run of map.dirtyRuns(start, end, 3)) {
              for (let at = run.start; at < run.end; at += 1) {
                map.makeClean(Math.floor(at / 16), 1 << (at % 16), (part ^ at) >>> 0);
                plain.parts[at] = (part ^ at) >>> 0;
                plain.dirty.delete(at);
              }
            }
          } else if (kind === 'drop') {
            for (const run of map.dirtyRuns(start, end)) {
              for (let at = run.start; at < run.end; at += 1) {
                map.dropDirty(Math.floor(at / 16), 1 << (at % 16));
                plain.dirty.delete(at);
              }
            }
          } else if (kind === 'resize') {
            const sizeBytes = page * PAGE_BYTES - (page > 0 ? part % PAGE_BYTES : 0);
            if (sizeBytes < map.sizeBytes) {
              const block = Math.floor(sizeBytes / BLOCK_BYTES);
              plain.parts.fill(undefined, block * PAGES_PER_BLOCK);
              plain.cut(Math.ceil(sizeBytes / PAGE_BYTES));
            }
            map.resize(sizeBytes);
          }
        }
        const from = Math.min(a, b, map.pageCount);
        const to = Math.min(Math.max(a, b), map.pageCount);
        assert.deepEqual(map.absentRuns(from, to), plain.runs(from, to, false));
        assert.deepEqual(map.presentRuns(from, to), plain.runs(from, to, true));
        assert.deepEqual(map.presentRuns(from, to, 2), plain.runs(from, to, true).slice(0, 2));
        assert.equal(map.isPresent(from, to), plain.runs(from, to, false).length === 0);
        const dirtyRuns = plain.runs(from, to, true, 'dirty');
        assert.deepEqual(map.dirtyRuns(from, to), dirtyRuns);
        assert.deepEqual(map.dirtyRuns(from, to, 1), dirtyRuns.slice(0, 1));
        assert.equal(map.dirtyPages, plain.dirty.size);
        assert.equal(
          map.countDirty(from, to),
          [...plain.dirty].filter((p) => p >= from && p < to).length,
        );
        const present = plain.parts.filter((part) => part !== undefined).length + plain.dirty.size;
        assert.equal(map.presentPages, present);
        assert.equal(map.countPresent(0, map.pageCount), present);
        const within = plain.parts.filter((_, p) => p >= from && p < to && plain.is(p, 'present'));
        assert.equal(
          map.countPresent(from, to),
          within.length + [...plain.dirty].filter((p) => p >= plain.parts.length).length,
        );
        assert.equal(map.complete, present === map.pageCount);
        for (let block = 0; block < map.blockCount; block += 1) {
          assert.equal(map.sum(block) >>> 0, plain.sum(block), `sum of block ${block}`);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('adds the sums that a store answers to the blocks that it touched', () => {
    const map = new BlockMap(4 * BLOCK_BYTES);
    map.mark(14, 34, Uint32Array.of(1, 2, 3));
    map.mark(34, 35, Uint32Array.of(4));
    assert.deepEqual([map.sum(0), map.sum(1), map.sum(2), map.sum(3)], [1, 2, 7, 0]);
    assert.deepEqual([map.mask(0), map.mask(1), map.mask(2)], [0xc000, 0xffff, 0x0007]);
  });

  it('refuses to count a page twice, or one beyond the end', () => {
    const map = new BlockMap(3 * PAGE_BYTES + 1);
    map.mark(1, 2);
    assert.throws(() => map.mark(0, 2), { name: 'InvariantError' });
    assert.throws(() => map.mark(3, 5), { name: 'InvariantError' });
    assert.throws(() => map.unmark(0, 1, 0), { name: 'InvariantError' });
    assert.throws(() => map.restore(0, 0x10, 0), { name: 'InvariantError' });
  });

  it('C4: takes no dirty page away but by drop and cut', () => {
    const map = new BlockMap(4 * BLOCK_BYTES - 100);
    map.mark(0, 20, Uint32Array.of(0xa, 0xb));
    map.makeDirty(0, 0b0110, 0x3);
    map.makeDirty(3, 0x8001, 0);
    assert.deepEqual([map.sum(0), map.cleanMask(0)], [0x9, 0xfff9]);
    assert.equal(map.dirtyBytes(), 4 * PAGE_BYTES - 100);
    const lost = map.trackLosses();
    assert.deepEqual(map.clear(0, 1), { start: 0, end: 16 });
    assert.deepEqual([map.mask(0), map.sum(0), lost.in(0)], [0b0110, 0, 0xfff9]);
    assert.throws(() => map.unmark(0, 0b0010, 0), { name: 'InvariantError' });
    assert.throws(() => map.restore(0, 0b0111, 0, 0b0011), { name: 'InvariantError' });
    assert.throws(() => map.mark(1, 2), { name: 'InvariantError' });
    assert.throws(() => map.makeClean(0, 1, 0), { name: 'InvariantError' });
    assert.throws(() => map.dropDirty(1, 1), { name: 'InvariantError' });
    assert.throws(() => map.makeDirty(4, 1, 0), { name: 'InvariantError' });
    map.makeClean(0, 0b0100, 0x77);
    assert.deepEqual([map.sum(0), map.dirtyMask(0)], [0x77, 0b0010]);
    map.resize(3 * BLOCK_BYTES + 1);
    assert.deepEqual([map.dirtyMask(3), map.dirtyPages, lost.in(3)], [1, 2, 0x8000]);
    map.resize(PAGE_BYTES + 1);
    assert.deepEqual([map.mask(0), map.dirtyPages], [0b0010, 1]);
    map.dropDirty(0, 0b0010);
    assert.deepEqual([map.presentPages, map.dirtyPages], [0, 0]);
  });

  it('tells a rewrite of dirty pages, of which no record changes', () => {
    const map = new BlockMap(BLOCK_BYTES);
    const changes = map.track();
    map.makeDirty(0, 3, 0);
    assert.deepEqual(changes.take(), [0]);
    const { writes } = map;
    map.makeDirty(0, 1, 0);
    assert.equal(changes.any, false);
    assert.ok(map.writes > writes);
  });

  it('tells every change to every tracker, and every loss', () => {
    const map = new BlockMap(3 * CHUNK_PAGES * PAGE_BYTES);
    const [one, other] = [map.track(), map.track()];
    map.mark(CHUNK_PAGES - 1, CHUNK_PAGES + 1);
    assert.deepEqual(one.take(), [0, 1]);
    assert.equal(one.any, false);
    map.mark(2 * CHUNK_PAGES, 2 * CHUNK_PAGES + 1);
    const losses = map.trackLosses();
    map.mark(0, 1);
    assert.equal(losses.in(0), 0);
    map.clear(CHUNK_PAGES, CHUNK_PAGES + 1);
    assert.equal(losses.in(CHUNK_PAGES / PAGES_PER_BLOCK), 1);
    assert.deepEqual(one.take(), [0, 1, 2]);
    assert.deepEqual(other.take(2), [0, 1]);
    assert.deepEqual(other.take(), [2]);
    other.putBack([1]);
    assert.deepEqual(other.take(), [1]);
  });

  it('tells few changed records of a chunk by block, and many as all of it', () => {
    const map = new BlockMap(3 * CHUNK_PAGES * PAGE_BYTES);
    const changes = map.track();
    const blocks = [3, 1, 200, CHUNK_BLOCKS + 5];
    for (const block of [...blocks, 3]) map.restore(block, 1, block);
    for (let block = 0; block < 9; block++) map.restore(2 * CHUNK_BLOCKS + block, 1, 0);
    const expected = new Map<number, unknown>([
      [0, [3, 1, 200]],
      [1, [CHUNK_BLOCKS + 5]],
      [2, 'all'],
    ]);
    const taken = changes.takeBlocks();
    assert.deepEqual(taken, expected);
    assert.equal(changes.any, false);
    changes.putBack(taken.keys());
    map.restore(7, 1, 0);
    const all = [0, 1, 2].map((chunk) => [chunk, 'all'] as const);
    assert.deepEqual(changes.takeBlocks(), new Map(all));
  });

  it('takes no memory for what is absent, and no time', () => {
    const terabyte = 2 ** 40;
    const before = process.memoryUsage();
    const maps = Array.from({ length: 50 }, () => new BlockMap(terabyte));
    for (const map of maps) {
      map.mark(map.pageCount - 1, map.pageCount);
      assert.deepEqual(map.absentRuns(0, map.pageCount), [{ start: 0, end: map.pageCount - 1 }]);
    }
    const after = process.memoryUsage();
    const bytes = after.arrayBuffers - before.arrayBuffers;
    assert.ok(bytes < 50 * 8192, `${bytes} bytes of records`);
  });
});
