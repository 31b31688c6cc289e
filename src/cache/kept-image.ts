/**
 * A closed image, without the server: opened as a daemon would open it, with the content that its
 * own info tells of, so that what could not be believed then is set aside now.
 *
 * C1: damaged blocks lose their marks durably before they are punched.
 */
import { assert } from '../base/assert.ts';
import type { FileHandle } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Attributes } from '../vfs/ports.ts';
import type { ExportDirectory } from './export-directory.ts';
import { type FileIo, PAGES_PER_BLOCK } from './file-io.ts';
import { ImageDirectory } from './image-directory.ts';
import type { ImageInfo } from './info-file.ts';
import { localFailure } from './local-failure.ts';

/** Blocks compared in one go: an extent. */
const BLOCKS_AT_ONCE = 64;

/** Opens it as one of the content that its info tells of; its last use stays what it was. */
export function openKept(
  directory: ExportDirectory,
  info: ImageInfo,
): Promise<Result<ImageDirectory, FsError>> {
  const file = Buffer.from(info.handle, 'hex') as FileHandle;
  const about = { path: info.path, nowMs: info.lastUsedMs };
  return ImageDirectory.open(directory, file, contentOf(info), about, directory.io);
}

/**
 * Compares the clean pages with their sums, and clears those of blocks where they differ or cannot
 * be read; dirty pages stay (C4). `checked` is told how many bytes so far. Ends early, with what it found, when aborted. Nothing else may use
 * the image meanwhile. Err: the disk failed, and damaged blocks may still be marked.
 */
export async function verifyBlocks(
  image: ImageDirectory,
  io: FileIo,
  signal: AbortSignal | undefined,
  checked: (bytes: number) => void,
): Promise<Result<{ damagedBytes: number }, FsError>> {
  const { map } = image;
  let damagedBytes = 0;
  let checkedBytes = 0;
  for (let first = 0; first < map.blockCount; first += BLOCKS_AT_ONCE) {
    if (signal?.aborted === true) break;
    const end = Math.min(first + BLOCKS_AT_ONCE, map.blockCount);
    const present = map.presentBytes(first * PAGES_PER_BLOCK, pageEnd(image, end));
    if (present === 0) continue;
    // Dirty pages have no sum.
    const masks = Uint16Array.from({ length: end - first }, (_, i) => map.cleanMask(first + i));
    const sums = await readableSums(io, image.dataFd, first, masks);
    if (!sums.ok) return err(localFailure(sums.error, 'read', image.fileId));
    for (const [i, mask] of masks.entries()) {
      if (mask === 0 || map.sum(first + i) === sums.value[i]) continue;
      const pages = blockPages(image, first + i);
      damagedBytes += map.presentBytes(...pages) - map.dirtyBytes(...pages);
      const cleared = await clearBlock(image, first + i);
      if (cleared !== 0) return err(localFailure(cleared, 'clear', image.fileId));
    }
    checkedBytes += present;
    checked(checkedBytes);
  }
  return ok({ damagedBytes });
}

/** Only identity, size and times are known, and only they are compared. */
function contentOf({ fsid, fileid, stamp }: ImageInfo): Attributes {
  const { size, mtimeNs, ctimeNs } = stamp;
  const rdev = { major: 0, minor: 0 };
  const rest = { mode: 0, nlink: 1, uid: 0, gid: 0, used: 0, rdev, atimeNs: mtimeNs };
  return { type: 'regular', ...rest, size, fsid, fileid, mtimeNs, ctimeNs };
}

/** Undefined for a block that cannot be read; Err with errno when it is not for bad sectors. */
async function readableSums(
  io: FileIo,
  fd: number,
  first: number,
  masks: Uint16Array,
): Promise<Result<readonly (number | undefined)[], number>> {
  const { errno, sums } = await io.sums(fd, first, masks);
  if (errno === 0) return ok([...sums]);
  if (errno !== Errno.EIO) return err(errno);
  if (masks.length === 1) return ok([undefined]);
  const each: (number | undefined)[] = [];
  for (let i = 0; i < masks.length; i++) {
    const one = await readableSums(io, fd, first + i, masks.subarray(i, i + 1));
    if (!one.ok) return one;
    each.push(...one.value);
  }
  return ok(each);
}

async function clearBlock(image: ImageDirectory, block: number): Promise<number> {
  const [start, end] = blockPages(image, block);
  const errno = await image.clearDurably(start, end);
  // A punch that fails leaves bytes that nobody believes; the image knows.
  if (errno === 0) await image.discard(start, end);
  return errno;
}

function blockPages(image: ImageDirectory, block: number): [start: number, end: number] {
  assert(block < image.map.blockCount, 'verify: a block beyond the end');
  return [block * PAGES_PER_BLOCK, pageEnd(image, block + 1)];
}

function pageEnd(image: ImageDirectory, block: number): number {
  return Math.min(block * PAGES_PER_BLOCK, image.map.pageCount);
}
