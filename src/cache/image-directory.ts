/**
 * The files of one image, and the order in which they reach the disk.
 *
 *   data        the bytes, at their own offsets; a hole where a page is absent or zero
 *   map         the live records: believed by the next daemon of the same boot
 *   map.synced  records of bytes that fdatasync had made durable: all that is believed after a boot
 *   info        whose and of which content; 'writing' or 'sending' in it: no clean page is believed
 *
 *              markWriting, markSending (durable)
 *   settled ---------------------------> writing, sending   replace, drop: the directory leaves
 *      ^                                    |                its name; what is open lives on until
 *      +------------------------------------+                close
 *        settle: marks, sync, then info
 *
 *         noteUnsent (then pages may become dirty)
 *   clean ---------------------------------------> unsent   in either of the states above
 *     ^                                              |
 *     +----------------------------------------------+
 *         noteUnsent(undefined): no page is dirty, in memory and in map.synced
 *
 * Invariants:
 *  - C1: a record is written after the bytes that it tells of, and to `map.synced` after these are
 *    durable: a record whose block lost a mark meanwhile is left out. Marks are cleared in memory,
 *    in `map` and (durably) in `map.synced` before `clearDurably` or `dropDirtyDurably` resolves
 *    with 0. The size in a map's header grows after the records, and shrinks before them.
 *  - C2: nothing is believed unless info, map headers and the length of `data` agree with each
 *    other and with the server's file; the rest is set aside, and `why` says so. Bytes are bound
 *    by the sums, which whoever uses a block for the first time has to check.
 *  - C3: after another boot id only `map.synced` is believed. `map.synced` holds a record only if
 *    the info that goes with it is durable.
 *  - C4: a dirty mark is in a map only if info tells of unsent writes; it leaves them by
 *    `makeClean` and a sync, by `dropDirtyDurably` and by `resize`. An image with unsent writes
 *    that loses its name goes to `.lost`. A record of `map.synced` that has to lose clean pages
 *    keeps the dirty ones that it had.
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
import { type BlockMap, CHUNK_BLOCKS, type ChangedChunks, type LostPages } from './block-map.ts';
import type { ExportDirectory } from './export-directory.ts';
import { fileIdOf } from './file-id.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { encodeInfo, type ImageInfo, type ImageState, type UnsentNote } from './info-file.ts';
import { Lane } from './lane.ts';
import { localFailure } from './local-failure.ts';
import {
  type BlockRecord,
  CHUNK_BYTES,
  chunkCountOf,
  decodeRecord,
  encodeChunk,
  encodeRecord,
  type MapFile,
  type MapHeader,
  RECORD_BYTES,
} from './map-file.ts';
import { maskOf } from './page-range.ts';
import type { PathIo } from './path-io.ts';
import {
  type ImageFiles,
  makeImageFiles,
  type TakenUpUnsent,
  takeUpImageFiles,
} from './take-up.ts';

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
/** Of so many blocks at once it is not noted which were cleared: no hole is trusted any more. */
const MOST_CLEARED_BLOCKS = 1 << 16;

