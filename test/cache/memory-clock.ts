/**
 * A clock that goes from event to event, as fast as the work between them is done.
 */
import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../../src/base/clock.ts';

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly happen: () => void;
}

/** A clock that goes from one event to the next. */
export class EventClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #events: Event[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(Math.round(this.#nowMs * 1e6));
  }

  after(delayMs: number, callback: () => void): Timer {
    const event = { atMs: this.#nowMs + delayMs, order: this.#order++, happen: callback };
    let at = this.#events.length;
    while (at > 0 && (this.#events[at - 1]?.atMs ?? 0) > event.atMs) at--;
    this.#events.splice(at, 0, event);
    return {
      cancel: () => {
        this.#events = this.#events.filter((other) => other !== event);
      },
    };
  }

  /** Lets time go on until `work` has ended. */
  async until<T>(work: Promise<T>): Promise<T> {
    const ended = { yes: false };
    const noted = work.finally(() => {
      ended.yes = true;
    });
    while (!ended.yes) {
      await setImmediate();
      if (ended.yes) break;
      const next = this.#events.shift();
      if (next === undefined) continue;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.happen();
    }
    return noted;
  }
}
