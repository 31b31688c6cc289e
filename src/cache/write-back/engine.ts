/**
 * Write-back of all images of a cache: which one when.
 *
 *   age       what was written `ageMs` ago is sent
 *   amount    when more than `maxDirtyBytes` are dirty, the oldest go first
 *   pressure  the cache needs clean pages: the oldest go first, as much as is needed
 *   command   an image, a range of one, or all
 *
 * With mode 'deferred' only pressure and command.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import type { PageRange } from '../page-range.ts';
import type { BoutEnd } from './bout.ts';
import type { DirtyImage } from './dirty-image.ts';
import {
  ImageWork,
  type SentBack,
  type WorkParts,
  type WriteBackProgress,
  type WriteBackWatch,
} from './image-work.ts';
import { Places } from './places.ts';
import { type ReadsView, WriteWindow } from './window.ts';

export interface WriteBackPolicy {
  readonly mode: 'back' | 'deferred';
  readonly ageMs: number;
  /** Of all images; when more are dirty the oldest are sent. */
  readonly maxDirtyBytes: number;
  /** Writers wait beyond it (`roomFor`). */
  readonly mostDirtyBytes?: number | undefined;
}

/** What happens, for logs and those who watch. All are optional; none may throw. */
export interface WriteBackEvents {
  /** So many bytes of the image have become durable at the server. */
  writtenBack?(path: string, bytes: number): void;
  /** `bytes` are still dirty. */
  failed?(path: string, bytes: number, error: FsError, willRetry: boolean): void;
  /** Another has changed the server's file (C6): nothing is sent. */
  conflict?(path: string): void;
  /** The server has all of it. */
  clean?(path: string): void;
}

export interface WriteBackOptions {
  readonly clock: Clock;
  /** Reads of the server, which go first: `FetchQueue.reads` as it is now. */
  readonly reads: () => ReadsView;
  readonly policy: WriteBackPolicy;
  readonly events: WriteBackEvents;
}

export type { SentBack, WriteBackProgress, WriteBackWatch };

export interface AllSentBack extends SentBack {
  /** Images of which not everything could be sent. */
  readonly failures: readonly WriteBackFailure[];
}

export interface WriteBackFailure {
  readonly fileId: string;
  readonly path: string;
  readonly dirtyBytes: number;
  readonly error: FsError;
  /** When it is tried again; undefined: only on command. */
  readonly retryInMs: number | undefined;
}

export interface WriteBackFigures {
  /** Of all images, those being sent included. */
  readonly dirtyBytes: number;
  readonly dirtyImages: number;
  /** Of the oldest unsent write. */
  readonly oldestAgeMs: number | undefined;
  /** Sent, not answered. */
  readonly inFlightBytes: number;
  /** Images that are being sent. */
  readonly sendingImages: number;
  /** Since the start: durable at the server; lost by a server that restarted. */
  readonly sentBytes: number;
  readonly lostBytes: number;
  readonly commits: number;
  /** Those that last failed, and are dirty still. */
  readonly failures: readonly WriteBackFailure[];
  /** What the link was seen to take. */
  readonly bytesPerSecond: number | undefined;
}

/** Images that are sent at the same time, and of those the engine's own choice to make room. */
const PLACES = 64;
const CLEANERS = 4;
/** What is dirty is brought down to this part of the limit. */
const LOW_MARK = 0.75;
/** What writers that wait for room have made clean at once, at least. */
const ROOM_BYTES = 16 * 1024 * 1024;

export class WriteBackEngine {
  readonly #options: WriteBackOptions;
  readonly #window: WriteWindow;
  readonly #parts: WorkParts;
  readonly #works = new Map<DirtyImage, Tracked>();
  #dirtyBytes = 0;
  #sentBytes = 0;
  #lostBytes = 0;
  #commits = 0;
  #isReducing = false;
  /** Who waits until so many bytes were sent, since the start. */
  readonly #watching = new Set<() => void>();
  #stopping: Promise<void> | undefined;

