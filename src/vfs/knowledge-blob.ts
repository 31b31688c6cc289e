/**
 * What is known of an export, as one blob: files with their attributes, what callers may do with
 * them, what links and directories hold; and names that lead from one to another.
 *
 *   "GVFSKNW1"  u32 files  u32 names  then the files, then the names     (little endian)
 *   file   u8 handle length, handle; u8 flags (1 attributes, 2 target, 4 listing)
 *          attributes  u8 type, u16 mode, u32 nlink, uid, gid, rdev major, rdev minor,
 *                      f64 size, used, u64 fsid, fileid, i64 atime, mtime, ctime (ns)
 *          u8 callers, each: u16 length, credentials; u8 asked, u8 granted (ACCESS bits)
 *          target      u16 length, bytes
 *          listing     u32 entries, each: u8 length, name; u64 fileid; u8 type (255: not told)
 *   name   u32 directory (index of a file); u8 length, name; u32 file (2^32-1: no such name)
 *
 * File 0 is the export's root. A blob of another version, or one that does not end where it should,
 * is none. That its bytes are those that were written is the store's promise.
 */
import type { FileHandle, Name } from '../base/brand.ts';
import type { Listing } from './directory-stream.ts';
import type { Attributes, FileType } from './ports.ts';

export interface KnownFile {
  readonly file: FileHandle;
  readonly attributes: Attributes | undefined;
  readonly callers: readonly KnownCaller[];
  readonly target: Buffer | undefined;
  readonly listing: Listing['entries'] | undefined;
}

export interface KnownCaller {
  /** `credentialsKey` */
  readonly key: string;
  readonly asked: number;
  readonly granted: number;
}

export interface KnownName {
  /** Indexes of files; `file` undefined: there is no such name. */
  readonly directory: number;
  readonly name: Name;
  readonly file: number | undefined;
}

export interface Known {
  readonly files: readonly KnownFile[];
  readonly names: readonly KnownName[];
}

const MAGIC = Buffer.from('GVFSKNW1');
const NOTHING = 0xffff_ffff;
const UNTOLD = 255;
const HAS_ATTRIBUTES = 1;
const HAS_TARGET = 2;
const HAS_LISTING = 4;
const fileTypes: readonly FileType[] = [
  'regular',
  'directory',
  'block',
  'character',
  'symlink',
  'socket',
  'fifo',
];

export function encodeKnown({ files, names }: Known): Buffer {
  const writer = new Writer();
  writer.bytes(MAGIC);
  writer.u32(files.length);
  writer.u32(names.length);
  for (const file of files) writeFile(writer, file);
  for (const { directory, name, file } of names) {
    writer.u32(directory);
    writer.short(name);
    writer.u32(file ?? NOTHING);
  }
  return writer.taken();
}

