/**
 * The files of one image, and the order in which they reach the disk.
 *
 *   data        the bytes, at their own offsets; a hole where a page is absent or zero
 *   map         the live records: believed by the next daemon of the same boot
 *   map.synced  records of bytes that fdatasync had made durable: all that is believed after a boot
 *   info        whose and of which content; 'writing' in it: nothing at all is believed
 *
 *              markWriting (durable)
 *   settled ---------------------------> writing      replace, drop: the directory leaves its
 *      ^                                    |          name; what is open lives on until close
 *      +------------------------------------+
 *        settle: marks, sync, then info
 *
 * Invariants:
 *  - C1: a record is written after the bytes that it tells of, and to `map.synced` after these are
 *    durable: a record whose block lost a mark meanwhile is left out. Marks are cleared in memory,
 *    in `map` and (durably) in `map.synced` before `clearDurably` resolves with 0.
 *  - C2: nothing is believed unless info, map headers and the length of `data` agree with each
 *    other and with the server's file; the rest is set aside, and `why` says so. Bytes are bound
 *    by the sums, which whoever uses a block for the first time has to check.
 *  - C3 (clean pages): after another boot id only `map.synced` is believed. `map.synced` holds a
 *    record only if the info that goes with it is durable.
 *  - C9: no descriptor is closed, and no file reached by one is changed, by `replace` or `drop`.
 *  - An fdatasync that failed once is not asked again: the kernel answers 0 the second time though
 *    the bytes are lost. The image can be dropped, and nothing of it becomes durable any more.
 */
import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import type { FileHandle } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Attributes, ContentStamp } from '../vfs/ports.ts';
import type { BlockMap, ChangedChunks, LostBlocks } from './block-map.ts';
import type { ExportDirectory } from './export-directory.ts';
import { fileIdOf } from './file-id.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { encodeInfo, type ImageInfo, type ImageState } from './info-file.ts';
import { Lane } from './lane.ts';
import { localFailure } from './local-failure.ts';
import {
  CHUNK_BYTES,
  encodeChunk,
  type MapFile,
  type MapHeader,
  RECORD_BYTES,
} from './map-file.ts';
import type { PathIo } from './path-io.ts';
import { type ImageFiles, makeImageFiles, takeUpImageFiles } from './take-up.ts';

export interface ImageAbout {
  /** From the export's root, for people. */
  readonly path: string;
  /** The wall clock, ms since 1970: when the image was used. */
  readonly nowMs: number;
}

/** How an image was found at open. 'setAside': there was something, which is not believed. */
export type Found = 'fresh' | 'kept' | 'setAside';

/** So many chunks (2 MiB of records, 16 GiB of the image) at most go with one sync of `data`. */
const SYNC_CHUNKS = 512;

export class ImageDirectory {
  readonly file: FileHandle;
  readonly fileId: string;
  readonly map: BlockMap;
  /** Open for reading and writing until `close`, whatever becomes of its name (C9). */
  readonly dataFd: number;
  readonly found: Found;
  /** Why what was kept is not believed, or only in part: a clause for people. */
  readonly why: string | undefined;

  readonly #exportDirectory: ExportDirectory;
  readonly #io: FileIo;
  readonly #paths: PathIo;
  readonly #path: string;
  readonly #live: MapFile;
  readonly #synced: MapFile;
  readonly #unsaved: ChangedChunks;
  readonly #unsynced: ChangedChunks;
  readonly #liveLane = new Lane();
  readonly #syncLane = new Lane();
  readonly #syncedLane = new Lane();
  readonly #infoLane = new Lane();
  #waitingPersist: Promise<number> | undefined;
  #info: ImageInfo;
  #infoDurable = false;
  /** Whether the export's directory is known to lead to this one after a power loss. */
  #nameDurable = false;
  /** Whether `map.synced` may hold a record: from then on 'writing' has to be durable. */
  #syncedHolds: boolean;
  /** errno of an fdatasync that failed. */
  #lostSync = 0;
  #holesTrusted: boolean;
  /** Blocks whose marks were cleared, and whose bytes were not punched (yet). */
  readonly #cleared = new Set<number>();
  #writingCalls = 0;
  /** Replaced or dropped: from then on nothing is done by name. */
  #nameless = false;
  /** And the name is taken away: else it is to be tried again. */
  #nameTaken = false;
  #closed = false;

