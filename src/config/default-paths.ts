/**
 * Where files of ours lie when nobody says: root's in /var, other users' by the XDG base directory
 * specification. HOME may be missing, as it is for mount(8) at boot.
 */
import { isAbsolute, join } from 'node:path';

export interface Surroundings {
  readonly uid: number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The log of a mount in the background; none where a user has no home. */
export function defaultLogFile({ uid, env }: Surroundings): string | undefined {
  if (uid === 0) return '/var/log/gvfs/gvfs.log';
  const state = absolute(env.XDG_STATE_HOME) ?? absolute(env.HOME, '.local/state');
  return state === undefined ? undefined : join(state, 'gvfs', 'gvfs.log');
}

/** Where images are cached; nowhere for a user without a home. */
export function defaultCacheDirectory({ uid, env }: Surroundings): string | undefined {
  if (uid === 0) return '/var/cache/gvfs';
  const cache = absolute(env.XDG_CACHE_HOME) ?? absolute(env.HOME, '.cache');
  return cache === undefined ? undefined : join(cache, 'gvfs');
}

/** XDG: a relative path is to be ignored. */
function absolute(directory: string | undefined, below = ''): string | undefined {
  return directory !== undefined && isAbsolute(directory) ? join(directory, below) : undefined;
}
