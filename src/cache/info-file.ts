/**
 * `info`, format 2: whose pages an image's directory holds, and of which content, as one line of
 * JSON that ends with its own CRC-32. People may read it; nobody has to write it.
 *
 * C2: a file that is not byte for byte as it was written, or of another version, is not believed.
 */
import { crc32 } from 'node:zlib';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { ContentStamp } from '../vfs/ports.ts';

export const INFO_VERSION = 2;
/** Longer is no info of ours: a path has at most 4096 bytes, in JSON at most six times as much. */
export const INFO_MOST_BYTES = 65536;

/**
 * 'writing': WRITEs of programs, 'sending': WRITEs of dirty pages may be at the server. In both the
 * server's file and the clean pages may differ if the daemon ends now.
 */
export type ImageState = 'settled' | 'writing' | 'sending';

/** What of the file only this host has, besides the dirty pages. */
export interface UnsentNote {
  /** As our programs see the file. What is taken up has the size that the maps tell. */
  readonly size: number;
  readonly mtimeNs: bigint;
  /**
   * `mtimeNs` is right even if the daemon ends now: a program has set it, or nothing is written
   * any more. Else the time of the last change of `data` is taken where it is later.
   */
  readonly mtimeIsExact: boolean;
  /** When the oldest unsent write was made; ms since 1970. */
  readonly sinceMs: number;
  /** In whose name it is to be sent. */
  readonly as: Credentials;
  /** The server's file was changed by another: nothing may be sent (C6). */
  readonly conflict: boolean;
}

export interface ImageInfo {
  /** The NFS file handle, in hex. */
  readonly handle: string;
  /** `host:port:/export`, as mounted. */
  readonly export: string;
  readonly fsid: bigint;
  readonly fileid: bigint;
  /** From the export's root, for people: a hint that a rename elsewhere makes old. */
  readonly path: string;
  readonly state: ImageState;
  /** Which content the clean pages are of; of the last settled one while it is not 'settled'. */
  readonly stamp: ContentStamp;
  /** Undefined: the server has all of it. */
  readonly unsent?: UnsentNote | undefined;
  /** The wall clock, ms since 1970. */
  readonly lastUsedMs: number;
  readonly pinned: boolean;
  /** When info was written. */
  readonly allocatedBytes: number;
  /** When info was written. */
  readonly presentPages: number;
}

export function encodeInfo(info: ImageInfo): Buffer {
  const text = JSON.stringify({
    version: INFO_VERSION,
    handle: info.handle,
    export: info.export,
    fsid: info.fsid.toString(),
    fileid: info.fileid.toString(),
    path: info.path,
    state: info.state,
    stamp: {
      size: info.stamp.size,
      mtimeNs: info.stamp.mtimeNs.toString(),
      ctimeNs: info.stamp.ctimeNs.toString(),
    },
    ...(info.unsent === undefined ? {} : { unsent: writtenUnsent(info.unsent) }),
    lastUsedMs: info.lastUsedMs,
    pinned: info.pinned,
    allocatedBytes: info.allocatedBytes,
    presentPages: info.presentPages,
  });
  const checked = text.slice(0, -1);
  return Buffer.from(`${checked}${CHECK}${sumOf(checked)}"}\n`);
}

/** The info, or a clause that says why it is none to believe. */
export function decodeInfo(bytes: Buffer): Result<ImageInfo, string> {
  const text = bytes.toString();
  const end = text.lastIndexOf(CHECK);
  const fields = end < 0 ? undefined : parsed(text);
  if (fields === undefined) return err('is damaged');
  if (fields.version !== INFO_VERSION) return err(`is of version ${String(fields.version)}`);
  const checked = text.slice(0, end);
  if (text !== `${checked}${CHECK}${sumOf(checked)}"}\n`) return err('is damaged');
  try {
    return ok(infoOf(fields));
  } catch {
    // A sum that is right over fields that are not: made by someone else.
    return err('is damaged');
  }
}

export function sameStamp(a: ContentStamp, b: ContentStamp): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

const CHECK = ',"check":"';

interface WrittenUnsent {
  readonly size: number;
  readonly mtimeNs: string;
  readonly mtimeIsExact: boolean;
  readonly sinceMs: number;
  readonly as: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };
  readonly conflict: boolean;
}

interface WrittenInfo {
  readonly version: number;
  readonly handle: string;
  readonly export: string;
  readonly fsid: string;
  readonly fileid: string;
  readonly path: string;
  readonly state: ImageState;
  readonly stamp: { readonly size: number; readonly mtimeNs: string; readonly ctimeNs: string };
  readonly unsent?: WrittenUnsent;
  readonly lastUsedMs: number;
  readonly pinned: boolean;
  readonly allocatedBytes: number;
  readonly presentPages: number;
}

function parsed(text: string): WrittenInfo | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as WrittenInfo) : undefined;
  } catch {
    return undefined;
  }
}

function infoOf(fields: WrittenInfo): ImageInfo {
  const { stamp, unsent } = fields;
  return {
    handle: fields.handle,
    export: fields.export,
    fsid: BigInt(fields.fsid),
    fileid: BigInt(fields.fileid),
    path: fields.path,
    state: fields.state,
    stamp: {
      size: stamp.size,
      mtimeNs: BigInt(stamp.mtimeNs),
      ctimeNs: BigInt(stamp.ctimeNs),
    },
    ...(unsent === undefined ? {} : { unsent: { ...unsent, mtimeNs: BigInt(unsent.mtimeNs) } }),
    lastUsedMs: fields.lastUsedMs,
    pinned: fields.pinned,
    allocatedBytes: fields.allocatedBytes,
    presentPages: fields.presentPages,
  };
}

function writtenUnsent(note: UnsentNote): WrittenUnsent {
  const { size, mtimeNs, mtimeIsExact, sinceMs, as, conflict } = note;
  const { uid, gid, groups } = as;
  return {
    size,
    mtimeNs: mtimeNs.toString(),
    mtimeIsExact,
    sinceMs,
    as: { uid, gid, groups },
    conflict,
  };
}

function sumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}
