/**
 * gvfs fail-waiting PATH: programs that wait for the server get an error instead.
 */
import { call, daemonOf } from './daemon-call.ts';
import { complain, GvfsStatus } from './gvfs-errors.ts';
import { countText } from './quantities.ts';
import type { Shell } from './shell.ts';

export const failWaitingHelp = `
For programs that cannot be killed because the kernel waits for the mount (O_DIRECT). What waits now
gets EIO; what comes later waits again. PATH is a file, or the mountpoint for all.

Examples:
  gvfs fail-waiting /mnt/vm/base.img
  gvfs fail-waiting /mnt/vm

Exit status: 0 nothing waits any more, 1 wrong usage or another user's mount, 3 no gvfs mount there,
32 it failed.
`;

export async function failWaiting(shell: Shell, path: string, json: boolean): Promise<GvfsStatus> {
  const daemon = await daemonOf(shell, path);
  if (!daemon.ok) return complain(shell, daemon.error);
  const answer = await call(shell, daemon.value, 'failWaiting', { path: daemon.value.path });
  daemon.value.client.close();
  if (!answer.ok) return complain(shell, answer.error);
  const { failed } = answer.value;
  const text = failed === 0 ? 'nothing waits' : `${countText(failed, 'request')} failed`;
  shell.out(json ? `${JSON.stringify(answer.value)}\n` : `${path}: ${text}\n`);
  return GvfsStatus.done;
}
