/**
 * The MOUNT protocol, version 3 (RFC 1813, section 5): from an export's name to its root's handle.
 */
import type { FileHandle } from '../base/brand.ts';
import { NFS3_FHSIZE } from './nfs3/types.ts';
import type { Procedure, Reply } from './rpc/procedure.ts';
import { XdrError, type XdrReader } from './xdr/reader.ts';

export const MOUNT_PROGRAM = 100_005;
export const MOUNT_VERSION = 3;

/** RFC 1813, section 5.1.1. */
export const MNTPATHLEN = 1024;
const MNTNAMLEN = 255;
/** Lists of exports and of clients: more than this is not read. */
const MAX_LIST_BYTES = 1024 * 1024;
/** Flavors in an answer to MNT that are looked at. */
const MAX_FLAVORS = 64;

/** mountstat3 (RFC 1813, section 5.1.5). */
export const MountStatus = {
  MNT3_OK: 0,
  MNT3ERR_PERM: 1,
  MNT3ERR_NOENT: 2,
  MNT3ERR_IO: 5,
  MNT3ERR_ACCES: 13,
  MNT3ERR_NOTDIR: 20,
  MNT3ERR_INVAL: 22,
  MNT3ERR_NAMETOOLONG: 63,
  MNT3ERR_NOTSUPP: 10004,
  MNT3ERR_SERVERFAULT: 10006,
} as const;
export type MountStatusName = keyof typeof MountStatus;
export type MountErrorName = Exclude<MountStatusName, 'MNT3_OK'>;

export type MntReply =
  | {
      readonly status: 'MNT3_OK';
      readonly root: FileHandle;
      /** auth_flavor numbers (RFC 5531, section 8.2); may be empty. */
      readonly flavors: readonly number[];
    }
  | { readonly status: MountErrorName };

/** One of the server's exports (section 5.2.5, exportnode). */
export interface ExportNode {
  readonly directory: string;
  /** Who may mount it, in the server's words; empty: everybody. */
  readonly groups: readonly string[];
}

/** One mount as the server remembers it (section 5.2.2, mountbody). Hints, never the truth. */
export interface MountBody {
  readonly hostname: string;
  readonly directory: string;
}

interface Listing<T> extends Reply {
  readonly status: 'OK';
  readonly entries: readonly T[];
}

type Nothing = { readonly status: 'OK' };

const common = { program: MOUNT_PROGRAM, version: MOUNT_VERSION } as const;

/** MOUNTPROC3_NULL */
export const mountNull: Procedure<undefined, Nothing> = {
  ...common,
  number: 0,
  name: 'MOUNT NULL',
  storage: 'borrowed',
  encode() {},
  decode: nothing,
  replyMaxBytes: () => 0,
};

/** MOUNTPROC3_MNT (section 5.2.1). The argument is the path's bytes, at most MNTPATHLEN. */
export const mnt: Procedure<Buffer, MntReply> = {
  ...common,
  number: 1,
  name: 'MNT',
  storage: 'borrowed',
  encode(writer, path) {
    writer.opaque(path, MNTPATHLEN);
  },
  decode(reader) {
    const number = reader.uint32();
    const status = statusNames.get(number);
    if (status === undefined) throw new XdrError(`mountstat3 ${number}`);
    if (status !== 'MNT3_OK') return { status };
    const handle = reader.opaque(NFS3_FHSIZE);
    if (handle.length === 0) throw new XdrError('an empty file handle');
    const root = Buffer.from(handle) as FileHandle;
    const count = reader.uint32();
    if (count > MAX_FLAVORS) throw new XdrError(`${count} auth flavors`);
    const flavors = Array.from({ length: count }, () => reader.uint32());
    return { status, root, flavors };
  },
  replyMaxBytes: () => 4 + 4 + NFS3_FHSIZE + 4 + 4 * MAX_FLAVORS,
};

/** MOUNTPROC3_DUMP (section 5.2.2) */
export const dump: Procedure<undefined, Listing<MountBody>> = {
  ...common,
  number: 2,
  name: 'DUMP',
  storage: 'owned',
  encode() {},
  decode: (reader) =>
    listing(reader, () => ({
      hostname: text(reader, MNTNAMLEN),
      directory: text(reader, MNTPATHLEN),
    })),
  replyMaxBytes: () => MAX_LIST_BYTES,
};

/** MOUNTPROC3_UMNT (section 5.2.3) */
export const umnt: Procedure<Buffer, Nothing> = {
  ...common,
  number: 3,
  name: 'UMNT',
  storage: 'borrowed',
  encode(writer, path) {
    writer.opaque(path, MNTPATHLEN);
  },
  decode: nothing,
  replyMaxBytes: () => 0,
};

/** MOUNTPROC3_UMNTALL (section 5.2.4) */
export const umntAll: Procedure<undefined, Nothing> = {
  ...common,
  number: 4,
  name: 'UMNTALL',
  storage: 'borrowed',
  encode() {},
  decode: nothing,
  replyMaxBytes: () => 0,
};

/** MOUNTPROC3_EXPORT (section 5.2.5) */
export const exportList: Procedure<undefined, Listing<ExportNode>> = {
  ...common,
  number: 5,
  name: 'EXPORT',
  storage: 'owned',
  encode() {},
  decode: (reader) =>
    listing(reader, () => {
      const directory = text(reader, MNTPATHLEN);
      const groups: string[] = [];
      while (reader.bool()) groups.push(text(reader, MNTNAMLEN));
      return { directory, groups };
    }),
  replyMaxBytes: () => MAX_LIST_BYTES,
};

function nothing(): Nothing {
  return { status: 'OK' };
}

/** A chain of optional entries: TRUE before each, FALSE at the end. */
function listing<T>(reader: XdrReader, entry: () => T): Listing<T> {
  const entries: T[] = [];
  while (reader.bool()) entries.push(entry());
  return { status: 'OK', entries };
}

function text(reader: XdrReader, maxBytes: number): string {
  return reader.opaque(maxBytes).toString();
}

const statusNames = new Map<number, MountStatusName>(
  Object.entries(MountStatus).map(([name, number]) => [number, name as MountStatusName]),
);
