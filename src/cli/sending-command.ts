/**
 * gvfs write-back, flush, resolve: what this host has is brought to the server, and the commands end
 * when it is durable there, or say what is not.
 */
import type { Result } from '../base/result.ts';
import { listMounts } from '../daemon/control/reach.ts';
import type { MethodName, ParamsOf, Progress, ResultOf } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import {
  call,
  type Daemon,
  daemonAt,
  daemonOf,
  daemonStillOf,
  detachedHere,
  endedMeanwhile,
  nothingMounted,
} from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, reportOf } from './gvfs-errors.ts';
import { sentence } from './mount-errors.ts';
import { ProgressLine } from './progress-line.ts';
import { bytesText, countText } from './quantities.ts';
import { reasonText } from './reason-text.ts';
import { jsonLine, progressOutput, type Shell } from './shell.ts';

export interface SendingRequest {
  readonly paths: readonly string[];
  readonly json: boolean;
  readonly timeoutMs: number | undefined;
}

export type Sent = Pick<
  ResultOf<'writeBack'>,
  'files' | 'sentFiles' | 'sentBytes' | 'unsentBytes' | 'timedOut' | 'failed'
>;

const statuses = `
Exit status: 0 the server has it, durably, 1 wrong usage or another user's mount, 3 no gvfs mount
there, 8 interrupted, 32 it failed, 75 something stays unsent: it is kept in the cache, and tried
again.
`;

export const writeBackHelp = `
PATH is a file in a mount, or a mountpoint for all of its files; without PATH it is every mount of
yours, and daemons whose mount is gone and which still send. What programs have changed until now is
sent, in mapped memory, too; what they change meanwhile is not waited for. What is sent stays in the
cache. The end of --timeout ends the waiting, not the sending.

Examples:
  gvfs write-back /mnt/vm/vm/disk.img
  gvfs write-back --timeout 60 /mnt/vm || echo "not yet"
  gvfs write-back
${statuses}`;

export const flushHelp = `
As gvfs write-back; then nothing that is known of the files, or of the whole mount, is believed any
more: the kernel drops its pages, and what is in the cache is compared with the server at the next
use, whatever the session. For a file that another host is to write next, or has written: flush it
there, then here.

Examples:
  gvfs flush /mnt/vm/vm/disk.img
  gvfs flush /mnt/vm
${statuses}`;

export const resolveHelp = `
Another host has changed the file while writes to it were waiting here, in a session that was to be
exclusive. Nothing of it is sent or dropped until one says what counts: --mine sends what is here
over what the server has, --theirs drops what was not sent. PATH is the file, or, for one who stands
in the mount, its id, which gvfs status --json tells. To have both, copy the file first.

Examples:
  gvfs resolve /mnt/vm/vm/disk.img --theirs
  gvfs resolve /mnt/vm/vm/disk.img --mine

Exit status: 0 it is resolved, and with --mine the server has it, durably, 1 wrong usage or another
user's mount, 3 no gvfs mount there, 8 interrupted, 32 there is no conflict, or it failed, 75
something stays unsent: it is kept in the cache.
`;

/** `verb` on each path, or on everything. */
export async function send(
  shell: Shell,
  verb: 'writeBack' | 'flush',
  { paths, json, timeoutMs }: SendingRequest,
): Promise<GvfsStatus> {
  const outcome = new SendingOutcome(shell, json);
  const { daemons, problems } = await meant(shell, paths);
  for (const { typed, error } of problems) outcome.failed(typed, error);
  const line = new SharedLine(shell, daemons);
  // All at once: one whose server is away keeps no other from being sent, nor takes its time.
  const asked = daemons.map(async (daemon) => {
    const { path } = daemon;
    const onProgress = (progress: Progress) => line.update(daemon, progress);
    const sent = await call(shell, daemon, verb, { path, timeoutMs }, onProgress);
    daemon.client.close();
    line.end();
    if (sent.ok) outcome.sent(daemon, sent.value);
    else if (paths.length > 0 || !(await isOver(shell, daemon, sent.error))) {
      outcome.failed(daemon.typed, sent.error);
    }
  });
  await Promise.all(asked);
  if (daemons.length === 0 && problems.length === 0) return complain(shell, nothingMounted);
  return outcome.end();
}

export async function resolve(
  shell: Shell,
  path: string,
  keep: 'mine' | 'theirs',
  { json, timeoutMs }: Omit<SendingRequest, 'paths'>,
): Promise<GvfsStatus> {
  const daemon = await daemonOf(shell, path);
  if (!daemon.ok) return complain(shell, daemon.error);
  const params = { path: daemon.value.path, keep, timeoutMs };
  const resolved = await calling(shell, daemon.value, 'resolve', params);
  daemon.value.client.close();
  if (!resolved.ok) return complain(shell, resolved.error);
  const { droppedBytes } = resolved.value;
  if (json) shell.out(jsonLine({ file: path, ...resolved.value }));
  else if (keep === 'theirs') {
    shell.out(`${harmless(path)}: ${bytesText(droppedBytes)} of ours dropped\n`);
  } else shell.out(`${harmless(path)}: ${sentText(resolved.value)}\n`);
  return sayUnsent(shell, daemon.value, resolved.value);
}

