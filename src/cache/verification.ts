/**
 * Blocks that were found on the disk are checked against their sums before they are used (C2).
 *
 *   unchecked --first use, or in the background--> trusted
 *       ^                          '-----differs--> damaged: told, cleared durably, absent
 *       '--- a sync failed: the disk may have lost what was stored
 *
 * What was stored since the image was taken up is trusted: the page cache has it. A block with
 * pages of both kinds is unchecked; its sum covers both.
 *
 * C4  Dirty pages have no sum, and are believed: nobody else has them. What is damaged of their block
 *     loses its clean pages only.
 */

import type { BlockMap } from './block-map.ts';
import type { CacheCounts } from './cache-parts.ts';
import type { DiskHealth } from './disk-health.ts';
import { BLOCK_BYTES, type FileIo, PAGES_PER_BLOCK } from './file-io.ts';
import type { PageLane } from './page-lane.ts';
import { blocksOf, maskOf, type PageRange } from './page-range.ts';

/** Blocks checked in one go. */
export const CHECKED_AT_ONCE = 16;

export interface VerifiedFile {
  readonly map: BlockMap;
  readonly fd: number;
  readonly lane: PageLane;
  readonly io: FileIo;
  readonly health: DiskHealth;
  readonly counts: CacheCounts;
  /** In the lane: of blocks that are not to be believed the clean pages are durably cleared. */
  removeBlocks(range: PageRange): Promise<void>;
  damaged(offset: number, length: number): void;
  readonly retired: boolean;
}

export class Verification {
  readonly #file: VerifiedFile;
  /** One bit a block; undefined: all are trusted. */
  #unchecked: Uint32Array | undefined;
  /** All before it are trusted: where the background goes on. */
  #cursor = 0;

  /** `found`: what is marked was found on the disk. */
  constructor(file: VerifiedFile, found: boolean) {
    this.#file = file;
    if (found && file.map.presentPages > 0) this.distrust();
  }

  /** Nothing of it is left to be checked. */
  get isDone(): boolean {
    return this.#unchecked === undefined || this.nextUnchecked() === undefined;
  }

