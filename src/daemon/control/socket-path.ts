/**
 * Where the control socket of a mount is: a name made of the mountpoint, in a directory of the
 * user's that nobody else may enter.
 *
 *   root      /run/gvfs
 *   others    $XDG_RUNTIME_DIR/gvfs, else /tmp/gvfs-UID
 */
import { createHash } from 'node:crypto';
import { isAbsolute, join } from 'node:path';
import type { Surroundings } from '../../config/default-paths.ts';

/** Where a daemon of this user listens. `mountpoint` is the real, absolute path. */
export function socketPath(mountpoint: string, { uid, env }: Surroundings): string {
  return join(socketDirectory(uid, env.XDG_RUNTIME_DIR), socketName(mountpoint));
}

/**
 * Where the socket of a mount of user `owner` may be, the likeliest first: the daemon may have been
 * started in other surroundings than ours, by cron say.
 */
export function possibleSocketPaths(
  mountpoint: string,
  owner: number,
  { uid, env }: Surroundings,
): string[] {
  const runtime = owner === uid ? env.XDG_RUNTIME_DIR : undefined;
  const directories = new Set([
    socketDirectory(owner, runtime),
    socketDirectory(owner, `/run/user/${owner}`),
    socketDirectory(owner, undefined),
  ]);
  return [...directories].map((directory) => join(directory, socketName(mountpoint)));
}

/** Where daemons of this user may listen. */
export function ownSocketDirectories({ uid, env }: Surroundings): string[] {
  const runtimes = [env.XDG_RUNTIME_DIR, `/run/user/${uid}`, undefined];
  return [...new Set(runtimes.map((runtime) => socketDirectory(uid, runtime)))];
}

function socketDirectory(uid: number, runtime: string | undefined): string {
  if (uid === 0) return '/run/gvfs';
  return runtime !== undefined && isAbsolute(runtime) ? join(runtime, 'gvfs') : `/tmp/gvfs-${uid}`;
}

function socketName(mountpoint: string): string {
  return `${createHash('sha256').update(mountpoint).digest('hex').slice(0, 16)}.sock`;
}
