/**
 * The 22 procedures of NFSv3 (RFC 1813, section 3.3): one entry each holds everything about it.
 *
 * What follows the last field of a reply is ignored, as every NFS client does.
 */
import type { FileHandle } from '../../base/brand.ts';
import { type NfsErrorName, NfsStatus, type NfsStatusName } from '../../errors/nfs-status.ts';
import type { Lease } from '../rpc/buffer-pool.ts';
import type { Procedure } from '../rpc/procedure.ts';
import { XdrError, type XdrReader } from '../xdr/reader.ts';
import type { XdrWriter } from '../xdr/writer.ts';
import {
  decodeFattr,
  decodeFh,
  decodeName,
  decodePostOpAttr,
  decodePostOpFh,
  decodeStableHow,
  decodeTime,
  decodeWccData,
  encodeDirop,
  encodeFh,
  encodeFtype,
  encodeSattr,
  encodeStableHow,
  encodeTime,
  FATTR_BYTES,
  FH_BYTES,
  POST_OP_ATTR_BYTES,
  WCC_DATA_BYTES,
} from './codec.ts';
import {
  type AccessOk3,
  type CommitOk3,
  type Createhow3,
  type CreateOk3,
  type Diropargs3,
  type Entry3,
  type Fattr3,
  type FsinfoOk3,
  type FsstatOk3,
  type LinkOk3,
  type LookupOk3,
  MAX_PATH_BYTES,
  type Mknoddata3,
  type PathconfOk3,
  type ReaddirOk3,
  type ReadlinkOk3,
  type ReadOk3,
  type RenameOk3,
  type Reply3,
  type Resfail3,
  type Sattr3,
  type StableHow,
  type WccData,
  type WriteOk3,
} from './types.ts';

export const NFS_PROGRAM = 100_003;
export const NFS_VERSION = 3;

export interface Procedure3<Args, Ok> extends Procedure<Args, Reply3<Ok>> {
  /** Doing it twice is as good as once: a failure the second time is no trace of the first. */
  readonly isIdempotent: boolean;
}

/** What the table says of a procedure; `procedure3` makes the rest of it. */
interface Entry<Args, Ok> {
  readonly number: number;
  readonly isIdempotent: boolean;
  readonly storage?: 'owned' | 'pooled';
  /** The largest resok or resfail, without the status. */
  readonly replyMaxBytes: number | ((args: Args) => number);
  encode(writer: XdrWriter, args: Args): void;
  payload?(args: Args): Buffer;
  ok(reader: XdrReader, args: Args, lease: Lease | undefined): Ok;
  fail(reader: XdrReader): Resfail3;
  /** Bytes of the file that were moved. */
  contentBytes?(ok: Ok): number;
}

const MAX_LISTING_BYTES = 1024 * 1024;
/** READDIR's servers do not all count alike; this much more than was asked for is taken. */
const LISTING_MARGIN_BYTES = 16 * 1024;

const UNCHECKED = 0;
const GUARDED = 1;
const EXCLUSIVE = 2;

// ---- Files and names ----------------------------------------------------------------------------

/** Section 3.3.0. It has no status on the wire. */
export const nullProcedure: Procedure<undefined, { status: 'NFS3_OK' }> = {
  program: NFS_PROGRAM,
  version: NFS_VERSION,
  number: 0,
  name: 'NULL',
  storage: 'borrowed',
  encode() {},
  decode: () => ({ status: 'NFS3_OK' }),
  replyMaxBytes: () => 0,
};

/** Section 3.3.1 */
export const getattr = procedure3<{ file: FileHandle }, Fattr3>('GETATTR', {
  number: 1,
  isIdempotent: true,
  encode: encodeFile,
  ok: decodeFattr,
  fail: () => ({}),
  replyMaxBytes: FATTR_BYTES,
});

/** Section 3.3.2. `guardCtimeNs` is the guard: the ctime that the file must have. */
export const setattr = procedure3<
  { file: FileHandle; changes: Sattr3; guardCtimeNs: bigint | undefined },
  WccData
