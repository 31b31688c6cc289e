/**
 * Requests that have been read and not yet been answered, in the order in which they came.
 *
 *   waiting --its body is being sent--> answering --sent, or refused--> answered
 *      |  ^------the body's file cannot be read------+
 *      +----answered at once, failed, interrupted--------------------------> answered
 *
 * A list, and not a Map by `unique`: a Map that goes from one entry to none and back shrinks and
 * grows each time, which was measured to cost over 1 us of a lone reader's request. Only an
 * INTERRUPT looks for a number.
 */
import { assert } from '../base/assert.ts';
import type { Ino } from '../base/brand.ts';
import type { Histogram } from '../base/histogram.ts';
import type { Operation, Request } from './operations.ts';

export class Pending {
  readonly unique: number;
  readonly node: Ino;
  readonly pid: number;
  readonly operation: Operation;
  readonly sinceMs: number;
  readonly latency: Histogram;
  stage: 'waiting' | 'answering' | 'answered' = 'waiting';
  /** The list's own. */
  next: Pending | undefined;
  previous: Pending | undefined;

  constructor(request: Request, operation: Operation, sinceMs: number, latency: Histogram) {
    this.unique = request.unique;
    this.node = request.node;
    this.pid = request.caller.pid;
    this.operation = operation;
    this.sinceMs = sinceMs;
    this.latency = latency;
  }
}

export class PendingList {
  #first: Pending | undefined;
  #last: Pending | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(pending: Pending): void {
    pending.previous = this.#last;
    if (this.#last === undefined) this.#first = pending;
    else this.#last.next = pending;
    this.#last = pending;
    this.#size++;
  }

  /** It is answered now, or nobody waits for it any more. */
  remove(pending: Pending): void {
    assert(pending.stage !== 'answered', 'session: answered twice');
    pending.stage = 'answered';
    const { next, previous } = pending;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    // What was answered long ago must not keep what came after it from being collected.
    pending.next = undefined;
    pending.previous = undefined;
    this.#size--;
  }

  find(unique: number): Pending | undefined {
    for (const pending of this) if (pending.unique === unique) return pending;
    return undefined;
  }

  /** From the oldest on. Any may be removed meanwhile: see its stage. */
  *[Symbol.iterator](): Generator<Pending, void> {
    for (let pending = this.#first; pending !== undefined; ) {
      const { next } = pending;
      yield pending;
      pending = next;
    }
  }
}
