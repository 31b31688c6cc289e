/**
 * What of the files only this host has, as the daemon sees it: the file system keeps it, the
 * middleware's words are about it.
 */
import type { FileHandle, Ino } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Unsent } from '../vfs/ports.ts';

/** A file of which the server does not have everything. */
export interface UnsentFile {
  readonly ino: Ino;
  readonly file: FileHandle;
  /** From the export's root, without a slash in front; a hint. */
  readonly path: string;
  readonly unsent: Unsent;
  /** Why it could not be sent the last time; undefined when it could, or was not tried yet. */
  readonly failure: FsError | undefined;
  /** An earlier daemon left it behind. */
  readonly recovered: boolean;
}

export interface UnsentFiles {
  unsent(): readonly UnsentFile[];
  /**
   * What was acknowledged before the call, of the file or of all, is durable at the server when it
   * resolves: writes that went through are committed, too. Of all: the first error, when all others
   * were tried all the same.
   */
  settleUnsent(ino?: Ino): Promise<Result<void, FsError>>;
  /** Drops what is unsent of the file, durably. */
  discardUnsent(ino: Ino): Promise<Result<void, FsError>>;
  /**
   * Ends a conflict: ours is to be sent ('mine'), or is dropped ('theirs'). Nothing is decided any
   * more once `signal` is aborted.
   */
  resolve(
    as: Credentials,
    ino: Ino,
    which: 'mine' | 'theirs',
    signal: AbortSignal,
  ): Promise<Result<void, FsError>>;
  /** Refused: whoever opens or makes a file is told that the mount is busy. */
  setOpens(now: 'allowed' | 'refused'): void;
  /**
   * Nothing that is known, of the file or of all, is believed without asking the server, in any
   * session; and the kernel is told to forget what it has.
   */
  doubt(ino?: Ino): void;
}
