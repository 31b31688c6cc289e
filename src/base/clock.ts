/**
 * Time as the code asks for it, so that a test can be its master.
 */

export interface Clock {
  /** Milliseconds from an arbitrary start, never going back, with a fraction. */
  monotonicMs(): number;
  /** Nanoseconds since 1970-01-01T00:00:00Z, as the wall clock has it, to the millisecond. */
  wallNs(): bigint;
  /** Runs `callback` once after `delayMs`; it does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  // Not performance.timeOrigin: it does not follow a clock that is set.
  wallNs: () => BigInt(Date.now()) * 1_000_000n,
  after(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    timeout.unref();
    return { cancel: () => clearTimeout(timeout) };
  },
};
