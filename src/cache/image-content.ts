/**
 * What is kept of one content of an image: its local file, its marks, what is on its way.
 *
 * When the server's file becomes another one, an image gets another `ImageContent`; the old one
 * lives, unchanged, until the last reply that reads its file is sent (C9).
 *
 * C1  A page is marked when its bytes are in the file and no sooner; a mark is cleared durably
 *     before its bytes are punched or cut (`removeBlocks`, and `ImageDirectory` below).
 * C2  Blocks found on the disk are checked before they are used (`Verification`).
 * C4  Nothing here takes a dirty page's mark or bytes, but for `settle`: the server has it (C5).
 * C9  Bytes that a native reply reads are not punched or cut: see `RepliesInFlight`.
 *
 * All that changes bytes of the file, takes marks away, or compares bytes with their sum is in
 * the lane (`PageLane`), so that none of it sees another's half-done work.
 */
import type { Timer } from '../base/clock.ts';
import { Errno } from '../errors/errno.ts';
import type { BlockMap } from './block-map.ts';
import type { CacheParts } from './cache-parts.ts';
import { DirtyPages } from './dirty-pages.ts';
import type { Evictable } from './eviction.ts';
import { EXTENT_BYTES, ExtentUses } from './extent-uses.ts';
import type { FileIo } from './file-io.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { type FillStore, Fills } from './fills.ts';
import type { ImageDirectory } from './image-directory.ts';
import { PageLane } from './page-lane.ts';
import { blocksOf, maskOf, type PageRange } from './page-range.ts';
import { RepliesInFlight, type ReplyInFlight } from './replies-in-flight.ts';
import { UnsentState } from './unsent-state.ts';
import { Verification, type VerifiedFile } from './verification.ts';
import type { SendingRun } from './write-back/dirty-image.ts';
import { ZerosBeyond } from './zeros-beyond.ts';

/** Marks go to the live map so long after they were set: what a killed daemon fetches again. */
const PERSIST_AFTER_MS = 100;
/** And to the synced map so long after: what a host that loses its power fetches again. */
const SYNC_AFTER_MS = 10_000;
const EXTENT_PAGES = EXTENT_BYTES / PAGE_BYTES;

export interface ContentOwner {
  readonly path: string;
  /** A local change of these pages is under way: they are not to be evicted. */
  isChanging(range: PageRange): boolean;
  /** Its marks cannot be made durable any more. */
  syncFailed(content: ImageContent): void;
}

export class ImageContent implements FillStore, VerifiedFile, Evictable {
  readonly directory: ImageDirectory;
  readonly fills = new Fills(this);
  readonly lane = new PageLane();
  readonly replies = new RepliesInFlight();
  readonly uses: ExtentUses;
  readonly verification: Verification;
  readonly dirty: DirtyPages;
  readonly zeros: ZerosBeyond;
  readonly unsent: UnsentState;
  readonly #parts: CacheParts;
  readonly #owner: ContentOwner;
  /** A change of ours ended in a way that may have left the server's file longer than ours. */
  sizeIsDoubtful = false;
  /** The disk has failed with it: it is dropped when nothing of it is unsent any more. */
  mustGo = false;
  /** Found since it was taken up, by whomever. */
  damagedBytes = 0;
  #retired = false;
  #closing: Promise<void> | undefined;
  #persistTimer: Timer | undefined;
  #syncTimer: Timer | undefined;
  readonly #writing = new Set<Promise<void>>();

  /** `serverBytes`: how long the server's file is. */
  constructor(
    parts: CacheParts,
    directory: ImageDirectory,
    owner: ContentOwner,
    serverBytes: number,
  ) {
    this.#parts = parts;
    this.directory = directory;
    this.dirty = new DirtyPages(directory.map);
    this.zeros = new ZerosBeyond(serverBytes);
    this.unsent = new UnsentState(directory, parts.clock);
    this.#owner = owner;
    this.uses = new ExtentUses(parts.clock, parts.startedMs, directory.map.sizeBytes);
    this.verification = new Verification(this, directory.found === 'kept');
    if (!this.verification.isDone) parts.verifyLater(this);
  }

