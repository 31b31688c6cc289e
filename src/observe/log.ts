/**
 * The log: what an operator should know, one line each, never on the way of a read or a write.
 *
 * - A message is a fixed text, so that it can be searched for; what varies is in the fields.
 * - Lines are text for people or one JSON object each: {"time", "level", "message", ...fields}.
 * - A log that cannot be written never ends the mount: what a slow or full disk does not take in
 *   time is dropped, and their number is logged when it takes lines again.
 */
import { closeSync, mkdirSync, openSync, write } from 'node:fs';
import { dirname } from 'node:path';
import { Writable } from 'node:stream';
import winston from 'winston';
import { printable } from './printable.ts';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
/** Bytes are names: they are made printable. What is undefined is left out. */
export type LogField = string | number | bigint | boolean | Uint8Array | undefined;
export type LogFields = Readonly<Record<string, LogField>>;

export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}

export interface LogSink extends Log {
  /** Opens the file anew, after it was renamed: on failure the old one is kept. */
  reopen(): void;
  /** Resolves when all that was logged is written, or after `limitMs` (default 1000). */
  close(limitMs?: number): Promise<void>;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
  /** Where to: a file that is appended to, or an open stream. */
  readonly to: { readonly file: string } | Writable;
  /** In every line: which mount speaks, where several share a file. */
  readonly common?: LogFields;
}

/**
 * Opens the log; a missing directory is made.
 * @throws NodeJS.ErrnoException when the file cannot be opened.
 */
export function openLog(options: LogOptions): LogSink {
  const { to } = options;
  const out = to instanceof Writable ? to : new LogFile(to.file);
  const logger = winston.createLogger({
    level: options.level,
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
    format: options.format === 'json' ? jsonLine : textLine,
    transports: [new winston.transports.Stream({ stream: out, eol: '\n' })],
  });
  const ignore = () => undefined;
  logger.on('error', ignore);
  out.on('error', ignore);

  let dropped = 0;
  const log = (level: LogLevel, message: string, fields: LogFields = {}) => {
    if (out.writableLength > UNWRITTEN_LIMIT_BYTES || out.writableEnded) {
      dropped++;
      return;
    }
    const line = { ...plain(options.common), ...plain(fields) };
    if (dropped > 0) {
      const lines = { ...plain(options.common), lines: dropped };
      dropped = 0;
      logger.log('warn', 'log lines were dropped', { fields: lines });
    }
    logger.log(level, message, { fields: line });
  };
  return {
    error: (message, fields) => log('error', message, fields),
    warn: (message, fields) => log('warn', message, fields),
    info: (message, fields) => log('info', message, fields),
    debug: (message, fields) => log('debug', message, fields),
    reopen() {
      if (!(out instanceof LogFile)) return;
      const error = out.reopen();
      if (error !== undefined) log('error', 'the log cannot be opened anew', { reason: error });
    },
    close: (limitMs = 1000) =>
      new Promise((done) => {
        const timeout = setTimeout(done, limitMs);
        const finish = () => {
          clearTimeout(timeout);
          done();
        };
        // A stream of somebody else's stays open: its writes are done when an empty one is.
        if (out instanceof LogFile) out.end(finish);
        else out.write('', finish);
      }),
  };
}

/** Where nobody listens. */
export const silentLog: Log = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
};

const UNWRITTEN_LIMIT_BYTES = 1 << 20;

/** A file that is appended to, in order, and can be opened anew between two writes. */
class LogFile extends Writable {
  readonly #path: string;
  #fd: number;
  #next: number | undefined;
  #writing = false;

  constructor(path: string) {
    super({ decodeStrings: true });
    this.#path = path;
    this.#fd = open(path);
  }

  reopen(): string | undefined {
    try {
      const fd = open(this.#path);
      if (this.#next !== undefined) closeSync(this.#next);
      this.#next = fd;
      if (!this.#writing) this.#takeNext();
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#writing = true;
    write(this.#fd, chunk, 0, chunk.length, null, () => {
      this.#writing = false; // a failed write loses its line, not the log
      this.#takeNext();
      done();
    });
  }

  override _final(done: (error?: Error | null) => void): void {
    closeSync(this.#fd);
    done();
  }

  #takeNext(): void {
    if (this.#next === undefined) return;
    closeSync(this.#fd);
    this.#fd = this.#next;
    this.#next = undefined;
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'a', 0o640);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    makeDirectory(dirname(path));
    return openSync(path, 'a', 0o640);
  }
}

/** With its parents. (mkdirSync's `recursive` never returns where mkdir says ENOENT: in /proc.) */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o750 });
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    mkdirSync(path, { mode: 0o750 });
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

type PlainFields = Record<string, string | number | boolean>;

/** Fields that JSON can carry. */
function plain(fields: LogFields = {}): PlainFields {
  const result: PlainFields = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (typeof value === 'bigint') result[name] = String(value);
    else result[name] = value instanceof Uint8Array ? printable(value) : value;
  }
  return result;
}

const jsonLine = winston.format.printf(({ level, message, fields }) =>
  JSON.stringify({ time: new Date().toISOString(), level, message, ...(fields as PlainFields) }),
);

const textLine = winston.format.printf(({ level, message, fields }) => {
  const words = Object.entries((fields ?? {}) as PlainFields).map(
    ([name, value]) => `${name}=${quoted(value)}`,
  );
  const text = [message, ...(words.length === 0 ? [] : [words.join(' ')])].join(': ');
  return `${new Date().toISOString()} ${level.padEnd(5)} ${text}`;
});

function quoted(value: string | number | boolean): string {
  const text = String(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
