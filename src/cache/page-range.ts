/**
 * Ranges of pages: [start, end), page numbers from the file's start.
 */
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';

export interface PageRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** The pages that bytes lie in, the first and the last perhaps in part. */
export function pagesOf(offset: number, length: number): PageRange {
  return { start: Math.floor(offset / PAGE_BYTES), end: Math.ceil((offset + length) / PAGE_BYTES) };
}

export function overlaps(one: PageRange, other: PageRange): boolean {
  return one.start < other.end && other.start < one.end;
}

/** What of `range` lies in none of `others`, which are in order and do not overlap. */
export function without(range: PageRange, others: readonly PageRange[]): PageRange[] {
  const rest: PageRange[] = [];
  let at = range.start;
  for (const { start, end } of others) {
    if (end <= at) continue;
    if (start >= range.end) break;
    if (start > at) rest.push({ start: at, end: start });
    at = end;
  }
  if (at < range.end) rest.push({ start: at, end: range.end });
  return rest;
}

/** The pages of all blocks that the range touches. */
export function blocksOf(range: PageRange): PageRange {
  return {
    start: Math.floor(range.start / PAGES_PER_BLOCK) * PAGES_PER_BLOCK,
    end: Math.ceil(range.end / PAGES_PER_BLOCK) * PAGES_PER_BLOCK,
  };
}

/** The bits of the range's pages that lie in the block. */
export function maskOf(range: PageRange, block: number): number {
  const first = block * PAGES_PER_BLOCK;
  const from = Math.max(range.start - first, 0);
  const to = Math.min(range.end - first, PAGES_PER_BLOCK);
  return to <= from ? 0 : (1 << to) - (1 << from);
}
