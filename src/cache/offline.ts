/**
 * The cache while no daemon serves it: what is in it, whether it is whole, and making room.
 *
 *   openOffline ---> exports whose LOCK was free: taken until `close`
 *              '---> exports that a daemon has: who it is; ask that one
 *
 * An image is opened as a daemon would open it, with the content that its own info tells of: what
 * could not be believed then is set aside now, and said. C1: damaged blocks lose their marks
 * durably before they are punched. C4: only what is clean goes, and pinned images only by force.
 */
import { assert } from '../base/assert.ts';
import type { FileHandle } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Attributes } from '../vfs/ports.ts';
import { Catalogue, type CatalogueLine, countKeptPages } from './catalogue.ts';
import { errnoOf } from './disk-health.ts';
import { ExportDirectory, exportsIn, type LockHolder, lockHolderOf } from './export-directory.ts';
import { exportIdOf, isFileId } from './file-id.ts';
import { type FileIo, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { ImageDirectory } from './image-directory.ts';
import { decodeInfo, type ImageInfo, INFO_MOST_BYTES } from './info-file.ts';
import { localFailure } from './local-failure.ts';
import { nodePathIo } from './path-io.ts';
import { diskSizes } from './space.ts';

export interface OfflineOptions {
  readonly cacheDir: string;
  readonly io: FileIo;
  /** Written into LOCK, so that a daemon that finds it taken can say by whom. */
  readonly pid: number;
}

/** An export that could not be had. */
export interface ExportInUse {
  readonly id: string;
  /** `host:port:/export`; undefined when nothing on the disk tells. */
  readonly source: string | undefined;
  /** The daemon that has it; undefined when it is no daemon that keeps us from it. */
  readonly holder: LockHolder | undefined;
  /** A sentence. */
  readonly message: string;
}

/** How a long call is cancelled, and tells how far it is. */
export interface Watch {
  readonly signal?: AbortSignal;
  onProgress?(at: { path: string; doneBytes: number; totalBytes: number }): void;
}

export interface VerifyReport {
  readonly images: number;
  readonly checkedBytes: number;
  readonly damagedBytes: number;
  /** Images with damaged blocks: what was damaged is absent now. */
  readonly damaged: readonly { readonly path: string; readonly damagedBytes: number }[];
  /** Images of which nothing can be believed: all of them is absent now. */
  readonly setAside: readonly { readonly path: string; readonly why: string }[];
}

export interface EvictReport {
  readonly images: number;
  readonly freedBytes: number;
  readonly kept: readonly { readonly path: string; readonly why: string }[];
}

/** Which images a call is about; all when undefined. */
export type Choice = ((image: CatalogueLine) => boolean) | undefined;

/** Blocks compared in one go: an extent. */
const BLOCKS_AT_ONCE = 64;

/** Takes every export of the cache that is free. Err: there is no cache to be had there. */
export async function openOffline(
  options: OfflineOptions,
): Promise<Result<{ exports: OfflineExport[]; inUse: ExportInUse[] }, FsError>> {
  const ids = await exportsIn(options.cacheDir);
  if (!ids.ok) return ids;
  const exports: OfflineExport[] = [];
  const inUse: ExportInUse[] = [];
  for (const id of ids.value.sort()) {
    const opened = await openExport(options, id);
    if (opened.ok) exports.push(new OfflineExport(opened.value));
    else inUse.push(opened.error);
  }
  return ok({ exports, inUse });
}

/** One export, held until `close`. */
export class OfflineExport {
  readonly #directory: ExportDirectory;
  readonly #catalogue: Catalogue;
  readonly #sizes;

  constructor(directory: ExportDirectory) {
    this.#directory = directory;
    this.#sizes = diskSizes(directory.path, isFileId);
    this.#catalogue = new Catalogue({
      kept: directory,
      opened: () => undefined,
      allocated: (id) => this.#sizes.image(id),
      countPages: (id, info) => countKeptPages(directory, directory.io, id, info),
    });
  }

  get id(): string {
    return this.#directory.id;
  }

  /** `host:port:/export` */
  get source(): string {
    return this.#directory.source;
  }

  /** CACHE/<export id> */
  get path(): string {
    return this.#directory.path;
  }

  list(signal?: AbortSignal): Promise<Result<CatalogueLine[], FsError>> {
    return this.#catalogue.list(signal);
  }

  /** What the export's directory takes of the disk, as du(1) counts. */
  async allocatedBytes(): Promise<Result<number, FsError>> {
    try {
      let bytes = await this.#sizes.rest();
      for (const id of await this.#sizes.names()) bytes += await this.#sizes.image(id);
      return ok(bytes);
    } catch (error) {
      return err(localFailure(errnoOf(error), 'measure', this.path));
    }
  }

  /**
   * Compares the present blocks of the chosen images with their sums, and clears what differs or
   * cannot be read. Ends early, with what it found so far, when aborted.
   * Err: the disk failed, and damaged blocks may still be marked.
   */
  async verify(choice?: Choice, watch: Watch = {}): Promise<Result<VerifyReport, FsError>> {
    const chosen = await this.#chosen(choice, watch.signal);
    if (!chosen.ok) return chosen;
    const totalBytes = chosen.value.reduce((sum, line) => sum + line.presentBytes, 0);
    const setAside: { path: string; why: string }[] = [];
    const damaged: { path: string; damagedBytes: number }[] = [];
    let images = 0;
    let checkedBytes = 0;
    let damagedBytes = 0;
    for (const line of chosen.value) {
      if (watch.signal?.aborted === true) break;
      images++;
      const before = checkedBytes;
      const path = nameOf(line);
      const found = await this.#verifyImage(line, watch.signal, (imageBytes) => {
        checkedBytes = before + imageBytes;
        watch.onProgress?.({ path, doneBytes: checkedBytes, totalBytes });
      });
      this.#catalogue.changed(line.id);
      if (!found.ok) return found;
      if ('why' in found.value) setAside.push({ path, why: found.value.why });
      else if (found.value.damagedBytes > 0) {
        damaged.push({ path, damagedBytes: found.value.damagedBytes });
        damagedBytes += found.value.damagedBytes;
      }
    }
    await this.#directory.sweepGone();
    return ok({ images, checkedBytes, damagedBytes, damaged, setAside });
  }

  /** Removes the chosen images, pinned ones only by `force`. Ends early when aborted. */
  async evict(
    choice?: Choice,
    how: { readonly force?: boolean } & Watch = {},
  ): Promise<Result<EvictReport, FsError>> {
    const chosen = await this.#chosen(choice, how.signal);
    if (!chosen.ok) return chosen;
    const totalBytes = chosen.value.reduce((sum, line) => sum + line.allocatedBytes, 0);
    const kept: { path: string; why: string }[] = [];
    let doneBytes = 0;
    let images = 0;
    let freedBytes = 0;
    for (const line of chosen.value) {
      if (how.signal?.aborted === true) break;
      if (line.pinned && how.force !== true) kept.push({ path: nameOf(line), why: 'it is pinned' });
      else {
        const freed = await this.#catalogue.remove(line.id);
        freedBytes += freed;
        if (freed > 0) images++;
        else kept.push({ path: nameOf(line), why: 'its directory cannot be renamed' });
      }
      doneBytes += line.allocatedBytes;
      how.onProgress?.({ path: nameOf(line), doneBytes, totalBytes });
    }
    return ok({ images, freedBytes, kept });
  }

  /** Gives the lock back. */
  close(): Promise<void> {
    return this.#directory.close();
  }

  async #chosen(choice: Choice, signal?: AbortSignal): Promise<Result<CatalogueLine[], FsError>> {
    const lines = await this.#catalogue.list(signal);
    if (!lines.ok || choice === undefined) return lines;
    return ok(lines.value.filter(choice));
  }

  async #verifyImage(
    line: CatalogueLine,
    signal: AbortSignal | undefined,
    checked: (bytes: number) => void,
  ): Promise<Result<{ damagedBytes: number } | { why: string }, FsError>> {
    const described = await this.#directory.describe(line.id);
    if (!described.ok) {
      const errno = await this.#directory.drop(line.id);
      if (errno !== 0) return err(localFailure(errno, 'drop', line.id));
      return ok({ why: described.error.message });
    }
    const opened = await openKept(this.#directory, described.value);
    if (!opened.ok) return opened;
    const image = opened.value;
    try {
      if (image.found === 'setAside') return ok({ why: image.why ?? 'it is not whole' });
      return await verifyBlocks(image, this.#directory.io, signal, checked);
    } finally {
      await image.close(true);
    }
  }
}

async function openExport(
  options: OfflineOptions,
  id: string,
): Promise<Result<ExportDirectory, ExportInUse>> {
  const { cacheDir, io, pid } = options;
  const holder = await lockHolderOf(cacheDir, id);
  const source = [holder?.source, ...(await sourcesIn(cacheDir, id))]
    .map(partsOf)
    .find((parts) => parts !== undefined && exportIdOf(parts.server, parts.exportPath) === id);
  if (source === undefined) {
    const message = `${cacheDir}/${id} does not say of which export it is; it can be removed`;
    return err({ id, source: undefined, holder: undefined, message });
  }
  const opened = await ExportDirectory.open({
    cacheDir,
    ...source,
    pid,
    socket: '',
    mountpoint: '',
    io,
  });
  if (opened.ok) return opened;
  const { message } = opened.error;
  const by = opened.error.kind === 'locked' ? opened.error.holder : undefined;
  return err({ id, source: `${source.server}:${source.exportPath}`, holder: by, message });
}

/** What the first readable info says, should LOCK have been lost. */
async function sourcesIn(cacheDir: string, id: string): Promise<string[]> {
  const path = `${cacheDir}/${id}`;
  const { names } = await nodePathIo.list(path);
  for (const name of names.filter(isFileId)) {
    const { errno, bytes } = await nodePathIo.read(`${path}/${name}/info`, INFO_MOST_BYTES);
    const info = errno === 0 ? decodeInfo(bytes) : undefined;
    if (info?.ok === true) return [info.value.export];
  }
  return [];
}

function partsOf(source: string | undefined) {
  const found = /^(?<server>.+:\d+):(?<exportPath>\/.*)$/s.exec(source ?? '');
  const { server, exportPath } = found?.groups ?? {};
  return server === undefined || exportPath === undefined ? undefined : { server, exportPath };
}

/** Opens a closed image as one of the content that its info tells of; its use is not touched. */
function openKept(
  directory: ExportDirectory,
  info: ImageInfo,
): Promise<Result<ImageDirectory, FsError>> {
  const file = Buffer.from(info.handle, 'hex') as FileHandle;
  const about = { path: info.path, nowMs: info.lastUsedMs };
  return ImageDirectory.open(directory, file, contentOf(info), about, directory.io);
}

/** Only identity, size and times are known, and only they are compared. */
function contentOf({ fsid, fileid, stamp }: ImageInfo): Attributes {
  const { size, mtimeNs, ctimeNs } = stamp;
  const rdev = { major: 0, minor: 0 };
  const rest = { mode: 0, nlink: 1, uid: 0, gid: 0, used: 0, rdev, atimeNs: mtimeNs };
  return { type: 'regular', ...rest, size, fsid, fileid, mtimeNs, ctimeNs };
}

async function verifyBlocks(
  image: ImageDirectory,
  io: FileIo,
  signal: AbortSignal | undefined,
  checked: (bytes: number) => void,
): Promise<Result<{ damagedBytes: number }, FsError>> {
  const { map } = image;
  let damagedBytes = 0;
  let pages = 0;
  for (let first = 0; first < map.blockCount; first += BLOCKS_AT_ONCE) {
    if (signal?.aborted === true) break;
    const end = Math.min(first + BLOCKS_AT_ONCE, map.blockCount);
    const present = map.countPresent(first * PAGES_PER_BLOCK, pageEnd(image, end));
    if (present === 0) continue;
    const masks = Uint16Array.from({ length: end - first }, (_, i) => map.mask(first + i));
    const sums = await readableSums(io, image.dataFd, first, masks);
    if (!sums.ok) return err(localFailure(sums.error, 'read', image.fileId));
    for (const [i, mask] of masks.entries()) {
      if (mask === 0 || map.sum(first + i) === sums.value[i]) continue;
      damagedBytes += map.countPresent(...blockPages(image, first + i)) * PAGE_BYTES;
      const cleared = await clearBlock(image, first + i);
      if (cleared !== 0) return err(localFailure(cleared, 'clear', image.fileId));
    }
    pages += present;
    checked(pages * PAGE_BYTES);
  }
  return ok({ damagedBytes });
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

function nameOf(line: CatalogueLine): string {
  return line.path === '' ? line.id : line.path;
}
