/**
 * Which pages of one image are present, which of them are dirty, and the sums of its blocks: in
 * memory only, no I/O.
 *
 *               mark                  makeDirty
 *   absent -------------> clean ----------------------> dirty      present: clean or dirty
 *     ^  ^----------------' ^ '------------------------' | |
 *     |   clear, unmark     '-------- makeClean ---------' |
 *     '-------------------------- dropDirty, resize -------'       absent -- makeDirty --> dirty
 *
 * Records lie in chunks of 256 blocks (16 MiB of the image, one page of the map file), made when a
 * page of theirs is first marked: what is absent takes neither memory nor time, however large the
 * image is.
 *
 * Invariants:
 *  - `presentPages` and `dirtyPages` are the numbers of marks; no page beyond the image's end is
 *    marked; a dirty page is present.
 *  - C4: only `dropDirty`, and `resize` beyond the new end, take a dirty page away. `clear` and
 *    `unmark` are about clean pages; `restore` refuses.
 *  - A sum is of the clean pages alone. A page is marked once: its bytes count in the sum of its
 *    block once. A sum is linear in the bytes, so that it is added to and taken from by exclusive
 *    or (C2). Where no page is clean it is 0.
 *  - A mark is never taken away from a part of the clean pages of a block without the sum of that
 *    part: `clear` takes whole blocks, since what is left could not be checked any more.
 *  - Every change of a record is told to each tracker, every loss of a mark to each loss tracker:
 *    what has to go to the disk cannot be forgotten. `writes` grows with each store that is told,
 *    also with those that change no record: bytes have to go to the disk, too.
 */
import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';

/** Records are kept, and written, by so many. */
export const CHUNK_BLOCKS = 256;
export const CHUNK_PAGES = CHUNK_BLOCKS * PAGES_PER_BLOCK;

/** Pages [start, end). */
export interface PageRun {
  readonly start: number;
  readonly end: number;
}

/** The records that changed in a chunk, by block; 'all': more than a few. */
export type ChangedBlocks = readonly number[] | 'all';

/** So many records of a chunk are told one by one. */
const FEW_BLOCKS = 8;

/** The chunks in which something changed since they were taken, and what in them. */
export class ChangedChunks {
  #chunks = new Map<number, number[] | 'all'>();

  get any(): boolean {
    return this.#chunks.size > 0;
  }

  /** All of it. */
  add(chunk: number): void {
    this.#chunks.set(chunk, 'all');
  }

  addBlock(block: number): void {
    const chunk = Math.floor(block / CHUNK_BLOCKS);
    const blocks = this.#chunks.get(chunk);
    if (blocks === undefined) this.#chunks.set(chunk, [block]);
    else if (blocks === 'all' || blocks.includes(block)) return;
    else if (blocks.length < FEW_BLOCKS) blocks.push(block);
    else this.#chunks.set(chunk, 'all');
  }

  /** At most `most` of them, ascending: the caller has to write them, or to put them back. */
  take(most = Number.POSITIVE_INFINITY): number[] {
    const taken = [...this.#chunks.keys()].sort((a, b) => a - b).slice(0, most);
    for (const chunk of taken) this.#chunks.delete(chunk);
    return taken;
  }

  /** All of them, with what has changed in each; the same is asked of the caller. */
  takeBlocks(): ReadonlyMap<number, ChangedBlocks> {
    const taken = this.#chunks;
    this.#chunks = new Map();
    return taken;
  }

  putBack(chunks: Iterable<number>): void {
    for (const chunk of chunks) this.add(chunk);
  }
}

/** The pages that lost a mark, or whose bytes are other ones, since the tracking began. */
export class LostPages {
  readonly #pages = new Map<number, number>();

  add(block: number, pages: number): void {
    this.#pages.set(block, this.in(block) | pages);
  }

  /** Bit i: page i of the block. */
  in(block: number): number {
    return this.#pages.get(block) ?? 0;
  }
}

/** The records of a chunk: those of its blocks, in order. */
export interface Records {
  /** Which pages are present. */
  readonly masks: Uint16Array;
  /** Which of these are dirty. */
  readonly dirty: Uint16Array;
  readonly sums: Uint32Array;
}

interface Chunk extends Records {
  /** Marks in it. */
  presentPages: number;
  dirtyPages: number;
}

/** Which bits of a record are asked for, and the count of them in its chunk. */
type Kind = 'present' | 'dirty';

export class BlockMap {
  readonly #trackers: ChangedChunks[] = [];
  readonly #lossTrackers = new Set<LostPages>();
  #chunks: (Chunk | undefined)[];
  #sizeBytes: number;
  #presentPages = 0;
  #dirtyPages = 0;
  #writes = 0;

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

  /** How many pages are dirty. */
  get dirtyPages(): number {
    return this.#dirtyPages;
  }