export class ImageDirectory {
  readonly file: FileHandle;
  readonly fileId: string;
  readonly map: BlockMap;
  /** Open for reading and writing until `close`, whatever becomes of its name (C9). */
  readonly dataFd: number;
  readonly found: Found;
  /** Why what was kept is not believed, or only in part: a clause for people. */
  readonly why: string | undefined;
  /** Of an image with unsent writes, of which `open` has dropped the clean marks then. */
  readonly takenUp: TakenUpUnsent;

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
  #waitingSync: Promise<number> | undefined;
  #info: ImageInfo;
  #infoDurable = false;
  /** Whether the export's directory is known to lead to this one after a power loss. */
  #nameDurable = false;
  /** Whether `map.synced` may hold a record: from then on 'writing' has to be durable. */
  #syncedHolds: boolean;
  /** Whether one of them may tell of dirty pages. */
  #syncedDirty: boolean;
  /** Sizes as the headers tell them. */
  #liveSizeBytes: number;
  #syncedSizeBytes: number;
  /** `BlockMap.writes` as it was before the last fdatasync of `data`. */
  #syncedWrites = 0;
  /** The size of `data` that was durable with that, at least. */
  #durableSizeBytes: number;
  /** Whether the mark of synced unsent writes is there for sure, or may be. */
  #markDurable = false;
  #mayBeMarked: boolean;
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
      if (takenUp.kind === 'failed') {
        return err(localFailure(takenUp.errno, 'take up', `${about.path}: ${takenUp.why}`));
      }
      let found: Found = takenUp.kind === 'absent' ? 'fresh' : 'setAside';
      let files: ImageFiles;
      let why: string | undefined;
      let unsent: TakenUpUnsent = { unsettled: false, changed: false };
      if (takenUp.kind === 'kept') {
        found = 'kept';
        ({ files, remark: why, unsent } = takenUp);
      } else {
        let pinned = false;
        if (takenUp.kind === 'unbelievable') {
          why = takenUp.why;
          pinned = takenUp.pinned;
          const lost = takenUp.unsent ? why : undefined;
          const errno = await exportDirectory.setAside(fileId, lost);
          if (errno !== 0) return err(localFailure(errno, 'set aside', fileId));
        }
        const made = await makeImageFiles(exportDirectory, fileId, { ...wanted, pinned }, io);
        if (!made.ok) return made;
        files = made.value;
      }
      return ok(new ImageDirectory(exportDirectory, file, files, io, found, why, unsent));
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
    takenUp: TakenUpUnsent,
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
    this.#syncedDirty = files.info.unsent !== undefined && files.syncedHolds;
    this.#mayBeMarked = files.info.unsent !== undefined;
    this.#liveSizeBytes = files.map.sizeBytes;
    this.#syncedSizeBytes = files.syncedSizeBytes;
    this.#durableSizeBytes = Math.min(files.syncedSizeBytes, files.map.sizeBytes);
    this.#holesTrusted = files.holesTrusted;
    this.#unsaved = files.map.track();
    this.#unsaved.putBack(files.unsavedChunks);
    this.#unsynced = files.map.track();
    this.#unsynced.putBack(files.unsyncedChunks);
    this.found = found;
    this.why = why;
    this.takenUp = takenUp;
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

  /** What `noteUnsent` noted last; undefined: the server has all of it. */
  get unsent(): UnsentNote | undefined {
    return this.#info.unsent;
  }

