/**
 * gvfs fail-waiting PATH: programs that wait for the server get an error instead.
 */
import { harmless } from '../observe/printable.ts';
import { call, daemonOf } from './daemon-call.ts';
import { complain, GvfsStatus } from './gvfs-errors.ts';
import { countText } from './quantities.ts';
import { jsonLine, type Shell } from './shell.ts';

export const failWaitingHelp = `
For programs that cannot be killed because the kernel waits for the mount (O_DIRECT). What has
waited for over a second gets EIO; what comes later waits again. PATH is a file, with what waits to
open it; or a directory, with what waits to look up a name in it; or the mountpoint, for all. gvfs
status says what waits.

Examples:
  gvfs fail-waiting /mnt/vm/base.img
  gvfs fail-waiting /mnt/vm

Exit status: 0 it was failed, or nothing waits at all, 1 wrong usage or another user's mount, 3 no
gvfs mount there, 5 nothing waits for PATH, but requests wait elsewhere, 32 it failed.
`;

export async function failWaiting(shell: Shell, path: string, json: boolean): Promise<GvfsStatus> {
  const daemon = await daemonOf(shell, path);
  if (!daemon.ok) return complain(shell, daemon.error);
  const { mount, path: within } = daemon.value;
  const answer = await call(shell, daemon.value, 'failWaiting', { path: within });
  daemon.value.client.close();
  if (!answer.ok) return complain(shell, answer.error);
  const { failed, waitElsewhere } = answer.value;
  const isElsewhere = failed === 0 && waitElsewhere > 0 && within !== '';
  const wait = `${countText(waitElsewhere, 'request')} ${waitElsewhere === 1 ? 'waits' : 'wait'}`;
  const text = isElsewhere
    ? `nothing waits for it, but ${wait} elsewhere: ` +
      `gvfs status says where, gvfs fail-waiting ${mount.mountpoint} fails them all`
    : failed === 0
      ? 'nothing waits'
      : `${countText(failed, 'request')} failed`;
  shell.out(json ? jsonLine(answer.value) : `${harmless(`${path}: ${text}`)}\n`);
  return isElsewhere ? GvfsStatus.no : GvfsStatus.done;
}
