/**
 * What is unsent in an export's cache while no daemon has it, and the way to get it out without a
 * server: for files that are gone there, and for what could not be taken up (`.lost`).
 *
 * Nothing here changes the cache (C4).
 */
import { constants } from 'node:fs';
import { type FileHandle as NodeFile, open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { believedMap } from './believed-map.ts';
import type { BlockMap, PageRun } from './block-map.ts';
import { errnoOf } from './disk-health.ts';
import type { ExportDirectory } from './export-directory.ts';
import { fileIdOf } from './file-id.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { localFailure } from './local-failure.ts';

export interface UnsentKept {
  /** Its file id; of what was put aside the name that `.lost` gives it. */
  readonly id: string;
  /** CACHE/<export id>/... */
  readonly directory: string;
  /** From the export's root; '' when nothing on the disk tells. */
  readonly path: string;
  /** Of dirty pages; undefined where no map can be believed. */
  readonly unsentBytes: number | undefined;
  readonly sizeBytes: number | undefined;
  /** ms since 1970. */
  readonly sinceMs: number | undefined;
  readonly state: 'dirty' | 'sending' | 'conflict' | 'lost';
  /** Of what was put aside: why, in a clause. */
  readonly why: string | undefined;
}

/** Bytes of a file: [start, end). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface Exported {
  readonly sizeBytes: number;
  /** Only this host has them. */
  readonly unsent: readonly ByteRange[];
  /** Never fetched, or damaged since: holes in the copy. undefined: nothing tells which. */
  readonly absent: readonly ByteRange[] | undefined;
}

export async function listUnsent(from: ExportDirectory): Promise<UnsentKept[]> {
  const kept: UnsentKept[] = [];
  for (const { file, path, unsent } of await from.recovered()) {
    const id = fileIdOf(file);
    const { bytes, size, sinceMs, state } = unsent;
    const directory = join(from.path, id);
    kept.push({
      ...{ id, directory, path, unsentBytes: bytes, sizeBytes: size },
      ...{ sinceMs, state, why: undefined },
    });
  }
  for (const { path: directory, why, info } of await from.lost()) {
    const map = await mapOf(from, directory, info?.handle);
    kept.push({
      id: `.lost/${basename(directory)}`,
      directory,
      path: info?.path ?? '',
      unsentBytes: map?.dirtyBytes(),
      sizeBytes: map?.sizeBytes ?? info?.unsent?.size,
      sinceMs: info?.unsent?.sinceMs,
      state: 'lost',
      why,
    });
  }
  return kept;
}

/**
 * Copies all that is known of the file into a new file: dirty pages, and clean ones whose blocks are
 * as their sums say. Err: it exists, or one of the disks failed.
 */
export async function exportUnsent(
  from: ExportDirectory,
  kept: UnsentKept,
  to: string,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => undefined,
): Promise<Result<Exported, FsError>> {
  const handle = kept.state === 'lost' ? await handleOf(from, kept) : undefined;
  const fileId = kept.state === 'lost' ? undefined : kept.id;
  const map = await mapOf(from, kept.directory, handle, fileId);
  const data = await from.paths.open(join(kept.directory, 'data'), 'existing');
  if (data.errno !== 0) return err(localFailure(data.errno, 'open', kept.directory));
  let target: NodeFile | undefined;
  try {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    target = await open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    const copied = await new Copy(from, data.fd, target, onProgress).run(map, kept.sizeBytes);
    if (copied.ok) await target.sync();
    return copied;
  } catch (error) {
    return err(localFailure(errnoOf(error), 'write', to));
  } finally {
    await target?.close();
    await from.paths.close(data.fd);
  }
}

const PIECE_BYTES = 1 << 20;

class Copy {
  readonly #from: ExportDirectory;
  readonly #data: number;
  readonly #target: NodeFile;
  readonly #onProgress: (doneBytes: number, totalBytes: number) => void;
  readonly #piece = Buffer.alloc(PIECE_BYTES);

