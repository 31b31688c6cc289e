/**
 * Long calls under way, as `status` lists them, and how the last ones in the background ended.
 */
import type { TaskLine } from './schema.ts';

export interface Task {
  readonly id: number;
  readonly progress: (doneBytes: number, totalBytes: number) => void;
  /** It ended, for this reason if it failed: kept for a while. */
  end(failed: string | undefined): void;
  /** Whoever called knows how it ended. */
  forget(): void;
}

const ENDED_MAX = 16;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export class Tasks {
  /** In the order of their start. */
  readonly #lines = new Map<number, Writable<TaskLine>>();
  #lastId = 0;

  begin(kind: TaskLine['kind'], path: string, totalBytes: number): Task {
    this.#lastId += 1;
    const id = this.#lastId;
    const state: TaskLine['state'] = 'running';
    const line: Writable<TaskLine> = {
      ...{ id, kind, path, doneBytes: 0, totalBytes },
      ...{ state, message: null },
    };
    this.#lines.set(id, line);
    return {
      id,
      progress: (doneBytes, total) => {
        line.doneBytes = doneBytes;
        line.totalBytes = total;
      },
      end: (failed) => {
        line.state = failed === undefined ? 'done' : 'failed';
        line.message = failed ?? null;
        this.#forgetOldest();
      },
      forget: () => this.#lines.delete(id),
    };
  }

  lines(): TaskLine[] {
    return [...this.#lines.values()].map((line) => ({ ...line }));
  }

  #forgetOldest(): void {
    const ended = [...this.#lines.values()].filter(({ state }) => state !== 'running');
    for (const { id } of ended.slice(0, -ENDED_MAX)) this.#lines.delete(id);
  }
}
