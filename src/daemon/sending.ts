/**
 * The middleware's two verbs over the whole mount. Write back: what programs have written until now
 * is durable at the server. Flush: the same, and then nothing is believed any more that the server
 * was not asked for again, neither by the kernel nor by us.
 *
 * Both take over first what programs have changed in mapped memory. A file that cannot be sent does
 * not keep the others from it; its bytes stay, and the report tells of it. Whoever gives up waiting
 * ends nothing: what is being sent goes on.
 */
import type { Ino } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { KernelNotices } from './kernel-notices.ts';
import type { UnsentFile, UnsentFiles } from './unsent-files.ts';

export interface SendingParts {
  readonly files: Pick<UnsentFiles, 'unsent' | 'settleUnsent' | 'doubt'> & {
    openFiles(): readonly { readonly ino: Ino; readonly path: string; readonly writers: number }[];
    pathOf(ino: Ino): string | undefined;
  };
  readonly kernel: Pick<KernelNotices, 'pull' | 'settled'>;
  readonly clock: Clock;
}

export interface SendingHow {
  readonly signal: AbortSignal;
  /** How long to wait, at most; without a limit when left out. */
  readonly timeoutMs?: number | undefined;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

export interface SentReport {
  /** Files that had something unsent. */
  readonly files: number;
  /** Of these, those of which something was sent. */
  readonly sentFiles: number;
  readonly sentBytes: number;
  /** Of what was to be sent, still only here. */
  readonly unsentBytes: number;
  readonly failed: readonly NotSent[];
  /** The time was up, or the caller did not want to wait any more. */
  readonly ended: 'done' | 'timedOut' | 'cancelled';
}

/**
 * 'conflict': another has changed the file, nothing is sent before somebody resolves it. 'lost': the
 * server has the file no more. 'failing': the server does not take it, or does not answer.
 */
export type NotSentState = 'conflict' | 'lost' | 'failing';

export interface NotSent {
  /** '' of the mount as a whole. */
  readonly path: string;
  readonly unsentBytes: number;
  readonly state: NotSentState;
  readonly error: FsError;
}

const LOOK_MS = 200;

export class Sending {
  readonly #parts: SendingParts;

  constructor(parts: SendingParts) {
    this.#parts = parts;
  }

  /** Of one file, or of all. */
  writeBack(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    return this.#within(how, (limit) => this.#writeBack(ino, limit));
  }

