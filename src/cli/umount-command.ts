/**
 * gvfs umount MOUNTPOINT: nobody opens anything any more, what is unsent is written back, and the
 * mount ends; or it goes on as before, and the command says why.
 */
import { err, type Result } from '../base/result.ts';
import type { ResultOf } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import { type Daemon, daemonStillOf } from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, usage } from './gvfs-errors.ts';
import { sentence } from './mount-errors.ts';
import { bytesText } from './quantities.ts';
import { calling, sayUnsent } from './sending-command.ts';
import { jsonLine, type Shell } from './shell.ts';

export interface UmountRequest {
  readonly mountpoint: string;
  readonly unsent: 'send' | 'keep' | 'discard';
  readonly force: boolean;
  readonly json: boolean;
  readonly timeoutMs: number | undefined;
}

type Ended = ResultOf<'umount'>;

export const umountHelp = `
Refuses new opens, writes back what is unsent, then unmounts, and returns when all is at the server
and the cache is given back. If files are open there, or not everything can be sent (in the time of
--timeout), the mount goes on as before. If the mount is gone and its daemon still sends, that is
waited for.

  --keep-dirty  sends nothing: what is unsent stays in the cache, the next mount sends it
  --discard     drops what is unsent, for good
  --force       ends it whoever uses it: they get errors; what is not sent in time (--timeout, else
                10 seconds) stays in the cache

Examples:
  gvfs umount /mnt/vm
  gvfs umount --timeout 300 /mnt/vm || gvfs umount --keep-dirty /mnt/vm

Exit status: 0 it is unmounted, and the server has everything (or it is as you asked), 1 wrong usage
or another user's mount, 3 no gvfs mount there, 8 interrupted, 32 it is in use, or it failed, 75
something is unsent: the mount goes on, or with --force it has ended and the next one sends it.
`;

export async function umount(shell: Shell, request: UmountRequest): Promise<GvfsStatus> {
  const { mountpoint, unsent, force, timeoutMs, json } = request;
  const daemon = await daemonToEnd(shell, mountpoint);
  if (!daemon.ok) return complain(shell, daemon.error);
  const ended = await calling(shell, daemon.value, 'umount', { unsent, force, timeoutMs });
  daemon.value.client.close();
  if (!ended.ok) return complain(shell, ended.error);
  if (json) shell.out(jsonLine({ mountpoint: daemon.value.mount.mountpoint, ...ended.value }));
  else if (ended.value.unmounted) shell.out(`${harmless(mountpoint)}: ${endedText(ended.value)}\n`);
  const sent = sayUnsent(shell, daemon.value, ended.value);
  return ended.value.unmounted
    ? statusOfEnd(ended.value, request, sent)
    : goesOn(shell, mountpoint, ended.value, sent);
}

/** The daemon of the mountpoint, or one whose mount there is gone and which has not ended. */
async function daemonToEnd(shell: Shell, mountpoint: string): Promise<Result<Daemon, GvfsError>> {
  const daemon = await daemonStillOf(shell, mountpoint);
  if (!daemon.ok || daemon.value.path === '') return daemon;
  const { client, mount } = daemon.value;
  client.close();
  const what = `${mountpoint} is within the mount at ${mount.mountpoint}`;
  return err(usage(what, `say gvfs umount ${mount.mountpoint}`));
}

function endedText({ sentBytes, keptBytes, droppedBytes }: Ended): string {
  return [
    'unmounted',
    ...(sentBytes > 0 ? [`${bytesText(sentBytes)} sent`] : []),
    ...(droppedBytes > 0 ? [`${bytesText(droppedBytes)} dropped`] : []),
    ...(keptBytes > 0 ? [`${bytesText(keptBytes)} stay in the cache, for the next mount`] : []),
  ].join(', ');
}

function statusOfEnd({ keptBytes }: Ended, { unsent }: UmountRequest, sent: GvfsStatus) {
  if (unsent === 'keep') return GvfsStatus.done;
  return keptBytes > 0 ? GvfsStatus.unsent : sent;
}

const FILES_NAMED = 3;

function goesOn(shell: Shell, mountpoint: string, ended: Ended, sent: GvfsStatus): GvfsStatus {
  if (sent !== GvfsStatus.done) return sent; // it has been said
  const { inUse, why } = ended;
  const named = inUse.slice(0, FILES_NAMED).map((path) => (path === '' ? '(no name)' : path));
  const more = inUse.length > FILES_NAMED ? ` and ${inUse.length - FILES_NAMED} more` : '';
  const files = named.length === 0 ? '' : ` (${named.join(', ')}${more})`;
  const what = `${mountpoint} stays mounted, ${why ?? 'it could not be unmounted'}${files}`;
  shell.err(`${sentence('gvfs', { what, toDo: 'end who uses it, or say --force' })}\n`);
  return GvfsStatus.failed;
}
