/** The map of an image against a plain list of pages. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockMap, CHUNK_PAGES } from '../../src/cache/block-map.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';

/** What the map has to be like: a number for each present page, which is its part of the sum. */
class PlainMap {
  parts: (number | undefined)[];

  constructor(pages: number) {
    this.parts = new Array<number | undefined>(pages).fill(undefined);
  }

  sum(block: number): number {
    const parts = this.parts.slice(block * PAGES_PER_BLOCK, (block + 1) * PAGES_PER_BLOCK);
    return parts.reduce<number>((sum, part) => (sum ^ (part ?? 0)) >>> 0, 0);
  }

  runs(start: number, end: number, present: boolean): { start: number; end: number }[] {
    const runs: { start: number; end: number }[] = [];
    for (let page = start; page < end; page += 1) {
      if ((this.parts[page] !== undefined) !== present) continue;
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
  kind: fc.constantFrom('mark', 'mark', 'mark', 'clear', 'unmark', 'resize' as const),
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
          } else if (kind === 'resize') {
            const sizeBytes = page * PAGE_BYTES - (page > 0 ? part % PAGE_BYTES : 0);
            if (sizeBytes < map.sizeBytes) {
              const block = Math.floor(sizeBytes / BLOCK_BYTES);
              plain.parts.fill(undefined, block * PAGES_PER_BLOCK);
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
        const present = plain.parts.filter((part) => part !== undefined).length;
        assert.equal(map.presentPages, present);
        assert.equal(map.countPresent(0, map.pageCount), present);
        const within = plain.parts.slice(from, to).filter((part) => part !== undefined).length;
        assert.equal(map.countPresent(from, to), within);
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