  /** Grows whenever bytes were put into present pages, or pages became present. */
  get writes(): number {
    return this.#writes;
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
    return this.#runs(startPage, endPage, 'present', false, most);
  }

  /** The runs of present pages in [startPage, endPage), ascending, at most `most` of them. */
  presentRuns(startPage: number, endPage: number, most?: number): PageRun[] {
    return this.#runs(startPage, endPage, 'present', true, most);
  }

  /** The runs of dirty pages in [startPage, endPage), ascending, at most `most` of them. */
  dirtyRuns(startPage: number, endPage: number, most?: number): PageRun[] {
    return this.#runs(startPage, endPage, 'dirty', true, most);
  }

  /** How many pages of [startPage, endPage) are present. */
  countPresent(startPage: number, endPage: number): number {
    return this.#count(startPage, endPage, 'present');
  }

  /** How many pages of [startPage, endPage) are dirty. */
  countDirty(startPage: number, endPage: number): number {
    return this.#dirtyPages === 0 ? 0 : this.#count(startPage, endPage, 'dirty');
  }

  /** Bytes of the present pages of [startPage, endPage): of the last page only those of the file. */
  presentBytes(startPage = 0, endPage = this.pageCount): number {
    return this.#bytes(startPage, endPage, 'present');
  }

  /** Bytes of the dirty pages, in the same way. */
  dirtyBytes(startPage = 0, endPage = this.pageCount): number {
    return this.#dirtyPages === 0 ? 0 : this.#bytes(startPage, endPage, 'dirty');
  }

  /**
   * Marks [startPage, endPage), all of them absent, as present and clean: to be called only when their bytes
   * are in the file (C1). `sums` are those that `FileIo.store` answered for just these bytes.
   */
  mark(startPage: number, endPage: number, sums?: Uint32Array): void {
    assert(startPage >= 0 && startPage <= endPage && endPage <= this.pageCount, 'mark: range');
    let index = 0;
    this.#writes += 1;
    for (let page = startPage; page < endPage; index += 1) {
      const block = Math.floor(page / PAGES_PER_BLOCK);
      const chunk = this.#chunkFor(block);
      const at = block % CHUNK_BLOCKS;
      const pages = maskBetween(page, endPage, block);
      const before = chunk.masks[at] ?? 0;
      assert((before & pages) === 0, 'mark: a page that is present already');
      chunk.masks[at] = before | pages;
      chunk.sums[at] = (chunk.sums[at] ?? 0) ^ (sums?.[index] ?? 0);
      chunk.presentPages += bitCount(pages);
      this.#presentPages += bitCount(pages);
      this.#changed(block);
      page = (block + 1) * PAGES_PER_BLOCK;
    }
  }

  /**
   * Pages of one block (bit i of `pages` is page i) were written by us: to be called only when
   * their bytes are in the file. They are present and dirty now. `oldSum` is the sum of what those
   * of them held that were clean, as `FileIo.overwrite` answers it.
   */
  makeDirty(block: number, pages: number, oldSum: number): void {
    assert((pages & ~this.fullMask(block)) === 0, 'dirty: a page beyond the end');
    this.#writes += 1;
    const present = this.mask(block);
    const dirty = this.dirtyMask(block);
    if ((pages & ~dirty) === 0) return;
    const clean = present & pages & ~dirty;
    const sum = clean === 0 ? this.sum(block) : this.sum(block) ^ oldSum;
    this.#set(block, present | pages, dirty | pages, sum);
  }

  /** Dirty pages of one block are what the server has: `sum` is that of these pages alone. */
  makeClean(block: number, pages: number, sum: number): void {
    const dirty = this.dirtyMask(block);
    assert((dirty & pages) === pages, 'clean: a page that is not dirty');
    if (pages === 0) return;
    this.#set(block, this.mask(block), dirty & ~pages, this.sum(block) ^ sum);
  }

  /**
   * Dirty pages of one block are nobody's any more: absent now. In memory only: see
   * `ImageDirectory.dropDirtyDurably`.
   */
  dropDirty(block: number, pages: number): void {
    const dirty = this.dirtyMask(block);
    assert((dirty & pages) === pages, 'drop: a page that is not dirty');
    if (pages === 0) return;
    this.#set(block, this.mask(block) & ~pages, dirty & ~pages, this.sum(block));
    this.#lost(block, pages);
  }

