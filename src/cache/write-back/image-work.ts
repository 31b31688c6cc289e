/**
 * What is to be sent of one image, and who waits for it.
 *
 *              ask                  bout                done
 *   (nothing) -----> job waiting ---------> job begun --------> (nothing)
 *                      ^    |                 |  |
 *                      |    | nobody waits    |  | failed, conflict
 *                      |    '-> (nothing)     |  '----> (nothing)
 *                      '------- halted -------'
 *
 * One bout at a time. A range goes before the rest: the bout under way is halted, and its sweep
 * goes on afterwards. A job that has begun takes nobody in: its sweep may have passed already what
 * the newcomer wants to be sent. What the engine sends by its own will joins any job.
 */
import type { Clock } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import type { PageRange } from '../page-range.ts';
import { Bout, type BoutEnd } from './bout.ts';
import type { DirtyImage } from './dirty-image.ts';
import { pauseBeforeRetryMs } from './failures.ts';
import { Holds } from './holds.ts';
import type { Places } from './places.ts';
import { rangeSweep, type Sweep, wholeSweep } from './sweep.ts';
import type { WriteWindow } from './window.ts';

export interface SentBack {
  /** What of it became durable at the server. */
  readonly sentBytes: number;
}

export interface WriteBackProgress extends SentBack {
  /** Still dirty. */
  readonly leftBytes: number;
}

export interface WriteBackWatch {
  /** The caller does not wait any more (Err EINTR); what is sent only for it stops. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: WriteBackProgress) => void) | undefined;
}

/** The last time that it could not be sent. */
export interface WorkFailure {
  readonly error: FsError;
  readonly attempts: number;
  /** Monotonic: not without a command before this; undefined: never. */
  readonly retryAtMs: number | undefined;
}

export interface WorkParts {
  readonly clock: Clock;
  readonly window: WriteWindow;
  readonly places: Places;
  /** How bouts and jobs go on. None may throw. */
  settled(work: ImageWork, bytes: number): void;
  lost(bytes: number): void;
  committed(): void;
  boutEnded(work: ImageWork, end: BoutEnd, sentBytes: number): void;
  /** Nothing is to be done of it. */
  idle(work: ImageWork): void;
}

interface Waiter {
  /** Not the engine's own will. */
  readonly isCommand: boolean;
  readonly answer: (result: Result<SentBack, FsError>) => void;
  readonly onProgress?: ((progress: WriteBackProgress) => void) | undefined;
}

interface Job {
  readonly sweep: Sweep;
  isBegun: boolean;
  readonly waiters: Set<Waiter>;
}

export class ImageWork {
  readonly image: DirtyImage;
  readonly #parts: WorkParts;
  readonly #holds = new Holds();
  #jobs: Job[] = [];
  #bout: Bout | undefined;
  /** Whose bout it is. */
  #served: Job | undefined;
  #isRunning = false;
  /** Nothing is asked of it any more, and why. */
  #closed: FsError | undefined;
  #running: Promise<void> = Promise.resolve();
  #leavePlace: (() => void) | undefined;
  #failure: WorkFailure | undefined;
  #sweptFromMs = Number.NEGATIVE_INFINITY;
  isInConflict = false;

  constructor(image: DirtyImage, parts: WorkParts) {
    this.image = image;
    this.#parts = parts;
  }

  get isUnsent(): boolean {
    const { dirtyBytes, hasUnsentAttributes, isResting } = this.image;
    return dirtyBytes > 0 || hasUnsentAttributes || !isResting;
  }

  get isSending(): boolean {
    return this.#bout !== undefined;
  }

  get isIdle(): boolean {
    return !this.#isRunning;
  }

  get isHeldBack(): boolean {
    return this.#holds.areHeld;
  }

  get failure(): WorkFailure | undefined {
    return this.#failure;
  }

  /** When the last sweep over all of it began that got through: what is dirty is younger. */
  get sweptFromMs(): number {
    return this.#sweptFromMs;
  }

  /** See `WriteBackEngine.writeBack`. */
  ask(watch: WriteBackWatch): Promise<Result<SentBack, FsError>> {
    const joined = this.#jobs.find(({ sweep, isBegun }) => !isBegun && isOfAll(sweep));
    return this.#wait(joined ?? this.#add(wholeSweep()), true, watch);
  }

  /** See `WriteBackEngine.writeBackRange`. */
  askRange(range: PageRange): Promise<Result<SentBack, FsError>> {
    const job: Job = { sweep: rangeSweep(range), isBegun: false, waiters: new Set() };
    // Behind other ranges.
    const at = this.#jobs.findIndex(({ sweep }) => sweep.isWhole);
    this.#jobs.splice(at < 0 ? this.#jobs.length : at, 0, job);
    const [first] = this.#jobs;
    if (first === job) this.#bout?.halt();
    return this.#wait(job, true, {});
  }

  /** By the engine's own will: about so many bytes. */
  send(limitBytes = Number.POSITIVE_INFINITY): Promise<Result<SentBack, FsError>> {
    const joined = this.#jobs.find(({ sweep }) => sweep.isWhole);
    return this.#wait(joined ?? this.#add(wholeSweep(limitBytes)), false, {});
  }

  async holdBack(range: PageRange): Promise<() => void> {
    const release = this.#holds.hold();
    await this.#bout?.untilWritten(range);
    return release;
  }

