/**
 * Reads of one image: from its pages, else from the server, and what is fetched ahead of them.
 *
 *   read --> all present, trusted -------------------> 'file', at once
 *        --> some blocks unchecked ----------checked-> again
 *        --> pages absent: join or begin fills
 *              the fills cover all of it ----came----> 'bytes'; the store goes on
 *              otherwise --------------------settled-> again
 *        --> pages being changed, or nothing can be kept: fetched for this read alone, but for
 *            what the server does not have (`readBeside`)
 *        --> behind the server's end: zeros
 *
 * C2  What is answered is of a trusted block, or came from the server after the read began or by a
 *     fetch that no change has overtaken (`Fills`).
 * C8  What is present needs no server.
 *
 * Whether anything can be kept is the disk's business, never a reader's: each failure of the disk
 * ends in a fetch. Its slowness is waited for, once what waits for it takes too much memory; a disk
 * that does not move at all is not, and what is read then is not kept.
 */
import type { HandleId } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { Fetched, ImageSource, ReadReply } from '../vfs/ports.ts';
import type { CacheParts } from './cache-parts.ts';
import type { PieceTaker, Priority } from './fetch-queue.ts';
import { PAGE_BYTES } from './file-io.ts';
import type { Fill, Segment } from './fills.ts';
import type { ImageContent } from './image-content.ts';
import { type PageRange, pagesOf, without } from './page-range.ts';
import { readBeside } from './read-beside.ts';
import { type Stream, Streams } from './streams.ts';

/** What reads need to know of their image. */
export interface ReadHost {
  readonly source: ImageSource;
  /** undefined: nothing is kept. */
  readonly content: ImageContent | undefined;
  /** Another content is being made: to be waited for. */
  readonly renewal: Promise<void> | undefined;
  isChanging(range: PageRange): boolean;
}

export type ReadResult = Result<ReadReply, FsError>;

export interface WarmOptions {
  readonly as: Credentials;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** A read whose pages vanish so often between its steps is answered by a fetch of its own. */
const MAX_ROUNDS = 8;
/** A disk that stores nothing for so long is not waited for. */
const STUCK_MS = 2_000;
/** So does one that has fetched its pages so often, and could not keep them. */
const MAX_FETCHES = 2;
/** One may have ended just when it was asked; after so many in a row nothing may go. */
const MAX_VAIN_EVICTIONS = 2;
/** And so long a full disk is waited for. */
const MAX_PAUSES = 20;
const PAUSE_MS = 500;
/** So often a warming goes back for what was evicted behind it: then it is larger than the cache. */
const MAX_RETURNS = 3;
const MIB = 1024 * 1024;
/** Pieces of a stream that are looked at in one go, when all of them are present already. */
const MAX_LOOKS = 64;

export class ImageReads {
  readonly #parts: CacheParts;
  readonly #host: ReadHost;
  readonly #streams: Streams;
  readonly #takers = new Map<Stream, PieceTaker>();
  /** The disk stores nothing of what waits for it. */
  #isStuck = false;

  constructor(parts: CacheParts, host: ReadHost) {
    this.#parts = parts;
    this.#host = host;
    this.#streams = new Streams((stream) => this.#forget(stream));
  }

