/**
 * The control socket's server: takes lines from clients, checks them against the schema, runs the
 * methods, and sends what they answer.
 *
 * A client is not trusted to behave, only to be allowed (the socket's mode says who may):
 *  - its lines, its calls at once and the clients themselves are bounded in number and size;
 *  - what it does not read is bounded: progress is left out while it is slow, and one that lets
 *    answers pile up is hung up;
 *  - when it goes away its calls are cancelled; when it only ends its own half of the stream, too,
 *    and what is answered all the same still reaches it.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import {
  type Call,
  type CallError,
  Failure,
  type Handlers,
  LineReader,
  messageLine,
  type Outcome,
  REQUEST_LINE_MAX,
  type RequestId,
} from './protocol.ts';
import { ErrorCode, isMethod, type MethodName, methods, type ParamsOf } from './schema.ts';
import { checkAny } from './shape.ts';

export interface ServerEvents {
  /** A method threw: a bug of ours. */
  fault(method: string, error: unknown): void;
}

export interface ServerLimits {
  readonly clients: number;
  /** Calls of one client at once. */
  readonly calls: number;
  /** Answers that a client has not read. */
  readonly unreadBytes: number;
  /** A client without a call is hung up after so long. */
  readonly idleMs: number;
  /** Between two progress notifications of a call. */
  readonly progressMs: number;
}

export const defaultLimits: ServerLimits = {
  clients: 64,
  calls: 32,
  unreadBytes: 64 << 20,
  idleMs: 300_000,
  progressMs: 100,
};

/** For the last answers to be read, once nothing else is to come. */
const GOODBYE_MS = 1000;

export class RpcServer {
  readonly #handlers: Handlers;
  readonly #clock: Clock;
  readonly #events: ServerEvents;
  readonly #limits: ServerLimits;
  readonly #server: Server;
  readonly #clients = new Set<Client>();

  constructor(
    handlers: Handlers,
    clock: Clock,
    events: ServerEvents,
    limits: ServerLimits = defaultLimits,
  ) {
    this.#handlers = handlers;
    this.#clock = clock;
    this.#events = events;
    this.#limits = limits;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    // accept(2) itself may fail, for want of descriptors: the next one may not.
    this.#server.on('error', () => undefined);
  }

