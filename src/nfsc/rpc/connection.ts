/**
 * One TCP connection to an RPC server, and the calls that wait on it, over as many sockets as it
 * takes: a call stays until it is answered or failed, and is sent again, with its xid, on the next
 * socket when the one it went out on is lost.
 *
 *            submit                    connected
 *   idle ------------> connecting ------------------> up
 *    ^                  |   ^                          | lost, and nobody waits -> idle
 *    | nobody waits     |   | timer                    | lost, and calls wait
 *    |                  v   |                          v
 *    +----------------- backingOff <-------------------+          any of them --close--> closed
 *
 * N1  A call is in `#calls` from submit to settle, and settles exactly once.
 * N2  A socket carries a call at most once: to send it again takes another socket, so that nothing
 *     piles up behind one that is stuck. TCP loses nothing as long as the connection stands.
 * N3  A socket that may still hold a call's bytes is destroyed before that call fails: its caller
 *     is free to use the payload's memory for something else.
 * N4  The first attempt after a loss is made at once; after that attempts back off, from
 *     FIRST_BACK_OFF_MS to LAST_BACK_OFF_MS, until a reply comes.
 * N5  A stream that is no sequence of records is not believed: the socket goes. After
 *     MAX_BAD_STREAMS in a row without a reply the waiting calls fail with `protocol`.
 * N6  A reply that does not decode fails its call and is not asked for again: the record's end is
 *     known, so that the stream stands.
 */
import type { Socket } from 'node:net';
import { assert } from '../../base/assert.ts';
import { XdrError, XdrReader } from '../xdr/reader.ts';
import type { BufferPool, Lease } from './buffer-pool.ts';
import { type Call, requestBytes } from './call.ts';
import { type DialFailure, dial, type SourcePort } from './dial.ts';
import { rpcChannels } from './events.ts';
import type { RpcFailure } from './failure.ts';
import { decodeReplyHeader } from './message.ts';
import type { Reply } from './procedure.ts';
import { type Gathering, RecordAssembler, type RecordSink } from './record.ts';

/** Doubled by each setback but the first loss, which is none of the server's. */
const FIRST_BACK_OFF_MS = 100;
const LAST_BACK_OFF_MS = 10_000;
const MAX_BAD_STREAMS = 5;
/** Read at once when no place is known for what comes. */
const SCRATCH_BYTES = 64 * 1024;
/** The same behind a record that had its own place: likely another such, so little is copied. */
const SHORT_SCRATCH_BYTES = 4 * 1024;
/** The largest record that is passed over without suspecting the stream. */
export const MAX_RECORD_BYTES = 2 * 1024 * 1024;
const PADDING = Buffer.alloc(3);

export interface ConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** `host:port`, as events name it. */
  readonly server: string;
  /** Its number among its transport's. */
  readonly index: number;
  readonly sourcePort: SourcePort;
  readonly connectTimeoutMs: number;
}

/** What a connection asks of the transport that it belongs to. */
export interface ConnectionOwner {
  /** A reply has come. */
  answered(): void;
  /** Whether waiting calls fail when there is no connection, instead of waiting on. */
  failsWhenUnreachable(): boolean;
}

type State =
  | { readonly name: 'idle' }
  | { readonly name: 'connecting'; readonly abort: AbortController }
  | { readonly name: 'up'; readonly socket: Socket; readonly records: RecordAssembler<Incoming> }
  | { readonly name: 'backingOff'; readonly timer: NodeJS.Timeout }
  | { readonly name: 'closed' };

const transitions: Record<State['name'], readonly State['name'][]> = {
  idle: ['connecting', 'closed'],
  connecting: ['up', 'backingOff', 'idle', 'closed'],
  up: ['connecting', 'backingOff', 'idle', 'closed'],
  backingOff: ['connecting', 'idle', 'closed'],
  closed: [],
};

