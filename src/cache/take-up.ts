/**
 * Opening the files of one image: what is found is believed only if all of it agrees.
 *
 *   info missing, damaged, of another version or file                         nothing is believed
 *   of another content, 'writing', 'sending'                                  dirty pages are
 *   data missing or of another length than info says                          nothing is believed
 *   map of this boot, and whole                                               map is believed
 *   else map.synced, if whole                                                 map.synced is
 *   neither                                                                   nothing is believed
 *
 * With unsent writes the believed map says how long the image is; `data` may be longer, by a write
 * that was not acknowledged, and is cut. A map of this boot that is damaged has no substitute then:
 * what was acknowledged since the last sync is in it alone.
 *
 * Invariants: C2 and C3 as above. C4: what has unsent writes, or may have, and is not believed, is
 * told from the rest, so that it is kept for people. Whatever of `map` and `map.synced` was not
 * believed is made anew, under a temporary name, before anything else is done with the image.
 */
import { join } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import type { FsError } from '../errors/fs-error.ts';
import { BlockMap } from './block-map.ts';
import type { ExportDirectory } from './export-directory.ts';
import type { FileIo } from './file-io.ts';
import { decodeInfo, encodeInfo, type ImageInfo, INFO_MOST_BYTES, sameStamp } from './info-file.ts';
import { errnoName, localFailure } from './local-failure.ts';
import { CHUNK_BYTES, decodeChunk, encodeChunk, MapFile, type MapHeader } from './map-file.ts';
import { isOursAlone } from './ownership.ts';

/** The open files of an image, and what is known of them. */
export interface ImageFiles {
  readonly info: ImageInfo;
  readonly map: BlockMap;
  readonly dataFd: number;
  readonly live: MapFile;
  readonly synced: MapFile;
  /** Whether `map.synced` may hold a record. */
  readonly syncedHolds: boolean;
  /** As its header says. */
  readonly syncedSizeBytes: number;
  /** Whether absent pages are holes in `data`. */
  readonly holesTrusted: boolean;
  /** Chunks in which `map`, and `map.synced`, differ from what is in memory. */
  readonly unsavedChunks: readonly number[];
  readonly unsyncedChunks: readonly number[];
}

/** Of an image with unsent writes: why only its dirty pages are believed, if so. */
export interface TakenUpUnsent {
  /** Its daemon ended in the middle of a change. */
  readonly unsettled: boolean;
  /** It did not, but the server's file is another one than the clean pages were of (C6). */
  readonly changed: boolean;
}

export type TakenUp =
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'kept';
      readonly files: ImageFiles;
      readonly remark: string | undefined;
      readonly unsent: TakenUpUnsent;
    }
  /** There are unsent writes, and the disk fails: nothing is said of what is kept. */
  | { readonly kind: 'failed'; readonly errno: number; readonly why: string }
  /**
   * Something is there, and has to go. `pinned`: as far as its info could be read. `unsent`: there
   * may be unsent writes in it.
   */
  | {
      readonly kind: 'unbelievable';
      readonly why: string;
      readonly pinned: boolean;
      readonly unsent: boolean;
    };

/** The files of a new, empty image as `info` says it. On an error nothing of them is left. */
export async function makeImageFiles(
  exportDirectory: ExportDirectory,
  fileId: string,
  info: ImageInfo,
  io: FileIo,
): Promise<Result<ImageFiles, FsError>> {
  const opened = new OpenedFiles(exportDirectory, fileId, io);
  const made = await makeFiles(opened, info);
  if (made.ok) return made;
  await opened.closeOthers([]);
  await exportDirectory.setAside(fileId);
  return err(localFailure(made.error, 'make', opened.path));
}

