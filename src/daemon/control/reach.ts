/**
 * From a path to the daemon that serves it.
 */
import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { err, ok, type Result } from '../../base/result.ts';
import type { Surroundings } from '../../config/default-paths.ts';
import { type MountLine, readMounts } from '../../fuse/mountinfo.ts';
import { type ControlClient, connectTo } from './client.ts';
import { type FoundMount, findMount, gvfsMounts } from './find.ts';
import { isPrivate } from './private-directory.ts';
import { ownSocketDirectories, possibleSocketPaths } from './socket-path.ts';

export interface Reached {
  readonly client: ControlClient;
  readonly mount: FoundMount;
  /** Relative to the root of the mount, as the schema has paths. */
  readonly path: string;
}

export type ReachError =
  /** The path is in no mount of ours. */
  | { readonly kind: 'notMounted' }
  /** Nobody answers for the mount: its daemon is gone, or has no control socket. */
  | { readonly kind: 'noDaemon'; readonly mountpoint: string; readonly source: string }
  /** The mount is another user's. */
  | { readonly kind: 'notYours'; readonly mountpoint: string }
  | { readonly kind: 'unreachable'; readonly mountpoint: string; readonly message: string };

/** Where mounts and sockets are looked for. */
export interface Mounts {
  lines(): Promise<readonly MountLine[]>;
  /** Who asks. */
  readonly uid: number;
  /** Where the socket of a mount may be, and of which user its directory has to be. */
  sockets(mount: FoundMount): readonly { readonly path: string; readonly owner: number }[];
  /** The sockets that are there of who asks, whatever is mounted. */
  ownSockets(): Promise<readonly string[]>;
}

export function systemMounts(surroundings: Surroundings): Mounts {
  const { uid } = surroundings;
  return {
    lines: readMounts,
    uid,
    sockets: ({ mountpoints, userId }) =>
      (userId === undefined ? [...new Set([uid, 0])] : [userId]).flatMap((owner) =>
        mountpoints
          .flatMap((mountpoint) => possibleSocketPaths(mountpoint, owner, surroundings))
          .map((path) => ({ path, owner })),
      ),
    async ownSockets() {
      const paths: string[] = [];
      for (const directory of ownSocketDirectories(surroundings)) {
        if (!isPrivate(directory, uid)) continue;
        const names = await readdir(directory).catch(() => []);
        paths.push(
          ...names.filter((name) => name.endsWith('.sock')).map((n) => join(directory, n)),
        );
      }
      return paths;
    },
  };
}

/** The daemon of the mount that `path` lies in. The client is the caller's to close. */
export async function reach(
  path: Buffer,
  workingDirectory: string,
  mounts: Mounts,
): Promise<Result<Reached, ReachError>> {
  const found = findMount(path, workingDirectory, await mounts.lines());
  if (found === undefined) return err({ kind: 'notMounted' });
  const client = await reachMount(found.mount, mounts);
  return client.ok ? ok({ ...found, client: client.value }) : client;
}

/** Every mount of ours that is visible here. */
export async function listMounts(mounts: Mounts): Promise<FoundMount[]> {
  return gvfsMounts(await mounts.lines());
}

/**
 * Daemons whose mount is not in the tree: it has left it, and they wait for the last file to be
 * closed, or it is in another namespace. The clients are the caller's to close.
 */
export async function detachedDaemons(mounts: Mounts): Promise<ControlClient[]> {
  const ofMounts = (await listMounts(mounts)).flatMap((mount) => mounts.sockets(mount));
  const known = new Set(ofMounts.map(({ path }) => path));
  const clients: ControlClient[] = [];
  for (const path of await mounts.ownSockets()) {
    if (known.has(path)) continue;
    const client = await connectTo(path);
    if (client.ok) clients.push(client.value);
  }
  return clients;
}

/** The daemon of a mount. */
export async function reachMount(
  mount: FoundMount,
  mounts: Mounts,
): Promise<Result<ControlClient, ReachError>> {
  const { mountpoint, source } = mount;
  const sockets = mounts.sockets(mount);
  const isOurs = mounts.uid === 0 || sockets.some(({ owner }) => owner === mounts.uid);
  let failed: ReachError = isOurs
    ? { kind: 'noDaemon', mountpoint, source }
    : { kind: 'notYours', mountpoint };
  for (const { path, owner } of sockets) {
    // In a directory that others may write, anybody may have put it there.
    if (!isPrivate(dirname(path), owner)) continue;
    const client = await connectTo(path);
    if (client.ok) return client;
    if (client.error.kind === 'denied') failed = { kind: 'notYours', mountpoint };
    if (client.error.kind === 'failed') {
      failed = { kind: 'unreachable', mountpoint, message: client.error.message };
    }
  }
  return err(failed);
}