  /**
   * Takes up what is kept if all of it agrees with `content`; else sets it aside and makes a new,
   * empty one. Waits for a `close` of the same image. An image is open at most once.
   * Err: the disk fails, and nothing can be kept.
   */
  static open(
    exportDirectory: ExportDirectory,
    file: FileHandle,
    content: Attributes,
    about: ImageAbout,
    io: FileIo,
  ): Promise<Result<ImageDirectory, FsError>> {
    const fileId = fileIdOf(file);
    return exportDirectory.exclusively(fileId, async () => {
      assert(!exportDirectory.isOpen(fileId), 'image directory: open already');
      const wanted = wantedInfo(exportDirectory, file, content, about);
      const takenUp = await takeUpImageFiles(exportDirectory, fileId, wanted, io);
      let found: Found = takenUp.kind === 'absent' ? 'fresh' : 'setAside';
      let files: ImageFiles;
      let why: string | undefined;
      if (takenUp.kind === 'kept') {
        found = 'kept';
        files = takenUp.files;
        why = takenUp.remark;
      } else {
        let pinned = false;
        if (takenUp.kind === 'unbelievable') {
          why = takenUp.why;
          pinned = takenUp.pinned;
          const errno = await exportDirectory.setAside(fileId);
          if (errno !== 0) return err(localFailure(errno, 'set aside', fileId));
        }
        const made = await makeImageFiles(exportDirectory, fileId, { ...wanted, pinned }, io);
        if (!made.ok) return made;
        files = made.value;
      }
      return ok(new ImageDirectory(exportDirectory, file, files, io, found, why));
    });
  }

  /** Of files just made or taken up: `open` and `replace` do it. */
  private constructor(
    exportDirectory: ExportDirectory,
    file: FileHandle,
    files: ImageFiles,
    io: FileIo,
    found: Found,
    why: string | undefined,
  ) {
    this.#exportDirectory = exportDirectory;
    this.#io = io;
    this.#paths = exportDirectory.paths;
    this.file = file;
    this.fileId = fileIdOf(file);
    this.#path = join(exportDirectory.path, this.fileId);
    this.map = files.map;
    this.dataFd = files.dataFd;
    this.#live = files.live;
    this.#synced = files.synced;
    this.#info = files.info;
    this.#syncedHolds = files.syncedHolds;
    this.#holesTrusted = files.holesTrusted;
    this.#unsaved = files.map.track();
    this.#unsaved.putBack(files.unsavedChunks);
    this.#unsynced = files.map.track();
    this.#unsynced.putBack(files.unsyncedChunks);
    this.found = found;
    this.why = why;
    exportDirectory.attach(this.fileId, this);
  }

  /** What to tell `FileIo.store` about pages that are absent. */
  get holes(): 'trusted' | 'punch' {
    return this.#holesTrusted && this.#cleared.size === 0 ? 'trusted' : 'punch';
  }

  /** To be called when bytes may lie in absent pages: a store failed, or was not marked. */
  distrustHoles(): void {
    this.#holesTrusted = false;
  }

  get state(): ImageState {
    return this.#info.state;
  }

  /** Which content the pages are of; while 'writing' that of the last `settle`. */
  get stamp(): ContentStamp {
    return this.#info.stamp;
  }

  get pinned(): boolean {
    return this.#info.pinned;
  }

  get lastUsedMs(): number {
    return this.#info.lastUsedMs;
  }

