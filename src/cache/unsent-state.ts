/**
 * What of an image only this host has, besides its dirty pages: its size and mtime, who wrote, since
 * when, and whether another's change forbids to send it.
 *
 *   nothing unsent --noteWrite, setModified--> noted on the disk --forget--> nothing unsent
 *
 * C3   The note is on the disk before the first write is acknowledged: what a killed daemon leaves
 *      is known to be unsent. It is durable with `writeDown('durable')`.
 * C10  The size is that of the map, the mtime that of the last write or what a program set.
 */
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import type { ImageDirectory } from './image-directory.ts';
import type { UnsentNote } from './info-file.ts';

const NS_PER_MS = 1_000_000n;

export class UnsentState {
  readonly #directory: ImageDirectory;
  readonly #clock: Clock;
  #note: UnsentNote | undefined;
  /** Of the note itself a newer mtime is no change: the disk's is taken from `data` then. */
  #mtimeNs = 0n;
  #as: Credentials | undefined;
  #sinceMonotonicMs = 0;
  /** The disk has a note as good as this one, or will have. */
  #written: Promise<number> | undefined;
  #isWritten = false;

  constructor(directory: ImageDirectory, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
    const { unsent } = directory;
    if (unsent === undefined) return;
    this.#note = unsent;
    this.#mtimeNs = unsent.mtimeNs;
    this.#as = unsent.as;
    const ageMs = Math.max(this.#wallMs() - unsent.sinceMs, 0);
    this.#sinceMonotonicMs = clock.monotonicMs() - ageMs;
    this.#isWritten = !unsent.mtimeIsExact;
  }

  get isAny(): boolean {
    return this.#note !== undefined;
  }

  get inConflict(): boolean {
    return this.#note?.conflict === true;
  }

  get mtimeNs(): bigint {
    return this.#mtimeNs;
  }

  get as(): Credentials | undefined {
    return this.#as;
  }

  /** Of the oldest unsent write; undefined: nothing is unsent. Monotonic, and the wall clock's. */
  get sinceMonotonicMs(): number | undefined {
    return this.#note === undefined ? undefined : this.#sinceMonotonicMs;
  }

  get sinceMs(): number {
    return this.#note?.sinceMs ?? 0;
  }

  /**
   * A program writes: to be awaited before bytes of it are kept. undefined: the disk knows already.
   * Answers errno; nothing may be kept then.
   */
  noteWrite(as: Credentials): Promise<number> | undefined {
    this.#mtimeNs = this.#clock.wallNs();
    this.#as = as;
    if (this.#isWritten) return undefined;
    if (this.#note === undefined || this.#note.mtimeIsExact) {
      this.#begin(as, this.#mtimeNs, false);
      this.#written = undefined;
    }
    this.#written ??= this.#write('light').then((errno) => {
      this.#isWritten = errno === 0 && this.#note?.mtimeIsExact === false;
      this.#written = undefined;
      return errno;
    });
    return this.#written;
  }

  /** A program has set it. Errno. */
  setModified(mtimeNs: bigint, as: Credentials): Promise<number> {
    this.#mtimeNs = mtimeNs;
    this.#begin(this.#as ?? as, mtimeNs, true);
    this.#isWritten = false;
    return this.#write('light');
  }

  /** Durably. Errno: it is so in memory only. */
  setConflict(conflict: boolean): Promise<number> {
    if (this.#note === undefined) return Promise.resolve(0);
    this.#note = { ...this.#note, conflict };
    return this.#write('durable');
  }

  /** The note as it is now goes to the disk; 'light': with the next sync. Errno. */
  writeDown(how: 'light' | 'durable'): Promise<number> {
    return this.#note === undefined ? Promise.resolve(0) : this.#write(how);
  }

  /** The same, durably, when no program writes any more. */
  close(): Promise<number> {
    if (this.#note === undefined) return Promise.resolve(0);
    this.#note = { ...this.#note, mtimeIsExact: true };
    return this.#write('durable');
  }

  /** Nothing was ever kept of what was noted, or all of it was sent: in memory. */
  forget(): void {
    this.#note = undefined;
    this.#as = undefined;
    this.#isWritten = false;
    this.#written = undefined;
  }

  /** All that was unsent before `monotonicMs` was sent. */
  isSince(monotonicMs: number): void {
    this.#sinceMonotonicMs = Math.max(this.#sinceMonotonicMs, monotonicMs);
  }

  #begin(as: Credentials, mtimeNs: bigint, mtimeIsExact: boolean): void {
    if (this.#note === undefined) {
      this.#sinceMonotonicMs = this.#clock.monotonicMs();
      const size = this.#directory.map.sizeBytes;
      const sinceMs = this.#wallMs();
      this.#note = { size, mtimeNs, mtimeIsExact, sinceMs, as, conflict: false };
    } else {
      this.#note = { ...this.#note, mtimeNs, mtimeIsExact };
    }
  }

  #write(how: 'light' | 'durable'): Promise<number> {
    const note = this.#note;
    if (note === undefined) return Promise.resolve(0);
    const { sizeBytes } = this.#directory.map;
    const as = this.#as ?? note.as;
    const sinceMs = this.#wallMs() - (this.#clock.monotonicMs() - this.#sinceMonotonicMs);
    this.#note = { ...note, size: sizeBytes, mtimeNs: this.#mtimeNs, as, sinceMs };
    return this.#directory.noteUnsent(this.#note, how);
  }

  #wallMs(): number {
    return Number(this.#clock.wallNs() / NS_PER_MS);
  }
}
