/**
 * The map file of an image, format 2: a header of 4096 bytes, then a record of 16 bytes for each
 * block. All numbers are little endian.
 *
 *   header    0  8  magic "GVFSMAP\n"           record   0  2  present: bit i is page i
 *             8  4  version, 2                           2  2  dirty: some of these
 *            12  4  page size, 4096                      4  4  sum of the clean pages
 *            16  4  block size, 65536                    8  4  check of the record
 *            20  4  flags: bit 0 clean                  12  4  0
 *            24 16  file id
 *            40 16  boot id
 *            56  8  size of the image in bytes
 *            64  4  CRC-32 of the 64 bytes before
 *
 * The file is as long as whole chunks of 256 records are; where nothing is present it has holes.
 *
 * Invariants:
 *  - C2: the sum in a record is the linear CRC-32C of the clean pages: a flip in their bytes is
 *    seen at first use.
 *  - C4: the check binds presence, dirtiness and sum to the number of the block, so that a flip in
 *    any of them is seen when the record is read: what is dirty has no sum, and must not turn into
 *    something clean that may be fetched again.
 *  - What cannot be told for sure is not believed: a header that is not wholly as expected, a
 *    record that this version does not write.
 *  - A chunk, or a few of its records, are written with one pwrite within an aligned page, so that a
 *    killed daemon leaves none half written; a record lies within a sector, so that a power loss
 *    does not either.
 */
import { crc32 } from 'node:zlib';
import { err, ok, type Result } from '../base/result.ts';
import { type BlockMap, CHUNK_BLOCKS, type ChangedBlocks } from './block-map.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES } from './file-io.ts';
import { errnoName } from './local-failure.ts';

export const MAP_VERSION = 2;
export const MAP_HEADER_BYTES = 4096;
export const RECORD_BYTES = 16;
export const CHUNK_BYTES = CHUNK_BLOCKS * RECORD_BYTES;

export interface MapHeader {
  /** 32 hex digits. */
  readonly fileId: string;
  /** 32 hex digits. */
  readonly bootId: string;
  readonly sizeBytes: number;
  /** Closed in order: absent pages are holes in `data`. Only to be believed in the same boot. */
  readonly clean: boolean;
}

const MAGIC = Buffer.from('GVFSMAP\n', 'latin1');
const FLAG_CLEAN = 1;
const CHECKED_BYTES = 64;
/** So much is read, or written, at once. */
const WINDOW_CHUNKS = 64; // 256 KiB
const RECORD_WORDS = RECORD_BYTES / 4;
const emptyChunk = Buffer.alloc(CHUNK_BYTES);
const emptyWindow = Buffer.alloc(WINDOW_CHUNKS * CHUNK_BYTES);

export function mapFileBytes(chunkCount: number): number {
  return MAP_HEADER_BYTES + chunkCount * CHUNK_BYTES;
}

