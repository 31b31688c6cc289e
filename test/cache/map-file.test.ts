/** The map file, byte for byte. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockMap, CHUNK_BLOCKS } from '../../src/cache/block-map.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import {
  CHUNK_BYTES,
  decodeChunk,
  decodeMapHeader,
  decodeRecord,
  encodeChunk,
  encodeMapHeader,
  encodeRecord,
  MAP_HEADER_BYTES,
  MapFile,
  mapFileBytes,
  RECORD_BYTES,
} from '../../src/cache/map-file.ts';
import { PaperDisk } from './paper-disk.ts';

const header = {
  fileId: '000102030405060708090a0b0c0d0e0f',
  bootId: 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff',
  sizeBytes: 0x0001_0203_0405,
  clean: true,
};
const goldenHeader =
  '475646534d41500a 02000000 00100000 00000100 01000000' +
  '000102030405060708090a0b0c0d0e0f f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff' +
  '0504030201000000 767730d4';
const goldenRecords =
  // Nothing; pages 0 and 4 with sum 0x12345678; all pages with sum 0; page 1 is dirty, too; only
  // dirty pages.
  '0000 0000 00000000 00000000 00000000 1100 0000 78563412 9f0235fc 00000000' +
  'ffff 0000 00000000 ecd66988 00000000 1300 0200 78563412 dfee6b9d 00000000' +
  '0080 0080 00000000 6ebe7d29 00000000';

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
    map.restore(3, 0x0013, 0x12345678, 0x0002);
    map.restore(4, 0x8000, 0, 0x8000);
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
    assert.deepEqual([read.mask(2), read.sum(2), read.dirtyMask(2)], [0xffff, 0, 0]);
    assert.deepEqual([read.mask(3), read.sum(3), read.dirtyMask(3)], [0x13, 0x12345678, 2]);
    assert.deepEqual([read.mask(4), read.sum(4), read.dirtyMask(4)], [0x8000, 0, 0x8000]);
    assert.deepEqual([read.presentPages, read.dirtyPages], [22, 2]);
    const block = { present: 0x13, dirty: 2, sum: 0x12345678 };
    assert.deepEqual(decodeRecord(3, bytes, 8 + 3 * RECORD_BYTES), block);
    const one = Buffer.alloc(RECORD_BYTES);
    encodeRecord(3, block, one, 0);
    assert.ok(one.equals(bytes.subarray(8 + 3 * RECORD_BYTES, 8 + 4 * RECORD_BYTES)));
    encodeRecord(3, { present: 0, dirty: 0, sum: 0 }, one, 0);
    assert.deepEqual(decodeRecord(3, one, 0), { present: 0, dirty: 0, sum: 0 });
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
    later.writeUInt32LE(3, 8);
    assert.deepEqual(decodeMapHeader(later), { ok: false, error: 'is of version 3' });
  });

  it('C4: sees any two flipped bits of a record, or one of another block', () => {
    const size = CHUNK_BLOCKS * BLOCK_BYTES;
    const map = new BlockMap(size);
    for (const [present, sum, dirty] of [
      [0x00ff, 0xcafe_f00d, 0],
      [0x00ff, 0xcafe_f00d, 0x0080],
      [0x0001, 0, 0x0001],
    ] as const) {
      map.restore(5, present, sum, dirty);
      const bytes = Buffer.alloc(CHUNK_BYTES);
      encodeChunk(map, 0, bytes, 0);
      const at = 5 * RECORD_BYTES;
      const flip = (into: Buffer, bit: number) => {
        into.writeUInt8(into.readUInt8(at + (bit >> 3)) ^ (1 << (bit & 7)), at + (bit >> 3));
      };
      for (let one = 0; one < 8 * RECORD_BYTES; one += 1) {
        for (let other = one; other < 8 * RECORD_BYTES; other += 1) {
          const flipped = Buffer.from(bytes);
          flip(flipped, one);
          if (other !== one) flip(flipped, other);
          const read = new BlockMap(size);
          assert.equal(decodeChunk(read, 0, flipped, 0), 1, `bits ${one} and ${other}`);
          assert.equal(read.presentPages, 0);
          assert.equal(decodeRecord(5, flipped, at), undefined);
        }
      }
      bytes.copy(bytes, at + RECORD_BYTES, at, at + RECORD_BYTES);
      bytes.copy(bytes, 0, at, at + RECORD_BYTES);
      const read = new BlockMap(size);
      assert.equal(decodeChunk(read, 0, bytes, 0), 2);
      assert.deepEqual([read.mask(5), read.dirtyMask(5)], [present, dirty]);
      map.dropDirty(5, dirty);
      map.clear(5 * PAGES_PER_BLOCK, 6 * PAGES_PER_BLOCK);
    }
  });

  it('believes no record that it does not write', () => {
    const records = [
      { present: 0x0001, dirty: 0x0003, sum: 0 },
      { present: 0x0001, dirty: 0x0001, sum: 7 },
    ];
    for (const record of records) {
      const bytes = Buffer.alloc(CHUNK_BYTES);
      encodeRecord(0, record, bytes, 0);
      const map = new BlockMap(BLOCK_BYTES);
      assert.equal(decodeChunk(map, 0, bytes, 0), 1, JSON.stringify(record));
      assert.equal(map.presentPages, 0);
    }
    const bytes = Buffer.alloc(CHUNK_BYTES);
    bytes.writeUInt32LE(1, 4);
    assert.equal(decodeChunk(new BlockMap(BLOCK_BYTES), 0, bytes, 0), 1);
  });

  it('leaves out what lies beyond the end, and clean pages with a sum of that', () => {
    const bytes = Buffer.alloc(CHUNK_BYTES);
    encodeRecord(0, { present: 0x000f, dirty: 0x000c, sum: 9 }, bytes, 0);
    encodeRecord(1, { present: 0x0001, dirty: 0x0001, sum: 0 }, bytes, RECORD_BYTES);
    const three = new BlockMap(2 * PAGE_BYTES + 1);
    assert.equal(decodeChunk(three, 0, bytes, 0), 0);
    assert.deepEqual([three.mask(0), three.dirtyMask(0), three.sum(0)], [7, 4, 9]);
    const one = new BlockMap(1);
    assert.equal(decodeChunk(one, 0, bytes, 0), 0);
    assert.deepEqual([one.mask(0), one.presentPages], [0, 0]);
  });

  it('changes single records, over more than are read at once', async () => {
    const disk = new PaperDisk();
    const { fd } = await disk.paths.open('/map', 'empty');
    const file = new MapFile(fd, disk.io);
    const chunkCount = 130;
    const map = new BlockMap(chunkCount * CHUNK_BLOCKS * BLOCK_BYTES);
    assert.equal(await file.format({ ...header, sizeBytes: map.sizeBytes }, chunkCount), 0);
    const blocks = [7, 8, 9, 70 * CHUNK_BLOCKS, 129 * CHUNK_BLOCKS];
    for (const block of blocks) map.restore(block, 3, block, 2);
    const encode = (chunk: number, into: Buffer, at: number) => encodeChunk(map, chunk, into, at);
    assert.equal(await file.writeChunks([0, 70, 129], encode), 0);
    const seen: number[] = [];
    const errno = await file.changeRecords(8, map.blockCount, (block, record) => {
      if (record.present !== 0) seen.push(block);
      return { present: record.dirty, dirty: record.dirty, sum: 0 };
    });
    assert.equal(errno, 0);
    assert.deepEqual(seen, blocks.slice(1));
    const read = new BlockMap(map.sizeBytes);
    await file.readChunks(chunkCount, (chunk, bytes, at) => decodeChunk(read, chunk, bytes, at));
    assert.deepEqual([read.mask(7), read.sum(7)], [3, 7]);
    for (const block of blocks.slice(1))
      assert.deepEqual([read.mask(block), read.sum(block)], [2, 0]);
  });

  it('writes only changed records, neighbours at once, and nothing beyond the end', async () => {
    const disk = new PaperDisk();
    const { fd } = await disk.paths.open('/map', 'empty');
    const file = new MapFile(fd, disk.io);
    const map = new BlockMap(3 * CHUNK_BLOCKS * BLOCK_BYTES);
    assert.equal(await file.format({ ...header, sizeBytes: map.sizeBytes }, 3), 0);
    const blocks = [9, 3, 4, CHUNK_BLOCKS, 2 * CHUNK_BLOCKS];
    for (const block of [...blocks, 5]) map.restore(block, 3, block, 2);
    const before = disk.effects;
    const changed = new Map<number, readonly number[] | 'all'>([
      [2, 'all'],
      [0, [9, 3, 4]],
      [1, [CHUNK_BLOCKS]],
      [3, 'all'],
      [4, [4 * CHUNK_BLOCKS]],
    ]);
    assert.equal(await file.writeChanged(map, changed), 0);
    assert.equal(disk.effects - before, 4);
    const read = new BlockMap(map.sizeBytes);
    await file.readChunks(3, (chunk, bytes, at) => decodeChunk(read, chunk, bytes, at));
    const record = (of: BlockMap, block: number) => [
      of.mask(block),
      of.dirtyMask(block),
      of.sum(block),
    ];
    for (const block of blocks) assert.deepEqual(record(read, block), record(map, block));
    assert.equal(read.mask(5), 0);
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
