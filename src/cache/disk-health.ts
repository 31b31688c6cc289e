/**
 * Can the disk under the cache be used? A full or failing one must not cost a reader more than the
 * detour over the server, and never a wrong byte.
 *
 *               full (ENOSPC, EDQUOT)
 *     healthy -----------------------> full --.
 *      ^ ^ |  <---------------------------'   |
 *      | | |    room was made, or a try fits  | failed (any other errno)
 *      | | | failed                           |
 *      | | '-------> failing <----------------'
 *      | |            |  ^
 *      | |   pause    |  | the try failed: the pause doubles
 *      | |   is over  v  |
 *      | '--------- probing
 *      |  the try worked
 *
 *   |         | store pages | write marks | read pages                  |
 *   | healthy | yes         | yes         | yes                         |
 *   | full    | no          | yes (1)     | yes                         |
 *   | failing | no          | no          | until several reads failed  |
 *   | probing | as failing                                              |
 *
 *   (1) In place: their space is reserved when the map is made.
 *
 * Marks may be cleared in every state: a clearing that fails is the image's to deal with. A try is
 * a real file of a block, written, synced and removed again; only one is ever under way, so a
 * disk that hangs costs one waiting thread. A disk that is healthy only for moments is tried ever
 * more seldom: the pause starts over only after it has been healthy for a while.
 */
import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { constants as os } from 'node:os';
import { join } from 'node:path';
import type { Clock, Timer } from '../base/clock.ts';
import { Errno } from '../errors/errno.ts';
import { BLOCK_BYTES } from './file-io.ts';

export type DiskState = 'healthy' | 'full' | 'failing' | 'probing';
/** What was being done with the disk when it failed. */
export type DiskWork = 'read' | 'write' | 'sync';

export interface DiskReport {
  readonly state: DiskState;
  /** Of the failure that led here; 0 when healthy. */
  readonly errno: number;
  readonly work: DiskWork | undefined;
  /** Reads and writes that failed since the start, the disk being full not among them. */
  readonly failures: number;
}

export interface DiskHealthOptions {
  /** Writes, syncs and removes a file: errno, 0 when all of it worked. See `diskProbe`. */
  readonly probe: () => Promise<number>;
  readonly clock: Clock;
  /** Changes of what is allowed, for the log and those who wait; probing and back is none. */
  readonly changed: (report: DiskReport, was: DiskState) => void;
}

interface Allowance {
  readonly store: boolean;
  readonly mark: boolean;
}

const allowances: Record<DiskState, Allowance> = {
  healthy: { store: true, mark: true },
  full: { store: false, mark: true },
  failing: { store: false, mark: false },
  probing: { store: false, mark: false },
};

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** Healthy for so long: the next failure is a new one. */
const STEADY_MS = 60_000;
/** Reads that may fail before they go to the server without a try. One bad sector is no dead disk. */
const READS_TO_FAIL = 8;

export class DiskHealth {
  readonly #probe: () => Promise<number>;
  readonly #clock: Clock;
  readonly #changed: (report: DiskReport, was: DiskState) => void;
  #state: DiskState = 'healthy';
  #errno = 0;
  #work: DiskWork | undefined;
  #failures = 0;
  #failedReads = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #healthySinceMs: number;
  #timer: Timer | undefined;
  #trying = false;
  #closed = false;

  constructor(options: DiskHealthOptions) {
    this.#probe = options.probe;
    this.#clock = options.clock;
    this.#changed = options.changed;
    this.#healthySinceMs = options.clock.monotonicMs();
  }

  get state(): DiskState {
    return this.#state;
  }

  /** May fetched pages be written to the cache? */
  get mayStore(): boolean {
    return allowances[this.#state].store;
  }

  /** May marks of stored pages be written? */
  get mayMark(): boolean {
    return allowances[this.#state].mark;
  }

  /** Is a read of present pages worth a try? If not, they come from the server. */
  get mayRead(): boolean {
    return this.#failedReads < READS_TO_FAIL;
  }

  report(): DiskReport {
    const { state } = this;
    return { state, errno: this.#errno, work: this.#work, failures: this.#failures };
  }

  /** `work` on a file of the cache failed with `errno` (not 0). */
  failed(errno: number, work: DiskWork): void {
    // Not the disk's: the threads that work on files are ending.
    if (this.#closed || errno === os.errno.ECANCELED) return;
    if (isFull(errno)) {
      if (this.#state === 'healthy') this.#become('full', errno, work);
      return;
    }
    this.#failures++;
    if (work === 'read') this.#failedReads++;
    if (this.#state === 'healthy' || this.#state === 'full') this.#become('failing', errno, work);
  }

  /** Something was removed: a full disk is tried again at once. */
  roomMade(): void {
    if (this.#state === 'full') this.#try();
  }

  /** No try will start any more. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #become(state: 'full' | 'failing', errno: number, work: DiskWork | undefined): void {
    const was = this.#state;
    const now = this.#clock.monotonicMs();
    if (was === 'healthy' && now - this.#healthySinceMs >= STEADY_MS) {
      this.#pauseMs = FIRST_PAUSE_MS;
    }
    this.#state = state;
    this.#errno = errno;
    this.#work = work;
    this.#tryLater();
    this.#changed(this.report(), was);
  }

  #tryLater(): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(this.#pauseMs, () => this.#try());
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }

  #try(): void {
    if (this.#closed || this.#trying) return;
    this.#timer?.cancel();
    this.#trying = true;
    if (this.#state === 'failing') this.#state = 'probing';
    void this.#probe().then((errno) => {
      this.#trying = false;
      if (!this.#closed) this.#tried(errno);
    });
  }

  #tried(errno: number): void {
    if (this.#state === 'probing') this.#state = 'failing';
    // Full instead of failing is progress, failing instead of full is worse: either is news.
    const state = isFull(errno) ? 'full' : 'failing';
    if (errno === 0) {
      this.#recovered();
    } else if (state !== this.#state) {
      this.#become(state, errno, 'write');
    } else {
      this.#errno = errno;
      this.#tryLater();
    }
  }

  #recovered(): void {
    const was = this.#state;
    this.#timer?.cancel();
    this.#state = 'healthy';
    this.#errno = 0;
    this.#work = undefined;
    this.#failedReads = 0;
    this.#healthySinceMs = this.#clock.monotonicMs();
    this.#changed(this.report(), was);
  }
}

export function isFull(errno: number): boolean {
  return errno === Errno.ENOSPC || errno === Errno.EDQUOT;
}

/** The real try, in a directory of the cache. Resolves always. */
export function diskProbe(directory: string): () => Promise<number> {
  const path = join(directory, '.probe');
  const flags = constants.O_CREAT | constants.O_TRUNC | constants.O_WRONLY | constants.O_NOFOLLOW;
  // Not zeros: a file system that compresses or finds holes would not need the space.
  const bytes = Buffer.alloc(BLOCK_BYTES, 'a try of the disk under the cache. ');
  return async () => {
    try {
      const file = await open(path, flags, 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await unlink(path);
      return 0;
    } catch (error) {
      await unlink(path).catch(() => undefined);
      return errnoOf(error);
    }
  };
}

/** The positive errno of what node:fs throws; EIO for anything without one. */
export function errnoOf(error: unknown): number {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
    return Math.abs(error.errno);
  }
  return Errno.EIO;
}
