/**
 * From a path to the daemon that serves it.
 */
import { dirname } from 'node:path';
import { err, ok, type Result } from '../../base/result.ts';
import type { Surroundings } from '../../config/default-paths.ts';
import { readMounts } from '../../fuse/mountinfo.ts';
import { type ControlClient, connectTo } from './client.ts';
import { type FoundMount, findMount, gvfsMounts } from './find.ts';
import { isPrivate } from './private-directory.ts';
import { possibleSocketPaths } from './socket-path.ts';

export interface Reached {
  readonly client: ControlClient;
  readonly mount: FoundMount;
  /** Relative to the mountpoint, as the schema has paths. */
  readonly path: string;
}

export type ReachError =
  /** The path is in no mount of ours. */
  | { readonly kind: 'notMounted' }
  /** Nobody answers for the mount: its daemon is gone, or has no control socket. */
  | { readonly kind: 'noDaemon'; readonly mountpoint: string }
  /** The mount is another user's. */
  | { readonly kind: 'notYours'; readonly mountpoint: string }
  | { readonly kind: 'unreachable'; readonly mountpoint: string; readonly message: string };

/** The daemon of the mount that `path` lies in. The client is the caller's to close. */
export async function reach(
  path: Buffer,
  workingDirectory: string,
  surroundings: Surroundings,
): Promise<Result<Reached, ReachError>> {
  const found = findMount(path, workingDirectory, await readMounts());
  if (found === undefined) return err({ kind: 'notMounted' });
  const client = await reachMount(found.mount, surroundings);
  return client.ok ? ok({ ...found, client: client.value }) : client;
}

/** Every mount of ours that is visible here. */
export async function listMounts(): Promise<FoundMount[]> {
  return gvfsMounts(await readMounts());
}

/** The daemon of a mount. */
export async function reachMount(
  { mountpoint }: FoundMount,
  surroundings: Surroundings,
): Promise<Result<ControlClient, ReachError>> {
  let failed: ReachError = { kind: 'noDaemon', mountpoint };
  for (const owner of new Set([surroundings.uid, 0])) {
    for (const socket of possibleSocketPaths(mountpoint, owner, surroundings)) {
      // In a directory that others may write, anybody may have put it there.
      if (!isPrivate(dirname(socket), owner)) continue;
      const client = await connectTo(socket);
      if (client.ok) return client;
      if (client.error.kind === 'denied') failed = { kind: 'notYours', mountpoint };
      if (client.error.kind === 'failed') {
        failed = { kind: 'unreachable', mountpoint, message: client.error.message };
      }
    }
  }
  return err(failed);
}
