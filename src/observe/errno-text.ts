/** A failure of this host's kernel in words: `ENOSPC, no space left on device`. */
import { getSystemErrorMap } from 'node:util';

/** `errno` is positive. */
export function errnoText(errno: number): string {
  const known = getSystemErrorMap().get(-errno);
  return known === undefined ? `errno ${errno}` : known.join(', ');
}
