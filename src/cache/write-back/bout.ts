/**
 * One image on its way to the server: a sweep over its dirty pages, or a part of one.
 *
 *                               .--- lost: once more ---.
 *             may send          v    all is taken       |
 *   looking ----------> sending ----------------------> draining ---> closing ---> ended
 *      |                       halted, failed                                        ^
 *      '--- conflict, failed --------------------------------------------------------'
 *
 *   looking   GETATTR, compared with what the image is of; a durable note that WRITEs go out (C6)
 *   sending   runs are taken and written, as many at once as the window lets in; what was answered
 *             is committed in batches meanwhile
 *   draining  nothing more is taken: what is on the wire is waited for, the rest is committed
 *   closing   size and mtime, if all is sent; the attributes after it are noted durably
 *
 *   of one run:
 *   taken --WRITE--> written --COMMIT, same verifier--> settled
 *     |                | COMMIT fails, or its verifier is another
 *     '-- fails -------+--> put back
 *
 * B1  Every run taken is settled or put back, once, before the bout ends; unless it is abandoned.
 * B2  A run is settled only if each of its WRITEs was answered as stable, or answered before a
 *     COMMIT was sent that answered with the same verifier (C5).
 * B3  Between `beginSending` and `endSending` nothing else of the image is sent; `endSending` is
 *     called once, with nothing taken.
 * B4  An abandoned bout touches the image no more.
 */
import { assert } from '../../base/assert.ts';
import { type Credentials, credentialsKey } from '../../base/credentials.ts';
import { err, ok, type Result } from '../../base/result.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import type { Attributes } from '../../vfs/ports.ts';
import { overlaps, type PageRange } from '../page-range.ts';
import type { DirtyImage, SendingRun } from './dirty-image.ts';
import { concernsBytesOnly, hasUnknownOutcome, isRefusal } from './failures.ts';
import type { Holds } from './holds.ts';
import { restart, type Sweep } from './sweep.ts';
import type { Slot, WriteWindow } from './window.ts';

export type BoutEnd =
  /** All of the sweep is durable at the server. */
  | { readonly kind: 'done' }
  /** As it was asked to; the sweep can go on in another bout. */
  | { readonly kind: 'halted' }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'failed'; readonly error: FsError }
  | { readonly kind: 'abandoned' };

export interface BoutParts {
  readonly image: DirtyImage;
  readonly sweep: Sweep;
  readonly window: WriteWindow;
  readonly holds: Holds;
  /** Somebody waits for size and mtime, even if pages have become dirty again meanwhile. */
  readonly isAwaited: () => boolean;
  /** Bytes are durable at the server, or have to be sent again. */
  readonly settled: (bytes: number) => void;
  readonly lost: (bytes: number) => void;
  readonly committed: () => void;
}

type State = 'looking' | 'sending' | 'draining' | 'closing' | 'ended';

const transitions: Record<State, readonly State[]> = {
  looking: ['sending', 'ended'],
  sending: ['draining', 'ended'],
  draining: ['sending', 'closing', 'ended'],
  closing: ['ended'],
  ended: [],
};

/** What a run's WRITEs were answered with: a verifier, several, or no need of a COMMIT. */
type Written = { readonly verifier: bigint } | 'mixed' | 'stable';

/** A COMMIT is sent when so much is written: what the link carries in this time. */
const BATCH_SECONDS = 4;
const BATCH_MIN_BYTES = 1024 * 1024;
const BATCH_MAX_BYTES = 32 * 1024 * 1024;
/** Written and not settled: a server that is slow to commit is waited for. */
const UNCOMMITTED_BATCHES = 3;
/** Of runs that fail by themselves: then the others do not get through either. */
const FAILED_RUNS_MAX = 16;
/** Rounds in which everything was lost again. */
const LOST_ROUNDS_MAX = 3;

