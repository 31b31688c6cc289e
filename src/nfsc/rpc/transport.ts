/**
 * An RPC server as its callers see it: any number of calls at once, over 1 to 16 connections, each
 * call on the one with the least under way.
 *
 * Patience, in the terms of nfs(5): a call that has no answer after `timeo` is sent again, on a new
 * connection and with its old xid; after the second time-out of twice that, and so on, up to
 * `retrans` times. That sum is the major time-out (`majorTimeoutMs`):
 *  - soft: the call fails there
 *  - hard: the server is said not to respond, once, and the call goes on; the first reply after
 *    that says that all is well, once
 *  - mounting: a call fails there, or as soon as there is no connection
 *
 * Sooner than by time-outs a dead server is known by a probe: when nothing has been answered for a
 * while, a call without arguments is sent over a connection of its own. Whoever answers that is
 * there, and only slow. While the server is said not to respond it is probed again and again: what
 * is answered from memory meanwhile needs no call that would find it back.
 */
import { assert } from '../../base/assert.ts';
import type { Credentials } from '../../base/credentials.ts';
import { XdrWriter } from '../xdr/writer.ts';
import type { AuthFlavorName } from './auth.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Call, Outcome } from './call.ts';
import { Connection, MAX_RECORD_BYTES } from './connection.ts';
import { hostAndPort, type SourcePort } from './dial.ts';
import { rpcChannels } from './events.ts';
import { describeFailure, type RpcFailure } from './failure.ts';
import { encodeCall } from './message.ts';
import { MAX_CALL_BYTES, MAX_REPLY_HEADER_BYTES, type Procedure, type Reply } from './procedure.ts';
import { RECORD_MARK_BYTES, recordMark } from './record.ts';

export const MAX_CONNECTIONS = 16;
/** No time-out of one call is longer (nfs(5), timeo). */
const LONGEST_TIMEOUT_MS = 600_000;
const LONGEST_CONNECT_MS = 10_000;
const SHORTEST_CONNECT_MS = 1_000;
/** Without a connection for this long, a server counts as not responding. */
const LONGEST_SILENCE_MS = 3_000;
/** So long nothing was answered before a probe, which has to be answered within... */
const PROBE_AFTER_MS = 2_000;
const PROBE_LIMIT_MS = 3_000;
/** Between two probes of a server that is away, and of one that is only slow. */
const PROBE_PAUSE_MS = 2_000;
const SLOW_PROBE_PAUSE_MS = 10_000;
/** A server that is back has this long to answer on the old connections. */
const GRACE_MS = 1_000;
const ARENA_BYTES = 64 * 1024;

export type Patience = 'mounting' | 'soft' | 'hard';

export interface TransportOptions {
  readonly host: string;
  readonly port: number;
  /** 1 to 16. */
  readonly connections?: number | undefined;
  /** Tenths of a second; default 600. */
  readonly timeoDeciseconds?: number | undefined;
  /** Default 2. */
  readonly retrans?: number | undefined;
  readonly sourcePort?: SourcePort | undefined;
  readonly patience: Patience;
  /** A bound on `mounting` calls beside the major time-out. */
  readonly mountTimeoutMs?: number | undefined;
  /** What a probe asks; without it there are none. */
  readonly probe?: Procedure<undefined, Reply> | undefined;
}

/** When a soft call fails: the sum of its time-outs, each one `timeo` longer than the last. */
export function majorTimeoutMs(timeoDeciseconds: number, retrans: number): number {
  let sum = 0;
  for (let timeouts = 0; timeouts <= retrans; timeouts++) {
    sum += minorTimeoutMs(timeoDeciseconds, timeouts);
  }
  return sum;
}

function minorTimeoutMs(timeoDeciseconds: number, timeouts: number): number {
  return Math.min(timeoDeciseconds * 100 * (timeouts + 1), LONGEST_TIMEOUT_MS);
}

