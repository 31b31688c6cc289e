/**
 * Local changes of an image, from before they are sent to the server until their outcome is known.
 *
 *   beginWrite, beginResize --> pending --done--> the pages hold the new bytes --> ended
 *                                  '-----failed--> the pages are absent ---------> ended
 *
 * L1  While a change of a page is pending, the page is not served, and fills of it are not kept: they
 *     may be older than the change, or not (C11: `Fills.cut`, and `isChanging` before each fill).
 * L2  A page is present after its last change ended well if the change covers all of it, or if it
 *     was present before and every overlapping change ended well. In all other cases it is absent.
 * L3  Sums stay exact: the old bytes' part is taken from a block's sum before they change, the new
 *     bytes' part is added. So damage in the rest of the block is still seen (C2).
 * L4  A page that is dirty for all that (its write-back failed) stays dirty, with the bytes that
 *     the server has now: they are sent again. Unknown outcomes leave it as it is (C4).
 */
import { assert } from '../base/assert.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK, type Stored } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import { blocksOf, maskOf, overlaps, type PageRange, pagesOf, without } from './page-range.ts';

export class LocalChanges {
  readonly #pending = new Set<PageRange>();
  /** Who waits for the end of a change, of whichever. */
  #waiting: (() => void)[] = [];

  get any(): boolean {
    return this.#pending.size > 0;
  }

