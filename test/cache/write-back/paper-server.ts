/**
 * One file of a server in a time of its own. UNSTABLE bytes are lost when it restarts, some or all
 * of them; each WRITE takes effect when it is answered, and two of the same page at a time are a
 * mistake of the caller's.
 */
import assert from 'node:assert/strict';
import { type Credentials, credentialsKey } from '../../../src/base/credentials.ts';
import { err, ok, type Result } from '../../../src/base/result.ts';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import { type FsError, nfsError } from '../../../src/errors/fs-error.ts';
import type { NfsErrorName } from '../../../src/errors/nfs-status.ts';
import type { Attributes, ImageSending, Stability, WriteOk } from '../../../src/vfs/ports.ts';
import type { EventClock } from '../memory-clock.ts';

export const owner: Credentials = { uid: 1000, gid: 1000, groups: [] };

export type CallName = 'look' | 'write' | 'commit' | 'finish';

export interface Call {
  readonly name: CallName;
  readonly as: Credentials;
  readonly offset: number;
  readonly length: number;
}

/** What becomes of a call; without it the call works. */
export interface Fate {
  readonly error?: NfsErrorName | 'RPC_TIMEOUT' | undefined;
  /** A WRITE takes only so many bytes. */
  readonly shortBytes?: number | undefined;
  readonly committed?: Stability | undefined;
}

export class PaperServer implements ImageSending {
  readonly writeMax: number;
  readonly calls: Call[] = [];
  /** To be set by the test. */
  fate: (call: Call) => Fate = () => ({});
  delayMs: (call: Call) => number = () => 1;
  /** Whether a page's unstable bytes survive a restart. */
  survives: (page: number) => boolean = () => false;
  otherCallers: readonly Credentials[] = [];
  verifier = 1n;
  mtimeNs = 1n;
  /** A program has stopped the server: calls wait. */
  #down: Promise<void> | undefined;
  #up = () => {};
  readonly #clock: EventClock;
  readonly #writing = new Set<number>();
  #stable = Buffer.alloc(0);
  #unstable = new Map<number, Buffer>();
  #size = 0;
  #stableSize = 0;

  constructor(clock: EventClock, writeMax = 1024 * 1024) {
    this.#clock = clock;
    this.writeMax = writeMax;
  }

  others(): readonly Credentials[] {
    return this.otherCallers;
  }

  get inFlightWrites(): number {
    return this.#writing.size;
  }