/** A reply that comes in pieces. */
interface Incoming extends Gathering {
  readonly call: Call;
  readonly lease: Lease | undefined;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  readonly #pool: BufferPool;
  #state: State = { name: 'idle' };
  readonly #calls = new Map<number, Call>();
  #loadBytes = 0;
  #outbox: Call[] = [];
  #flushIsDue = false;
  /** Connections lost or not made since the last reply. */
  #setbacks = 0;
  #badStreams = 0;
  #downSinceMs: number | undefined;
  #lastFailure: DialFailure | undefined;
  #localPort: number | undefined;
  #remoteAddress: string | undefined;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  readonly #shortScratch = this.#scratch.subarray(0, SHORT_SCRATCH_BYTES);

  constructor(options: ConnectionOptions, owner: ConnectionOwner, pool: BufferPool) {
    this.#options = options;
    this.#owner = owner;
    this.#pool = pool;
  }

  get state(): State['name'] {
    return this.#state.name;
  }

  /** Calls that wait. */
  get callCount(): number {
    return this.#calls.size;
  }

  /** Bytes that are asked for or on their way, for choosing the least busy connection. */
  get loadBytes(): number {
    return this.#loadBytes;
  }

  /** Since when calls have found no connection; undefined while there is one. */
  get downSinceMs(): number | undefined {
    return this.#downSinceMs;
  }

  /** The source port of the present socket, or of the last. */
  get localPort(): number | undefined {
    return this.#localPort;
  }

  get lastFailure(): DialFailure | undefined {
    return this.#lastFailure;
  }

  has(xid: number): boolean {
    return this.#calls.has(xid);
  }