  isChanging(range: PageRange): boolean {
    for (const pending of this.#pending) if (overlaps(pending, range)) return true;
    return false;
  }

  begin(range: PageRange): PageRange {
    const change = { ...range };
    this.#pending.add(change);
    return change;
  }

  end(change: PageRange): void {
    assert(this.#pending.delete(change), 'a local change was ended twice');
    for (const look of this.#waiting.splice(0)) look();
  }

  /** Resolves when no change of these pages is pending. */
  async whenNone(range: PageRange): Promise<void> {
    while (this.isChanging(range)) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }
}

/**
 * The server has `bytes` at `offset`: so has the file, where L2 says so. 'lost' when the disk leaves
 * the content in a state that cannot be trusted: it has to be dropped.
 */
export async function applyWrite(
  content: ImageContent,
  offset: number,
  bytes: Buffer,
): Promise<'applied' | 'lost'> {
  const range = pagesOf(offset, bytes.length);
  const end = offset + bytes.length;
  const { sizeBytes } = content.map;
  // With the page that was the last one.
  const start = Math.min(range.start, Math.floor(sizeBytes / PAGE_BYTES));
  const lane = end > sizeBytes ? toTheEnd({ start, end: range.end }) : blocksOf(range);
  const leave = await content.lane.enter(lane);
  try {
    if (content.retired || bytes.length === 0) return 'applied';
    if (end > content.map.sizeBytes) {
      if (!(await setSize(content, end))) return 'lost';
    }
    await checkPartial(content, offset, end);
    for (const run of content.map.dirtyRuns(range.start, range.end)) {
      if (!(await putDirty(content, run, offset, bytes))) return 'lost';
    }
    for (const part of cleanParts(content, offset, end)) {
      await applyPart(content, part.from, bytes.subarray(part.from - offset, part.end - offset));
    }
    return 'applied';
  } finally {
    leave();
  }
}

/** The file is `size` bytes long now. 'lost' as for `applyWrite`. */
export async function applyResize(
  content: ImageContent,
  size: number,
): Promise<'applied' | 'lost'> {
  const from = Math.min(size, content.map.sizeBytes);
  const leave = await content.lane.enter(toTheEnd(pagesOf(from, 0)));
  try {
    if (content.retired || size === content.map.sizeBytes) return 'applied';
    if (size < content.map.sizeBytes) await content.replies.free(size, Number.POSITIVE_INFINITY);
    if (!(await setSize(content, size))) return 'lost';
    content.marked(0, 0);
    return 'applied';
  } finally {
    leave();
  }
}

/** The pages of the part are not dirty. */
async function applyPart(content: ImageContent, offset: number, bytes: Buffer): Promise<void> {
  const range = pagesOf(offset, bytes.length);
  const kept = keptPages(content, offset, offset + bytes.length);
  const nothingPresent = content.map.countPresent(range.start, range.end) === 0;
  if (kept.length === 0 && nothingPresent) return;
  if (kept.length === 0 || !(await forgetOld(content, range))) {
    await content.removeBlocks(range);
    return;
  }
  for (const part of kept) await put(content, part, offset, bytes);
  content.marked(offset, bytes.length);
}

/** What of [offset, end) lies in pages that are not dirty, in bytes. */
function cleanParts(
  { map }: ImageContent,
  offset: number,
  end: number,
): { readonly from: number; readonly end: number }[] {
  const range = pagesOf(offset, end - offset);
  return without(range, map.dirtyRuns(range.start, range.end)).map((part) => ({
    from: Math.max(part.start * PAGE_BYTES, offset),
    end: Math.min(part.end * PAGE_BYTES, end),
  }));
}

/** L4. false: the disk failed, and nobody knows which bytes the page holds. */
async function putDirty(
  content: ImageContent,
  run: PageRange,
  offset: number,
  bytes: Buffer,
): Promise<boolean> {
  const { map, io, fd, health, dirty } = content;
  const from = Math.max(run.start * PAGE_BYTES, offset);
  const errno = await io.write(
    fd,
    from,
    bytes.subarray(from - offset, run.end * PAGE_BYTES - offset),
  );
  if (errno !== 0) health.failed(errno, 'write');
  for (let page = run.start; page < run.end; ) {
    const block = Math.floor(page / PAGES_PER_BLOCK);
    map.makeDirty(block, maskOf(run, block), 0);
    dirty.wrote(block, maskOf(run, block));
    page = (block + 1) * PAGES_PER_BLOCK;
  }
  return errno === 0;
}

/** Nobody knows what the server has there: it is absent. */
export async function applyUnknown(content: ImageContent, range: PageRange): Promise<void> {
  const leave = await content.lane.enter(blocksOf(range));
  try {
    if (!content.retired) await content.removeBlocks(range);
  } finally {
    leave();
  }
}

/** In the lane up to the end. false: the disk failed. */
async function setSize(content: ImageContent, size: number): Promise<boolean> {
  const { map, directory, uses, health } = content;
  const known = map.sizeBytes;
  // What the last page holds behind the old end is zeros only if that was the end at the server.
  if (size > known && content.sizeIsDoubtful && known % PAGE_BYTES !== 0) {
    await content.removeBlocks(pagesOf(known - 1, 1));
  }
  if (size < known) content.dirty.cutFrom(Math.floor(size / PAGE_BYTES));
  const errno = await directory.resize(size);
  if (errno !== 0) health.failed(errno, 'write');
  else uses.resize(size);
  return errno === 0;
}

/**
 * Of a page that is written in part the rest stays: it must be what was stored there (C2), since
 * the page gets a sum of all of its bytes.
 */
async function checkPartial(content: ImageContent, offset: number, end: number): Promise<void> {
  if (offset % PAGE_BYTES !== 0) await content.verification.checkInLane(pagesOf(offset, 1));
  if (end % PAGE_BYTES !== 0) await content.verification.checkInLane(pagesOf(end - 1, 1));
}

/** Pages that are present after a write (L2). Those with `whole` get all of their bytes from it. */
interface KeptPages extends PageRange {
  readonly whole: boolean;
  /** Those that were absent. */
  readonly newPages: number;
}

function keptPages(content: ImageContent, offset: number, end: number): KeptPages[] {
  const { map, health } = content;
  if (!health.mayStore) return [];
  const range = pagesOf(offset, end - offset);
  const wholeStart = Math.ceil(offset / PAGE_BYTES);
  const wholeEnd = end >= map.sizeBytes ? range.end : Math.floor(end / PAGE_BYTES);
  const kept: KeptPages[] = [];
  const keepPartial = (page: number) => {
    if (map.isPresent(page, page + 1)) {
      kept.push({ start: page, end: page + 1, whole: false, newPages: 0 });
    }
  };
  if (range.start < wholeStart) keepPartial(range.start);
  if (wholeStart < wholeEnd) {
    const absentPages = wholeEnd - wholeStart - map.countPresent(wholeStart, wholeEnd);
    // What is present needs no room.
    const runs =
      absentPages === 0 || content.mayStore(absentPages * PAGE_BYTES)
        ? [{ start: wholeStart, end: wholeEnd }]
        : map.presentRuns(wholeStart, wholeEnd);
    for (const { start, end } of runs) {
      kept.push({ start, end, whole: true, newPages: end - start - map.countPresent(start, end) });
    }
  }
  const last = range.end - 1;
  if (wholeEnd < range.end && last >= wholeStart) keepPartial(last);
  return kept;
}

/**
 * Takes the marks of the range's pages, and their part of the sums (L3), before their bytes
 * change. false: the old bytes cannot be read.
 */
async function forgetOld(content: ImageContent, range: PageRange): Promise<boolean> {
  const { map, io, fd, health } = content;
  const firstBlock = Math.floor(range.start / PAGES_PER_BLOCK);
  const blockCount = Math.ceil(range.end / PAGES_PER_BLOCK) - firstBlock;
  const touched = new Uint16Array(blockCount);
  const asked = new Uint16Array(blockCount);
  for (let i = 0; i < blockCount; i++) {
    const block = firstBlock + i;
    const present = map.cleanMask(block);
    const pages = present & maskOf(range, block);
    touched[i] = pages;
    // Where no other page of the block is present no sum is left to be kept.
    asked[i] = pages === present ? 0 : pages;
  }
  let sums: Uint32Array | undefined;
  if (asked.some((pages) => pages !== 0)) {
    const old = await io.sums(fd, firstBlock, asked);
    if (old.errno !== 0) {
      health.failed(old.errno, 'read');
      return false;
    }
    sums = old.sums;
  }
  for (const [i, pages] of touched.entries()) {
    if (pages !== 0) map.unmark(firstBlock + i, pages, sums?.[i] ?? 0);
  }
  return true;
}

/** Puts the new bytes into the pages and marks them; they stay absent when the disk fails. */
async function put(
  content: ImageContent,
  part: KeptPages,
  offset: number,
  bytes: Buffer,
): Promise<void> {
  const { map, io, fd, health, directory } = content;
  const from = Math.max(part.start * PAGE_BYTES, offset);
  const view = bytes.subarray(from - offset, part.end * PAGE_BYTES - offset);
  let stored: Stored;
  if (part.whole) {
    const newBytes = part.newPages * PAGE_BYTES;
    stored = await content.counted(newBytes, () => io.store(fd, from, view, 'punch'));
  } else {
    const block = Math.floor(part.start / PAGES_PER_BLOCK);
    const errno = await io.write(fd, from, view);
    stored =
      errno === 0
        ? await io.sums(fd, block, Uint16Array.of(maskOf(part, block)))
        : { errno, sums: new Uint32Array() };
  }
  if (stored.errno !== 0) {
    directory.distrustHoles();
    health.failed(stored.errno, 'write');
    return;
  }
  map.mark(part.start, part.end, stored.sums);
}

/** From the range's first block on, and all that may follow. */
function toTheEnd(range: PageRange): PageRange {
  return { start: blocksOf(range).start, end: Number.POSITIVE_INFINITY };
}
