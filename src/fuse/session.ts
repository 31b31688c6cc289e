/**
 * One connection's life: requests come from a device, become calls on a file system, and their
 * results go back.
 *
 *   starting --INIT agreed--> serving --ENODEV--> ended (unmounted)
 *       |                        +---- abandoned ---------> ended (unmounted)
 *       +---- old kernel --------+---- broken invariant ----> failed
 *
 * Invariants
 *  S1 Each request is answered exactly once, but for those that have no answer (FORGET, INTERRUPT).
 *  S2 What the kernel does not take (the caller was interrupted, the mount is gone) is given back to
 *     the file system: lookups by `forget`, handles by `release`, bytes by their own `release`.
 *  S3 A broken invariant ends the session: all that waits and all that still comes gets EIO, and
 *     `ended` tells why. Nothing goes on as if it had not happened.
 *  S4 An interrupted request is answered EINTR as soon as its caller is dying, and not before: a
 *     program that merely handles a signal (a timer, a child's end) never sees EINTR from a file,
 *     as on any disk or NFS mount. The kernel tells of a first signal only, so the caller of an
 *     interrupted request is watched until its answer comes.
 *  S5 A reply's body is released exactly once: when the kernel has it or refuses it, or when the
 *     file that it stood in could not be read and something else is to be answered instead.
 */
