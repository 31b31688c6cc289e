/**
 * JSON-RPC 2.0 as this socket speaks it: one JSON object a line, in UTF-8. Both ends share what is
 * here: the lines, bounded, and the messages.
 */
import type { ErrorCode, EventLine, MethodName, ParamsOf, Progress, ResultOf } from './schema.ts';

export type RequestId = number | string;

/** A call that failed, as its answer's `error`. */
export interface CallError {
  readonly code: ErrorCode;
  readonly message: string;
  /** The name of the errno behind it, as ENOENT. */
  readonly errno?: string;
}

/** One call, as the one who carries it out sees it. */
export interface Call {
  /** Aborted when the client cancels or goes away, and when the server closes. */
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
  /** Of `events`: all of them reach a client that reads, and one that does not is hung up. */
  event(event: EventLine): void;
}

export type Outcome<M extends MethodName> = ResultOf<M> | Failure;

/** What a method answers instead of its result. */
export class Failure {
  readonly error: CallError;

  constructor(error: CallError) {
    this.error = error;
  }
}

export type Handlers = {
  readonly [M in MethodName]: (params: ParamsOf<M>, call: Call) => Promise<Outcome<M>>;
};

/** Bytes in a line of a request, its newline not counted. */
export const REQUEST_LINE_MAX = 64 * 1024;
/** Bytes in a line of an answer: as many images as a cache may hold. */
export const ANSWER_LINE_MAX = 256 * 1024 * 1024;

/**
 * Cuts a stream into lines. What does not fit into `maxBytes` is an error, once and for all: where
 * the next line starts is not to be known then.
 */
export class LineReader {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #heldBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that `chunk` completes, without their ends; undefined when one is too long. */
  push(chunk: Buffer): string[] | undefined {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, start);
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      this.#heldBytes += part.length;
      if (this.#heldBytes > this.#maxBytes) return undefined;
      this.#parts.push(part);
      if (end < 0) return lines;
      lines.push(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#heldBytes = 0;
      start = end + 1;
    }
  }
}

export function messageLine(message: object): string {
  return `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`;
}