export function encodeMapHeader(header: MapHeader): Buffer {
  const bytes = Buffer.alloc(MAP_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32LE(MAP_VERSION, 8);
  bytes.writeUInt32LE(PAGE_BYTES, 12);
  bytes.writeUInt32LE(BLOCK_BYTES, 16);
  bytes.writeUInt32LE(header.clean ? FLAG_CLEAN : 0, 20);
  bytes.write(header.fileId, 24, 16, 'hex');
  bytes.write(header.bootId, 40, 16, 'hex');
  bytes.writeBigUInt64LE(BigInt(header.sizeBytes), 56);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  return bytes;
}

/** The header, or a clause that says why it is none to believe. */
export function decodeMapHeader(bytes: Buffer): Result<MapHeader, string> {
  if (bytes.length < MAP_HEADER_BYTES) return err('is cut short');
  if (!bytes.subarray(0, 8).equals(MAGIC)) return err('is no map');
  const version = bytes.readUInt32LE(8);
  if (version !== MAP_VERSION) return err(`is of version ${version}`);
  const sum = crc32(bytes.subarray(0, CHECKED_BYTES));
  if (bytes.readUInt32LE(CHECKED_BYTES) !== sum) return err('has a damaged header');
  if (bytes.readUInt32LE(12) !== PAGE_BYTES || bytes.readUInt32LE(16) !== BLOCK_BYTES) {
    return err('has pages of another size');
  }
  return ok({
    fileId: bytes.toString('hex', 24, 40),
    bootId: bytes.toString('hex', 40, 56),
    sizeBytes: Number(bytes.readBigUInt64LE(56)),
    clean: (bytes.readUInt32LE(20) & FLAG_CLEAN) !== 0,
  });
}

/** One record, for those who need no map. */
export interface BlockRecord {
  readonly present: number;
  readonly dirty: number;
  readonly sum: number;
}

const noRecord: BlockRecord = { present: 0, dirty: 0, sum: 0 };

/** The records of a chunk, in `into` from `at` on, which is a multiple of 4 in memory. */
export function encodeChunk(map: BlockMap, chunk: number, into: Buffer, at: number): void {
  const words = wordsOf(into, at);
  words.fill(0);
  const records = map.recordsOf(chunk);
  if (records === undefined) return;
  const { masks, dirty, sums } = records;
  const firstBlock = chunk * CHUNK_BLOCKS;
  for (let index = 0; index < CHUNK_BLOCKS; index += 1) {
    const present = masks[index] ?? 0;
    if (present === 0) continue;
    putRecord(words, index, firstBlock + index, present, dirty[index] ?? 0, sums[index] ?? 0);
  }
}

/**
 * Takes the records of a chunk into the map, where it has none; how many there were that are not
 * to be believed.
 */
export function decodeChunk(map: BlockMap, chunk: number, from: Buffer, at: number): number {
  const words = wordsOf(from, at);
  const records = {
    masks: new Uint16Array(CHUNK_BLOCKS),
    dirty: new Uint16Array(CHUNK_BLOCKS),
    sums: new Uint32Array(CHUNK_BLOCKS),
  };
  const firstBlock = chunk * CHUNK_BLOCKS;
  const lastBlock = map.blockCount - 1 - firstBlock;
  const lastMask = map.fullMask(map.blockCount - 1);
  let refused = 0;
  for (let index = 0; index < CHUNK_BLOCKS; index += 1) {
    const word = index * RECORD_WORDS;
    const pages = words[word] ?? 0;
    if (pages === 0 && isNothing(words, word)) continue;
    const present = pages & 0xffff;
    const most = index < lastBlock ? 0xffff : index === lastBlock ? lastMask : 0;
    if (!isWhole(words, word, firstBlock + index)) {
      refused += 1;
      continue;
    }
    const dirty = (pages >>> 16) & most;
    // What lies beyond the end was cut, or is of a write that was not acknowledged.
    const cutClean = (present & ~(pages >>> 16) & ~most) !== 0;
    records.masks[index] = cutClean ? dirty : present & most;
    records.dirty[index] = dirty;
    records.sums[index] = cutClean ? 0 : (words[word + 1] ?? 0);
  }
  map.adoptRecords(chunk, records);
  return refused;
}

/** The record of `block`, which begins at `at`; undefined when it is not to be believed. */
export function decodeRecord(block: number, from: Buffer, at: number): BlockRecord | undefined {
  const words = new Uint32Array(RECORD_WORDS);
  for (let index = 0; index < RECORD_WORDS; index += 1) {
    words[index] = from.readUInt32LE(at + 4 * index);
  }
  const [pages = 0, sum = 0] = words;
  if (isNothing(words, 0)) return { present: 0, dirty: 0, sum: 0 };
  if (!isWhole(words, 0, block)) return undefined;
  return { present: pages & 0xffff, dirty: pages >>> 16, sum };
}

/** The same the other way round. */
export function encodeRecord(block: number, record: BlockRecord, into: Buffer, at: number): void {
  const words = new Uint32Array(RECORD_WORDS);
  const { present, dirty, sum } = record;
  if (present !== 0) putRecord(words, 0, block, present, dirty, sum);
  for (let index = 0; index < RECORD_WORDS; index += 1) {
    into.writeUInt32LE(words[index] ?? 0, at + 4 * index);
  }
}

/** An open map file. It does not close it. */
export class MapFile {
  readonly fd: number;
  readonly #io: FileIo;

  constructor(fd: number, io: FileIo) {
    this.fd = fd;
    this.#io = io;
  }

  /** Makes the file one without records. Errno. */
  async format(header: MapHeader, chunkCount: number): Promise<number> {
    const errno = await this.#io.truncate(this.fd, mapFileBytes(chunkCount));
    return errno === 0 ? this.writeHeader(header) : errno;
  }

  writeHeader(header: MapHeader): Promise<number> {
    return this.#io.write(this.fd, 0, encodeMapHeader(header));
  }

  /**
   * The header, if it is of this file, and the file as long as it says, at least. With `map`: if
   * it is of that size, and the file just as long.
   */
  async readHeader(fileId: string, map?: BlockMap): Promise<Result<MapHeader, string>> {
    const bytes = Buffer.alloc(MAP_HEADER_BYTES);
    const { errno, got } = await this.#io.read(this.fd, 0, bytes);
    if (errno !== 0) return err(`cannot be read (${errnoName(errno)})`);
    const header = decodeMapHeader(bytes.subarray(0, got));
    if (!header.ok) return header;
    const { value } = header;
    if (value.fileId !== fileId) return err('is of another file');
    if (map !== undefined && value.sizeBytes !== map.sizeBytes) return err('is of another size');
    const size = await this.#io.size(this.fd);
    if (size.errno !== 0) return err(`cannot be read (${errnoName(size.errno)})`);
    const length = mapFileBytes(chunkCountOf(value.sizeBytes));
    const right = map === undefined ? size.sizeBytes >= length : size.sizeBytes === length;
    return right ? header : err('has a wrong length');
  }

  /** Of whoever wrote the header, however long the file is; undefined when it is damaged. */
  async readBootId(): Promise<string | undefined> {
    const bytes = Buffer.alloc(MAP_HEADER_BYTES);
    const { errno, got } = await this.#io.read(this.fd, 0, bytes);
    const header = errno === 0 ? decodeMapHeader(bytes.subarray(0, got)) : undefined;
    return header?.ok === true ? header.value.bootId : undefined;
  }

  /** Hands every chunk that holds anything to `take`, ascending. Errno. */
  async readChunks(
    chunkCount: number,
    take: (chunk: number, bytes: Buffer, at: number) => void,
  ): Promise<number> {
    const window = Buffer.alloc(Math.min(WINDOW_CHUNKS, chunkCount) * CHUNK_BYTES);
    for (let first = 0; first < chunkCount; first += WINDOW_CHUNKS) {
      const count = Math.min(WINDOW_CHUNKS, chunkCount - first);
      const wanted = window.subarray(0, count * CHUNK_BYTES);
      const { errno, got } = await this.#io.read(this.fd, mapFileBytes(first), wanted);
      if (errno !== 0) return errno;
      wanted.fill(0, got);
      for (let index = 0; index < count; index += 1) {
        const at = index * CHUNK_BYTES;
        if (emptyChunk.compare(wanted, at, at + CHUNK_BYTES) !== 0) take(first + index, wanted, at);
      }
    }
    return 0;
  }

  /** Writes chunks, neighbours together. `encode` is called just before the write of it. Errno. */
  async writeChunks(
    chunks: readonly number[],
    encode: (chunk: number, into: Buffer, at: number) => void,
  ): Promise<number> {
    for (let from = 0; from < chunks.length; ) {
      const first = chunks[from] ?? 0;
      let count = 1;
      while (count < WINDOW_CHUNKS && chunks[from + count] === first + count) count += 1;
      const bytes = Buffer.allocUnsafe(count * CHUNK_BYTES);
      for (let index = 0; index < count; index += 1) {
        encode(first + index, bytes, index * CHUNK_BYTES);
      }
      const errno = await this.#io.write(this.fd, mapFileBytes(first), bytes);
      if (errno !== 0) return errno;
      from += count;
    }
    return 0;
  }

  /**
   * Writes the records of `map` that have changed, and those of whole chunks; what lies beyond its
   * end has no place in the file any more. Errno: of all of it some may be written.
   */
  async writeChanged(map: BlockMap, changed: ReadonlyMap<number, ChangedBlocks>): Promise<number> {
    const whole: number[] = [];
    const writes: Promise<number>[] = [];
    for (const [chunk, blocks] of changed) {
      if (chunk >= map.chunkCount) continue;
      if (blocks === 'all') whole.push(chunk);
      else for (const run of blockRuns(blocks)) writes.push(this.#writeRun(map, run));
    }
    whole.sort((a, b) => a - b);
    if (whole.length > 0) {
      writes.push(this.writeChunks(whole, (chunk, into, at) => encodeChunk(map, chunk, into, at)));
    }
    const [only] = writes;
    if (only !== undefined && writes.length === 1) return only;
    const failures = await Promise.all(writes);
    return failures.find((errno) => errno !== 0) ?? 0;
  }

  /** Records of one chunk, next to each other. */
  #writeRun(map: BlockMap, { first, count }: BlockRun): Promise<number> {
    const bytes = Buffer.allocUnsafe(count * RECORD_BYTES);
    for (let index = 0; index < count; index += 1) {
      const block = first + index;
      const record = { present: map.mask(block), dirty: map.dirtyMask(block), sum: map.sum(block) };
      encodeRecord(block, record, bytes, index * RECORD_BYTES);
    }
    return this.#io.write(this.fd, recordOffset(first), bytes);
  }

  /** Makes the records of blocks [first, end) say that nothing is present. Errno. */
  async clearRecords(first: number, end: number): Promise<number> {
    const most = WINDOW_CHUNKS * CHUNK_BLOCKS;
    // Where there are holes they stay, so that it takes no room.
    if (end - first > most) return this.changeRecords(first, end, () => noRecord);
    for (let block = first; block < end; block += most) {
      const bytes = Buffer.alloc(Math.min(most, end - block) * RECORD_BYTES);
      const errno = await this.#io.write(this.fd, recordOffset(block), bytes);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /**
   * Replaces the records of blocks [first, end) by what `change` makes of them; one that is not to
   * be believed becomes an empty one. Errno.
   */
  async changeRecords(
    first: number,
    end: number,
    change: (block: number, record: BlockRecord) => BlockRecord,
  ): Promise<number> {
    const most = WINDOW_CHUNKS * CHUNK_BLOCKS;
    for (let from = first; from < end; from += most) {
      const bytes = Buffer.alloc(Math.min(most, end - from) * RECORD_BYTES);
      const read = await this.#io.read(this.fd, recordOffset(from), bytes);
      if (read.errno !== 0) return read.errno;
      bytes.fill(0, read.got);
      // Where there are holes they stay, so that it takes no room.
      if (bytes.equals(emptyWindow.subarray(0, bytes.length))) continue;
      for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
        const block = from + at / RECORD_BYTES;
        const record = decodeRecord(block, bytes, at) ?? noRecord;
        encodeRecord(block, change(block, record), bytes, at);
      }
      const errno = await this.#io.write(this.fd, recordOffset(from), bytes);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  sync(): Promise<number> {
    return this.#io.sync(this.fd);
  }

  truncate(chunkCount: number): Promise<number> {
    return this.#io.truncate(this.fd, mapFileBytes(chunkCount));
  }
}

export function chunkCountOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / (CHUNK_BLOCKS * BLOCK_BYTES));
}

interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** Blocks, in any order, as runs of neighbours. */
function blockRuns(blocks: readonly number[]): BlockRun[] {
  if (blocks.length === 1) return [{ first: blocks[0] ?? 0, count: 1 }];
  const runs: { first: number; count: number }[] = [];
  let last: { first: number; count: number } | undefined;
  for (const block of [...blocks].sort((a, b) => a - b)) {
    if (last !== undefined && block === last.first + last.count) {
      last.count += 1;
    } else {
      last = { first: block, count: 1 };
      runs.push(last);
    }
  }
  return runs;
}

function recordOffset(block: number): number {
  return MAP_HEADER_BYTES + block * RECORD_BYTES;
}

/** Numbers as they are in memory: all hosts that we run on are little endian. */
function wordsOf(bytes: Buffer, at: number): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset + at, CHUNK_BYTES / 4);
}

