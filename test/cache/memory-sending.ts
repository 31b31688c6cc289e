/**
 * How unsent writes reach a server's file in memory: answers wait for the test, come late or never,
 * and a server that restarts has lost what was not committed.
 */
import type { Credentials } from '../../src/base/credentials.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';
import type { Attributes, ImageSending, WriteOk } from '../../src/vfs/ports.ts';
import type { MemorySource } from './memory-source.ts';

export interface WriteSeen {
  readonly offset: number;
  readonly bytes: Buffer;
}

export class MemorySending implements ImageSending {
  readonly writeMax: number;
  /** What a restart leaves. */
  committed: Buffer;
  verifier = 1n;
  /** WRITEs that fail, done or not. */
  failures = 0;
  /** Does a WRITE that fails reach the file all the same? */
  failsLate = false;
  /** WRITEs reach the file when they are sent, or when they are answered. */
  appliedAt: 'sent' | 'answered' = 'answered';
  readonly writes: WriteSeen[] = [];
  /** Calls of `unsentChanged`. */
  told = 0;
  readonly #source: MemorySource;

  constructor(source: MemorySource, writeMax = 16384) {
    this.#source = source;
    this.writeMax = writeMax;
    this.committed = Buffer.from(source.bytes);
  }

  others(): readonly Credentials[] {
    return [];
  }

  unsentChanged(): void {
    this.told++;
  }

  async look(): Promise<Result<Attributes, FsError>> {
    await this.#gate('GETATTR');
    return ok(this.#source.attributesNow());
  }

  async write(_as: Credentials, offset: number, bytes: Buffer): Promise<Result<WriteOk, FsError>> {
    const sent = Buffer.from(bytes);
    this.writes.push({ offset, bytes: sent });
    const fails = this.failures > 0;
    if (fails) this.failures--;
    const isDone = !fails || this.failsLate;
    const { appliedAt } = this;
    if (isDone && appliedAt === 'sent') this.#apply(offset, sent);
    await this.#gate(`WRITE ${offset}+${bytes.length}`);
    if (isDone && appliedAt === 'answered') this.#apply(offset, sent);
    if (fails) return err(localError('EIO', 'write'));
    const { verifier } = this;
    return ok({ wcc: {}, count: sent.length, committed: 'unstable', verifier });
  }

  async commit(): Promise<Result<{ verifier: bigint }, FsError>> {
    await this.#gate('COMMIT');
    this.committed = Buffer.from(this.#source.bytes);
    return ok({ verifier: this.verifier });
  }

  async finish(
    _as: Credentials,
    local: { readonly size: number; readonly mtimeNs: bigint },
  ): Promise<Result<Attributes, FsError>> {
    await this.#gate('finish');
    const source = this.#source;
    if (source.bytes.length < local.size) this.resize(local.size);
    source.version++;
    source.mtimeNs = local.mtimeNs;
    return ok(source.attributesNow());
  }

  /** SETATTR(size): durable at once. */
  resize(size: number): void {
    for (const which of ['bytes', 'committed'] as const) {
      const other = Buffer.alloc(size);
      (which === 'bytes' ? this.#source.bytes : this.committed).copy(other);
      if (which === 'bytes') this.#source.bytes = other;
      else this.committed = other;
    }
    this.#changed();
  }

  /** A WRITE of a program that goes through, FILE_SYNC. */
  through(offset: number, bytes: Buffer): void {
    this.#apply(offset, bytes);
    this.committed = withBytes(this.committed, offset, bytes);
  }

  /** The server has lost what was not committed. */
  restart(): void {
    this.verifier++;
    if (this.#source.bytes.equals(this.committed)) return;
    this.#source.bytes = Buffer.from(this.committed);
    this.#changed();
  }

  #apply(offset: number, bytes: Buffer): void {
    this.#source.bytes = withBytes(this.#source.bytes, offset, bytes);
    this.#changed();
  }

  #changed(): void {
    this.#source.version++;
    this.#source.mtimeNs = undefined;
  }

  async #gate(what: string): Promise<void> {
    const { gates } = this.#source;
    if (gates === undefined) return;
    await new Promise<void>((resolve) => {
      gates.push({ what, open: resolve });
    });
  }
}

/** The file with bytes in it, longer where they are. */
export function withBytes(file: Buffer, offset: number, bytes: Buffer): Buffer {
  const other = Buffer.alloc(Math.max(file.length, offset + bytes.length));
  file.copy(other);
  bytes.copy(other, offset);
  return other;
}
