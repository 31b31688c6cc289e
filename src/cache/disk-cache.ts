/**
 * The disk cache of one export: its images, and what they share.
 *
 *             open                        last close
 *   (on disk) ----> open <--------------------------> idle ----a while, or too many----> (on disk)
 *
 * An idle image stays in memory with its files open, because a file that was closed is often
 * opened again at once; it is then only taken if its stamp is still the server's. So does, from the
 * start on, the one that was used last: it is the likeliest to be asked for.
 *
 * One with unsent writes is not forgotten, whoever has it open, and is sent all the same.
 *
 * After `close` every call still resolves, on images as well, and touches nothing on the disk:
 * another daemon may have the cache by then.
 */
import type { FileHandle } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type {
  Attributes,
  CachedImage,
  ImageCache,
  ImageSource,
  KnowledgeStore,
  RecoveredFile,
} from '../vfs/ports.ts';
import {
  type CacheCounts,
  type CacheEvents,
  type CacheParts,
  noCounts,
  type Session,
  type WriteMode,
} from './cache-parts.ts';
import { Catalogue, type CatalogueLine, countKeptPages } from './catalogue.ts';
import { DiskHealth, type DiskReport, diskProbe } from './disk-health.ts';
import { Eviction, type EvictionTotals } from './eviction.ts';
import { ExportDirectory, type ExportRefusal } from './export-directory.ts';
import { type FetchCounts, FetchQueue } from './fetch-queue.ts';
import { fileIdOf, isFileId } from './file-id.ts';
import { type FileIo, PAGES_PER_BLOCK } from './file-io.ts';
import { Image, type ImageReport } from './image.ts';
import type { ImageContent } from './image-content.ts';
import type { WarmOptions } from './image-reads.ts';
import type { ImageInfo } from './info-file.ts';
import { LinkEstimate } from './link-estimate.ts';
import { localFailure } from './local-failure.ts';
import { NativeFileIo } from './native-file-io.ts';
import type { PathIo } from './path-io.ts';
import {
  type Amount,
  bytesOf,
  type DiskSizes,
  diskSizes,
  Space,
  type SpaceReport,
} from './space.ts';
import { WriteBackEngine } from './write-back/engine.ts';

export interface DiskCacheOptions {
  readonly cacheDir: string;
  /** `host:port` as mounted. */
  readonly server: string;
  readonly exportPath: string;
  readonly mountpoint: string;
  /** Of the daemon's control socket; empty without one. */
  readonly socket: string;
  readonly pid: number;
  /** How much the cache may take, and how much of the file system it leaves free. */
  readonly size: Amount;
  readonly freeFloor: Amount;
  /** false: nothing can be changed through this mount. */
  readonly changes?: boolean;
  /** Who else may write, and where programs' writes go; 'shared' and 'through' without. */
  readonly session?: Session;
  readonly write?: WriteMode;
  /** What was written so long ago is sent; 30 s. */
  readonly writebackAgeMs?: number;
  /** When more is dirty the oldest goes; 25 % of the cache's size, 1 GiB at most. */
  readonly dirtyLimit?: Amount;
  readonly clock: Clock;
  /** For tests: local files, and the id of this boot. */
  readonly io?: FileIo;
  readonly paths?: PathIo;
  readonly bootId?: string;
  /** For tests: writes and removes a file of the cache's disk, and tells sizes of it. */
  readonly probe?: () => Promise<number>;
  readonly sizes?: DiskSizes;
  /** For tests: see `CacheParts`. */
  readonly maxBacklogBytes?: number;
}

export interface CacheFigures {
  /** CACHE/<export id> */
  readonly directory: string;
  readonly disk: DiskReport;
  readonly space: SpaceReport;
  /** Bytes of reads, and blocks, since the start. */
  readonly counts: Readonly<CacheCounts>;
  readonly fetches: FetchCounts;
  readonly evicted: EvictionTotals;
  /** Directories on the disk. */
  readonly keptImages: number;
  readonly writeBack: UnsentFigures;
  /** Images in memory: open, and idle. */
  readonly openImages: number;
  readonly idleImages: number;
  readonly link: {
    readonly roundTripMs: number | undefined;
    readonly bytesPerSecond: number | undefined;
    /** Asked for and not answered; came and not given back. */
    readonly inFlightBytes: number;
    readonly heldBytes: number;
  };
}

