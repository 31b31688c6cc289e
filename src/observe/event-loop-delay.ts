/**
 * How late the event loop comes: what every request waits before anything is done for it.
 *
 * The measurement is a timer of 1 ms, which costs an idle process a hundredth of a processor and
 * keeps it from sleeping. So it runs while there is something to do: it is paused after PAUSE_AFTER
 * looks at which nothing had happened, and a look in which something has starts it anew. What a
 * pause lasted is not in the figures.
 */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock, Timer } from '../base/clock.ts';
import { Histogram } from '../base/histogram.ts';

/** Times in milliseconds, to the microsecond; 0 when nothing was measured. */
export interface DelaySummary {
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

const RESOLUTION_MS = 1;
const LOOK_EVERY_MS = 250;
const PAUSE_AFTER = 20;

export class EventLoopDelay {
  readonly #clock: Clock;
  /** A number that changes whenever something happens. */
  readonly #activity: () => number;
  /** Of the stretches that are over. */
  readonly #past = new Histogram();
  #present: IntervalHistogram | undefined;
  #seen: number;
  #idleLooks = 0;
  #timer: Timer;

  constructor(activity: () => number, clock: Clock) {
    this.#clock = clock;
    this.#activity = activity;
    this.#seen = activity();
    this.#resume();
    this.#timer = this.#lookLater();
  }

  /** Since the start. */
  summary(): DelaySummary {
    const all = new Histogram();
    all.add(this.#past);
    if (this.#present !== undefined) record(this.#present, all);
    const { medianMs = 0, p99Ms = 0, maxMs } = all.summary();
    return { medianMs, p99Ms, maxMs };
  }

  get isMeasuring(): boolean {
    return this.#present !== undefined;
  }

  close(): void {
    this.#timer.cancel();
    this.#pause();
  }

  #lookLater(): Timer {
    return this.#clock.after(LOOK_EVERY_MS, () => {
      this.#look();
      this.#timer = this.#lookLater();
    });
  }

  #look(): void {
    const activity = this.#activity();
    this.#idleLooks = activity === this.#seen ? this.#idleLooks + 1 : 0;
    this.#seen = activity;
    if (this.#idleLooks === 0) this.#resume();
    else if (this.#idleLooks >= PAUSE_AFTER) this.#pause();
  }

  #resume(): void {
    if (this.#present !== undefined) return;
    // A new one each time: an old one would count the pause as a delay.
    this.#present = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    this.#present.enable();
  }

  #pause(): void {
    if (this.#present === undefined) return;
    this.#present.disable();
    record(this.#present, this.#past);
    this.#present = undefined;
  }
}

/**
 * Adds what a monitor has seen, as far as it tells: its percentiles, ever closer towards the longest
 * delay. It tells intervals in ns, of which the timer's own is no delay.
 */
function record(monitor: IntervalHistogram, to: Histogram): void {
  let below = 0;
  for (const [percentile, intervalNs] of monitor.count === 0 ? [] : monitor.percentiles) {
    const times = (monitor.count * (percentile - below)) / 100;
    below = percentile;
    if (times > 0) to.record(Math.max(0, intervalNs / 1e6 - RESOLUTION_MS), times);
  }
}