/** Takes up what is kept of the image that `wanted` says, if it is of that content. */
export async function takeUpImageFiles(
  exportDirectory: ExportDirectory,
  fileId: string,
  wanted: ImageInfo,
  io: FileIo,
): Promise<TakenUp> {
  const opened = new OpenedFiles(exportDirectory, fileId, io);
  const status = await exportDirectory.paths.status(opened.path);
  if (status.errno === Errno.ENOENT) return { kind: 'absent' };
  const mine = isOursAlone(status);
  const info = mine.ok ? await readInfo(exportDirectory, fileId) : err('');
  if (!mine.ok || !info.ok) {
    const why = mine.ok ? `info ${info.ok ? '' : info.error}` : `its directory ${mine.error}`;
    const unsent = await exportDirectory.mayHoldUnsent(fileId);
    return { kind: 'unbelievable', why, pinned: false, unsent };
  }
  const { pinned, state, stamp } = info.value;
  const isUnsent = info.value.unsent !== undefined;
  const unsettled = state !== 'settled';
  const changed = !unsettled && !sameStamp(stamp, wanted.stamp);
  const other = isSameFile(info.value, wanted)
    ? isUnsent
      ? undefined
      : contentDifference(unsettled, changed)
    : 'info is of another file';
  if (other !== undefined) {
    const unsent = isUnsent && (await exportDirectory.mayHoldUnsent(fileId));
    return { kind: 'unbelievable', why: other, pinned, unsent };
  }
  const { path, lastUsedMs } = wanted;
  const how = unsettled || changed ? 'dirty pages' : 'all';
  const files = await takeUpFiles(opened, { ...info.value, path, lastUsedMs }, how);
  if (files.ok) {
    const { dataFd, live, synced } = files.value.files;
    await opened.closeOthers([dataFd, live.fd, synced.fd]);
    return { kind: 'kept', ...files.value, unsent: { unsettled, changed } };
  }
  await opened.closeOthers([]);
  const { why, unsent, errno } = files.error;
  if (isUnsent && errno !== 0) return { kind: 'failed', errno, why };
  const mayBe = unsent || (isUnsent && (await exportDirectory.mayHoldUnsent(fileId)));
  return { kind: 'unbelievable', why, pinned, unsent: mayBe };
}

/** The info of an image, or a clause that says why it is none to believe. */
export async function readInfo(
  exportDirectory: ExportDirectory,
  fileId: string,
): Promise<Result<ImageInfo, string>> {
  const path = join(exportDirectory.path, fileId, 'info');
  const { errno, bytes } = await exportDirectory.paths.read(path, INFO_MOST_BYTES);
  if (errno === Errno.ENOENT) return err('is missing: it was not finished');
  return errno === 0 ? decodeInfo(bytes) : err(`cannot be read (${errnoName(errno)})`);
}

type Opened = { readonly errno: number; readonly fd: number };

/** The directory of an image and what was opened in it, so that a failure closes it all. */
class OpenedFiles {
  readonly exportDirectory: ExportDirectory;
  readonly fileId: string;
  readonly path: string;
  readonly io: FileIo;
  /** Of the last work on the disk that failed, other than by something that is not there. */
  errno = 0;
  readonly #fds = new Set<number>();

  constructor(exportDirectory: ExportDirectory, fileId: string, io: FileIo) {
    this.exportDirectory = exportDirectory;
    this.fileId = fileId;
    this.path = join(exportDirectory.path, fileId);
    this.io = io;
  }

  async open(name: string, how: 'existing' | 'empty'): Promise<Opened> {
    const opened = await this.exportDirectory.paths.open(join(this.path, name), how);
    if (opened.errno === 0) this.#fds.add(opened.fd);
    this.failed(opened.errno);
    return opened;
  }

  /** `errno`, which is noted. */
  failed(errno: number): number {
    if (errno !== 0 && errno !== Errno.ENOENT) this.errno = errno;
    return errno;
  }

  /** All but `kept`. */
  async closeOthers(kept: readonly number[]): Promise<void> {
    for (const fd of this.#fds) {
      if (!kept.includes(fd)) await this.exportDirectory.paths.close(fd);
    }
  }

  header(sizeBytes: number): MapHeader {
    const { bootId } = this.exportDirectory;
    return { fileId: this.fileId, bootId, sizeBytes, clean: false };
  }
}

