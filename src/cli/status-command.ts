/**
 * gvfs status [PATH]: how a mount is, or with --all every one.
 */
import { err, type Result } from '../base/result.ts';
import { listMounts } from '../daemon/control/reach.ts';
import type { Status } from '../daemon/control/schema.ts';
import {
  call,
  type Daemon,
  daemonAt,
  daemonHere,
  daemonStillOf,
  detachedHere,
  endedMeanwhile,
  nothingMounted,
} from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, reportOf } from './gvfs-errors.ts';
import { jsonLine, type Shell } from './shell.ts';
import { type MountRow, mountsText, statusText } from './status-text.ts';

export const statusHelp = `
Without PATH: the mount that you stand in, else the only one there is. PATH is anything in a mount;
only its name is used, the mount itself is not touched. --all has a line a mount, and daemons
whose mount has left the tree while files are open there, or is gone while they still send; with
--verbose all of each.

Examples:
  gvfs status
  gvfs status /mnt/vm --json
  gvfs status --all
  gvfs status -v /mnt/vm

Exit status: 0 it answered, 1 wrong usage or another user's mount, 3 no gvfs mount there, or no
daemon that answers.
`;

export interface StatusRequest {
  readonly json: boolean;
  /** With the times of calls and requests. */
  readonly verbose: boolean;
}

export async function statusOfOne(
  shell: Shell,
  path: string | undefined,
  { json, verbose }: StatusRequest,
): Promise<GvfsStatus> {
  const reached = await (path === undefined
    ? daemonHere(shell, 'name one, or say --all')
    : daemonStillOf(shell, path));
  const status = await statusOf(shell, reached);
  if (!status.ok) return complain(shell, status.error);
  shell.out(json ? jsonLine(status.value) : statusText(status.value, verbose));
  return GvfsStatus.done;
}

/** Says all that can be said; the exit status is that of the first mount that does not answer. */
export async function statusOfAll(
  shell: Shell,
  { json, verbose }: StatusRequest,
): Promise<GvfsStatus> {
  let worst: GvfsStatus = GvfsStatus.done;
  const rows: MountRow[] = [];
  for (const mount of await listMounts(shell.mounts)) {
    const { mountpoint, source } = mount;
    const status = await statusOf(shell, await daemonAt(shell, mount));
    if (status.ok) {
      rows.push({ mountpoint, source, status: status.value });
    } else if (!(await endedMeanwhile(shell, mountpoint, status.error))) {
      const problem = reportOf(status.error);
      if (!json) complain(shell, status.error);
      rows.push({ mountpoint, source, status: problem.what });
      worst = worst === GvfsStatus.done ? problem.status : worst;
    }
  }
  for (const { client, mount, status } of await detachedHere(shell)) {
    client.close();
    const { mountpoint, source } = mount;
    rows.push({ mountpoint, source, status, isDetached: true });
  }
  if (json) shell.out(jsonLine({ mounts: rows.map(rowObject) }));
  else if (rows.length === 0) return complain(shell, nothingMounted);
  else shell.out(verbose ? fullText(rows) : mountsText(rows));
  return worst;
}

function rowObject({ mountpoint, source, status }: MountRow): object {
  const isProblem = typeof status === 'string';
  return {
    ...{ mountpoint, source },
    status: isProblem ? null : status,
    problem: isProblem ? status : null,
  };
}

/** Of each that answers; of the others a sentence was said. */
function fullText(rows: readonly MountRow[]): string {
  const texts = rows.map(({ status }) =>
    typeof status === 'string' ? '' : statusText(status, true),
  );
  return texts.filter((text) => text !== '').join('\n');
}

async function statusOf(
  shell: Shell,
  reached: Result<Daemon, GvfsError>,
): Promise<Result<Status, GvfsError>> {
  if (!reached.ok) return err(reached.error);
  try {
    return await call(shell, reached.value, 'status', {});
  } finally {
    reached.value.client.close();
  }
}
