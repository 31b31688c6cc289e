/**
 * The pieces that NFSv3 calls and replies are made of (RFC 1813, section 2.6).
 *
 * Decoders throw XdrError. Handles and names are copied: they outlive the reply.
 */
import { assert } from '../../base/assert.ts';
import type { FileHandle } from '../../base/brand.ts';
import { XdrError, type XdrReader } from '../xdr/reader.ts';
import type { XdrWriter } from '../xdr/writer.ts';
import {
  type Diropargs3,
  type Fattr3,
  type Ftype3,
  MAX_NAME_BYTES,
  NFS3_FHSIZE,
  type Sattr3,
  type StableHow,
  type WccAttr,
  type WccData,
} from './types.ts';

/** The encoded sizes that bound replies. */
export const FH_BYTES = 4 + NFS3_FHSIZE;
export const FATTR_BYTES = 84;
export const POST_OP_ATTR_BYTES = 4 + FATTR_BYTES;
export const WCC_DATA_BYTES = 4 + 24 + POST_OP_ATTR_BYTES;

/** ftype3, by number. */
const ftypes: readonly (Ftype3 | undefined)[] = [
  undefined,
  'regular',
  'directory',
  'block',
  'character',
  'symlink',
  'socket',
  'fifo',
];
const stableHows: readonly StableHow[] = ['unstable', 'dataSync', 'fileSync'];

const DONT_CHANGE = 0;
const SET_TO_SERVER_TIME = 1;
const SET_TO_CLIENT_TIME = 2;

const NS_PER_SECOND = 1_000_000_000n;
const PERMISSION_BITS = 0o7777;

// ---- Decoding -----------------------------------------------------------------------------------

export function decodeFattr(reader: XdrReader): Fattr3 {
  const number = reader.uint32();
  const type = ftypes[number];
  if (type === undefined) throw new XdrError(`ftype3 ${number}`);
  return {
    type,
    mode: reader.uint32() & PERMISSION_BITS,
    nlink: reader.uint32(),
    uid: reader.uint32(),
    gid: reader.uint32(),
    size: reader.uint53(),
    used: reader.amount(),
    rdev: { major: reader.uint32(), minor: reader.uint32() },
    fsid: reader.uint64(),
    fileid: reader.uint64(),
    atimeNs: decodeTime(reader),
    mtimeNs: decodeTime(reader),
    ctimeNs: decodeTime(reader),
  };
}

/** nfstime3 */
export function decodeTime(reader: XdrReader): bigint {
  const seconds = reader.uint32();
  return BigInt(seconds) * NS_PER_SECOND + BigInt(reader.uint32());
}

/** post_op_attr */
export function decodePostOpAttr(reader: XdrReader): Fattr3 | undefined {
  return reader.bool() ? decodeFattr(reader) : undefined;
}

export function decodeWccData(reader: XdrReader): WccData {
  return {
    before: reader.bool() ? decodeWccAttr(reader) : undefined,
    after: decodePostOpAttr(reader),
  };
}

function decodeWccAttr(reader: XdrReader): WccAttr {
  return {
    size: reader.uint53(),
    mtimeNs: decodeTime(reader),
    ctimeNs: decodeTime(reader),
  };
}

/** nfs_fh3 */
export function decodeFh(reader: XdrReader): FileHandle {
  const view = reader.opaque(NFS3_FHSIZE);
  if (view.length === 0) throw new XdrError('an empty file handle');
  return Buffer.from(view) as FileHandle;
}

/** post_op_fh3 */
export function decodePostOpFh(reader: XdrReader): FileHandle | undefined {
  return reader.bool() ? decodeFh(reader) : undefined;
}

export function decodeStableHow(reader: XdrReader): StableHow {
  const number = reader.uint32();
  const how = stableHows[number];
  if (how === undefined) throw new XdrError(`stable_how ${number}`);
  return how;
}

/** A name as READDIR has it: one component, '.' and '..' among them. */
export function decodeName(reader: XdrReader): Buffer {
  const view = reader.opaque(MAX_NAME_BYTES);
  if (view.length === 0) throw new XdrError('an empty name');
  if (view.includes(0x2f) || view.includes(0)) throw new XdrError("a name with '/' or NUL in it");
  return Buffer.from(view);
}

// ---- Encoding -----------------------------------------------------------------------------------

export function encodeFh(writer: XdrWriter, file: FileHandle): void {
  assert(file.length > 0, 'a file handle has at least a byte');
  writer.opaque(file, NFS3_FHSIZE);
}

export function encodeDirop(writer: XdrWriter, { directory, name }: Diropargs3): void {
  encodeFh(writer, directory);
  writer.opaque(name, MAX_NAME_BYTES);
}

export function encodeSattr(writer: XdrWriter, changes: Sattr3): void {
  encodeOptional(writer, changes.mode);
  encodeOptional(writer, changes.uid);
  encodeOptional(writer, changes.gid);
  writer.bool(changes.size !== undefined);
  if (changes.size !== undefined) writer.uint53(changes.size);
  encodeSetTime(writer, changes.atime);
  encodeSetTime(writer, changes.mtime);
}

export function encodeTime(writer: XdrWriter, timeNs: bigint): void {
  // nfstime3 counts from 1970 to 2106: what lies outside is brought to the nearer end.
  const seconds = timeNs / NS_PER_SECOND;
  if (timeNs < 0n || seconds > 0xffff_ffffn) {
    writer.uint32(timeNs < 0n ? 0 : 0xffff_ffff);
    writer.uint32(0);
    return;
  }
  writer.uint32(Number(seconds));
  writer.uint32(Number(timeNs % NS_PER_SECOND));
}

export function encodeStableHow(writer: XdrWriter, how: StableHow): void {
  writer.uint32(stableHows.indexOf(how));
}

export function encodeFtype(writer: XdrWriter, type: Ftype3): void {
  writer.uint32(ftypes.indexOf(type));
}

function encodeOptional(writer: XdrWriter, value: number | undefined): void {
  writer.bool(value !== undefined);
  if (value !== undefined) writer.uint32(value);
}

/** set_atime and set_mtime */
function encodeSetTime(writer: XdrWriter, time: bigint | 'server' | undefined): void {
  if (time === undefined) {
    writer.uint32(DONT_CHANGE);
  } else if (time === 'server') {
    writer.uint32(SET_TO_SERVER_TIME);
  } else {
    writer.uint32(SET_TO_CLIENT_TIME);
    encodeTime(writer, time);
  }
}
