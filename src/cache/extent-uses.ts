/**
 * When each extent of an open image was last used: what eviction goes by.
 *
 * One number an extent, so that an image of 1 TB costs 1 MiB. Times are ticks of a coarse clock
 * that all images share; what was used within one tick counts as used together.
 */
import type { Clock } from '../base/clock.ts';

/** What goes at once. In bytes; a multiple of the block. */
export const EXTENT_BYTES = 4 * 1024 * 1024;

/** The extent is known to hold nothing. */
export const NOTHING = 0;
/** Kept from an earlier session: older than all that was used in this one. */
const BEFORE = 1;
const FIRST_TICK = 2;
/** 2^32 of them are eight years. */
const TICK_MS = 64;

export class ExtentUses {
  readonly #clock: Clock;
  readonly #startedMs: number;
  #ticks: Uint32Array;

  /** @param startedMs `clock.monotonicMs()` at the start of the cache: one for all its images. */
  constructor(clock: Clock, startedMs: number, sizeBytes: number) {
    this.#clock = clock;
    this.#startedMs = startedMs;
    this.#ticks = new Uint32Array(extentCount(sizeBytes)).fill(BEFORE);
  }

  get count(): number {
    return this.#ticks.length;
  }

  /** The tick of the last use; `NOTHING` when the extent holds nothing. */
  at(extent: number): number {
    return this.#ticks[extent] ?? NOTHING;
  }

  /**
   * The bytes were read from the cache, or have just been marked present. A store that touches
   * only when it begins can be forgotten by `empty` before its mark: touch at the mark. What lies
   * beyond the image's end (it was cut in the meantime) is not remembered.
   */
  touch(offset: number, lengthBytes: number): void {
    if (lengthBytes <= 0) return;
    const first = Math.floor(offset / EXTENT_BYTES);
    const last = Math.floor((offset + lengthBytes - 1) / EXTENT_BYTES);
    if (first === last && first < this.#ticks.length) this.#ticks[first] = this.#tick();
    else this.#ticks.fill(this.#tick(), first, last + 1);
  }

  /** Nothing of the extent is present. */
  empty(extent: number): void {
    this.#ticks[extent] = NOTHING;
  }

  /** The image has another size: what is cut off is forgotten, what is new holds nothing. */
  resize(sizeBytes: number): void {
    const ticks = new Uint32Array(extentCount(sizeBytes));
    ticks.set(this.#ticks.subarray(0, ticks.length));
    this.#ticks = ticks;
  }

  #tick(): number {
    return FIRST_TICK + Math.floor((this.#clock.monotonicMs() - this.#startedMs) / TICK_MS);
  }
}

export function extentCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / EXTENT_BYTES);
}
