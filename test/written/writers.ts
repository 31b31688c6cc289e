/** Journalled writers as children of a mount, and what they leave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Child, type Children, PYTHON } from '../mount/children.ts';
import { type Operation, readJournal, type WriterPlan } from './journal.ts';

export const WRITER = fileURLToPath(new URL('journalled-writer.py', import.meta.url));

export class RunningWriter {
  readonly child: Child;
  readonly file: string;
  readonly #path: string;
  /** What was acknowledged when a write-back began that succeeded. */
  #writtenBack = 0;

  constructor(child: Child, file: string, path: string) {
    this.child = child;
    this.file = file;
    this.#path = path;
  }

  /** What it has written down so far; a write-back that succeeded counts as an fsync. */
  journal(): Operation[] {
    const operations = readJournal(this.#path);
    if (this.#writtenBack === 0) return operations;
    const sync = { kind: 'sync', outcome: 'succeeded', sequence: this.#writtenBack + 0.5 } as const;
    return [...operations, sync];
  }

  /** Runs `writeBack`; when that succeeds, what was acknowledged before is durable. */
  async whileWrittenBack(writeBack: () => Promise<unknown>): Promise<void> {
    const last = readJournal(this.#path).findLast(({ outcome }) => outcome === 'succeeded');
    await writeBack();
    this.#writtenBack = last?.sequence ?? 0;
  }
}

/** A directory of journals, off every disk that a test breaks. */
export class Journals {
  readonly #home = mkdtempSync(join(tmpdir(), 'gvfs-journals-'));
  readonly #lastResort = () => this.#remove();
  #count = 0;

  constructor() {
    process.once('exit', this.#lastResort);
  }

  /** A name for a file beside the journals. */
  path(name: string): string {
    return join(this.#home, name);
  }

  /** Starts a writer and resolves when it runs. */
  async start(children: Children, file: string, plan: WriterPlan): Promise<RunningWriter> {
    const path = join(this.#home, String(this.#count++));
    const child = await children.start(PYTHON, [WRITER, file, path, JSON.stringify(plan)]);
    await child.says('running\n');
    return new RunningWriter(child, file, path);
  }

  remove(): void {
    process.off('exit', this.#lastResort);
    this.#remove();
  }

  #remove(): void {
    rmSync(this.#home, { recursive: true, force: true });
  }
}
