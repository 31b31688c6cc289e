/**
 * The cache while no daemon serves it: what is in it, whether it is whole, and making room.
 *
 *   openOffline ---> exports whose LOCK was free: taken until `close`
 *              '---> exports that a daemon has: who it is; ask that one
 *
 * C2: what a daemon would not believe is set aside, and said. C4: only what is clean goes, and
 * pinned images only by force.
 */
import type { FileHandle } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import { Catalogue, type CatalogueLine, countKeptPages } from './catalogue.ts';
import { errnoOf } from './disk-health.ts';
import { ExportDirectory, exportsIn, type LockHolder, lockHolderOf } from './export-directory.ts';
import { exportIdOf, fileIdOf, isFileId } from './file-id.ts';
import type { FileIo } from './file-io.ts';
import { decodeInfo, INFO_MOST_BYTES } from './info-file.ts';
import { openKept, verifyBlocks } from './kept-image.ts';
import { localFailure } from './local-failure.ts';
import { type Exported, exportUnsent, listUnsent, type UnsentKept } from './offline-unsent.ts';
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
        else kept.push({ path: nameOf(line), why: whyNotRemoved(line) });
      }
      doneBytes += line.allocatedBytes;
      how.onProgress?.({ path: nameOf(line), doneBytes, totalBytes });
    }
    return ok({ images, freedBytes, kept });
  }

  /** What of its files only the cache has; those that could not be taken up among them. */
  unsent(): Promise<UnsentKept[]> {
    return listUnsent(this.#directory);
  }

  /** Copies what is known of one of these into a new file. */
  exportUnsent(
    kept: UnsentKept,
    to: string,
    onProgress?: (doneBytes: number, totalBytes: number) => void,
  ): Promise<Result<Exported, FsError>> {
    return exportUnsent(this.#directory, kept, to, onProgress);
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
    if (!described.ok) return this.#dropped(line.id, described.error.message);
    const file = Buffer.from(described.value.handle, 'hex') as FileHandle;
    if (fileIdOf(file) !== line.id) return this.#dropped(line.id, 'info is of another file');
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

  async #dropped(id: string, why: string): Promise<Result<{ why: string }, FsError>> {
    const errno = await this.#directory.drop(id);
    return errno === 0 ? ok({ why }) : err(localFailure(errno, 'drop', id));
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

function nameOf(line: CatalogueLine): string {
  return line.path === '' ? line.id : line.path;
}

function whyNotRemoved({ unsent }: CatalogueLine): string {
  return unsent ? 'it has unsent writes, see gvfs recover' : 'its directory cannot be renamed';
}