/** What is said on standard error of what is not at the server; the status that goes with it. */
export function sayUnsent(
  shell: Shell,
  { mount }: Pick<Daemon, 'mount'>,
  { failed, timedOut, unsentBytes }: Sent,
): GvfsStatus {
  const toDo = 'it is kept, see gvfs status';
  for (const { path, unsentBytes: left, why } of failed) {
    const name = path === '' ? mount.mountpoint : `${mount.mountpoint}/${path}`;
    const what = `${name}: ${bytesText(left)} not at the server (${reasonText(why)})`;
    shell.err(`${sentence('gvfs', { what, toDo })}\n`);
  }
  if (timedOut) {
    const what = `${mount.mountpoint}: the time was up with ${bytesText(unsentBytes)} to send`;
    shell.err(`${sentence('gvfs', { what, toDo })}\n`);
  }
  return timedOut || failed.length > 0 ? GvfsStatus.unsent : GvfsStatus.done;
}

export function sentText(report: Sent): string {
  const { files, sentFiles, sentBytes, unsentBytes, failed, timedOut } = report;
  if (files === 0 && failed.length === 0 && !timedOut) return 'nothing was unsent';
  const sent =
    sentFiles === 0
      ? 'nothing sent'
      : `${bytesText(sentBytes)} of ${countText(sentFiles, 'file')} sent`;
  return unsentBytes === 0 ? sent : `${sent}, ${bytesText(unsentBytes)} unsent`;
}

/** One call, with its progress on a terminal. */
export async function calling<M extends MethodName>(
  shell: Shell,
  daemon: Daemon,
  method: M,
  params: ParamsOf<M>,
): Promise<Result<ResultOf<M>, GvfsError>> {
  const line = new ProgressLine(daemon.typed, progressOutput(shell), shell.clock);
  const onProgress = ({ doneBytes, totalBytes }: Progress) => line.update(doneBytes, totalBytes);
  const answer = await call(shell, daemon, method, params, onProgress);
  line.end();
  return answer;
}

interface Problem {
  readonly typed: string;
  readonly error: GvfsError;
}

async function meant(
  shell: Shell,
  paths: readonly string[],
): Promise<{ daemons: Daemon[]; problems: Problem[] }> {
  const daemons: Daemon[] = [];
  const problems: Problem[] = [];
  const add = (typed: string, daemon: Result<Daemon, GvfsError>) => {
    if (daemon.ok) daemons.push(daemon.value);
    else problems.push({ typed, error: daemon.error });
  };
  if (paths.length > 0) {
    for (const path of paths) add(path, await daemonStillOf(shell, path));
    return { daemons, problems };
  }
  for (const mount of await listMounts(shell.mounts)) {
    const daemon = await daemonAt(shell, mount);
    const isOthers =
      !daemon.ok && daemon.error.kind === 'reach' && daemon.error.error.kind === 'notYours';
    if (
      !isOthers &&
      (daemon.ok || !(await endedMeanwhile(shell, mount.mountpoint, daemon.error)))
    ) {
      add(mount.mountpoint, daemon);
    }
  }
  daemons.push(...(await detachedHere(shell)));
  return { daemons, problems };
}

/** A daemon that nobody named and that has ended, with nothing unsent, as it would do. */
async function isOver(shell: Shell, { mount }: Daemon, error: GvfsError): Promise<boolean> {
  return endedMeanwhile(shell, mount.mountpoint, error);
}

/** How far all of the calls are, on one line. */
class SharedLine {
  readonly #line: ProgressLine;
  readonly #far = new Map<Daemon, Progress>();

  constructor(shell: Shell, daemons: readonly Daemon[]) {
    const [first] = daemons;
    const label = daemons.length === 1 && first ? first.typed : countText(daemons.length, 'mount');
    this.#line = new ProgressLine(label, progressOutput(shell), shell.clock);
  }

  update(daemon: Daemon, progress: Progress): void {
    this.#far.set(daemon, progress);
    const sum = (of: 'doneBytes' | 'totalBytes') =>
      [...this.#far.values()].reduce((bytes, far) => bytes + far[of], 0);
    this.#line.update(sum('doneBytes'), sum('totalBytes'));
  }

  /** Takes the line away, for a result that is printed; what goes on draws it again. */
  end(): void {
    this.#line.end();
  }
}

/** The status is that of the first that failed. */
class SendingOutcome {
  readonly #shell: Shell;
  readonly #json: boolean;
  readonly #objects: object[] = [];
  #status: GvfsStatus = GvfsStatus.done;
  #wasInterrupted = false;

  constructor(shell: Shell, json: boolean) {
    this.#shell = shell;
    this.#json = json;
  }

  sent(daemon: Daemon, sent: Sent): void {
    const { typed, mount, path } = daemon;
    const { mountpoint } = mount;
    this.#objects.push({ path: typed, mountpoint, within: path, ...sent, error: null });
    if (!this.#json) this.#shell.out(`${harmless(typed)}: ${sentText(sent)}\n`);
    this.#add(sayUnsent(this.#shell, daemon, sent));
  }

  failed(typed: string, error: GvfsError): void {
    this.#objects.push({ path: typed, error: reportOf(error).what });
    if (error.kind === 'interrupted') {
      if (this.#wasInterrupted) return; // once said, it is of all of them
      this.#wasInterrupted = true;
    }
    this.#add(complain(this.#shell, error));
  }

  end(): GvfsStatus {
    if (this.#json) this.#shell.out(jsonLine({ done: this.#objects }));
    return this.#status;
  }

  #add(status: GvfsStatus): void {
    if (this.#status === GvfsStatus.done) this.#status = status;
  }
}