/** What is not at the server. */
export interface UnsentFigures {
  readonly unsentBytes: number;
  readonly unsentFiles: number;
  /** Of the oldest. */
  readonly oldestMs: number | undefined;
  /** Durable at the server since the start. */
  readonly sentBytes: number;
  /** Files that could not be sent, and are tried again or wait for a command. */
  readonly failures: number;
}

const IDLE_MS = 60_000;
const IDLE_IMAGES = 64;
/** Memory that a disk slower than the network may cost; long bursts fit in. */
const MAX_BACKLOG_BYTES = 96 * 1024 * 1024;
/** Of so many the one that was used last is looked for: there may be thousands. */
const LOOKED_AT_FIRST = 64;
/** What a full disk is relieved of at once. */
const ROOM_BYTES = 64 * 1024 * 1024;
const WRITE_BACK_AGE_MS = 30_000;
const DIRTY_PART = 0.25;
const DIRTY_MOST_BYTES = 1024 * 1024 * 1024;
/** What is being sent when the cache is closed is waited for so long. */
const STOP_MS = 1_000;

export class DiskCache implements ImageCache {
  readonly knowledge: KnowledgeStore;
  readonly recovered: readonly RecoveredFile[];
  /** What sends unsent writes. */
  readonly writeBack: WriteBackEngine;
  readonly #options: DiskCacheOptions;
  readonly #events: CacheEvents;
  readonly #directory: ExportDirectory;
  readonly #io: FileIo;
  readonly #link: LinkEstimate;
  readonly #parts: CacheParts;
  readonly #eviction: Eviction;
  readonly #catalogue: Catalogue;
  readonly #images = new Map<string, Image>();
  /** Those without an open, the longest idle first. */
  readonly #idle = new Set<Image>();
  /** All that is on the disk. */
  readonly #kept: Set<string>;
  readonly #toVerify = new Set<ImageContent>();
  /** Those that write themselves down: whoever opens one again waits for it. */
  readonly #leaving = new Map<string, Promise<void>>();
  /** Work on the disk that nobody but its caller waits for. */
  readonly #working = new Set<Promise<unknown>>();
  #verifying: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Takes the lock, opens no image. Err: another daemon has it, or it cannot be used. */
  static async open(
    options: DiskCacheOptions,
    events: CacheEvents = {},
  ): Promise<Result<DiskCache, ExportRefusal>> {
    const io = options.io === undefined ? NativeFileIo.open() : ok(options.io);
    if (!io.ok) return refused(localError('ENOSYS', 'open cache', io.error));
    const { cacheDir, server, exportPath, pid, socket, mountpoint, bootId, paths } = options;
    const directory = await ExportDirectory.open({
      cacheDir,
      server,
      exportPath,
      pid,
      socket,
      mountpoint,
      changes: options.changes ?? true,
      io: io.value,
      ...(bootId === undefined ? {} : { bootId }),
      ...(paths === undefined ? {} : { paths }),
      onFailure: (error) => events.failure?.(error.message),
    });
    if (!directory.ok) {
      if (options.io === undefined) await io.value.close();
      return directory;
    }
    const sizes = options.sizes ?? diskSizes(directory.value.path, isFileId);
    try {
      const { size, freeFloor, clock } = options;
      const found = await directory.value.images();
      const kept = found.ok ? found.value : [];
      const recovered = await directory.value.recovered();
      const space = await Space.open({
        sizes,
        limit: size,
        freeFloor,
        clock,
        measured: () => cache.#eviction.poke(),
        failed: (error) => events.failure?.(`the cache's size: ${String(error)}`),
      });
      const cache = new DiskCache(
        options,
        events,
        directory.value,
        io.value,
        space,
        sizes,
        kept,
        recovered,
      );
      void space.scan();
      void directory.value.sweepGone();
      return ok(cache);
    } catch (error) {
      await directory.value.close();
      if (options.io === undefined) await io.value.close();
      return refused(localError('EIO', 'open cache', `${cacheDir}: ${String(error)}`));
    }
  }

