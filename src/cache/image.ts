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
 */
import type { FileHandle, HandleId } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import type { FsError } from '../errors/fs-error.ts';
import type {
  Attributes,
  CachedImage,
  ContentStamp,
  ImageSource,
  PendingChange,
  ReadReply,
} from '../vfs/ports.ts';
import type { CacheParts } from './cache-parts.ts';
import type { ExportDirectory } from './export-directory.ts';
import { EXTENT_BYTES } from './extent-uses.ts';
import { fileIdOf } from './file-id.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import { ImageContent } from './image-content.ts';
import { ImageDirectory } from './image-directory.ts';
import { ImageReads, type WarmOptions } from './image-reads.ts';
import { applyResize, applyUnknown, applyWrite, LocalChanges } from './local-changes.ts';
import { localFailure } from './local-failure.ts';
import { PageLane } from './page-lane.ts';
import { blocksOf, type PageRange, pagesOf } from './page-range.ts';

/** One image, for people. */
export interface ImageReport {
  readonly fileId: string;
  /** From the export's root: a hint. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly presentBytes: number;
  /** With its maps and notes, as du(1) counts. */
  readonly allocatedBytes: number;
  readonly complete: boolean;
  /** All that is present was checked since the image was taken up, or stored since. */
  readonly verified: boolean;
  readonly state: 'settled' | 'writing' | 'not kept';
  readonly pinned: boolean;
  /** The kernel reads it by itself. */
  readonly held: boolean;
  readonly opens: number;
  /** Sequential streams that are followed. */
  readonly streams: number;
}

export interface WarmRange {
  readonly offset: number;
  readonly length: number;
}

export interface WarmOutcome {
  readonly fetchedBytes: number;
  readonly presentBytes: number;
  readonly absentBytes: number;
  readonly damagedBytes: number;
}

/** Pages of one bucket of a picture, by what they are. */
export interface PageStates {
  readonly absent: number;
  readonly present: number;
  readonly zero: number;
  readonly dirty: number;
}

export class Image implements CachedImage {
  readonly file: FileHandle;
  readonly fileId: string;
  source: ImageSource;
  readonly #parts: CacheParts;
  readonly #exportDirectory: ExportDirectory;
  readonly #closed: (image: Image) => void;
  readonly #changes = new LocalChanges();
  readonly #endings = new PageLane();
  readonly #reads: ImageReads;
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

