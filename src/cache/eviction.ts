/**
 * Who goes when the cache is too large: first images that nobody has open, whole, the one longest
 * unused first; then, of the open ones, extents of 4 MiB, the one longest unused first.
 *
 *   idle --poke, over the high mark--> running --below the low mark--> idle
 *     ^                                   |
 *     |                                   | a round that frees nothing
 *     +-- something may go again, or <----+
 *         after a while --------------- stuck
 *
 * C4  Only what is clean goes: images say so, and pinned and held ones are not even asked.
 * C1, C9  An image clears its marks durably, waits for the replies in flight that read the extent,
 *     and only then punches it: `Evictable.evictExtent`.
 *
 * A turn of the event loop does a bounded piece of the search, however large the images. When
 * nothing can go it says so once, and does not look again before something has changed.
 */
import type { Clock } from '../base/clock.ts';
import { EXTENT_BYTES, type ExtentUses, NOTHING } from './extent-uses.ts';

/** What eviction needs to know of an image that is open. */
export interface Evictable {
  /** The name of its directory. */
  readonly name: string;
  readonly pinned: boolean;
  /** The kernel reads its file by itself (passthrough). */
  readonly held: boolean;
  readonly uses: ExtentUses;
  /** Is a page of the extent present? At most a look at the extent's 64 blocks. */
  hasPages(extent: number): boolean;
  /**
   * Clears the marks of the extent's clean pages durably, waits for the replies that read it, and
   * punches them. The bytes freed: 0 when nothing could go. Several may be asked for at once, so
   * that one sync can serve them all. Resolves always; failures of the disk are the image's to
   * report.
   */
  evictExtent(extent: number): Promise<number>;
}

/** An image on the disk that nobody has open. */
export interface ClosedImage {
  readonly name: string;
  readonly pinned: boolean;
  /** Wall clock, in ms since 1970. */
  readonly lastUsedMs: number;
  /**
   * Takes the whole directory away: renamed first, so that it is gone at once, then removed. The
   * bytes freed when that is done; 0 when it has been opened in the meantime, or cannot go.
   */
  remove(): Promise<number>;
}

export interface EvictionSource {
  /** Those that are open now. */
  open(): readonly Evictable[];
  /** All the others, in any order. */
  closed(): Promise<readonly ClosedImage[]>;
}

/** The marks that eviction works between: `Space` has this shape. */
export interface WaterMarks {
  /** Bytes above the high marks; 0 when all is well. */
  overHighBytes(): number;
  /** Bytes above the low marks: what is freed once it has begun. */
  overLowBytes(): number;
  /** Measures an image anew, after something of it went; `removed` when all of it did. */
  measure(name: string): Promise<void>;
  removed(name: string): void;
}

export interface EvictionEvents {
  /** A run has ended. */
  evicted(run: { freedBytes: number; extents: number; images: number }): void;
  /** `wantedBytes` should go, and nothing can: all is pinned, held, in use or not clean. */
  nothingToEvict(wantedBytes: number): void;
}

/** `extents` gone, images gone, and the bytes of both. */
export interface EvictionTotals {
  readonly extents: number;
  readonly images: number;
  readonly freedBytes: number;
}

/** Looked at in one turn of the event loop: extents, where one whose pages are counted is 64. */
const WORK_A_TURN = 16 * 1024;
const WORK_OF_COUNTING = 64;
/** Extents chosen in one search: as many as are worth one walk through all images. */
const CHOSEN_AT_ONCE = 512;
const IN_FLIGHT = 8;
/** After it found nothing that can go. */
const LOOK_AGAIN_MS = 10_000;

export interface EvictionOptions {
  readonly marks: WaterMarks;
  readonly images: EvictionSource;
  readonly clock: Clock;
  readonly events: EvictionEvents;
  /** Lets everything else have a turn; for tests. */
  readonly nextTurn?: () => Promise<void>;
}

interface Chosen {
  readonly image: Evictable;
  readonly extent: number;
  readonly tick: number;
}

export class Eviction {
  readonly #marks: WaterMarks;
  readonly #images: EvictionSource;
  readonly #clock: Clock;
  readonly #events: EvictionEvents;
  readonly #nextTurn: () => Promise<void>;
  #running: Promise<void> | undefined;
  /** Bytes that were asked for beyond the marks. */
  #askedBytes = 0;
  #stuckUntilMs = 0;
  #saidStuck = false;
  #closed = false;
  #extents = 0;
  #wholeImages = 0;
  #freedBytes = 0;

  constructor(options: EvictionOptions) {
    this.#marks = options.marks;
    this.#images = options.images;
    this.#clock = options.clock;
    this.#events = options.events;
    this.#nextTurn = options.nextTurn ?? immediate;
  }

