/**
 * `FileIo` on the addon's threads: tickets, and the memory that goes with them.
 *
 * What is stored in one file goes in one at a time, and the addon sees to that: Linux locks the
 * file for each write, and threads that wait for that lock burn a core each.
 *
 * A Buffer that a thread uses is held by its ticket, so it is not collected before its time. When
 * the disk hangs at the end, it is held for as long as the process lives.
 */
import { constants } from 'node:os';
import { assert } from '../base/assert.ts';
import { ok, type Result } from '../base/result.ts';
import { BLOCK_BYTES, type FileIo, type Overwritten, PAGE_BYTES, type Stored } from './file-io.ts';
import {
  type BindingFiles,
  type FilesBinding,
  loadFilesBinding,
  type Outcomes,
} from './files-binding.ts';

const THREADS = 3;
const OUTCOME_NUMBERS = 4;
const { ECANCELED } = constants.errno;

interface Outcome {
  readonly errno: number;
  readonly first: number;
  readonly second: number;
}

interface Ticket {
  readonly resolve: (outcome: Outcome) => void;
  /** Memory that a thread uses. */
  readonly held: readonly ArrayBufferView[];
}

const CANCELLED: Outcome = { errno: ECANCELED, first: 0, second: 0 };

/** What threads still use that hang in the kernel; nobody takes it out. */
const leftBehind: Ticket[] = [];

export class NativeFileIo implements FileIo {
  readonly #files: BindingFiles;
  readonly #tickets = new Map<number, Ticket>();
  #nextTicket = 1;
  #closing: Promise<void> | undefined;

  /** Starts the threads; or a sentence that says why there is no addon and what to do. */
  static open(): Result<NativeFileIo, string> {
    const binding = loadFilesBinding();
    return binding.ok ? ok(new NativeFileIo(binding.value)) : binding;
  }

  private constructor(binding: FilesBinding) {
    this.#files = new binding.Files(THREADS, (outcomes) => this.#complete(outcomes));
  }

  async store(
    fd: number,
    offset: number,
    bytes: Buffer,
    holes: 'trusted' | 'punch',
  ): Promise<Stored> {
    assertOffset(offset);
    assert(offset % PAGE_BYTES === 0, 'files: a store that begins within a page');
    const sums = new Uint32Array(blocksOf(offset, bytes.length));
    const { errno } = await this.#ask([bytes, sums], (ticket) =>
      this.#files.store(fd, offset, bytes, holes === 'punch', sums, ticket),
    );
    return { errno, sums };
  }

  async overwrite(
    fd: number,
    offset: number,
    bytes: Buffer,
    compare: Uint16Array,
  ): Promise<Overwritten> {
    assertOffset(offset);
    const count = blocksOf(offset, bytes.length);
    assert(compare.length === count, 'files: a mask for each block');
    const blocks = new Uint32Array(2 * count);
    for (let i = 0; i < count; i += 1) blocks[2 * i] = compare[i] ?? 0;
    const { errno } = await this.#ask([bytes, blocks], (ticket) =>
      this.#files.overwrite(fd, offset, bytes, blocks, ticket),
    );
    const changed = new Uint16Array(count);
    const zeros = new Uint16Array(count);
    const oldSums = new Uint32Array(count);
    for (let i = 0; i < count; i += 1) {
      const pages = blocks[2 * i] ?? 0;
      changed[i] = pages & 0xffff;
      zeros[i] = pages >>> 16;
      oldSums[i] = blocks[2 * i + 1] ?? 0;
    }
    return { errno, changed, zeros, oldSums };
  }

  async write(fd: number, offset: number, bytes: Buffer): Promise<number> {
    assertOffset(offset);
    const { errno } = await this.#ask([bytes], (ticket) =>
      this.#files.write(fd, offset, bytes, ticket),
    );
    return errno;
  }

  async read(fd: number, offset: number, into: Buffer): Promise<{ errno: number; got: number }> {
    assertOffset(offset);
    const { errno, first } = await this.#ask([into], (ticket) =>
      this.#files.read(fd, offset, into, ticket),
    );
    return { errno, got: first };
  }

  async sums(fd: number, firstBlock: number, masks: Uint16Array): Promise<Stored> {
    assertOffset((firstBlock + masks.length) * BLOCK_BYTES);
    const sums = new Uint32Array(masks.length);
    const { errno } = await this.#ask([sums], (ticket) =>
      this.#files.sums(fd, firstBlock, masks, sums, ticket),
    );
    return { errno, sums };
  }

  async punch(fd: number, offset: number, length: number): Promise<number> {
    assertOffset(offset);
    assertOffset(offset + length);
    const { errno } = await this.#ask([], (ticket) =>
      this.#files.punch(fd, offset, length, ticket),
    );
    return errno;
  }

  async truncate(fd: number, sizeBytes: number): Promise<number> {
    assertOffset(sizeBytes);
    const { errno } = await this.#ask([], (ticket) => this.#files.truncate(fd, sizeBytes, ticket));
    return errno;
  }

  async sync(fd: number): Promise<number> {
    const { errno } = await this.#ask([], (ticket) => this.#files.sync(fd, ticket));
    return errno;
  }

  async size(fd: number): Promise<{ errno: number; allocatedBytes: number; sizeBytes: number }> {
    const { errno, first, second } = await this.#ask([], (ticket) => this.#files.size(fd, ticket));
    return { errno, allocatedBytes: first, sizeBytes: second };
  }

  lock(fd: number): number {
    return this.#closing === undefined ? this.#files.lock(fd) : ECANCELED;
  }

  close(): Promise<void> {
    this.#closing ??= this.#stop();
    return this.#closing;
  }

  #ask(held: readonly ArrayBufferView[], begin: (ticket: number) => void): Promise<Outcome> {
    if (this.#closing !== undefined) return Promise.resolve(CANCELLED);
    return new Promise((resolve) => {
      const ticket = this.#nextTicket++;
      this.#tickets.set(ticket, { resolve, held });
      begin(ticket);
    });
  }

  #complete(outcomes: Outcomes): void {
    for (let i = 0; i < outcomes.length; i += OUTCOME_NUMBERS) {
      const [number = 0, errno = 0, first = 0, second = 0] = outcomes.slice(i, i + OUTCOME_NUMBERS);
      const ticket = this.#tickets.get(number);
      assert(ticket !== undefined, 'files: a ticket that completes twice');
      this.#tickets.delete(number);
      ticket.resolve({ errno, first, second });
    }
  }

  async #stop(): Promise<void> {
    const [clean, outcomes] = await this.#files.stop();
    this.#complete(outcomes);
    for (const ticket of this.#tickets.values()) {
      if (!clean) leftBehind.push(ticket);
      ticket.resolve(CANCELLED);
    }
    this.#tickets.clear();
  }
}

/** Whole and below 2^53; what the kernel thinks of it is an errno. */
function assertOffset(bytes: number): void {
  assert(Number.isSafeInteger(bytes) && bytes >= 0, 'files: not an offset');
}

/** How many blocks a range touches. */
function blocksOf(offset: number, length: number): number {
  if (length === 0) return 0;
  return Math.floor((offset + length - 1) / BLOCK_BYTES) - Math.floor(offset / BLOCK_BYTES) + 1;
}
