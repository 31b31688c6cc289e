/**
 * What the link to the server can carry, seen from the fetches that are made anyway.
 *
 * Round trip: the shortest that any fetch took. It includes the bytes' own time on the link, so it
 * is never too short; one small fetch on a quiet link makes it right. It is kept for minutes: a
 * link that we keep busy ourselves shows only longer ones.
 *
 * Rate: bytes that came in while at least one fetch was in flight all the time, over windows of a
 * few round trips; the largest of the last windows counts. A window in which we asked for less
 * than the link would carry says nothing against the estimate, it can only raise it.
 *
 * In flight: bandwidth times delay keeps the link full; two pieces more keep it so between the
 * end of one and the arrival of the next. As long as the rate still grows, twice that, so that it
 * is found in a few round trips. More would only queue before the link, where demand waits.
 */
import type { Clock } from '../base/clock.ts';
import { BLOCK_BYTES } from './file-io.ts';

/** Bytes of one READ at most; of the server's too, mostly. */
export const PIECE_MAX_BYTES = 1024 * 1024;

/** What a piece may take of the link's time, which is what a demand may wait behind it. */
const PIECE_MS = 8;
const WINDOW_MIN_MS = 20;
const WINDOW_ROUND_TRIPS = 2;
const WINDOWS_KEPT = 16;
const ROUND_TRIP_KEPT_MS = 300_000;
/** Before anything is known. */
const FIRST_PIECE_BYTES = 4 * BLOCK_BYTES;
const FIRST_IN_FLIGHT_BYTES = 1024 * 1024;
const IN_FLIGHT_MAX_BYTES = 48 * 1024 * 1024;
const PIECES_BESIDE = 2;
const GROWTH = 1.25;
/** Windows without growth until the rate counts as found. */
const FLAT_WINDOWS = 3;

export class LinkEstimate {
  readonly #clock: Clock;
  #inFlight = 0;
  #windowStartMs = 0;
  #windowBytes = 0;
  #windowFull = false;
  /** Bytes a millisecond of the last windows. */
  readonly #rates: number[] = [];
  #rate = 0;
  #grownTo = 0;
  #flat = 0;
  #roundTripMs = Number.POSITIVE_INFINITY;
  #olderRoundTripMs = Number.POSITIVE_INFINITY;
  #roundTripSinceMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#roundTripSinceMs = clock.monotonicMs();
  }

  /** In ms; undefined before the first fetch was answered. */
  get roundTripMs(): number | undefined {
    const shortest = Math.min(this.#roundTripMs, this.#olderRoundTripMs);
    return Number.isFinite(shortest) ? shortest : undefined;
  }

  /** In bytes a second; undefined before anything came. */
  get bytesPerSecond(): number | undefined {
    return this.#rate === 0 ? undefined : this.#rate * 1000;
  }

  /** A fetch is sent. The moment is to be given to `arrived`. */
  sent(): number {
    const nowMs = this.#clock.monotonicMs();
    if (this.#inFlight === 0) this.#beginWindow(nowMs);
    this.#inFlight++;
    return nowMs;
  }

  /** It was answered with `bytes`; undefined: it failed. */
  arrived(sentMs: number, bytes: number | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    this.#inFlight--;
    if (bytes === undefined) return;
    this.#sawRoundTrip(nowMs, nowMs - sentMs);
    this.#windowBytes += bytes;
    const elapsedMs = nowMs - this.#windowStartMs;
    const roundTripMs = this.roundTripMs ?? 0;
    if (elapsedMs < Math.max(WINDOW_MIN_MS, WINDOW_ROUND_TRIPS * roundTripMs)) return;
    this.#sawRate(this.#windowBytes / elapsedMs);
    this.#beginWindow(nowMs);
  }

  /** More would have been fetched, had it been allowed: the window shows what the link can do. */
  heldBack(): void {
    this.#windowFull = true;
  }

  /** The size of one piece of read-ahead: whole blocks. */
  pieceBytes(): number {
    if (this.#rate === 0) return FIRST_PIECE_BYTES;
    const blocks = Math.floor((this.#rate * PIECE_MS) / BLOCK_BYTES);
    return Math.min(Math.max(blocks, 1) * BLOCK_BYTES, PIECE_MAX_BYTES);
  }

  /** How much may be in flight, demand included, when a piece of read-ahead is sent. */
  inFlightBytes(): number {
    const beside = PIECES_BESIDE * this.pieceBytes();
    const roundTripMs = this.roundTripMs;
    if (this.#rate === 0 || roundTripMs === undefined) return FIRST_IN_FLIGHT_BYTES;
    const gain = this.#flat < FLAT_WINDOWS ? 2 : GROWTH;
    return Math.min(gain * this.#rate * roundTripMs + beside, IN_FLIGHT_MAX_BYTES);
  }

  #beginWindow(nowMs: number): void {
    this.#windowStartMs = nowMs;
    this.#windowBytes = 0;
    this.#windowFull = false;
  }

  #sawRoundTrip(nowMs: number, tookMs: number): void {
    if (nowMs - this.#roundTripSinceMs >= ROUND_TRIP_KEPT_MS) {
      this.#olderRoundTripMs = this.#roundTripMs;
      this.#roundTripMs = Number.POSITIVE_INFINITY;
      this.#roundTripSinceMs = nowMs;
    }
    this.#roundTripMs = Math.min(this.#roundTripMs, tookMs);
  }

  #sawRate(rate: number): void {
    if (!this.#windowFull && rate <= this.#rate) return;
    this.#rates.push(rate);
    if (this.#rates.length > WINDOWS_KEPT) this.#rates.shift();
    this.#rate = Math.max(...this.#rates);
    if (this.#rate > GROWTH * this.#grownTo) {
      this.#grownTo = this.#rate;
      this.#flat = 0;
    } else if (this.#windowFull) {
      this.#flat++;
      // What a slower link has become may grow again.
      if (this.#rate < this.#grownTo / GROWTH) this.#grownTo = this.#rate;
    }
  }
}