  /** Since the start. */
  get totals(): EvictionTotals {
    return { extents: this.#extents, images: this.#wholeImages, freedBytes: this.#freedBytes };
  }

  /** The cache has grown, or the disk is fuller: starts a run if a high mark is passed. Cheap. */
  poke(): void {
    if (this.#closed || this.#running !== undefined) return;
    if (this.#marks.overHighBytes() === 0 && this.#askedBytes === 0) return;
    if (this.#clock.monotonicMs() < this.#stuckUntilMs) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Something may go now that could not: an image was closed, unpinned, released or settled. */
  mayGoAgain(): void {
    this.#stuckUntilMs = 0;
    this.poke();
  }

  /** Frees `bytes` wherever the marks are, because the disk is full. What went, in the end. */
  async makeRoom(bytes: number): Promise<number> {
    const before = this.#freedBytes;
    this.#askedBytes = Math.max(this.#askedBytes, bytes);
    this.#stuckUntilMs = 0;
    this.poke();
    await this.idle();
    return this.#freedBytes - before;
  }

  /** When the run that is under way has ended. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /** No new run; resolves when what is under way has come to a stop. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.idle();
  }

  async #run(): Promise<void> {
    const before = this.totals;
    let wantedBytes = this.#wantedBytes();
    const closed = await this.#closedImages();
    while (!this.#closed && wantedBytes > 0) {
      const freedBytes = (await this.#oneOf(closed)) || (await this.#coldExtents(wantedBytes));
      if (freedBytes === 0) break;
      this.#saidStuck = false;
      this.#freedBytes += freedBytes;
      this.#askedBytes = Math.max(0, this.#askedBytes - freedBytes);
      wantedBytes = this.#wantedBytes();
    }
    this.#askedBytes = 0;
    const freedBytes = this.#freedBytes - before.freedBytes;
    if (freedBytes > 0) {
      this.#events.evicted({
        freedBytes,
        extents: this.#extents - before.extents,
        images: this.#wholeImages - before.images,
      });
    }
    if (wantedBytes > 0 && !this.#closed) this.#stuck(wantedBytes);
  }

  #wantedBytes(): number {
    return Math.max(this.#marks.overLowBytes(), this.#askedBytes);
  }

  #stuck(wantedBytes: number): void {
    this.#stuckUntilMs = this.#clock.monotonicMs() + LOOK_AGAIN_MS;
    if (this.#saidStuck) return;
    this.#saidStuck = true;
    this.#events.nothingToEvict(wantedBytes);
  }

  /** Those that may go, the one longest unused first. */
  async #closedImages(): Promise<ClosedImage[]> {
    const closed = (await this.#images.closed()).filter((image) => !image.pinned);
    return closed.sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  }

  /** Removes the first of these that can go, and takes it out, with those that cannot. */
  async #oneOf(closed: ClosedImage[]): Promise<number> {
    for (let image = closed.shift(); image !== undefined; image = closed.shift()) {
      if (this.#closed) return 0;
      const freedBytes = await image.remove();
      if (freedBytes === 0) continue;
      this.#marks.removed(image.name);
      this.#wholeImages++;
      return freedBytes;
    }
    return 0;
  }

  async #coldExtents(wantedBytes: number): Promise<number> {
    const chosen = await this.#coldest();
    const touched = new Set<string>();
    let freedBytes = 0;
    while (chosen.length > 0 && freedBytes < wantedBytes && !this.#closed) {
      // So many are needed at least.
      const needed = Math.ceil((wantedBytes - freedBytes) / EXTENT_BYTES);
      const sizes = await Promise.all(
        chosen.splice(0, Math.min(needed, IN_FLIGHT)).map(async ({ image, extent, tick }) => {
          // The search had pauses: what was used in the meantime is not the coldest any more.
          if (!mayGo(image) || image.uses.at(extent) !== tick) return 0;
          touched.add(image.name);
          return image.evictExtent(extent);
        }),
      );
      for (const size of sizes) {
        if (size > 0) this.#extents++;
        freedBytes += size;
      }
    }
    for (const name of touched) await this.#marks.measure(name);
    return freedBytes;
  }

  /** The extents with pages that were unused for longest, the coldest first. */
  async #coldest(): Promise<Chosen[]> {
    let chosen: Chosen[] = [];
    // Nothing warmer than this gets in.
    let limit = Number.POSITIVE_INFINITY;
    let work = 0;
    const keepColdest = () => {
      chosen.sort((a, b) => a.tick - b.tick);
      chosen = chosen.slice(0, CHOSEN_AT_ONCE);
    };
    for (const image of this.#images.open()) {
      work++;
      for (let extent = 0; extent < image.uses.count && mayGo(image); extent++) {
        if (work >= WORK_A_TURN) {
          work = 0;
          await this.#nextTurn();
          if (this.#closed) return [];
        }
        work++;
        const tick = image.uses.at(extent);
        if (tick === NOTHING || tick >= limit) continue;
        work += WORK_OF_COUNTING;
        if (!image.hasPages(extent)) {
          image.uses.empty(extent);
          continue;
        }
        chosen.push({ image, extent, tick });
        if (chosen.length < 2 * CHOSEN_AT_ONCE) continue;
        work += chosen.length;
        keepColdest();
        limit = chosen.at(-1)?.tick ?? limit;
      }
    }
    keepColdest();
    return chosen;
  }
}

function mayGo(image: Evictable): boolean {
  return !image.pinned && !image.held;
}

function immediate(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