export class Transport {
  readonly server: string;
  /** The major time-out of this server's calls. */
  readonly majorTimeoutMs: number;
  readonly #timeoDeciseconds: number;
  readonly #retrans: number;
  readonly #mountTimeoutMs: number;
  readonly #connections: readonly Connection[];
  readonly #options: TransportOptions;
  #patience: Patience;
  /** The one in use; 'AUTH_SYS' unless the server has only 'AUTH_NONE'. */
  flavor: AuthFlavorName = 'AUTH_SYS';
  #arena = new XdrWriter(Buffer.allocUnsafeSlow(ARENA_BYTES));
  #lastXid = Math.floor(Math.random() * 0x8000_0000);
  #isResponding = true;
  #lastAnswerMs = Number.NEGATIVE_INFINITY;
  #lastProbeMs = Number.NEGATIVE_INFINITY;
  /** When a probe was last answered. */
  #lastEchoMs = Number.NEGATIVE_INFINITY;
  #sweepTimer: NodeJS.Timeout | undefined;
  #isProbing = false;
  #probeTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: TransportOptions, pool: BufferPool = new BufferPool()) {
    const { host, port, connections = 1, timeoDeciseconds = 600, retrans = 2 } = options;
    assert(connections >= 1 && connections <= MAX_CONNECTIONS, `${connections} connections`);
    assert(timeoDeciseconds > 0 && retrans >= 0, 'time-outs are positive');
    this.server = hostAndPort(host, port);
    this.#options = options;
    this.#timeoDeciseconds = timeoDeciseconds;
    this.#retrans = retrans;
    this.#patience = options.patience;
    this.majorTimeoutMs = majorTimeoutMs(timeoDeciseconds, retrans);
    this.#mountTimeoutMs = options.mountTimeoutMs ?? Number.POSITIVE_INFINITY;
    const timeoMs = timeoDeciseconds * 100;
    const owner = {
      answered: () => this.#answered(),
      failsWhenUnreachable: () => this.#patience === 'mounting',
    };
    const common = {
      host,
      port,
      server: this.server,
      sourcePort: options.sourcePort ?? 'auto',
      connectTimeoutMs: Math.max(SHORTEST_CONNECT_MS, Math.min(timeoMs, LONGEST_CONNECT_MS)),
    };
    this.#connections = Array.from(
      { length: connections },
      (_, index) => new Connection({ ...common, index }, owner, pool),
    );
  }

  /** The source port of a connection that is or was up. */
  get localPort(): number | undefined {
    return this.#connections[0]?.localPort;
  }

  /** Calls without an answer so far. */
  get callCount(): number {
    return this.#connections.reduce((sum, connection) => sum + connection.callCount, 0);
  }

  /** Connections that stand. */
  get connectionCount(): number {
    return this.#connections.filter(({ state }) => state === 'up').length;
  }

  /** For the calls that come: those under way keep what they were given. */
  setPatience(patience: Patience): void {
    this.#patience = patience;
  }

  /** Never rejects. `args` and the payload's bytes must not change until it resolves. */
  call<Args, R extends Reply>(
    procedure: Procedure<Args, R>,
    as: Credentials,
    args: Args,
  ): Promise<Outcome<R>> {
    if (this.#isClosed) {
      return Promise.resolve({ ok: false, error: { kind: 'closed' }, retransmitted: false });
    }
    const connection = this.#leastBusy();
    const xid = this.#nextXid(connection);
    const payload = procedure.payload?.(args);
    const head = this.#encode(procedure, as, args, xid, payload?.length ?? 0);
    const replyMaxBytes = MAX_REPLY_HEADER_BYTES + procedure.replyMaxBytes(args);
    assert(replyMaxBytes <= MAX_RECORD_BYTES, `${procedure.name}: too much is asked for`);
    const nowMs = performance.now();
    return new Promise((resolve) => {
      const call: Call = {
        xid,
        // What the table entry decodes is what it is asked for: the pair is made here only.
        procedure: procedure as unknown as Procedure<unknown, Reply>,
        args,
        head,
        payload,
        replyMaxBytes,
        startedMs: nowMs,
        deadlineMs: nowMs + this.#patienceMs(),
        settle: resolve as (outcome: Outcome<Reply>) => void,
        sends: 0,
        sentMs: nowMs,
        timeouts: 0,
      };
      connection.submit(call);
      this.#sweepTimer ??= setTimeout(() => this.#sweep(), this.#sweepIntervalMs);
    });
  }

  /** Makes a connection before there is a call that needs one; whether it works is seen then. */
  connectAhead(): void {
    this.#leastBusy().connectAhead();
  }

  /** Says that the server does not respond, for one that could not be reached by other ways. */
  assumeAway(why: string): void {
    if (this.#isResponding) this.#away(why);
  }

  /** Fails what waits, for a server that is given up on. */
  failAll(failure: RpcFailure): void {
    for (const connection of this.#connections) connection.failAll(failure);
  }

  /** Ends every call with `closed`. It may be called again. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#sweepTimer);
    clearTimeout(this.#probeTimer);
    for (const connection of this.#connections) connection.close();
  }

  #leastBusy(): Connection {
    const [first, ...others] = this.#connections;
    assert(first !== undefined, 'a transport has a connection');
    let best = first;
    for (const connection of others) {
      if (busyness(connection) < busyness(best)) best = connection;
    }
    return best;
  }

  /** 31 bits, which the engine holds without a box. */
  #nextXid(connection: Connection): number {
    do {
      this.#lastXid = (this.#lastXid + 1) & 0x7fff_ffff;
    } while (connection.has(this.#lastXid));
    return this.#lastXid;
  }

  /** Heads lie side by side in an arena, so that many calls leave as one stretch of memory. */
  #encode<Args, R extends Reply>(
    procedure: Procedure<Args, R>,
    as: Credentials,
    args: Args,
    xid: number,
    payloadBytes: number,
  ): Buffer {
    if (ARENA_BYTES - this.#arena.position < MAX_CALL_BYTES) {
      this.#arena = new XdrWriter(Buffer.allocUnsafeSlow(ARENA_BYTES));
    }
    const arena = this.#arena;
    const start = arena.position;
    arena.uint32(0);
    const { program, version, number } = procedure;
    encodeCall(arena, { xid, program, version, procedure: number }, this.flavor, as);
    procedure.encode(arena, args);
    const head = arena.bytes.subarray(start, arena.position);
    const length = head.length - RECORD_MARK_BYTES + ((payloadBytes + 3) & ~3);
    head.writeUInt32BE(recordMark(length), 0);
    return head;
  }

  // ---- Patience -------------------------------------------------------------------------------

  #patienceMs(): number {
    switch (this.#patience) {
      case 'hard':
        return Number.POSITIVE_INFINITY;
      case 'soft':
        return this.#answerMs;
      case 'mounting':
        return Math.min(this.#answerMs, this.#mountTimeoutMs);
    }
  }

  /** The major time-out, less what the sweep may come late. */
  get #answerMs(): number {
    return this.majorTimeoutMs - this.#sweepIntervalMs;
  }

  get #sweepIntervalMs(): number {
    return Math.max(10, Math.min((this.#timeoDeciseconds * 100) / 8, 1000));
  }

  #sweep(): void {
    this.#sweepTimer = undefined;
    const nowMs = performance.now();
    const timeoutMs = (timeouts: number) =>
      minorTimeoutMs(this.#timeoDeciseconds, timeouts % (this.#retrans + 1));
    for (const connection of this.#connections) {
      if (connection.callCount === 0) continue;
      const isSilent = connection.isSilent(nowMs, this.#silenceMs, this.#answerMs);
      connection.sweep(nowMs, timeoutMs);
      if (isSilent) this.#silent(connection, nowMs);
      if (connection.isSilent(nowMs, PROBE_AFTER_MS, PROBE_AFTER_MS)) this.#suspect(nowMs);
    }
    if (this.callCount > 0 && !this.#isClosed) {
      this.#sweepTimer = setTimeout(() => this.#sweep(), this.#sweepIntervalMs);
    }
  }

  /** How long no connection is to be had before that is worth a word. */
  get #silenceMs(): number {
    return Math.min(this.#timeoDeciseconds * 100, LONGEST_SILENCE_MS);
  }

  /** One slow call is no silent server: nothing else may have been answered either. */
  #silent(connection: Connection, nowMs: number): void {
    if (!this.#isResponding || this.#patience === 'mounting') return;
    const why = connection.downSinceMs === undefined ? undefined : connection.lastFailure;
    const enoughMs = why === undefined ? this.#answerMs : this.#silenceMs;
    if (nowMs - this.#lastSignMs < enoughMs) return;
    this.#away(why?.message);
  }

  /** Nothing has come for a while: is it slow, or away? */
  #suspect(nowMs: number): void {
    if (this.#patience === 'mounting' || !this.#isResponding) return;
    if (nowMs - this.#lastSignMs < PROBE_AFTER_MS) return;
    if (nowMs - this.#lastProbeMs >= SLOW_PROBE_PAUSE_MS) void this.#probe();
  }

  get #lastSignMs(): number {
    return Math.max(this.#lastAnswerMs, this.#lastEchoMs);
  }

  #away(why: string | undefined): void {
    this.#isResponding = false;
    const cause = why === undefined ? '' : ` (${why})`;
    const outlook = this.#patience === 'hard' ? 'still trying' : 'timed out';
    const message = `server ${this.server} not responding${cause}, ${outlook}`;
    rpcChannels.server.publish({ server: this.server, state: 'notResponding', message });
    this.#probeLater();
  }

  #probeLater(): void {
    if (this.#isClosed || this.#options.probe === undefined) return;
    clearTimeout(this.#probeTimer);
    this.#probeTimer = setTimeout(() => void this.#probe(), PROBE_PAUSE_MS).unref();
  }

  /** Asks over a connection of its own whether the server is there. */
  async #probe(): Promise<void> {
    const { probe, host, port, sourcePort } = this.#options;
    if (this.#isProbing || probe === undefined) return;
    this.#isProbing = true;
    const startedMs = performance.now();
    this.#lastProbeMs = startedMs;
    const timeoDeciseconds = PROBE_LIMIT_MS / 100;
    const patience = 'mounting';
    const way = new Transport({ host, port, sourcePort, timeoDeciseconds, retrans: 0, patience });
    const answer = await way.call(probe, NOBODY, undefined);
    way.close();
    this.#isProbing = false;
    if (this.#isClosed) return;
    // Whatever it says, it is there.
    const isThere = answer.ok || !['unreachable', 'timeout'].includes(answer.error.kind);
    if (isThere) this.#echoed(startedMs);
    else if (!this.#isResponding) this.#probeLater();
    else if (this.#lastAnswerMs < startedMs) this.#away(whyAway(answer));
  }

  /**
   * A probe was answered. Connections of the time before may be stuck in TCP's own back-off, or
   * have lost the other end: they are replaced, unless they come alive by themselves.
   */
  #echoed(sinceMs: number): void {
    this.#lastEchoMs = performance.now();
    if (this.#isResponding) return;
    this.#responds();
    for (const connection of this.#connections) connection.hurry();
    const replace = () => {
      if (this.#lastAnswerMs >= sinceMs || this.#isClosed) return;
      for (const connection of this.#connections) {
        if (connection.callCount > 0) connection.reset('the server was away');
      }
    };
    setTimeout(replace, GRACE_MS).unref();
  }

  #answered(): void {
    this.#lastAnswerMs = performance.now();
    if (!this.#isResponding) this.#responds();
  }

  #responds(): void {
    this.#isResponding = true;
    clearTimeout(this.#probeTimer);
    const message = `server ${this.server} OK`;
    rpcChannels.server.publish({ server: this.server, state: 'ok', message });
  }
}

const NOBODY: Credentials = { uid: 65_534, gid: 65_534, groups: [] };

function whyAway(answer: Outcome<Reply>): string | undefined {
  return answer.ok || answer.error.kind === 'closed' ? undefined : describeFailure(answer.error);
}

/** A connection that cannot be made at present is the last to be chosen. */
function busyness(connection: Connection): number {
  return connection.state === 'backingOff' ? Number.MAX_VALUE : connection.loadBytes;
}