  /** See `CachedImage.read`. At once, without a promise, where the pages are there. */
  read(
    as: Credentials,
    reader: HandleId,
    offset: number,
    length: number,
    fileSize: number,
  ): ReadResult | Promise<ReadResult> {
    const count = Math.min(length, fileSize - offset);
    if (count <= 0) return ok({ kind: 'bytes', bytes: [], release: () => undefined });
    const { content } = this.#host;
    const stream =
      content === undefined || content.map.complete
        ? undefined
        : this.#streams.note(reader, offset, count);
    if (stream !== undefined) this.#countUsed(stream, count);
    const answer =
      content !== undefined && this.#isServable(content, offset, count)
        ? ok(this.#fromFile(content, as, offset, count))
        : this.#readAbsent(as, stream, offset, count);
    if (stream !== undefined) this.#readAhead(stream, as);
    return answer;
  }

  readerGone(reader: HandleId): void {
    this.#streams.gone(reader);
  }

  /** How many streams are followed. */
  get streamCount(): number {
    let count = 0;
    for (const stream of this.#streams.all()) if (stream.runBytes > 0) count++;
    return count;
  }

  /**
   * Fetches what is absent of the range, behind everything else. Answers the bytes fetched. Where
   * the cache is full it waits for eviction. Err: ENOSPC, the range does not fit beside what must
   * not go; EIO, the cache's disk cannot be used; EINTR, stopped; or what the server said.
   */
  warm(offset: number, length: number, options: WarmOptions): Promise<Result<number, FsError>> {
    return new Promise((resolve) => {
      const warming = new Warming(this, this.#parts, offset, length, options, (outcome) => {
        this.#parts.queue.drop(warming);
        resolve(outcome);
      });
      this.#host.content?.uses.touch(offset, length);
      warming.start();
    });
  }

  /**
   * Begins fills for the absent pages of the range, at most about `maxBytes`, from its start on.
   * Answers them, and where to go on; undefined: nothing can be kept now.
   */
  beginAbsent(
    range: PageRange,
    as: Credentials,
    priority: Priority,
    maxBytes: number,
  ): { fills: Fill[]; bytes: number; next: number } | undefined {
    const { content, renewal } = this.#host;
    if (content === undefined || renewal !== undefined || !content.mayStore(maxBytes)) {
      return undefined;
    }
    const end = Math.min(range.end, content.map.pageCount);
    const fills: Fill[] = [];
    let bytes = 0;
    for (let at = range.start; at < end; ) {
      const [absent] = content.absentRuns({ start: at, end }, 1);
      if (absent === undefined) break;
      const gaps = without(absent, content.fills.within(absent));
      for (const gap of gaps) {
        const room = Math.ceil((maxBytes - bytes) / PAGE_BYTES);
        if (room <= 0) return { fills, bytes, next: gap.start };
        const part = { start: gap.start, end: Math.min(gap.end, gap.start + room) };
        if (this.#host.isChanging(part)) continue;
        fills.push(this.#begin(content, part, as, priority));
        bytes += (part.end - part.start) * PAGE_BYTES;
        if (part.end < gap.end) return { fills, bytes, next: part.end };
      }
      at = absent.end;
    }
    return { fills, bytes, next: end };
  }

  /** The first page of the range that is neither present nor on its way nor being changed. */
  firstMissing(range: PageRange): number | undefined {
    const { content } = this.#host;
    const runs = content?.absentRuns(range) ?? [];
    for (const run of runs) {
      for (const gap of without(run, content?.fills.within(run) ?? [])) {
        if (!this.#host.isChanging(gap)) return gap.start;
      }
    }
    return undefined;
  }

  /**
   * Fetches what only the server has of the range, for who writes a part of it. It may be absent
   * again, or still: then it is to be tried again, a few times.
   */
  async fill(range: PageRange, as: Credentials): Promise<Result<void, FsError>> {
    const { content } = this.#host;
    if (content === undefined) return ok(undefined);
    const { segments, own } = this.#fillsOf(
      content,
      content.absentRuns(range),
      range,
      as,
      undefined,
    );
    const failed = await this.#settled(segments, own);
    return failed === undefined || failed.ok ? ok(undefined) : failed;
  }

  /** Is a fetch of so many bytes worth being stored? */
  mayStore(bytes: number): boolean {
    return this.#host.content?.mayStore(bytes) ?? false;
  }

  /** Waits until `bytes` more can be kept. Why they cannot; undefined: they can. */
  async makeRoom(bytes: number): Promise<'no content' | 'disk' | 'full' | undefined> {
    const { health, space, storing } = this.#parts;
    let pauses = 0;
    for (let vain = 0; vain < MAX_VAIN_EVICTIONS; ) {
      if (this.#host.renewal !== undefined) await this.#host.renewal;
      const { content } = this.#host;
      if (content === undefined || content.retired) return 'no content';
      if (content.mayStore(bytes)) return undefined;
      if (!health.mayStore) {
        // Of a full disk the cache gives up a part by itself, and tries it then.
        if (health.report().state === 'failing' || ++pauses > MAX_PAUSES) return 'disk';
        await new Promise<void>((resolve) => void this.#parts.clock.after(PAUSE_MS, resolve));
        continue;
      }
      const missing = Math.max(space.missingBytes(bytes + storing.bytes), PAGE_BYTES);
      vain = (await this.#parts.makeRoom(missing)) > 0 ? 0 : vain + 1;
    }
    return 'full';
  }

  #isServable(content: ImageContent, offset: number, length: number): boolean {
    if (this.#host.renewal !== undefined || content.retired) return false;
    if (offset + length > content.map.sizeBytes || !content.health.mayRead) return false;
    const range = pagesOf(offset, length);
    return content.isServable(range) && !this.#host.isChanging(range);
  }

  #fromFile(content: ImageContent, as: Credentials, offset: number, length: number): ReadReply {
    const reply = content.replyBegins(offset, length);
    if (content.isZero(pagesOf(offset, length))) this.#parts.counts.zeroBytes += length;
    else this.#parts.counts.cacheBytes += length;
    return {
      kind: 'file',
      fd: content.fd,
      offset,
      length,
      release: () => content.replies.drop(reply),
      instead: (errno) => {
        // Not waited for: it may wait for this very reply to be released.
        void content.unreadable(pagesOf(offset, length), errno);
        return this.#alone(as, offset, length);
      },
    };
  }

  async #readAbsent(
    as: Credentials,
    stream: Stream | undefined,
    offset: number,
    length: number,
  ): Promise<ReadResult> {
    const range = pagesOf(offset, length);
    let fetches = 0;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (this.#host.renewal !== undefined) await this.#host.renewal;
      const { content } = this.#host;
      if (content === undefined || !this.#isKept(content, offset, length)) break;
      if (!content.verification.isTrusted(range)) {
        await content.verification.check(range);
        continue;
      }
      const [zeros] = content.zeroRuns(range, 1);
      if (zeros?.start === range.start && zeros.end >= range.end) {
        this.#parts.counts.zeroBytes += length;
        return ok({ kind: 'zeros', length });
      }
      if (zeros !== undefined) {
        if (!content.health.mayStore || !(await content.storeZeros(range))) break;
        continue;
      }
      const absent = content.absentRuns(range);
      const [first] = absent;
      if (first === undefined) return ok(this.#fromFile(content, as, offset, length));
      if (!content.mayStore(length) || fetches >= MAX_FETCHES) break;
      if (this.#isBehind(length) && !isOnItsWay(content, absent)) {
        if (!(await this.#caughtUp(length))) break;
        continue;
      }
      const { segments, own } = this.#fillsOf(content, absent, range, as, stream);
      if (own.size > 0) fetches++;
      const answer =
        first.start === range.start && first.end === range.end
          ? await this.#fromFills(content, segments, own, offset, length)
          : await this.#settled(segments, own);
      if (answer !== undefined) return answer;
    }
    return this.#alone(as, offset, length);
  }

  /** The disk is slower than the network: to keep more would take ever more memory. */
  #isBehind(length: number): boolean {
    return this.#parts.queue.heldBytes + length > this.#parts.maxBacklogBytes;
  }

  /** Waits for the disk, so that what is read is kept; false when it is stuck. */
  #caughtUp(length: number): Promise<boolean> {
    const { queue, clock, maxBacklogBytes } = this.#parts;
    const enough = maxBacklogBytes - length;
    if (this.#isStuck) return Promise.resolve(false);
    return new Promise((resolve) => {
      const before = queue.heldBytes;
      const timer = clock.after(STUCK_MS, () => {
        forget();
        // One that moves is waited for, however slow it is.
        const moves = queue.heldBytes < before;
        if (!moves) {
          this.#isStuck = true;
          queue.whenHeldAtMost(enough, () => {
            this.#isStuck = false;
          });
        }
        resolve(moves);
      });
      const forget = queue.whenHeldAtMost(enough, () => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  #isKept(content: ImageContent, offset: number, length: number): boolean {
    return (
      offset + length <= content.map.sizeBytes &&
      content.health.mayRead &&
      !this.#host.isChanging(pagesOf(offset, length))
    );
  }

  /** The fills of the absent runs: those under way, and new ones for the gaps. */
  #fillsOf(
    content: ImageContent,
    absent: readonly PageRange[],
    range: PageRange,
    as: Credentials,
    stream: Stream | undefined,
  ): { segments: Segment[]; own: ReadonlySet<Fill> } {
    const own = new Set<Fill>();
    for (const run of absent) {
      for (const gap of without(run, content.fills.within(run))) {
        const wide = gap.end === range.end ? this.#widened(content, gap, stream) : gap;
        own.add(this.#begin(content, wide, as, 'demand'));
      }
    }
    const segments = absent.flatMap((run) => content.fills.within(run));
    if (segments.some(({ fill }) => !own.has(fill))) this.#parts.counts.waits++;
    return { segments, own };
  }

  /** The gap with what its stream is going to want of the same block. */
  #widened(content: ImageContent, gap: PageRange, stream: Stream | undefined): PageRange {
    if (stream === undefined) return gap;
    const { map, fills } = content;
    const until = Math.floor(stream.widened(gap.end * PAGE_BYTES) / PAGE_BYTES);
    const [more] = content.absentRuns({ start: gap.end, end: Math.min(until, map.pageCount) }, 1);
    if (more === undefined || more.start !== gap.end) return gap;
    const [free] = without(more, fills.within(more));
    if (free === undefined || free.start !== gap.end || this.#host.isChanging(free)) return gap;
    if (!content.mayStore((free.end - gap.start) * PAGE_BYTES)) return gap;
    stream.frontier = Math.max(stream.frontier, free.end * PAGE_BYTES);
    stream.aheadBytes += (free.end - free.start) * PAGE_BYTES;
    return { start: gap.start, end: free.end };
  }

  #begin(content: ImageContent, range: PageRange, as: Credentials, priority: Priority): Fill {
    const start = range.start * PAGE_BYTES;
    const { sizeBytes } = content.map;
    const length = Math.min(range.end * PAGE_BYTES, sizeBytes) - start;
    const answer = this.#fetch(content, as, start, length, priority);
    return content.fills.begin(range, priority, answer, sizeBytes);
  }

  /** Behind the end of the server's file are zeros, up to ours. */
  async #fetch(
    content: ImageContent,
    as: Credentials,
    start: number,
    length: number,
    priority: Priority,
  ): Promise<Result<Fetched, FsError>> {
    const { queue } = this.#parts;
    const atServer = Math.min(length, content.zeros.serverBytes - start);
    const answer = await queue.fetch(this.#host.source, as, start, atServer, priority);
    if (!answer.ok || atServer === length || answer.value.bytes.length < atServer) return answer;
    const bytes = Buffer.alloc(length);
    answer.value.bytes.copy(bytes);
    return ok({ bytes, release: () => answer.value.release() });
  }

  /** The bytes as they come. undefined: to be tried again. */
  async #fromFills(
    content: ImageContent,
    segments: readonly Segment[],
    own: ReadonlySet<Fill>,
    offset: number,
    length: number,
  ): Promise<ReadResult | undefined> {
    for (const { fill } of segments) fill.hold();
    const release = () => {
      for (const { fill } of segments) fill.drop();
    };
    await Promise.all(segments.map(({ fill }) => fill.came));
    const failed = segments.find(({ fill }) => fill.error !== undefined)?.fill;
    if (failed !== undefined || content !== this.#host.content) {
      release();
      return failed?.error !== undefined && own.has(failed) ? err(failed.error) : undefined;
    }
    const views = viewsOf(segments, offset, length);
    for (const view of views) this.#parts.counts.serverBytes += view.length;
    return ok({ kind: 'bytes', bytes: views, release });
  }

  /** Waits until what is on its way is in the file. undefined: to be looked at again. */
  async #settled(
    segments: readonly Segment[],
    own: ReadonlySet<Fill>,
  ): Promise<ReadResult | undefined> {
    await Promise.all(segments.map(({ fill }) => fill.settled));
    for (const fill of own) if (fill.error !== undefined) return err(fill.error);
    return undefined;
  }

  /** For this read only. */
  async #alone(as: Credentials, offset: number, length: number): Promise<ReadResult> {
    const { queue, counts } = this.#parts;
    const { content } = this.#host;
    if (content?.isOurs(pagesOf(offset, length)) === true) {
      return readBeside(content, offset, length, (from, count) =>
        queue.fetch(this.#host.source, as, from, count, 'demand'),
      );
    }
    const answer = await queue.fetch(this.#host.source, as, offset, length, 'demand');
    if (!answer.ok) return answer;
    const { bytes, release } = answer.value;
    counts.serverBytes += bytes.length;
    return ok({ kind: 'bytes', bytes: [bytes], release });
  }

  #readAhead(stream: Stream, as: Credentials): void {
    let taker = this.#takers.get(stream);
    if (taker === undefined) {
      // In the name of whoever reads the stream; an open file has one reader.
      taker = { take: (maxBytes) => this.#takePiece(stream, as, maxBytes) };
      this.#takers.set(stream, taker);
    }
    this.#parts.queue.want(taker, 'readAhead');
  }

  #takePiece(stream: Stream, as: Credentials, maxBytes: number): number {
    const { content } = this.#host;
    if (content === undefined || stream.gone) return 0;
    const limit = this.#parts.queue.streamBytes();
    for (let looks = 0; looks < MAX_LOOKS; looks++) {
      const piece = stream.nextPiece(maxBytes, limit, content.map.sizeBytes);
      if (piece === undefined) return 0;
      const range = pagesOf(piece.start, piece.end - piece.start);
      const begun = this.beginAbsent(range, as, 'readAhead', maxBytes);
      if (begun === undefined) return 0;
      stream.frontier = Math.min(begun.next * PAGE_BYTES, piece.end);
      stream.aheadBytes += begun.bytes;
      if (begun.bytes > 0) return begun.bytes;
    }
    return 0;
  }

  #countUsed(stream: Stream, bytes: number): void {
    const used = Math.min(stream.aheadBytes, bytes);
    stream.aheadBytes -= used;
    this.#parts.counts.readAheadUsedBytes += used;
  }

  #forget(stream: Stream): void {
    const taker = this.#takers.get(stream);
    if (taker === undefined) return;
    this.#takers.delete(stream);
    this.#parts.queue.drop(taker);
    this.#parts.counts.readAheadUnusedBytes += stream.aheadBytes;
  }
}

/**
 * Fetches a range in the background, a piece at a time.
 *
 *   fetching --nothing more can be kept--> waiting for eviction --room--> fetching
 *      ^  |                                        '--nothing may go--> ENOSPC
 *      |  '--all asked for, and settled--> the end
 *      '--eviction took some of it: back there, a few times, then ENOSPC
 *
 * What it has fetched was used last: once eviction takes that, there is nothing colder to go.
 */
class Warming implements PieceTaker {
  readonly #reads: ImageReads;
  readonly #parts: CacheParts;
  readonly #range: PageRange;
  readonly #options: WarmOptions;
  readonly #ended: (outcome: Result<number, FsError>) => void;
  #next: number;
  /** Where `#next` was at most. */
  #furthest: number;
  #evictedBytes: number;
  #returns = 0;
  #inFlightBytes = 0;
  #fetchedBytes = 0;
  #makesRoom = false;
  #over = false;

  constructor(
    reads: ImageReads,
    parts: CacheParts,
    offset: number,
    length: number,
    options: WarmOptions,
    ended: (outcome: Result<number, FsError>) => void,
  ) {
    this.#reads = reads;
    this.#parts = parts;
    this.#range = pagesOf(offset, length);
    this.#next = this.#range.start;
    this.#furthest = this.#next;
    this.#evictedBytes = parts.evictedBytes();
    this.#options = options;
    this.#ended = ended;
  }

  start(): void {
    this.#options.signal?.addEventListener('abort', () => this.#stop(), { once: true });
    if (this.#options.signal?.aborted === true) this.#stop();
    else if (this.#next >= this.#range.end) this.#end(ok(0));
    else this.#parts.queue.want(this, 'background');
  }

  take(maxBytes: number): number {
    if (this.#over || this.#makesRoom) return 0;
    this.#goBack();
    if (this.#over || this.#next >= this.#range.end) return 0;
    const { as } = this.#options;
    const rest = { start: this.#next, end: this.#range.end };
    if (this.#inFlightBytes > 0 && !this.#reads.mayStore(maxBytes + this.#inFlightBytes)) {
      // What is on its way needs its room as well: when it has come we know more (`#wait`).
      return 0;
    }
    const begun = this.#reads.beginAbsent(rest, as, 'background', maxBytes);
    if (begun === undefined) {
      void this.#makeRoom(maxBytes);
      return 0;
    }
    this.#next = Math.max(begun.next, this.#next);
    if (this.#next >= rest.end || begun.bytes === 0) this.#next = this.#range.end;
    for (const fill of begun.fills) void this.#wait(fill);
    this.#progress();
    return begun.bytes;
  }

  async #wait(fill: Fill): Promise<void> {
    const bytes = (fill.end - fill.start) * PAGE_BYTES;
    this.#inFlightBytes += bytes;
    await fill.settled;
    this.#inFlightBytes -= bytes;
    if (fill.error !== undefined) this.#end(err(fill.error));
    else this.#fetchedBytes += bytes;
    this.#progress();
    if (!this.#over && !this.#makesRoom) this.#parts.queue.want(this, 'background');
  }

  async #makeRoom(bytes: number): Promise<void> {
    this.#makesRoom = true;
    const why = await this.#reads.makeRoom(bytes);
    this.#makesRoom = false;
    if (this.#over) return;
    if (why === undefined) this.#parts.queue.want(this, 'background');
    else if (why === 'full') await this.#endFull();
    else this.#end(err(localError('EIO', 'warm', 'warm: nothing can be kept of it now')));
  }

  /** To what was evicted behind it. */
  #goBack(): void {
    const evictedBytes = this.#parts.evictedBytes();
    // At the end also to what came when there was no room for it.
    const isRefused = this.#next >= this.#range.end && !this.#reads.mayStore(PAGE_BYTES);
    if (evictedBytes === this.#evictedBytes && !isRefused) return;
    this.#evictedBytes = evictedBytes;
    const missing = this.#reads.firstMissing({ start: this.#range.start, end: this.#next });
    if (missing === undefined) return;
    this.#next = missing;
    this.#returns++;
    if (this.#returns > MAX_RETURNS) void this.#endFull();
  }

  #progress(): void {
    if (this.#over || this.#makesRoom) return;
    const { start, end } = this.#range;
    if (this.#next >= end && this.#inFlightBytes === 0) {
      this.#goBack();
      if (this.#over || this.#makesRoom) return;
      if (this.#next < end) {
        this.#parts.queue.want(this, 'background');
        return;
      }
    }
    this.#furthest = Math.max(this.#furthest, this.#next);
    const done = (this.#furthest - start) * PAGE_BYTES;
    this.#options.onProgress?.(done, (end - start) * PAGE_BYTES);
    if (this.#next >= end && this.#inFlightBytes === 0) this.#end(ok(this.#fetchedBytes));
  }

  async #endFull(): Promise<void> {
    this.#makesRoom = true;
    const { space } = this.#parts;
    const wanted = (this.#range.end - this.#range.start) * PAGE_BYTES;
    const pinned = mebibytes(await this.#parts.pinnedBytes());
    const why =
      `${mebibytes(wanted)} wanted, the limit is ${mebibytes(space.limitBytes)}, ` +
      `${mebibytes(space.usedBytes)} are used and may not go, ${pinned} of them pinned`;
    this.#end(err(localError('ENOSPC', 'warm', `warm: the cache is full: ${why}`)));
  }

  #stop(): void {
    this.#end(err(localError('EINTR', 'warm', 'warm: stopped')));
  }

  #end(outcome: Result<number, FsError>): void {
    if (this.#over) return;
    this.#over = true;
    this.#ended(outcome);
  }
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB`;
}

function isOnItsWay({ fills }: ImageContent, runs: readonly PageRange[]): boolean {
  return runs.every((run) => without(run, fills.within(run)).length === 0);
}

/** [offset, offset + length) of what came: shorter where the file ends. */
function viewsOf(segments: readonly Segment[], offset: number, length: number): Buffer[] {
  const views: Buffer[] = [];
  for (const { start, end, fill } of segments) {
    const base = fill.start * PAGE_BYTES;
    const from = Math.max(start * PAGE_BYTES, offset);
    const to = Math.min(end * PAGE_BYTES, offset + length);
    const view = fill.bytes.subarray(from - base, to - base);
    if (view.length > 0) views.push(view);
    if (view.length < to - from) break;
  }
  return views;
}
