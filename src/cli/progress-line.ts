/**
 * How far a long call is: a bar that is drawn over itself on a terminal. Elsewhere nothing is said:
 * logs and mail of cron jobs are for what went wrong.
 */
import type { Clock } from '../base/clock.ts';
import { harmless } from '../observe/printable.ts';
import { bytesText, durationText, percentText, shareText } from './quantities.ts';

export interface ProgressOutput {
  readonly isTerminal: boolean;
  readonly columns: number;
  write(text: string): void;
}

const REDRAW_MS = 100;
const BAR_MAX = 40;
/** A bar that is shorter says nothing. */
const BAR_MIN = 8;
/** The rate is not told before it means something. */
const RATE_AFTER_MS = 1000;

export class ProgressLine {
  readonly #label: string;
  readonly #output: ProgressOutput;
  readonly #clock: Clock;
  readonly #startedMs: number;
  #startedAtBytes: number | undefined;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #isDrawn = false;

  constructor(label: string, output: ProgressOutput, clock: Clock) {
    this.#label = harmless(label);
    this.#output = output;
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
  }

  update(doneBytes: number, totalBytes: number): void {
    this.#startedAtBytes ??= doneBytes;
    if (this.#output.isTerminal) this.#draw(doneBytes, totalBytes);
  }

  /** Takes the bar away: the result follows. */
  end(): void {
    if (this.#isDrawn) this.#output.write('\r\u001b[K');
    this.#isDrawn = false;
  }

  #draw(doneBytes: number, totalBytes: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#drawnMs < REDRAW_MS && doneBytes < totalBytes) return;
    this.#drawnMs = nowMs;
    const figures = this.#figures(doneBytes, totalBytes, nowMs);
    const room = this.#output.columns - this.#label.length - figures.length - 5;
    const length = Math.min(room, BAR_MAX);
    const share = totalBytes === 0 ? 1 : Math.min(doneBytes / totalBytes, 1);
    const filled = Math.floor(length * share);
    const bar = length < BAR_MIN ? '' : `[${'='.repeat(filled).padEnd(length)}] `;
    const line = `${this.#label} ${bar}${figures}`.slice(0, Math.max(0, this.#output.columns - 1));
    this.#output.write(`\r${line}\u001b[K`);
    this.#isDrawn = true;
  }

  /** ` 38 %, 1.2 GiB of 3.0 GiB, 11.2 MiB/s, 3 min left` */
  #figures(doneBytes: number, totalBytes: number, nowMs: number): string {
    const parts = [
      percentText(doneBytes, totalBytes).padStart(5),
      shareText(doneBytes, totalBytes),
    ];
    const elapsedMs = nowMs - this.#startedMs;
    const perMs = (doneBytes - (this.#startedAtBytes ?? 0)) / elapsedMs;
    if (elapsedMs >= RATE_AFTER_MS && perMs > 0 && doneBytes < totalBytes) {
      parts.push(`${bytesText(Math.round(perMs * 1000))}/s`);
      parts.push(`${durationText((totalBytes - doneBytes) / perMs)} left`);
    }
    return parts.join(', ');
  }
}