  /** Which content the clean pages are of; unless 'settled' that of the last `settle`. */
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
   * Writes the changed records of `map`, and its size, to the live map. What is marked when it is
   * called is written when it resolves with 0. Calls that wait are joined. Answers errno.
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
   * fdatasync of that. Where no record has changed, but bytes have, only the first. Calls that wait
   * are joined. Answers errno. May take as long as the disk needs for all unwritten bytes.
   */
  sync(): Promise<number> {
    this.#waitingSync ??= this.#syncLane.run(() => {
      this.#waitingSync = undefined;
      return this.#syncAll();
    });
    return this.#waitingSync;
  }

  /**
   * Takes the clean marks of all blocks that the range touches, whole blocks: in memory at once,
   * on the disk when it resolves with 0. Only then may bytes be punched, cut or overwritten. Errno
   * else: then the bytes must be left as they are. Fills of these blocks must not run meanwhile.
   */
  async clearDurably(startPage: number, endPage: number): Promise<number> {
    if (startPage >= endPage) return 0;
    const { start, end } = this.map.clear(startPage, endPage);
    const firstBlock = start / PAGES_PER_BLOCK;
    const endBlock = Math.ceil(end / PAGES_PER_BLOCK);
    if (endBlock - firstBlock > MOST_CLEARED_BLOCKS) this.distrustHoles();
    else for (let block = firstBlock; block < endBlock; block += 1) this.#cleared.add(block);
    const live = await this.persistMarks();
    if (live !== 0) return live;
    return this.#changeSynced(firstBlock, endBlock, (block, { dirty }) => {
      const kept = dirty & this.map.dirtyMask(block);
      return { present: kept, dirty: kept, sum: 0 };
    });
  }

  /**
   * Takes the marks of the dirty pages of the range: their bytes are nobody's any more. In memory
   * at once, on the disk when it resolves with 0; errno as for `clearDurably`.
   */
  async dropDirtyDurably(startPage: number, endPage: number): Promise<number> {
    const dropped = new Map<number, number>();
    for (const run of this.map.dirtyRuns(startPage, endPage)) {
      const end = Math.ceil(run.end / PAGES_PER_BLOCK);
      for (let block = Math.floor(run.start / PAGES_PER_BLOCK); block < end; block += 1) {
        dropped.set(block, (dropped.get(block) ?? 0) | maskOf(run, block));
      }
    }
    if (dropped.size === 0) return 0;
    for (const [block, pages] of dropped) {
      this.map.dropDirty(block, pages);
      this.#cleared.add(block);
    }
    const live = await this.persistMarks();
    if (live !== 0) return live;
    const firstBlock = Math.floor(startPage / PAGES_PER_BLOCK);
    const endBlock = Math.ceil(endPage / PAGES_PER_BLOCK);
    return this.#changeSynced(firstBlock, endBlock, (block, record) =>
      withoutPages(record, dropped.get(block) ?? 0),
    );
  }

  /**
   * Punches the absent pages of a range, after `clearDurably` or `dropDirtyDurably`. On an error
   * holes are not trusted any more.
   */
  async discard(startPage: number, endPage: number): Promise<number> {
    let errno = 0;
    for (const { start, end } of this.map.absentRuns(startPage, endPage)) {
      const length = (end - start) * PAGE_BYTES;
      const punched = await this.#io.punch(this.dataFd, start * PAGE_BYTES, length);
      if (punched !== 0) errno = punched;
    }
    if (errno !== 0) this.distrustHoles();
    const firstWhole = Math.ceil(startPage / PAGES_PER_BLOCK);
    const toImageEnd = endPage >= this.map.pageCount;
    const end = toImageEnd ? this.map.blockCount : Math.floor(endPage / PAGES_PER_BLOCK);
    for (const block of this.#cleared) {
      if (block >= firstWhole && block < end) this.#cleared.delete(block);
    }
    return errno;
  }

  /**
   * Makes the image longer, of which writes are unsent: `data` when it resolves with 0, the maps
   * with the next `persistMarks` and `sync`.
   */
  async grow(sizeBytes: number): Promise<number> {
    assert(this.#info.unsent !== undefined, 'grow: nothing is unsent');
    if (sizeBytes <= this.map.sizeBytes) return 0;
    const errno = await this.#io.truncate(this.dataFd, sizeBytes);
    // Meanwhile another may have made it longer still.
    if (errno === 0 && sizeBytes > this.map.sizeBytes) this.map.resize(sizeBytes);
    return errno;
  }

  /**
   * Cuts or extends data and maps; not in state 'settled', unless there are unsent writes. Dirty
   * pages beyond the end are dropped. Errno: drop the image.
   */
  async resize(sizeBytes: number): Promise<number> {
    const { state, unsent } = this.#info;
    assert(state !== 'settled' || unsent !== undefined, 'resize: not written to');
    if (unsent !== undefined && sizeBytes >= this.map.sizeBytes) {
      const grown = await this.grow(sizeBytes);
      return grown === 0 ? this.persistMarks() : grown;
    }
    // A block that is cut in the middle loses clean marks, and keeps the bytes of what is left.
    const cutBlock = Math.floor(sizeBytes / BLOCK_BYTES);
    if (sizeBytes < this.map.sizeBytes && this.map.mask(cutBlock) !== 0) this.distrustHoles();
    const isCut = sizeBytes < this.map.sizeBytes;
    this.map.resize(sizeBytes);
    const marks = unsent === undefined ? 0 : await this.#cutMaps(cutBlock);
    const cut = marks === 0 ? await this.#io.truncate(this.dataFd, sizeBytes) : marks;
    if (cut !== 0) {
      // What was cut off in the maps alone would come back with a longer image.
      if (isCut) this.distrustHoles();
      return cut;
    }
    const live = await this.#liveLane.run(() => this.#fitLive());
    return live === 0 ? this.#syncedLane.run(() => this.#fitSynced()) : live;
  }

  /** Durably notes that bytes are going to change; at once when that is noted already. */
  markWriting(): Promise<number> {
    return this.#markUnsettled('writing');
  }

  /** The same for WRITEs of dirty pages. */
  markSending(): Promise<number> {
    return this.#markUnsettled('sending');
  }

  /**
   * Notes what is unsent, before a page becomes dirty: 'light' is for a killed daemon, and becomes
   * durable with the next `sync`. Undefined: nothing is unsent any more; EBUSY while a page is
   * dirty. Errno: what was noted before stays.
   */
  async noteUnsent(note: UnsentNote | undefined, how: 'light' | 'durable'): Promise<number> {
    if (note === undefined) {
      if (this.#info.unsent === undefined) return 0;
      // A record that tells of dirty pages must not be left without what goes with it.
      const saved = await this.persistMarks();
      const synced = saved === 0 && this.#syncedHolds ? await this.sync() : saved;
      if (synced !== 0) return synced;
    }
    const errno = await this.#infoLane.run(async () => {
      const hadUnsent = this.#info.unsent !== undefined;
      if (note === undefined) {
        if (!hadUnsent) return 0;
        if (this.map.dirtyPages > 0 || this.#syncedDirty) return Errno.EBUSY;
      } else if (!hadUnsent && !this.#nameless) {
        const marked = await this.#exportDirectory.markUnsent(this.fileId);
        if (marked !== 0) return marked;
        this.#markDurable = false;
      }
      const noted: ImageInfo = { ...this.#info, unsent: note };
      const errno = await this.#writeInfo(noted, how === 'durable');
      if (errno !== 0) return errno;
      this.#info = noted;
      if (note === undefined && !this.#nameless) {
        await this.#exportDirectory.unmarkUnsent(this.fileId);
        this.#mayBeMarked = false;
      }
      return 0;
    });
    if (errno !== 0 || note !== undefined) return errno;
    // From now on the map files have to agree with the stamp.
    const live = await this.#liveLane.run(() => this.#fitLive());
    return live === 0 ? this.#syncedLane.run(() => this.#fitSynced()) : live;
  }

  /**
   * What is marked is of `content` now: persists, syncs and says so in info. `how` 'light' leaves
   * out the waits for the disk where a power loss would find nothing to believe anyway. Does
   * nothing (0, the state stays as it is) when `markWriting` or `markSending` was called meanwhile.
   * What is unsent stays so. EINVAL: the image is of another size than `content`; with unsent
   * writes it may be longer.
   */
  async settle(content: Attributes, how: 'durable' | 'light' = 'durable'): Promise<number> {
    const calls = this.#writingCalls;
    const mayBeLonger = this.#info.unsent !== undefined;
    const { sizeBytes } = this.map;
    const fits = mayBeLonger ? content.size <= sizeBytes : content.size === sizeBytes;
    if (!fits) return Errno.EINVAL;
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
  touch(lastUsedMs: number, path = ''): void {
    // What was known of a file stays while its place is not known.
    this.#info = { ...this.#info, lastUsedMs, path: path === '' ? this.#info.path : path };
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
   * without a name until its `close`. Err: there is no image of this file any more. One with
   * unsent writes is not removed, but put into `.lost`.
   */
  replace(content: Attributes, about: ImageAbout): Promise<Result<ImageDirectory, FsError>> {
    return this.#exportDirectory.exclusively(this.fileId, async () => {
      const errno = await this.#leaveName();
      if (errno !== 0) return err(localFailure(errno, 'set aside', this.fileId));
      const { pinned } = this.#info;
      const path = about.path === '' ? this.#info.path : about.path;
      const wanted = wantedInfo(this.#exportDirectory, this.file, content, { ...about, path });
      const info = { ...wanted, pinned };
      const made = await makeImageFiles(this.#exportDirectory, this.fileId, info, this.#io);
      if (!made.ok) return made;
      const { file } = this;
      const { value } = made;
      const takenUp = { unsettled: false, changed: false };
      return ok(
        new ImageDirectory(
          this.#exportDirectory,
          file,
          value,
          this.#io,
          'fresh',
          undefined,
          takenUp,
        ),
      );
    });
  }

  /**
   * Drops the image: durably out of sight; it lives on without a name until its `close`. Errno: it
   * may be found again, and should be dropped again when the disk has recovered. One with unsent
   * writes is not removed, but put into `.lost`.
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

  #markUnsettled(state: 'writing' | 'sending'): Promise<number> {
    this.#writingCalls += 1;
    if (this.#info.state !== 'settled') return Promise.resolve(0);
    return this.#infoLane.run(async () => {
      if (this.#info.state !== 'settled') return 0;
      const unsettled: ImageInfo = { ...this.#info, state };
      const errno = await this.#writeInfo(unsettled, this.#syncedHolds);
      if (errno === 0) this.#info = unsettled;
      return errno;
    });
  }

  async #writeLive(): Promise<number> {
    assert(this.map.dirtyPages === 0 || this.#info.unsent !== undefined, 'dirty: not noted');
    const changed = this.#unsaved.takeBlocks();
    const errno = await this.#live.writeChanged(this.map, changed);
    if (errno !== 0) this.#unsaved.putBack(changed.keys());
    if (errno !== 0 || this.#liveSizeBytes >= this.map.sizeBytes) return errno;
    return this.#fitLive();
  }

  /** In the live lane only. */
  async #fitLive(): Promise<number> {
    const { sizeBytes } = this.map;
    if (this.#liveSizeBytes === sizeBytes) return 0;
    const errno = await this.#fit(this.#live, this.#liveSizeBytes, sizeBytes);
    if (errno === 0) this.#liveSizeBytes = sizeBytes;
    return errno;
  }

  /** In the lane of the synced map only. */
  async #fitSynced(): Promise<number> {
    const isUnsent = this.#info.unsent !== undefined;
    // What is believed after a power loss: `data` is then that long.
    const most = isUnsent ? this.#durableSizeBytes : this.map.sizeBytes;
    const sizeBytes = Math.min(this.map.sizeBytes, most);
    if (this.#syncedSizeBytes === sizeBytes) return 0;
    const errno = await this.#fit(this.#synced, this.#syncedSizeBytes, sizeBytes);
    if (errno === 0) this.#syncedSizeBytes = sizeBytes;
    return errno;
  }

  /** The file is as long as its header says, at least, at any time. */
  async #fit(file: MapFile, fromBytes: number, toBytes: number): Promise<number> {
    const chunkCount = chunkCountOf(toBytes);
    const isOther = chunkCount !== chunkCountOf(fromBytes);
    if (isOther && toBytes > fromBytes) {
      const errno = await file.truncate(chunkCount);
      if (errno !== 0) return errno;
    }
    const errno = await file.writeHeader(this.#header(false, toBytes));
    return errno === 0 && isOther && toBytes < fromBytes ? file.truncate(chunkCount) : errno;
  }

  /** The image was cut in `cutBlock`: the maps say so, durably. */
  async #cutMaps(cutBlock: number): Promise<number> {
    const live = await this.#liveLane.run(() => this.#fitLive());
    const saved = live === 0 ? await this.persistMarks() : live;
    if (saved !== 0) return saved;
    const endBlock = this.map.chunkCount * CHUNK_BLOCKS;
    return this.#syncedLane.run(async () => {
      if (!this.#syncedHolds) return 0;
      if (this.#lostSync !== 0) return this.#lostSync;
      const fitted = await this.#fitSynced();
      if (fitted !== 0) return fitted;
      // The size first: what lies beyond it is not believed.
      const errno = await this.#synced.changeRecords(cutBlock, endBlock, (block, { dirty }) => {
        const kept = dirty & this.map.dirtyMask(block);
        return { present: kept, dirty: kept, sum: 0 };
      });
      return errno === 0 ? this.#durably(this.#synced.fd) : errno;
    });
  }

  /** Durably takes marks from the records of blocks [firstBlock, endBlock) of `map.synced`. */
  #changeSynced(
    firstBlock: number,
    endBlock: number,
    change: (block: number, record: BlockRecord) => BlockRecord,
  ): Promise<number> {
    return this.#syncedLane.run(async () => {
      if (!this.#syncedHolds) return 0;
      if (this.#lostSync !== 0) return this.#lostSync;
      const end = Math.min(endBlock, this.map.blockCount);
      const errno = this.#syncedDirty
        ? await this.#synced.changeRecords(firstBlock, end, change)
        : await this.#synced.clearRecords(firstBlock, end);
      return errno === 0 ? this.#durably(this.#synced.fd) : errno;
    });
  }

  async #syncAll(): Promise<number> {
    const wanted = this.map.writes;
    for (;;) {
      if (this.#lostSync !== 0) return this.#lostSync;
      const chunks = this.#unsynced.take(SYNC_CHUNKS);
      if (chunks.length === 0) break;
      const errno = await this.#syncChunks(chunks);
      if (errno !== 0) {
        this.#unsynced.putBack(chunks);
        return errno;
      }
      if (chunks.length < SYNC_CHUNKS) break;
    }
    if (this.#syncedWrites < wanted || this.#durableSizeBytes < this.map.sizeBytes) {
      const errno = await this.#syncBytes();
      if (errno !== 0) return errno;
    }
    if (this.#info.unsent !== undefined) {
      const errno = await this.#infoLane.run(() => this.#makeInfoDurable());
      if (errno !== 0) return errno;
    }
    if (this.#syncedSizeBytes !== this.map.sizeBytes) {
      const errno = await this.#syncedLane.run(async () => {
        const fitted = await this.#fitSynced();
        return fitted === 0 ? this.#durably(this.#synced.fd) : fitted;
      });
      if (errno !== 0) return errno;
    }
    if (this.map.dirtyPages === 0 && !this.#unsynced.any) this.#syncedDirty = false;
    return 0;
  }

  /** fdatasync of `data`, and with it of all writes that were told before. */
  async #syncBytes(): Promise<number> {
    const { writes, sizeBytes } = this.map;
    const errno = await this.#durably(this.dataFd);
    if (errno !== 0) return errno;
    this.#syncedWrites = writes;
    this.#durableSizeBytes = sizeBytes;
    return 0;
  }

  async #syncChunks(chunks: readonly number[]): Promise<number> {
    assert(this.map.dirtyPages === 0 || this.#info.unsent !== undefined, 'dirty: not noted');
    const lost = this.map.trackLosses();
    try {
      const records = Buffer.allocUnsafe(chunks.length * CHUNK_BYTES);
      const places = new Map(chunks.map((chunk, index) => [chunk, index * CHUNK_BYTES]));
      for (const [chunk, at] of places) encodeChunk(this.map, chunk, records, at);
      const hasDirty = this.map.dirtyPages > 0;
      const bytes = await this.#syncBytes();
      if (bytes !== 0) return bytes;
      this.#syncedHolds = true;
      this.#syncedDirty ||= hasDirty;
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
    lost: LostPages,
  ): Promise<number> {
    const chunks = [...places.keys()].filter((chunk) => chunk < this.map.chunkCount);
    const errno = await this.#synced.writeChunks(chunks, (chunk, into, at) => {
      const from = places.get(chunk) ?? 0;
      records.copy(into, at, from, from + CHUNK_BYTES);
      for (let index = 0; index < CHUNK_BLOCKS; index += 1) {
        // Bytes that came after a loss are not durable, even where the mark is the same again.
        const block = chunk * CHUNK_BLOCKS + index;
        const pages = lost.in(block);
        if (pages === 0) continue;
        const place = at + index * RECORD_BYTES;
        const record = decodeRecord(block, into, place);
        assert(record !== undefined, 'sync: a record that was not encoded');
        encodeRecord(block, withoutPages(record, pages), into, place);
      }
    });
    if (errno !== 0) return errno;
    // After the records, so that what is believed ends where all is there.
    const fitted = await this.#fitSynced();
    return fitted === 0 ? this.#durably(this.#synced.fd) : fitted;
  }

  /** fdatasync, of which a failure is remembered. */
  async #durably(fd: number): Promise<number> {
    const errno = await this.#io.sync(fd);
    if (errno !== 0) this.#lostSync = errno;
    return errno;
  }

  async #makeInfoDurable(info = this.#info): Promise<number> {
    if (this.#nameless) return 0;
    if (!this.#infoDurable) {
      for (const place of [join(this.#path, 'info'), this.#path, this.#exportDirectory.path]) {
        const errno = await this.#paths.sync(place);
        if (errno !== 0) return errno;
      }
      this.#infoDurable = true;
      this.#nameDurable = true;
    }
    if (info.unsent === undefined || this.#markDurable) return 0;
    // Headers, too: by the boot id of the live map the next daemon knows of a power loss.
    const live = await this.#durably(this.#live.fd);
    const synced = live === 0 ? await this.#durably(this.#synced.fd) : live;
    // From now on it is no debris of a power loss, whatever is found of it.
    this.#mayBeMarked = true;
    const errno = synced === 0 ? await this.#exportDirectory.markSynced(this.fileId) : synced;
    if (errno === 0) this.#markDurable = true;
    return errno;
  }

  /** In the info lane only. */
  async #writeInfo(info: ImageInfo, isDurable: boolean): Promise<number> {
    if (this.#nameless) return 0;
    this.#infoDurable = false;
    const durable = isDurable || this.#mayBeMarked;
    const bytes = encodeInfo(info);
    const errno = await this.#exportDirectory.writeWhole(this.#path, 'info', bytes, durable);
    if (errno !== 0 || !durable) return errno;
    this.#infoDurable = this.#nameDurable;
    // The name, and what goes with unsent writes.
    return info.unsent === undefined && this.#nameDurable ? 0 : this.#makeInfoDurable(info);
  }

  #header(clean: boolean, sizeBytes: number): MapHeader {
    const { bootId } = this.#exportDirectory;
    return { fileId: this.fileId, bootId, sizeBytes, clean };
  }

  #leaveName(): Promise<number> {
    return this.#infoLane.run(async () => {
      this.#nameless = true;
      if (this.#nameTaken) return 0;
      const lost =
        this.#info.unsent === undefined ? undefined : 'it was dropped, unsent writes too';
      const errno = await this.#exportDirectory.setAside(this.fileId, lost);
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
      const header = this.#header(true, this.#liveSizeBytes);
      await this.#liveLane.run(() => this.#live.writeHeader(header));
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

/** A record that must not tell of some pages any more. */
function withoutPages({ present, dirty, sum }: BlockRecord, pages: number): BlockRecord {
  const keptDirty = dirty & ~pages;
  const clean = present & ~dirty;
  // The sum of a part of the clean pages is not known.
  return (clean & pages) === 0
    ? { present: clean | keptDirty, dirty: keptDirty, sum }
    : { present: keptDirty, dirty: keptDirty, sum: 0 };
}

function stampOf({ size, mtimeNs, ctimeNs }: ContentStamp): ContentStamp {
  return { size, mtimeNs, ctimeNs };
}

function sumOf(sizes: readonly { readonly errno: number; allocatedBytes: number }[]): number {
  return sizes.reduce((sum, one) => sum + (one.errno === 0 ? one.allocatedBytes : 0), 0);
}