  submit(call: Call): void {
    this.#calls.set(call.xid, call);
    this.#loadBytes += loadOf(call);
    if (this.#state.name === 'up') this.#enqueue(call);
    else if (this.#state.name === 'idle') this.#connect();
    else if (this.#state.name === 'closed') this.#fail([call], { kind: 'closed' });
  }

  /**
   * Looks for calls that have waited too long: past their deadline they fail, past their time-out
   * the socket is replaced and everything is sent again.
   */
  sweep(nowMs: number, timeoutMs: (timeouts: number) => number): void {
    const expired: Call[] = [];
    let isStuck = false;
    const isUp = this.#state.name === 'up';
    for (const call of this.#calls.values()) {
      const isExpired = nowMs >= call.deadlineMs;
      if (isExpired) expired.push(call);
      if (!isUp) continue;
      if (isExpired || nowMs >= call.sentMs + timeoutMs(call.timeouts)) {
        call.timeouts++;
        isStuck = true;
      }
    }
    const down = isUp ? undefined : this.#lastFailure;
    this.#forget(expired);
    if (isStuck) this.#lose('no answer in time');
    for (const call of expired) this.#settle(call, this.#whyExpired(call, down), 0);
  }

  /** Whether calls have waited `downMs` for a connection, or one `answerMs` for its answer. */
  isSilent(nowMs: number, downMs: number, answerMs: number): boolean {
    if (this.#downSinceMs !== undefined && nowMs - this.#downSinceMs >= downMs) return true;
    const [oldest] = this.#calls.values();
    return oldest !== undefined && nowMs - oldest.startedMs >= answerMs;
  }

  connectAhead(): void {
    if (this.#state.name === 'idle') this.#connect();
  }

  /** Ends a pause between attempts. */
  hurry(): void {
    if (this.#state.name !== 'backingOff') return;
    clearTimeout(this.#state.timer);
    this.#retry();
  }

  /** Drops the socket; what waits goes out again on another. */
  reset(reason: string): void {
    if (this.#state.name === 'up') this.#lose(reason);
  }

  failAll(failure: RpcFailure): void {
    const calls = [...this.#calls.values()];
    this.#forget(calls);
    if (calls.length > 0) this.reset('the calls were given up');
    for (const call of calls) this.#settle(call, failure, 0);
  }

  /** Ends what waits, and whatever comes after. */
  close(): void {
    if (this.#state.name === 'closed') return;
    this.#leave();
    this.#enter({ name: 'closed' });
    this.#fail([...this.#calls.values()], { kind: 'closed' });
  }

  // ---- Sockets --------------------------------------------------------------------------------

  #enter(state: State, reason?: string): void {
    const { name } = state;
    assert(
      transitions[this.#state.name].includes(name),
      `connection: ${this.#state.name} to ${name}`,
    );
    this.#state = state;
    if (!rpcChannels.connection.hasSubscribers) return;
    const { server, index } = this.#options;
    rpcChannels.connection.publish({ server, connection: index, state: name, reason });
  }

  /** Gives back what the present state holds. */
  #leave(): void {
    const state = this.#state;
    if (state.name === 'connecting') state.abort.abort();
    else if (state.name === 'backingOff') clearTimeout(state.timer);
    else if (state.name === 'up') this.#closeSocket(state);
  }

  #closeSocket({ socket, records }: Extract<State, { name: 'up' }>): void {
    records.stop();
    records.gathering?.lease?.release();
    socket.destroy();
  }

  #connect(reason?: string): void {
    this.#downSinceMs ??= performance.now();
    const abort = new AbortController();
    this.#enter({ name: 'connecting', abort }, reason);
    void this.#dial(abort.signal);
  }

  async #dial(signal: AbortSignal): Promise<void> {
    const { host, port, sourcePort, connectTimeoutMs: timeoutMs } = this.#options;
    const records = new RecordAssembler<Incoming>(this.#sink, MAX_RECORD_BYTES);
    const dialled = await dial(
      {
        host,
        port,
        sourcePort,
        timeoutMs,
        favouritePort: this.#localPort,
        lastAddress: this.#remoteAddress,
      },
      this.#reading(records),
      signal,
    );
    if (signal.aborted) {
      if (dialled.ok) dialled.value.destroy();
    } else if (dialled.ok) {
      this.#connected(dialled.value, records);
    } else {
      this.#goOn(dialled.error);
    }
  }

  #connected(socket: Socket, records: RecordAssembler<Incoming>): void {
    this.#downSinceMs = undefined;
    this.#localPort = socket.localPort;
    this.#remoteAddress = socket.remoteAddress;
    this.#enter({ name: 'up', socket, records });
    const lost = () => {
      if (this.#state.name === 'up' && this.#state.socket === socket) {
        this.#lose('the server ended the connection');
      }
    };
    socket.on('end', lost);
    socket.on('close', lost);
    if (socket.destroyed) {
      lost();
      return;
    }
    this.#outbox = [...this.#calls.values()];
    this.#flush();
  }

  /** The socket is gone, or has to go. */
  #lose(reason: string): void {
    this.#leave();
    this.#outbox = [];
    const { server } = this.#options;
    this.#goOn({ reason: 'lost', message: `${server}: ${reason}` });
  }

  /** After a loss or a vain attempt: another attempt, now or later, if somebody waits for it. */
  #goOn(failure: DialFailure): void {
    this.#lastFailure = failure;
    this.#downSinceMs ??= performance.now();
    if (this.#calls.size === 0 || this.#owner.failsWhenUnreachable()) {
      this.#downSinceMs = undefined;
      this.#enter({ name: 'idle' }, failure.message);
      this.#fail([...this.#calls.values()], { kind: 'unreachable', ...failure });
      return;
    }
    const setbacks = this.#setbacks++;
    // Not after an attempt that was reset: it would be made again and again without a pause.
    if (setbacks === 0 && failure.reason === 'lost' && this.#state.name === 'up') {
      this.#connect(failure.message);
      return;
    }
    const ceiling = Math.min(FIRST_BACK_OFF_MS * 2 ** setbacks, LAST_BACK_OFF_MS);
    const delayMs = ceiling * (0.75 + Math.random() / 4);
    const timer = setTimeout(() => this.#retry(), delayMs);
    this.#enter({ name: 'backingOff', timer }, failure.message);
  }

  #retry(): void {
    if (this.#calls.size > 0) {
      this.#connect();
    } else {
      this.#downSinceMs = undefined;
      this.#enter({ name: 'idle' });
    }
  }

  // ---- Sending --------------------------------------------------------------------------------

  /**
   * Calls of one turn of the event loop leave in one write: nextTick comes after the promise
   * callbacks that are under way, and before the loop waits for anything.
   */
  #enqueue(call: Call): void {
    this.#outbox.push(call);
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    process.nextTick(() => {
      this.#flushIsDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    const state = this.#state;
    if (state.name !== 'up' || this.#outbox.length === 0) return;
    const calls = this.#outbox;
    this.#outbox = [];
    const nowMs = performance.now();
    const { socket } = state;
    if (calls.length > 1 || calls[0]?.payload !== undefined) socket.cork();
    let run: Buffer | undefined;
    for (const call of calls) {
      if (!this.#calls.has(call.xid)) continue; // failed before it left
      this.#markSent(call, nowMs);
      const joined: Buffer | undefined = run === undefined ? call.head : join(run, call.head);
      if (joined === undefined && run !== undefined) socket.write(run);
      run = joined ?? call.head;
      if (call.payload === undefined) continue;
      socket.write(run);
      run = undefined;
      socket.write(call.payload);
      const padding = -call.payload.length & 3;
      if (padding > 0) socket.write(PADDING.subarray(0, padding));
    }
    if (run !== undefined) socket.write(run);
    socket.uncork();
  }

  #markSent(call: Call, nowMs: number): void {
    call.sends++;
    call.sentMs = nowMs;
    if (call.sends === 1 || !rpcChannels.retransmit.hasSubscribers) return;
    const { server } = this.#options;
    const { xid, sends, procedure } = call;
    rpcChannels.retransmit.publish({ server, procedure: procedure.name, xid, sends });
  }

  // ---- Receiving ------------------------------------------------------------------------------

  #reading(records: RecordAssembler<Incoming>) {
    const scratch = this.#scratch;
    let next: Buffer = scratch;
    let isDirect = false;
    return {
      buffer: () => {
        const direct = records.nextRead();
        next = direct ?? (isDirect ? this.#shortScratch : scratch);
        isDirect = direct !== undefined;
        return next;
      },
      callback: (count: number) => {
        try {
          if (isDirect) records.landed(count);
          else records.push(next, count);
        } catch (error) {
          if (!(error instanceof XdrError)) throw error;
          this.#distrust(records, error.message);
        }
        return true;
      },
    };
  }

  readonly #sink: RecordSink<Incoming> = {
    whole: (bytes, start, end) => {
      const call = this.#awaited(bytes.readUInt32BE(start));
      if (call === undefined) return;
      const length = end - start;
      if (length > call.replyMaxBytes) {
        this.#refuse(call, length);
        return;
      }
      if (call.procedure.storage === 'borrowed') {
        this.#decode(call, bytes, start, end, undefined);
        return;
      }
      const place = this.#placeFor(call, length);
      bytes.copy(place.bytes, 0, start, end);
      this.#decode(call, place.bytes, 0, length, place.lease);
    },
    begin: (xid, leastBytes) => {
      const call = this.#awaited(xid);
      return call === undefined ? undefined : this.#placeFor(call, leastBytes);
    },
    gathered: ({ call, bytes, lease }, length) => {
      if (this.#calls.get(call.xid) === call) this.#decode(call, bytes, 0, length, lease);
      else lease?.release();
    },
    tooLong: ({ call, lease, limitBytes }) => {
      lease?.release();
      if (this.#calls.get(call.xid) === call) this.#refuse(call, limitBytes + 1);
    },
  };

  #awaited(xid: number): Call | undefined {
    const call = this.#calls.get(xid);
    if (call === undefined) this.#stray(`a reply to no call, xid ${xid}`);
    return call;
  }

  #placeFor(call: Call, sizeBytes: number): Incoming {
    const limitBytes = call.replyMaxBytes;
    if (call.procedure.storage === 'pooled') {
      const lease = this.#pool.lease(limitBytes);
      return { call, lease, limitBytes, bytes: lease.bytes };
    }
    const bytes = Buffer.allocUnsafeSlow(Math.min(sizeBytes, limitBytes));
    return { call, lease: undefined, limitBytes, bytes };
  }

  #refuse(call: Call, length: number): void {
    const message = `a reply of ${length} bytes or more where ${call.replyMaxBytes} may be`;
    this.#forget([call]);
    this.#settle(call, { kind: 'protocol', message }, length);
  }

  #decode(call: Call, bytes: Buffer, start: number, end: number, lease: Lease | undefined): void {
    this.#forget([call]);
    this.#setbacks = 0;
    this.#badStreams = 0;
    this.#owner.answered();
    const reader = new XdrReader(bytes, start + 4, end);
    let isRetained = false;
    try {
      const failure = decodeReplyHeader(reader);
      if (failure !== undefined) {
        this.#settle(call, failure, end - start);
        return;
      }
      const reply = call.procedure.decode(reader, call.args, lease);
      isRetained = lease !== undefined && call.procedure.retains?.(reply) === true;
      publishEnd(this.#options.server, call, reply.status, end - start, reply);
      call.settle({ ok: true, value: reply, retransmitted: call.sends > 1 });
    } catch (error) {
      if (!(error instanceof XdrError)) throw error;
      const message = `the reply does not decode: ${error.message}`;
      this.#settle(call, { kind: 'protocol', message }, end - start);
    } finally {
      if (!isRetained) lease?.release();
    }
  }

  /** The stream is no sequence of records. */
  #distrust(records: RecordAssembler<Incoming>, message: string): void {
    this.#stray(message);
    if (this.#state.name !== 'up' || this.#state.records !== records) return;
    this.#badStreams++;
    const isHopeless = this.#badStreams >= MAX_BAD_STREAMS || this.#owner.failsWhenUnreachable();
    const hopeless = isHopeless ? [...this.#calls.values()] : [];
    this.#forget(hopeless);
    this.#lose(message);
    for (const call of hopeless) this.#settle(call, { kind: 'protocol', message }, 0);
  }

  #stray(reason: string): void {
    if (!rpcChannels.stray.hasSubscribers) return;
    const { server, index } = this.#options;
    rpcChannels.stray.publish({ server, connection: index, reason });
  }

  // ---- Ending calls ---------------------------------------------------------------------------

  #fail(calls: readonly Call[], failure: RpcFailure): void {
    this.#forget(calls);
    for (const call of calls) this.#settle(call, failure, 0);
  }

  #forget(calls: readonly Call[]): void {
    for (const call of calls) {
      const wasThere = this.#calls.delete(call.xid);
      assert(wasThere, 'a call ended twice');
      this.#loadBytes -= loadOf(call);
    }
  }

  #settle(call: Call, error: RpcFailure, replyBytes: number): void {
    publishEnd(this.#options.server, call, error.kind, replyBytes);
    call.settle({ ok: false, error, retransmitted: call.sends > 1 });
  }

  #whyExpired(call: Call, down: DialFailure | undefined): RpcFailure {
    const seconds = ((call.deadlineMs - call.startedMs) / 1000).toFixed(1);
    if (down === undefined) {
      const message = `no answer from ${this.#options.server} within ${seconds} s`;
      return { kind: 'timeout', message };
    }
    const message = `${down.message}; given up after ${seconds} s`;
    return { kind: 'unreachable', reason: down.reason, message };
  }
}

function loadOf(call: Call): number {
  return requestBytes(call) + call.replyMaxBytes;
}

/** One view of both when they lie side by side, as heads from one arena do. */
function join(first: Buffer, second: Buffer): Buffer | undefined {
  if (first.buffer !== second.buffer) return undefined;
  if (first.byteOffset + first.length !== second.byteOffset) return undefined;
  return Buffer.from(first.buffer, first.byteOffset, first.length + second.length);
}

function publishEnd(
  server: string,
  call: Call,
  outcome: string,
  replyBytes: number,
  reply?: Reply,
): void {
  if (!rpcChannels.call.hasSubscribers) return;
  rpcChannels.call.publish({
    server,
    procedure: call.procedure.name,
    xid: call.xid,
    durationMs: performance.now() - call.startedMs,
    requestBytes: requestBytes(call),
    replyBytes,
    contentBytes: reply === undefined ? 0 : (call.procedure.contentBytes?.(reply) ?? 0),
    outcome,
    sends: call.sends,
  });
}