  /**
   * Takes the clean marks of every block that [startPage, endPage) touches, whole blocks, and
   * answers the pages of these. Dirty pages stay as they are. In memory only: see
   * `ImageDirectory.clearDurably`.
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
      this.#clearBlock(block);
      block += 1;
    }
    return {
      start: first * PAGES_PER_BLOCK,
      end: Math.min(end * PAGES_PER_BLOCK, this.pageCount),
    };
  }

  /**
   * Takes the marks of some pages of one block, all clean: bit i of `pages` is page i of the
   * block, `partSum` the sum of these pages alone, read from the file before it changes. In
   * memory only; the block of a written page goes this way and is marked again with new bytes.
   */
  unmark(block: number, pages: number, partSum: number): void {
    const mask = this.mask(block);
    const dirty = this.dirtyMask(block);
    assert((mask & ~dirty & pages) === pages, 'unmark: a page that is absent or dirty');
    if (pages === 0) return;
    this.#set(block, mask & ~pages, dirty, this.sum(block) ^ partSum);
    this.#lost(block, pages);
  }

  /** Bit i says that page i of the block is present. */
  mask(block: number): number {
    return this.#chunks[Math.floor(block / CHUNK_BLOCKS)]?.masks[block % CHUNK_BLOCKS] ?? 0;
  }

  /** Bit i says that page i of the block is dirty. */
  dirtyMask(block: number): number {
    return this.#chunks[Math.floor(block / CHUNK_BLOCKS)]?.dirty[block % CHUNK_BLOCKS] ?? 0;
  }

  /** Bit i says that page i of the block is present, and not dirty: that the sum is of it. */
  cleanMask(block: number): number {
    return this.mask(block) & ~this.dirtyMask(block);
  }

  /** The linear sum of the block's clean pages, as `FileIo.sums` computes it. */
  sum(block: number): number {
    return this.#chunks[Math.floor(block / CHUNK_BLOCKS)]?.sums[block % CHUNK_BLOCKS] ?? 0;
  }

  /** Sets a whole record: the present pages, the sum of the clean ones, the dirty ones. */
  restore(block: number, mask: number, sum: number, dirty = this.dirtyMask(block)): void {
    const before = this.mask(block);
    const dirtyBefore = this.dirtyMask(block);
    assert((mask & ~this.fullMask(block)) === 0, 'restore: a page beyond the end');
    assert((dirty & ~mask) === 0 && (dirtyBefore & ~dirty) === 0, 'restore: a dirty page is lost');
    if (mask === 0 && before === 0) return;
    this.#set(block, mask, dirty, sum);
    this.#lost(block, before & ~dirtyBefore);
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
  adoptRecords(chunk: number, { masks, dirty, sums }: Records): void {
    assert(this.isEmptyChunk(chunk), 'adopt: there are marks already');
    let presentPages = 0;
    let dirtyPages = 0;
    for (const mask of masks) presentPages += mask === 0xffff ? PAGES_PER_BLOCK : bitCount(mask);
    for (const mask of dirty) if (mask !== 0) dirtyPages += bitCount(mask);
    while (this.#chunks.length <= chunk) this.#chunks.push(undefined);
    this.#chunks[chunk] = { masks, dirty, sums, presentPages, dirtyPages };
    this.#presentPages += presentPages;
    this.#dirtyPages += dirtyPages;
    for (const tracker of this.#trackers) tracker.add(chunk);
  }

  /** Whether nothing of the chunk is present. */
  isEmptyChunk(chunk: number): boolean {
    return (this.#chunks[chunk]?.presentPages ?? 0) === 0;
  }

  /**
   * The image has another size. Marks beyond it are cut, those of dirty pages, too; where a shorter
   * image ends within a block, that block loses its clean marks, since its sum is of bytes that
   * are no more.
   */
  resize(sizeBytes: number): void {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'block map: size');
    if (sizeBytes < this.#sizeBytes) {
      const end = Math.ceil(sizeBytes / PAGE_BYTES);
      for (const run of this.dirtyRuns(end, this.pageCount)) this.#dropDirtyRun(run);
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

  /** From now on, until `untrackLosses`, every page that loses its mark is told. */
  trackLosses(): LostPages {
    const tracker = new LostPages();
    this.#lossTrackers.add(tracker);
    return tracker;
  }

  untrackLosses(tracker: LostPages): void {
    this.#lossTrackers.delete(tracker);
  }

  #clearBlock(block: number): void {
    const dirty = this.dirtyMask(block);
    const clean = this.mask(block) & ~dirty;
    if (clean === 0) return;
    this.#set(block, dirty, dirty, 0);
    this.#lost(block, clean);
  }

  #dropDirtyRun({ start, end }: PageRun): void {
    for (let page = start; page < end; ) {
      const block = Math.floor(page / PAGES_PER_BLOCK);
      this.dropDirty(block, maskBetween(page, end, block));
      page = (block + 1) * PAGES_PER_BLOCK;
    }
  }

  #set(block: number, present: number, dirty: number, sum: number): void {
    const chunk = this.#chunkFor(block);
    const at = block % CHUNK_BLOCKS;
    const morePresent = bitCount(present) - bitCount(chunk.masks[at] ?? 0);
    const moreDirty = bitCount(dirty) - bitCount(chunk.dirty[at] ?? 0);
    chunk.masks[at] = present;
    chunk.dirty[at] = dirty;
    chunk.sums[at] = present === dirty ? 0 : sum;
    chunk.presentPages += morePresent;
    chunk.dirtyPages += moreDirty;
    this.#presentPages += morePresent;
    this.#dirtyPages += moreDirty;
    this.#changed(block);
  }

  #chunkFor(block: number): Chunk {
    const index = Math.floor(block / CHUNK_BLOCKS);
    const known = this.#chunks[index];
    if (known !== undefined) return known;
    const made: Chunk = {
      masks: new Uint16Array(CHUNK_BLOCKS),
      dirty: new Uint16Array(CHUNK_BLOCKS),
      sums: new Uint32Array(CHUNK_BLOCKS),
      presentPages: 0,
      dirtyPages: 0,
    };
    // Not by index beyond the end: V8 would turn a large sparse array into a hash table.
    while (this.#chunks.length <= index) this.#chunks.push(undefined);
    this.#chunks[index] = made;
    return made;
  }

  #changed(block: number): void {
    for (const tracker of this.#trackers) tracker.addBlock(block);
  }

  #lost(block: number, pages: number): void {
    if (pages !== 0) for (const lost of this.#lossTrackers) lost.add(block, pages);
  }

  #count(startPage: number, endPage: number, kind: Kind): number {
    // Asked for after every write.
    if (startPage === 0 && endPage >= this.pageCount) {
      return kind === 'present' ? this.#presentPages : this.#dirtyPages;
    }
    let count = 0;
    for (let page = startPage; page < endPage; ) {
      const index = Math.floor(page / CHUNK_PAGES);
      const chunk = this.#chunks[index];
      const chunkEnd = (index + 1) * CHUNK_PAGES;
      const inChunk = chunk === undefined ? 0 : pagesIn(chunk, kind);
      if (chunk === undefined || inChunk === 0) {
        page = chunkEnd;
        continue;
      }
      if (page % CHUNK_PAGES === 0 && chunkEnd <= endPage) {
        count += inChunk;
        page = chunkEnd;
        continue;
      }
      const block = Math.floor(page / PAGES_PER_BLOCK);
      const mask = masksIn(chunk, kind)[block % CHUNK_BLOCKS] ?? 0;
      count += bitCount(mask & maskBetween(page, endPage, block));
      page = (block + 1) * PAGES_PER_BLOCK;
    }
    return count;
  }

  #bytes(startPage: number, endPage: number, kind: Kind): number {
    const pages = this.#count(startPage, Math.min(endPage, this.pageCount), kind);
    const last = this.pageCount - 1;
    const hasLast =
      startPage <= last && last < endPage && this.#count(last, this.pageCount, kind) === 1;
    const behindEnd = hasLast ? this.pageCount * PAGE_BYTES - this.#sizeBytes : 0;
    return pages * PAGE_BYTES - behindEnd;
  }

