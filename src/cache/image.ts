/**
 * One image of the cache: its content on the disk, the reads and local changes of it, and its
 * place among those that are open.
 *
 *            open                              disk fails
 *   (none) --------> kept --------------------------------> not kept: all comes from the server
 *                    | ^ replace: another content,             | open, replace, the disk is back
 *                    '-' a new directory                       '---------------------------> kept
 *
 * C1, C2, C9  see `ImageContent`; C8, C2 of reads: `ImageReads`; C11: `LocalChanges`.
 *
 * The note 'writing' is on the disk before the first change is sent; it is taken back (`settle`)
 * only when no change is pending, together with the attributes that the server has then. In
 * between, a crash leaves nothing that is believed.
 *
 * Unsent writes (`ImageLocalWrites`, `UnsentPages`) hold on to their content: it is replaced only
 * when they are discarded.
 *
 *                    another's change is seen
 *   unsent, shared    ----------------------> clean pages go, what is dirty stays and is sent
 *   unsent, exclusive ----------------------> conflict: nothing is sent or dropped till `resolve`
 *
 * When the cache is closed before all was sent, the file fails to be read and written from then on:
 * what the server has is old, and the next daemon sends what was left behind over it.
 */
import type { FileHandle, HandleId } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type {
  Attributes,
  CachedImage,
  ContentStamp,
  ImageSending,
  ImageSource,
  LocalWrites,
  PendingChange,
  ReadReply,
  Unsent,
} from '../vfs/ports.ts';
import type { CacheParts } from './cache-parts.ts';
import type { ExportDirectory } from './export-directory.ts';
import { EXTENT_BYTES } from './extent-uses.ts';
import { fileIdOf } from './file-id.ts';
import { PAGE_BYTES } from './file-io.ts';
import { ImageContent } from './image-content.ts';
import { ImageDirectory } from './image-directory.ts';
import { ImageReads, type WarmOptions } from './image-reads.ts';
import {
  contentReport,
  type ImageReport,
  type PageStates,
  pageStates,
  type WarmOutcome,
  type WarmRange,
} from './image-report.ts';
import { LocalChanges } from './local-changes.ts';
import { localFailure } from './local-failure.ts';
import { ImageLocalWrites, type LocalHost, leftBehind } from './local-writes.ts';
import { type PageRange, pagesOf } from './page-range.ts';
import { type ChangeHost, PendingChanges } from './pending-changes.ts';
import { isSameContent, type UnsentHost, UnsentPages } from './unsent-pages.ts';

export type { ImageReport, PageStates, WarmOutcome, WarmRange } from './image-report.ts';

/** After so long it is tried again to read what is unsent. */
const TAKE_UP_AGAIN_MS = 5_000;

export class Image implements CachedImage, LocalHost, UnsentHost, ChangeHost {
  readonly file: FileHandle;
  readonly fileId: string;
  source: ImageSource;
  readonly #parts: CacheParts;
  readonly #exportDirectory: ExportDirectory;
  readonly #closed: (image: Image) => void;
  readonly changes = new LocalChanges();
  /** As write-back sees it. */
  readonly dirty: UnsentPages;
  readonly #pending: PendingChanges;
  readonly #reads: ImageReads;
  readonly #local: ImageLocalWrites;
  #content: ImageContent | undefined;
  /** The last one made, until its files are closed. */
  #directory: ImageDirectory | undefined;
  /** One that is not to be trusted, and that has its name still. */
  #lost: ImageDirectory | undefined;
  /** Of the past, and still read by someone. */
  readonly #retired = new Set<ImageContent>();
  /** What `open`, `replace` and `settle` were told last. */
  #attributes: Attributes;
  #renewal: Promise<void> | undefined;
  #opens = 0;
  #wasOpened = false;
  #left = false;
  /** Left on the disk, for the next daemon to send, or as long as the disk cannot be used. */
  leftBehind: Unsent | undefined;