async function makeFiles(
  opened: OpenedFiles,
  info: ImageInfo,
): Promise<Result<ImageFiles, number>> {
  const { io, exportDirectory } = opened;
  const made = await exportDirectory.paths.makeDirectory(opened.path);
  if (made !== 0) return err(made);
  const map = new BlockMap(info.stamp.size);
  const bytes = await opened.open('data', 'empty');
  if (bytes.errno !== 0) return err(bytes.errno);
  const sized = await io.truncate(bytes.fd, info.stamp.size);
  if (sized !== 0) return err(sized);
  const live = await makeMap(opened, 'map', map);
  if (!live.ok) return live;
  const synced = await makeMap(opened, 'map.synced', map);
  if (!synced.ok) return synced;
  // Last: what has no info is not believed. Not durable: there is nothing to lose yet.
  const written = await exportDirectory.writeWhole(opened.path, 'info', encodeInfo(info), false);
  if (written !== 0) return err(written);
  return ok({
    info,
    map,
    dataFd: bytes.fd,
    live: live.value,
    synced: synced.value,
    syncedHolds: false,
    syncedSizeBytes: map.sizeBytes,
    holesTrusted: true,
    unsavedChunks: [],
    unsyncedChunks: [],
  });
}

async function makeMap(
  opened: OpenedFiles,
  name: string,
  map: BlockMap,
): Promise<Result<MapFile, number>> {
  const { errno, fd } = await opened.open(name, 'empty');
  if (errno !== 0) return err(errno);
  const file = new MapFile(fd, opened.io);
  const formatted = await file.format(opened.header(map.sizeBytes), map.chunkCount);
  return formatted === 0 ? ok(file) : err(formatted);
}

function isSameFile(kept: ImageInfo, wanted: ImageInfo): boolean {
  return (
    kept.handle === wanted.handle &&
    kept.export === wanted.export &&
    kept.fsid === wanted.fsid &&
    kept.fileid === wanted.fileid
  );
}

/** Why the clean pages are not of the wanted content: a clause; undefined when they are. */
function contentDifference(unsettled: boolean, changed: boolean): string | undefined {
  if (unsettled) return 'it was being written when its daemon ended';
  return changed ? 'the file has changed on the server' : undefined;
}

/** A map file as it was found. */
interface FoundMap {
  readonly file: MapFile | undefined;
  /** Undefined when it is not to be believed. */
  readonly header: MapHeader | undefined;
  /** The boot in which it was made, believed or not. */
  readonly bootId: string | undefined;
  /** Why not. */
  readonly why: string;
}

/** The records that are believed. */
interface Believed {
  readonly from: 'map' | 'map.synced';
  readonly map: BlockMap;
  /** Chunks that hold a record which is not believed. */
  readonly damagedChunks: readonly number[];
  readonly clean: boolean;
}

/** Why the files are not believed. `unsent`: they tell of unsent writes. */
interface Disbelief {
  readonly why: string;
  readonly unsent: boolean;
  /** The disk has failed, with which errno: they may be believed later. */
  readonly errno: number;
}

async function takeUpFiles(
  opened: OpenedFiles,
  found: ImageInfo,
  how: 'all' | 'dirty pages',
): Promise<Result<{ files: ImageFiles; remark: string | undefined }, Disbelief>> {
  const remarks: string[] = [];
  const isUnsent = found.unsent !== undefined;
  const foundData = await openData(opened, found);
  if (!foundData.ok) return disbelief(foundData.error, opened.errno);
  const { fd: dataFd, info } = foundData.value;
  const sizeBytes = isUnsent ? undefined : info.stamp.size;
  const foundLive = await findMap(opened, 'map', sizeBytes);
  const foundSynced = await findMap(opened, 'map.synced', sizeBytes);
  const believed = await believe(opened, foundLive, foundSynced, isUnsent, remarks);
  if (!believed.ok) return disbelief(believed.error);
  const { map, from, damagedChunks, clean } = believed.value;
  if (damagedChunks.length > 0) {
    if (isUnsent) return disbelief(`${from} has damaged records`);
    remarks.push(`${from} has damaged records`);
  }
  if (!isUnsent && map.dirtyPages > 0) {
    return err({ why: 'it has unsent pages, of which info knows nothing', unsent: true, errno: 0 });
  }
  const fitted = await fitData(opened, dataFd, foundData.value.sizeBytes, map.sizeBytes);
  if (fitted !== undefined) return disbelief(fitted, opened.errno);
  const dropped = how === 'all' ? [] : dropCleanMarks(map);

  const live = await liveFor(opened, foundLive, believed.value, isUnsent);
  if (live === undefined) return disbelief('map cannot be written', opened.errno);
  if (isUnsent) {
    const marked = await opened.exportDirectory.markUnsent(opened.fileId);
    if (marked !== 0) return disbelief(`it cannot be marked (${errnoName(marked)})`, marked);
  }
  const compared = await compareSynced(foundSynced, map);
  if (compared === undefined) remarks.push(`map.synced ${foundSynced.why}`);
  const synced = compared?.file ?? (await remakeMap(opened, 'map.synced', emptyLike(map), true));
  if (synced === undefined) return disbelief('map.synced cannot be written', opened.errno);
  const files: ImageFiles = {
    info,
    map,
    dataFd,
    live,
    synced,
    syncedHolds: compared?.holds ?? false,
    syncedSizeBytes: compared?.sizeBytes ?? map.sizeBytes,
    holesTrusted: clean && damagedChunks.length === 0 && how === 'all',
    unsavedChunks: from === 'map' ? [...new Set([...damagedChunks, ...dropped])] : [],
    unsyncedChunks: compared?.different ?? filledChunks(map),
  };
  return ok({ files, remark: remarks.length === 0 ? undefined : remarks.join(', ') });
}

