/** Journalled writers as children of a mount, and what they leave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Child, type Children, PYTHON } from '../mount/children.ts';
import { type Operation, readJournal, type WriterPlan } from './journal.ts';

export const WRITER = fileURLToPath(new URL('journalled-writer.py', import.meta.url));

export interface RunningWriter {
  readonly child: Child;
  /** What it has written down so far. */
  journal(): Operation[];
}

/** A directory of journals, off every disk that a test breaks. */
export class Journals {
  readonly #home = mkdtempSync(join(tmpdir(), 'gvfs-journals-'));
  readonly #lastResort = () => this.#remove();
  #count = 0;

  constructor() {
    process.once('exit', this.#lastResort);
  }

  /** Starts a writer and resolves when it runs. */
  async start(children: Children, file: string, plan: WriterPlan): Promise<RunningWriter> {
    const path = join(this.#home, String(this.#count++));
    const child = await children.start(PYTHON, [WRITER, file, path, JSON.stringify(plan)]);
    await child.says('running');
    return { child, journal: () => readJournal(path) };
  }

  remove(): void {
    process.off('exit', this.#lastResort);
    this.#remove();
  }

  #remove(): void {
    rmSync(this.#home, { recursive: true, force: true });
  }
}
