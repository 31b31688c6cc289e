/**
 * A directory that only its owner may enter: what lies in it is from nobody else.
 */
import { lstatSync, mkdirSync } from 'node:fs';
import { err, ok, type Result } from '../../base/result.ts';

/** Makes it, or finds it so. The error is one clause. */
export function makePrivate(directory: string, uid: number): Result<void, string> {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
      return err(`${directory} cannot be made (${(error as Error).message})`);
    }
  }
  return isPrivate(directory, uid)
    ? ok(undefined)
    : err(`${directory} is not a directory of user ${uid} alone`);
}

/** Whether it is a directory, no link, of this user, and closed to all others. */
export function isPrivate(directory: string, uid: number): boolean {
  try {
    const found = lstatSync(directory);
    return found.isDirectory() && found.uid === uid && (found.mode & 0o077) === 0;
  } catch {
    return false;
  }
}
