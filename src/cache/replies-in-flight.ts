/**
 * Native replies that still read a range of an image's local file, and those who hold all of it:
 * its bytes may not be punched or cut under them (C9).
 *
 * Who waits for a range waits for the replies that were begun before: he has seen to it that none
 * begins any more (the marks are cleared, or the pages are being changed). So hot reads beside the
 * range, or of what comes back later, starve nobody.
 */
import { assert } from '../base/assert.ts';

/** A reply under way. */
export interface ReplyInFlight {
  readonly offset: number;
  /** Exclusive. */
  readonly end: number;
}

interface Waiter {
  readonly replies: Set<ReplyInFlight>;
  readonly free: () => void;
}

export class RepliesInFlight {
  readonly #replies = new Set<ReplyInFlight>();
  readonly #waiters = new Set<Waiter>();
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

  /** Bytes [offset, offset + length) are being read, until `drop`. */
  hold(offset: number, length: number): ReplyInFlight {
    const reply = { offset, end: offset + length };
    this.#replies.add(reply);
    return reply;
  }

  drop(reply: ReplyInFlight): void {
    assert(this.#replies.delete(reply), 'a reply in flight was ended twice');
    if (this.#waiters.size === 0) return;
    for (const waiter of this.#waiters) waiter.replies.delete(reply);
    this.#tellWaiters();
  }

  /** Resolves when nothing of now reads bytes from `offset` to `end` (exclusive, or Infinity). */
  async free(offset: number, end: number): Promise<void> {
    const replies = new Set<ReplyInFlight>();
    for (const reply of this.#replies) {
      if (reply.offset < end && offset < reply.end) replies.add(reply);
    }
    if (replies.size === 0 && !this.#isHeld) return;
    await new Promise<void>((resolve) => {
      this.#waiters.add({ replies, free: resolve });
    });
  }

  /** From now on those who hold the whole file are on their own: nobody waits for them. */
  letHoldersGo(): void {
    this.#holdersCount = false;
    this.#tellWaiters();
  }

  get #isHeld(): boolean {
    return this.#holders > 0 && this.#holdersCount;
  }

  #tellWaiters(): void {
    if (this.#isHeld) return;
    for (const waiter of this.#waiters) {
      if (waiter.replies.size > 0) continue;
      this.#waiters.delete(waiter);
      waiter.free();
    }
  }
}