  get name(): string {
    return this.directory.fileId;
  }

  get map(): BlockMap {
    return this.directory.map;
  }

  get fd(): number {
    return this.directory.dataFd;
  }

  get io(): FileIo {
    return this.#parts.io;
  }

  get health(): CacheParts['health'] {
    return this.#parts.health;
  }

  get counts(): CacheParts['counts'] {
    return this.#parts.counts;
  }

  get pinned(): boolean {
    return this.directory.pinned;
  }

  get held(): boolean {
    return this.replies.isHeld;
  }

  /** It is of the past: nothing is stored or marked any more. */
  get retired(): boolean {
    return this.#retired;
  }

  /** May pages be answered from the file? */
  isServable(range: PageRange): boolean {
    return this.map.isPresent(range.start, range.end) && this.verification.isTrusted(range);
  }

  /** For statistics: the present blocks of the range are all zeros, as their sums say. */
  isZero(range: PageRange): boolean {
    const { start, end } = blocksOf(range);
    for (let page = start; page < end; page += PAGES_PER_BLOCK) {
      const block = page / PAGES_PER_BLOCK;
      if (this.map.sum(block) !== 0 || this.map.dirtyMask(block) !== 0) return false;
    }
    return true;
  }

  /** Absent pages that only the server has, in order, at most `most` runs of them. */
  absentRuns({ start, end }: PageRange, most?: number): PageRange[] {
    return this.map.absentRuns(start, Math.min(end, this.zeros.firstPage), most);
  }

  /** Absent pages that are zeros: the server's file ends before them. */
  zeroRuns({ start, end }: PageRange, most?: number): PageRange[] {
    return this.map.absentRuns(Math.max(start, this.zeros.firstPage), end, most);
  }

  /** Has the range pages whose bytes the server does not have? */
  isOurs({ start, end }: PageRange): boolean {
    if (this.map.countDirty(start, end) > 0) return true;
    return end > this.zeros.firstPage && this.zeroRuns({ start, end }, 1).length > 0;
  }

  /** Is a fetch of so many bytes worth being stored? */
  mayStore(bytes: number): boolean {
    const { space, storing } = this.#parts;
    return !this.#retired && this.health.mayStore && space.hasRoom(bytes + storing.bytes);
  }

  /** Counts a reply that reads the file; to be ended by `replies.drop`. */
  replyBegins(offset: number, length: number): ReplyInFlight {
    this.uses.touch(offset, length);
    return this.replies.hold(offset, length);
  }

  async store(
    range: PageRange,
    bytes: Buffer,
    stillWanted: () => readonly PageRange[],
  ): Promise<void> {
    const leave = await this.lane.enter(range);
    try {
      for (const part of stillWanted()) {
        if (!this.mayStore((part.end - part.start) * PAGE_BYTES)) return;
        const from = (part.start - range.start) * PAGE_BYTES;
        const view = bytes.subarray(from, (part.end - range.start) * PAGE_BYTES);
        await this.#storePart(part, view, stillWanted);
      }
    } finally {
      leave();
    }
  }

  /** Makes the absent pages of the range present that are zeros. false: the disk failed. */
  async storeZeros(range: PageRange): Promise<boolean> {
    const leave = await this.lane.enter(range);
    try {
      return !this.#retired && (await this.storeZerosInLane(range));
    } finally {
      leave();
    }
  }

