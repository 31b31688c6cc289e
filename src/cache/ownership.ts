/** Who may read what is cached: the daemon's user, and nobody else. */
import { geteuid } from 'node:process';
import { err, ok, type Result } from '../base/result.ts';
import { errnoName } from './local-failure.ts';
import type { Status } from './path-io.ts';

/** Whether a directory is ours and closed to others; else a clause that says what it is. */
export function isOursAlone(status: Status): Result<undefined, string> {
  if (status.errno !== 0) return err(`cannot be looked at (${errnoName(status.errno)})`);
  if (status.kind !== 'directory') return err('is not a directory');
  const us = geteuid?.() ?? -1;
  if (status.uid !== us) return err(`belongs to user ${status.uid}, not to ${us}`);
  if ((status.mode & 0o077) !== 0) {
    return err(`is open to others (mode ${status.mode.toString(8)}, it has to be 700)`);
  }
  return ok(undefined);
}