  /** Listens at a path where nothing is. @throws what listen(2) says. */
  async listen(path: string): Promise<void> {
    await new Promise<void>((done, fail) => {
      this.#server.once('error', fail).listen(path, () => {
        this.#server.off('error', fail);
        done();
      });
    });
  }

  /** Cancels what runs, answers it, hangs up. Resolves when no client is left. */
  async close(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    await Promise.all([...this.#clients].map((client) => client.end()));
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined); // 'close' follows
    if (this.#clients.size >= this.#limits.clients) {
      const error = { code: ErrorCode.busy, message: 'too many clients' };
      socket.end(messageLine({ id: null, error }));
      socket.destroySoon();
      return;
    }
    const client = new Client(socket, this.#handlers, this.#clock, this.#events, this.#limits);
    this.#clients.add(client);
    socket.once('close', () => this.#clients.delete(client));
  }
}

class Client {
  readonly #socket: Socket;
  readonly #handlers: Handlers;
  readonly #clock: Clock;
  readonly #events: ServerEvents;
  readonly #limits: ServerLimits;
  readonly #lines = new LineReader(REQUEST_LINE_MAX);
  readonly #calls = new Map<RequestId, { readonly cancel: AbortController }>();
  #isEnding = false;

  constructor(
    socket: Socket,
    handlers: Handlers,
    clock: Clock,
    events: ServerEvents,
    limits: ServerLimits,
  ) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#clock = clock;
    this.#events = events;
    this.#limits = limits;
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('end', () => void this.end());
    socket.on('close', () => this.#cancelAll());
    socket.setTimeout(limits.idleMs, () => {
      if (this.#calls.size === 0) socket.destroy();
    });
  }

  /** No more requests: what runs is cancelled, and the stream ends with its answers. */
  async end(): Promise<void> {
    const closed = new Promise<void>((done) => {
      if (this.#socket.destroyed) done();
      else this.#socket.once('close', () => done());
    });
    this.#isEnding = true;
    this.#cancelAll();
    this.#endIfIdle();
    await closed;
  }

  #take(chunk: Buffer): void {
    if (this.#isEnding) return;
    const lines = this.#lines.push(chunk);
    if (lines === undefined) {
      this.#fail(null, { code: ErrorCode.parse, message: 'the line is too long' });
      void this.end();
      return;
    }
    for (const line of lines) {
      if (line.trim() !== '') this.#request(line);
    }
  }

  #request(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.#fail(null, { code: ErrorCode.parse, message: 'that is no JSON' });
      return;
    }
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      const text = 'one request a line, as an object';
      this.#fail(null, { code: ErrorCode.invalidRequest, message: text });
      return;
    }
    const { jsonrpc, id, method, params = {} } = message as Readonly<Record<string, unknown>>;
    if (jsonrpc !== '2.0' || typeof method !== 'string' || !isIdOrNone(id)) {
      const text = 'no JSON-RPC 2.0 request';
      this.#fail(isIdOrNone(id) ? (id ?? null) : null, {
        code: ErrorCode.invalidRequest,
        message: text,
      });
      return;
    }
    // A notification is not answered, whatever it says.
    if (id === undefined) this.#notification(method, params);
    else this.#call(id, method, params);
  }

  #notification(method: string, params: unknown): void {
    if (method !== 'cancel' || typeof params !== 'object' || params === null) return;
    const { id } = params as Readonly<Record<string, unknown>>;
    this.#calls.get(id as RequestId)?.cancel.abort();
  }

  #call(id: RequestId, method: string, params: unknown): void {
    const admitted = this.#admit(id, method, params);
    if (admitted.ok) void this.#run(id, admitted.value.method, admitted.value.params);
    else this.#fail(id, admitted.error);
  }

  #admit(
    id: RequestId,
    method: string,
    params: unknown,
  ): Result<{ method: MethodName; params: ParamsOf<MethodName> }, CallError> {
    const refuse = (code: ErrorCode, message: string) => err({ code, message });
    if (this.#calls.has(id)) {
      return refuse(ErrorCode.invalidRequest, 'a call of this id is under way');
    }
    if (this.#calls.size >= this.#limits.calls) {
      return refuse(ErrorCode.busy, 'too many calls at once');
    }
    if (!isMethod(method)) return refuse(ErrorCode.unknownMethod, 'there is no such method');
    const checked = checkAny(methods[method].params, params, 'refuse');
    return checked.ok
      ? ok({ method, params: checked.value as ParamsOf<MethodName> })
      : refuse(ErrorCode.badParams, checked.error);
  }

  async #run<M extends MethodName>(id: RequestId, method: M, params: ParamsOf<M>): Promise<void> {
    const cancel = new AbortController();
    this.#calls.set(id, { cancel });
    const event = (line: object) => {
      this.#send(messageLine({ method: 'event', params: { id, ...line } }));
    };
    const call = { signal: cancel.signal, progress: this.#progressOf(id), event };
    const outcome = await this.#outcome(method, params, call);
    if (outcome instanceof Failure) this.#fail(id, outcome.error);
    else this.#send(messageLine({ id, result: outcome }));
    this.#calls.delete(id);
    this.#endIfIdle();
  }

  async #outcome<M extends MethodName>(
    method: M,
    params: ParamsOf<M>,
    call: Call,
  ): Promise<Outcome<M>> {
    try {
      return await this.#handlers[method](params, call);
    } catch (error) {
      this.#events.fault(method, error);
      const message = 'internal error, see the log';
      return new Failure({ code: ErrorCode.internal, message });
    }
  }

  /** At most every so often, and not to a client that is slow to read. */
  #progressOf(id: RequestId): Call['progress'] {
    let nextMs = Number.NEGATIVE_INFINITY;
    return (progress) => {
      const nowMs = this.#clock.monotonicMs();
      if (nowMs < nextMs || this.#socket.writableNeedDrain || !this.#calls.has(id)) return;
      nextMs = nowMs + this.#limits.progressMs;
      this.#send(messageLine({ method: 'progress', params: { id, ...progress } }));
    };
  }

  #fail(id: RequestId | null, { code, message, errno }: CallError): void {
    const more = errno === undefined ? {} : { data: { errno } };
    this.#send(messageLine({ id, error: { code, message, ...more } }));
  }

  #send(line: string): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#socket.write(line);
    if (this.#socket.writableLength > this.#limits.unreadBytes) this.#socket.destroy();
  }

  #cancelAll(): void {
    for (const { cancel } of this.#calls.values()) cancel.abort();
  }

  #endIfIdle(): void {
    if (!this.#isEnding || this.#calls.size > 0 || this.#socket.destroyed) return;
    // Not `end` alone: who does not hang up in turn, or does not read, would keep us.
    this.#socket.destroySoon();
    this.#clock.after(GOODBYE_MS, () => this.#socket.destroy());
  }
}

function isIdOrNone(id: unknown): id is RequestId | undefined {
  return id === undefined || typeof id === 'string' || Number.isSafeInteger(id);
}
