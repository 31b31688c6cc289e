/**
 * The dirty pages of one image that are on their way to the server. Which pages are dirty is in
 * the `BlockMap`; here is what only this daemon knows.
 *
 *             take                        settled: unchanged
 *   dirty ------------> sending ---------------------------------> clean
 *     ^  ^                | |
 *     |  '--- putBack ----' | wrote, cut
 *     |                     v
 *     '---------------- sending, rewritten
 *        settled, putBack
 *
 * C5  A page that is written, or cut off, while it is on its way is not clean by the answer to what
 *     was sent of it.
 *
 * A page is in at most one run. A run ends once, by `end`.
 */
import { assert } from '../base/assert.ts';
import type { BlockMap } from './block-map.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { maskOf, type PageRange } from './page-range.ts';
import type { SendingRun } from './write-back/dirty-image.ts';

/** Of one block: bit i is its page i. */
interface Flight {
  sending: number;
  rewritten: number;
}

const WHOLE_BLOCK = 2 ** PAGES_PER_BLOCK - 1;

export class DirtyPages {
  readonly #map: BlockMap;
  readonly #flights = new Map<number, Flight>();
  readonly #runs = new Set<SendingRun>();

  constructor(map: BlockMap) {
    this.#map = map;
  }

  /** Nothing is on its way. */
  get isResting(): boolean {
    return this.#runs.size === 0;
  }

  /**
   * The next dirty runs from page `from` on, ascending, of at most `maxRunBytes`: they are on their
   * way now.
   */
  take(from: number, maxRunBytes: number, maxRuns: number): SendingRun[] {
    const map = this.#map;
    const most = Math.max(Math.floor(maxRunBytes / PAGE_BYTES), 1);
    const taken: SendingRun[] = [];
    for (let at = from; taken.length < maxRuns; ) {
      const [dirty] = map.dirtyRuns(at, map.pageCount, 1);
      if (dirty === undefined) break;
      const range = this.#firstFree(dirty, most);
      if (range === undefined) {
        at = dirty.end;
        continue;
      }
      at = range.end;
      taken.push(this.#begin(range));
    }
    return taken;
  }

  /** Is the run on its way still? One of another content of the image is not. */
  isUnderWay(run: SendingRun): boolean {
    return this.#runs.has(run);
  }

  /** Pages of the block were written, or cut off. */
  wrote(block: number, pages: number): void {
    const flight = this.#flights.get(block);
    if (flight !== undefined) flight.rewritten |= flight.sending & pages;
  }

  /** All pages from `page` on were cut off. */
  cutFrom(page: number): void {
    for (const block of this.#flights.keys()) {
      this.wrote(block, maskOf({ start: page, end: Number.POSITIVE_INFINITY }, block));
    }
  }

  /** Pages of the block, of the run, that are what was sent. */
  unchanged(run: SendingRun, block: number): number {
    const rewritten = this.#flights.get(block)?.rewritten ?? 0;
    return maskOf(run.range, block) & this.#map.dirtyMask(block) & ~rewritten;
  }

  /** The run is on its way no more: its dirty pages may be taken again. */
  end(run: SendingRun): void {
    assert(this.#runs.delete(run), 'a run was ended twice');
    for (const block of blockNumbers(run.range)) {
      const flight = this.#flights.get(block);
      if (flight === undefined) continue;
      const pages = maskOf(run.range, block);
      flight.sending &= ~pages;
      flight.rewritten &= ~pages;
      if (flight.sending === 0) this.#flights.delete(block);
    }
  }

  #begin(range: PageRange): SendingRun {
    for (const block of blockNumbers(range)) {
      const pages = maskOf(range, block);
      const flight = this.#flights.get(block);
      if (flight === undefined) this.#flights.set(block, { sending: pages, rewritten: 0 });
      else flight.sending |= pages;
    }
    const offset = range.start * PAGE_BYTES;
    const end = Math.min(range.end * PAGE_BYTES, this.#map.sizeBytes);
    const run = { range, offset, length: end - offset };
    this.#runs.add(run);
    return run;
  }

  /** The first pages of a dirty run that are not on their way. */
  #firstFree(dirty: PageRange, most: number): PageRange | undefined {
    const start = this.#nextAtRest(dirty.start, dirty.end);
    const end = this.#endAtRest(start, Math.min(dirty.end, start + most));
    return start < end ? { start, end } : undefined;
  }

  #nextAtRest(start: number, end: number): number {
    let page = start;
    while (page < end) {
      const sending = this.#sendingFrom(page);
      if ((sending & 1) === 0) break;
      page += sending === WHOLE_BLOCK ? PAGES_PER_BLOCK : 1;
    }
    return Math.min(page, end);
  }

  #endAtRest(start: number, end: number): number {
    let page = start;
    while (page < end) {
      const sending = this.#sendingFrom(page);
      if ((sending & 1) !== 0) break;
      page += sending === 0 ? PAGES_PER_BLOCK - (page % PAGES_PER_BLOCK) : 1;
    }
    return Math.min(page, end);
  }

  /** What is on its way of the page's block, the page's bit first. */
  #sendingFrom(page: number): number {
    const flight = this.#flights.get(Math.floor(page / PAGES_PER_BLOCK));
    return flight === undefined ? 0 : flight.sending >>> (page % PAGES_PER_BLOCK);
  }
}

function* blockNumbers({ start, end }: PageRange): Generator<number> {
  const last = Math.floor((end - 1) / PAGES_PER_BLOCK);
  for (let block = Math.floor(start / PAGES_PER_BLOCK); block <= last; block++) yield block;
}
