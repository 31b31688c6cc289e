/**
 * Pages that are on their way from the server into the local file.
 *
 *   begin --> fetching --answered--> came --stored--> settled
 *                |  failed             |  nothing to keep  ^
 *                '---------------------+-------------------'
 *
 * F1  At most one fill a page: who wants a page that is on its way waits for it (`within`).
 * F2  A fill is kept only where it was not cut: `cut` says that its answer may be older than what
 *     the page now is (a local write or a change of size, another content). This is the new epoch
 *     of C11, page by page. Those who waited already are answered all the same: their read and
 *     the change overlap in time. Those who come later do not find it any more.
 * F3  Marks are set after the store, and only where there was no cut meanwhile (C1).
 * F4  The bytes' memory goes back when they are stored and no reader looks at them any more.
 */
import { assert } from '../base/assert.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Fetched } from '../vfs/ports.ts';
import type { Priority } from './fetch-queue.ts';
import { PAGE_BYTES } from './file-io.ts';
import { overlaps, type PageRange } from './page-range.ts';

/** A part of a fill that is to be kept. */
export interface Segment extends PageRange {
  readonly fill: Fill;
}

export class Fill implements PageRange {
  readonly start: number;
  readonly end: number;
  readonly priority: Priority;
  /** Its bytes are there, or `error` is. Never rejects. */
  readonly came: Promise<void>;
  /** Stored as far as it is kept, and no longer in the table. Never rejects. */
  readonly settled: Promise<void>;
  error: FsError | undefined;
  #fetched: Fetched | undefined;
  #holds = 1;

  constructor(
    range: PageRange,
    priority: Priority,
    came: (fill: Fill) => Promise<void>,
    settled: (fill: Fill) => Promise<void>,
  ) {
    this.start = range.start;
    this.end = range.end;
    this.priority = priority;
    this.came = came(this);
    this.settled = settled(this);
  }

  /** What came, from page `start` on: shorter than the pages where the file ends. */
  get bytes(): Buffer {
    assert(this.#fetched !== undefined && this.#holds > 0, 'fill: no bytes are held');
    return this.#fetched.bytes;
  }

  /** Keeps the bytes, once they are there, until `drop`; to be called before `settled`. */
  hold(): void {
    assert(this.#holds > 0, 'fill: held too late');
    this.#holds++;
  }

  drop(): void {
    this.#holds--;
    if (this.#holds === 0) this.#fetched?.release();
  }

  answered(result: Result<Fetched, FsError>): void {
    if (result.ok) this.#fetched = result.value;
    else this.error = result.error;
  }
}

export interface FillStore {
  /**
   * Puts bytes of absent pages into the file; `stillWanted` tells what may be marked then. The
   * bytes may end within the last page only where the file ends.
   */
  store(range: PageRange, bytes: Buffer, stillWanted: () => PageRange[]): Promise<void>;
}

export class Fills {
  readonly #store: FillStore;
  /** In order, and disjoint. */
  #segments: Segment[] = [];

  constructor(store: FillStore) {
    this.#store = store;
  }

  get isEmpty(): boolean {
    return this.#segments.length === 0;
  }

  /** The parts of fills that overlap the range, in order. */
  within(range: PageRange): Segment[] {
    const found: Segment[] = [];
    for (let i = this.#firstAfter(range.start); i < this.#segments.length; i++) {
      const segment = this.#segments[i];
      if (segment === undefined || segment.start >= range.end) break;
      found.push(segment);
    }
    return found;
  }

  /** Pages of which none is present or on its way. `endBytes`: where the file ends. */
  begin(
    range: PageRange,
    priority: Priority,
    answer: Promise<Result<Fetched, FsError>>,
    endBytes: number,
  ): Fill {
    assert(range.start < range.end && this.within(range).length === 0, 'fill: twice for a page');
    const fill = new Fill(
      range,
      priority,
      (self) => this.#arrive(self, answer),
      (self) => this.#settle(self, endBytes),
    );
    this.#segments.splice(this.#firstAfter(range.start), 0, {
      start: range.start,
      end: range.end,
      fill,
    });
    return fill;
  }

  /** What is on its way for these pages is not kept (F2). */
  cut(range: PageRange): void {
    if (this.within(range).length === 0) return;
    this.#segments = this.#segments.flatMap((segment) => {
      if (!overlaps(segment, range)) return [segment];
      const { fill } = segment;
      const parts: Segment[] = [];
      if (segment.start < range.start) {
        parts.push({ start: segment.start, end: range.start, fill });
      }
      if (segment.end > range.end) parts.push({ start: range.end, end: segment.end, fill });
      return parts;
    });
  }

  async #arrive(fill: Fill, answer: Promise<Result<Fetched, FsError>>): Promise<void> {
    fill.answered(await answer);
    // Who is told of the failure and asks again must not find it.
    if (fill.error !== undefined) this.#remove(fill);
  }

  async #settle(fill: Fill, endBytes: number): Promise<void> {
    await fill.came;
    if (fill.error === undefined) {
      const kept = this.#segmentsOf(fill);
      await Promise.all(kept.map((segment) => this.#keep(segment, endBytes)));
      this.#remove(fill);
    }
    fill.drop();
  }

  async #keep({ start, end, fill }: Segment, endBytes: number): Promise<void> {
    const base = fill.start * PAGE_BYTES;
    const cameUntil = base + fill.bytes.length;
    // Of what ends before it should only whole pages are known.
    const until =
      cameUntil >= endBytes ? endBytes : Math.floor(cameUntil / PAGE_BYTES) * PAGE_BYTES;
    const endPage = Math.min(end, Math.ceil(until / PAGE_BYTES));
    if (endPage <= start) return;
    const bytes = fill.bytes.subarray(
      start * PAGE_BYTES - base,
      Math.min(endPage * PAGE_BYTES, until) - base,
    );
    const range = { start, end: endPage };
    await this.#store.store(range, bytes, () =>
      this.#segmentsOf(fill)
        .filter((segment) => overlaps(segment, range))
        .map((segment) => ({
          start: Math.max(segment.start, start),
          end: Math.min(segment.end, endPage),
        })),
    );
  }

  #segmentsOf(fill: Fill): Segment[] {
    return this.within(fill).filter((segment) => segment.fill === fill);
  }

  #remove(fill: Fill): void {
    this.#segments = this.#segments.filter((segment) => segment.fill !== fill);
  }

  /** The index of the first segment that ends after `page`. */
  #firstAfter(page: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#segments[middle]?.end ?? 0) > page) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