/** undefined: nothing that can be believed. */
export function decodeKnown(blob: Buffer): Known | undefined {
  try {
    const reader = new Reader(blob);
    if (!reader.bytes(MAGIC.length).equals(MAGIC)) return undefined;
    const [fileCount, nameCount] = [reader.u32(), reader.u32()];
    const files: KnownFile[] = [];
    for (let i = 0; i < fileCount; i++) files.push(readFile(reader));
    const names: KnownName[] = [];
    for (let i = 0; i < nameCount; i++) names.push(readName(reader, fileCount));
    return reader.isAtEnd && fileCount > 0 ? { files, names } : undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function writeFile(writer: Writer, known: KnownFile): void {
  const { file, attributes, callers, target, listing } = known;
  writer.short(file);
  writer.u8(
    (attributes === undefined ? 0 : HAS_ATTRIBUTES) |
      (target === undefined ? 0 : HAS_TARGET) |
      (listing === undefined ? 0 : HAS_LISTING),
  );
  if (attributes !== undefined) writeAttributes(writer, attributes);
  writer.u8(callers.length);
  for (const { key, asked, granted } of callers) {
    writer.long(Buffer.from(key));
    writer.u8(asked);
    writer.u8(granted);
  }
  if (target !== undefined) writer.long(target);
  if (listing === undefined) return;
  writer.u32(listing.length);
  for (const { name, fileid, type } of listing) {
    writer.short(name);
    writer.u64(fileid);
    writer.u8(type === undefined ? UNTOLD : fileTypes.indexOf(type));
  }
}

function readFile(reader: Reader): KnownFile {
  const file = reader.bytes(reader.u8()) as FileHandle;
  const flags = reader.u8();
  const attributes = (flags & HAS_ATTRIBUTES) === 0 ? undefined : readAttributes(reader);
  const callers: KnownCaller[] = [];
  for (let count = reader.u8(); count > 0; count--) {
    const key = reader.bytes(reader.u16()).toString();
    callers.push({ key, asked: reader.u8(), granted: reader.u8() });
  }
  const target = (flags & HAS_TARGET) === 0 ? undefined : reader.bytes(reader.u16());
  if ((flags & HAS_LISTING) === 0) return { file, attributes, callers, target, listing: undefined };
  const listing: Listing['entries'][number][] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const name = reader.bytes(reader.u8());
    const fileid = reader.u64();
    const type = reader.u8();
    listing.push({ name, fileid, type: type === UNTOLD ? undefined : typeOf(type) });
  }
  return { file, attributes, callers, target, listing };
}

function readName(reader: Reader, fileCount: number): KnownName {
  const directory = reader.u32();
  const name = reader.bytes(reader.u8()) as Name;
  const file = reader.u32();
  if (directory >= fileCount) throw new RangeError('a name in no directory');
  if (file !== NOTHING && file >= fileCount) throw new RangeError('a name of no file');
  return { directory, name, file: file === NOTHING ? undefined : file };
}

function writeAttributes(writer: Writer, attributes: Attributes): void {
  writer.u8(fileTypes.indexOf(attributes.type));
  writer.u16(attributes.mode);
  writer.u32(attributes.nlink);
  writer.u32(attributes.uid);
  writer.u32(attributes.gid);
  writer.u32(attributes.rdev.major);
  writer.u32(attributes.rdev.minor);
  writer.f64(attributes.size);
  writer.f64(attributes.used);
  writer.u64(attributes.fsid);
  writer.u64(attributes.fileid);
  writer.i64(attributes.atimeNs);
  writer.i64(attributes.mtimeNs);
  writer.i64(attributes.ctimeNs);
}

function readAttributes(reader: Reader): Attributes {
  return {
    type: typeOf(reader.u8()),
    mode: reader.u16(),
    nlink: reader.u32(),
    uid: reader.u32(),
    gid: reader.u32(),
    rdev: { major: reader.u32(), minor: reader.u32() },
    size: reader.f64(),
    used: reader.f64(),
    fsid: reader.u64(),
    fileid: reader.u64(),
    atimeNs: reader.i64(),
    mtimeNs: reader.i64(),
    ctimeNs: reader.i64(),
  };
}

function typeOf(code: number): FileType {
  const type = fileTypes[code];
  if (type === undefined) throw new RangeError('no such type of file');
  return type;
}

/** Bytes that grow. */
class Writer {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #at = 0;

  taken(): Buffer {
    return Buffer.from(this.#buffer.subarray(0, this.#at));
  }

  bytes(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#room(bytes.length));
  }

  /** Up to 255 bytes, their length in front. */
  short(bytes: Uint8Array): void {
    this.u8(bytes.length);
    this.bytes(bytes);
  }

  /** Up to 65,535 bytes, their length in front. */
  long(bytes: Uint8Array): void {
    this.u16(bytes.length);
    this.bytes(bytes);
  }

  u8(value: number): void {
    this.#buffer.writeUInt8(value, this.#room(1));
  }

  u16(value: number): void {
    this.#buffer.writeUInt16LE(value, this.#room(2));
  }

  u32(value: number): void {
    this.#buffer.writeUInt32LE(value, this.#room(4));
  }

  u64(value: bigint): void {
    this.#buffer.writeBigUInt64LE(value, this.#room(8));
  }

  i64(value: bigint): void {
    this.#buffer.writeBigInt64LE(value, this.#room(8));
  }

  f64(value: number): void {
    this.#buffer.writeDoubleLE(value, this.#room(8));
  }

  /** Makes room; answers where. */
  #room(length: number): number {
    const at = this.#at;
    this.#at += length;
    if (this.#at > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    return at;
  }
}

/** A RangeError where the bytes end too early. */
class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#buffer.length;
  }

  /** A copy: what is read outlives the blob. */
  bytes(length: number): Buffer {
    const at = this.#next(length);
    if (this.#at > this.#buffer.length) throw new RangeError('the bytes end too early');
    return Buffer.from(this.#buffer.subarray(at, this.#at));
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#next(1));
  }

  u16(): number {
    return this.#buffer.readUInt16LE(this.#next(2));
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#next(4));
  }

  u64(): bigint {
    return this.#buffer.readBigUInt64LE(this.#next(8));
  }

  i64(): bigint {
    return this.#buffer.readBigInt64LE(this.#next(8));
  }

  f64(): number {
    return this.#buffer.readDoubleLE(this.#next(8));
  }

  #next(length: number): number {
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