export class Bout {
  readonly #parts: BoutParts;
  readonly #callers: readonly Credentials[];
  /** Of the callers: those before were refused. */
  #caller = 0;
  #state: State = 'looking';
  #isHalted = false;
  #isAbandoned = false;
  #firstError: FsError | undefined;
  /** After which nothing more is tried. */
  #failure: FsError | undefined;
  #failedRuns = 0;
  #isOutcomeUnknown = false;
  readonly #writing = new Map<SendingRun, Promise<void>>();
  readonly #written = new Map<SendingRun, bigint>();
  /** Of the runs taken and neither settled nor put back; of those, written. */
  #openBytes = 0;
  #writtenBytes = 0;
  #committing: Promise<void> | undefined;
  /** One settling after the other. */
  #settling: Promise<void> = Promise.resolve();

  constructor(parts: BoutParts) {
    this.#parts = parts;
    this.#callers = distinct([parts.image.as, ...parts.image.sending.others()]);
  }

  async run(): Promise<BoutEnd> {
    const refused = await this.#begin();
    if (refused !== undefined) {
      this.#go('ended');
      return refused;
    }
    for (let lostRounds = 0; ; ) {
      const { sweep } = this.#parts;
      const sentBefore = sweep.sentBytes;
      this.#go('sending');
      await this.#send();
      if (this.#isAbandoned) break;
      this.#go('draining');
      await this.#drain();
      if (this.#isAbandoned || !sweep.isLost || this.#isHalted) break;
      if (this.#firstError !== undefined) break;
      lostRounds = sweep.sentBytes > sentBefore ? 0 : lostRounds + 1;
      if (lostRounds === LOST_ROUNDS_MAX) {
        this.#fail(localError('EIO', 'COMMIT', 'the write verifier changes with every answer'));
        break;
      }
      restart(sweep);
    }
    const end = await this.#close();
    this.#go('ended');
    return end;
  }

  /** Takes no more; what is on the wire is waited for and committed. */
  halt(): void {
    this.#isHalted = true;
  }

  /** The image is touched no more: answers that are still to come are not looked at. */
  abandon(): void {
    this.#isHalted = true;
    this.#isAbandoned = true;
  }

  /** Resolves when no WRITE that touches `range` is without answer. */
  async untilWritten(range: PageRange): Promise<void> {
    const touching = [...this.#writing].filter(([run]) => overlaps(run.range, range));
    await Promise.all(touching.map(([, written]) => written));
  }

  // ---- Private ------------------------------------------------------------------------------------

  get #isStopping(): boolean {
    return this.#isHalted || this.#failure !== undefined;
  }

  #go(state: State): void {
    assert(transitions[this.#state].includes(state), `bout: ${state} after ${this.#state}`);
    this.#state = state;
  }

  async #begin(): Promise<BoutEnd | undefined> {
    const { image } = this.#parts;
    const found = await this.#look();
    if (this.#isAbandoned) return { kind: 'abandoned' };
    if (!found.ok) return { kind: 'failed', error: found.error };
    if (this.#isHalted) return { kind: 'halted' };
    const begun = await image.beginSending(found.value);
    if (this.#isAbandoned) return { kind: 'abandoned' };
    if (!begun.ok) return { kind: 'failed', error: begun.error };
    return begun.value === 'conflict' ? { kind: 'conflict' } : undefined;
  }

  async #send(): Promise<void> {
    const { image, sweep, window, holds } = this.#parts;
    while (this.#mayTake()) {
      // Seen while we send: the next bout tells it.
      if (image.inConflict) return this.halt();
      if (this.#writtenBytes >= UNCOMMITTED_BATCHES * this.#batchBytes()) {
        await this.#commit();
        continue;
      }
      const slot = await window.enter();
      if (slot === undefined) {
        this.#isHalted = true;
        return;
      }
      if (!this.#mayTake() || holds.areHeld || image.inConflict) {
        slot.cancel();
        await holds.untilNone();
        continue;
      }
      const maxBytes = Math.min(slot.maxBytes, image.sending.writeMax);
      const [run] = image.take(sweep.cursor, maxBytes, 1);
      if (run === undefined || run.range.start >= sweep.range.end) {
        if (run !== undefined) image.putBack(run);
        slot.cancel();
        // That must not pass for a sweep over all of it.
        if (this.#isWithheld)
          this.#fail(localError('EAGAIN', 'send', 'no dirty page is given out'));
        sweep.cursor = sweep.range.end;
        return;
      }
      sweep.cursor = run.range.end;
      this.#openBytes += run.length;
      this.#writing.set(run, this.#sendRun(run, slot));
    }
  }

  /** Pages are dirty, and none of them is or was on its way. */
  get #isWithheld(): boolean {
    const { image, sweep } = this.#parts;
    const isUntouched = sweep.cursor === sweep.range.start && this.#openBytes === 0;
    return sweep.isWhole && isUntouched && image.dirtyBytes > 0;
  }

  #mayTake(): boolean {
    const { sweep } = this.#parts;
    return !this.#isStopping && sweep.cursor < sweep.range.end && !this.#isEnough(this.#openBytes);
  }

  #isEnough(openBytes: number): boolean {
    const { sentBytes, limitBytes } = this.#parts.sweep;
    return sentBytes + openBytes >= limitBytes;
  }

  /** Waits for what is on the wire, and commits it. */
  async #drain(): Promise<void> {
    while (this.#writing.size > 0) await Promise.all(this.#writing.values());
    while (!this.#isAbandoned && (this.#written.size > 0 || this.#committing !== undefined)) {
      await this.#commit();
    }
    await this.#settling;
    assert(this.#isAbandoned || this.#openBytes === 0, 'a run neither settled nor put back');
  }

  async #sendRun(run: SendingRun, slot: Slot): Promise<void> {
    const written = await this.#write(run, slot);
    this.#writing.delete(run);
    if (this.#isAbandoned) return;
    if (!written.ok) {
      this.#putBack(run);
      this.#fail(written.error);
    } else if (written.value === 'stable') {
      // Not waited for: who holds the image back waits for the WRITE alone.
      void this.#settle([run]);
    } else if (written.value === 'mixed') {
      this.#lose(run);
    } else {
      this.#written.set(run, written.value.verifier);
      this.#writtenBytes += run.length;
      if (this.#writtenBytes >= this.#batchBytes() && this.#committing === undefined) {
        void this.#commit();
      }
    }
  }

  /** All of the run, in as many WRITEs as the server makes of it. */
  async #write(run: SendingRun, slot: Slot): Promise<Result<Written, FsError>> {
    const { image } = this.#parts;
    const read = await image.read(run);
    if (!read.ok || this.#isAbandoned) {
      slot.cancel();
      return read.ok ? ok('stable') : read;
    }
    const bytes = read.value;
    slot.send(bytes.length);
    let written: Written = 'stable';
    for (let done = 0; done < bytes.length && !this.#isAbandoned; ) {
      const rest = bytes.subarray(done);
      const answer = await this.#asAllowed((as) =>
        image.sending.write(as, run.offset + done, rest),
      );
      if (!answer.ok || !isSane(answer.value.count, rest.length)) {
        slot.end(false);
        return answer.ok ? err(wrongCount(answer.value.count, rest.length)) : answer;
      }
      done += answer.value.count;
      if (answer.value.committed === 'unstable') written = joined(written, answer.value.verifier);
    }
    slot.end(true);
    return ok(written);
  }

  /** Of what is written now; one under way is waited for instead. */
  #commit(): Promise<void> {
    this.#committing ??= this.#commitOnce().finally(() => {
      this.#committing = undefined;
    });
    return this.#committing;
  }

  async #commitOnce(): Promise<void> {
    const { image, committed } = this.#parts;
    const runs = [...this.#written];
    const answer = await this.#asAllowed((as) => image.sending.commit(as));
    if (this.#isAbandoned) return;
    if (answer.ok) committed();
    const settled: SendingRun[] = [];
    for (const [run, verifier] of runs) {
      this.#written.delete(run);
      this.#writtenBytes -= run.length;
      if (answer.ok && answer.value.verifier === verifier) settled.push(run);
      else this.#lose(run);
    }
    if (!answer.ok) this.#fail(answer.error);
    if (settled.length > 0) await this.#settle(settled);
  }

  #settle(runs: readonly SendingRun[]): Promise<void> {
    const { image, sweep, settled } = this.#parts;
    const settle = async () => {
      if (this.#isAbandoned) return;
      await image.settle(runs);
      if (this.#isAbandoned) return;
      const bytes = runs.reduce((sum, run) => sum + run.length, 0);
      this.#openBytes -= bytes;
      sweep.sentBytes += bytes;
      settled(bytes);
    };
    this.#settling = this.#settling.then(settle);
    return this.#settling;
  }

  #lose(run: SendingRun): void {
    this.#parts.lost(run.length);
    this.#putBack(run);
  }

  #putBack(run: SendingRun): void {
    const { image, sweep } = this.#parts;
    this.#openBytes -= run.length;
    sweep.isLost = true;
    image.putBack(run);
  }

  /** The first failure counts; after those of some runs others are still tried. */
  #fail(error: FsError): void {
    if (hasUnknownOutcome(error)) this.#isOutcomeUnknown = true;
    this.#failedRuns++;
    this.#firstError ??= error;
    const isOfBytes = this.#state !== 'closing' && concernsBytesOnly(error);
    if (!isOfBytes || this.#failedRuns >= FAILED_RUNS_MAX) this.#failure ??= error;
  }

  async #close(): Promise<BoutEnd> {
    if (this.#isAbandoned) return { kind: 'abandoned' };
    this.#go('closing');
    const attributes = await this.#attributesAfter();
    if (this.#isAbandoned) return { kind: 'abandoned' };
    const noted = await this.#parts.image.endSending(attributes);
    if (this.#isAbandoned) return { kind: 'abandoned' };
    if (!noted.ok) this.#firstError ??= noted.error;
    if (this.#firstError !== undefined) return { kind: 'failed', error: this.#firstError };
    return { kind: this.#isThrough ? 'done' : 'halted' };
  }

  get #isThrough(): boolean {
    const { sweep } = this.#parts;
    const isAtEnd = sweep.cursor >= sweep.range.end || this.#isEnough(0);
    return isAtEnd && !sweep.isLost && this.#firstError === undefined;
  }

  /** What the server has now; undefined where that is not known. */
  async #attributesAfter(): Promise<Attributes | undefined> {
    if (this.#isOutcomeUnknown) return undefined;
    const { image, sweep, isAwaited } = this.#parts;
    const isWhole = this.#isThrough && sweep.isWhole && image.hasUnsentAttributes;
    if (isWhole && (image.dirtyBytes === 0 || isAwaited())) {
      const finished = await this.#asAllowed((as) => image.sending.finish(as, image.local()));
      if (this.#isAbandoned) return undefined;
      if (finished.ok) return finished.value;
      this.#fail(finished.error);
      if (this.#isOutcomeUnknown) return undefined;
    }
    const found = await this.#look();
    if (this.#isAbandoned) return undefined;
    if (found.ok) return found.value;
    this.#fail(found.error);
    return undefined;
  }

  #look(): Promise<Result<Attributes, FsError>> {
    const { sending } = this.#parts.image;
    return this.#asAllowed((as) => sending.look(as));
  }

  /** In the name of who wrote last; where that is refused, of others who wrote. */
  async #asAllowed<T>(
    call: (as: Credentials) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, FsError>> {
    for (;;) {
      const caller = this.#caller;
      const as = this.#callers[caller];
      assert(as !== undefined, 'nobody to send it');
      const answer = await call(as);
      if (answer.ok || !isRefusal(answer.error) || this.#isAbandoned) return answer;
      if (caller === this.#callers.length - 1) return answer;
      // Another call may have found that out already.
      this.#caller = Math.max(this.#caller, caller + 1);
    }
  }

  #batchBytes(): number {
    const { bytesPerSecond } = this.#parts.window;
    const carried = (bytesPerSecond ?? 0) * BATCH_SECONDS;
    return Math.min(Math.max(carried, BATCH_MIN_BYTES), BATCH_MAX_BYTES);
  }
}

function distinct(callers: readonly Credentials[]): Credentials[] {
  return [...new Map(callers.map((caller) => [credentialsKey(caller), caller])).values()];
}

function joined(written: Written, verifier: bigint): Written {
  if (written === 'stable') return { verifier };
  return written !== 'mixed' && written.verifier === verifier ? written : 'mixed';
}

function isSane(count: number, asked: number): boolean {
  return count >= 1 && count <= asked;
}

function wrongCount(count: number, asked: number): FsError {
  const message = `WRITE: ${count} of ${asked} bytes written, says the server`;
  return { errno: 'EIO', code: 'PROTOCOL', operation: 'WRITE', message };
}