  /** May the present pages of the range be used? */
  isTrusted(range: PageRange): boolean {
    if (this.#unchecked === undefined) return true;
    const last = Math.floor((range.end - 1) / PAGES_PER_BLOCK);
    for (let block = Math.floor(range.start / PAGES_PER_BLOCK); block <= last; block++) {
      if (!this.#isUnchecked(block)) continue;
      if ((this.#file.map.cleanMask(block) & maskOf(range, block)) !== 0) return false;
    }
    return true;
  }

  /** Every block has to be checked again. */
  distrust(): void {
    this.#unchecked = new Uint32Array(Math.ceil(this.#file.map.blockCount / 32)).fill(0xffffffff);
    this.#cursor = 0;
  }

  /** Checks what is not trusted in the range; what is damaged is absent afterwards. */
  async check(range: PageRange): Promise<void> {
    await this.#inParts(range, (part) => this.#checkPart(part, 'unchecked'));
  }

  /** The same for who is in the lane already, with all blocks of the range. */
  async checkInLane(range: PageRange): Promise<void> {
    if (!this.isTrusted(range)) await this.#compareAll(blocksOf(range), 'unchecked');
  }

  /** The blocks of the range have to be checked again: something went wrong with their bytes. */
  distrustBlocks(range: PageRange): void {
    const { map } = this.#file;
    this.#unchecked ??= new Uint32Array(Math.ceil(map.blockCount / 32));
    const words = Math.ceil(map.blockCount / 32);
    if (words > this.#unchecked.length) {
      const longer = new Uint32Array(words);
      longer.set(this.#unchecked);
      this.#unchecked = longer;
    }
    const first = Math.floor(range.start / PAGES_PER_BLOCK);
    const end = Math.min(Math.ceil(range.end / PAGES_PER_BLOCK), map.blockCount);
    for (let block = first; block < end; block++) {
      const word = this.#unchecked[block >>> 5] ?? 0;
      this.#unchecked[block >>> 5] = word | (1 << (block & 31));
    }
    this.#cursor = Math.min(this.#cursor, first);
  }

  /** Checks all present blocks of the range, trusted or not. */
  async checkAgain(range: PageRange): Promise<void> {
    await this.#inParts(range, (part) => this.#checkPart(part, 'all'));
  }

  /** The next part that the background has to check; undefined when all is done. */
  nextUnchecked(): PageRange | undefined {
    const { map } = this.#file;
    for (; this.#unchecked !== undefined; this.#cursor += 1) {
      const block = this.#cursor;
      if (block >= map.blockCount) {
        this.#unchecked = undefined;
        return undefined;
      }
      // Whole words of trusted or empty blocks are quickly passed.
      if (!this.#isUnchecked(block) || map.cleanMask(block) === 0) continue;
      const end = Math.min(block + CHECKED_AT_ONCE, map.blockCount);
      return { start: block * PAGES_PER_BLOCK, end: end * PAGES_PER_BLOCK };
    }
    return undefined;
  }

  async #inParts(range: PageRange, check: (part: PageRange) => Promise<void>): Promise<void> {
    const step = CHECKED_AT_ONCE * PAGES_PER_BLOCK;
    const first = Math.floor(range.start / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
    const end = Math.ceil(range.end / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
    for (let start = first; start < end && !this.#file.retired; start += step) {
      await check({ start, end: Math.min(start + step, end) });
    }
  }

  /** In the lane, so that neither bytes nor marks of the blocks change meanwhile. */
  async #checkPart(part: PageRange, which: 'unchecked' | 'all'): Promise<void> {
    const leave = await this.#file.lane.enter(part);
    try {
      if (!this.#file.retired) await this.#compareAll(part, which);
    } finally {
      leave();
    }
  }

  async #compareAll(part: PageRange, which: 'unchecked' | 'all'): Promise<void> {
    const { io, fd, map, health, counts } = this.#file;
    const first = part.start / PAGES_PER_BLOCK;
    const count = Math.min(part.end / PAGES_PER_BLOCK, map.blockCount) - first;
    if (count <= 0) return;
    const masks = new Uint16Array(count);
    for (let i = 0; i < count; i++) {
      if (which === 'all' || this.#isUnchecked(first + i)) masks[i] = map.cleanMask(first + i);
    }
    if (masks.every((mask) => mask === 0)) return;
    const { errno, sums } = await io.sums(fd, first, masks);
    if (errno !== 0) {
      health.failed(errno, 'read');
      await this.#file.removeBlocks(part);
      return;
    }
    await this.#compare(first, masks, sums, counts);
  }

  async #compare(
    first: number,
    masks: Uint16Array,
    sums: Uint32Array,
    counts: CacheCounts,
  ): Promise<void> {
    const { map } = this.#file;
    for (const [i, mask] of masks.entries()) {
      if (mask === 0) continue;
      const block = first + i;
      counts.verifiedBlocks++;
      if (map.sum(block) === sums[i]) {
        this.#trust(block);
        continue;
      }
      counts.damagedBlocks++;
      const start = block * BLOCK_BYTES;
      this.#file.damaged(start, Math.min(BLOCK_BYTES, map.sizeBytes - start));
      await this.#file.removeBlocks({
        start: block * PAGES_PER_BLOCK,
        end: Math.min((block + 1) * PAGES_PER_BLOCK, map.pageCount),
      });
    }
  }

  #isUnchecked(block: number): boolean {
    const word = this.#unchecked?.[block >>> 5] ?? 0;
    return ((word >>> (block & 31)) & 1) === 1;
  }

  #trust(block: number): void {
    const word = this.#unchecked?.[block >>> 5];
    if (this.#unchecked === undefined || word === undefined) return;
    this.#unchecked[block >>> 5] = word & ~(1 << (block & 31));
  }
}