>('SETATTR', {
  number: 2,
  // Guarded, the second time finds the ctime that the first time made.
  isIdempotent: false,
  encode(writer, { file, changes, guardCtimeNs }) {
    encodeFh(writer, file);
    encodeSattr(writer, changes);
    writer.bool(guardCtimeNs !== undefined);
    if (guardCtimeNs !== undefined) encodeTime(writer, guardCtimeNs);
  },
  ok: decodeWccData,
  fail: failWithWcc,
  replyMaxBytes: WCC_DATA_BYTES,
});

/** Section 3.3.3 */
export const lookup = procedure3<Diropargs3, LookupOk3>('LOOKUP', {
  number: 3,
  isIdempotent: true,
  encode: encodeDirop,
  ok: (reader) => ({
    file: decodeFh(reader),
    attributes: decodePostOpAttr(reader),
    directory: decodePostOpAttr(reader),
  }),
  fail: failWithAttributes,
  replyMaxBytes: FH_BYTES + 2 * POST_OP_ATTR_BYTES,
});

/** Section 3.3.4 */
export const access = procedure3<{ file: FileHandle; wanted: number }, AccessOk3>('ACCESS', {
  number: 4,
  isIdempotent: true,
  encode(writer, { file, wanted }) {
    encodeFh(writer, file);
    writer.uint32(wanted);
  },
  ok(reader, { wanted }) {
    const attributes = decodePostOpAttr(reader);
    return { attributes, granted: (reader.uint32() & wanted) >>> 0 };
  },
  fail: failWithAttributes,
  replyMaxBytes: POST_OP_ATTR_BYTES + 4,
});

/** Section 3.3.5 */
export const readlink = procedure3<{ file: FileHandle }, ReadlinkOk3>('READLINK', {
  number: 5,
  isIdempotent: true,
  encode: encodeFile,
  ok(reader) {
    const attributes = decodePostOpAttr(reader);
    return { attributes, target: Buffer.from(reader.opaque(MAX_PATH_BYTES)) };
  },
  fail: failWithAttributes,
  replyMaxBytes: POST_OP_ATTR_BYTES + 4 + MAX_PATH_BYTES,
});

// ---- Data ---------------------------------------------------------------------------------------

/** Section 3.3.6 */
export const read = procedure3<{ file: FileHandle; offset: number; count: number }, ReadOk3>(
  'READ',
  {
    number: 6,
    isIdempotent: true,
    storage: 'pooled',
    encode(writer, { file, offset, count }) {
      encodeFh(writer, file);
      writer.uint53(offset);
      writer.uint32(count);
    },
    ok(reader, { count: asked }, lease) {
      const attributes = decodePostOpAttr(reader);
      const count = reader.uint32();
      const eof = reader.bool();
      const bytes = reader.opaque(asked);
      if (bytes.length !== count) throw new XdrError(`${bytes.length} bytes said to be ${count}`);
      if (count === 0 && asked > 0 && !eof) throw new XdrError('no bytes, yet not the end');
      return { attributes, eof, bytes, release: lease?.release ?? nothingToRelease };
    },
    fail: failWithAttributes,
    contentBytes: ({ bytes }) => bytes.length,
    replyMaxBytes: ({ count }) => POST_OP_ATTR_BYTES + 12 + padded(count),
  },
);

/** Section 3.3.7 */
export const write = procedure3<
  { file: FileHandle; offset: number; bytes: Buffer; stability: StableHow },
  WriteOk3
>('WRITE', {
  number: 7,
  isIdempotent: true,
  encode(writer, { file, offset, bytes, stability }) {
    encodeFh(writer, file);
    writer.uint53(offset);
    writer.uint32(bytes.length);
    encodeStableHow(writer, stability);
    writer.uint32(bytes.length);
  },
  payload: ({ bytes }) => bytes,
  ok(reader, { bytes }) {
    const wcc = decodeWccData(reader);
    const count = reader.uint32();
    if (count > bytes.length) throw new XdrError(`${count} of ${bytes.length} bytes written`);
    if (count === 0 && bytes.length > 0) throw new XdrError('no bytes written, and no error');
    return { wcc, count, committed: decodeStableHow(reader), verifier: reader.uint64() };
  },
  fail: failWithWcc,
  contentBytes: ({ count }) => count,
  replyMaxBytes: WCC_DATA_BYTES + 16,
});

