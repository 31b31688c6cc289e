/**
 * What a journalled writer (journalled-writer.py) did to a file, and whether the file keeps what was
 * promised about it.
 *
 * Of each byte it is known which sure operation came last: one that succeeded, or, after a power
 * loss, one that succeeded before a successful fsync began. An operation that is not sure may have
 * happened or not, byte by byte, where no later sure one covers it. Any other byte is a loss (older
 * than the last sure operation) or foreign (never written there at all).
 *
 * The bytes of a write are cells of 16 bytes at multiples of 16 in the file: sequence number, tag and
 * sequence mixed, offset and sequence mixed. So a stray byte tells where it comes from.
 */
import { readFileSync } from 'node:fs';

/** The JSON that the writer is given. */
export interface WriterPlan {
  readonly seed: number;
  /** Of the file: 32 bits. */
  readonly tag: number;
  /** At least 1; the operations count up from it. */
  readonly firstSequence: number;
  readonly operations: number;
  /** The bytes that it writes to: [from, end). */
  readonly from: number;
  readonly end: number;
  /** The share of fsyncs among the operations (default 0.04). */
  readonly syncs?: number;
  readonly truncates?: boolean;
  /** O_DIRECT: whole pages only. */
  readonly direct?: boolean;
  readonly goOnWhenFull?: boolean;
  readonly syncAtEnd?: boolean;
  /** fdatasync of each line of the journal: needed only where the journal's own disk may fail. */
  readonly durable?: boolean;
}

export type Outcome = 'succeeded' | 'failed' | 'open';

export type Operation = { readonly sequence: number; outcome: Outcome } & (
  | { readonly kind: 'write'; readonly offset: number; readonly length: number; content: number }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'sync' }
);

/** `acknowledged`: what succeeded is there. `synced`: what succeeded before a successful fsync is. */
export type PromiseKept = 'acknowledged' | 'synced';

/** Reads a journal; a torn last line counts as not written. */
export function readJournal(path: string): Operation[] {
  return parseJournal(readFileSync(path, 'utf8'));
}

export function parseJournal(text: string): Operation[] {
  const operations = new Map<number, Operation>();
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    const [kind, ...words] = line.split(' ');
    const [sequence = 0, first = 0, second = 0, third = 0] = words.map(Number);
    const begun = { sequence, outcome: 'open' as Outcome };
    if (kind === 'w') {
      const write = { kind: 'write' as const, offset: first, length: second, content: third };
      operations.set(sequence, { ...begun, ...write });
    } else if (kind === 't') operations.set(sequence, { ...begun, kind: 'truncate', size: first });
    else if (kind === 's') operations.set(sequence, { ...begun, kind: 'sync' });
    else if (kind === '+' || kind === '-') {
      const operation = operations.get(sequence);
      if (operation === undefined) throw new Error(`an end without a beginning: ${line}`);
      operation.outcome = kind === '+' ? 'succeeded' : 'failed';
    } else if (line !== '') throw new Error(`no line of a journal: ${line}`);
  }
  return [...operations.values()];
}

/** The cells that cover [offset, offset + length) of a write, cut to it. */
export function cellsOf(tag: number, sequence: number, offset: number, length: number): Buffer {
  const first = Math.floor(offset / 16) * 16;
  const count = Math.ceil((offset + length) / 16) - first / 16;
  const words = new Uint32Array(4 * count);
  const mixedTag = tag ^ Math.imul(sequence, 0x85ebca6b);
  const high = Math.imul(sequence, 0x9e3779b1);
  const low = (Math.imul(sequence, 0xc2b2ae35) & 0x7fff_ffff) + first;
  for (let cell = 0; cell < count; cell += 1) {
    const sum = low + 16 * cell;
    words[4 * cell] = sequence;
    words[4 * cell + 1] = mixedTag;
    words[4 * cell + 2] = sum;
    words[4 * cell + 3] = high + Math.floor(sum / 2 ** 32);
  }
  return Buffer.from(words.buffer, offset - first, length);
}

/** A file of `bytes` as it is before anybody writes to it: sequence number 0 in all cells. */
export function untouched(tag: number, bytes: number): Buffer {
  return cellsOf(tag, 0, 0, bytes);
}

/** What a file may be, from a content that is known and the journals of what happened since. */
export class FileModel {
  readonly tag: number;
  #base: Buffer;

  constructor(tag: number, base: Buffer) {
    this.tag = tag;
    this.#base = base;
  }

  /**
   * What is wrong with `found`, a few findings at most. The journals are of writers that wrote to
   * different bytes. Nothing wrong: `found` is what is known from now on.
   */
  take(found: Buffer, journals: readonly (readonly Operation[])[], promise: PromiseKept): string[] {
    const findings = this.findings(found, journals, promise);
    if (findings.length === 0) this.#base = Buffer.from(found);
    return findings;
  }

  findings(
    found: Buffer,
    journals: readonly (readonly Operation[])[],
    promise: PromiseKept,
  ): string[] {
    const state = new Replay(this.tag, this.#base, journals);
    for (const journal of journals) state.replay(journal, promise);
    return state.compare(found);
  }
}

type Unsure = Operation & { kind: 'write' | 'truncate' };

/** Of an index: no operation. */
const NONE = 0;
const MOST_FINDINGS = 5;

class Replay {
  readonly #tag: number;
  readonly #operations: Operation[] = [];
  /** What is not sure, and where in `#operations` it stands, counted from 1. */
  readonly #perhaps: { readonly index: number; readonly operation: Unsure; bytes?: Buffer }[] = [];
  readonly #expected: Buffer;
  /** Of each byte the last sure operation. */
  readonly #owner: Uint32Array;
  #leastSize: number;
  #mostSize: number;

