/**
 * Acknowledged bytes of one file that the server may still lose: written UNSTABLE, not committed.
 *
 * K1  Kept ranges are disjoint and sorted: of each byte only the newest acknowledged value is
 *     kept, so that they can be sent again in any order.
 * K2  A byte that was written durably, or cut off by a truncation, is not kept.
 * K3  Memory is held once a payload, and freed when no range and no reader looks at it any more.
 */
import { assert } from '../base/assert.ts';
import type { Credentials } from '../base/credentials.ts';

/** Bytes with several holders. Born with one. */
export class SharedMemory {
  readonly sizeBytes: number;
  readonly #free: () => void;
  #holders = 1;

  constructor(sizeBytes: number, free: () => void) {
    this.sizeBytes = sizeBytes;
    this.#free = free;
  }

  hold(): void {
    assert(this.#holders > 0, 'memory held after it was freed');
    this.#holders += 1;
  }

  drop(): void {
    assert(this.#holders > 0, 'memory freed twice');
    this.#holders -= 1;
    if (this.#holders === 0) this.#free();
  }
}

export interface KeptRange {
  readonly start: number;
  readonly bytes: Buffer;
  readonly memory: SharedMemory;
  /** In whose name it was written. */
  readonly as: Credentials;
  /** When it was acknowledged to its writer. */
  readonly since: number;
  /** When the server last acknowledged it, and with which write verifier. */
  sent: number;
  verifier: bigint;
}

export class KeptBytes {
  #ranges: KeptRange[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** How many ranges are kept. */
  get count(): number {
    return this.#ranges.length;
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** The end of the last kept range; 0 without any. */
  get end(): number {
    const last = this.#ranges.at(-1);
    return last === undefined ? 0 : last.start + last.bytes.length;
  }

  all(): readonly KeptRange[] {
    return this.#ranges;
  }

  /** Keeps a range in place of what was kept of it before. Takes over one hold of `memory`. */
  put(range: KeptRange): void {
    this.cut(range.start, range.start + range.bytes.length);
    this.#ranges.splice(this.#firstEndingAfter(range.start), 0, range);
    this.#sizeBytes += range.bytes.length;
  }

  /** Keeps nothing of `start` to `end` any more. */
  cut(start: number, end: number): void {
    const first = this.#firstEndingAfter(start);
    let last = first;
    const remains: KeptRange[] = [];
    for (; last < this.#ranges.length; last++) {
      const range = this.#ranges[last];
      if (range === undefined || range.start >= end) break;
      const rangeEnd = range.start + range.bytes.length;
      if (range.start < start) remains.push(slice(range, range.start, start));
      if (rangeEnd > end) remains.push(slice(range, end, rangeEnd));
      this.#sizeBytes -= range.bytes.length;
      range.memory.drop();
    }
    if (last === first) return;
    for (const range of remains) this.#sizeBytes += range.bytes.length;
    this.#ranges.splice(first, last - first, ...remains);
  }

  /** Stops keeping the ranges that `isDone` picks. */
  drop(isDone: (range: KeptRange) => boolean): void {
    this.#ranges = this.#ranges.filter((range) => {
      if (!isDone(range)) return true;
      this.#sizeBytes -= range.bytes.length;
      range.memory.drop();
      return false;
    });
  }

  /** What is kept of `start` to `end`, in order; each piece holds its memory for the caller. */
  within(start: number, end: number): KeptRange[] {
    const pieces: KeptRange[] = [];
    for (let i = this.#firstEndingAfter(start); i < this.#ranges.length; i++) {
      const range = this.#ranges[i];
      if (range === undefined || range.start >= end) break;
      const rangeEnd = range.start + range.bytes.length;
      pieces.push(slice(range, Math.max(start, range.start), Math.min(end, rangeEnd)));
    }
    return pieces;
  }

  #firstEndingAfter(position: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.#ranges[middle];
      if (range !== undefined && range.start + range.bytes.length <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A part of a range, with a hold of its own on the memory. */
function slice(range: KeptRange, start: number, end: number): KeptRange {
  range.memory.hold();
  const bytes = range.bytes.subarray(start - range.start, end - range.start);
  return { ...range, start, bytes };
}
