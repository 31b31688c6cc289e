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
  daemonOf,
  nothingMounted,
} from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, reportOf } from './gvfs-errors.ts';
import type { Shell } from './shell.ts';
import { statusText } from './status-text.ts';

export const statusHelp = `
Without PATH: the mount that you stand in, else the only one there is. PATH is anything in a mount;
only its name is used, the mount itself is not touched.

Examples:
  gvfs status
  gvfs status /mnt/vm --json
  gvfs status --all

Exit status: 0 it answered, 1 wrong usage or another user's mount, 3 no gvfs mount there, or no
daemon that answers.
`;

export async function statusOfOne(
  shell: Shell,
  path: string | undefined,
  json: boolean,
): Promise<GvfsStatus> {
  const reached = await (path === undefined ? daemonHere(shell) : daemonOf(shell, path));
  const status = await statusOf(shell, reached);
  if (!status.ok) return complain(shell, status.error);
  shell.out(json ? `${JSON.stringify(status.value)}\n` : statusText(status.value));
  return GvfsStatus.done;
}

/** Says all that can be said; the exit status is that of the first mount that does not answer. */
export async function statusOfAll(shell: Shell, json: boolean): Promise<GvfsStatus> {
  const mounts = await listMounts(shell.mounts);
  if (mounts.length === 0 && !json) return complain(shell, nothingMounted);
  let worst: GvfsStatus = GvfsStatus.done;
  const texts: string[] = [];
  const objects: object[] = [];
  for (const mount of mounts) {
    const status = await statusOf(shell, await daemonAt(shell, mount));
    const { mountpoint, source } = mount;
    if (status.ok) {
      texts.push(statusText(status.value));
      objects.push({ mountpoint, source, status: status.value, problem: null });
    } else {
      const problem = reportOf(status.error);
      texts.push(`${source} on ${mountpoint}\n  ${problem.what}: ${problem.toDo}\n`);
      objects.push({ mountpoint, source, status: null, problem: problem.what });
      worst = worst === GvfsStatus.done ? problem.status : worst;
    }
  }
  shell.out(json ? `${JSON.stringify({ mounts: objects })}\n` : texts.join('\n'));
  return worst;
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