  private constructor(
    options: DiskCacheOptions,
    events: CacheEvents,
    directory: ExportDirectory,
    io: FileIo,
    space: Space,
    sizes: DiskSizes,
    kept: readonly string[],
    recovered: readonly RecoveredFile[],
  ) {
    const { clock, write = 'through' } = options;
    this.#options = options;
    this.recovered = recovered;
    this.#kept = new Set(kept);
    this.#events = events;
    this.#directory = directory;
    this.#io = io;
    this.#link = new LinkEstimate(clock);
    const health = new DiskHealth({
      probe: options.probe ?? diskProbe(directory.path),
      clock,
      changed: (report, was) => this.#diskChanged(report, was),
    });
    const queue = new FetchQueue(this.#link);
    this.writeBack = new WriteBackEngine({
      clock,
      reads: () => queue.reads,
      policy: {
        // What an earlier daemon has left is sent in every mode.
        mode: write === 'deferred' ? 'deferred' : 'back',
        ageMs: options.writebackAgeMs ?? WRITE_BACK_AGE_MS,
        maxDirtyBytes: dirtyLimitBytes(options, space),
        mostDirtyBytes: Math.floor(space.limitBytes / 2),
      },
      events: {
        writtenBack: (path, bytes) => events.writtenBack?.({ path, bytes }),
      },
    });
    this.#parts = {
      io,
      clock,
      startedMs: clock.monotonicMs(),
      queue,
      session: options.session ?? 'shared',
      write,
      writeBack: this.writeBack,
      health,
      space,
      events,
      counts: noCounts(),
      maxBacklogBytes: options.maxBacklogBytes ?? MAX_BACKLOG_BYTES,
      storing: { bytes: 0 },
      verifyLater: (content) => this.#verifyLater(content),
      makeRoom: (bytes) => this.#makeRoom(bytes),
      evictedBytes: () => this.#eviction.totals.freedBytes,
      pinnedBytes: () => this.#pinnedBytes(),
      mayEvictAgain: () => this.#eviction.mayGoAgain(),
    };
    this.#catalogue = new Catalogue({
      kept: directory,
      opened: (id) => this.#lineOf(id),
      allocated: (id) => sizes.image(id),
      countPages: (id, info) => countKeptPages(directory, io, id, info),
    });
    this.#eviction = new Eviction({
      marks: {
        overHighBytes: () => space.overHighBytes(),
        overLowBytes: () => space.overLowBytes(),
        measure: (name) => space.measure(name),
        removed: (name) => this.#removed(name),
      },
      images: {
        open: () => [...this.#images.values()].flatMap(({ content }) => content ?? []),
        closed: () => this.#catalogue.closed(),
      },
      clock,
      events: {
        evicted: (run) => events.evicted?.(run),
        nothingToEvict: (bytes) => events.nothingToEvict?.(bytes),
      },
    });
    this.knowledge = {
      load: async () => (this.#isClosed ? undefined : this.#work(() => directory.knowledge.load())),
      save: async (bytes) =>
        this.#isClosed ? undefined : this.#work(() => directory.knowledge.save(bytes)),
      forget: async () =>
        this.#isClosed ? undefined : this.#work(() => directory.knowledge.forget()),
    };
  }

  // ---- ImageCache ---------------------------------------------------------------------------------

  async open(file: FileHandle, content: Attributes, source: ImageSource): Promise<CachedImage> {
    const id = fileIdOf(file);
    // No pause between the last look and what follows it.
    while (this.#leaving.has(id)) await this.#leaving.get(id);
    const known = this.#images.get(id);
    if (known !== undefined) {
      const wasIdle = known.opens === 0;
      this.#idle.delete(known);
      known.opened(source);
      if (wasIdle) await known.openedAgain(content);
      else await known.renewal;
      // While nobody had opened it, that was put off.
      if (known.content?.verification.isDone === false) this.#verifyLater(known.content);
      return known;
    }
    const image = this.#newImage(file, content, source);
    image.opened(source);
    if (this.#closing !== undefined) await image.leave(false);
    else await image.takeUp(content);
    return image;
  }

  isKept(file: FileHandle): Promise<boolean> {
    return Promise.resolve(this.#kept.has(fileIdOf(file)));
  }

  discardLeft(file: FileHandle): Promise<Result<void, FsError>> {
    return this.#work(() => this.#discardLeft(fileIdOf(file)));
  }

  async #discardLeft(fileId: string): Promise<Result<void, FsError>> {
    while (this.#leaving.has(fileId)) await this.#leaving.get(fileId);
    const image = this.#images.get(fileId);
    if (image !== undefined) {
      await image.renewed();
      await image.discard();
      return image.hasUnsent ? err(localError('EIO', 'discard', image.path)) : ok(undefined);
    }
    const errno = await this.#directory.drop(fileId, 'all');
    if (errno !== 0) return err(localFailure(errno, 'discard', fileId));
    this.#removed(fileId);
    this.#catalogue.changed(fileId);
    return ok(undefined);
  }

  // ---- For the daemon -----------------------------------------------------------------------------

  /**
   * Takes up the image that was used last, before anybody asks for it: when its first reader comes,
   * its files are open and its first block is checked. To be called once, at the start.
   */
  takeUpLastUsed(): Promise<void> {
    return this.#work(async () => {
      const fileId = await this.#lastUsed();
      const taken = fileId === undefined ? undefined : await this.#inMemory(fileId);
      if (taken?.ok !== true) return;
      const image = taken.value;
      await image.renewal;
      await image.content?.verification.check({ start: 0, end: PAGES_PER_BLOCK });
      if (image.opens === 0 && this.#images.get(image.fileId) === image) this.#imageClosed(image);
    });
  }

  /** CACHE/<export id> */
  get directory(): string {
    return this.#directory.path;
  }

  figures(): CacheFigures {
    const { health, space, counts, queue } = this.#parts;
    return {
      directory: this.#directory.path,
      disk: health.report(),
      space: space.report(),
      counts: { ...counts },
      fetches: queue.counts(),
      evicted: this.#eviction.totals,
      writeBack: this.#unsentFigures(),
      keptImages: this.#kept.size,
      openImages: this.#images.size - this.#idle.size,
      idleImages: this.#idle.size,
      link: {
        roundTripMs: this.#link.roundTripMs,
        bytesPerSecond: this.#link.bytesPerSecond,
        inFlightBytes: queue.inFlightBytes,
        heldBytes: queue.heldBytes,
      },
    };
  }

  /** Those that are open, or have unsent writes. */
  images(): ImageReport[] {
    return [...this.#images.values()]
      .filter(({ opens, hasUnsent }) => opens > 0 || hasUnsent)
      .map((image) => image.report());
  }

  /** All that is on the disk, open or not. */
  list(signal?: AbortSignal): Promise<Result<CatalogueLine[], FsError>> {
    return this.#catalogue.list(signal);
  }

  /** An image in memory: open, or closed not long ago. */
  find(file: FileHandle): Image | undefined {
    return this.findById(fileIdOf(file));
  }

  findById(fileId: string): Image | undefined {
    return this.#images.get(fileId);
  }

  /**
   * Drops all that is kept of an image, as far as it may go. Err: EBUSY when it is pinned or read
   * by the kernel itself. The bytes freed.
   */
  evict(fileId: string): Promise<Result<number, FsError>> {
    return this.#work(() => this.#evict(fileId));
  }

  async #evict(fileId: string): Promise<Result<number, FsError>> {
    while (this.#leaving.has(fileId)) await this.#leaving.get(fileId);
    const image = this.#images.get(fileId);
    if (image !== undefined && image.opens === 0 && !image.hasUnsent) await this.#unload(image);
    else if (image !== undefined) {
      const { pinned, held } = image.report();
      if (pinned || held) return err(busy(pinned ? 'pinned' : 'read by the kernel itself'));
      return ok(await image.evictClean());
    }
    const described = await this.#directory.describe(fileId);
    if (described.ok && described.value.pinned) return err(busy('pinned'));
    if (described.ok && described.value.unsent !== undefined)
      return err(busy('not at the server yet'));
    const freedBytes = await this.#catalogue.remove(fileId);
    if (freedBytes > 0) this.#removed(fileId);
    return ok(freedBytes);
  }

  /** A pinned image is not evicted, open or not, across mounts. Err: it is not kept. */
  setPinned(fileId: string, pinned: boolean): Promise<Result<void, FsError>> {
    return this.#withImage(fileId, async (image) => {
      const errno = await image.setPinned(pinned);
      this.#catalogue.changed(fileId);
      return errno === 0 ? ok(undefined) : err(localFailure(errno, 'pin', image.path));
    });
  }

  /** Compares what is kept of an image, open or not, with its sums. Err: it is not kept. */
  verify(
    fileId: string,
    watch: Omit<WarmOptions, 'as'> = {},
  ): Promise<Result<{ checkedBytes: number; damagedBytes: number }, FsError>> {
    return this.#withImage(fileId, async (image) => {
      const { content } = image;
      const { sizeBytes } = image.report();
      const found = await image.verify({ offset: 0, length: sizeBytes }, watch);
      const { damagedBytes } = found;
      if (content === undefined || image.content !== content) {
        return err(localError('EBUSY', 'verify', 'what is kept was replaced or closed meanwhile'));
      }
      return ok({ checkedBytes: found.presentBytes + damagedBytes, damagedBytes });
    });
  }

  /** This daemon is about to end: a newcomer may ask for the cache. */
  async draining(): Promise<void> {
    if (this.#closing === undefined) await this.#work(() => this.#directory.setState('draining'));
  }

  /** Writes everything down, and gives the cache back. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  // ---- Private ------------------------------------------------------------------------------------

  get #isClosed(): boolean {
    return this.#closing !== undefined;
  }

  async #close(): Promise<void> {
    const { health, space } = this.#parts;
    this.#toVerify.clear();
    // First: who waits for room may wait for what is to be sent.
    await this.writeBack.stop(STOP_MS);
    await this.#eviction.close();
    const { changes = true } = this.#options;
    await Promise.all([...this.#images.values()].map((image) => image.leave(changes)));
    this.#images.clear();
    this.#idle.clear();
    await Promise.all(this.#leaving.values());
    while (this.#working.size > 0) await Promise.allSettled(this.#working);
    await this.#verifying;
    await space.close();
    health.close();
    await this.#directory.close();
    if (this.#options.io === undefined) await this.#io.close();
  }

  /** A closed image is taken up by what the disk says of it, and is idle then. */
  #withImage<T>(
    fileId: string,
    run: (image: Image) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, FsError>> {
    return this.#work(async () => {
      const image = await this.#inMemory(fileId);
      if (!image.ok) return image;
      // It does not become too old while we are at it.
      this.#idle.delete(image.value);
      await image.value.renewal;
      const result = await run(image.value);
      if (image.value.opens === 0 && this.#images.get(fileId) === image.value) {
        this.#imageClosed(image.value);
      }
      return result;
    });
  }

  async #inMemory(fileId: string): Promise<Result<Image, FsError>> {
    while (this.#leaving.has(fileId)) await this.#leaving.get(fileId);
    let image = this.#images.get(fileId);
    if (image === undefined) {
      const described = await this.#directory.describe(fileId);
      if (!described.ok) return described;
      if (this.#closing !== undefined) return err(localError('EBUSY', 'cache', 'it is closed'));
      while (this.#leaving.has(fileId)) await this.#leaving.get(fileId);
      image = this.#images.get(fileId) ?? this.#takeUpClosed(described.value);
    }
    return ok(image);
  }

  /** One that was not settled is left to whoever opens it with what the server says of it. */
  async #lastUsed(): Promise<string | undefined> {
    let last: string | undefined;
    let lastUsedMs = Number.NEGATIVE_INFINITY;
    for (const fileId of [...this.#kept].slice(0, LOOKED_AT_FIRST)) {
      const described = await this.#directory.describe(fileId);
      if (!described.ok) continue;
      const info = described.value;
      // With unsent writes it is taken up by whoever sends them.
      if (info.state !== 'settled' || info.unsent !== undefined) continue;
      if (info.lastUsedMs <= lastUsedMs) continue;
      ({ lastUsedMs } = info);
      last = fileId;
    }
    return last;
  }

  #work<T>(work: () => Promise<T>): Promise<T> {
    const working = work().finally(() => this.#working.delete(working));
    this.#working.add(working);
    return working;
  }

  #takeUpClosed(info: ImageInfo): Image {
    const file = Buffer.from(info.handle, 'hex') as FileHandle;
    const image = this.#newImage(file, asAttributes(info), sourceOf(info));
    void image.takeUp(asAttributes(info), info.lastUsedMs);
    return image;
  }

  #newImage(file: FileHandle, content: Attributes, source: ImageSource): Image {
    const image = new Image(this.#parts, this.#directory, file, content, source, (closed) =>
      this.#imageClosed(closed),
    );
    this.#images.set(image.fileId, image);
    this.#kept.add(image.fileId);
    this.#catalogue.changed(image.fileId);
    return image;
  }

  #removed(fileId: string): void {
    this.#kept.delete(fileId);
    this.#parts.space.removed(fileId);
  }

  #imageClosed(image: Image): void {
    if (this.#closing !== undefined || image.hasUnsent) return;
    if (this.#images.get(image.fileId) !== image) return;
    this.#idle.add(image);
    this.#parts.clock.after(IDLE_MS, () => this.#unloadOld(image));
    for (const oldest of this.#idle) {
      if (this.#idle.size <= IDLE_IMAGES) break;
      void this.#unload(oldest);
    }
    this.#eviction.mayGoAgain();
  }

  #unloadOld(image: Image): void {
    // It may have been opened and closed again meanwhile: a minute too early does no harm.
    if (this.#idle.has(image) && !image.hasUnsent && this.#closing === undefined) {
      void this.#unload(image);
    }
  }

  #unload(image: Image): Promise<void> {
    const { fileId } = image;
    this.#idle.delete(image);
    this.#images.delete(fileId);
    const leaving = image.leave(false).then(async () => {
      this.#catalogue.changed(fileId);
      if (this.#closing === undefined) await this.#parts.space.measure(fileId);
      this.#leaving.delete(fileId);
    });
    this.#leaving.set(fileId, leaving);
    return leaving;
  }

  #lineOf(id: string) {
    const image = this.#images.get(id);
    const content = image?.content;
    if (image === undefined || content === undefined) return undefined;
    const { path, sizeBytes, presentBytes, pinned } = image.report();
    const { state, lastUsedMs } = content.directory;
    const line = {
      path,
      sizeBytes,
      presentBytes,
      pinned,
      lastUsedMs,
      state,
      unsent: image.hasUnsent,
    };
    return image.opens === 0 ? { ...line, idle: true as const } : line;
  }

  /** C7: what is clean goes; then what is dirty is sent, so that it may go. */
  async #makeRoom(bytes: number): Promise<number> {
    const freedBytes = await this.#eviction.makeRoom(bytes);
    if (freedBytes >= bytes || this.#closing !== undefined) return freedBytes;
    if ((await this.writeBack.makeClean(bytes - freedBytes)) === 0) return freedBytes;
    return freedBytes + (await this.#eviction.makeRoom(bytes - freedBytes));
  }

  #unsentFigures(): UnsentFigures {
    const { sentBytes, failures } = this.writeBack.figures();
    const nowMs = this.#parts.clock.monotonicMs();
    let unsentBytes = 0;
    let unsentFiles = 0;
    let oldestMs: number | undefined;
    for (const { dirty, hasUnsent } of this.#images.values()) {
      if (!hasUnsent) continue;
      unsentBytes += dirty.dirtyBytes;
      unsentFiles++;
      oldestMs = Math.max(oldestMs ?? 0, nowMs - (dirty.dirtySinceMs ?? nowMs));
    }
    return { unsentBytes, unsentFiles, oldestMs, sentBytes, failures: failures.length };
  }

  async #pinnedBytes(): Promise<number> {
    const { space } = this.#parts;
    const open = [...this.#images.values()].filter((image) => image.content?.pinned === true);
    const closed = (await this.#catalogue.closed()).filter((image) => image.pinned);
    const names = [...open.map((image) => image.fileId), ...closed.map(({ name }) => name)];
    return names.reduce((sum, name) => sum + space.allocatedBytes(name), 0);
  }

  #diskChanged(report: DiskReport, was: DiskReport['state']): void {
    this.#events.disk?.(report, was);
    if (this.#closing !== undefined) return;
    const { health } = this.#parts;
    if (report.state === 'full') {
      void this.#makeRoom(ROOM_BYTES).then(() => health.roomMade());
    }
    if (report.state === 'healthy') {
      for (const image of this.#images.values()) image.diskIsBack();
    }
  }

  #verifyLater(content: ImageContent): void {
    // What nobody has opened yet is checked when somebody does.
    const image = this.#images.get(content.directory.fileId);
    if (this.#closing !== undefined || image?.wasOpened !== true) return;
    this.#toVerify.add(content);
    this.#verifying ??= this.#verify().finally(() => {
      this.#verifying = undefined;
      for (const more of this.#toVerify) return this.#verifyLater(more);
    });
  }

  /** One part after the other, and as long a pause after each: nobody waits for it. */
  async #verify(): Promise<void> {
    const { clock } = this.#parts;
    // Not in the constructor of the content that calls.
    await Promise.resolve();
    for (const content of this.#toVerify) {
      while (!content.retired && content.map.complete && this.#closing === undefined) {
        const part = content.verification.nextUnchecked();
        if (part === undefined) break;
        const beganMs = clock.monotonicMs();
        await content.verification.check(part);
        await pause(clock, clock.monotonicMs() - beganMs);
      }
      this.#toVerify.delete(content);
    }
  }
}

