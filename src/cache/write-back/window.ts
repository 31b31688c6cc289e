/**
 * How much of all write-back is on its way at once, and who goes next.
 *
 *            enter, room                  end
 *   (none) -------------> slot, in flight ----> (none)
 *      | enter, no room       ^
 *      '--------> waiting ----' an answer came, or it is time: first come, first served
 *
 * How much: what the link takes, as measured from the answers of WRITEs (`LinkEstimate`).
 *
 * Reads go first. While somebody reads from the server, and for a moment after, write-back takes
 * only a share of the link's time: one small piece after the other, each followed by a pause in
 * proportion to the time that it took from the link and the server. So a read finds, most times,
 * nothing of ours before it.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { BLOCK_BYTES } from '../file-io.ts';
import { LinkEstimate } from '../link-estimate.ts';

/** Fetches that somebody waits for, or soon will: those of demand, and of read-ahead. */
export interface ReadsView {
  /** Sent and not answered. */
  readonly inFlight: number;
  /** Since the start. */
  readonly begun: number;
}

/** One run's place on the link. Either `cancel`, or `send` and then `end`. */
export interface Slot {
  /** The run has at most so many bytes. */
  readonly maxBytes: number;
  send(bytes: number): void;
  /** It was answered; false: it failed. */
  end(isWritten: boolean): void;
  cancel(): void;
}

/** Of the link's time, while somebody reads. */
const SHARE_BESIDE_READS = 0.15;
/** What one piece may take of the link's time then. */
const PIECE_BESIDE_READS_MS = 2;
/** Somebody who reads now and then is still reading, for so long or two round trips. */
const READING_MS = 20;
const LONGEST_PAUSE_MS = 1_000;
/** Small runs: each is a call, whatever its bytes. */
const RUNS_MAX = 1024;

type Grant = (slot: Slot | undefined) => void;

export class WriteWindow {
  readonly #clock: Clock;
  readonly #reads: () => ReadsView;
  readonly #link: LinkEstimate;
  readonly #waiting = new Set<Grant>();
  #inFlightBytes = 0;
  #inFlightRuns = 0;
  #begunReads: number;
  #readAtMs = Number.NEGATIVE_INFINITY;
  /** Beside reads nothing goes out before this. */
  #pauseUntilMs = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(clock: Clock, reads: () => ReadsView) {
    this.#clock = clock;
    this.#reads = reads;
    this.#link = new LinkEstimate(clock);
    this.#begunReads = reads().begun;
  }

  /** Of runs that were sent and are not answered. */
  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** What the link was seen to take; undefined before anything was sent. */
  get bytesPerSecond(): number | undefined {
    return this.#link.bytesPerSecond;
  }

  get roundTripMs(): number | undefined {
    return this.#link.roundTripMs;
  }

  /** Waits until one more run may go out. undefined: the window is closed. */
  enter(): Promise<Slot | undefined> {
    return new Promise((resolve) => {
      this.#waiting.add(resolve);
      this.#grant();
    });
  }

  /** Nobody enters any more. */
  close(): void {
    this.#isClosed = true;
    this.#grant();
  }

  #grant(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const grant of this.#waiting) {
      const maxBytes = this.#isClosed ? 0 : this.#mayGo();
      if (maxBytes === undefined) return;
      this.#waiting.delete(grant);
      grant(this.#isClosed ? undefined : this.#slot(maxBytes));
    }
  }

  /** The bytes of a run that may go out now; undefined: none. */
  #mayGo(): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (this.#areReads(nowMs)) return this.#mayGoBesideReads(nowMs);
    const piece = this.#link.pieceBytes();
    if (this.#inFlightRuns === 0) return piece;
    const isFull = this.#inFlightBytes + piece > this.#link.inFlightBytes();
    if (!isFull && this.#inFlightRuns < RUNS_MAX) return piece;
    this.#link.heldBack();
    return undefined;
  }

  #mayGoBesideReads(nowMs: number): number | undefined {
    const waitMs = this.#pauseUntilMs - nowMs;
    const piece = this.#pieceBesideReads();
    const mostBytes = SHARE_BESIDE_READS * this.#link.inFlightBytes();
    const isFree = this.#inFlightRuns === 0 || this.#inFlightBytes + piece <= mostBytes;
    if (isFree && waitMs <= 0) return piece;
    // Without answers to come nothing else would look again; nor would it be seen that reads end.
    this.#timer = this.#clock.after(Math.min(Math.max(waitMs, 1), this.#readingMs()), () =>
      this.#grant(),
    );
    return undefined;
  }

  #pieceBesideReads(): number {
    const { bytesPerSecond } = this.#link;
    if (bytesPerSecond === undefined) return BLOCK_BYTES;
    const blocks = Math.floor((bytesPerSecond * PIECE_BESIDE_READS_MS) / 1000 / BLOCK_BYTES);
    return Math.min(Math.max(blocks, 1) * BLOCK_BYTES, this.#link.pieceBytes());
  }

  #areReads(nowMs: number): boolean {
    const { inFlight, begun } = this.#reads();
    if (inFlight > 0 || begun !== this.#begunReads) this.#readAtMs = nowMs;
    this.#begunReads = begun;
    return nowMs - this.#readAtMs < this.#readingMs();
  }

  #readingMs(): number {
    return Math.max(READING_MS, 2 * (this.#link.roundTripMs ?? 0));
  }

  #slot(maxBytes: number): Slot {
    // Kept free until it is known how much of it the run takes.
    let bytes = maxBytes;
    let sentMs = 0;
    this.#inFlightBytes += bytes;
    this.#inFlightRuns++;
    const leave = () => {
      this.#inFlightBytes -= bytes;
      this.#inFlightRuns--;
      this.#grant();
    };
    return {
      maxBytes,
      send: (runBytes) => {
        this.#inFlightBytes += runBytes - bytes;
        bytes = runBytes;
        sentMs = this.#link.sent();
        this.#pause(sentMs, this.#onLinkMs(bytes));
      },
      end: (isWritten) => {
        this.#link.arrived(sentMs, isWritten ? bytes : undefined);
        const tookMs = this.#clock.monotonicMs() - sentMs;
        this.#pause(sentMs, tookMs - (this.#link.roundTripMs ?? tookMs));
        leave();
      },
      cancel: leave,
    };
  }

  #onLinkMs(bytes: number): number {
    const { bytesPerSecond } = this.#link;
    return bytesPerSecond === undefined ? 0 : (bytes / bytesPerSecond) * 1000;
  }

  /** Of the time until the next, what the link and the server were busy with it is our share. */
  #pause(sentMs: number, busyMs: number): void {
    // A server that stalled is not left alone for long.
    const pauseMs = Math.min(busyMs / SHARE_BESIDE_READS, LONGEST_PAUSE_MS);
    this.#pauseUntilMs = Math.max(this.#pauseUntilMs, sentMs + pauseMs);
  }
}
