/**
 * The methods about what only this host has: write back, flush, resolve, umount.
 */
import type { Ino } from '../../base/brand.ts';
import { harmless } from '../../observe/printable.ts';
import type { NotSent, SendingHow, SentReport } from '../sending.ts';
import type { UnsentFile } from '../unsent-files.ts';
import type { Controlled } from './controlled.ts';
import { cancelled, failureOf, type Paths, unlessAborted } from './paths.ts';
import { type Call, Failure, type Handlers, type Outcome } from './protocol.ts';
import { ErrorCode, type ParamsOf, type ResultOf } from './schema.ts';
import type { Tasks } from './tasks.ts';

type Served = 'writeBack' | 'flush' | 'resolve' | 'umount';

export class SendingMethods {
  readonly handlers: Pick<Handlers, Served> = {
    writeBack: (params, call) => this.#send('writeBack', params, call),
    flush: (params, call) => this.#send('flush', params, call),
    resolve: (params, call) => this.#resolve(params, call),
    umount: (params, call) => this.#umount(params, call),
  };

  readonly #controlled: Controlled;
  readonly #paths: Paths;
  readonly #tasks: Tasks;

  constructor(controlled: Controlled, paths: Paths, tasks: Tasks) {
    this.#controlled = controlled;
    this.#paths = paths;
    this.#tasks = tasks;
  }

  async #send(
    verb: 'writeBack' | 'flush',
    { path = '', timeoutMs }: ParamsOf<'writeBack'>,
    call: Call,
  ): Promise<ResultOf<'writeBack'> | Failure> {
    const limit = new TimeLimit(call.signal, timeoutMs);
    const ino = path === '' ? undefined : await this.#inoOf(path, limit.signal);
    if (limit.isUp) return sentResult(timedOut);
    if (ino instanceof Failure) return ino;
    const report = await this.#watched(verb, path, call, limit.leftMs, (how) =>
      this.#controlled.sending[verb](ino, how),
    );
    return report.ended === 'cancelled' ? cancelled : sentResult(report);
  }

  async #resolve(
    { path, keep, timeoutMs }: ParamsOf<'resolve'>,
    call: Call,
  ): Promise<Outcome<'resolve'>> {
    const { sending, as } = this.#controlled;
    const limit = new TimeLimit(call.signal, timeoutMs);
    const file = await this.#unsentAt(path, limit.signal);
    if (limit.isUp) return { ...sentResult(timedOut), droppedBytes: 0 };
    if (file instanceof Failure) return file;
    if (file?.unsent.state !== 'conflict') {
      const message = 'nobody else has changed it while writes to it were unsent';
      return new Failure({ code: ErrorCode.nothingUnsent, message });
    }
    const { signal } = limit;
    const resolved = await unlessAborted(sending.resolve(as, file.ino, keep, signal), signal);
    if (resolved === undefined && limit.isUp) {
      const { unsent } = file;
      return { ...sentResult({ ...timedOut, unsentBytes: unsent.bytes }), droppedBytes: 0 };
    }
    if (resolved === undefined) return cancelled;
    if (!resolved.ok) return failureOf(resolved.error, call.signal, path);
    const droppedBytes = keep === 'theirs' ? file.unsent.bytes : 0;
    const report = await this.#watched('writeBack', path, call, limit.leftMs, (how) =>
      sending.writeBack(file.ino, how),
    );
    return report.ended === 'cancelled' ? cancelled : { ...sentResult(report), droppedBytes };
  }

  async #umount(
    { unsent = 'send', force = false, timeoutMs }: ParamsOf<'umount'>,
    call: Call,
  ): Promise<Outcome<'umount'>> {
    const { report, inUse, why, ...rest } = await this.#watched(
      'umount',
      '',
      call,
      timeoutMs,
      async (how) => this.#controlled.life.unmount({ ...how, unsent, force }),
    );
    if (!rest.unmounted && report.ended === 'cancelled') return cancelled;
    return { ...rest, ...sentResult(report), inUse: inUse.map(harmless), why: why ?? null };
  }

  /** Shows as a task in `status`, since nobody knows how long it takes. */
  async #watched<T>(
    kind: 'writeBack' | 'flush' | 'umount',
    path: string,
    call: Call,
    timeoutMs: number | undefined,
    run: (how: SendingHow) => Promise<T>,
  ): Promise<T> {
    const task = this.#tasks.begin(kind, path, 0);
    try {
      return await run({
        signal: call.signal,
        timeoutMs,
        onProgress(doneBytes, totalBytes) {
          task.progress(doneBytes, totalBytes);
          call.progress({ path, doneBytes, totalBytes });
        },
      });
    } finally {
      task.forget();
    }
  }

  /** Which file a path or an id means: also one whose name the server does not have any more. */
  async #inoOf(path: string, signal: AbortSignal): Promise<Ino | Failure> {
    const file = await this.#unsentAt(path, signal);
    if (file instanceof Failure) return file;
    if (file !== undefined) return file.ino;
    const located = await this.#paths.image(path, signal);
    return located instanceof Failure ? located : located.ino;
  }

  /** undefined: nothing of it is unsent. */
  async #unsentAt(path: string, signal: AbortSignal): Promise<UnsentFile | undefined | Failure> {
    const { sending, cache } = this.#controlled;
    const unsent = sending.unsent();
    const byId = unsent.find(({ file }) => cache?.idOf(file) === path);
    if (byId !== undefined) return byId;
    const located = await this.#paths.image(path, signal);
    if (!(located instanceof Failure)) return unsent.find(({ ino }) => ino === located.ino);
    const isCertain = located.error.code !== ErrorCode.cancelled;
    // Deleted or renamed elsewhere, or the server is away: what is unsent still has its name.
    const byName = isCertain
      ? unsent.filter((file) => harmless(file.path) === path)
      : ([] as UnsentFile[]);
    return byName.length === 1 ? byName[0] : located;
  }
}

/** How long a call may take, all of it: also to find the file that its path means. */
class TimeLimit {
  /** The time is up, or nobody waits any more. */
  readonly signal: AbortSignal;
  readonly #call: AbortSignal;
  readonly #endsAtMs: number | undefined;

  constructor(call: AbortSignal, timeoutMs: number | undefined) {
    this.#call = call;
    this.#endsAtMs = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
    const signals = timeoutMs === undefined ? [call] : [call, AbortSignal.timeout(timeoutMs)];
    this.signal = AbortSignal.any(signals);
  }

  get isUp(): boolean {
    return this.signal.aborted && !this.#call.aborted;
  }

  get leftMs(): number | undefined {
    return this.#endsAtMs && Math.max(0, this.#endsAtMs - performance.now());
  }
}

const timedOut: SentReport = {
  files: 0,
  sentFiles: 0,
  sentBytes: 0,
  unsentBytes: 0,
  failed: [],
  ended: 'timedOut',
};

function sentResult({ files, sentFiles, sentBytes, unsentBytes, failed, ended }: SentReport) {
  return {
    files,
    sentFiles,
    sentBytes,
    unsentBytes,
    timedOut: ended === 'timedOut',
    failed: failed.map(({ path, unsentBytes: left, state, error }: NotSent) => ({
      path: harmless(path),
      unsentBytes: left,
      state,
      errno: error.errno,
      why: harmless(error.message),
    })),
  };
}