  constructor(options: WriteBackOptions) {
    const { clock, reads } = options;
    this.#options = options;
    this.#window = new WriteWindow(clock, reads);
    this.#parts = {
      clock,
      window: this.#window,
      places: new Places(PLACES),
      settled: (work, bytes) => this.#settled(work, bytes),
      lost: (bytes) => {
        this.#lostBytes += bytes;
      },
      committed: () => {
        this.#commits++;
      },
      boutEnded: (work, end, sentBytes) => this.#boutEnded(work, end, sentBytes),
      idle: (work) => this.#idle(work),
    };
  }

  /**
   * The image has, or has more, or has other unsent writes than before; or its conflict was
   * resolved. Cheap: to be called after each write.
   */
  changed(image: DirtyImage): void {
    if (this.#stopping !== undefined) return;
    const tracked = this.#track(image);
    this.#count(tracked);
    tracked.work.isInConflict = image.inConflict;
    this.#schedule(tracked);
    this.#checkAmount();
  }

  /**
   * Nothing of it is to be sent any more: its writes were discarded, or it is closed. The image is
   * not called any more. Resolves when no WRITE of it is on the wire.
   */
  async gone(image: DirtyImage): Promise<void> {
    const tracked = this.#works.get(image);
    if (tracked === undefined) return;
    this.#forget(tracked);
    const message = `${image.path}: its unsent writes were dropped`;
    await tracked.work.abandon(localError('ESTALE', 'write back', message));
  }

  /**
   * Resolves when no WRITE that touches `range` is on the wire; until the answer is called no WRITE
   * of the image is begun. For a change of size (C11): what is sent already may still be
   * uncommitted, and is settled or put back later.
   */
  async holdBack(image: DirtyImage, range: PageRange): Promise<() => void> {
    if (this.#stopping !== undefined) return () => undefined;
    const { work } = this.#track(image);
    const release = await work.holdBack(range);
    return () => {
      release();
      if (work.isIdle) this.#idle(work);
    };
  }

  /**
   * Everything that was dirty at the call is durable at the server when it resolves; of pages
   * written meanwhile, these bytes or newer ones. Size and mtime too.
   */
  writeBack(image: DirtyImage, watch: WriteBackWatch = {}): Promise<Result<SentBack, FsError>> {
    return this.#ask(image, (work) => work.ask(watch));
  }

  /** The same for a range of pages, before all other work on the image; without size and mtime. */
  writeBackRange(image: DirtyImage, range: PageRange): Promise<Result<SentBack, FsError>> {
    return this.#ask(image, (work) => work.askRange(range));
  }

  /** `writeBack` of all images; one that fails does not stop the others. */
  async writeBackAll(watch: WriteBackWatch = {}): Promise<AllSentBack> {
    const { signal, onProgress } = watch;
    const sentBytes = new Map<DirtyImage, number>();
    const tell = () => {
      onProgress?.({ sentBytes: sum(sentBytes.values()), leftBytes: this.#dirtyBytes });
    };
    const failures: WriteBackFailure[] = [];
    const sendOne = async (tracked: Tracked) => {
      const { image } = tracked.work;
      const result = await this.writeBack(image, {
        signal,
        onProgress: (progress) => {
          sentBytes.set(image, progress.sentBytes);
          tell();
        },
      });
      if (result.ok) sentBytes.set(image, result.value.sentBytes);
      else failures.push(this.#describe(tracked, result.error));
    };
    await Promise.all([...this.#works.values()].map(sendOne));
    return { sentBytes: sum(sentBytes.values()), failures };
  }

  /** The cache needs room: makes about so many bytes clean if it can. The bytes it made so. */
  async makeClean(bytes: number): Promise<number> {
    const sentBefore = this.#sentBytes;
    const leftBytes = () => bytes - (this.#sentBytes - sentBefore);
    if (this.#stopping !== undefined || bytes <= 0) return 0;
    let isEnough = () => {};
    const enough = new Promise<void>((resolve) => {
      isEnough = () => {
        if (leftBytes() <= 0) resolve();
      };
    });
    this.#watching.add(isEnough);
    await Promise.race([enough, this.#clean(leftBytes, 'as much as is needed')]);
    this.#watching.delete(isEnough);
    return this.#sentBytes - sentBefore;
  }

  /**
   * Before so many bytes become dirty: undefined, or what to wait for. Pressed by it images are
   * sent, in any mode. It resolves as well when nothing can be sent.
   */
  roomFor(bytes: number): Promise<void> | undefined {
    return this.#excessOf(bytes) > 0 ? this.#makeRoomFor(bytes) : undefined;
  }

  /**
   * Sends no more dirty pages, waits at most `graceMs` until what is on the wire is answered and
   * committed, and then touches no image any more. What is not durable then stays dirty. May be
   * called twice.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  figures(): WriteBackFigures {
    const all = [...this.#works.values()];
    const oldestMs = Math.min(
      ...all.map(({ work }) => work.image.dirtySinceMs ?? Number.POSITIVE_INFINITY),
    );
    const nowMs = this.#options.clock.monotonicMs();
    return {
      dirtyBytes: this.#dirtyBytes,
      oldestAgeMs: Number.isFinite(oldestMs) ? nowMs - oldestMs : undefined,
      dirtyImages: all.filter(({ work }) => work.isUnsent).length,
      inFlightBytes: this.#window.inFlightBytes,
      sendingImages: all.filter(({ work }) => work.isSending).length,
      sentBytes: this.#sentBytes,
      lostBytes: this.#lostBytes,
      commits: this.#commits,
      failures: all.flatMap((tracked) => {
        const { failure } = tracked.work;
        return failure === undefined ? [] : [this.#describe(tracked, failure.error)];
      }),
      bytesPerSecond: this.#window.bytesPerSecond,
    };
  }

  // ---- Private ------------------------------------------------------------------------------------

  #track(image: DirtyImage): Tracked {
    const known = this.#works.get(image);
    if (known !== undefined) return known;
    const tracked: Tracked = {
      work: new ImageWork(image, this.#parts),
      knownDirtyBytes: 0,
      timer: undefined,
    };
    this.#works.set(image, tracked);
    return tracked;
  }

  #forget(tracked: Tracked): void {
    tracked.timer?.cancel();
    this.#dirtyBytes -= tracked.knownDirtyBytes;
    this.#works.delete(tracked.work.image);
  }

  #count(tracked: Tracked): void {
    const { dirtyBytes } = tracked.work.image;
    this.#dirtyBytes += dirtyBytes - tracked.knownDirtyBytes;
    tracked.knownDirtyBytes = dirtyBytes;
  }

  async #ask(
    image: DirtyImage,
    ask: (work: ImageWork) => Promise<Result<SentBack, FsError>>,
  ): Promise<Result<SentBack, FsError>> {
    if (this.#stopping !== undefined) return err(stopped());
    const tracked = this.#track(image);
    this.#count(tracked);
    const { work } = tracked;
    if (!work.isIdle || work.isUnsent) return ask(work);
    this.#idle(work);
    return ok({ sentBytes: 0 });
  }

  // ---- When ---------------------------------------------------------------------------------------

  /** Its age, or the end of a pause after a failure. */
  #schedule(tracked: Tracked): void {
    const { work } = tracked;
    const { clock, policy } = this.#options;
    if (policy.mode === 'deferred' || !work.isIdle || tracked.timer !== undefined) return;
    const dueMs = this.#dueMs(work);
    if (dueMs === undefined) return;
    tracked.timer = clock.after(Math.max(dueMs - clock.monotonicMs(), 0), () => {
      tracked.timer = undefined;
      if (this.#stopping !== undefined || !work.isIdle) return;
      const stillMs = (this.#dueMs(work) ?? Number.POSITIVE_INFINITY) - clock.monotonicMs();
      if (stillMs <= 0) void work.send();
      else this.#schedule(tracked);
    });
  }

  #dueMs(work: ImageWork): number | undefined {
    if (!work.isUnsent || work.isInConflict) return undefined;
    if (work.failure !== undefined) return work.failure.retryAtMs;
    const { dirtySinceMs } = work.image;
    const sinceMs = Math.max(dirtySinceMs ?? Number.NEGATIVE_INFINITY, work.sweptFromMs);
    return Math.max(sinceMs, 0) + this.#options.policy.ageMs;
  }

  #checkAmount(): void {
    const { mode, maxDirtyBytes } = this.#options.policy;
    if (mode === 'deferred' || this.#isReducing || this.#dirtyBytes <= maxDirtyBytes) return;
    this.#isReducing = true;
    const excessBytes = () => this.#dirtyBytes - LOW_MARK * maxDirtyBytes;
    void this.#clean(excessBytes, 'all of an image').then(() => {
      // Not at once again if nothing could be sent: the next write looks.
      this.#isReducing = false;
    });
  }

  /** The oldest first, each once, until no bytes are left to be made clean. */
  async #clean(
    leftBytes: () => number,
    much: 'all of an image' | 'as much as is needed',
  ): Promise<void> {
    const tried = new Set<ImageWork>();
    const underWay = new Set<ImageWork>();
    const unplannedBytes = () =>
      leftBytes() - sum([...underWay].map(({ image }) => image.dirtyBytes));
    const cleaner = async () => {
      while (unplannedBytes() > 0 && this.#stopping === undefined) {
        const work = this.#oldest(tried);
        if (work === undefined) return;
        tried.add(work);
        const limitBytes = much === 'all of an image' ? undefined : unplannedBytes();
        underWay.add(work);
        await work.send(limitBytes);
        underWay.delete(work);
      }
    };
    await Promise.all(Array.from({ length: CLEANERS }, cleaner));
  }

  #oldest(tried: ReadonlySet<ImageWork>): ImageWork | undefined {
    let oldest: ImageWork | undefined;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const { work } of this.#works.values()) {
      const { dirtyBytes, dirtySinceMs = 0 } = work.image;
      const isBlocked = work.isInConflict || this.#isPausing(work);
      if (dirtyBytes === 0 || isBlocked || tried.has(work) || dirtySinceMs >= oldestMs) continue;
      oldest = work;
      oldestMs = dirtySinceMs;
    }
    return oldest;
  }

  /** After a failure. */
  #isPausing({ failure }: ImageWork): boolean {
    if (failure === undefined) return false;
    const { retryAtMs = Number.POSITIVE_INFINITY } = failure;
    return this.#options.clock.monotonicMs() < retryAtMs;
  }

  /** Of one that failed; undefined: only on command. */
  #retryAtMs({ failure }: ImageWork): number | undefined {
    return this.#options.policy.mode === 'back' ? failure?.retryAtMs : undefined;
  }

  #excessOf(bytes: number): number {
    const { mostDirtyBytes } = this.#options.policy;
    if (mostDirtyBytes === undefined || this.#stopping !== undefined) return 0;
    return this.#dirtyBytes + bytes - mostDirtyBytes;
  }

  async #makeRoomFor(bytes: number): Promise<void> {
    for (let excess = this.#excessOf(bytes); excess > 0; excess = this.#excessOf(bytes)) {
      if ((await this.makeClean(Math.max(excess, ROOM_BYTES))) === 0) return;
    }
  }

  // ---- What the works tell ------------------------------------------------------------------------

  #settled(work: ImageWork, bytes: number): void {
    this.#sentBytes += bytes;
    const tracked = this.#works.get(work.image);
    if (tracked !== undefined) this.#count(tracked);
    for (const look of this.#watching) look();
  }

  #boutEnded(work: ImageWork, end: BoutEnd, sentBytes: number): void {
    const { events } = this.#options;
    const { path, dirtyBytes } = work.image;
    if (sentBytes > 0) events.writtenBack?.(path, sentBytes);
    if (end.kind === 'conflict') events.conflict?.(path);
    if (end.kind === 'failed') {
      const willRetry = this.#retryAtMs(work) !== undefined;
      events.failed?.(path, dirtyBytes, end.error, willRetry);
    }
    if (!work.isUnsent) events.clean?.(path);
  }

  #idle(work: ImageWork): void {
    const tracked = this.#works.get(work.image);
    if (tracked === undefined || this.#stopping !== undefined) return;
    this.#count(tracked);
    // Due at another time than before.
    tracked.timer?.cancel();
    tracked.timer = undefined;
    if (work.isUnsent) this.#schedule(tracked);
    else if (!work.isHeldBack) this.#forget(tracked);
  }

  #describe({ work }: Tracked, error: FsError): WriteBackFailure {
    const { fileId, path, dirtyBytes } = work.image;
    const retryAtMs = this.#retryAtMs(work);
    const nowMs = this.#options.clock.monotonicMs();
    const retryInMs = retryAtMs === undefined ? undefined : Math.max(retryAtMs - nowMs, 0);
    return { fileId, path, dirtyBytes, error, retryInMs };
  }

  async #stop(graceMs: number): Promise<void> {
    // Everybody sees that it is stopping before anything is ended.
    await Promise.resolve();
    this.#window.close();
    const all = [...this.#works.values()];
    for (const { timer } of all) timer?.cancel();
    const ended = Promise.all(all.map(({ work }) => work.stop(stopped())));
    await Promise.race([ended, pause(this.#options.clock, graceMs)]);
    for (const { work } of all) void work.abandon(stopped());
  }
}

interface Tracked {
  readonly work: ImageWork;
  /** As counted in the sum of all. */
  knownDirtyBytes: number;
  timer: Timer | undefined;
}

function stopped(): FsError {
  const message = 'write back: it was stopped; what is not sent stays dirty';
  return { errno: 'EIO', code: 'CLOSED', operation: 'write back', message };
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}