function disbelief(why: string, errno = 0): Result<never, Disbelief> {
  return err({ why, unsent: false, errno });
}

/** `info` with the time of the last unsent write, as far as it is known. */
async function openData(
  opened: OpenedFiles,
  info: ImageInfo,
): Promise<Result<{ fd: number; sizeBytes: number; info: ImageInfo }, string>> {
  const { errno, fd } = await opened.open('data', 'existing');
  if (errno !== 0) return err(`data cannot be opened (${errnoName(errno)})`);
  const size = await opened.io.size(fd);
  if (opened.failed(size.errno) !== 0) {
    return err(`data cannot be read (${errnoName(size.errno)})`);
  }
  const { sizeBytes } = size;
  const { unsent } = info;
  if (unsent === undefined) {
    return sizeBytes === info.stamp.size
      ? ok({ fd, sizeBytes, info })
      : err('data has a wrong length');
  }
  if (unsent.mtimeIsExact) return ok({ fd, sizeBytes, info });
  const { mtimeNs } = await opened.exportDirectory.paths.status(join(opened.path, 'data'));
  if (mtimeNs <= unsent.mtimeNs) return ok({ fd, sizeBytes, info });
  return ok({ fd, sizeBytes, info: { ...info, unsent: { ...unsent, mtimeNs } } });
}

/** Cuts what a write left behind that was not acknowledged; a clause if that cannot be. */
async function fitData(
  opened: OpenedFiles,
  fd: number,
  foundBytes: number,
  sizeBytes: number,
): Promise<string | undefined> {
  if (foundBytes < sizeBytes) return 'data has a wrong length';
  if (foundBytes === sizeBytes) return undefined;
  const errno = opened.failed(await opened.io.truncate(fd, sizeBytes));
  return errno === 0 ? undefined : `data cannot be cut (${errnoName(errno)})`;
}

/** The chunks that have changed. */
function dropCleanMarks(map: BlockMap): number[] {
  const changes = map.track();
  map.clear(0, map.pageCount);
  return changes.take();
}

function emptyLike(map: BlockMap): BlockMap {
  return new BlockMap(map.sizeBytes);
}

/** Without `sizeBytes` of whatever size. */
async function findMap(
  opened: OpenedFiles,
  name: string,
  sizeBytes: number | undefined,
): Promise<FoundMap> {
  const { errno, fd } = await opened.open(name, 'existing');
  if (errno !== 0) {
    const why = errno === Errno.ENOENT ? 'is missing' : `cannot be opened (${errnoName(errno)})`;
    return { file: undefined, header: undefined, bootId: undefined, why };
  }
  const file = new MapFile(fd, opened.io);
  const map = sizeBytes === undefined ? undefined : new BlockMap(sizeBytes);
  const header = await file.readHeader(opened.fileId, map);
  if (!header.ok) {
    const bootId = await file.readBootId();
    return { file, header: undefined, bootId, why: header.error };
  }
  return { file, header: header.value, bootId: header.value.bootId, why: 'cannot be read' };
}

