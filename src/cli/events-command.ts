/**
 * gvfs events [PATH]: what happens on a mount, a line of JSON each.
 */
import type { EventLine } from '../daemon/control/schema.ts';
import { call, daemonHere, daemonStillOf } from './daemon-call.ts';
import { complain, GvfsStatus } from './gvfs-errors.ts';
import { jsonLine, type Shell } from './shell.ts';

export interface EventsRequest {
  readonly path: string | undefined;
  readonly follow: boolean;
  readonly since: number | undefined;
}

export const eventsHelp = `
Prints one JSON object a line: opened, closed, dirty, clean, writtenBack, notSent, conflict,
changedUnderDirty, serverDown, serverUp, completed (what a signal has asked for). Each has a number,
one more than the one before; a gap is what was not kept any more. Without --follow it prints the
events that are kept, some thousands, and ends; with it those that come, until it is interrupted or
the daemon ends. --since N begins behind number N. PATH is anything in the mount.

Examples:
  gvfs events /mnt/vm
  gvfs events --follow /mnt/vm | jq --unbuffered 'select(.event == "conflict")'
  gvfs events --follow --since 0 /mnt/vm

Exit status: 0 it was interrupted, or the daemon has ended, or all was printed, 1 wrong usage or
another user's mount, 3 no gvfs mount there.
`;

export async function events(shell: Shell, request: EventsRequest): Promise<GvfsStatus> {
  const { path, follow, since } = request;
  const daemon = await (path === undefined
    ? daemonHere(shell, 'name one')
    : daemonStillOf(shell, path));
  if (!daemon.ok) return complain(shell, daemon.error);
  const onEvent = (event: EventLine) => shell.out(jsonLine(event));
  const params = { follow, since: since ?? (follow ? undefined : 0) };
  const told = await call(shell, daemon.value, 'events', params, undefined, onEvent);
  daemon.value.client.close();
  if (told.ok) return GvfsStatus.done;
  const { error } = told;
  const hasEnded = error.kind === 'call' && error.error.kind === 'gone';
  return (hasEnded && follow) || error.kind === 'interrupted'
    ? GvfsStatus.done
    : complain(shell, error);
}
