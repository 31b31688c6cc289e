/**
 * Time as the code asks for it, so that a test can be its master.
 */

export interface Clock {
  /** Milliseconds from an arbitrary start, never going back, with a fraction. */
  monotonicMs(): number;
  /** Nanoseconds since 1970-01-01T00:00:00Z, as the wall clock has it. */
  wallNs(): bigint;
  /** Runs `callback` once after `delayMs`; it does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n,
  after(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    timeout.unref();
    return { cancel: () => clearTimeout(timeout) };
  },
};