  constructor(
    parts: CacheParts,
    exportDirectory: ExportDirectory,
    file: FileHandle,
    content: Attributes,
    source: ImageSource,
    closed: (image: Image) => void,
  ) {
    this.#parts = parts;
    this.#exportDirectory = exportDirectory;
    this.file = file;
    this.fileId = fileIdOf(file);
    this.#attributes = content;
    this.source = source;
    this.#closed = closed;
    this.#reads = new ImageReads(parts, this);
    this.dirty = new UnsentPages(parts, this);
    this.#local = new ImageLocalWrites(parts, this);
    this.#pending = new PendingChanges(this, parts.writeBack);
  }

  // ---- For the cache ------------------------------------------------------------------------------

  get path(): string {
    return this.source.path();
  }

  get content(): ImageContent | undefined {
    return this.#content;
  }

  get renewal(): Promise<void> | undefined {
    return this.#renewal;
  }

  get opens(): number {
    return this.#opens;
  }

  /** It has what no one else has: its content is not dropped, nor is it forgotten when closed. */
  get hasUnsent(): boolean {
    return this.#content?.unsent.isAny ?? false;
  }

  get sizeBytes(): number {
    return this.#content?.map.sizeBytes ?? this.#attributes.size;
  }

  get sending(): ImageSending | undefined {
    return this.source.sending;
  }

  get keepsWrites(): boolean {
    return this.#parts.write !== 'through' && this.source.sending !== undefined;
  }

  get failure(): LocalWrites['failure'] {
    return this.dirty.failure;
  }

  isChanging(range: PageRange): boolean {
    return this.changes.isChanging(range);
  }

  /** Whether anybody has opened it since it is in memory. */
  get wasOpened(): boolean {
    return this.#wasOpened;
  }

  /** Opened once more. */
  opened(source: ImageSource): void {
    this.#opens++;
    this.#wasOpened = true;
    this.source = source;
    this.#content?.directory.touch(this.#nowMs(), source.path());
  }

