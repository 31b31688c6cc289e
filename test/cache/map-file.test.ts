/** The map file, byte for byte. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockMap, CHUNK_BLOCKS } from '../../src/cache/block-map.ts';
import { BLOCK_BYTES, PAGE_BYTES } from '../../src/cache/file-io.ts';
import {
  CHUNK_BYTES,
  decodeChunk,
  decodeMapHeader,
  encodeChunk,
  encodeMapHeader,
  MAP_HEADER_BYTES,
  MapFile,
  mapFileBytes,
} from '../../src/cache/map-file.ts';
import { PaperDisk } from './paper-disk.ts';

const header = {
  fileId: '000102030405060708090a0b0c0d0e0f',
  bootId: 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff',
  sizeBytes: 0x0001_0203_0405,
  clean: true,
};
const goldenHeader =
  '475646534d41500a 01000000 00100000 00000100 01000000' +
  '000102030405060708090a0b0c0d0e0f f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff' +
  '0504030201000000 0f438ff2';
const goldenRecords =
  // Nothing; pages 0 and 4 with sum 0x12345678; all pages with sum 0.
  '0000 0000 00000000 1100 0000 b9429b93 ffff 0000 4f8679db';

function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

describe('map file', () => {
  it('has this header', () => {
    const bytes = encodeMapHeader(header);
    assert.equal(bytes.length, MAP_HEADER_BYTES);
    const golden = bytesOf(goldenHeader);
    assert.equal(bytes.toString('hex', 0, golden.length), golden.toString('hex'));
    assert.ok(bytes.subarray(golden.length).every((byte) => byte === 0));
    const read = decodeMapHeader(Buffer.concat([golden, Buffer.alloc(4096 - golden.length)]));
    assert.deepEqual(read, { ok: true, value: header });
  });

  it('has these records', () => {
    const map = new BlockMap(5 * BLOCK_BYTES);
    map.restore(1, 0x0011, 0x12345678);
    map.restore(2, 0xffff, 0);
    const bytes = Buffer.alloc(CHUNK_BYTES + 16, 0xee);
    encodeChunk(map, 0, bytes, 8);
    const golden = bytesOf(goldenRecords);
    assert.equal(bytes.toString('hex', 8, 8 + golden.length), golden.toString('hex'));
    assert.ok(bytes.subarray(8 + golden.length, 8 + CHUNK_BYTES).every((byte) => byte === 0));
    assert.equal(bytes[7], 0xee);
    assert.equal(bytes[8 + CHUNK_BYTES], 0xee);
    const read = new BlockMap(5 * BLOCK_BYTES);
    assert.equal(decodeChunk(read, 0, bytes, 8), 0);
    assert.deepEqual([read.mask(1), read.sum(1)], [0x0011, 0x12345678]);
    assert.deepEqual([read.mask(2), read.sum(2), read.presentPages], [0xffff, 0, 18]);
  });

  it('believes no header with a flipped bit, a cut one, or one of another version', () => {
    const bytes = encodeMapHeader(header);
    for (let bit = 0; bit < 68 * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(decodeMapHeader(flipped).ok, false, `bit ${bit}`);
    }
    assert.equal(decodeMapHeader(bytes.subarray(0, 4095)).ok, false);
    const later = Buffer.from(bytes);
    later.writeUInt32LE(2, 8);
    assert.deepEqual(decodeMapHeader(later), { ok: false, error: 'is of version 2' });
  });

  it('binds presence and sum: a flipped bit of either makes another sum of the bytes', () => {
    const map = new BlockMap(BLOCK_BYTES);
    map.restore(0, 0x00ff, 0xcafe_f00d);
    const bytes = Buffer.alloc(CHUNK_BYTES);
    encodeChunk(map, 0, bytes, 0);
    for (let bit = 0; bit < 64; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const read = new BlockMap(BLOCK_BYTES);
      const refused = decodeChunk(read, 0, flipped, 0);
      const isDirtyBit = bit >= 16 && bit < 32;
      assert.equal(refused, isDirtyBit ? 1 : 0, `bit ${bit}`);
      if (isDirtyBit) assert.equal(read.presentPages, 0);
      else assert.notEqual(read.sum(0), 0xcafe_f00d, `bit ${bit}`);
    }
  });

  it('believes no record that it does not write', () => {
    const records = ['0100 0100 00000000', '0000 0000 01000000', '0400 0000 00000000'];
    for (const record of records) {
      // Two pages: bit 2 is beyond the end.
      const map = new BlockMap(PAGE_BYTES + 1);
      const bytes = Buffer.alloc(CHUNK_BYTES);
      bytesOf(record).copy(bytes);
      assert.equal(decodeChunk(map, 0, bytes, 0), 1, record);
      assert.equal(map.presentPages, 0);
    }
  });

  it('reads only chunks that hold something, and writes neighbours at once', async () => {
    const disk = new PaperDisk();
    const { fd } = await disk.paths.open('/map', 'empty');
    const file = new MapFile(fd, disk.io);
    const chunkCount = 200;
    const map = new BlockMap(chunkCount * CHUNK_BLOCKS * BLOCK_BYTES);
    assert.equal(await file.format({ ...header, sizeBytes: map.sizeBytes }, chunkCount), 0);
    assert.ok((await file.readHeader(header.fileId, map)).ok);
    const filled = [3, 4, 5, 70, 199];
    for (const chunk of filled) map.restore(chunk * CHUNK_BLOCKS + 7, 1, chunk);
    const before = disk.effects;
    const encode = (chunk: number, into: Buffer, at: number) => encodeChunk(map, chunk, into, at);
    assert.equal(await file.writeChunks(filled, encode), 0);
    assert.equal(disk.effects - before, 3);
    const read: number[] = [];
    await file.readChunks(chunkCount, (chunk) => read.push(chunk));
    assert.deepEqual(read, filled);
    assert.equal(await file.clearRecords(4 * CHUNK_BLOCKS + 7, 5 * CHUNK_BLOCKS + 8), 0);
    read.length = 0;
    await file.readChunks(chunkCount, (chunk) => read.push(chunk));
    assert.deepEqual(read, [3, 70, 199]);
    assert.equal(disk.fileAt('/map').bytes.length, mapFileBytes(chunkCount));
  });
});