  isChanging(range: PageRange): boolean {
    return this.#changes.isChanging(range);
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
      this.#attributes = content;
      await this.#replaceContent(content);
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
    await this.#renewed();
    const content = this.#content;
    if (content !== undefined && mayChange && this.#opens > 0) {
      const errno = await content.directory.markWriting();
      if (errno !== 0) await content.directory.drop();
    }
    this.#content = undefined;
    await this.#dropLost();
    if (content?.held === true) await content.directory.drop();
    if (content !== undefined) void this.#retire(content, 'written');
    for (const retired of this.#retired) retired.replies.letHoldersGo();
    await Promise.all([...this.#retired].map((retired) => retired.retire('replaced')));
  }

  report(): ImageReport {
    const content = this.#content;
    return {
      fileId: this.fileId,
      path: this.path,
      sizeBytes: content?.map.sizeBytes ?? this.#attributes.size,
      presentBytes: content?.map.presentBytes() ?? 0,
      allocatedBytes: this.#parts.space.allocatedBytes(this.fileId),
      complete: content?.map.complete ?? false,
      verified: content?.verification.isDone ?? false,
      state: content?.directory.state ?? 'not kept',
      pinned: content?.pinned ?? false,
      held: content?.held ?? false,
      opens: this.#opens,
      streams: this.#reads.streamCount,
    };
  }

  /** Pages of equal parts of the image, by state; as many as there are pages, at most. */
  pageStates(buckets: number): PageStates[] {
    const content = this.#content;
    const pages = content?.map.pageCount ?? Math.ceil(this.#attributes.size / PAGE_BYTES);
    const count = Math.max(Math.min(buckets, pages), 0);
    return Array.from({ length: count }, (_, i) => {
      const start = Math.floor((i * pages) / count);
      const end = Math.floor(((i + 1) * pages) / count);
      const present = content?.map.countPresent(start, end) ?? 0;
      const zero = content === undefined ? 0 : zeroPages(content, { start, end });
      return { absent: end - start - present, present: present - zero, zero, dirty: 0 };
    });
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

  /** A pinned image is not evicted. Answers errno. */
  async setPinned(pinned: boolean): Promise<number> {
    await this.#renewed();
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
    return this.#reads.read(as, reader, offset, length, fileSize);
  }

  readerGone(reader: HandleId): void {
    this.#reads.readerGone(reader);
  }

  beginWrite(offset: number, length: number): Promise<PendingChange> {
    const touched = pagesOf(offset, length);
    const rangeOf = (known: number) => {
      // What is the last page grows with the file: not served before the local file is as long.
      const start = Math.min(touched.start, Math.floor(known / PAGE_BYTES));
      return offset + length > known ? { start, end: touched.end } : touched;
    };
    return this.#beginChange(rangeOf, async (content, bytes) => {
      if (bytes === undefined) {
        content.sizeIsDoubtful = true;
        await applyUnknown(content, touched);
        return 'applied';
      }
      const applied = await applyWrite(content, offset, bytes);
      // What was not written of it is as it was, or not: a part of its last page may be.
      if (bytes.length < length) {
        await applyUnknown(content, pagesOf(offset + bytes.length, length - bytes.length));
      }
      return applied;
    });
  }

  beginResize(size: number): Promise<PendingChange> {
    return this.#beginChange(
      (known) => fromPageOf(Math.min(size, known)),
      (content) => applyResize(content, size),
    );
  }

  async replace(content: Attributes): Promise<void> {
    await this.#renew(async () => {
      if (this.#left) return;
      this.#attributes = content;
      await this.#replaceContent(content);
    });
  }

  async settle(): Promise<void> {
    await this.#renewed();
    const content = this.#content;
    const attributes = this.source.attributes();
    if (content === undefined || content.retired || attributes === undefined) return;
    if (this.#changes.any || !content.health.mayMark) return;
    if (attributes.size !== content.map.sizeBytes) {
      if (content.directory.state === 'settled') return;
      if (!(await this.#sizeTold(content, attributes.size))) return;
    }
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

  // ---- Private ------------------------------------------------------------------------------------

  #whyNotHeld(content: ImageContent | undefined): string | undefined {
    if (content === undefined || this.#renewal !== undefined) return 'nothing of it is kept';
    if (!content.map.complete) return 'not complete in the cache';
    if (!content.verification.isDone) return 'not verified yet';
    if (this.#changes.any || content.directory.state !== 'settled') return 'being written';
    if (!content.health.mayRead) return "the cache's disk fails";
    return undefined;
  }

  /** A change whose outcome nobody knew: the server has told since. true: may be settled. */
  async #sizeTold(content: ImageContent, size: number): Promise<boolean> {
    const range = fromPageOf(Math.min(size, content.map.sizeBytes));
    const change = this.#changes.begin(range);
    content.fills.cut(range);
    content.sizeIsDoubtful = true;
    try {
      if ((await applyResize(content, size)) === 'lost') await this.#lose(content);
    } finally {
      this.#changes.end(change);
    }
    // What has begun meanwhile is settled with its own end.
    return this.#content === content && !content.retired && !this.#changes.any;
  }

  async #beginChange(
    rangeOf: (known: number) => PageRange,
    apply: (content: ImageContent, bytes: Buffer | undefined) => Promise<'applied' | 'lost'>,
  ): Promise<PendingChange> {
    const early = this.#suspend(rangeOf);
    await this.#noteWriting();
    // Another content may have been made meanwhile, of another size.
    const { range, change } = this.#suspend(rangeOf);
    this.#changes.end(early.change);
    const begunOn = this.#content;
    const end = async (work: (content: ImageContent) => Promise<'applied' | 'lost'>) => {
      // In the order in which they ended at the server.
      const leave = await this.#endings.enter(range);
      try {
        await this.#renewed();
        const content = this.#content;
        if (content === undefined) return;
        if (content !== begunOn) {
          // Nobody knows which came first at the server, this change or another's. The pages were
          // not filled since, so they are absent.
          content.sizeIsDoubtful = true;
          return;
        }
        if ((await work(content)) === 'lost') await this.#lose(content);
      } finally {
        this.#changes.end(change);
        leave();
      }
    };
    return {
      done: (bytes) => end((content) => apply(content, bytes)),
      failed: () =>
        end(async (content) => {
          content.sizeIsDoubtful = true;
          await applyUnknown(content, range);
          return 'applied';
        }),
    };
  }

  /** From now on the pages are not served, nor is what is on its way for them kept. */
  #suspend(rangeOf: (known: number) => PageRange): { range: PageRange; change: PageRange } {
    const range = rangeOf(this.#content?.map.sizeBytes ?? this.#attributes.size);
    this.#content?.fills.cut(range);
    return { range, change: this.#changes.begin(range) };
  }

  /** Durable before the first change goes out. A held file is left as it is: another takes over. */
  async #noteWriting(): Promise<void> {
    await this.#renewed();
    if (this.#content?.held === true) await this.replace(this.#attributes);
    const content = this.#content;
    if (content === undefined || content.retired) return;
    const errno = await content.directory.markWriting();
    if (errno === 0) return;
    // The stamp will not be the server's any more, but only the note makes that certain.
    content.health.failed(errno, 'sync');
    await this.#lose(content);
  }

  /** Resolves when no other content is being made. */
  async #renewed(): Promise<void> {
    while (this.#renewal !== undefined) await this.#renewal;
  }

  /** One after the other; reads wait. */
  #renew(work: () => Promise<void>): Promise<void> {
    const renewal = (this.#renewal ?? Promise.resolve()).then(work).finally(() => {
      if (this.#renewal === renewal) this.#renewal = undefined;
    });
    this.#renewal = renewal;
    return renewal;
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
      return;
    }
    const directory = made.value;
    this.#directory = directory;
    if (directory.found === 'setAside') events.setAside?.(this.path, directory.why ?? 'damaged');
    if (this.#changes.any) {
      const errno = await directory.markWriting();
      if (errno !== 0) {
        health.failed(errno, 'sync');
        await directory.drop();
        await directory.close(false);
        this.#directory = undefined;
        return;
      }
    }
    this.#content = new ImageContent(this.#parts, directory, this);
    void space.measure(this.fileId);
  }

  /** The disk has failed in the middle of a change: what is kept is not to be trusted. */
  async #lose(content: ImageContent): Promise<void> {
    if (this.#content !== content) return;
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
    const size = this.#content?.map.sizeBytes ?? this.#attributes.size;
    const from = Math.min(offset, size);
    return { offset: from, length: Math.min(length, size - from) };
  }

  #counted(offset: number, length: number): { presentBytes: number; absentBytes: number } {
    const { start, end } = pagesOf(offset, length);
    const size = this.#content?.map.sizeBytes ?? this.#attributes.size;
    const presentBytes = this.#content?.map.presentBytes(start, end) ?? 0;
    const allBytes = Math.max(Math.min(end * PAGE_BYTES, size) - start * PAGE_BYTES, 0);
    return { presentBytes, absentBytes: allBytes - presentBytes };
  }

  #nowMs(): number {
    return Number(this.#parts.clock.wallNs() / 1_000_000n);
  }
}

/** The page that `position` lies in, and all behind it. */
function fromPageOf(position: number): PageRange {
  return { start: Math.floor(position / PAGE_BYTES), end: Number.POSITIVE_INFINITY };
}

export function sameStamp(one: ContentStamp, other: ContentStamp): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs && one.ctimeNs === other.ctimeNs;
}

/** Present pages of blocks whose present pages are all zeros: their linear sum is zero. */
function zeroPages({ map }: ImageContent, range: PageRange): number {
  let zero = 0;
  const blocks = blocksOf(range);
  for (let start = blocks.start; start < blocks.end; start += PAGES_PER_BLOCK) {
    if (map.sum(start / PAGES_PER_BLOCK) !== 0) continue;
    const from = Math.max(start, range.start);
    zero += map.countPresent(from, Math.min(start + PAGES_PER_BLOCK, range.end));
  }
  return zero;
}
