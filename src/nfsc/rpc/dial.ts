/**
 * One attempt at a TCP connection: name to address, source port, time-out.
 *
 * Servers that export `secure` (the default of most) serve only source ports below 1024, which
 * takes CAP_NET_BIND_SERVICE. Ports 665 to 1023 are tried downwards from a random one: those below
 * are too often somebody's.
 */
import { lookup } from 'node:dns/promises';
import { connect, isIP, type OnReadOpts, type Socket } from 'node:net';
import { err, ok, type Result } from '../../base/result.ts';
import type { UnreachableReason } from './failure.ts';

/**
 *  - auto: a privileged source port if we may have one, else any
 *  - privileged: a privileged source port or none (`resvport`)
 *  - any: any source port (`noresvport`)
 */
export type SourcePort = 'auto' | 'privileged' | 'any';

export interface DialTarget {
  readonly host: string;
  readonly port: number;
  readonly sourcePort: SourcePort;
  readonly timeoutMs: number;
  /** A source port to try first: servers know a retransmitted call by it. */
  readonly favouritePort?: number | undefined;
  /** What `host` was when it was last reached: good enough while nobody resolves names. */
  readonly lastAddress?: string | undefined;
}

export interface DialFailure {
  readonly reason: UnreachableReason;
  readonly message: string;
}

export const HIGHEST_PRIVILEGED_PORT = 1023;
export const LOWEST_PRIVILEGED_PORT = 665;
const PORT_COUNT = HIGHEST_PRIVILEGED_PORT - LOWEST_PRIVILEGED_PORT + 1;
const KEEP_ALIVE_MS = 60_000;

/** Resolves with a connected socket that reads through `onread`; `signal` ends the attempt. */
export async function dial(
  target: DialTarget,
  onread: OnReadOpts,
  signal: AbortSignal,
): Promise<Result<Socket, DialFailure>> {
  const addresses = await addressesOf(target.host, target.lastAddress);
  if (!addresses.ok) return addresses;
  const deadlineMs = performance.now() + target.timeoutMs;
  let last: DialFailure = { reason: 'unknownHost', message: `${target.host} has no address` };
  for (const address of addresses.value) {
    const attempt = await dialAddress({ ...target, host: address }, deadlineMs, onread, signal);
    if (attempt.ok) return attempt;
    last = attempt.error;
  }
  return err(last);
}

async function addressesOf(
  host: string,
  lastAddress: string | undefined,
): Promise<Result<readonly string[], DialFailure>> {
  if (isIP(host) !== 0) return ok([host]);
  try {
    return ok((await lookup(host, { all: true })).map(({ address }) => address));
  } catch (error) {
    if (lastAddress !== undefined) return ok([lastAddress]);
    return err({ reason: 'unknownHost', message: `${host}: unknown host (${codeOf(error)})` });
  }
}

async function dialAddress(
  target: DialTarget,
  deadlineMs: number,
  onread: OnReadOpts,
  signal: AbortSignal,
): Promise<Result<Socket, DialFailure>> {
  if (target.sourcePort === 'any') return dialFrom(undefined, target, deadlineMs, onread, signal);
  for (const localPort of privilegedPorts(target.favouritePort)) {
    const attempt = await dialFrom(localPort, target, deadlineMs, onread, signal);
    if (attempt.ok) return attempt;
    const { code } = attempt.error;
    if (code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL') continue;
    if (code !== 'EACCES' && code !== 'EPERM') return attempt;
    if (target.sourcePort === 'auto') break;
    return err({
      reason: 'localPort',
      message: 'a source port below 1024 takes root or CAP_NET_BIND_SERVICE',
    });
  }
  if (target.sourcePort === 'auto') return dialFrom(undefined, target, deadlineMs, onread, signal);
  return err({ reason: 'localPort', message: 'all source ports from 665 to 1023 are in use' });
}

function* privilegedPorts(favourite: number | undefined): Generator<number> {
  if (favourite !== undefined && favourite <= HIGHEST_PRIVILEGED_PORT) yield favourite;
  const start = Math.floor(Math.random() * PORT_COUNT);
  for (let step = 0; step < PORT_COUNT; step++) {
    yield LOWEST_PRIVILEGED_PORT + ((start - step + PORT_COUNT) % PORT_COUNT);
  }
}

type CodedFailure = DialFailure & { readonly code?: string | undefined };

function dialFrom(
  localPort: number | undefined,
  { host, port }: DialTarget,
  deadlineMs: number,
  onread: OnReadOpts,
  signal: AbortSignal,
): Promise<Result<Socket, CodedFailure>> {
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port,
      onread,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      autoSelectFamily: false,
      ...(localPort === undefined ? {} : { localPort }),
    });
    const fail = (failure: CodedFailure) => {
      settle();
      socket.destroy();
      resolve(err(failure));
    };
    const onError = (error: Error) => fail(failureOf(error, host, port));
    const onAbort = () => fail({ reason: 'lost', message: 'the attempt was given up' });
    const onTimeout = () =>
      fail({ reason: 'timeout', message: `${hostAndPort(host, port)} does not answer` });
    const timer = setTimeout(onTimeout, Math.max(1, deadlineMs - performance.now()));
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      socket.off('error', onError);
      socket.on('error', () => {}); // the socket's end is seen at 'close'
    };
    socket.on('error', onError);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    socket.once('connect', () => {
      settle();
      resolve(ok(socket));
    });
  });
}

function failureOf(error: Error, host: string, port: number): CodedFailure {
  const code = codeOf(error);
  const where = hostAndPort(host, port);
  switch (code) {
    case 'ECONNREFUSED':
      return { reason: 'refused', message: `${where} refuses the connection`, code };
    case 'ETIMEDOUT':
      return { reason: 'timeout', message: `${where} does not answer`, code };
    case 'ECONNRESET':
      return { reason: 'lost', message: `${where} ended the connection`, code };
    default:
      return { reason: 'noRoute', message: `${where} cannot be reached (${code})`, code };
  }
}

/** As a URL has it: an IPv6 address stands in brackets. */
export function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