  flush(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    return this.#within(how, async (limit) => {
      const sent = await this.#writeBack(ino, limit);
      if (limit.signal.aborted) return sent;
      const { files, kernel } = this.#parts;
      files.doubt(ino);
      // Whether or not it was told so just now: of this file it is to have nothing.
      const stuck = ino === undefined ? [] : await kernel.pull([ino], limit.signal);
      const forgotten = await kernel.settled(limit.signal);
      if (limit.signal.aborted || (forgotten && stuck.length === 0)) return sent;
      return {
        ...sent,
        failed: [...sent.failed, { path: '', ...heldByKernel }],
      };
    });
  }

  async #writeBack(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    const { files, kernel } = this.#parts;
    const isMeant = (file: { readonly ino: Ino }) => ino === undefined || file.ino === ino;
    const writers = files.openFiles().filter((file) => isMeant(file) && file.writers > 0);
    const stuck = await kernel.pull(
      writers.map((file) => file.ino),
      how.signal,
    );
    const before = files.unsent().filter(isMeant);
    const progress = new Progress(before, () => files.unsent(), how);
    const stopTelling = this.#every(LOOK_MS, () => progress.tell());
    const results = new Map<Ino | undefined, Result<void, FsError>>();
    const targets = ino === undefined ? [...before.map((file) => file.ino), undefined] : [ino];
    const settled = targets.map(async (target) => {
      results.set(target, await files.settleUnsent(target));
    });
    await unlessAborted(Promise.all(settled), how.signal);
    stopTelling();
    if (!how.signal.aborted) progress.tell();
    const failed = [
      ...stuck.map((at) => ({ path: this.#pathOf(at), ...heldByKernel })),
      ...this.#failures(results, before),
    ];
    const { remaining, sentBytes } = progress.now();
    const isFailed = (file: UnsentFile) => results.get(file.ino)?.ok !== true;
    const left = before.filter(isFailed).map((file) => remaining.get(file.ino) ?? 0);
    const isSent = (file: UnsentFile) =>
      !isFailed(file) || (remaining.get(file.ino) ?? 0) < file.unsent.bytes;
    return {
      files: before.length,
      sentFiles: before.filter(isSent).length,
      sentBytes,
      unsentBytes: left.reduce((sum, bytes) => sum + bytes, 0),
      failed,
      ended: 'done',
    };
  }

  #failures(
    results: ReadonlyMap<Ino | undefined, Result<void, FsError>>,
    before: readonly UnsentFile[],
  ): NotSent[] {
    const failed: NotSent[] = [];
    const now = new Map(this.#parts.files.unsent().map((file) => [file.ino, file.unsent]));
    for (const [ino, result] of results) {
      if (result.ok || ino === undefined) continue;
      const path = before.find((file) => file.ino === ino)?.path ?? this.#pathOf(ino);
      const { error } = result;
      const left = now.get(ino);
      const state = left?.state === 'conflict' ? left.state : stateOf(error);
      failed.push({ path, unsentBytes: left?.bytes ?? 0, state, error });
    }
    // Writes that went through are of the mount: nobody has said whose they were.
    const whole = results.get(undefined);
    if (whole?.ok === false && failed.length === 0) {
      const { error } = whole;
      failed.push({ path: '', unsentBytes: 0, state: stateOf(error), error });
    }
    return failed;
  }

  #pathOf(ino: Ino): string {
    return this.#parts.files.pathOf(ino) ?? '';
  }

  /** Runs with a signal that the caller's time limit ends, too. */
  async #within(
    how: SendingHow,
    run: (limit: SendingHow) => Promise<SentReport>,
  ): Promise<SentReport> {
    const limit = new AbortController();
    const { timeoutMs } = how;
    const timer =
      timeoutMs === undefined ? undefined : this.#parts.clock.after(timeoutMs, () => limit.abort());
    const signal = AbortSignal.any([limit.signal, how.signal]);
    const report = await run({ ...how, signal });
    timer?.cancel();
    if (!signal.aborted) return report;
    return { ...report, ended: how.signal.aborted ? 'cancelled' : 'timedOut' };
  }

  #every(pauseMs: number, look: () => void): () => void {
    let isOver = false;
    const again = () => {
      if (isOver) return;
      look();
      this.#parts.clock.after(pauseMs, again);
    };
    again();
    return () => {
      isOver = true;
    };
  }
}

const heldByKernel = {
  unsentBytes: 0,
  state: 'failing',
  error: localError('ETIMEDOUT', 'write-back', 'the kernel does not give up what it has of it'),
} as const;

function stateOf({ errno }: FsError): NotSentState {
  return errno === 'ESTALE' || errno === 'ENOENT' ? 'lost' : 'failing';
}

/** How much of what was unsent at the start is sent: what is written meanwhile counts for nothing. */
class Progress {
  readonly #before: readonly UnsentFile[];
  readonly #unsent: () => readonly UnsentFile[];
  readonly #how: SendingHow;
  readonly #totalBytes: number;

  constructor(before: readonly UnsentFile[], unsent: () => readonly UnsentFile[], how: SendingHow) {
    this.#before = before;
    this.#unsent = unsent;
    this.#how = how;
    this.#totalBytes = before.reduce((sum, { unsent: { bytes } }) => sum + bytes, 0);
  }

  tell(): void {
    this.#how.onProgress?.(this.now().sentBytes, this.#totalBytes);
  }

  now(): { readonly remaining: ReadonlyMap<Ino, number>; readonly sentBytes: number } {
    const now = new Map(this.#unsent().map((file) => [file.ino, file.unsent.bytes]));
    const remaining = new Map(
      this.#before.map(({ ino, unsent }) => [ino, Math.min(now.get(ino) ?? 0, unsent.bytes)]),
    );
    const left = [...remaining.values()].reduce((sum, bytes) => sum + bytes, 0);
    return { remaining, sentBytes: this.#totalBytes - left };
  }
}

async function unlessAborted(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  let stop = () => undefined as undefined;
  const aborted = new Promise<undefined>((done) => {
    stop = () => done(undefined) as undefined;
    signal.addEventListener('abort', stop, { once: true });
  });
  await Promise.race([promise, aborted]);
  signal.removeEventListener('abort', stop);
}
