/**
 * What may be a name in a directory (RFC 1813, section 3.2; Linux: NAME_MAX). Names are bytes.
 */
import type { Name } from '../base/brand.ts';
import type { Result } from '../base/result.ts';
import { err, ok } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';

const maxNameBytes = 255;
const slash = 0x2f;
const dot = 0x2e;

/** EINVAL for what is no name of an entry ('.', '..', '/', NUL, empty), else ENAMETOOLONG. */
export function checkName(name: Buffer, operation: string): Result<Name, FsError> {
  if (name.length > maxNameBytes) return err(localError('ENAMETOOLONG', operation));
  if (name.length === 0 || isDotOrDotDot(name) || name.includes(slash) || name.includes(0)) {
    return err(localError('EINVAL', operation, `${operation}: not a name of a directory entry`));
  }
  return ok(name as Name);
}

export function isDotOrDotDot(name: Buffer): boolean {
  if (name[0] !== dot) return false;
  return name.length === 1 || (name.length === 2 && name[1] === dot);
}

/** A string that equals another's exactly when the bytes do. */
export function nameKey(name: Buffer): string {
  return name.toString('latin1');
}