  /**
   * Takes up what is kept of `content`, or begins anew. Without a disk nothing is kept. `usedMs`:
   * when it was used, where that is not now.
   */
  takeUp(content: Attributes, usedMs = this.#nowMs()): Promise<void> {
    return this.#renew(async () => {
      if (this.#content !== undefined || this.#left) return;
      this.#attributes = content;
      await this.#taken(await this.#make(content, usedMs));
    });
  }

  /** Nobody has had the image open, and others may have changed the file unseen. */
  openedAgain(content: Attributes): Promise<void> {
    return this.#renew(async () => {
      const directory = this.#content?.directory;
      const isOfIt = directory?.state === 'settled' && sameStamp(directory.stamp, content);
      if (this.#left || isOfIt) return;
      if (this.hasUnsent) {
        // What is kept may be of an older size, as the disk told it, or of before the last WRITEs.
        this.#content?.zeros.raise(content.size);
        // While it is being sent nobody can tell whose change it was.
        if (!this.dirty.isResting || directory?.state !== 'settled') return;
        if (this.#isOurs(directory, content)) return;
      }
      await this.#replaced(content);
    });
  }

  /** The disk can be used again: what could not be kept may be now. */
  diskIsBack(): void {
    if (this.#content !== undefined || this.#left) return;
    const attributes = this.source.attributes();
    if (this.#opens > 0 && attributes !== undefined) void this.takeUp(attributes);
    else if (this.#lost !== undefined) void this.#renew(async () => void (await this.#dropLost()));
  }

  /** What was stored may be lost, and the marks cannot be made durable any more: anew. */
  syncFailed(content: ImageContent): void {
    if (this.#left || this.#content !== content) return;
    content.mustGo = true;
    // As long as the kernel has the bytes.
    if (this.hasUnsent) return void this.#parts.writeBack.writeBack(this.dirty);
    const attributes = { ...this.#attributes, size: content.map.sizeBytes };
    void this.#renew(async () => {
      if (!this.#left && this.#content === content) await this.#replaceContent(attributes);
    });
  }

  /**
   * Writes all down; nothing is kept, and nothing of the disk is touched, from then on. What the
   * kernel still reads by itself is left to it alone: the next daemon must not change it.
   * `mayChange`: who has it open may go on to write to it, unseen by us and by the next daemon.
   */
  async leave(mayChange: boolean): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    await this.renewed();
    const content = this.#content;
    if (content !== undefined && mayChange && this.#opens > 0) {
      const errno = await content.directory.markWriting();
      if (errno !== 0 && !this.hasUnsent) await content.directory.drop();
    }
    const noted = (await content?.unsent.close()) ?? 0;
    if (noted !== 0) content?.health.failed(noted, 'sync');
    this.leftBehind = this.#local.unsent;
    this.#content = undefined;
    await this.#dropLost();
    if (content?.held === true) await content.directory.drop();
    if (content !== undefined) void this.#retire(content, 'written');
    for (const retired of this.#retired) retired.replies.letHoldersGo();
    await Promise.all([...this.#retired].map((retired) => retired.retire('replaced')));
  }

  report(): ImageReport {
    return {
      ...contentReport(this.#content),
      fileId: this.fileId,
      path: this.path,
      sizeBytes: this.sizeBytes,
      allocatedBytes: this.#parts.space.allocatedBytes(this.fileId),
      opens: this.#opens,
      streams: this.#reads.streamCount,
      unsent: this.#local.unsent,
    };
  }

  /** Pages of equal parts of the image, by state; as many as there are pages, at most. */
  pageStates(buckets: number): PageStates[] {
    return pageStates(this.#content, this.sizeBytes, buckets);
  }

  /** Fetches what is absent of the range, behind everything else. */
  async warm(range: WarmRange, options: WarmOptions): Promise<Result<WarmOutcome, FsError>> {
    const { offset, length } = this.#within(range);
    const fetched = await this.#reads.warm(offset, length, options);
    if (!fetched.ok) return fetched;
    return ok({ ...this.#counted(offset, length), fetchedBytes: fetched.value, damagedBytes: 0 });
  }

  /**
   * Compares what is present of the range with its sums, trusted or not; fetches nothing. What is
   * damaged is absent afterwards.
   */
  async verify(range: WarmRange, options: Omit<WarmOptions, 'as'>): Promise<WarmOutcome> {
    const { offset, length } = this.#within(range);
    const content = this.#content;
    const before = content?.damagedBytes ?? 0;
    for (let done = 0; done < length && options.signal?.aborted !== true; done += EXTENT_BYTES) {
      const part = Math.min(EXTENT_BYTES, length - done);
      await this.#content?.verification.checkAgain(pagesOf(offset + done, part));
      options.onProgress?.(done + part, length);
    }
    // The background may have been there first.
    const damagedBytes = (content?.damagedBytes ?? 0) - before;
    return { ...this.#counted(offset, length), fetchedBytes: 0, damagedBytes };
  }

  /** Drops all that may go. The bytes freed. */
  async evictClean(): Promise<number> {
    const content = this.#content;
    let freedBytes = 0;
    for (let extent = 0; content !== undefined && extent < content.uses.count; extent++) {
      if (content.hasPages(extent)) freedBytes += await content.evictExtent(extent);
    }
    await this.#parts.space.measure(this.fileId);
    return freedBytes;
  }

  /** A conflict is decided: what is unsent is sent over the other's change, or dropped. */
  async resolve(which: 'mine' | 'theirs'): Promise<Result<void, FsError>> {
    await this.renewed();
    if (this.#content?.unsent.inConflict !== true) {
      return err(localError('EINVAL', 'resolve', `${this.path}: there is no conflict`));
    }
    await (which === 'mine' ? this.keepOurs() : this.discard());
    return ok(undefined);
  }

  /** A pinned image is not evicted. Answers errno. */
  async setPinned(pinned: boolean): Promise<number> {
    await this.renewed();
    const errno = (await this.#content?.directory.setPinned(pinned)) ?? Errno.ENOENT;
    if (!pinned) this.#parts.mayEvictAgain();
    return errno;
  }

  // ---- CachedImage --------------------------------------------------------------------------------

  read(
    as: Credentials,
    reader: HandleId,
    offset: number,
    length: number,
    fileSize: number,
  ): Result<ReadReply, FsError> | Promise<Result<ReadReply, FsError>> {
    if (this.leftBehind !== undefined) return err(leftBehind('read', this.path));
    return this.#reads.read(as, reader, offset, length, fileSize);
  }

  readerGone(reader: HandleId): void {
    this.#reads.readerGone(reader);
  }

  beginWrite(offset: number, length: number): Promise<PendingChange> {
    return this.#pending.beginWrite(offset, length);
  }

  beginResize(size: number): Promise<PendingChange> {
    return this.#pending.beginResize(size);
  }

  async replace(content: Attributes): Promise<void> {
    const zeros = this.#content?.zeros;
    // What is sent from now on the caller has not seen.
    const raised = zeros?.watch();
    await this.#renew(async () => {
      if (!this.#left) await this.#replaced(content, () => raised?.most ?? 0);
    });
    if (raised !== undefined) zeros?.unwatch(raised);
  }

  /** undefined: what is written goes through, and nothing is unsent. */
  get local(): LocalWrites | undefined {
    const isAny = this.hasUnsent || this.leftBehind !== undefined;
    return this.keepsWrites || isAny ? this.#local : undefined;
  }

  async settle(): Promise<void> {
    await this.renewed();
    const content = this.#content;
    const attributes = this.source.attributes();
    if (content === undefined || content.retired || attributes === undefined) return;
    if (this.changes.any || !content.health.mayMark) return;
    // The end of sending settles that.
    if (content.directory.state === 'sending' || this.dirty.isUnderWay) return;
    if (attributes.size !== content.map.sizeBytes && !this.hasUnsent) {
      if (content.directory.state === 'settled') return;
      if (!(await this.#pending.sizeTold(content, attributes.size))) return;
    }
    if (attributes.size > content.map.sizeBytes) return;
    content.sizeIsDoubtful = false;
    this.#attributes = attributes;
    content.failedSync(await content.directory.settle(attributes, 'light'));
    this.#parts.mayEvictAgain();
  }

  hold(): { readonly fd: number; release(): void } | { readonly why: string } {
    const content = this.#content;
    const why = this.#whyNotHeld(content);
    if (content === undefined || why !== undefined) return { why: why ?? 'nothing of it is kept' };
    content.replies.holdWhole();
    content.uses.touch(0, content.map.sizeBytes);
    let held = true;
    return {
      fd: content.fd,
      release: () => {
        if (!held) return;
        held = false;
        content.replies.dropWhole();
        this.#parts.mayEvictAgain();
      },
    };
  }

  close(): void {
    this.#opens--;
    if (this.#opens === 0) this.#closed(this);
  }

  // ---- For what it is made of ---------------------------------------------------------------------

  fill(range: PageRange, as: Credentials): Promise<Result<void, FsError>> {
    return this.#reads.fill(range, as);
  }

  /** Resolves when no other content is being made. */
  async renewed(): Promise<void> {
    while (this.#renewal !== undefined) await this.#renewal;
  }

  /** The kernel reads what is kept by itself: that stays as it is, and another takes over. */
  leaveToHolders(): Promise<void> {
    return this.replace(this.#attributes);
  }

  unsentChanged(): void {
    this.source.sending?.unsentChanged?.();
    if (this.#opens === 0 && !this.hasUnsent) this.#closed(this);
  }

  async changedByAnother(found: Attributes): Promise<void> {
    await this.replace(found);
  }

  async discard(): Promise<void> {
    await this.#parts.writeBack.gone(this.dirty);
    this.dirty.isUnderWay = false;
    await this.#renew(async () => {
      const content = this.#content;
      if (this.#left || content === undefined || !this.hasUnsent) return;
      const errno = await content.dropUnsent('all');
      if (errno !== 0) content.health.failed(errno, 'write');
      await this.#replaceContent(this.source.attributes() ?? this.#attributes);
    });
    this.#parts.events.clean?.(this.fileId, this.path);
    this.unsentChanged();
  }

  keepOurs(): Promise<void> {
    return this.dirty.keepOurs();
  }

  async renewLost(content: ImageContent, attributes: Attributes): Promise<void> {
    await this.#renew(async () => {
      if (this.#left || this.#content !== content) return;
      // Where the disk refuses it, the directory is put aside as one with unsent writes.
      if ((await content.dropUnsent('attributes')) === Errno.EBUSY) return;
      this.#attributes = attributes;
      await this.#replaceContent(attributes);
    });
  }

  // ---- Private ------------------------------------------------------------------------------------

  #whyNotHeld(content: ImageContent | undefined): string | undefined {
    if (content === undefined || this.#renewal !== undefined) return 'nothing of it is kept';
    if (this.hasUnsent) return 'it has unsent writes';
    if (!content.map.complete) return 'not complete in the cache';
    if (!content.verification.isDone) return 'not verified yet';
    if (this.changes.any || content.directory.state !== 'settled') return 'being written';
    if (!content.health.mayRead) return "the cache's disk fails";
    return undefined;
  }

  /** One after the other; reads wait. */
  #renew(work: () => Promise<void>): Promise<void> {
    const renewal = (this.#renewal ?? Promise.resolve()).then(work).finally(() => {
      if (this.#renewal === renewal) this.#renewal = undefined;
    });
    this.#renewal = renewal;
    return renewal;
  }

  /** In a renewal: the server's file is another one. */
  async #replaced(attributes: Attributes, sentBytes: () => number = () => 0): Promise<void> {
    this.#attributes = attributes;
    const content = this.#content;
    if (content === undefined || !this.hasUnsent) return this.#replaceContent(attributes);
    // While it is being sent, a server that has lost WRITEs of ours looks as if another had changed it.
    const isOurs = content.directory.state === 'sending';
    if (this.#parts.session === 'exclusive' && !isOurs) {
      // A file without a name is lost, and there is nothing to decide: sending it says so.
      if (attributes.nlink > 0) await this.dirty.conflictFound();
      return;
    }
    await content.dropClean();
    if (attributes.size > content.map.sizeBytes) await content.growTo(attributes.size);
    content.zeros.set(Math.max(attributes.size, sentBytes()));
    this.#parts.events.changedUnderDirty?.(this.fileId, this.path);
    if (content.directory.state !== 'settled' || !content.health.mayMark) return;
    content.failedSync(await content.directory.settle(attributes, 'light'));
  }

  async #replaceContent(content: Attributes): Promise<void> {
    const old = this.#content;
    old?.stop();
    this.#content = undefined;
    const made = await this.#make(content);
    // It may be read for long by those who hold it.
    if (old !== undefined) void this.#retire(old, 'replaced');
    await this.#taken(made);
  }

  /** In place of the last directory, as long as that one's files are open. */
  async #make(
    content: Attributes,
    usedMs = this.#nowMs(),
  ): Promise<Result<ImageDirectory, FsError>> {
    const errno = await this.#dropLost();
    if (errno !== 0) return err(localFailure(errno, 'drop', this.path));
    const about = { path: this.path, nowMs: usedMs };
    if (this.#directory !== undefined) return this.#directory.replace(content, about);
    const { io } = this.#parts;
    return ImageDirectory.open(this.#exportDirectory, this.file, content, about, io);
  }

  async #retire(content: ImageContent, why: 'replaced' | 'written'): Promise<void> {
    this.#retired.add(content);
    await content.retire(why);
    this.#retired.delete(content);
    if (this.#directory === content.directory) this.#directory = undefined;
  }

  async #taken(made: Result<ImageDirectory, FsError>): Promise<void> {
    const { events, health, space } = this.#parts;
    if (!made.ok) {
      events.notKept?.(this.path, made.error.message);
      // Served from the server it would be old, and what is written would be overwritten later.
      const kept = await this.#exportDirectory.recovered();
      this.leftBehind = kept.find(({ file }) => this.file.equals(file))?.unsent;
      if (this.leftBehind !== undefined) this.#takeUpLater();
      return;
    }
    this.leftBehind = undefined;
    const directory = made.value;
    this.#directory = directory;
    if (directory.found === 'setAside') events.setAside?.(this.path, directory.why ?? 'damaged');
    if (this.changes.any) {
      const errno = await directory.markWriting();
      if (errno !== 0 && directory.unsent === undefined) {
        health.failed(errno, 'sync');
        await directory.drop();
        await directory.close(false);
        this.#directory = undefined;
        return;
      }
    }
    this.#content = new ImageContent(this.#parts, directory, this, this.#attributes.size);
    void space.measure(this.fileId);
    if (this.hasUnsent) await this.#takenUpUnsent(this.#content);
  }

  /** What is unsent could not be read. */
  #takeUpLater(): void {
    this.#parts.clock.after(TAKE_UP_AGAIN_MS, () => {
      if (this.#left || this.#content !== undefined) return;
      const attributes = this.source.attributes();
      if (attributes === undefined) this.#takeUpLater();
      else void this.takeUp(attributes);
    });
  }

  /** A daemon before this one has left it. */
  async #takenUpUnsent(content: ImageContent): Promise<void> {
    const { directory } = content;
    const { size, nlink } = this.#attributes;
    const isChanged = directory.state === 'settled' && !this.#isOurs(directory, this.#attributes);
    const mayDecide = this.#parts.session === 'exclusive' && nlink > 0;
    if (isChanged && mayDecide) await this.dirty.conflictFound();
    // Another has made it longer, or a change of size was sent and not noted any more.
    else if (size > content.map.sizeBytes) await content.growTo(size);
    this.#parts.writeBack.changed(this.dirty);
  }

  /** The server's file is the one that the image is of, or has only got the mtime that we set. */
  #isOurs({ stamp, unsent }: ImageDirectory, found: Attributes): boolean {
    return (
      isSameContent(stamp, found) ||
      (stamp.size === found.size && unsent?.mtimeNs === found.mtimeNs)
    );
  }

  /** The disk has failed in the middle of a change: what is kept is not to be trusted. */
  async lose(content: ImageContent): Promise<void> {
    if (this.#content !== content) return;
    if (this.hasUnsent) await content.dropUnsent('attributes');
    if (content.map.dirtyPages > 0) {
      // What is dirty is nowhere else: it is sent first. A kill before that brings back what the
      // disk was not able to cut off.
      content.mustGo = true;
      content.verification.distrust();
      return void this.#parts.writeBack.writeBack(this.dirty);
    }
    this.#content = undefined;
    content.stop();
    this.#retired.add(content);
    this.#lost = content.directory;
    await this.#dropLost();
    this.#parts.events.notKept?.(this.path, 'the disk failed in the middle of a change');
    void this.#retire(content, 'replaced');
  }

  /** What was lost must not be found again by its name; the disk may refuse even that. */
  async #dropLost(): Promise<number> {
    const errno = (await this.#lost?.drop()) ?? 0;
    if (errno === 0) this.#lost = undefined;
    else this.#parts.health.failed(errno, 'write');
    return errno;
  }

  #within({ offset, length }: WarmRange): WarmRange {
    const size = this.sizeBytes;
    const from = Math.min(offset, size);
    return { offset: from, length: Math.min(length, size - from) };
  }

  #counted(offset: number, length: number): { presentBytes: number; absentBytes: number } {
    const { start, end } = pagesOf(offset, length);
    const size = this.sizeBytes;
    const presentBytes = this.#content?.map.presentBytes(start, end) ?? 0;
    const allBytes = Math.max(Math.min(end * PAGE_BYTES, size) - start * PAGE_BYTES, 0);
    return { presentBytes, absentBytes: allBytes - presentBytes };
  }

  #nowMs(): number {
    return Number(this.#parts.clock.wallNs() / 1_000_000n);
  }
}

export function sameStamp(one: ContentStamp, other: ContentStamp): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs && one.ctimeNs === other.ctimeNs;
}
