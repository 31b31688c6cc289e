/**
 * Where the server's file ends, as far as it is known for certain: what lies behind that in an image
 * with unsent writes, and is absent, is zeros, and never fetched (C11).
 *
 * The end is raised when the server is certain to have a longer file (a WRITE of ours was settled,
 * or may have been done though its answer was lost), so that what is evicted then is fetched again.
 * Before, the pages of such a WRITE are dirty, and so not absent.
 */
import { PAGE_BYTES } from './file-io.ts';

export class ZerosBeyond {
  #serverBytes: number;
  /** See `watch`. */
  readonly #raised = new Set<{ most: number }>();

  constructor(serverBytes: number) {
    this.#serverBytes = serverBytes;
  }

  /** The size of the server's file. */
  get serverBytes(): number {
    return this.#serverBytes;
  }

  /** From this page on all that is absent is zeros. */
  get firstPage(): number {
    return Math.ceil(this.#serverBytes / PAGE_BYTES);
  }

  /** The server's file may be as long as this. */
  raise(sizeBytes: number): void {
    this.#serverBytes = Math.max(this.#serverBytes, sizeBytes);
    for (const raised of this.#raised) raised.most = Math.max(raised.most, sizeBytes);
  }

  /** The server's file is as long as this. */
  set(sizeBytes: number): void {
    this.#serverBytes = sizeBytes;
  }

  /** The most that it is raised to from now on, until `unwatch`. */
  watch(): { most: number } {
    const raised = { most: 0 };
    this.#raised.add(raised);
    return raised;
  }

  unwatch(raised: { most: number }): void {
    this.#raised.delete(raised);
  }
}
