/**
 * The file system as a transport sees it: one method for each thing a kernel asks. No byte layout,
 * no opcode: `fuse/` translates, and a test can call these without a kernel.
 *
 * Rules of the boundary
 *  - Every method settles and none rejects, but for a broken invariant.
 *  - Methods may be in flight in any number and order; the kernel's own ordering is its business.
 *  - A reply that carries an `Entry` counts one lookup of its inode for the caller. A transport that
 *    cannot deliver such a reply (the caller was interrupted) gives it back with `forget`;
 *    likewise an open handle with `release` or `releasedir`.
 */
import type { HandleId, Ino, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Attributes, FsStat, ReadReply } from './ports.ts';

/** Who asks. `pid` is the thread's id as the kernel gives it: 0 for the kernel's own requests. */
export interface Caller {
  readonly credentials: Credentials;
  readonly pid: number;
}

/** The root of the mount. */
export const ROOT_INO = 1 as Ino;

export type Outcome<T> = Promise<Result<T, FsError>>;

export interface Attr {
  readonly ino: Ino;
  readonly attributes: Attributes;
  /** For how long the kernel may believe the attributes, in ms. */
  readonly attributesValidMs: number;
}

export interface Entry extends Attr {
  /** Told from an earlier file under the same `ino`. */
  readonly generation: number;
  /** For how long the kernel may believe that this name is this inode, in ms. */
  readonly entryValidMs: number;
}

/** A name that is known not to exist. */
export interface NegativeEntry {
  readonly ino: 0;
  readonly entryValidMs: number;
}

/** Open flags are Linux's O_* bits as they came from the caller (asm-generic/fcntl.h). */
export interface Opened {
  readonly handle: HandleId;
  /** The kernel keeps the pages it has of this file from before. */
  readonly keepCache: boolean;
  /** The kernel reads a local file by itself: the id that it gave for it (FOPEN_PASSTHROUGH). */
  readonly backingId?: number | undefined;
}

export type { ReadReply };

/**
 * Bytes to write, outside the JavaScript heap. They are the receiver's from the call on, until it
 * calls `release`, exactly once; after that the view is dead.
 */
export interface Payload {
  readonly bytes: Buffer;
  release(): void;
}

export interface SetattrChanges {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  /** ns since 1970, or 'now' (UTIME_NOW). */
  readonly atime?: bigint | 'now' | undefined;
  readonly mtime?: bigint | 'now' | undefined;
}

export interface Dirent {
  readonly name: Buffer;
  readonly ino: number;
  readonly type: Attributes['type'] | undefined;
  /** The position after this entry, to go on from; 1 to 2^63-1. */
  readonly nextOffset: bigint;
  /** With `plus`: the entry, whose lookup is counted when `take` accepted it. */
  readonly entry?: Entry | undefined;
}

export interface FileSystem {
  lookup(caller: Caller, parent: Ino, name: Name): Outcome<Entry | NegativeEntry>;
  forget(ino: Ino, lookups: number): void;

  getattr(caller: Caller, ino: Ino, handle?: HandleId): Outcome<Attr>;
  setattr(caller: Caller, ino: Ino, changes: SetattrChanges, handle?: HandleId): Outcome<Attr>;
  readlink(caller: Caller, ino: Ino): Outcome<Buffer>;
  /** `mask` is R_OK 4, W_OK 2, X_OK 1 (unistd.h); 0 asks for existence. */
  access(caller: Caller, ino: Ino, mask: number): Outcome<void>;

  /** `mode` is a full st_mode: the type bits say what to make. `rdev` in the kernel's encoding. */
  mknod(caller: Caller, parent: Ino, name: Name, mode: number, rdev: number): Outcome<Entry>;
  mkdir(caller: Caller, parent: Ino, name: Name, mode: number): Outcome<Entry>;
  symlink(caller: Caller, parent: Ino, name: Name, target: Buffer): Outcome<Entry>;
  link(caller: Caller, ino: Ino, newParent: Ino, newName: Name): Outcome<Entry>;
  unlink(caller: Caller, parent: Ino, name: Name): Outcome<void>;
  rmdir(caller: Caller, parent: Ino, name: Name): Outcome<void>;
  /** `flags` are renameat2's: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  rename(
    caller: Caller,
    parent: Ino,
    name: Name,
    newParent: Ino,
    newName: Name,
    flags: number,
  ): Outcome<void>;

  create(
    caller: Caller,
    parent: Ino,
    name: Name,
    mode: number,
    flags: number,
  ): Outcome<{ entry: Entry; opened: Opened }>;
  open(caller: Caller, ino: Ino, flags: number): Outcome<Opened>;
  /**
   * Fewer bytes than asked for mean the end of the file, as the last attributes had it. Without a
   * promise where the answer is at hand: it then leaves in the same turn.
   */
  read(
    caller: Caller,
    handle: HandleId,
    offset: number,
    length: number,
  ): Outcome<ReadReply> | Result<ReadReply, FsError>;
  /** Answers the bytes written, at least 1 of a non-empty payload. */
  write(caller: Caller, handle: HandleId, offset: number, payload: Payload): Outcome<number>;
  /** At each close(2) of a descriptor: errors of earlier writes are told here. */
  flush(caller: Caller, handle: HandleId): Outcome<void>;
  fsync(caller: Caller, handle: HandleId, onlyBytes: boolean): Outcome<void>;
  /** At the last close. Never waits for the network. */
  release(handle: HandleId): void;
  /** `whence` is SEEK_DATA 3 or SEEK_HOLE 4. */
  lseek(caller: Caller, handle: HandleId, offset: number, whence: number): Outcome<number>;

  opendir(caller: Caller, ino: Ino): Outcome<HandleId>;
  /**
   * Offers entries from `offset` (0n: the start) to `take` until it returns false or the directory
   * ends. With `plus`, each accepted entry but '.' and '..' counts one lookup.
   */
  readdir(
    caller: Caller,
    handle: HandleId,
    offset: bigint,
    plus: boolean,
    take: (dirent: Dirent) => boolean,
  ): Outcome<void>;
  releasedir(handle: HandleId): void;
  fsyncdir(caller: Caller, handle: HandleId): Outcome<void>;

  statfs(caller: Caller, ino: Ino): Outcome<FsStat>;

  /** Refuses new work, settles what was acknowledged at the server, then resolves. */
  close(): Promise<void>;
}