  /**
   * Writes the changed records of `map` to the live map. What is marked when it is called is
   * written when it resolves with 0. Calls that wait are joined. Answers errno.
   */
  persistMarks(): Promise<number> {
    this.#waitingPersist ??= this.#liveLane.run(() => {
      this.#waitingPersist = undefined;
      return this.#writeLive();
    });
    return this.#waitingPersist;
  }

  /**
   * Makes what is marked now durable: fdatasync of `data`, then the records to `map.synced`, then
   * fdatasync of that. Answers errno. May take as long as the disk needs for all unwritten bytes.
   */
  sync(): Promise<number> {
    return this.#syncLane.run(async () => {
      for (;;) {
        if (this.#lostSync !== 0) return this.#lostSync;
        const chunks = this.#unsynced.take(SYNC_CHUNKS);
        if (chunks.length === 0) return 0;
        const errno = await this.#syncChunks(chunks);
        if (errno !== 0) {
          this.#unsynced.putBack(chunks);
          return errno;
        }
        if (chunks.length < SYNC_CHUNKS) return 0;
      }
    });
  }

  /**
   * Takes the marks of all blocks that the range touches, whole blocks: in memory at once, on the
   * disk when it resolves with 0. Only then may bytes be punched, cut or overwritten. Errno else:
   * then the bytes must be left as they are. Fills of these blocks must not run meanwhile.
   */
  async clearDurably(startPage: number, endPage: number): Promise<number> {
    if (startPage >= endPage) return 0;
    const { start, end } = this.map.clear(startPage, endPage);
    const firstBlock = start / PAGES_PER_BLOCK;
    const endBlock = Math.ceil(end / PAGES_PER_BLOCK);
    for (let block = firstBlock; block < endBlock; block += 1) this.#cleared.add(block);
    const live = await this.persistMarks();
    if (live !== 0) return live;
    return this.#syncedLane.run(async () => {
      if (!this.#syncedHolds) return 0;
      if (this.#lostSync !== 0) return this.#lostSync;
      const end = Math.min(endBlock, this.map.blockCount);
      const errno = await this.#synced.clearRecords(firstBlock, end);
      return errno === 0 ? this.#durably(this.#synced.fd) : errno;
    });
  }

  /** Punches pages that `clearDurably` cleared. On an error holes are not trusted any more. */
  async discard(startPage: number, endPage: number): Promise<number> {
    const offset = startPage * PAGE_BYTES;
    const errno = await this.#io.punch(this.dataFd, offset, endPage * PAGE_BYTES - offset);
    if (errno !== 0) this.distrustHoles();
    const firstWhole = Math.ceil(startPage / PAGES_PER_BLOCK);
    const toImageEnd = endPage >= this.map.pageCount;
    const end = toImageEnd ? this.map.blockCount : Math.floor(endPage / PAGES_PER_BLOCK);
    for (let block = firstWhole; block < end; block += 1) this.#cleared.delete(block);
    return errno;
  }

  /** Cuts or extends data and maps; only in state 'writing'. Errno: drop the image. */
  async resize(sizeBytes: number): Promise<number> {
    assert(this.#info.state === 'writing', 'resize: not written to');
    // A block that is cut in the middle loses its marks, and keeps the bytes of what is left.
    const cutBlock = Math.floor(sizeBytes / BLOCK_BYTES);
    if (sizeBytes < this.map.sizeBytes && this.map.mask(cutBlock) !== 0) this.distrustHoles();
    this.map.resize(sizeBytes);
    const cut = await this.#io.truncate(this.dataFd, sizeBytes);
    if (cut !== 0) return cut;
    const live = await this.#liveLane.run(() => this.#resizeMap(this.#live));
    return live === 0 ? this.#syncedLane.run(() => this.#resizeMap(this.#synced)) : live;
  }

  /** Durably notes that bytes are going to change; at once when that is noted already. */
  markWriting(): Promise<number> {
    this.#writingCalls += 1;
    if (this.#info.state === 'writing') return Promise.resolve(0);
    return this.#infoLane.run(async () => {
      if (this.#info.state === 'writing') return 0;
      const writing: ImageInfo = { ...this.#info, state: 'writing' };
      const errno = await this.#writeInfo(writing, this.#syncedHolds);
      if (errno === 0) this.#info = writing;
      return errno;
    });
  }

  /**
   * What is marked is of `content` now: persists, syncs and says so in info. `how` 'light' leaves
   * out the waits for the disk where a power loss would find nothing to believe anyway. Does
   * nothing (0, the state stays 'writing') when `markWriting` was called meanwhile. EINVAL: the
   * image is of another size than `content`.
   */
  async settle(content: Attributes, how: 'durable' | 'light' = 'durable'): Promise<number> {
    const calls = this.#writingCalls;
    if (content.size !== this.map.sizeBytes) return Errno.EINVAL;
    const saved = await this.persistMarks();
    if (saved !== 0) return saved;
    if (how === 'durable' || this.#syncedHolds) {
      const synced = await this.sync();
      if (synced !== 0) return synced;
    }
    return this.#infoLane.run(() => {
      if (calls !== this.#writingCalls) return Promise.resolve(0);
      // Before the file is written: from now on the next markWriting has to write its own.
      this.#info = { ...this.#info, state: 'settled', stamp: stampOf(content) };
      return this.#writeInfo(this.#info, how === 'durable' || this.#syncedHolds);
    });
  }

  setPinned(pinned: boolean): Promise<number> {
    return this.#infoLane.run(() => {
      this.#info = { ...this.#info, pinned };
      return this.#writeInfo(this.#info, true);
    });
  }

  /** Only noted; written with the next info. */
  touch(lastUsedMs: number, path = this.#info.path): void {
    this.#info = { ...this.#info, lastUsedMs, path };
  }

  /** What all its files take on the disk, as du counts; what cannot be told counts nothing. */
  async allocated(): Promise<number> {
    const [opened, named] = await Promise.all([
      Promise.all([this.dataFd, this.#live.fd, this.#synced.fd].map((fd) => this.#io.size(fd))),
      Promise.all([this.#path, join(this.#path, 'info')].map((path) => this.#paths.status(path))),
    ]);
    const namedBytes = this.#nameless ? 0 : sumOf(named);
    return sumOf(opened) + namedBytes;
  }

  /**
   * The server's file has other content: a new, empty image under the same name. This one lives on
   * without a name until its `close`. Err: there is no image of this file any more.
   */
  replace(content: Attributes, about: ImageAbout): Promise<Result<ImageDirectory, FsError>> {
    return this.#exportDirectory.exclusively(this.fileId, async () => {
      const errno = await this.#leaveName();
      if (errno !== 0) return err(localFailure(errno, 'set aside', this.fileId));
      const { pinned } = this.#info;
      const info = { ...wantedInfo(this.#exportDirectory, this.file, content, about), pinned };
      const made = await makeImageFiles(this.#exportDirectory, this.fileId, info, this.#io);
      if (!made.ok) return made;
      const { file } = this;
      const { value } = made;
      return ok(
        new ImageDirectory(this.#exportDirectory, file, value, this.#io, 'fresh', undefined),
      );
    });
  }

  /**
   * Drops the image: durably out of sight; it lives on without a name until its `close`. Errno: it
   * may be found again, and should be dropped again when the disk has recovered.
   */
  drop(): Promise<number> {
    return this.#exportDirectory.exclusively(this.fileId, () => this.#leaveName());
  }

  /** `clean`: everything is written down and synced first. Nothing may be under way. */
  close(clean: boolean): Promise<void> {
    return this.#exportDirectory.exclusively(this.fileId, async () => {
      assert(!this.#closed, 'image directory: closed twice');
      this.#closed = true;
      if (clean && !this.#nameless) await this.#writeDown();
      // What is still in a lane uses the descriptors.
      const lanes = [this.#liveLane, this.#syncLane, this.#syncedLane, this.#infoLane];
      for (const lane of lanes) await lane.run(() => Promise.resolve());
      const fds = [this.dataFd, this.#live.fd, this.#synced.fd];
      await Promise.all(fds.map((fd) => this.#paths.close(fd)));
      this.#exportDirectory.detach(this.fileId, this);
    });
  }

  async #writeLive(): Promise<number> {
    // What was cut off with the image's end has no place in the file any more.
    const chunks = this.#unsaved.take().filter((chunk) => chunk < this.map.chunkCount);
    const errno = await this.#live.writeChunks(chunks, (chunk, into, at) =>
      encodeChunk(this.map, chunk, into, at),
    );
    if (errno !== 0) this.#unsaved.putBack(chunks);
    return errno;
  }

  async #syncChunks(chunks: readonly number[]): Promise<number> {
    const lost = this.map.trackLosses();
    try {
      const records = Buffer.allocUnsafe(chunks.length * CHUNK_BYTES);
      const places = new Map(chunks.map((chunk, index) => [chunk, index * CHUNK_BYTES]));
      for (const [chunk, at] of places) encodeChunk(this.map, chunk, records, at);
      const bytes = await this.#durably(this.dataFd);
      if (bytes !== 0) return bytes;
      this.#syncedHolds = true;
      const info = await this.#infoLane.run(() => this.#makeInfoDurable());
      if (info !== 0) return info;
      return await this.#syncedLane.run(() => this.#writeSynced(places, records, lost));
    } finally {
      this.map.untrackLosses(lost);
    }
  }

  async #writeSynced(
    places: ReadonlyMap<number, number>,
    records: Buffer,
    lost: LostBlocks,
  ): Promise<number> {
    const blocks = CHUNK_BYTES / RECORD_BYTES;
    const chunks = [...places.keys()].filter((chunk) => chunk < this.map.chunkCount);
    const errno = await this.#synced.writeChunks(chunks, (chunk, into, at) => {
      const from = places.get(chunk) ?? 0;
      records.copy(into, at, from, from + CHUNK_BYTES);
      for (let index = 0; index < blocks; index += 1) {
        // Bytes that came after a loss are not durable, even where the mark is the same again.
        if (!lost.has(chunk * blocks + index)) continue;
        into.fill(0, at + index * RECORD_BYTES, at + (index + 1) * RECORD_BYTES);
      }
    });
    return errno === 0 ? this.#durably(this.#synced.fd) : errno;
  }

  /** fdatasync, of which a failure is remembered. */
  async #durably(fd: number): Promise<number> {
    const errno = await this.#io.sync(fd);
    if (errno !== 0) this.#lostSync = errno;
    return errno;
  }

  async #makeInfoDurable(): Promise<number> {
    if (this.#infoDurable || this.#nameless) return 0;
    for (const place of [join(this.#path, 'info'), this.#path, this.#exportDirectory.path]) {
      const errno = await this.#paths.sync(place);
      if (errno !== 0) return errno;
    }
    this.#infoDurable = true;
    this.#nameDurable = true;
    return 0;
  }

  /** In the info lane only. */
  async #writeInfo(info: ImageInfo, durable: boolean): Promise<number> {
    if (this.#nameless) return 0;
    this.#infoDurable = false;
    const bytes = encodeInfo(info);
    const errno = await this.#exportDirectory.writeWhole(this.#path, 'info', bytes, durable);
    if (errno !== 0 || !durable) return errno;
    if (!this.#nameDurable) return this.#makeInfoDurable();
    this.#infoDurable = true;
    return 0;
  }

  async #resizeMap(map: MapFile): Promise<number> {
    const errno = await map.truncate(this.map.chunkCount);
    return errno === 0 ? map.writeHeader(this.#header(false)) : errno;
  }

  #header(clean: boolean): MapHeader {
    const { bootId } = this.#exportDirectory;
    return { fileId: this.fileId, bootId, sizeBytes: this.map.sizeBytes, clean };
  }

  #leaveName(): Promise<number> {
    return this.#infoLane.run(async () => {
      this.#nameless = true;
      if (this.#nameTaken) return 0;
      const errno = await this.#exportDirectory.setAside(this.fileId);
      if (errno === 0) this.#nameTaken = true;
      return errno;
    });
  }

  async #writeDown(): Promise<void> {
    // Failures leave less to believe, which is found out at the next open.
    if ((await this.persistMarks()) !== 0) return;
    await this.sync();
    const allocatedBytes = await this.allocated();
    await this.#infoLane.run(() => {
      this.#info = { ...this.#info, allocatedBytes, presentPages: this.map.presentPages };
      return this.#writeInfo(this.#info, this.#syncedHolds);
    });
    if (this.holes === 'trusted') {
      await this.#liveLane.run(() => this.#live.writeHeader(this.#header(true)));
    }
  }
}

function wantedInfo(
  exportDirectory: ExportDirectory,
  file: FileHandle,
  content: Attributes,
  about: ImageAbout,
): ImageInfo {
  return {
    handle: file.toString('hex'),
    export: exportDirectory.source,
    fsid: content.fsid,
    fileid: content.fileid,
    path: about.path,
    state: 'settled',
    stamp: stampOf(content),
    lastUsedMs: about.nowMs,
    pinned: false,
    allocatedBytes: 0,
    presentPages: 0,
  };
}

function stampOf({ size, mtimeNs, ctimeNs }: ContentStamp): ContentStamp {
  return { size, mtimeNs, ctimeNs };
}

function sumOf(sizes: readonly { readonly errno: number; allocatedBytes: number }[]): number {
  return sizes.reduce((sum, one) => sum + (one.errno === 0 ? one.allocatedBytes : 0), 0);
}
