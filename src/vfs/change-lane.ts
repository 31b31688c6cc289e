/**
 * The order of what changes one file's bytes.
 *
 * L1  Two WRITEs whose ranges overlap are never in flight together: the server could swap them.
 * L2  A change of the whole file (its size, its times, sending lost bytes again) is alone.
 * L3  First come, first served among those that exclude one another; nobody starves.
 */
import { assert } from '../base/assert.ts';

interface Passage {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  enter: (() => void) | undefined;
}

/** To be called exactly once, when the change was answered. */
export type Leave = () => void;

export class ChangeLane {
  readonly #inside = new Set<Passage>();
  #waiting: Passage[] = [];

  /** Waits for its turn to write `start` to `end`. */
  enterRange(start: number, end: number): Promise<Leave> {
    return this.#enter({ start, end, enter: undefined });
  }

  /** Waits for its turn to change the file as a whole. */
  enterAlone(): Promise<Leave> {
    return this.#enter({ start: 0, end: Number.POSITIVE_INFINITY, enter: undefined });
  }

  async #enter(passage: Passage): Promise<Leave> {
    if (this.#blocked(passage, this.#waiting.length)) {
      await new Promise<void>((resolve) => {
        passage.enter = resolve;
        this.#waiting.push(passage);
      });
    } else {
      this.#inside.add(passage);
    }
    return () => this.#leave(passage);
  }

  #leave(passage: Passage): void {
    assert(this.#inside.delete(passage), 'left the change lane twice');
    const still: Passage[] = [];
    const waiting = this.#waiting;
    this.#waiting = still;
    for (const next of waiting) {
      if (this.#blocked(next, still.length)) {
        still.push(next);
      } else {
        this.#inside.add(next);
        next.enter?.();
      }
    }
  }

  #blocked(passage: Passage, ahead: number): boolean {
    for (const other of this.#inside) if (excludes(passage, other)) return true;
    for (let i = 0; i < ahead; i++) {
      const other = this.#waiting[i];
      if (other !== undefined && excludes(passage, other)) return true;
    }
    return false;
  }
}

function excludes(one: Passage, other: Passage): boolean {
  return one.start < other.end && other.start < one.end;
}
