/**
 * What the file-system layer needs from below, in its own words: a server (the NFSv3 client has
 * this shape structurally: it knows nothing of this file), and a cache of images on the local disk
 * (`cache/` implements it). The daemon joins them.
 *
 * Every call resolves, and none rejects: an expected failure is an `Err`. How long a call may wait
 * is the implementation's policy (hard or soft), not the caller's.
 */
import type { FileHandle, HandleId, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';

export type FileType =
  | 'regular'
  | 'directory'
  | 'block'
  | 'character'
  | 'symlink'
  | 'socket'
  | 'fifo';

/** fattr3 (RFC 1813, section 2.6). Sizes in bytes, checked to 2^53-1; times in ns since 1970. */
export interface Attributes {
  readonly type: FileType;
  /** Permission bits only, 0 to 0o7777. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Bytes of disk in use at the server. */
  readonly used: number;
  readonly rdev: { readonly major: number; readonly minor: number };
  readonly fsid: bigint;
  readonly fileid: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** wcc_attr (RFC 1813, section 2.6): what the file was just before the call. */
export interface WccAttributes {
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** wcc_data: either half may be missing, as the server likes. */
export interface WccData {
  readonly before?: WccAttributes | undefined;
  readonly after?: Attributes | undefined;
}

/** A failure of the server still tells what the file or directory looks like now. */
export interface ServerError extends FsError {
  /** Of the object (or of the directory, for calls that change one). */
  readonly attributes?: Attributes | undefined;
  readonly wcc?: WccData | undefined;
  /**
   * The call was sent more than once, so that the server may have done it the first time:
   * a REMOVE answered NOENT, or a MKDIR answered EXIST, can be a success.
   */
  readonly retransmitted?: boolean | undefined;
}

export type Answer<T> = Promise<Result<T, ServerError>>;

/** sattr3: what is absent stays as it is. `'server'` is the server's own clock. */
export interface SetAttributes {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly atime?: bigint | 'server' | undefined;
  readonly mtime?: bigint | 'server' | undefined;
}

/** How durable a WRITE is when it is answered (RFC 1813, section 3.3.7, stable_how). */
export type Stability = 'unstable' | 'dataSync' | 'fileSync';

/** ACCESS bits (RFC 1813, section 3.3.4). */
export const Access = {
  READ: 0x01,
  LOOKUP: 0x02,
  MODIFY: 0x04,
  EXTEND: 0x08,
  DELETE: 0x10,
  EXECUTE: 0x20,
} as const;

/** A new object: the server may leave out either part, and then it has to be looked up. */
export interface Created {
  readonly file?: FileHandle | undefined;
  readonly attributes?: Attributes | undefined;
  readonly directory: WccData;
}

export interface ReadOk {
  readonly attributes?: Attributes | undefined;
  readonly eof: boolean;
  /** A view of the bytes as they came; valid until `release`. At most what was asked for. */
  readonly bytes: Buffer;
  /** Gives the memory back. To be called exactly once, when no one looks at `bytes` any more. */
  release(): void;
}

export interface WriteOk {
  readonly wcc: WccData;
  /** Bytes written: at least 1, at most what was sent; the rest is the caller's to send again. */
  readonly count: number;
  readonly committed: Stability;
  /** 8 bytes that change when the server restarts and may have lost unstable data. */
  readonly verifier: bigint;
}

export interface DirectoryEntry {
  readonly fileid: bigint;
  readonly name: Buffer;
  readonly cookie: bigint;
  /** With READDIRPLUS, as far as the server gave them. */
  readonly attributes?: Attributes | undefined;
  readonly file?: FileHandle | undefined;
}

export interface ReaddirOk {
  readonly attributes?: Attributes | undefined;
  readonly verifier: bigint;
  readonly entries: readonly DirectoryEntry[];
  readonly eof: boolean;
}

/** FSSTAT (RFC 1813, section 3.3.18), in bytes and file slots. */
export interface FsStat {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly availableBytes: number;
  readonly totalFiles: number;
  readonly freeFiles: number;
  readonly availableFiles: number;
}

export interface ServerLimits {
  /** Bytes in one READ, in one WRITE: the smallest of rsize/wsize, FSINFO's maximum and 1 MiB. */
  readonly readMax: number;
  readonly writeMax: number;
  readonly maxFileSize: number;
  /** The server's clock resolution. */
  readonly timeDeltaNs: bigint;
}

/** A mounted export, seen as NFSv3 procedures. Credentials are the caller's, call by call. */
export interface ImageServer {
  readonly root: FileHandle;
  readonly limits: ServerLimits;

  getattr(as: Credentials, file: FileHandle): Answer<Attributes>;
  /** `guardCtimeNs`: refuse (NOT_SYNC) unless the file's ctime is this. */
  setattr(
    as: Credentials,
    file: FileHandle,
    changes: SetAttributes,
    guardCtimeNs?: bigint,
  ): Answer<WccData>;
  lookup(
    as: Credentials,
    directory: FileHandle,
    name: Name,
  ): Answer<{
    file: FileHandle;
    attributes?: Attributes | undefined;
    directory?: Attributes | undefined;
  }>;
  /** `wanted` and the answer are `Access` bits. */
  access(
    as: Credentials,
    file: FileHandle,
    wanted: number,
  ): Answer<{ granted: number; attributes?: Attributes | undefined }>;
  readlink(
    as: Credentials,
    file: FileHandle,
  ): Answer<{ target: Buffer; attributes?: Attributes | undefined }>;
  read(as: Credentials, file: FileHandle, offset: number, count: number): Answer<ReadOk>;
  /** `bytes` must not change until the answer is there. */
  write(
    as: Credentials,
    file: FileHandle,
    offset: number,
    bytes: Buffer,
    stability: Stability,
  ): Answer<WriteOk>;
  /** How: 'unchecked' opens what exists, 'guarded' refuses it, a verifier is EXCLUSIVE. */
  create(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    how: { kind: 'unchecked' | 'guarded'; attributes: SetAttributes } | { kind: 'exclusive' },
  ): Answer<Created>;
  mkdir(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    attributes: SetAttributes,
  ): Answer<Created>;
  symlink(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    target: Buffer,
    attributes: SetAttributes,
  ): Answer<Created>;
  mknod(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    node:
      | { type: 'fifo' | 'socket'; attributes: SetAttributes }
      | { type: 'block' | 'character'; attributes: SetAttributes; major: number; minor: number },
  ): Answer<Created>;
  remove(as: Credentials, directory: FileHandle, name: Name): Answer<WccData>;
  rmdir(as: Credentials, directory: FileHandle, name: Name): Answer<WccData>;
  rename(
    as: Credentials,
    from: { directory: FileHandle; name: Name },
    to: { directory: FileHandle; name: Name },
  ): Answer<{ from: WccData; to: WccData }>;
  link(
    as: Credentials,
    file: FileHandle,
    to: { directory: FileHandle; name: Name },
  ): Answer<{ attributes?: Attributes | undefined; directory: WccData }>;
  /** `cookie` 0n and `verifier` 0n start a listing. `countBytes` bounds the whole answer. */
  readdir(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk>;
  /** As readdir, with attributes and handles; NOTSUPP where the server has no READDIRPLUS. */
  readdirplus(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk>;
  fsstat(as: Credentials, file: FileHandle): Answer<FsStat>;
  commit(
    as: Credentials,
    file: FileHandle,
    offset: number,
    count: number,
  ): Answer<{ wcc: WccData; verifier: bigint }>;
}

// ---- The cache ----------------------------------------------------------------------------------

/** What the kernel may be told to send: bytes, a hole, or a range of a local file. */
export type ReadReply =
  | { readonly kind: 'bytes'; readonly bytes: readonly Buffer[]; release(): void }
  | { readonly kind: 'zeros'; readonly length: number }
  | {
      readonly kind: 'file';
      readonly fd: number;
      readonly offset: number;
      readonly length: number;
      /** To be called exactly once, when nothing reads the range any more. */
      release(): void;
      /**
       * The file could not be read (errno of it): what to answer instead. To be called before
       * `release`; nothing was sent to the kernel yet.
       */
      instead(errno: number): Promise<Result<ReadReply, FsError>>;
    };

/** Which content a file of the server has: equal stamps are of one content. */
export type ContentStamp = WccAttributes;

export interface Fetched {
  /** Fewer bytes than asked for only where the file ends. */
  readonly bytes: Buffer;
  /** Gives the memory back; exactly once. */
  release(): void;
}

/** The server's file behind an image, as the file system knows it. */
export interface ImageSource {
  /**
   * [offset, offset + length) as the file has it now, our own uncommitted writes included.
   * Any length: it is cut into READs of the server's size, all in flight.
   */
  fetch(as: Credentials, offset: number, length: number): Promise<Result<Fetched, FsError>>;
  /**
   * What the file is known to be, all of our own changes included; undefined while one of them is
   * under way or its outcome is not known.
   */
  attributes(): Attributes | undefined;
  /** Its path from the export's root, for people: a hint, which a rename elsewhere makes old. */
  path(): string;
  /** How unsent writes reach the server; without it the image takes none. */
  readonly sending?: ImageSending | undefined;
}

/**
 * How an image's unsent writes reach the server. All changes are made so that they count as ours:
 * none of them moves the file's `othersVersion` by itself.
 */
export interface ImageSending {
  /** Bytes of one WRITE, at most. */
  readonly writeMax: number;
  /** In whose name this caller's unsent writes are to be sent when its own is refused. */
  others(): readonly Credentials[];
  /** What the file is at the server now, asked of it (GETATTR). */
  look(as: Credentials): Promise<Result<Attributes, FsError>>;
  /** One UNSTABLE WRITE. `bytes` must not change until the answer is there. */
  write(as: Credentials, offset: number, bytes: Buffer): Promise<Result<WriteOk, FsError>>;
  /** COMMIT of the whole file; its write verifier. */
  commit(as: Credentials): Promise<Result<{ readonly verifier: bigint }, FsError>>;
  /**
   * Nothing is left to send: makes the file `size` bytes long if it is shorter, and sets its
   * mtime (SETATTR). The attributes after it.
   */
  finish(
    as: Credentials,
    local: { readonly size: number; readonly mtimeNs: bigint },
  ): Promise<Result<Attributes, FsError>>;
  /** `unsent` of the image has come, gone or changed its state, or `failure` has changed. */
  unsentChanged?(): void;
}

export interface ImageCache {
  /**
   * The image of a file: taken up from the disk if what is kept there is of `content`, else new
   * and empty. Resolves always: where the disk fails, the image keeps nothing and reads go to the
   * server. Opening it again answers the same image until it is closed as often.
   */
  open(file: FileHandle, content: Attributes, source: ImageSource): Promise<CachedImage>;
  /**
   * Whether anything is kept of the file, now or on the disk; without it the answer is taken for
   * yes. Asked where opening an image would only make an empty one.
   */
  isKept?(file: FileHandle): Promise<boolean>;
  /** What the file system wants to know again at the next mount. */
  readonly knowledge: KnowledgeStore;
  /**
   * The files with unsent writes that an earlier daemon left behind, as the disk knew them when the
   * cache was opened. The file system opens their images, so that they are sent.
   */
  readonly recovered?: readonly RecoveredFile[];
  /**
   * Durably drops what an earlier daemon left unsent of a file, whose image is not open: its owner's
   * word. Err: it is still there.
   */
  discardLeft?(file: FileHandle): Promise<Result<void, FsError>>;
}

export interface RecoveredFile {
  readonly file: FileHandle;
  readonly fsid: bigint;
  readonly fileid: bigint;
  /** From the export's root: a hint. */
  readonly path: string;
  /** Who wrote last. */
  readonly as: Credentials;
  readonly unsent: Unsent;
}

/** What of a file only this host has. */
export interface Unsent {
  /** Of dirty pages, those being sent included; 0 where only size or times are unsent. */
  readonly bytes: number;
  /** The file's size and mtime as our programs have to see them. */
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly state: 'dirty' | 'sending' | 'conflict';
  /** When the oldest of them was written; ms since 1970. */
  readonly sinceMs: number;
}

/**
 * Writes that are acknowledged when the local disk has them, and sent later.
 *
 * The file system orders changes of the same bytes one after the other, and knows who may write.
 */
export interface LocalWrites {
  /** undefined: the server has all of it. */
  readonly unsent: Unsent | undefined;
  /** The last time that it could not be sent, and why; `serial` grows with each. */
  readonly failure: { readonly serial: number; readonly error: FsError } | undefined;
  /**
   * Takes the bytes, at most 1 MiB, of a file that our programs see `fileSize` bytes long. 'kept':
   * they survive a kill of the daemon, and `unsent` tells of them. 'through': the cache cannot take
   * them (no room, a failing disk, a conflict of its own making): nothing of the range is unsent any
   * more, and they are to be sent as without this interface. `bytes` must not change until then.
   */
  write(
    as: Credentials,
    offset: number,
    bytes: Buffer,
    fileSize: number,
  ): Promise<Result<'kept' | 'through', FsError>>;
  /** The mtime that the server is to have once everything is sent. */
  setModified(mtimeNs: bigint): Promise<void>;
  /** What was acknowledged before the call survives a power loss when it resolves (fdatasync). */
  sync(): Promise<Result<void, FsError>>;
  /** What was acknowledged before the call is durable at the server when it resolves. */
  writeBack(): Promise<Result<void, FsError>>;
  /** Durably drops what is unsent: its file is gone, or its owner said so. */
  discard(): Promise<void>;
  /** A conflict is decided: what is unsent is to be sent over what the server has. */
  keepOurs?(): Promise<void>;
}

/**
 * One image of the cache: pages of 4 KiB, each absent or present.
 *
 * The file system says what the file's size is, orders local changes of the same bytes one after
 * the other, and tells of others' changes. The image never returns bytes that are not of the
 * present content.
 */
export interface CachedImage {
  /**
   * Bytes of [offset, offset + length), a range within `fileSize`: from the cache, else fetched in
   * the name of `as`, and kept. `reader` tells the streams of different open files apart.
   */
  read(
    as: Credentials,
    reader: HandleId,
    offset: number,
    length: number,
    fileSize: number,
  ): Result<ReadReply, FsError> | Promise<Result<ReadReply, FsError>>;
  /** The reader has closed: what was to be read ahead for it is not. */
  readerGone(reader: HandleId): void;

  /**
   * To be awaited before bytes of [offset, offset + length) are sent to the server. Until the
   * answered change is ended these pages are not served from the cache, nor fills of them kept.
   */
  beginWrite(offset: number, length: number): Promise<PendingChange>;
  /** The same for a change of the size to `size`. */
  beginResize(size: number): Promise<PendingChange>;
  /** Another has changed the file: nothing that is kept is of its present content. */
  replace(content: Attributes): Promise<void>;
  /** Makes what is kept durable together with the stamp that it is of. */
  settle(): Promise<void>;

  /**
   * The complete, verified local file, for the kernel to read by itself, or why not (one short
   * clause for `gvfs status`). A held file is not changed by anything until it is released.
   */
  hold(): { readonly fd: number; release(): void } | { readonly why: string };

  /** Ends one `open`. One with unsent writes stays as it is, and is sent all the same. */
  close(): void;

  /** undefined: all writes go through. */
  readonly local?: LocalWrites | undefined;
}

export interface PendingChange {
  /** The server has it: `bytes` is what the pages hold now (of a write), else undefined. */
  done(bytes?: Buffer): Promise<void>;
  /** It failed, or nobody knows how it ended. */
  failed(): Promise<void>;
}

/** One blob that outlives the session; whole or not at all. */
export interface KnowledgeStore {
  /** undefined when there is none, or a damaged one. */
  load(): Promise<Buffer | undefined>;
  /** Durable when it resolves; a failure is the cache's to report. */
  save(bytes: Buffer): Promise<void>;
  /** Durably gone when it resolves. */
  forget(): Promise<void>;
}

/** The kernel's own way to a local file (FUSE passthrough). */
export interface Backing {
  /** An id for OPEN's answer; undefined when the kernel refuses (no privilege, file system). */
  open(fd: number): number | undefined;
  /** Only when the last file opened with the id is released. */
  close(id: number): void;
}