// ---- Making and unmaking names ------------------------------------------------------------------

/** Section 3.3.8 */
export const create = procedure3<Diropargs3 & { how: Createhow3 }, CreateOk3>('CREATE', {
  number: 8,
  isIdempotent: false,
  encode(writer, args) {
    encodeDirop(writer, args);
    const { how } = args;
    if (how.kind === 'exclusive') {
      writer.uint32(EXCLUSIVE);
      writer.uint64(how.verifier);
    } else {
      writer.uint32(how.kind === 'guarded' ? GUARDED : UNCHECKED);
      encodeSattr(writer, how.attributes);
    }
  },
  ...madeAnObject(),
});

/** Section 3.3.9 */
export const mkdir = procedure3<Diropargs3 & { attributes: Sattr3 }, CreateOk3>('MKDIR', {
  number: 9,
  isIdempotent: false,
  encode(writer, args) {
    encodeDirop(writer, args);
    encodeSattr(writer, args.attributes);
  },
  ...madeAnObject(),
});

/** Section 3.3.10 */
export const symlink = procedure3<Diropargs3 & { target: Buffer; attributes: Sattr3 }, CreateOk3>(
  'SYMLINK',
  {
    number: 10,
    isIdempotent: false,
    encode(writer, args) {
      encodeDirop(writer, args);
      encodeSattr(writer, args.attributes);
      writer.opaque(args.target, MAX_PATH_BYTES);
    },
    ...madeAnObject(),
  },
);

/** Section 3.3.11 */
export const mknod = procedure3<Diropargs3 & { node: Mknoddata3 }, CreateOk3>('MKNOD', {
  number: 11,
  isIdempotent: false,
  encode(writer, args) {
    encodeDirop(writer, args);
    const { node } = args;
    encodeFtype(writer, node.type);
    encodeSattr(writer, node.attributes);
    if (node.type === 'block' || node.type === 'character') {
      writer.uint32(node.major);
      writer.uint32(node.minor);
    }
  },
  ...madeAnObject(),
});

/** Section 3.3.12 */
export const remove = procedure3<Diropargs3, WccData>('REMOVE', {
  number: 12,
  isIdempotent: false,
  encode: encodeDirop,
  ok: decodeWccData,
  fail: failWithWcc,
  replyMaxBytes: WCC_DATA_BYTES,
});

/** Section 3.3.13 */
export const rmdir = procedure3<Diropargs3, WccData>('RMDIR', {
  number: 13,
  isIdempotent: false,
  encode: encodeDirop,
  ok: decodeWccData,
  fail: failWithWcc,
  replyMaxBytes: WCC_DATA_BYTES,
});

/** Section 3.3.14. A failure's `wcc` is the source directory's. */
export const rename = procedure3<{ from: Diropargs3; to: Diropargs3 }, RenameOk3>('RENAME', {
  number: 14,
  isIdempotent: false,
  encode(writer, { from, to }) {
    encodeDirop(writer, from);
    encodeDirop(writer, to);
  },
  ok: (reader) => ({ from: decodeWccData(reader), to: decodeWccData(reader) }),
  fail(reader) {
    const wcc = decodeWccData(reader);
    decodeWccData(reader);
    return { wcc };
  },
  replyMaxBytes: 2 * WCC_DATA_BYTES,
});

/** Section 3.3.15 */
export const link = procedure3<{ file: FileHandle; to: Diropargs3 }, LinkOk3>('LINK', {
  number: 15,
  isIdempotent: false,
  encode(writer, { file, to }) {
    encodeFh(writer, file);
    encodeDirop(writer, to);
  },
  ok: (reader) => ({ attributes: decodePostOpAttr(reader), directory: decodeWccData(reader) }),
  fail: (reader) => ({ attributes: decodePostOpAttr(reader), wcc: decodeWccData(reader) }),
  replyMaxBytes: POST_OP_ATTR_BYTES + WCC_DATA_BYTES,
});

