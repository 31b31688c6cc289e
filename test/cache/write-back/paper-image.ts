/**
 * An image in memory that holds the engine to the contract of `DirtyImage`.
 */
import assert from 'node:assert/strict';
import type { Credentials } from '../../../src/base/credentials.ts';
import { err, ok, type Result } from '../../../src/base/result.ts';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import type { DirtyImage, SendingRun } from '../../../src/cache/write-back/dirty-image.ts';
import { type FsError, localError } from '../../../src/errors/fs-error.ts';
import type { Attributes } from '../../../src/vfs/ports.ts';
import type { EventClock } from '../memory-clock.ts';
import { owner, type PaperServer } from './paper-server.ts';

type PageState = 'clean' | 'dirty' | 'sending' | 'rewritten';

export class PaperImage implements DirtyImage {
  readonly fileId: string;
  readonly path: string;
  readonly sending: PaperServer;
  as: Credentials = owner;
  inConflict = false;
  /** What `beginSending` finds. */
  conflicts = false;
  isResting = true;
  readonly failures: FsError[] = [];
  /** Runs whose bytes cannot be read. */
  unreadable: (run: SendingRun) => boolean = () => false;
  /** false: no runs, though pages are dirty. */
  gives = true;
  /** The engine said that it touches the image no more. */
  isGone = false;
  ends = 0;
  unknownEnds = 0;
  #isSending = false;
  readonly #taken = new Set<SendingRun>();
  readonly #clock: EventClock;
  #content = Buffer.alloc(0);
  readonly #pages: PageState[] = [];
  #dirtyPages = 0;
  #mtimeNs = 1n;
  #localAsked = { size: 0, mtimeNs: 0n };
  #size = 0;
  #sinceMs: number | undefined;
  #hasUnsentAttributes = false;

  constructor(clock: EventClock, server: PaperServer, name = 'disk.img') {
    this.#clock = clock;
    this.sending = server;
    this.fileId = name;
    this.path = name;
  }

  get dirtyBytes(): number {
    return this.#dirtyPages * PAGE_BYTES;
  }

  get dirtySinceMs(): number | undefined {
    return this.#sinceMs;
  }

  get hasUnsentAttributes(): boolean {
    return this.#hasUnsentAttributes;
  }

  get takenRuns(): number {
    return this.#taken.size;
  }

  get size(): number {
    return this.#size;
  }

  get mtimeNs(): bigint {
    return this.#mtimeNs;
  }

