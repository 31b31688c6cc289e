/**
 * Native replies that still read a range of an image's local file: its bytes may not be punched
 * or cut under them (C9). Counted by extent.
 */
import { assert } from '../base/assert.ts';
import { EXTENT_BYTES } from './extent-uses.ts';

interface Waiter {
  readonly first: number;
  readonly last: number;
  readonly free: () => void;
}

export class RepliesInFlight {
  readonly #counts = new Map<number, number>();
  #waiters: Waiter[] = [];
  /** Who reads the whole file by himself (passthrough). */
  #holders = 0;
  #holdersCount = true;

  get isHeld(): boolean {
    return this.#holders > 0;
  }

  holdWhole(): void {
    this.#holders++;
  }

  dropWhole(): void {
    assert(this.#holders > 0, 'a file was released twice');
    this.#holders--;
    this.#tellWaiters();
  }

  /** Bytes [offset, offset + length) are being read, until `drop` with the same range. */
  hold(offset: number, length: number): void {
    const last = lastExtent(offset, length);
    for (let extent = firstExtent(offset); extent <= last; extent++) {
      this.#counts.set(extent, (this.#counts.get(extent) ?? 0) + 1);
    }
  }

  drop(offset: number, length: number): void {
    const last = lastExtent(offset, length);
    for (let extent = firstExtent(offset); extent <= last; extent++) {
      const count = this.#counts.get(extent);
      assert(count !== undefined, 'a reply in flight was ended twice');
      if (count > 1) this.#counts.set(extent, count - 1);
      else this.#counts.delete(extent);
    }
    if (this.#waiters.length > 0) this.#tellWaiters();
  }

  /** Resolves when nothing reads the bytes from `offset` to `end` (exclusive, may be Infinity). */
  async free(offset: number, end: number): Promise<void> {
    if (end <= offset) return;
    const first = firstExtent(offset);
    const last = Number.isFinite(end) ? lastExtent(offset, end - offset) : end;
    if (!this.#isUsed(first, last)) return;
    await new Promise<void>((resolve) => {
      this.#waiters.push({ first, last, free: resolve });
    });
  }

  /** From now on those who hold the whole file are on their own: nobody waits for them. */
  letHoldersGo(): void {
    this.#holdersCount = false;
    this.#tellWaiters();
  }

  #isUsed(first: number, last: number): boolean {
    if (this.#holders > 0 && this.#holdersCount) return true;
    for (const extent of this.#counts.keys()) if (extent >= first && extent <= last) return true;
    return false;
  }

  #tellWaiters(): void {
    const waiters = this.#waiters;
    this.#waiters = waiters.filter(({ first, last }) => this.#isUsed(first, last));
    for (const waiter of waiters) if (!this.#waiters.includes(waiter)) waiter.free();
  }
}

function firstExtent(offset: number): number {
  return Math.floor(offset / EXTENT_BYTES);
}

function lastExtent(offset: number, length: number): number {
  return Math.floor((offset + length - 1) / EXTENT_BYTES);
}