  async storeZerosInLane(range: PageRange): Promise<boolean> {
    for (const { start, end } of this.zeroRuns(range)) {
      const offset = start * PAGE_BYTES;
      const length = Math.min(end * PAGE_BYTES, this.map.sizeBytes) - offset;
      const { errno } = await this.io.store(this.fd, offset, zerosOf(length), this.#holes);
      if (errno !== 0) {
        this.directory.distrustHoles();
        this.health.failed(errno, 'write');
        return false;
      }
      this.map.mark(start, end);
      this.marked(offset, length);
    }
    return true;
  }

  /** The file is longer now, with zeros at its end: a local write is about to fill it. Errno. */
  async grow(sizeBytes: number): Promise<number> {
    const errno = await this.directory.grow(sizeBytes);
    if (errno === 0) this.uses.resize(sizeBytes);
    else this.health.failed(errno, 'write');
    return errno;
  }

  /** The same because the server's file is longer: noted on the disk. */
  async growTo(serverBytes: number): Promise<void> {
    if ((await this.grow(serverBytes)) !== 0) return;
    const errno = await this.directory.persistMarks();
    if (errno !== 0) this.health.failed(errno, 'write');
  }

  /** What lies behind the end in the last page may be there at the server: fetched again. */
  async forgetEnd(): Promise<void> {
    const last = Math.floor(this.map.sizeBytes / PAGE_BYTES);
    const { start } = blocksOf({ start: last, end: last + 1 });
    const leave = await this.lane.enter({ start, end: Number.POSITIVE_INFINITY });
    try {
      if (this.#retired) return;
      if (this.map.sizeBytes % PAGE_BYTES !== 0)
        await this.removeBlocks(blocksOf({ start: last, end: last + 1 }));
      this.sizeIsDoubtful = false;
    } finally {
      leave();
    }
  }

  /** The bytes of a run as they are now. */
  async readRun(run: SendingRun): Promise<{ errno: number; bytes: Buffer }> {
    const bytes = Buffer.allocUnsafeSlow(run.length);
    const leave = await this.lane.enter(run.range);
    try {
      const { errno, got } = await this.io.read(this.fd, run.offset, bytes);
      // What the file does not have (yet) are zeros: it grows for none.
      bytes.fill(0, got);
      if (errno !== 0) this.health.failed(errno, 'read');
      return { errno, bytes };
    } finally {
      leave();
    }
  }

  /**
   * C5: the server has the run durably. Pages that were not written meanwhile are clean. Errno: they
   * cannot be summed, and are dirty still.
   */
  async settleRun(run: SendingRun): Promise<number> {
    const leave = await this.lane.enter(run.range);
    try {
      if (!this.dirty.isUnderWay(run)) return 0;
      const first = Math.floor(run.range.start / PAGES_PER_BLOCK);
      const count = Math.ceil(run.range.end / PAGES_PER_BLOCK) - first;
      const masks = new Uint16Array(count);
      for (let i = 0; i < count; i++) masks[i] = this.dirty.unchanged(run, first + i);
      const { errno, sums } = await this.io.sums(this.fd, first, masks);
      if (errno !== 0) this.health.failed(errno, 'read');
      for (const [i, pages] of masks.entries()) {
        if (errno !== 0 || pages === 0) continue;
        this.map.makeClean(first + i, pages, sums[i] ?? 0);
        // Of what was cut off meanwhile the server has nothing any more.
        const end = ((first + i) * PAGES_PER_BLOCK + 32 - Math.clz32(pages)) * PAGE_BYTES;
        this.zeros.raise(Math.min(end, run.offset + run.length));
      }
      this.dirty.end(run);
      this.#writeMarksLater();
      return errno;
    } finally {
      leave();
    }
  }

  /** Durably drops what is unsent: 'all', or only size and mtime, EBUSY with dirty pages. Errno. */
  async dropUnsent(what: 'all' | 'attributes'): Promise<number> {
    const leave = await this.lane.enter({ start: 0, end: Number.POSITIVE_INFINITY });
    try {
      // A write that was under way may be kept by now.
      if (what === 'attributes' && this.map.dirtyPages > 0) return Errno.EBUSY;
      this.dirty.cutFrom(0);
      const { map, directory } = this;
      const dropped = map.dirtyPages === 0 ? 0 : await directory.dropDirtyDurably(0, map.pageCount);
      if (dropped !== 0) return dropped;
      this.unsent.forget();
      return await directory.noteUnsent(undefined, 'durable');
    } finally {
      leave();
    }
  }

  /** C4: durably takes all clean pages, and none of the dirty ones. */
  async dropClean(): Promise<void> {
    const all = { start: 0, end: Number.POSITIVE_INFINITY };
    this.fills.cut(all);
    const leave = await this.lane.enter(all);
    try {
      this.fills.cut(all);
      if (!this.#retired) await this.removeBlocks(all);
    } finally {
      leave();
    }
  }

  /**
   * In the lane: durably clears the clean marks of the blocks that the range touches, and gives their
   * disk back. On a failure of the disk they are absent all the same, as far as we know. A file
   * that the kernel reads by itself keeps its bytes (C9).
   */
  async removeBlocks(range: PageRange): Promise<void> {
    const start = Math.floor(range.start / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
    const blocksEnd = Math.ceil(range.end / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
    const end = Math.min(blocksEnd, this.map.pageCount);
    if (start >= end) return;
    const errno = await this.directory.clearDurably(start, end);
    if (errno !== 0) {
      this.health.failed(errno, 'write');
      this.directory.distrustHoles();
      return;
    }
    if (this.held) {
      this.directory.distrustHoles();
      return;
    }
    await this.replies.free(start * PAGE_BYTES, end * PAGE_BYTES);
    const punched = await this.directory.discard(start, end);
    // What a file system cannot do is no failure of the disk: the bytes stay.
    if (punched !== 0 && punched !== Errno.EOPNOTSUPP) this.health.failed(punched, 'write');
  }

  /** The file could not be read there: it is fetched again, if someone wants it. */
  async unreadable(range: PageRange, errno: number): Promise<void> {
    this.health.failed(errno, 'read');
    const leave = await this.lane.enter(blocksOf(range));
    try {
      if (!this.#retired) await this.removeBlocks(range);
    } finally {
      leave();
    }
  }

  damaged(offset: number, length: number): void {
    this.damagedBytes += length;
    this.#parts.events.damaged?.(this.#owner.path, offset, length);
  }

  /** A block with a dirty page is left alone (C4). */
  hasPages(extent: number): boolean {
    const range = this.#pagesOfExtent(extent);
    if (this.map.countDirty(range.start, range.end) > 0) return this.#cleanBlocks(range).length > 0;
    return this.map.countPresent(range.start, range.end) > 0;
  }

  async evictExtent(extent: number): Promise<number> {
    // All of it: the image may be longer when our turn comes.
    const start = extent * EXTENT_PAGES;
    const extentRange = { start, end: start + EXTENT_PAGES };
    if (!this.#mayEvict(extentRange)) return 0;
    const leave = await this.lane.enter(extentRange);
    try {
      if (!this.#mayEvict(extentRange)) return 0;
      const range = this.#pagesOfExtent(extent);
      const before = this.map.countPresent(range.start, range.end);
      if (before === 0) return 0;
      for (const part of this.#cleanBlocks(range)) await this.removeBlocks(part);
      const after = this.map.countPresent(range.start, range.end);
      if (after === 0) this.uses.empty(extent);
      return (before - after) * PAGE_BYTES;
    } finally {
      leave();
    }
  }

  /** Counts `bytes` that `work` puts into absent pages: from now on, and by the disk later. */
  async counted<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    const { space, storing } = this.#parts;
    storing.bytes += bytes;
    try {
      return await work();
    } finally {
      storing.bytes -= bytes;
      space.grew(this.name, bytes);
    }
  }

  /** Marks were set or taken by other means than `store`: they go to the disk in a while. */
  marked(offset: number, length: number): void {
    this.uses.touch(offset, length);
    this.#writeMarksLater();
  }

  /** Writes the marks down, with all that they need to be believed after a power loss. */
  async sync(): Promise<void> {
    if (this.#retired) return;
    this.#syncTimer?.cancel();
    this.#syncTimer = undefined;
    this.failedSync(await this.directory.sync());
  }

  /** Linux may call pages clean that a failed sync has lost: none is believed unchecked (C2). */
  failedSync(errno: number): void {
    if (errno === 0) return;
    this.health.failed(errno, 'sync');
    if (this.#retired) return;
    this.verification.distrust();
    this.#owner.syncFailed(this);
  }

  /**
   * Nothing is stored or marked from now on; the file is closed when no reply reads it any more,
   * and nobody holds it. 'written': the marks are made durable first, because the content will be
   * taken up again.
   */
  retire(why: 'replaced' | 'written'): Promise<void> {
    this.stop();
    this.#closing ??= this.#close(why);
    return this.#closing;
  }

  /** Nothing is stored or marked from now on. */
  stop(): void {
    this.fills.cut({ start: 0, end: Number.POSITIVE_INFINITY });
    this.#retired = true;
    this.#persistTimer?.cancel();
    this.#syncTimer?.cancel();
  }

  async #close(why: 'replaced' | 'written'): Promise<void> {
    await this.replies.free(0, Number.POSITIVE_INFINITY);
    const leave = await this.lane.enter({ start: 0, end: Number.POSITIVE_INFINITY });
    await Promise.all(this.#writing);
    await this.directory.close(why === 'written');
    leave();
  }

  async #storePart(
    part: PageRange,
    bytes: Buffer,
    stillWanted: () => readonly PageRange[],
  ): Promise<void> {
    const { counts } = this.#parts;
    const offset = part.start * PAGE_BYTES;
    const { errno, sums } = await this.counted(bytes.length, () =>
      this.io.store(this.fd, offset, bytes, this.#holes),
    );
    if (errno !== 0) {
      this.directory.distrustHoles();
      this.health.failed(errno, 'write');
      return;
    }
    const whole = stillWanted().some(({ start, end }) => start <= part.start && part.end <= end);
    if (!whole || this.#retired) {
      this.directory.distrustHoles();
      return;
    }
    this.map.mark(part.start, part.end, sums);
    counts.storedBytes += bytes.length;
    this.marked(offset, bytes.length);
    if (this.map.complete && !this.verification.isDone) this.#parts.verifyLater(this);
  }

  /**
   * A hole that was there before this daemon is made again: of absent pages there is no sum that
   * would tell whether something was put into them (C2).
   */
  get #holes(): 'trusted' | 'punch' {
    return this.directory.found === 'kept' ? 'punch' : this.directory.holes;
  }

  #writeMarksLater(): void {
    const { clock } = this.#parts;
    if (this.#retired) return;
    this.#persistTimer ??= clock.after(PERSIST_AFTER_MS, () => {
      this.#persistTimer = undefined;
      this.#write(async () => {
        if (!this.health.mayMark) return;
        const errno = await this.directory.persistMarks();
        if (errno !== 0) this.health.failed(errno, 'write');
      });
    });
    this.#syncTimer ??= clock.after(SYNC_AFTER_MS, () => {
      this.#syncTimer = undefined;
      this.#write(async () => {
        if (this.health.mayMark) this.failedSync(await this.directory.sync());
        else this.#writeMarksLater();
      });
    });
  }

  #write(work: () => Promise<void>): void {
    const running = work().finally(() => this.#writing.delete(running));
    this.#writing.add(running);
  }

  #mayEvict(range: PageRange): boolean {
    return (
      !this.#retired &&
      !this.held &&
      !this.#owner.isChanging(range) &&
      this.fills.within(range).length === 0
    );
  }

  /** The blocks with clean pages and no dirty one, in runs. */
  #cleanBlocks(range: PageRange): PageRange[] {
    const { map } = this;
    if (map.countDirty(range.start, range.end) === 0) return [range];
    const runs: PageRange[] = [];
    let from: number | undefined;
    for (let start = range.start; start < range.end; start += PAGES_PER_BLOCK) {
      const block = start / PAGES_PER_BLOCK;
      const mayGo = map.dirtyMask(block) === 0 && (map.mask(block) & maskOf(range, block)) !== 0;
      if (mayGo) from ??= start;
      else if (from !== undefined) {
        runs.push({ start: from, end: start });
        from = undefined;
      }
    }
    if (from !== undefined) runs.push({ start: from, end: range.end });
    return runs;
  }

  #pagesOfExtent(extent: number): PageRange {
    const start = extent * EXTENT_PAGES;
    return { start, end: Math.min(start + EXTENT_PAGES, this.map.pageCount) };
  }
}

const zeros = Buffer.alloc(EXTENT_BYTES);

function zerosOf(length: number): Buffer {
  return length <= zeros.length ? zeros.subarray(0, length) : Buffer.alloc(length);
}