import { channel } from 'node:diagnostics_channel';
import { assert, InvariantError } from '../base/assert.ts';
import type { Ino } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { Histogram } from '../base/histogram.ts';
import type { Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { errnoNumber, type FsError } from '../errors/fs-error.ts';
import type { Caller, FileSystem, Outcome, Payload, ReadReply } from '../vfs/operations.ts';
import { FUSE_KERNEL_VERSION, Opcode, Size } from './abi.ts';
import type { Callers } from './caller.ts';
import { BODY_START, type Device, type DeviceListener } from './device.ts';
import {
  type Agreement,
  agree,
  type InitWishes,
  readInit,
  writeInit,
  writeOurVersion,
} from './init.ts';
import { lengthOf, operations, type Request } from './operations.ts';
import { Pending, PendingList } from './pending.ts';
import type { End, Waiting } from './transport.ts';
import { WireError, WireReader, WireWriter } from './wire.ts';

/** Published on `gvfs:fuse:reply` for each answered request, while someone listens. */
export interface ReplyEvent {
  readonly operation: string;
  readonly durationMs: number;
  /** Positive; 0 is success. */
  readonly errno: number;
  /** Where the file system gave the reason. */
  readonly error?: FsError | undefined;
}

export const replyChannel = channel('gvfs:fuse:reply');

export interface Counters {
  requests: number;
  replies: number;
  errors: number;
  forgets: number;
  interrupts: number;
  /** Answers that the kernel no longer took, or that came after EINTR. */
  discarded: number;
  /** Requests for which we have no operation. */
  unsupported: number;
  /** Replies that stood in a file which could not be read. */
  unreadable: number;
}

export interface SessionOptions {
  readonly device: Device;
  readonly fs: FileSystem;
  readonly callers: Callers;
  readonly clock: Clock;
  readonly wishes: InitWishes;
}

/** How soon a dying caller is noticed whose first signal was not its last. */
const WATCH_INTERVAL_MS = 100;
/** From this age on a request counts among those that wait. */
const WAITING_MS = 1000;

type FileReply = ReadReply & { readonly kind: 'file' };

type Stage = 'starting' | 'serving' | 'failed' | 'ended';

/** A request on its way through the table. */
class Incoming implements Request {
  readonly unique: number;
  readonly node: Ino;
  readonly caller: Caller;
  readonly args: WireReader;
  #tail: Payload | undefined;

  constructor(
    unique: number,
    node: Ino,
    caller: Caller,
    args: WireReader,
    tail: Payload | undefined,
  ) {
    this.unique = unique;
    this.node = node;
    this.caller = caller;
    this.args = args;
    this.#tail = tail;
  }

  takePayload(length: number): Payload {
    const payload = this.#tail ?? new CopiedPayload(this.args.rest());
    this.#tail = undefined;
    if (payload.bytes.length === length) return payload;
    payload.release();
    throw new WireError('EIO', 'a WRITE whose payload is not as long as it says');
  }

  /** Gives back a payload that nobody took. */
  close(): void {
    this.#tail?.release();
    this.#tail = undefined;
  }
}

/** A small payload: the batch's memory is used again as soon as the call returns. */
class CopiedPayload implements Payload {
  readonly bytes: Buffer;
  #released = false;

  constructor(view: Buffer) {
    this.bytes = Buffer.from(view);
  }

  release(): void {
    assert(!this.#released, 'payload: released twice');
    this.#released = true;
  }
}

/** The kernel's connection failed in a way that is no unmount. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
  readonly errno: number;

  constructor(what: string, errno: number) {
    super(`${what}: errno ${errno}`);
    this.errno = errno;
  }
}

export class Session implements DeviceListener {
  /** Settles when INIT is agreed upon; undefined when the kernel is too old for us. */
  readonly ready: Promise<Agreement | undefined>;
  /** Settles when no more requests are served. */
  readonly ended: Promise<End>;
  readonly counters: Counters = {
    requests: 0,
    replies: 0,
    errors: 0,
    forgets: 0,
    interrupts: 0,
    discarded: 0,
    unsupported: 0,
    unreadable: 0,
  };

  readonly #device: Device;
  readonly #fs: FileSystem;
  readonly #callers: Callers;
  readonly #clock: Clock;
  readonly #wishes: InitWishes;
  readonly #pending = new PendingList();
  readonly #watched = new Set<Pending>();
  /** By opcode, as the operations are. */
  readonly #latencies = operations.map((operation) => operation && new Histogram());
  readonly #reader = new WireReader();
  readonly #writer: WireWriter;
  #watching = false;
  #stage: Stage = 'starting';
  #resolveReady: (agreement: Agreement | undefined) => void = () => {};
  #resolveEnded: (end: End) => void = () => {};

  constructor({ device, fs, callers, clock, wishes }: SessionOptions) {
    this.#device = device;
    this.#fs = fs;
    this.#callers = callers;
    this.#clock = clock;
    this.#wishes = wishes;
    this.#writer = new WireWriter(device.head, BODY_START);
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Requests that wait for their answer. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** What has waited for over a second. */
  waiting(): Waiting[] {
    const nowMs = this.#clock.monotonicMs();
    return [...this.#pending]
      .map(({ operation, node, sinceMs }) => {
        return { operation: operation.name, ino: node, ageMs: nowMs - sinceMs };
      })
      .filter(({ ageMs }) => ageMs >= WAITING_MS);
  }

  /** Answers EIO to all that waits of a node, and says how many; late results are given back. */
  failWaiting(ino: Ino): number {
    let failed = 0;
    for (const pending of this.#pending) {
      if (pending.node !== ino || pending.stage === 'answered') continue;
      const refused = this.#device.reply(pending.unique, Errno.EIO, 0);
      if (refused === Errno.ENOENT) continue; // its own answer has just gone out
      this.#answered(pending, Errno.EIO, undefined);
      if (refused === 0) failed++;
      else this.#refused(pending, undefined, refused);
    }
    return failed;
  }

  /** How long the answers took, by operation; those that were never asked for are left out. */
  latencies(): ReadonlyMap<string, Histogram> {
    const byName = new Map<string, Histogram>();
    for (const [opcode, latency] of this.#latencies.entries()) {
      const name = operations[opcode]?.name;
      if (name !== undefined && latency !== undefined && latency.count > 0) {
        byName.set(name, latency);
      }
    }
    return byName;
  }

  onMessage(batch: Buffer, start: number, end: number, tail: Payload | undefined): void {
    const reader = this.#reader;
    let request: Incoming | undefined;
    try {
      // fuse_in_header
      reader.reset(batch, start, end);
      reader.skip(4); // the length of all of it, which the device has told already
      const opcode = reader.u32();
      const unique = reader.u64('EIO');
      const node = reader.u64('EIO') as Ino;
      const uid = reader.u32();
      const gid = reader.u32();
      const pid = reader.u32();
      reader.skip(4);
      if (tail !== undefined && opcode !== Opcode.WRITE) {
        reader.reset(tail.bytes, 0, tail.bytes.length);
      }
      request = new Incoming(unique, node, this.#callers.caller(uid, gid, pid), reader, tail);
      this.#dispatch(opcode, request);
    } catch (error) {
      this.#fail(error); // a header that does not decode has no unique to be answered
    } finally {
      if (request === undefined) tail?.release();
      else request.close();
    }
  }

  onEnd(errno: number): void {
    const stage = this.#stage;
    this.#stage = 'ended';
    // Nobody waits: late results are given back.
    for (const pending of this.#pending) this.#pending.remove(pending);
    this.#watched.clear();
    if (stage === 'failed') return;
    this.#resolveEnded(
      errno === Errno.ENODEV
        ? { reason: 'unmounted' }
        : { reason: 'failed', error: new DeviceError('reading from /dev/fuse', errno) },
    );
  }

  /** Nobody is served any more: what waits and what still comes gets EIO. */
  abandon(): void {
    if (this.#stage === 'failed' || this.#stage === 'ended') return;
    this.#stage = 'ended';
    this.#failPending();
    this.#resolveEnded({ reason: 'unmounted' });
  }

  #dispatch(opcode: number, request: Incoming): void {
    switch (opcode) {
      case Opcode.INIT:
        this.#init(request);
        return;
      case Opcode.FORGET:
        this.#forget(request.node, request.args.u64('EIO'));
        return;
      case Opcode.BATCH_FORGET:
        this.#batchForget(request.args);
        return;
      case Opcode.INTERRUPT:
        this.#interrupt(request);
        return;
      case Opcode.DESTROY:
        this.#device.reply(request.unique, 0, 0);
        return;
      case Opcode.NOTIFY_REPLY:
        return; // we never ask, and it takes no answer
      default:
        this.#serve(opcode, request);
    }
  }

  #serve(opcode: number, request: Incoming): void {
    this.counters.requests++;
    const operation = operations[opcode];
    const latency = this.#latencies[opcode];
    if (this.#stage !== 'serving') {
      this.#device.reply(request.unique, Errno.EIO, 0);
      return;
    }
    if (operation === undefined || latency === undefined) {
      this.counters.unsupported++;
      this.#device.reply(request.unique, Errno.ENOSYS, 0);
      return;
    }
    const pending = new Pending(request, operation, this.#clock.monotonicMs(), latency);
    this.#pending.add(pending);
    let outcome: Outcome<unknown> | Result<unknown, FsError>;
    try {
      outcome = operation.call(this.#fs, request);
    } catch (error) {
      this.#threw(pending, error);
      return;
    }
    if (outcome instanceof Promise) this.#await(pending, outcome);
    else this.#settle(pending, outcome);
  }

  #await(pending: Pending, outcome: Outcome<unknown>): void {
    outcome.then(
      (result) => this.#settle(pending, result),
      (error: unknown) => this.#threw(pending, error),
    );
  }

  #settle(pending: Pending, result: Result<unknown, FsError>): void {
    try {
      if (pending.stage === 'answered') {
        this.counters.discarded++;
        if (result.ok) pending.operation.discard?.(this.#fs, result.value);
      } else if (!result.ok) {
        this.#answerError(pending, errnoNumber(result.error), result.error);
      } else {
        this.#answer(pending, result.value);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #threw(pending: Pending, error: unknown): void {
    if (!(error instanceof WireError)) {
      this.#fail(error);
    } else if (pending.stage !== 'answered') {
      this.#answerError(pending, Errno[error.errno], undefined);
    }
  }

  #answer(pending: Pending, value: unknown): void {
    const { operation } = pending;
    if (operation.body !== undefined) {
      this.#answerBody(pending, operation.body(value), value);
      return;
    }
    this.#writer.seek(BODY_START);
    operation.encode?.(this.#writer, value);
    const refused = this.#device.reply(pending.unique, 0, this.#writer.at - BODY_START);
    this.#answered(pending, 0, undefined);
    if (refused !== 0) this.#refused(pending, value, refused);
  }

  #answerBody(pending: Pending, body: ReadReply, value: unknown): void {
    const { unique } = pending;
    const done = (errno: number) => {
      try {
        this.#delivered(pending, body, value, errno);
      } catch (error) {
        this.#fail(error);
      }
    };
    pending.stage = 'answering';
    switch (body.kind) {
      case 'bytes':
        this.#device.replyBytes(unique, body.bytes, lengthOf(body), done);
        break;
      case 'zeros':
        this.#device.replyZeros(unique, body.length, done);
        break;
      case 'file':
        this.#device.replyFile(unique, body.fd, body.offset, body.length, done);
        break;
    }
  }

  #delivered(pending: Pending, body: ReadReply, value: unknown, errno: number): void {
    if (errno < 0 && body.kind === 'file') {
      this.#unreadable(pending, body, -errno);
      return;
    }
    if (pending.stage !== 'answered') this.#answered(pending, 0, undefined);
    if (errno !== 0) this.#refused(pending, value, errno);
    else if (body.kind !== 'zeros') body.release();
  }

  /** The kernel still waits: it gets what the body says is to be answered instead. */
  #unreadable(pending: Pending, body: FileReply, errno: number): void {
    this.counters.unreadable++;
    const instead = pending.stage === 'answered' ? undefined : body.instead(errno);
    body.release();
    if (instead === undefined) {
      this.counters.discarded++;
      return;
    }
    pending.stage = 'waiting';
    this.#watch(); // its caller may have been interrupted meanwhile
    this.#await(pending, instead);
  }

  #answerError(pending: Pending, errno: number, error: FsError | undefined): void {
    const refused = this.#device.reply(pending.unique, errno, 0);
    this.#answered(pending, errno, error);
    if (refused !== 0) this.#refused(pending, undefined, refused);
  }

  #answered(pending: Pending, errno: number, error: FsError | undefined): void {
    this.#pending.remove(pending);
    this.#watched.delete(pending);
    this.counters.replies++;
    if (errno !== 0) this.counters.errors++;
    const durationMs = this.#clock.monotonicMs() - pending.sinceMs;
    pending.latency.record(durationMs);
    if (replyChannel.hasSubscribers) {
      const event: ReplyEvent = { operation: pending.operation.name, durationMs, errno, error };
      replyChannel.publish(event);
    }
  }

  /** The kernel did not take a reply: it had given up on it, or our bytes are wrong. */
  #refused(pending: Pending, value: unknown, errno: number): void {
    this.counters.discarded++;
    if (value !== undefined) pending.operation.discard?.(this.#fs, value);
    if (errno === Errno.ENOENT || errno === Errno.ENODEV || this.#stage === 'ended') return;
    this.#device.reply(pending.unique, Errno.EIO, 0); // or its caller would wait for ever
    this.#fail(new DeviceError(`replying to ${pending.operation.name}`, errno));
  }

  #init(request: Incoming): void {
    const offer = readInit(request.args);
    this.#writer.seek(BODY_START);
    if (this.#stage !== 'starting') {
      this.#device.reply(request.unique, Errno.EIO, 0);
    } else if (offer.major > FUSE_KERNEL_VERSION) {
      writeOurVersion(this.#writer);
      this.#device.reply(request.unique, 0, this.#writer.at - BODY_START);
    } else {
      const agreement = agree(offer, this.#wishes);
      if (agreement === undefined) {
        this.#device.reply(request.unique, Errno.EPROTO, 0);
      } else {
        writeInit(this.#writer, agreement);
        this.#stage = 'serving';
        this.#device.reply(request.unique, 0, this.#writer.at - BODY_START);
      }
      this.#resolveReady(agreement);
    }
  }

  #forget(node: Ino, lookups: number): void {
    this.counters.forgets++;
    if (this.#stage !== 'failed') this.#fs.forget(node, lookups);
  }

  #batchForget(args: WireReader): void {
    const count = args.u32();
    args.skip(4);
    for (let i = 0; i < count && args.remaining >= Size.fuse_forget_one; i++) {
      this.#forget(args.u64('EIO') as Ino, args.u64('EIO'));
    }
  }

  #interrupt(request: Incoming): void {
    this.counters.interrupts++;
    const pending = this.#pending.find(request.args.u64('EIO'));
    if (pending === undefined) {
      // Answered already: the kernel asks again if it matters.
      this.#device.reply(request.unique, Errno.EAGAIN, 0);
    } else {
      this.#watched.add(pending);
      this.#watch();
    }
  }

  /** Looks at the callers of interrupted requests, now and as long as there are any. */
  #watch(): void {
    for (const pending of this.#watched) {
      if (pending.stage !== 'waiting' || !this.#callers.isDying(pending.pid)) continue;
      this.#answerError(pending, Errno.EINTR, undefined);
    }
    if (this.#watched.size === 0 || this.#watching) return;
    this.#watching = true;
    this.#clock.after(WATCH_INTERVAL_MS, () => {
      this.#watching = false;
      this.#watch();
    });
  }

  #fail(error: unknown): void {
    if (this.#stage === 'failed' || this.#stage === 'ended') return;
    this.#stage = 'failed';
    this.#failPending();
    const reason = error instanceof Error ? error : new InvariantError(String(error));
    this.#resolveEnded({ reason: 'failed', error: reason });
  }

  #failPending(): void {
    for (const pending of this.#pending) {
      if (pending.stage === 'waiting') this.#device.reply(pending.unique, Errno.EIO, 0);
      this.#pending.remove(pending);
    }
    this.#watched.clear();
  }
}
