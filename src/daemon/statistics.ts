/**
 * What has happened between this mount and its server since the start: calls by procedure, bytes,
 * retransmissions, whether the server answers. It listens to the client's channels: no code on the
 * way of a call knows of it.
 *
 * The calls that made the mount are no program's: `restart` forgets them, and those that are still
 * under way then.
 */
import type { Clock } from '../base/clock.ts';
import { Histogram } from '../base/histogram.ts';
import {
  type CallEvent,
  type RetransmitEvent,
  rpcChannels,
  type ServerEvent,
} from '../nfsc/index.ts';

/** One procedure's calls. */
export interface CallFigures {
  readonly procedure: string;
  readonly calls: number;
  /** Answered with an error, or not at all. That a name is not there is what LOOKUP is asked for. */
  readonly failures: number;
  /** On the wire, without TCP's own. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** undefined when there was no call. */
  readonly medianMs: number | undefined;
  readonly p99Ms: number | undefined;
}

export interface ServerFigures {
  readonly state: 'up' | 'notResponding';
  /** For how long it has not been responding; undefined while it does. */
  readonly awayMs: number | undefined;
  /** Bytes of files that READ brought and WRITE took. */
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly retransmissions: number;
  /** By name of the procedure. */
  readonly calls: readonly CallFigures[];
}

interface Procedure {
  readonly durations: Histogram;
  failures: number;
  sentBytes: number;
  receivedBytes: number;
  contentBytes: number;
}

export class ServerStatistics {
  readonly #server: string;
  readonly #clock: Clock;
  readonly #procedures = new Map<string, Procedure>();
  #retransmissions = 0;
  #callCount = 0;
  #startedAtMs = Number.NEGATIVE_INFINITY;
  #awaySinceMs: number | undefined;

  /** Listens from now on to what is said of one server, `host:port`. */
  constructor(server: string, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
    rpcChannels.call.subscribe(this.#onCall);
    rpcChannels.retransmit.subscribe(this.#onRetransmit);
    rpcChannels.server.subscribe(this.#onServer);
  }

  /** How many calls have ended. */
  get callCount(): number {
    return this.#callCount;
  }

  /** The mount answers: only calls that begin from now on count. */
  restart(): void {
    this.#procedures.clear();
    this.#startedAtMs = this.#clock.monotonicMs();
  }

  figures(): ServerFigures {
    const names = [...this.#procedures.keys()].sort();
    const away = this.#awaySinceMs;
    return {
      state: away === undefined ? 'up' : 'notResponding',
      awayMs: away === undefined ? undefined : this.#clock.monotonicMs() - away,
      readBytes: this.#procedures.get('READ')?.contentBytes ?? 0,
      writtenBytes: this.#procedures.get('WRITE')?.contentBytes ?? 0,
      retransmissions: this.#retransmissions,
      calls: names.map((name) => figuresOf(name, this.#of(name))),
    };
  }

  close(): void {
    rpcChannels.call.unsubscribe(this.#onCall);
    rpcChannels.retransmit.unsubscribe(this.#onRetransmit);
    rpcChannels.server.unsubscribe(this.#onServer);
  }

  readonly #onCall = (message: unknown): void => {
    const event = message as CallEvent;
    if (event.server !== this.#server) return;
    this.#callCount += 1;
    if (this.#clock.monotonicMs() - event.durationMs < this.#startedAtMs) return;
    const procedure = this.#of(event.procedure);
    procedure.durations.record(event.durationMs);
    procedure.sentBytes += event.requestBytes;
    procedure.receivedBytes += event.replyBytes;
    procedure.contentBytes += event.contentBytes;
    if (isFailure(event)) procedure.failures += 1;
  };

  readonly #onRetransmit = (message: unknown): void => {
    if ((message as RetransmitEvent).server === this.#server) this.#retransmissions += 1;
  };

  readonly #onServer = (message: unknown): void => {
    const { server, state } = message as ServerEvent;
    if (server !== this.#server) return;
    this.#awaySinceMs = state === 'ok' ? undefined : this.#clock.monotonicMs();
  };

  #of(name: string): Procedure {
    let procedure = this.#procedures.get(name);
    if (procedure === undefined) {
      procedure = {
        durations: new Histogram(),
        failures: 0,
        sentBytes: 0,
        receivedBytes: 0,
        contentBytes: 0,
      };
      this.#procedures.set(name, procedure);
    }
    return procedure;
  }
}

function isFailure({ procedure, outcome }: CallEvent): boolean {
  if (procedure === 'LOOKUP' && outcome === 'NFS3ERR_NOENT') return false;
  return outcome !== 'NFS3_OK';
}

function figuresOf(name: string, procedure: Procedure): CallFigures {
  const { failures, sentBytes, receivedBytes } = procedure;
  const { count, medianMs, p99Ms } = procedure.durations.summary();
  return { procedure: name, calls: count, failures, sentBytes, receivedBytes, medianMs, p99Ms };
}
