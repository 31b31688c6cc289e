/** What tests of images on the disk have in common: files of a server, and an export's directory. */
import assert from 'node:assert/strict';
import type { FileHandle } from '../../src/base/brand.ts';
import type { Result } from '../../src/base/result.ts';
import { ExportDirectory, type ExportOptions } from '../../src/cache/export-directory.ts';
import { type FileIo, PAGE_BYTES } from '../../src/cache/file-io.ts';
import { ImageDirectory } from '../../src/cache/image-directory.ts';
import type { Attributes } from '../../src/vfs/ports.ts';

export const imageFile = Buffer.from('0102030405060708', 'hex') as FileHandle;
export const thisBoot = 'b0'.repeat(16);
export const nextBoot = 'b1'.repeat(16);

/** A state of the server's file: its bytes and what the server says of it. */
export interface Content {
  readonly bytes: Buffer;
  readonly attributes: Attributes;
}

export function content(bytes: Buffer, version: number): Content {
  const timeNs = 1_700_000_000_000_000_000n + BigInt(version);
  const attributes: Attributes = {
    type: 'regular',
    mode: 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    size: bytes.length,
    used: bytes.length,
    rdev: { major: 0, minor: 0 },
    fsid: 7n,
    fileid: 42n,
    atimeNs: timeNs,
    mtimeNs: timeNs,
    ctimeNs: timeNs,
  };
  return { bytes, attributes };
}

export function got<T, E>(result: Result<T, E>): T {
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.error));
  return result.value;
}

export async function openExport(
  cacheDir: string,
  io: FileIo,
  options: Partial<ExportOptions> = {},
): Promise<ExportDirectory> {
  return got(await ExportDirectory.open(exportOptions(cacheDir, io, options)));
}

export function exportOptions(
  cacheDir: string,
  io: FileIo,
  options: Partial<ExportOptions> = {},
): ExportOptions {
  return {
    cacheDir,
    io,
    server: 'server:2049',
    exportPath: '/export',
    pid: 4711,
    socket: '/run/gvfs/0.sock',
    mountpoint: '/mnt',
    bootId: thisBoot,
    ...options,
  };
}

export async function openImage(
  exportDirectory: ExportDirectory,
  { attributes }: Content,
  file = imageFile,
): Promise<ImageDirectory> {
  const about = { path: 'images/a.img', nowMs: 1_700_000_000_000 };
  const { io } = exportDirectory;
  return got(await ImageDirectory.open(exportDirectory, file, attributes, about, io));
}

/** Stores pages [start, end) of the content as a fill does, and marks them. */
export async function fill(
  image: ImageDirectory,
  io: FileIo,
  { bytes }: Content,
  start: number,
  end: number,
): Promise<void> {
  for (const run of image.map.absentRuns(start, end)) {
    const part = bytes.subarray(run.start * PAGE_BYTES, run.end * PAGE_BYTES);
    const stored = await io.store(image.dataFd, run.start * PAGE_BYTES, part, image.holes);
    assert.equal(stored.errno, 0);
    image.map.mark(run.start, run.end, stored.sums);
  }
}

/** Whatever the image calls present is of the content, and its sums say the same. */
export async function assertTrue(
  image: ImageDirectory,
  io: FileIo,
  { bytes }: Content,
): Promise<void> {
  for (let block = 0; block < image.map.blockCount; block += 1) {
    const mask = image.map.cleanMask(block);
    const { errno, sums } = await io.sums(image.dataFd, block, Uint16Array.of(mask));
    assert.deepEqual([errno, sums[0]], [0, image.map.sum(block)], `sum of block ${block}`);
  }
  for (const { start, end } of image.map.presentRuns(0, image.map.pageCount)) {
    const expected = bytes.subarray(start * PAGE_BYTES, end * PAGE_BYTES);
    const found = Buffer.alloc(expected.length);
    assert.deepEqual(await io.read(image.dataFd, start * PAGE_BYTES, found), {
      errno: 0,
      got: expected.length,
    });
    assert.ok(found.equals(expected), `pages ${start} to ${end} are not the file's`);
  }
}

/** Whether the absent pages of `data` are zeros. */
export async function absentAreZeros(image: ImageDirectory, io: FileIo): Promise<boolean> {
  for (const { start, end } of image.map.absentRuns(0, image.map.pageCount)) {
    const found = Buffer.alloc((end - start) * PAGE_BYTES);
    const { got: length } = await io.read(image.dataFd, start * PAGE_BYTES, found);
    if (!found.subarray(0, length).equals(Buffer.alloc(length))) return false;
  }
  return true;
}