  /** Takes nothing on; what is on the wire ends in order. Resolves when it has. */
  stop(why: FsError): Promise<void> {
    this.#closed ??= why;
    this.#bout?.halt();
    for (const job of this.#jobs.filter(({ isBegun }) => !isBegun)) this.#end(job, err(why));
    return this.#running;
  }

  /** Touches the image no more. Resolves when no WRITE of it is on the wire. */
  async abandon(why: FsError): Promise<void> {
    this.#closed ??= why;
    const bout = this.#bout;
    bout?.abandon();
    this.#leavePlace?.();
    for (const job of [...this.#jobs]) this.#end(job, err(why));
    await bout?.untilWritten({ start: 0, end: Number.POSITIVE_INFINITY });
  }

  // ---- Private ------------------------------------------------------------------------------------

  #add(sweep: Sweep): Job {
    const job: Job = { sweep, isBegun: false, waiters: new Set() };
    this.#jobs.push(job);
    return job;
  }

  #wait(
    job: Job,
    isCommand: boolean,
    { signal, onProgress }: WriteBackWatch,
  ): Promise<Result<SentBack, FsError>> {
    return new Promise((resolve) => {
      const cancel = () => {
        job.waiters.delete(waiter);
        if (job.waiters.size === 0) this.#unwanted(job);
        resolve(err(localError('EINTR', 'write back', 'nobody waits for it any more')));
      };
      const waiter: Waiter = {
        isCommand,
        onProgress,
        answer: (result) => {
          signal?.removeEventListener('abort', cancel);
          resolve(result);
        },
      };
      job.waiters.add(waiter);
      if (this.#closed !== undefined) this.#end(job, err(this.#closed));
      else if (signal?.aborted === true) cancel();
      else {
        signal?.addEventListener('abort', cancel, { once: true });
        this.#start();
      }
    });
  }

  #unwanted(job: Job): void {
    if (this.#served === job) this.#bout?.halt();
    else this.#remove(job);
  }

  #remove(job: Job): void {
    this.#jobs = this.#jobs.filter((other) => other !== job);
  }

  #end(job: Job, result: Result<SentBack, FsError>): void {
    this.#remove(job);
    for (const { answer } of job.waiters) answer(result);
    job.waiters.clear();
  }

  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    // After the caller's turn: jobs that are asked for together may be one.
    this.#running = Promise.resolve().then(() => this.#run());
  }

  async #run(): Promise<void> {
    while (this.#closed === undefined && this.#jobs.length > 0) {
      const leave = await this.#parts.places.enter();
      this.#leavePlace = leave;
      const [job] = this.#jobs;
      if (job !== undefined && this.#closed === undefined) await this.#serve(job);
      leave();
    }
    this.#isRunning = false;
    const why = this.#closed;
    if (why !== undefined) for (const job of [...this.#jobs]) this.#end(job, err(why));
    else this.#parts.idle(this);
  }

  async #serve(job: Job): Promise<void> {
    if (!this.isUnsent) {
      this.#end(job, ok({ sentBytes: job.sweep.sentBytes }));
      return;
    }
    const { clock, window, settled, lost, committed, boutEnded } = this.#parts;
    const beganMs = clock.monotonicMs();
    const { sweep } = job;
    const isFromStart = !job.isBegun;
    job.isBegun = true;
    const sentBefore = sweep.sentBytes;
    const bout = new Bout({
      image: this.image,
      sweep,
      window,
      holds: this.#holds,
      isAwaited: () => [...job.waiters].some(({ isCommand }) => isCommand),
      settled: (bytes) => {
        settled(this, bytes);
        this.#tellProgress(job);
      },
      lost,
      committed,
    });
    this.#bout = bout;
    this.#served = job;
    const end = await bout.run();
    this.#bout = undefined;
    this.#served = undefined;
    if (end.kind === 'abandoned') return;
    if (end.kind === 'done' && isOfAll(sweep) && isFromStart) this.#sweptFromMs = beganMs;
    this.#note(end);
    boutEnded(this, end, sweep.sentBytes - sentBefore);
    this.#after(job, end);
  }

  #tellProgress({ waiters, sweep }: Job): void {
    const progress = { sentBytes: sweep.sentBytes, leftBytes: this.image.dirtyBytes };
    for (const { onProgress } of waiters) onProgress?.(progress);
  }

  #note(end: BoutEnd): void {
    this.isInConflict = end.kind === 'conflict';
    if (end.kind === 'done') this.#failure = undefined;
    if (end.kind !== 'failed') return;
    const attempts = (this.#failure?.attempts ?? 0) + 1;
    const pauseMs = pauseBeforeRetryMs(end.error, attempts);
    const retryAtMs = pauseMs === undefined ? undefined : this.#parts.clock.monotonicMs() + pauseMs;
    this.#failure = { error: end.error, attempts, retryAtMs };
    this.image.failed(end.error);
  }

  #after(job: Job, end: BoutEnd): void {
    if (end.kind === 'done') this.#end(job, ok({ sentBytes: job.sweep.sentBytes }));
    if (end.kind === 'failed') this.#end(job, err(end.error));
    if (end.kind === 'halted' && job.waiters.size === 0) this.#remove(job);
    if (end.kind !== 'conflict') return;
    for (const other of [...this.#jobs]) this.#end(other, err(inConflict));
  }
}

/** The sweep stands for all that is dirty. */
function isOfAll({ isWhole, limitBytes }: Sweep): boolean {
  return isWhole && limitBytes === Number.POSITIVE_INFINITY;
}

/** Whoever shows it says of which file. */
const inConflict: FsError = localError(
  'EIO',
  'write back',
  "another has changed the server's file; nothing is sent",
);