  constructor(
    from: ExportDirectory,
    data: number,
    target: NodeFile,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ) {
    this.#from = from;
    this.#data = data;
    this.#target = target;
    this.#onProgress = onProgress;
  }

  async run(
    map: BlockMap | undefined,
    size: number | undefined,
  ): Promise<Result<Exported, FsError>> {
    const found = await this.#from.io.size(this.#data);
    if (found.errno !== 0) return err(localFailure(found.errno, 'size', 'data'));
    if (map === undefined) {
      // Zeros may be holes or bytes: whoever has the copy has to know.
      const sizeBytes = Math.max(size ?? 0, found.sizeBytes);
      await this.#target.truncate(sizeBytes);
      const copied = await this.#range({ start: 0, end: found.sizeBytes }, sizeBytes);
      return copied === 0
        ? ok({ sizeBytes, unsent: [], absent: undefined })
        : err(localFailure(copied, 'read', 'data'));
    }
    const { sizeBytes, pageCount } = map;
    await this.#target.truncate(sizeBytes);
    const doubtful = await this.#dropDamaged(map);
    if (doubtful !== 0) return err(localFailure(doubtful, 'read', 'data'));
    const bytesOf = ({ start, end }: PageRun): ByteRange => ({
      start: start * PAGE_BYTES,
      end: Math.min(end * PAGE_BYTES, sizeBytes),
    });
    for (const run of map.presentRuns(0, pageCount)) {
      const errno = await this.#range(bytesOf(run), sizeBytes);
      if (errno !== 0) return err(localFailure(errno, 'copy', 'data'));
    }
    return ok({
      sizeBytes,
      unsent: map.dirtyRuns(0, pageCount).map(bytesOf),
      absent: map.absentRuns(0, pageCount).map(bytesOf),
    });
  }

  /** Takes clean marks off blocks that are not as their sums say (C2), in memory alone. */
  async #dropDamaged(map: BlockMap): Promise<number> {
    for (let block = 0; block < map.blockCount; block++) {
      const mask = map.cleanMask(block);
      if (mask === 0) continue;
      const read = await this.#from.io.sums(this.#data, block, Uint16Array.of(mask));
      if (read.errno !== 0 && read.errno !== Errno.EIO) return read.errno;
      if (read.errno === 0 && read.sums[0] === map.sum(block)) continue;
      map.clear(block * PAGES_PER_BLOCK, Math.min((block + 1) * PAGES_PER_BLOCK, map.pageCount));
    }
    return 0;
  }

  async #range({ start, end }: ByteRange, totalBytes: number): Promise<number> {
    for (let at = start; at < end; at += PIECE_BYTES) {
      const piece = this.#piece.subarray(0, Math.min(PIECE_BYTES, end - at));
      // Behind the end of `data` are zeros, as in its holes.
      piece.fill(0);
      const { errno } = await this.#from.io.read(this.#data, at, piece);
      if (errno !== 0) return errno;
      if (!isZero(piece)) await this.#target.write(piece, 0, piece.length, at);
      this.#onProgress(at + piece.length, totalBytes);
    }
    return 0;
  }
}

const zeros = Buffer.alloc(PIECE_BYTES);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(zeros.subarray(0, bytes.length));
}

async function handleOf(from: ExportDirectory, kept: UnsentKept): Promise<string | undefined> {
  const lost = await from.lost();
  return lost.find(({ path }) => path === kept.directory)?.info?.handle;
}

/** `handle` in hex. */
function mapOf(
  { bootId, io, paths }: ExportDirectory,
  path: string,
  handle: string | undefined,
  fileId = handle === undefined ? undefined : idOfHandle(handle),
): Promise<BlockMap | undefined> {
  if (fileId === undefined) return Promise.resolve(undefined);
  return believedMap({ path, fileId, bootId, io, paths });
}

function idOfHandle(hex: string): string {
  return fileIdOf(Buffer.from(hex, 'hex') as Parameters<typeof fileIdOf>[0]);
}

/** For callers that look for one by its path or id. */
export function notUnsent(name: string): FsError {
  return localError('ENOENT', 'recover', `nothing of ${name} is unsent`);
}