// ---- Listings -----------------------------------------------------------------------------------

export interface ReaddirArgs3 {
  readonly directory: FileHandle;
  readonly cookie: bigint;
  readonly verifier: bigint;
  /** Bounds the whole reply; at most MAX_LISTING_BYTES. */
  readonly countBytes: number;
}

/** Section 3.3.16 */
export const readdir = procedure3<ReaddirArgs3, ReaddirOk3>('READDIR', {
  number: 16,
  isIdempotent: true,
  storage: 'owned',
  encode(writer, { directory, cookie, verifier, countBytes }) {
    encodeFh(writer, directory);
    writer.uint64(cookie);
    writer.uint64(verifier);
    writer.uint32(boundedListing(countBytes));
  },
  ok: (reader) =>
    decodeListing(reader, () => ({
      fileid: reader.uint64(),
      name: decodeName(reader),
      cookie: reader.uint64(),
    })),
  fail: failWithAttributes,
  replyMaxBytes: ({ countBytes }) => boundedListing(countBytes) + LISTING_MARGIN_BYTES,
});

/** Section 3.3.17 */
export const readdirplus = procedure3<ReaddirArgs3, ReaddirOk3>('READDIRPLUS', {
  number: 17,
  isIdempotent: true,
  storage: 'owned',
  encode(writer, { directory, cookie, verifier, countBytes }) {
    const bounded = boundedListing(countBytes);
    encodeFh(writer, directory);
    writer.uint64(cookie);
    writer.uint64(verifier);
    writer.uint32(bounded); // dircount: names alone; maxcount is the bound that matters
    writer.uint32(bounded);
  },
  ok: (reader) =>
    decodeListing(reader, () => ({
      fileid: reader.uint64(),
      name: decodeName(reader),
      cookie: reader.uint64(),
      attributes: decodePostOpAttr(reader),
      file: decodePostOpFh(reader),
    })),
  fail: failWithAttributes,
  replyMaxBytes: ({ countBytes }) => boundedListing(countBytes) + LISTING_MARGIN_BYTES,
});

// ---- The file system ----------------------------------------------------------------------------

/** Section 3.3.18 */
export const fsstat = procedure3<{ file: FileHandle }, FsstatOk3>('FSSTAT', {
  number: 18,
  isIdempotent: true,
  encode: encodeFile,
  ok: (reader) => ({
    attributes: decodePostOpAttr(reader),
    totalBytes: reader.amount(),
    freeBytes: reader.amount(),
    availableBytes: reader.amount(),
    totalFiles: reader.amount(),
    freeFiles: reader.amount(),
    availableFiles: reader.amount(),
    invarSeconds: reader.uint32(),
  }),
  fail: failWithAttributes,
  replyMaxBytes: POST_OP_ATTR_BYTES + 52,
});

/** Section 3.3.19 */
export const fsinfo = procedure3<{ file: FileHandle }, FsinfoOk3>('FSINFO', {
  number: 19,
  isIdempotent: true,
  encode: encodeFile,
  ok: (reader) => ({
    attributes: decodePostOpAttr(reader),
    rtmax: reader.uint32(),
    rtpref: reader.uint32(),
    rtmult: reader.uint32(),
    wtmax: reader.uint32(),
    wtpref: reader.uint32(),
    wtmult: reader.uint32(),
    dtpref: reader.uint32(),
    maxFileSize: reader.amount(),
    timeDeltaNs: decodeTime(reader),
    properties: reader.uint32(),
  }),
  fail: failWithAttributes,
  replyMaxBytes: POST_OP_ATTR_BYTES + 48,
});

