/**
 * Clocks of the tests' own: one that the test moves, and one that goes from event to event.
 */
import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../../src/base/clock.ts';

/** Time passes when the test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(Math.round(this.#nowMs * 1e6));
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of [...this.#timers]) {
      if (timer.atMs > this.#nowMs) continue;
      this.#timers.delete(timer);
      timer.callback();
    }
  }
}

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
