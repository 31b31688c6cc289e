/**
 * Which pages of one image are present, and the sums of its blocks: in memory only, no I/O.
 *
 * Records lie in chunks of 512 blocks (32 MiB of the image, one page of the map file), made when a
 * page of theirs is first marked: what is absent takes neither memory nor time, however large the
 * image is.
 *
 * Invariants:
 *  - `presentPages` is the number of marks; no page beyond the image's end is marked.
 *  - A page is marked once: its bytes count in the sum of its block once. A sum is linear in the
 *    bytes of the present pages, so that it is added to and taken from by exclusive or (C2).
 *  - A mark is never taken away from a part of a block without the sum of that part: `clear` takes
 *    whole blocks, since what is left could not be checked any more.
 *  - Every change of a record is told to each tracker, every loss of a mark to each loss tracker:
 *    what has to go to the disk cannot be forgotten.
 */
import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';

/** Records are kept, and written, by so many. */
export const CHUNK_BLOCKS = 512;
export const CHUNK_PAGES = CHUNK_BLOCKS * PAGES_PER_BLOCK;

/** Pages [start, end). */
export interface PageRun {
  readonly start: number;
  readonly end: number;
}

/** The chunks in which something changed since they were taken. */
export class ChangedChunks {
  readonly #chunks = new Set<number>();

  get any(): boolean {
    return this.#chunks.size > 0;
  }

  add(chunk: number): void {
    this.#chunks.add(chunk);
  }

  /** At most `most` of them, ascending: the caller has to write them, or to put them back. */
  take(most = Number.POSITIVE_INFINITY): number[] {
    const taken = [...this.#chunks].sort((a, b) => a - b).slice(0, most);
    for (const chunk of taken) this.#chunks.delete(chunk);
    return taken;
  }

  putBack(chunks: Iterable<number>): void {
    for (const chunk of chunks) this.#chunks.add(chunk);
  }
}

/** The blocks that lost a mark, or whose bytes may have changed, since the tracking began. */
export class LostBlocks {
  readonly #blocks = new Set<number>();

  add(block: number): void {
    this.#blocks.add(block);
  }

  has(block: number): boolean {
    return this.#blocks.has(block);
  }
}

/** The records of a chunk: those of its blocks, in order. */
export interface Records {
  readonly masks: Uint16Array;
  readonly sums: Uint32Array;
}

interface Chunk extends Records {
  /** Marks in it. */
  present: number;
}

export class BlockMap {
  readonly #trackers: ChangedChunks[] = [];
  readonly #lossTrackers = new Set<LostBlocks>();
  #chunks: (Chunk | undefined)[];
  #sizeBytes: number;
  #presentPages = 0;

