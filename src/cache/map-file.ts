/**
 * The map file of an image, format 1: a header of 4096 bytes, then a record of 8 bytes for each
 * block. All numbers are little endian.
 *
 *   header    0  8  magic "GVFSMAP\n"           record   0  2  present: bit i is page i
 *             8  4  version, 1                           2  2  dirty: 0 in version 1
 *            12  4  page size, 4096                      4  4  sum of the block
 *            16  4  block size, 65536
 *            20  4  flags: bit 0 clean
 *            24 16  file id
 *            40 16  boot id
 *            56  8  size of the image in bytes
 *            64  4  CRC-32 of the 64 bytes before
 *
 * The file is as long as whole chunks of 512 records are; where nothing is present it has holes.
 *
 * Invariants:
 *  - C2: the sum in a record is the linear CRC-32C of the present pages, with a value made of the
 *    presence bits mixed in. It binds bytes and bits: a flip in either is seen at first use.
 *  - What cannot be told for sure is not believed: a header that is not wholly as expected, a
 *    record that this version does not write.
 *  - A chunk is written with one pwrite of an aligned page, so that a killed daemon leaves none
 *    half written; a record lies within a sector, so that a power loss does not either.
 */
import { crc32 } from 'node:zlib';
import { err, ok, type Result } from '../base/result.ts';
import { type BlockMap, CHUNK_BLOCKS } from './block-map.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES } from './file-io.ts';
import { errnoName } from './local-failure.ts';

export const MAP_VERSION = 1;
export const MAP_HEADER_BYTES = 4096;
export const RECORD_BYTES = 8;
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
const emptyChunk = Buffer.alloc(CHUNK_BYTES);

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

/** The records of a chunk, in `into` from `at` on, which is a multiple of 4 in memory. */
export function encodeChunk(map: BlockMap, chunk: number, into: Buffer, at: number): void {
  const words = wordsOf(into, at);
  const records = map.recordsOf(chunk);
  if (records === undefined) {
    words.fill(0);
    return;
  }
  const { masks, sums } = records;
  for (let index = 0; index < CHUNK_BLOCKS; index += 1) {
    const mask = masks[index] ?? 0;
    words[2 * index] = mask;
    words[2 * index + 1] = (sums[index] ?? 0) ^ bindingOf(mask);
  }
}

/**
 * Takes the records of a chunk into the map, where it has none; how many there were that are not
 * to be believed.
 */
export function decodeChunk(map: BlockMap, chunk: number, from: Buffer, at: number): number {
  const words = wordsOf(from, at);
  const masks = new Uint16Array(CHUNK_BLOCKS);
  const sums = new Uint32Array(CHUNK_BLOCKS);
  const lastBlock = map.blockCount - 1 - chunk * CHUNK_BLOCKS;
  const lastMask = map.fullMask(map.blockCount - 1);
  let refused = 0;
  for (let index = 0; index < CHUNK_BLOCKS; index += 1) {
    // Presence in the lower half, dirtiness, of which there is none, in the upper one.
    const mask = words[2 * index] ?? 0;
    const sum = words[2 * index + 1] ?? 0;
    if (mask === 0 && sum === 0) continue;
    const most = index < lastBlock ? 0xffff : index === lastBlock ? lastMask : 0;
    if (mask === 0 || (mask & ~most) !== 0) {
      refused += 1;
      continue;
    }
    masks[index] = mask;
    sums[index] = sum ^ bindingOf(mask);
  }
  map.adoptRecords(chunk, { masks, sums });
  return refused;
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

  /** The header, if it is of this file and size, and the file is as long as it must be. */
  async readHeader(fileId: string, map: BlockMap): Promise<Result<MapHeader, string>> {
    const bytes = Buffer.alloc(MAP_HEADER_BYTES);
    const { errno, got } = await this.#io.read(this.fd, 0, bytes);
    if (errno !== 0) return err(`cannot be read (${errnoName(errno)})`);
    const header = decodeMapHeader(bytes.subarray(0, got));
    if (!header.ok) return header;
    if (header.value.fileId !== fileId) return err('is of another file');
    if (header.value.sizeBytes !== map.sizeBytes) return err('is of another size');
    const size = await this.#io.size(this.fd);
    if (size.errno !== 0) return err(`cannot be read (${errnoName(size.errno)})`);
    if (size.sizeBytes !== mapFileBytes(map.chunkCount)) return err('has a wrong length');
    return header;
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

  /** Makes the records of blocks [first, end) say that nothing is present. Errno. */
  async clearRecords(first: number, end: number): Promise<number> {
    const most = WINDOW_CHUNKS * CHUNK_BLOCKS;
    for (let block = first; block < end; block += most) {
      const bytes = Buffer.alloc(Math.min(most, end - block) * RECORD_BYTES);
      const offset = MAP_HEADER_BYTES + block * RECORD_BYTES;
      const errno = await this.#io.write(this.fd, offset, bytes);
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

/** Numbers as they are in memory: all hosts that we run on are little endian. */
function wordsOf(bytes: Buffer, at: number): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset + at, CHUNK_BYTES / 4);
}

/** An odd factor makes another value of each mask, and 0 of none. */
function bindingOf(mask: number): number {
  return Math.imul(mask, 0x9e3779b1);
}
