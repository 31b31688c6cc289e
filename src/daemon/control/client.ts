/**
 * The control socket's client: typed calls over one connection. No call rejects.
 */
import { createConnection, type Socket } from 'node:net';
import { err, ok, type Result } from '../../base/result.ts';
import { ANSWER_LINE_MAX, type CallError, LineReader, messageLine } from './protocol.ts';
import {
  type EventLine,
  eventFields,
  type MethodName,
  methods,
  type ParamsOf,
  type Progress,
  progressFields,
  type ResultOf,
} from './schema.ts';
import { check, checkAny, record } from './shape.ts';

/** Why there is no connection. */
export type ConnectError =
  /** Nobody listens there. */
  | { readonly kind: 'absent' }
  | { readonly kind: 'denied' }
  | { readonly kind: 'failed'; readonly message: string };

/** Why a call has no result. */
export type CallFailure =
  | ({ readonly kind: 'refused' } & CallError)
  /** The daemon hung up. */
  | { readonly kind: 'gone' }
  /** It said nothing for too long. */
  | { readonly kind: 'silent' }
  /** What it answered is not of our schema: it is of another version. */
  | { readonly kind: 'strange'; readonly message: string };

export interface CallOptions {
  /** Asks the daemon to stop; the call's answer is still waited for. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onEvent?: ((event: EventLine) => void) | undefined;
  /** How long the daemon may say nothing at all; no limit when left out. */
  readonly silenceMs?: number | undefined;
}

/** Connects to a socket that exists. */
export function connectTo(path: string): Promise<Result<ControlClient, ConnectError>> {
  return new Promise((done) => {
    const socket = createConnection({ path });
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      done(ok(new ControlClient(socket)));
    });
    socket.once('error', (error: NodeJS.ErrnoException) => done(err(connectError(error))));
  });
}

type Answer = Result<unknown, CallFailure>;

interface Pending {
  readonly settle: (answer: Answer) => void;
  readonly onProgress: CallOptions['onProgress'];
  readonly onEvent: CallOptions['onEvent'];
}

export class ControlClient {
  readonly #socket: Socket;
  readonly #lines = new LineReader(ANSWER_LINE_MAX);
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => this.#failAll({ kind: 'gone' }));
    socket.on('data', (chunk) => this.#take(chunk));
  }

  async call<M extends MethodName>(
    method: M,
    params: ParamsOf<M>,
    { signal, onProgress, onEvent, silenceMs = 0 }: CallOptions = {},
  ): Promise<Result<ResultOf<M>, CallFailure>> {
    if (this.#socket.destroyed) return err({ kind: 'gone' });
    this.#lastId += 1;
    const id = this.#lastId;
    const cancel = () => this.#socket.write(messageLine({ method: 'cancel', params: { id } }));
    const answered = new Promise<Answer>((settle) => {
      this.#pending.set(id, { settle, onProgress, onEvent });
    });
    this.#socket.setTimeout(silenceMs, () => this.#failAll({ kind: 'silent' }));
    this.#socket.write(messageLine({ id, method, params }));
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    const answer = await answered;
    signal?.removeEventListener('abort', cancel);
    this.#pending.delete(id);
    if (!answer.ok) return answer;
    const checked = checkAny(methods[method].result, answer.value, 'drop');
    return checked.ok
      ? ok(checked.value as ResultOf<M>)
      : err({ kind: 'strange', message: checked.error });
  }

  /** Hangs up. */
  close(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    const lines = this.#lines.push(chunk);
    for (const line of lines ?? ['a line without an end']) {
      try {
        this.#message(JSON.parse(line));
      } catch (error) {
        this.#failAll({ kind: 'strange', message: (error as Error).message });
        this.#socket.destroy();
        return;
      }
    }
  }

  #message(message: unknown): void {
    if (typeof message !== 'object' || message === null) return;
    const { id, method, params, result, error } = message as Readonly<Record<string, unknown>>;
    if (method === 'progress') {
      const progress = check(record('', progressFields), params, 'drop');
      if (progress.ok) this.#pending.get(progress.value.id)?.onProgress?.(progress.value);
      return;
    }
    if (method === 'event') {
      const event = check(record('', eventFields), params, 'drop');
      if (!event.ok) return;
      const { id: of, ...line } = event.value;
      this.#pending.get(of)?.onEvent?.(line);
      return;
    }
    const failed = error === undefined ? undefined : callError(error);
    if (id === null && failed !== undefined) this.#failAll({ kind: 'refused', ...failed });
    const pending = this.#pending.get(id as number);
    pending?.settle(failed === undefined ? ok(result) : err({ kind: 'refused', ...failed }));
  }

  #failAll(failure: CallFailure): void {
    for (const { settle } of this.#pending.values()) settle(err(failure));
  }
}

function connectError(error: NodeJS.ErrnoException): ConnectError {
  const { code, message } = error;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return { kind: 'absent' };
  if (code === 'EACCES' || code === 'EPERM') return { kind: 'denied' };
  return { kind: 'failed', message };
}

function callError(error: unknown): CallError {
  const { code, message, data } = (error ?? {}) as {
    code?: unknown;
    message?: unknown;
    data?: { errno?: unknown };
  };
  const errno = data?.errno;
  return {
    code: code as CallError['code'],
    message: typeof message === 'string' ? message : 'no reason given',
    ...(typeof errno === 'string' ? { errno } : {}),
  };
}
