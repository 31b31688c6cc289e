/**
 * Memory for replies with a payload: fresh megabytes cost more (page faults, collection) than the
 * copy they receive, so they are kept and handed out again.
 *
 * Buffers come in classes, each a power of two plus room for what surrounds a payload. At most
 * `keepBytes` lie idle; what is given back beyond that is left to the collector, and so is a
 * buffer that is never given back.
 */
import { assert } from '../../base/assert.ts';

/** A buffer on loan. */
export interface Lease {
  readonly bytes: Buffer;
  /** Gives it back; exactly once. */
  release(): void;
}

/** RPC header with a verifier, status, attributes and counts before READ's payload. */
const HEADROOM_BYTES = 1024;
const SMALLEST_BYTES = 4096;

export class BufferPool {
  readonly #keepBytes: number;
  readonly #idle: Buffer[][] = [];
  #idleBytes = 0;

  constructor(keepBytes = 24 * 1024 * 1024) {
    this.#keepBytes = keepBytes;
  }

  /** Bytes that wait for their next use. */
  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** At least `sizeBytes`, with whatever bytes its last user left there. */
  lease(sizeBytes: number): Lease {
    const rank = rankOf(sizeBytes);
    const idle = this.#idle[rank]?.pop();
    if (idle !== undefined) this.#idleBytes -= idle.length;
    return this.#loan(rank, idle ?? Buffer.allocUnsafeSlow(capacityOf(rank)));
  }

  #loan(rank: number, bytes: Buffer): Lease {
    let out = true;
    return {
      bytes,
      release: () => {
        assert(out, 'a buffer was released twice');
        out = false;
        if (this.#idleBytes + bytes.length > this.#keepBytes) return;
        this.#idleBytes += bytes.length;
        const idle = this.#idle[rank];
        if (idle === undefined) this.#idle[rank] = [bytes];
        else idle.push(bytes);
      },
    };
  }
}

function rankOf(sizeBytes: number): number {
  let rank = 0;
  while (capacityOf(rank) < sizeBytes) rank++;
  return rank;
}

function capacityOf(rank: number): number {
  return SMALLEST_BYTES * 2 ** rank + HEADROOM_BYTES;
}
