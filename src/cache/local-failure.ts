/** Failures of the cache's own disk, as the one error value of all layers. */
import { getSystemErrorName } from 'node:util';
import { Errno, type ErrnoName } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';

/** What a call of the local disk answered, said of `what`. `errno` is positive. */
export function localFailure(errno: number, operation: string, what: string): FsError {
  const name = errnoName(errno);
  return localError(isKnown(name) ? name : 'EIO', operation, `${operation} ${what}: ${name}`);
}

/** `ENOSPC`, for people. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

function isKnown(name: string): name is ErrnoName {
  return Object.hasOwn(Errno, name);
}
