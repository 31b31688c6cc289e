/**
 * A link to a server in a time of its own: bytes take their time, one answer after the other, and
 * a round trip comes on top. What takes no time here: the server, the disk, our own code.
 */
import type { Credentials } from '../../src/base/credentials.ts';
import { ok, type Result } from '../../src/base/result.ts';
import type { FileIo } from '../../src/cache/file-io.ts';
import { BLOCK_BYTES } from '../../src/cache/file-io.ts';
import type { FsError } from '../../src/errors/fs-error.ts';
import type { Fetched } from '../../src/vfs/ports.ts';
import type { EventClock } from './memory-clock.ts';
import { MemorySource } from './memory-source.ts';

export interface LinkOptions {
  readonly clock: EventClock;
  readonly bitsPerSecond: number;
  readonly roundTripMs: number;
}

const zeros = Buffer.alloc(2 * 1024 * 1024, 1);

/** A file at the far end of a link. */
export class LinkedSource extends MemorySource {
  readonly #options: LinkOptions;
  readonly #size: number;
  #linkFreeMs = 0;
  /** Time that the link was carrying bytes. */
  busyMs = 0;

  constructor(sizeBytes: number, options: LinkOptions) {
    super(Buffer.alloc(0));
    this.#size = sizeBytes;
    this.#options = options;
  }

  get bytesPerMs(): number {
    return this.#options.bitsPerSecond / 8 / 1000;
  }

  override async fetch(
    _as: Credentials,
    offset: number,
    length: number,
  ): Promise<Result<Fetched, FsError>> {
    this.fetches.push({ offset, length });
    const { clock, roundTripMs } = this.#options;
    const bytes = zeros.subarray(0, Math.min(length, this.#size - offset));
    const takesMs = bytes.length / this.bytesPerMs;
    const startsMs = Math.max(clock.monotonicMs() + roundTripMs / 2, this.#linkFreeMs);
    this.#linkFreeMs = startsMs + takesMs;
    this.busyMs += takesMs;
    const arrivesMs = this.#linkFreeMs + roundTripMs / 2;
    await new Promise<void>((resolve) => {
      clock.after(arrivesMs - clock.monotonicMs(), resolve);
    });
    return ok({ bytes, release: () => undefined });
  }

  override attributesNow() {
    return { ...super.attributesNow(), size: this.#size, used: this.#size };
  }
}

/** Stores nothing: for tests that look at times only. */
export function forgetful(io: FileIo): FileIo {
  return {
    ...io,
    store: async (_fd, offset, bytes) => {
      await Promise.resolve();
      const first = Math.floor(offset / BLOCK_BYTES);
      const end = Math.ceil((offset + bytes.length) / BLOCK_BYTES);
      return { errno: 0, sums: new Uint32Array(end - first) };
    },
    truncate: () => Promise.resolve(0),
  };
}
