/**
 * From the path that a user typed to an answer of its daemon.
 */
import { resolve } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import type { CallFailure } from '../daemon/control/client.ts';
import type { FoundMount } from '../daemon/control/find.ts';
import {
  detachedDaemons,
  listMounts,
  type Reached,
  reach,
  reachMount,
} from '../daemon/control/reach.ts';
import {
  ErrorCode,
  type EventLine,
  type MethodName,
  type ParamsOf,
  type Progress,
  type ResultOf,
  type Status,
} from '../daemon/control/schema.ts';
import { type GvfsError, usage } from './gvfs-errors.ts';
import type { Shell } from './shell.ts';

/** A daemon, and how the user called what it serves. */
export interface Daemon extends Reached {
  readonly typed: string;
}

/** How long a daemon may think about what it has at hand. */
const ANSWER_LIMIT_MS = 30_000;
/** What takes as long as it takes. */
const patient: ReadonlySet<MethodName> = new Set([
  ...(['warm', 'verify', 'evict', 'images'] as const),
  ...(['writeBack', 'flush', 'resolve', 'umount', 'events'] as const),
]);

/** The daemon of a path, whose connection is the caller's to close. */
export async function daemonOf(shell: Shell, typed: string): Promise<Result<Daemon, GvfsError>> {
  const reached = await reach(shell.bytesOf(typed), shell.workingDirectory, shell.mounts);
  if (!reached.ok) return err({ kind: 'reach', path: typed, error: reached.error });
  return ok({ ...reached.value, typed });
}

/** The daemon of a mount. */
export async function daemonAt(
  shell: Shell,
  mount: FoundMount,
): Promise<Result<Daemon, GvfsError>> {
  const client = await reachMount(mount, shell.mounts);
  if (!client.ok) return err({ kind: 'reach', path: mount.mountpoint, error: client.error });
  return ok({ client: client.value, mount, path: '', typed: mount.mountpoint });
}

/**
 * Where no path is given: the mount that the user stands in, else the only one. `toDo` is for who
 * has several.
 */
export async function daemonHere(shell: Shell, toDo: string): Promise<Result<Daemon, GvfsError>> {
  const here = await daemonOf(shell, '.');
  const standsOutside =
    !here.ok && here.error.kind === 'reach' && here.error.error.kind === 'notMounted';
  if (!standsOutside) return here;
  const [mount, ...others] = await listMounts(shell.mounts);
  if (mount === undefined) return err(nothingMounted);
  if (others.length === 0) return daemonAt(shell, mount);
  const all = [mount, ...others].map(({ mountpoint }) => mountpoint).join(', ');
  return err(usage(`there are several mounts: ${all}`, toDo));
}

/**
 * The daemon of a path; or, where the path is a mountpoint whose mount is gone or has left the
 * tree, the one that has not ended there.
 */
export async function daemonStillOf(
  shell: Shell,
  typed: string,
): Promise<Result<Daemon, GvfsError>> {
  const daemon = await daemonOf(shell, typed);
  if (daemon.ok || daemon.error.kind !== 'reach' || daemon.error.error.kind !== 'notMounted') {
    return daemon;
  }
  const at = resolve(shell.workingDirectory, typed);
  let found: Daemon | undefined;
  for (const one of await detachedHere(shell)) {
    if (found === undefined && one.mount.mountpoint === at) found = { ...one, typed };
    else one.client.close();
  }
  return found === undefined ? daemon : ok(found);
}

export const nothingMounted: GvfsError = {
  kind: 'reach',
  path: undefined,
  error: { kind: 'notMounted' },
};

/** A daemon without a mount in the tree, and what it says of itself. */
export interface Detached extends Daemon {
  readonly status: Status;
}

/**
 * Those that answer, each once, though it may have a second name. The connections are the caller's
 * to close.
 */
export async function detachedHere(shell: Shell): Promise<Detached[]> {
  const found: Detached[] = [];
  for (const client of await detachedDaemons(shell.mounts)) {
    const status = await client.call('status', {}, { silenceMs: ANSWER_LIMIT_MS });
    const isKnown = found.some((one) => status.ok && one.status.pid === status.value.pid);
    if (!status.ok || isKnown) {
      client.close(); // it ended meanwhile
      continue;
    }
    const { mountpoint, source } = status.value;
    const mount = { mountpoint, source, mountpoints: [mountpoint], userId: undefined };
    found.push({ client, mount, path: '', typed: mountpoint, status: status.value });
  }
  return found;
}

/** Whether a mount that nobody named has ended while it was asked: nothing is to be said of it. */
export async function endedMeanwhile(
  shell: Shell,
  mountpoint: string,
  error: GvfsError,
): Promise<boolean> {
  const isGone =
    (error.kind === 'reach' && error.error.kind === 'noDaemon') ||
    (error.kind === 'call' && (error.error.kind === 'gone' || isEnding(error.error)));
  if (!isGone) return false;
  const mounts = await listMounts(shell.mounts);
  return !mounts.some((mount) => mount.mountpoint === mountpoint);
}

function isEnding(failure: CallFailure): boolean {
  const codes: readonly number[] = [ErrorCode.ending, ErrorCode.cancelled];
  return failure.kind === 'refused' && codes.includes(failure.code);
}

/** One call. An interrupt cancels it. */
export async function call<M extends MethodName>(
  shell: Shell,
  { client, typed }: Daemon,
  method: M,
  params: ParamsOf<M>,
  onProgress?: (progress: Progress) => void,
  onEvent?: (event: EventLine) => void,
): Promise<Result<ResultOf<M>, GvfsError>> {
  const interrupted = new AbortController();
  const release = shell.onInterrupt(() => interrupted.abort());
  const answer = await client.call(method, params, {
    signal: interrupted.signal,
    onProgress,
    onEvent,
    silenceMs: patient.has(method) ? undefined : ANSWER_LIMIT_MS,
  });
  release();
  if (answer.ok) return answer;
  const { error } = answer;
  if (error.kind === 'refused' && error.code === ErrorCode.cancelled) {
    if (interrupted.signal.aborted) return err({ kind: 'interrupted' });
  }
  return err({ kind: 'call', path: typed, error });
}
