/**
 * Images of an export that journalled writers write to through a mount, and that are compared with
 * what was promised: as a program on the mount sees them, and as the server has them.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CachedExport,
  type CachedExportOptions,
  gvfs,
  withCachedExport,
} from '../cached/cached-export.ts';
import type { Mount } from '../mount/mount-fixture.ts';
import { FileModel, type PromiseKept, untouched, type WriterPlan } from './journal.ts';
import { Journals, type RunningWriter } from './writers.ts';

export type WritePolicy = 'through' | 'back' | 'deferred';

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function chances(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class WrittenExport {
  readonly place: CachedExport;
  readonly journals: Journals;
  readonly #images: Image[] = [];

  constructor(place: CachedExport, journals: Journals) {
    this.place = place;
    this.journals = journals;
  }

  /** A new image of the export; `bytes` of it only the server has. */
  image(name: string, bytes: number): Image {
    const image = new Image(this, name, bytes);
    this.#images.push(image);
    return image;
  }

  /** What is left of any image is what the server has. */
  assertAtServer(): void {
    for (const image of this.#images) image.assertAtServer();
  }
}

export class Image {
  readonly name: string;
  readonly #export: WrittenExport;
  readonly #model: FileModel;
  readonly #bytes: number;
  readonly #tag: number;
  #writers: RunningWriter[] = [];
  #sequence = 1;

  constructor(home: WrittenExport, name: string, bytes: number) {
    this.name = name;
    this.#export = home;
    this.#bytes = bytes;
    this.#tag = tagOf(name);
    const content = untouched(this.#tag, bytes);
    this.#model = new FileModel(this.#tag, content);
    writeFileSync(this.pathAtServer, content);
  }

  get pathAtServer(): string {
    return join(this.#export.place.server.directory, this.name);
  }

  get writers(): readonly RunningWriter[] {
    return this.#writers;
  }

  /**
   * Starts so many writers, each in a part of its own of the file; the parts meet within pages. `more`
   * is for their plans.
   */
  async write(
    mount: Mount,
    count: number,
    seed: number,
    more: Partial<WriterPlan> = {},
  ): Promise<readonly RunningWriter[]> {
    const share = Math.floor(this.#bytes / count) - 1;
    for (let at = 0; at < count; at += 1) {
      const plan = {
        ...{ seed: seed + at, tag: this.#tag, firstSequence: this.#sequence, operations: 1e6 },
        ...{ from: at * share, end: at === count - 1 ? this.#bytes : (at + 1) * share },
        ...more,
      };
      this.#sequence += 1e6;
      const file = join(mount.mountpoint, this.name);
      this.#writers.push(await this.#export.journals.start(mount.children, file, plan));
    }
    return this.#writers;
  }

  /** `work` writes it back: when it succeeds, what was acknowledged before is at the server. */
  async whileWrittenBack(work: () => Promise<unknown>): Promise<void> {
    let all = work;
    for (const writer of this.#writers) {
      const inner = all;
      all = () => writer.whileWrittenBack(inner);
    }
    await all();
  }

  /** Compares what the mount shows with the promise; what is there now has to stay from now on. */
  async assertKept(mount: Mount, promise: PromiseKept, when: string): Promise<void> {
    const copy = this.#export.journals.path(this.name);
    await mount.children.run('cp', [join(mount.mountpoint, this.name), copy]);
    const what = `${when}, ${this.name} on the mount, whose log says:\n${mount.log()}\n`;
    this.#take(readFileSync(copy), promise, what);
  }

  /** Compares what the server has with what was last seen, and what was acknowledged since. */
  assertAtServer(when = 'at the end'): void {
    this.#take(
      readFileSync(this.pathAtServer),
      'acknowledged',
      `${when}, ${this.name} at the server`,
    );
  }

  /** Whether the server has it already. */
  isAtServer(): boolean {
    const journals = this.#writers.map((writer) => writer.journal());
    const found = readFileSync(this.pathAtServer);
    return this.#model.findings(found, journals, 'acknowledged').length === 0;
  }

  #take(found: Buffer, promise: PromiseKept, what: string): void {
    const journals = this.#writers.map((writer) => writer.journal());
    const findings = this.#model.take(found, journals, promise);
    const ends = journals.map(
      (journal) =>
        `${journal.filter(({ outcome }) => outcome === 'succeeded').length} of ${journal.length}`,
    );
    assert.deepEqual(findings, [], `${what} (acknowledged: ${ends.join(', ')})`);
    this.#writers = [];
  }
}

export async function withWrittenExport(
  body: (written: WrittenExport) => Promise<void>,
  options: CachedExportOptions = {},
): Promise<void> {
  const journals = new Journals();
  try {
    await withCachedExport((place) => body(new WrittenExport(place, journals)), options);
  } finally {
    journals.remove();
  }
}

/** `gvfs write-back`: of a path below the mount, or of all of it. */
export async function writeBack(mount: Mount, policy: WritePolicy, name = ''): Promise<void> {
  if (policy !== 'through') await gvfs(mount, 'write-back', join(mount.mountpoint, name));
}

/** A writer may have written nothing yet when it is stopped: a test of that would prove nothing. */
export function acknowledged(image: Image): number {
  return image.writers
    .flatMap((writer) => writer.journal())
    .filter(({ outcome }) => outcome === 'succeeded').length;
}

function tagOf(name: string): number {
  return [...name].reduce((tag, letter) => Math.imul(tag, 31) + letter.charCodeAt(0), 7) >>> 0;
}