  #runs(
    startPage: number,
    endPage: number,
    kind: Kind,
    wanted: boolean,
    most = Number.POSITIVE_INFINITY,
  ): PageRun[] {
    const runs: PageRun[] = [];
    let start = -1;
    const pageEnd = Math.min(endPage, this.pageCount);
    for (let page = startPage; page < pageEnd; ) {
      const piece = this.#samePages(page, pageEnd, kind);
      if (piece.are === wanted) {
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
  #samePages(page: number, endPage: number, kind: Kind): { are: boolean; end: number } {
    const index = Math.floor(page / CHUNK_PAGES);
    const chunk = this.#chunks[index];
    const chunkEnd = Math.min((index + 1) * CHUNK_PAGES, endPage);
    const inChunk = chunk === undefined ? 0 : pagesIn(chunk, kind);
    if (chunk === undefined || inChunk === 0) return { are: false, end: chunkEnd };
    if (inChunk === CHUNK_PAGES) return { are: true, end: chunkEnd };
    const block = Math.floor(page / PAGES_PER_BLOCK);
    const bit = page % PAGES_PER_BLOCK;
    const mask = (masksIn(chunk, kind)[block % CHUNK_BLOCKS] ?? 0) >>> bit;
    const are = (mask & 1) === 1;
    // The lowest bit that differs: all above the block's bits count as different.
    const different = (are ? ~mask : mask) | (1 << (PAGES_PER_BLOCK - bit));
    const length = 31 - Math.clz32(different & -different);
    return { are, end: Math.min(page + length, endPage) };
  }
}

function pagesIn(chunk: Chunk, kind: Kind): number {
  return kind === 'present' ? chunk.presentPages : chunk.dirtyPages;
}

function masksIn(chunk: Chunk, kind: Kind): Uint16Array {
  return kind === 'present' ? chunk.masks : chunk.dirty;
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
