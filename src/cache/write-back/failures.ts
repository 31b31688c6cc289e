/**
 * What a failed write-back calls for. The bytes stay dirty whatever it was.
 *
 *   again    the link or a busy server: after seconds, for as long as it takes
 *   later    somebody has to do something at the server first: after minutes
 *   command  trying by itself is of no use: only when somebody says so
 */
import type { ErrnoName } from '../../errors/errno.ts';
import type { FsError } from '../../errors/fs-error.ts';

export type Remedy = 'again' | 'later' | 'command';

const remedies: Record<ErrnoName, Remedy> = {
  EAGAIN: 'again',
  EBUSY: 'again',
  ECONNREFUSED: 'again',
  EHOSTUNREACH: 'again',
  EINTR: 'again',
  ENOTCONN: 'again',
  EPROTO: 'again',
  ETIMEDOUT: 'again',
  // Space is made, quotas are raised, disks replaced, exports and modes changed.
  EACCES: 'later',
  EDQUOT: 'later',
  EIO: 'later',
  EMFILE: 'later',
  ENFILE: 'later',
  ENODEV: 'later',
  ENOMEM: 'later',
  ENOSPC: 'later',
  ENXIO: 'later',
  EPERM: 'later',
  EREMOTEIO: 'later',
  EROFS: 'later',
  // The file is gone, or can never take it.
  EBADF: 'command',
  EEXIST: 'command',
  EFBIG: 'command',
  EINVAL: 'command',
  EISDIR: 'command',
  EMLINK: 'command',
  ENAMETOOLONG: 'command',
  ENOENT: 'command',
  ENOSYS: 'command',
  ENOTDIR: 'command',
  ENOTEMPTY: 'command',
  EOPNOTSUPP: 'command',
  EOVERFLOW: 'command',
  ERANGE: 'command',
  ESTALE: 'command',
  EXDEV: 'command',
};

/** The first pause before another attempt, and the longest: it doubles with each. */
const pauses = {
  again: { firstMs: 1_000, longestMs: 60_000 },
  later: { firstMs: 5_000, longestMs: 300_000 },
} as const;

export function remedyOf(error: FsError): Remedy {
  if (error.code === 'CLOSED') return 'command';
  if (error.code === 'NFS3ERR_JUKEBOX' || hasUnknownOutcome(error)) return 'again';
  return remedies[error.errno];
}

/** In ms, before attempt `attempts + 1` (`attempts` from 1); undefined: not by itself. */
export function pauseBeforeRetryMs(error: FsError, attempts: number): number | undefined {
  const remedy = remedyOf(error);
  if (remedy === 'command') return undefined;
  const { firstMs, longestMs } = pauses[remedy];
  return Math.min(firstMs * 2 ** Math.min(attempts - 1, 20), longestMs);
}

/** It was not allowed to this caller: another who wrote to the file may be. */
export function isRefusal({ errno }: FsError): boolean {
  return errno === 'EACCES' || errno === 'EPERM';
}

/** Of these bytes, perhaps: others of the same file may well get through. */
export function concernsBytesOnly(error: FsError): boolean {
  if (hasUnknownOutcome(error)) return false;
  const { errno } = error;
  return errno === 'EIO' || errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EFBIG';
}

/** The server may have done it, or may do it yet. */
export function hasUnknownOutcome({ code }: FsError): boolean {
  return (
    code === 'RPC_TIMEOUT' || code === 'RPC_UNREACHABLE' || code === 'PROTOCOL' || code === 'CLOSED'
  );
}