  constructor(tag: number, base: Buffer, journals: readonly (readonly Operation[])[]) {
    const ends = journals.flat().map((operation) => {
      if (operation.kind === 'write') return operation.offset + operation.length;
      return operation.kind === 'truncate' ? operation.size : 0;
    });
    const length = ends.reduce((most, end) => Math.max(most, end), base.length);
    this.#tag = tag;
    this.#expected = Buffer.alloc(length);
    base.copy(this.#expected);
    this.#owner = new Uint32Array(length);
    this.#leastSize = base.length;
    this.#mostSize = base.length;
  }

  replay(journal: readonly Operation[], promise: PromiseKept): void {
    const sureUntil = promise === 'acknowledged' ? Number.POSITIVE_INFINITY : lastSync(journal);
    for (const operation of journal) {
      const index = this.#operations.push(operation);
      if (operation.kind === 'sync') continue;
      const sure = operation.outcome === 'succeeded' && operation.sequence < sureUntil;
      if (operation.kind === 'write') this.#write(operation, index, sure);
      else this.#truncate(operation.size, index, sure);
      if (!sure) this.#perhaps.push({ index, operation });
    }
  }

  compare(found: Buffer): string[] {
    const findings: string[] = [];
    if (found.length < this.#leastSize || found.length > this.#mostSize) {
      const expected = `${this.#leastSize} to ${this.#mostSize}`;
      findings.push(`the file is ${found.length} bytes long, not ${expected}`);
    }
    const whole = Buffer.alloc(this.#expected.length);
    found.copy(whole);
    for (let at = 0; at < whole.length && findings.length < MOST_FINDINGS; ) {
      at = firstDifference(whole, this.#expected, at);
      if (at === whole.length) break;
      const allowed = this.#perhapsFrom(whole, at);
      if (allowed > 0) {
        at += allowed;
        continue;
      }
      findings.push(this.#describe(whole, at));
      at = (Math.floor(at / 4096) + 1) * 4096; // one finding a page
    }
    return findings;
  }

  #write(operation: Operation & { kind: 'write' }, index: number, sure: boolean): void {
    const { offset, length } = operation;
    this.#mostSize = Math.max(this.#mostSize, offset + length);
    if (!sure) return;
    this.#leastSize = Math.max(this.#leastSize, offset + length);
    this.#contentOf(operation).copy(this.#expected, offset);
    this.#owner.fill(index, offset, offset + length);
  }

  #truncate(size: number, index: number, sure: boolean): void {
    this.#mostSize = sure ? size : Math.max(this.#mostSize, size);
    this.#leastSize = sure ? size : Math.min(this.#leastSize, size);
    if (!sure) return;
    this.#expected.fill(0, size);
    this.#owner.fill(index, size);
  }

  /** How many bytes from `at` on an operation that is not sure may have left. */
  #perhapsFrom(found: Buffer, at: number): number {
    const owner = this.#owner[at] ?? NONE;
    for (const one of this.#perhaps) {
      const { index, operation } = one;
      if (index < owner) continue;
      if (operation.kind === 'truncate') {
        if (at >= operation.size && found[at] === 0) return 1;
        continue;
      }
      const within = at - operation.offset;
      if (within < 0 || within >= operation.length) continue;
      one.bytes ??= this.#contentOf(operation);
      let run = 0;
      while (
        within + run < operation.length &&
        one.bytes[within + run] === found[at + run] &&
        this.#owner[at + run] === owner
      ) {
        run += 1;
      }
      if (run > 0) return run;
    }
    return 0;
  }

  #contentOf({ offset, length, content }: Operation & { kind: 'write' }): Buffer {
    return content === 0 ? Buffer.alloc(length) : cellsOf(this.#tag, content, offset, length);
  }

  #describe(found: Buffer, at: number): string {
    const owner = this.#operations[(this.#owner[at] ?? NONE) - 1];
    const expected =
      owner === undefined ? 'what it was before' : `of ${owner.kind} ${owner.sequence}`;
    return `byte ${at} (page ${Math.floor(at / 4096)}) is not ${expected}, but ${this.#origin(found, at)}`;
  }

  /** Whose bytes these are, as their cell tells. */
  #origin(found: Buffer, at: number): string {
    const cell = Math.floor(at / 16) * 16;
    const bytes = found.subarray(cell, cell + 16);
    if (bytes.every((byte) => byte === 0)) return 'zero';
    if (bytes.length === 16) {
      const sequence = bytes.readUInt32LE(0);
      if (cellsOf(this.#tag, sequence, cell, 16).equals(bytes)) return `of write ${sequence}`;
    }
    return `foreign, or of several writes: ${bytes.toString('hex')}`;
  }
}

/** The sequence number of the last successful fsync: what succeeded before it began is durable. */
function lastSync(journal: readonly Operation[]): number {
  const syncs = journal.filter(({ kind, outcome }) => kind === 'sync' && outcome === 'succeeded');
  return syncs.at(-1)?.sequence ?? 0;
}

/** The first byte from `at` on that is not the same in both, which are of one length. */
function firstDifference(one: Buffer, other: Buffer, at: number): number {
  const stride = 65_536;
  let from = at;
  while (from < one.length) {
    const end = Math.min(from + stride, one.length);
    if (one.compare(other, from, end, from, end) === 0) {
      from = end;
      continue;
    }
    while (one[from] === other[from]) from += 1;
    return from;
  }
  return one.length;
}
