/**
 * How long things took, in buckets that grow by a quarter of a power of two: cheap enough to be
 * told of every call, and any quantile is known to within an eighth of its value.
 *
 * A bucket is found from the bits of the time in microseconds: four to each power of two. Times
 * beyond the last (71 minutes) count in it.
 */

/** What is known of all that was recorded; times in milliseconds. */
export interface HistogramSummary {
  readonly count: number;
  /** undefined when nothing was recorded. */
  readonly medianMs: number | undefined;
  readonly p99Ms: number | undefined;
  readonly maxMs: number;
  readonly sumMs: number;
}

const PARTS = 4;
const BUCKETS = 32 * PARTS;

export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sumMs = 0;
  #maxMs = 0;

  /** `durationMs` is not negative. */
  record(durationMs: number, times = 1): void {
    const index = bucketOf(durationMs);
    this.#counts[index] = (this.#counts[index] ?? 0) + times;
    this.#count += times;
    this.#sumMs += durationMs * times;
    if (durationMs > this.#maxMs) this.#maxMs = durationMs;
  }

  /** Takes over all that another has recorded. */
  add(other: Histogram): void {
    for (let index = 0; index < BUCKETS; index++) {
      this.#counts[index] = (this.#counts[index] ?? 0) + (other.#counts[index] ?? 0);
    }
    this.#count += other.#count;
    this.#sumMs += other.#sumMs;
    this.#maxMs = Math.max(this.#maxMs, other.#maxMs);
  }

  get count(): number {
    return this.#count;
  }

  /** The time below which a share of 0 to 1 of all stayed; undefined when there is none. */
  quantileMs(share: number): number | undefined {
    if (this.#count === 0) return undefined;
    let left = share * this.#count;
    for (let index = 0; index < BUCKETS; index++) {
      const count = this.#counts[index] ?? 0;
      if (count === 0) continue;
      left -= count;
      if (left <= 0) return Math.min(middleMs(index), this.#maxMs);
    }
    return this.#maxMs;
  }

  summary(): HistogramSummary {
    return {
      count: this.#count,
      medianMs: this.quantileMs(0.5),
      p99Ms: this.quantileMs(0.99),
      maxMs: this.#maxMs,
      sumMs: this.#sumMs,
    };
  }

  /** The buckets that hold something: how many took less than `belowMs`, and not less than before. */
  *buckets(): Generator<{ readonly belowMs: number; readonly count: number }> {
    for (let index = 0; index < BUCKETS; index++) {
      const count = this.#counts[index] ?? 0;
      if (count > 0) yield { belowMs: startUs(index + 1) / 1000, count };
    }
  }
}

function bucketOf(durationMs: number): number {
  const us = Math.min(durationMs * 1000, 0xffff_ffff) >>> 0;
  if (us < PARTS) return us;
  const power = 31 - Math.clz32(us);
  return (power - 1) * PARTS + ((us >>> (power - 2)) & (PARTS - 1));
}

/** The first microsecond of a bucket. */
function startUs(index: number): number {
  if (index < PARTS) return index;
  const power = Math.floor(index / PARTS) + 1;
  return (PARTS + (index % PARTS)) * 2 ** (power - 2);
}

function middleMs(index: number): number {
  return (startUs(index) + startUs(index + 1)) / 2000;
}
