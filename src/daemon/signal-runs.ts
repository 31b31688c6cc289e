/**
 * What signals ask for, one run at a time of each kind: a signal that comes during a run is for
 * what was written since, so that one more follows, and however many come, only one.
 */
export type SignalRun = 'write-back' | 'flush';

export class SignalRuns {
  readonly #run: (kind: SignalRun) => Promise<void>;
  readonly #running = new Map<SignalRun, { again: boolean }>();

  constructor(run: (kind: SignalRun) => Promise<void>) {
    this.#run = run;
  }

  ask(kind: SignalRun): void {
    const present = this.#running.get(kind);
    if (present === undefined) void this.#go(kind);
    else present.again = true;
  }

  async #go(kind: SignalRun): Promise<void> {
    const running = { again: true };
    this.#running.set(kind, running);
    while (running.again) {
      running.again = false;
      await this.#run(kind);
    }
    this.#running.delete(kind);
  }
}