  /** A map of an image of `sizeBytes` bytes, of which nothing is present. */
  constructor(sizeBytes: number) {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'block map: size');
    this.#sizeBytes = sizeBytes;
    this.#chunks = [];
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get pageCount(): number {
    return Math.ceil(this.#sizeBytes / PAGE_BYTES);
  }

  get blockCount(): number {
    return Math.ceil(this.#sizeBytes / BLOCK_BYTES);
  }

  get chunkCount(): number {
    return Math.ceil(this.blockCount / CHUNK_BLOCKS);
  }

  /** How many pages are present. */
  get presentPages(): number {
    return this.#presentPages;
  }

  get complete(): boolean {
    return this.#presentPages === this.pageCount;
  }

  /** Whether all pages of [startPage, endPage) are present; true for no page at all. */
  isPresent(startPage: number, endPage: number): boolean {
    for (let page = startPage; page < endPage; ) {
      const chunk = this.#chunks[Math.floor(page / CHUNK_PAGES)];
      if (chunk === undefined) return false;
      const block = Math.floor(page / PAGES_PER_BLOCK);
      const wanted = maskBetween(page, endPage, block);
      if (((chunk.masks[block % CHUNK_BLOCKS] ?? 0) & wanted) !== wanted) return false;
      page = (block + 1) * PAGES_PER_BLOCK;
    }
    return true;
  }

  /** The runs of absent pages in [startPage, endPage), ascending, at most `most` of them. */
  absentRuns(startPage: number, endPage: number, most?: number): PageRun[] {
    return this.#runs(startPage, endPage, false, most);
  }

  /** The runs of present pages in [startPage, endPage), ascending, at most `most` of them. */
  presentRuns(startPage: number, endPage: number, most?: number): PageRun[] {
    return this.#runs(startPage, endPage, true, most);
  }

  /** How many pages of [startPage, endPage) are present. */
  countPresent(startPage: number, endPage: number): number {
    let count = 0;
    for (let page = startPage; page < endPage; ) {
      const index = Math.floor(page / CHUNK_PAGES);
      const chunk = this.#chunks[index];
      const chunkEnd = (index + 1) * CHUNK_PAGES;
      if (chunk === undefined || (page % CHUNK_PAGES === 0 && chunkEnd <= endPage)) {
        count += chunk?.present ?? 0;
        page = chunkEnd;
        continue;
      }
      const block = Math.floor(page / PAGES_PER_BLOCK);
      const mask = chunk.masks[block % CHUNK_BLOCKS] ?? 0;
      count += bitCount(mask & maskBetween(page, endPage, block));
      page = (block + 1) * PAGES_PER_BLOCK;
    }
    return count;
  }

  /** Bytes of the present pages of [startPage, endPage): of the last page only those of the file. */
  presentBytes(startPage = 0, endPage = this.pageCount): number {
    const pages = this.countPresent(startPage, Math.min(endPage, this.pageCount));
    const last = this.pageCount - 1;
    const hasLast = startPage <= last && last < endPage && this.isPresent(last, this.pageCount);
    const behindEnd = hasLast ? this.pageCount * PAGE_BYTES - this.#sizeBytes : 0;
    return pages * PAGE_BYTES - behindEnd;
  }

  /**
   * Marks [startPage, endPage), all of them absent, as present: to be called only when their bytes
   * are in the file (C1). `sums` are those that `FileIo.store` answered for just these bytes.
   */
  mark(startPage: number, endPage: number, sums?: Uint32Array): void {
    assert(startPage >= 0 && startPage <= endPage && endPage <= this.pageCount, 'mark: range');
    let index = 0;
    for (let page = startPage; page < endPage; index += 1) {
      const block = Math.floor(page / PAGES_PER_BLOCK);
      const chunk = this.#chunkFor(block);
      const at = block % CHUNK_BLOCKS;
      const pages = maskBetween(page, endPage, block);
      const before = chunk.masks[at] ?? 0;
      assert((before & pages) === 0, 'mark: a page that is present already');
      chunk.masks[at] = before | pages;
      chunk.sums[at] = (chunk.sums[at] ?? 0) ^ (sums?.[index] ?? 0);
      chunk.present += bitCount(pages);
      this.#presentPages += bitCount(pages);
      this.#changed(block);
      page = (block + 1) * PAGES_PER_BLOCK;
    }
  }

  /**
   * Takes the marks of every block that [startPage, endPage) touches, whole blocks, and answers
   * the pages of these. In memory only: see `ImageDirectory.clearDurably`.
   */
  clear(startPage: number, endPage: number): PageRun {
    assert(startPage >= 0 && startPage <= endPage && endPage <= this.pageCount, 'clear: range');
    if (startPage === endPage) return { start: startPage, end: startPage };
    const first = Math.floor(startPage / PAGES_PER_BLOCK);
    const end = Math.ceil(endPage / PAGES_PER_BLOCK);
    for (let block = first; block < end; ) {
      if (this.#chunks[Math.floor(block / CHUNK_BLOCKS)] === undefined) {
        block = (Math.floor(block / CHUNK_BLOCKS) + 1) * CHUNK_BLOCKS;
        continue;
      }
      this.restore(block, 0, 0);
      block += 1;
    }
    return {
      start: first * PAGES_PER_BLOCK,
      end: Math.min(end * PAGES_PER_BLOCK, this.pageCount),
    };
  }

  /**
   * Takes the marks of some pages of one block, all present: bit i of `pages` is page i of the
   * block, `partSum` the sum of these pages alone, read from the file before it changes. In
   * memory only; the block of a written page goes this way and is marked again with new bytes.
   */
  unmark(block: number, pages: number, partSum: number): void {
    const mask = this.mask(block);
    assert((mask & pages) === pages, 'unmark: a page that is absent');
    this.restore(block, mask & ~pages, this.sum(block) ^ partSum);
  }

  /** Bit i says that page i of the block is present. */
  mask(block: number): number {
    return this.#chunks[Math.floor(block / CHUNK_BLOCKS)]?.masks[block % CHUNK_BLOCKS] ?? 0;
  }

  /** The linear sum of the block's present pages, as `FileIo.sums` computes it. */
  sum(block: number): number {
    return this.#chunks[Math.floor(block / CHUNK_BLOCKS)]?.sums[block % CHUNK_BLOCKS] ?? 0;
  }

  /** Adds (or, being an exclusive or, takes away) the sum of some pages of the block. */
  addSum(block: number, partSum: number): void {
    this.setSum(block, this.sum(block) ^ partSum);
  }

  setSum(block: number, sum: number): void {
    this.restore(block, this.mask(block), sum);
  }

  /** Sets a whole record. */
  restore(block: number, mask: number, sum: number): void {
    const before = this.mask(block);
    assert((mask & ~this.fullMask(block)) === 0, 'restore: a page beyond the end');
    if (mask === 0 && before === 0) return;
    const chunk = this.#chunkFor(block);
    const difference = bitCount(mask) - bitCount(before);
    chunk.masks[block % CHUNK_BLOCKS] = mask;
    chunk.sums[block % CHUNK_BLOCKS] = mask === 0 ? 0 : sum;
    chunk.present += difference;
    this.#presentPages += difference;
    this.#changed(block);
    if (before !== 0) for (const lost of this.#lossTrackers) lost.add(block);
  }

  /** The mask of a block of which every page is present. */
  fullMask(block: number): number {
    return maskBetween(block * PAGES_PER_BLOCK, this.pageCount, block);
  }

  /** The records of a chunk, for reading only; undefined where nothing was ever present. */
  recordsOf(chunk: number): Records | undefined {
    return this.#chunks[chunk];
  }

  /** Takes over the records of a chunk of which nothing is present, as they were written down. */
  adoptRecords(chunk: number, { masks, sums }: Records): void {
    assert(this.isEmptyChunk(chunk), 'adopt: there are marks already');
    let present = 0;
    for (const mask of masks) present += mask === 0xffff ? PAGES_PER_BLOCK : bitCount(mask);
    while (this.#chunks.length <= chunk) this.#chunks.push(undefined);
    this.#chunks[chunk] = { masks, sums, present };
    this.#presentPages += present;
    for (const tracker of this.#trackers) tracker.add(chunk);
  }

  /** Whether nothing of the chunk is present. */
  isEmptyChunk(chunk: number): boolean {
    return (this.#chunks[chunk]?.present ?? 0) === 0;
  }

  /**
   * The image has another size. Marks beyond it are cut; where a shorter image ends within a
   * block, that block loses its marks, since its sum is of bytes that are no more.
   */
  resize(sizeBytes: number): void {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'block map: size');
    if (sizeBytes < this.#sizeBytes) {
      const start = Math.floor(sizeBytes / BLOCK_BYTES) * PAGES_PER_BLOCK;
      this.clear(start, this.pageCount);
    }
    this.#sizeBytes = sizeBytes;
    this.#chunks.length = Math.min(this.#chunks.length, this.chunkCount);
  }

  /** From now on every changed chunk is told to the answered tracker. */
  track(): ChangedChunks {
    const tracker = new ChangedChunks();
    this.#trackers.push(tracker);
    return tracker;
  }

  /** From now on, until `untrackLosses`, every block that loses a mark is told. */
  trackLosses(): LostBlocks {
    const tracker = new LostBlocks();
    this.#lossTrackers.add(tracker);
    return tracker;
  }

  untrackLosses(tracker: LostBlocks): void {
    this.#lossTrackers.delete(tracker);
  }

  #chunkFor(block: number): Chunk {
    const index = Math.floor(block / CHUNK_BLOCKS);
    const known = this.#chunks[index];
    if (known !== undefined) return known;
    const made: Chunk = {
      masks: new Uint16Array(CHUNK_BLOCKS),
      sums: new Uint32Array(CHUNK_BLOCKS),
      present: 0,
    };
    // Not by index beyond the end: V8 would turn a large sparse array into a hash table.
    while (this.#chunks.length <= index) this.#chunks.push(undefined);
    this.#chunks[index] = made;
    return made;
  }

  #changed(block: number): void {
    const chunk = Math.floor(block / CHUNK_BLOCKS);
    for (const tracker of this.#trackers) tracker.add(chunk);
  }

  #runs(
    startPage: number,
    endPage: number,
    wanted: boolean,
    most = Number.POSITIVE_INFINITY,
  ): PageRun[] {
    const runs: PageRun[] = [];
    let start = -1;
    const pageEnd = Math.min(endPage, this.pageCount);
    for (let page = startPage; page < pageEnd; ) {
      const piece = this.#samePages(page, pageEnd);
      if (piece.present === wanted) {
        if (start < 0) start = page;
      } else if (start >= 0) {
        runs.push({ start, end: page });
        if (runs.length >= most) return runs;
        start = -1;
      }
      page = piece.end;
    }
    if (start >= 0 && runs.length < most) runs.push({ start, end: pageEnd });
    return runs;
  }

  /** Pages from `page` on that are like it: a piece of a run, as far as it is quickly seen. */
  #samePages(page: number, endPage: number): { present: boolean; end: number } {
    const index = Math.floor(page / CHUNK_PAGES);
    const chunk = this.#chunks[index];
    const chunkEnd = Math.min((index + 1) * CHUNK_PAGES, endPage);
    if (chunk === undefined || chunk.present === 0) return { present: false, end: chunkEnd };
    if (chunk.present === CHUNK_PAGES) return { present: true, end: chunkEnd };
    const block = Math.floor(page / PAGES_PER_BLOCK);
    const bit = page % PAGES_PER_BLOCK;
    const mask = (chunk.masks[block % CHUNK_BLOCKS] ?? 0) >>> bit;
    const present = (mask & 1) === 1;
    // The lowest bit that differs: all above the block's bits count as different.
    const different = (present ? ~mask : mask) | (1 << (PAGES_PER_BLOCK - bit));
    const length = 31 - Math.clz32(different & -different);
    return { present, end: Math.min(page + length, endPage) };
  }
}

/** The bits of the pages of [page, endPage) that lie in the block. */
function maskBetween(page: number, endPage: number, block: number): number {
  const first = block * PAGES_PER_BLOCK;
  const from = Math.max(page - first, 0);
  const to = Math.min(endPage - first, PAGES_PER_BLOCK);
  return to <= from ? 0 : (1 << to) - (1 << from);
}

function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
