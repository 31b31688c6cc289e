/**
 * The structures of replies (linux/fuse.h), written from the file system's own values.
 */
import type { Attr, Dirent, Entry, NegativeEntry, Opened } from '../vfs/operations.ts';
import type { Attributes, FsStat } from '../vfs/ports.ts';
import { FileMode, OpenFlag, Size } from './abi.ts';
import { NAME_MAX_BYTES, WireWriter } from './wire.ts';

/**
 * st_blksize: what programs take as the best size of one read or write. As Linux's own NFS client
 * we say the largest request, since each write is a round trip.
 */
const PREFERRED_IO_BYTES = 1 << 20;
const SECTOR_BYTES = 512;
const STATFS_BLOCK_BYTES = 4096;
const NS_PER_SECOND = 1_000_000_000n;

/** fuse_entry_out */
export function writeEntry(writer: WireWriter, entry: Entry | NegativeEntry): void {
  if (entry.ino === 0) {
    writer.zeros(16); // nodeid 0: no such name; generation
    writer.u64(seconds(entry.entryValidMs));
    writer.zeros(8);
    writer.u32(nanoseconds(entry.entryValidMs));
    writer.zeros(4 + Size.fuse_attr);
    return;
  }
  const positive = entry as Entry;
  writer.u64(positive.ino);
  writer.u64(positive.generation);
  writer.u64(seconds(positive.entryValidMs));
  writer.u64(seconds(positive.attributesValidMs));
  writer.u32(nanoseconds(positive.entryValidMs));
  writer.u32(nanoseconds(positive.attributesValidMs));
  writeAttributes(writer, positive.attributes);
}

/** fuse_attr_out */
export function writeAttr(writer: WireWriter, attr: Attr): void {
  writer.u64(seconds(attr.attributesValidMs));
  writer.u32(nanoseconds(attr.attributesValidMs));
  writer.u32(0);
  writeAttributes(writer, attr.attributes);
}

/** fuse_open_out. The kernel takes no other flag beside FOPEN_PASSTHROUGH. */
export function writeOpened(writer: WireWriter, { handle, keepCache, backingId }: Opened): void {
  writer.u64(handle);
  if (backingId !== undefined) writer.u32(OpenFlag.FOPEN_PASSTHROUGH);
  else writer.u32(keepCache ? OpenFlag.FOPEN_KEEP_CACHE : 0);
  writer.u32(backingId ?? 0);
}

/** fuse_statfs_out (struct fuse_kstatfs) */
export function writeStatfs(writer: WireWriter, stat: FsStat): void {
  writer.u64(Math.floor(stat.totalBytes / STATFS_BLOCK_BYTES));
  writer.u64(Math.floor(stat.freeBytes / STATFS_BLOCK_BYTES));
  writer.u64(Math.floor(stat.availableBytes / STATFS_BLOCK_BYTES));
  writer.u64(stat.totalFiles);
  writer.u64(stat.freeFiles);
  writer.u32(STATFS_BLOCK_BYTES);
  writer.u32(NAME_MAX_BYTES);
  writer.u32(STATFS_BLOCK_BYTES); // frsize
  writer.zeros(4 + 6 * 4);
}

/**
 * The body of a READDIR or READDIRPLUS reply: fuse_dirent or fuse_direntplus records that fit into
 * `limitBytes`.
 */
export class DirentList {
  /** The inodes whose lookup was counted, in case the reply is never delivered. */
  readonly looked: Entry['ino'][] = [];
  readonly #buffer: Buffer;
  readonly #writer: WireWriter;
  readonly #plus: boolean;

  constructor(limitBytes: number, plus: boolean) {
    this.#buffer = Buffer.allocUnsafe(limitBytes);
    this.#writer = new WireWriter(this.#buffer);
    this.#plus = plus;
  }

  /** False when the entry does not fit any more: the list is full. */
  add(dirent: Dirent): boolean {
    const head = (this.#plus ? Size.fuse_entry_out : 0) + Size.fuse_dirent;
    const padded = Math.ceil((head + dirent.name.length) / 8) * 8;
    if (this.#writer.at + padded > this.#buffer.length) return false;
    if (this.#plus) {
      if (dirent.entry === undefined) this.#writer.zeros(Size.fuse_entry_out);
      else {
        writeEntry(this.#writer, dirent.entry);
        this.looked.push(dirent.entry.ino);
      }
    }
    this.#writer.u64(dirent.ino);
    this.#writer.bigU64(dirent.nextOffset);
    this.#writer.u32(dirent.name.length);
    this.#writer.u32(dirent.type === undefined ? 0 : FileMode[dirent.type] >>> 12); // DT_*
    this.#writer.bytes(dirent.name);
    this.#writer.zeros(padded - head - dirent.name.length);
    return true;
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#writer.at);
  }
}

/** struct fuse_attr */
function writeAttributes(writer: WireWriter, attributes: Attributes): void {
  const { atimeNs, mtimeNs, ctimeNs } = attributes;
  writer.bigU64(attributes.fileid);
  writer.u64(attributes.size);
  writer.u64(blocksOf(attributes));
  writer.bigU64(BigInt.asUintN(64, floorSeconds(atimeNs)));
  writer.bigU64(BigInt.asUintN(64, floorSeconds(mtimeNs)));
  writer.bigU64(BigInt.asUintN(64, floorSeconds(ctimeNs)));
  writer.u32(nanosecondsOf(atimeNs));
  writer.u32(nanosecondsOf(mtimeNs));
  writer.u32(nanosecondsOf(ctimeNs));
  writer.u32(FileMode[attributes.type] | attributes.mode);
  writer.u32(attributes.nlink);
  writer.u32(attributes.uid);
  writer.u32(attributes.gid);
  writer.u32(encodeDevice(attributes.rdev));
  writer.u32(PREFERRED_IO_BYTES);
  writer.u32(0); // flags
}

/** A file with bytes never has 0 blocks: tar -S would take it for one hole and archive zeros. */
function blocksOf({ size, used }: Attributes): number {
  const blocks = Math.ceil(used / SECTOR_BYTES);
  return size > 0 && blocks === 0 ? 1 : blocks;
}

/** new_encode_dev (linux/kdev_t.h) */
function encodeDevice({ major, minor }: Attributes['rdev']): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

function floorSeconds(ns: bigint): bigint {
  const whole = ns / NS_PER_SECOND;
  return ns < 0n && whole * NS_PER_SECOND !== ns ? whole - 1n : whole;
}

function nanosecondsOf(ns: bigint): number {
  return Number(ns - floorSeconds(ns) * NS_PER_SECOND);
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

function nanoseconds(ms: number): number {
  return Math.floor((ms % 1000) * 1_000_000);
}