  content(): Buffer {
    return Buffer.from(this.#content.subarray(0, this.#size));
  }

  isClean(page: number): boolean {
    return (this.#pages[page] ?? 'clean') === 'clean';
  }

  // ---- What programs do ---------------------------------------------------------------------------

  write(offset: number, bytes: Buffer): void {
    const end = offset + bytes.length;
    this.grow(end);
    bytes.copy(this.#content, offset);
    for (let page = Math.floor(offset / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      const was = this.#pages[page] ?? 'clean';
      if (was === 'clean') this.#dirtyPages++;
      this.#pages[page] = was === 'sending' || was === 'rewritten' ? 'rewritten' : 'dirty';
    }
  }

  /** By a write of zeros, say: nothing but the size is unsent. */
  grow(size: number): void {
    if (this.#content.length < size) {
      const longer = Buffer.alloc(Math.max(size, 2 * this.#content.length));
      this.#content.copy(longer);
      this.#content = longer;
    }
    this.#size = Math.max(this.#size, size);
    this.#mtimeNs = this.#clock.wallNs() + 1n;
    this.#hasUnsentAttributes = true;
    this.#sinceMs ??= this.#clock.monotonicMs();
  }

  // ---- DirtyImage ---------------------------------------------------------------------------------

  async beginSending(_found: Attributes): Promise<Result<'may send' | 'conflict', FsError>> {
    this.#touched();
    assert.ok(!this.#isSending, 'beginSending twice');
    await this.#moment();
    if (this.conflicts) {
      this.inConflict = true;
      return ok('conflict');
    }
    this.#isSending = true;
    this.isResting = false;
    return ok('may send');
  }

  take(from: number, maxRunBytes: number, maxRuns: number): SendingRun[] {
    this.#touched();
    assert.ok(this.#isSending, 'take without beginSending');
    const maxPages = Math.floor(maxRunBytes / PAGE_BYTES);
    assert.ok(maxPages > 0, 'a run of less than a page');
    const runs: SendingRun[] = [];
    if (!this.gives) return runs;
    for (let page = from; page < this.#pages.length && runs.length < maxRuns; ) {
      if (this.#pages[page] !== 'dirty') {
        page++;
        continue;
      }
      let end = page;
      while (end - page < maxPages && this.#pages[end] === 'dirty') this.#pages[end++] = 'sending';
      const offset = page * PAGE_BYTES;
      const length = Math.min(end * PAGE_BYTES, this.#size) - offset;
      const run = { range: { start: page, end }, offset, length };
      this.#taken.add(run);
      runs.push(run);
      page = end;
    }
    return runs;
  }

  async read(run: SendingRun): Promise<Result<Buffer, FsError>> {
    this.#touched();
    assert.ok(this.#taken.has(run), 'read of a run that is not taken');
    await this.#moment();
    if (this.unreadable(run)) return err(localError('EIO', 'read'));
    return ok(Buffer.from(this.#content.subarray(run.offset, run.offset + run.length)));
  }

  putBack(run: SendingRun): void {
    this.#touched();
    assert.ok(this.#taken.delete(run), 'putBack of a run that is not taken');
    for (let page = run.range.start; page < run.range.end; page++) this.#pages[page] = 'dirty';
  }

  async settle(runs: readonly SendingRun[]): Promise<void> {
    this.#touched();
    for (const run of runs) {
      assert.ok(this.#taken.has(run), 'settle of a run that is not taken');
      this.#assertDurable(run);
    }
    await this.#moment();
    for (const run of runs) {
      this.#taken.delete(run);
      for (let page = run.range.start; page < run.range.end; page++) {
        const isRewritten = this.#pages[page] === 'rewritten';
        this.#pages[page] = isRewritten ? 'dirty' : 'clean';
        if (!isRewritten) this.#dirtyPages--;
      }
    }
  }

  async endSending(attributes: Attributes | undefined): Promise<Result<void, FsError>> {
    this.#touched();
    assert.ok(this.#isSending, 'endSending without beginSending');
    assert.equal(this.#taken.size, 0, 'endSending with runs taken');
    await this.#moment();
    this.#isSending = false;
    this.ends++;
    if (attributes === undefined) this.unknownEnds++;
    else {
      this.isResting = true;
      const { size, mtimeNs } = this.#localAsked;
      const isFinished = attributes.mtimeNs === mtimeNs && attributes.size === size;
      const isSame = mtimeNs === this.#mtimeNs && size === this.#size;
      if (isFinished && isSame && this.#dirtyPages === 0) {
        this.#hasUnsentAttributes = false;
        this.#sinceMs = undefined;
      }
    }
    return ok(undefined);
  }

  local(): { readonly size: number; readonly mtimeNs: bigint } {
    this.#touched();
    this.#localAsked = { size: this.#size, mtimeNs: this.#mtimeNs };
    return this.#localAsked;
  }

  failed(error: FsError): void {
    this.#touched();
    this.failures.push(error);
  }

  /** C5 */
  #assertDurable({ range }: SendingRun): void {
    const { sending } = this;
    for (let page = range.start; page < range.end; page++) {
      if (this.#pages[page] !== 'sending') continue;
      const bytes = this.#content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      const end = Math.min(bytes.length, this.#size - page * PAGE_BYTES);
      const found = sending.durablePage(page).subarray(0, end);
      assert.ok(found.equals(bytes.subarray(0, end)), `page ${page} is not durable`);
    }
  }

  #touched(): void {
    assert.ok(!this.isGone, 'the image is touched after it is gone');
  }

  /** The disk's. */
  #moment(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(0.05, resolve);
    });
  }
}