function dirtyLimitBytes({ dirtyLimit }: DiskCacheOptions, space: Space): number {
  if (dirtyLimit === undefined) return Math.min(DIRTY_PART * space.limitBytes, DIRTY_MOST_BYTES);
  return bytesOf(dirtyLimit, { totalBytes: space.limitBytes, availableBytes: 0 });
}

/** As far as the disk knows them: enough to take the image up again. */
function asAttributes(info: ImageInfo): Attributes {
  const { size, mtimeNs, ctimeNs } = info.stamp;
  return {
    type: 'regular',
    mode: 0,
    nlink: 1,
    uid: 0,
    gid: 0,
    size,
    used: size,
    rdev: { major: 0, minor: 0 },
    fsid: info.fsid,
    fileid: info.fileid,
    atimeNs: mtimeNs,
    mtimeNs,
    ctimeNs,
  };
}

/** Of an image that the file system has not opened: nothing is fetched for it. */
function sourceOf(info: ImageInfo): ImageSource {
  return {
    fetch: () => Promise.resolve(err(localError('EIO', 'fetch', 'the file is not open'))),
    attributes: () => undefined,
    path: () => info.path,
  };
}

function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

function busy(why: string): FsError {
  return localError('EBUSY', 'evict', why);
}

function refused(error: FsError): Result<never, ExportRefusal> {
  return err({ kind: 'refused', error, message: error.message });
}