  /** What a power loss would leave. */
  durable(): Buffer {
    const bytes = Buffer.alloc(this.#stableSize);
    this.#stable.copy(bytes);
    return bytes;
  }

  durablePage(page: number): Buffer {
    const bytes = Buffer.alloc(PAGE_BYTES);
    this.#stable.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES).copy(bytes);
    return bytes;
  }

  countOf(name: CallName): number {
    return this.calls.filter((call) => call.name === name).length;
  }

  restart(): void {
    this.verifier++;
    const kept = [...this.#unstable].filter(([page]) => this.survives(page));
    this.#unstable = new Map();
    for (const [page, bytes] of kept) this.#store(page, bytes);
    this.#size = this.#stableSize;
  }

  setDown(isDown: boolean): void {
    this.#up();
    this.#down = isDown
      ? new Promise((resolve) => {
          this.#up = resolve;
        })
      : undefined;
  }

  look(as: Credentials): Promise<Result<Attributes, FsError>> {
    return this.#answer({ name: 'look', as, offset: 0, length: 0 }, () => this.attributes());
  }

  async write(as: Credentials, offset: number, bytes: Buffer): Promise<Result<WriteOk, FsError>> {
    const call: Call = { name: 'write', as, offset, length: bytes.length };
    assert.ok(bytes.length > 0 && bytes.length <= this.writeMax, 'the length of a WRITE');
    const copy = Buffer.from(bytes);
    const first = Math.floor(offset / PAGE_BYTES);
    const end = Math.ceil((offset + bytes.length) / PAGE_BYTES);
    for (let page = first; page < end; page++) {
      assert.ok(!this.#writing.has(page), 'two WRITEs of one page at a time');
      this.#writing.add(page);
    }
    const answer = await this.#answer(call, ({ shortBytes, committed = 'unstable' }) => {
      const count = Math.min(bytes.length, shortBytes ?? bytes.length);
      this.#write(offset, copy.subarray(0, count));
      if (committed !== 'unstable') this.#commit();
      this.mtimeNs = this.#clock.wallNs();
      return { wcc: {}, count, committed, verifier: this.verifier };
    });
    for (let page = first; page < end; page++) this.#writing.delete(page);
    return answer;
  }

  commit(as: Credentials): Promise<Result<{ readonly verifier: bigint }, FsError>> {
    return this.#answer({ name: 'commit', as, offset: 0, length: 0 }, () => {
      this.#commit();
      return { verifier: this.verifier };
    });
  }

  finish(
    as: Credentials,
    local: { readonly size: number; readonly mtimeNs: bigint },
  ): Promise<Result<Attributes, FsError>> {
    return this.#answer({ name: 'finish', as, offset: 0, length: local.size }, () => {
      this.#size = Math.max(this.#size, local.size);
      this.#stableSize = Math.max(this.#stableSize, local.size);
      this.mtimeNs = local.mtimeNs;
      return this.attributes();
    });
  }

  attributes(): Attributes {
    return {
      type: 'regular',
      mode: 0o644,
      nlink: 1,
      uid: 1000,
      gid: 1000,
      size: this.#size,
      used: this.#size,
      rdev: { major: 0, minor: 0 },
      fsid: 1n,
      fileid: 2n,
      atimeNs: 0n,
      mtimeNs: this.mtimeNs,
      ctimeNs: this.mtimeNs,
    };
  }

  async #answer<T>(call: Call, work: (fate: Fate) => T): Promise<Result<T, FsError>> {
    this.calls.push(call);
    const fate = this.fate(call);
    await new Promise<void>((resolve) => {
      this.#clock.after(this.delayMs(call) / 2, resolve);
    });
    while (this.#down !== undefined) await this.#down;
    const answer = fate.error === undefined ? ok(work(fate)) : err(failureOf(fate.error, call));
    await new Promise<void>((resolve) => {
      this.#clock.after(this.delayMs(call) / 2, resolve);
    });
    return answer;
  }

  #write(offset: number, bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      const page = Math.floor((offset + done) / PAGE_BYTES);
      const at = offset + done - page * PAGE_BYTES;
      const length = Math.min(bytes.length - done, PAGE_BYTES - at);
      const now = Buffer.from(this.#unstable.get(page) ?? this.durablePage(page));
      bytes.copy(now, at, done, done + length);
      this.#unstable.set(page, now);
      done += length;
    }
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  #commit(): void {
    for (const [page, bytes] of this.#unstable) this.#store(page, bytes);
    this.#unstable.clear();
    this.#stableSize = this.#size;
  }

  #store(page: number, bytes: Buffer): void {
    const end = (page + 1) * PAGE_BYTES;
    if (this.#stable.length < end) {
      const longer = Buffer.alloc(Math.max(end, 2 * this.#stable.length));
      this.#stable.copy(longer);
      this.#stable = longer;
    }
    bytes.copy(this.#stable, page * PAGE_BYTES);
    this.#stableSize = Math.max(this.#stableSize, Math.min(end, this.#size));
  }
}

export function refusing(allowed: readonly Credentials[]): (call: Call) => Fate {
  const keys = new Set(allowed.map(credentialsKey));
  return ({ as, name }) =>
    name === 'look' || keys.has(credentialsKey(as)) ? {} : { error: 'NFS3ERR_ACCES' };
}

function failureOf(error: NfsErrorName | 'RPC_TIMEOUT', { name }: Call): FsError {
  if (error !== 'RPC_TIMEOUT') return nfsError(error, name);
  return { errno: 'EIO', code: 'RPC_TIMEOUT', operation: name, message: `${name}: no answer` };
}
