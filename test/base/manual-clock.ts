/** A clock that stands still until a test moves it. */
import type { Clock } from '../../src/base/clock.ts';

export class ManualClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(Math.round(this.#nowMs * 1e6));
  }

  after(delayMs: number, callback: () => void): { cancel(): void } {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  }

  /** Runs what is due in between, once. */
  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of [...this.#timers]) {
      if (timer.atMs > this.#nowMs) continue;
      this.#timers.delete(timer);
      timer.callback();
    }
  }
}
