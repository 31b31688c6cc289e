/**
 * All fetches from the server, of all images: who goes first, and how much is in flight.
 *
 *   demand      sent at once: someone waits for it
 *   read-ahead  sent while what is in flight leaves the link a gap, one stream after the other
 *   background  as read-ahead, when no stream wants anything
 *
 * What is ahead of need waits here, not in the network, so that a demand goes past it, and so
 * that it is simply forgotten when its reader goes away.
 *
 * Memory that came and is still held (being stored, being sent to the kernel) bounds read-ahead
 * and background work, never demand.
 */
import { assert } from '../base/assert.ts';
import type { Credentials } from '../base/credentials.ts';
import { ok, type Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Fetched, ImageSource } from '../vfs/ports.ts';
import type { LinkEstimate } from './link-estimate.ts';

export type Priority = 'demand' | 'readAhead' | 'background';

/** Who wants to fetch ahead of need. */
export interface PieceTaker {
  /**
   * Begins to fetch at most about `maxBytes`, through `FetchQueue.fetch`. The bytes asked for; 0
   * when there is nothing to do: it is then asked again only after the next `want`.
   */
  take(maxBytes: number): number;
}

export interface FetchCounts {
  /** Bytes that came from the server. */
  readonly fetchedBytes: Readonly<Record<Priority, number>>;
  readonly fetches: Readonly<Record<Priority, number>>;
  readonly failures: number;
}

interface Waiting {
  readonly bytes: number;
  readonly then: () => void;
}

/** Held beside what is in flight for demand. */
const HELD_MAX_BYTES = 64 * 1024 * 1024;

export class FetchQueue {
  readonly #link: LinkEstimate;
  readonly #readAhead = new Set<PieceTaker>();
  readonly #background = new Set<PieceTaker>();
  #inFlightBytes = 0;
  #readsInFlight = 0;
  #heldBytes = 0;
  readonly #waiting = new Set<Waiting>();
  #pumping = false;
  readonly #fetchedBytes: Record<Priority, number> = { demand: 0, readAhead: 0, background: 0 };
  readonly #fetches: Record<Priority, number> = { demand: 0, readAhead: 0, background: 0 };
  #failures = 0;

  constructor(link: LinkEstimate) {
    this.#link = link;
  }

  /** Asked for and not answered. */
  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /**
   * Fetches that somebody waits for or soon will (demand, read-ahead): those not answered, and
   * those since the start.
   */
  get reads(): { readonly inFlight: number; readonly begun: number } {
    const { demand, readAhead } = this.#fetches;
    return { inFlight: this.#readsInFlight, begun: demand + readAhead };
  }

  /** Came, and not given back. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Calls `then` once, when at most `bytes` are held; the answer takes that back. */
  whenHeldAtMost(bytes: number, then: () => void): () => void {
    const waiting = { bytes, then };
    this.#waiting.add(waiting);
    return () => this.#waiting.delete(waiting);
  }

  counts(): FetchCounts {
    return {
      fetchedBytes: { ...this.#fetchedBytes },
      fetches: { ...this.#fetches },
      failures: this.#failures,
    };
  }

  /** How far ahead of its reader one stream may be: all that the link takes, and as much landed. */
  streamBytes(): number {
    return 2 * this.#link.inFlightBytes() + this.#link.pieceBytes();
  }

  pieceBytes(): number {
    return this.#link.pieceBytes();
  }

  /** Sends at once. Callers of lower priority than demand are asked by `take` when they may. */
  async fetch(
    source: ImageSource,
    as: Credentials,
    offset: number,
    length: number,
    priority: Priority,
  ): Promise<Result<Fetched, FsError>> {
    this.#inFlightBytes += length;
    this.#fetches[priority]++;
    const reads = priority === 'background' ? 0 : 1;
    this.#readsInFlight += reads;
    const sent = this.#link.sent();
    const answer = await source.fetch(as, offset, length);
    this.#inFlightBytes -= length;
    this.#readsInFlight -= reads;
    if (!answer.ok) {
      this.#failures++;
      this.#link.arrived(sent, undefined);
      this.#pump();
      return answer;
    }
    const { bytes, release } = answer.value;
    this.#link.arrived(sent, bytes.length);
    this.#fetchedBytes[priority] += bytes.length;
    this.#heldBytes += bytes.length;
    this.#pump();
    let held = true;
    return ok({
      bytes,
      release: () => {
        assert(held, 'fetched memory given back twice');
        held = false;
        this.#heldBytes -= bytes.length;
        release();
        this.#wake();
        this.#pump();
      },
    });
  }

  /** `taker` has something to fetch ahead of need. */
  want(taker: PieceTaker, priority: 'readAhead' | 'background'): void {
    (priority === 'readAhead' ? this.#readAhead : this.#background).add(taker);
    this.#pump();
  }

  /** `taker` wants nothing any more. */
  drop(taker: PieceTaker): void {
    this.#readAhead.delete(taker);
    this.#background.delete(taker);
  }

  #wake(): void {
    for (const waiting of this.#waiting) {
      if (this.#heldBytes > waiting.bytes) continue;
      this.#waiting.delete(waiting);
      waiting.then();
    }
  }

  #pump(): void {
    // A taker's own fetch comes back here.
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#mayTake()) {
        const queue = this.#readAhead.size > 0 ? this.#readAhead : this.#background;
        const [taker] = queue;
        if (taker === undefined) return;
        // To the end of its queue: streams take turns.
        queue.delete(taker);
        if (taker.take(this.#link.pieceBytes()) > 0) queue.add(taker);
      }
    } finally {
      this.#pumping = false;
    }
  }

  #mayTake(): boolean {
    if (this.#readAhead.size === 0 && this.#background.size === 0) return false;
    const piece = this.#link.pieceBytes();
    if (this.#inFlightBytes + piece > this.#link.inFlightBytes()) {
      this.#link.heldBack();
      return false;
    }
    return this.#heldBytes + this.#inFlightBytes + piece <= HELD_MAX_BYTES;
  }
}
