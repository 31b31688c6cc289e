/**
 * What NFSv3 calls and replies carry (RFC 1813), decoded. Sizes and offsets are numbers up to
 * 2^53-1, times are nanoseconds since 1970, ids, cookies and verifiers are bigint.
 */
import type { FileHandle, Name } from '../../base/brand.ts';
import type { NfsErrorName } from '../../errors/nfs-status.ts';

/** The longest file handle (section 2.4). */
export const NFS3_FHSIZE = 64;
/** The longest name that we send or take. NFSv3 has no bound; Linux has this one. */
export const MAX_NAME_BYTES = 255;
/** The longest symbolic link, likewise. */
export const MAX_PATH_BYTES = 4096;

/** ftype3 (section 2.6), in words. */
export type Ftype3 =
  | 'regular'
  | 'directory'
  | 'block'
  | 'character'
  | 'symlink'
  | 'socket'
  | 'fifo';

/** Section 2.6. */
export interface Fattr3 {
  readonly type: Ftype3;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Bytes of disk in use. */
  readonly used: number;
  readonly rdev: { readonly major: number; readonly minor: number };
  readonly fsid: bigint;
  readonly fileid: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** Section 2.6: what the object was just before the call. */
export interface WccAttr {
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** Section 2.6: either half may be missing, as the server likes. */
export interface WccData {
  readonly before?: WccAttr | undefined;
  readonly after?: Fattr3 | undefined;
}

/** Section 2.6: what is absent stays as it is; `'server'` is SET_TO_SERVER_TIME. */
export interface Sattr3 {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly atime?: bigint | 'server' | undefined;
  readonly mtime?: bigint | 'server' | undefined;
}

/** Section 2.6: a name in a directory. */
export interface Diropargs3 {
  readonly directory: FileHandle;
  readonly name: Name;
}

/** stable_how (section 3.3.7). */
export type StableHow = 'unstable' | 'dataSync' | 'fileSync';

/** createhow3 (section 3.3.8). */
export type Createhow3 =
  | { readonly kind: 'unchecked' | 'guarded'; readonly attributes: Sattr3 }
  | { readonly kind: 'exclusive'; readonly verifier: bigint };

/** mknoddata3 (section 3.3.11). */
export type Mknoddata3 =
  | { readonly type: 'fifo' | 'socket'; readonly attributes: Sattr3 }
  | {
      readonly type: 'block' | 'character';
      readonly attributes: Sattr3;
      readonly major: number;
      readonly minor: number;
    };

/** What failing replies (resfail) tell beside the status: attributes, or the change, or both. */
export interface Resfail3 {
  readonly attributes?: Fattr3 | undefined;
  readonly wcc?: WccData | undefined;
}

/** Every NFSv3 reply: a status, and behind it what belongs to it. */
export type Reply3<Ok> =
  | { readonly status: 'NFS3_OK'; readonly ok: Ok }
  | { readonly status: NfsErrorName; readonly fail: Resfail3 };

/** Sections 3.3.3, 3.3.4, 3.3.5. */
export interface LookupOk3 {
  readonly file: FileHandle;
  readonly attributes?: Fattr3 | undefined;
  readonly directory?: Fattr3 | undefined;
}

export interface AccessOk3 {
  /** The bits of the question that are granted. */
  readonly granted: number;
  readonly attributes?: Fattr3 | undefined;
}

export interface ReadlinkOk3 {
  readonly target: Buffer;
  readonly attributes?: Fattr3 | undefined;
}

/** Section 3.3.6. */
export interface ReadOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly eof: boolean;
  /** A view of the reply, valid until `release`; at least a byte, unless at the end. */
  readonly bytes: Buffer;
  /** Gives the memory back; to be called exactly once. */
  release(): void;
}

/** Section 3.3.7. */
export interface WriteOk3 {
  readonly wcc: WccData;
  /** Bytes written, at least 1, unless 0 were sent. */
  readonly count: number;
  readonly committed: StableHow;
  readonly verifier: bigint;
}

/** Sections 3.3.8 to 3.3.11: what was made, as far as the server tells. */
export interface CreateOk3 {
  readonly file?: FileHandle | undefined;
  readonly attributes?: Fattr3 | undefined;
  readonly directory: WccData;
}

/** Section 3.3.14. */
export interface RenameOk3 {
  readonly from: WccData;
  readonly to: WccData;
}

/** Section 3.3.15. */
export interface LinkOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly directory: WccData;
}

/** entry3 and entryplus3 (sections 3.3.16 and 3.3.17). '.' and '..' are among them. */
export interface Entry3 {
  readonly fileid: bigint;
  readonly name: Buffer;
  readonly cookie: bigint;
  readonly attributes?: Fattr3 | undefined;
  readonly file?: FileHandle | undefined;
}

export interface ReaddirOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly verifier: bigint;
  readonly entries: readonly Entry3[];
  readonly eof: boolean;
}

/** Section 3.3.18, in bytes and file slots. */
export interface FsstatOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly availableBytes: number;
  readonly totalFiles: number;
  readonly freeFiles: number;
  readonly availableFiles: number;
  /** Seconds for which the figures are expected to hold. */
  readonly invarSeconds: number;
}

/** Section 3.3.19. */
export interface FsinfoOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly rtmax: number;
  readonly rtpref: number;
  readonly rtmult: number;
  readonly wtmax: number;
  readonly wtpref: number;
  readonly wtmult: number;
  readonly dtpref: number;
  readonly maxFileSize: number;
  readonly timeDeltaNs: bigint;
  /** FSF3_LINK 1, FSF3_SYMLINK 2, FSF3_HOMOGENEOUS 8, FSF3_CANSETTIME 16. */
  readonly properties: number;
}

/** Section 3.3.20. */
export interface PathconfOk3 {
  readonly attributes?: Fattr3 | undefined;
  readonly linkmax: number;
  readonly nameMax: number;
  readonly noTrunc: boolean;
  readonly chownRestricted: boolean;
  readonly caseInsensitive: boolean;
  readonly casePreserving: boolean;
}

/** Section 3.3.21. */
export interface CommitOk3 {
  readonly wcc: WccData;
  readonly verifier: bigint;
}