function putRecord(
  words: Uint32Array,
  index: number,
  block: number,
  present: number,
  dirty: number,
  sum: number,
): void {
  const word = index * RECORD_WORDS;
  const pages = (present | (dirty << 16)) >>> 0;
  words[word] = pages;
  words[word + 1] = sum;
  words[word + 2] = checkOf(block, pages, sum >>> 0);
  words[word + 3] = 0;
}

function isNothing(words: Uint32Array, word: number): boolean {
  return words[word] === 0 && words[word + 1] === 0 && words[word + 2] === 0;
}

/** Whether `encodeChunk` could have written the record. */
function isWhole(words: Uint32Array, word: number, block: number): boolean {
  const pages = words[word] ?? 0;
  const sum = words[word + 1] ?? 0;
  const present = pages & 0xffff;
  const dirty = pages >>> 16;
  return (
    present !== 0 &&
    (dirty & ~present) === 0 &&
    (dirty !== present || sum === 0) &&
    words[word + 2] === checkOf(block, pages, sum) &&
    words[word + 3] === 0
  );
}

/**
 * Steps that can be undone one by one (MurmurHash3's finalizer between words), so that two records
 * of one block that differ in one word never have one check, and others one time in 2^32.
 */
function checkOf(block: number, pages: number, sum: number): number {
  return mixed(mixed(mixed(block ^ 0x47564653) ^ pages) ^ sum) >>> 0;
}

function mixed(value: number): number {
  let mix = value;
  mix = Math.imul(mix ^ (mix >>> 16), 0x85ebca6b);
  mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
  return mix ^ (mix >>> 16);
}