/** C3: the live map in the boot that wrote it, else the synced one. Why not, where neither. */
async function believe(
  opened: OpenedFiles,
  live: FoundMap,
  synced: FoundMap,
  isUnsent: boolean,
  remarks: string[],
): Promise<Result<Believed, string>> {
  // In another boot `map` may be anything: it was not synced.
  if (live.bootId === undefined || live.bootId === opened.exportDirectory.bootId) {
    const records = await readRecords(live);
    const clean = live.header?.clean ?? false;
    if (records !== undefined) return ok({ from: 'map', clean, ...records });
    remarks.push(`map ${live.why}`);
    if (isUnsent) return err(remarks.join(', '));
  }
  const records = await readRecords(synced);
  if (records !== undefined) return ok({ from: 'map.synced', clean: false, ...records });
  return err([...remarks, `map.synced ${synced.why}`].join(', '));
}

async function readRecords(
  found: FoundMap,
): Promise<{ map: BlockMap; damagedChunks: number[] } | undefined> {
  if (found.file === undefined || found.header === undefined) return undefined;
  const map = new BlockMap(found.header.sizeBytes);
  const damagedChunks: number[] = [];
  const errno = await found.file.readChunks(map.chunkCount, (chunk, bytes, at) => {
    if (decodeChunk(map, chunk, bytes, at) > 0) damagedChunks.push(chunk);
  });
  return errno === 0 ? { map, damagedChunks } : undefined;
}

/**
 * The live map, of this boot, not clean, with the records that are believed. With unsent writes its
 * header has to outlive a power loss: it says that there was one.
 */
async function liveFor(
  opened: OpenedFiles,
  found: FoundMap,
  { from, map, clean }: Believed,
  durably: boolean,
): Promise<MapFile | undefined> {
  if (from === 'map.synced' || found.file === undefined) {
    return remakeMap(opened, 'map', map, durably);
  }
  // Behind a shorter image there may be what a cut has left.
  if (opened.failed(await found.file.truncate(map.chunkCount)) !== 0) return undefined;
  if (!clean) return found.file;
  const errno = opened.failed(await found.file.writeHeader(opened.header(map.sizeBytes)));
  return errno === 0 ? found.file : undefined;
}

interface ComparedMap {
  readonly file: MapFile;
  readonly sizeBytes: number;
  readonly holds: boolean;
  readonly different: readonly number[];
}

/**
 * In which chunks `map.synced` is not what is in memory: after a kill it lags behind `map`.
 * Undefined when it is not to be believed.
 */
async function compareSynced(found: FoundMap, map: BlockMap): Promise<ComparedMap | undefined> {
  if (found.file === undefined || found.header === undefined) return undefined;
  const different = new Set(filledChunks(map));
  const expected = Buffer.alloc(CHUNK_BYTES);
  const { sizeBytes } = found.header;
  let holds = sizeBytes > map.sizeBytes;
  const errno = await found.file.readChunks(map.chunkCount, (chunk, bytes, at) => {
    holds = true;
    encodeChunk(map, chunk, expected, 0);
    if (expected.compare(bytes, at, at + CHUNK_BYTES) === 0) different.delete(chunk);
    else different.add(chunk);
  });
  return errno === 0
    ? { file: found.file, sizeBytes, holds, different: [...different] }
    : undefined;
}

/** A new map file with the records of `map`, in the place of whatever was there. */
async function remakeMap(
  opened: OpenedFiles,
  name: string,
  map: BlockMap,
  durable: boolean,
): Promise<MapFile | undefined> {
  const { paths } = opened.exportDirectory;
  const made = await makeMap(opened, `${name}.new`, map);
  if (!made.ok) {
    opened.failed(made.error);
    return undefined;
  }
  const file = made.value;
  const encode = (chunk: number, into: Buffer, at: number): void =>
    encodeChunk(map, chunk, into, at);
  if (opened.failed(await file.writeChunks(filledChunks(map), encode)) !== 0) return undefined;
  if (durable && opened.failed(await file.sync()) !== 0) return undefined;
  const to = join(opened.path, name);
  if (opened.failed(await paths.rename(`${to}.new`, to)) !== 0) return undefined;
  return durable && opened.failed(await paths.sync(opened.path)) !== 0 ? undefined : file;
}

function filledChunks(map: BlockMap): number[] {
  const filled: number[] = [];
  for (let chunk = 0; chunk < map.chunkCount; chunk += 1) {
    if (!map.isEmptyChunk(chunk)) filled.push(chunk);
  }
  return filled;
}