/** Section 3.3.20 */
export const pathconf = procedure3<{ file: FileHandle }, PathconfOk3>('PATHCONF', {
  number: 20,
  isIdempotent: true,
  encode: encodeFile,
  ok: (reader) => ({
    attributes: decodePostOpAttr(reader),
    linkmax: reader.uint32(),
    nameMax: reader.uint32(),
    noTrunc: reader.bool(),
    chownRestricted: reader.bool(),
    caseInsensitive: reader.bool(),
    casePreserving: reader.bool(),
  }),
  fail: failWithAttributes,
  replyMaxBytes: POST_OP_ATTR_BYTES + 24,
});

/** Section 3.3.21 */
export const commit = procedure3<{ file: FileHandle; offset: number; count: number }, CommitOk3>(
  'COMMIT',
  {
    number: 21,
    isIdempotent: true,
    encode(writer, { file, offset, count }) {
      encodeFh(writer, file);
      writer.uint53(offset);
      writer.uint32(count);
    },
    ok: (reader) => ({ wcc: decodeWccData(reader), verifier: reader.uint64() }),
    fail: failWithWcc,
    replyMaxBytes: WCC_DATA_BYTES + 8,
  },
);

// ---- What they have in common -------------------------------------------------------------------

function procedure3<Args, Ok>(name: string, entry: Entry<Args, Ok>): Procedure3<Args, Ok> {
  const { replyMaxBytes, contentBytes } = entry;
  return {
    program: NFS_PROGRAM,
    version: NFS_VERSION,
    number: entry.number,
    name,
    isIdempotent: entry.isIdempotent,
    storage: entry.storage ?? 'borrowed',
    encode: entry.encode,
    ...(entry.payload === undefined ? {} : { payload: entry.payload }),
    decode(reader, args, lease) {
      const status = decodeStatus(reader);
      if (status === 'NFS3_OK') return { status, ok: entry.ok(reader, args, lease) };
      return { status, fail: entry.fail(reader) };
    },
    ...(contentBytes === undefined
      ? {}
      : { contentBytes: (reply) => (reply.status === 'NFS3_OK' ? contentBytes(reply.ok) : 0) }),
    retains: ({ status }) => status === 'NFS3_OK',
    replyMaxBytes:
      typeof replyMaxBytes === 'number'
        ? () => 4 + replyMaxBytes
        : (args) => 4 + replyMaxBytes(args),
  };
}

/** nfsstat3, by number. */
const statusNames = new Map<number, NfsStatusName>(
  Object.entries(NfsStatus).map(([name, number]) => [number, name as NfsStatusName]),
);

function decodeStatus(reader: XdrReader): 'NFS3_OK' | NfsErrorName {
  const number = reader.uint32();
  const status = statusNames.get(number);
  if (status === undefined) throw new XdrError(`nfsstat3 ${number}`);
  return status;
}

function encodeFile(writer: XdrWriter, { file }: { file: FileHandle }): void {
  encodeFh(writer, file);
}

function failWithAttributes(reader: XdrReader): Resfail3 {
  return { attributes: decodePostOpAttr(reader) };
}

function failWithWcc(reader: XdrReader): Resfail3 {
  return { wcc: decodeWccData(reader) };
}

/** The reply that CREATE, MKDIR, SYMLINK and MKNOD share. */
function madeAnObject() {
  return {
    ok: (reader: XdrReader): CreateOk3 => ({
      file: decodePostOpFh(reader),
      attributes: decodePostOpAttr(reader),
      directory: decodeWccData(reader),
    }),
    fail: failWithWcc,
    replyMaxBytes: 4 + FH_BYTES + POST_OP_ATTR_BYTES + WCC_DATA_BYTES,
  };
}

function decodeListing(reader: XdrReader, entry: () => Entry3): ReaddirOk3 {
  const attributes = decodePostOpAttr(reader);
  const verifier = reader.uint64();
  const entries: Entry3[] = [];
  while (reader.bool()) entries.push(entry());
  const eof = reader.bool();
  return { attributes, verifier, entries, eof };
}

function boundedListing(countBytes: number): number {
  return Math.max(512, Math.min(countBytes, MAX_LISTING_BYTES));
}

function padded(count: number): number {
  return (count + 3) & ~3;
}

function nothingToRelease(): void {}
