/**
 * The cache's own directory: made where it is missing, and used only if it is ours alone and of a
 * format that we know. FORMAT says which; a directory that holds other things is never taken over.
 */
import { dirname, join } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { FileIo } from './file-io.ts';
import { localFailure } from './local-failure.ts';
import { isOursAlone } from './ownership.ts';
import type { PathIo } from './path-io.ts';
import { writeWhole } from './whole-file.ts';

export const FORMAT_LINE = 'gvfs cache, format 2\n';
/** Its images are set aside when they are opened: nothing is in them that the server has not. */
const OLDER_LINE = 'gvfs cache, format 1\n';

/** Makes `cacheDir` (and directories above it) if need be, and checks it. */
export async function openCacheDirectory(
  cacheDir: string,
  paths: PathIo,
  io: FileIo,
): Promise<Result<undefined, FsError>> {
  const made = await makeDirectories(cacheDir, paths);
  if (made !== 0) return err(localFailure(made, 'make', cacheDir));
  const ours = await checkCacheDirectory(cacheDir, paths);
  if (!ours.ok || ours.value === 'ours') return ours.ok ? ok(undefined) : ours;
  // Also over an older one: whoever knows only that must not throw away what is kept from now on.
  const bytes = Buffer.from(FORMAT_LINE);
  const errno = await writeWhole(paths, io, cacheDir, 'FORMAT', bytes, true);
  if (errno === 0) return ok(undefined);
  // Another daemon that starts just now renamed the same line away under this one.
  const again = errno === Errno.ENOENT ? await checkCacheDirectory(cacheDir, paths) : undefined;
  if (again?.ok === true && again.value === 'ours') return ok(undefined);
  return err(localFailure(errno, 'write', join(cacheDir, 'FORMAT')));
}

/** Whether an existing directory is a cache of ours, or an older one or empty: may become one. */
export async function checkCacheDirectory(
  cacheDir: string,
  paths: PathIo,
): Promise<Result<'ours' | 'older' | 'empty', FsError>> {
  // With '/.' a link that the user made of it is followed: a cache may lie on another disk.
  const mine = isOursAlone(await paths.status(`${cacheDir}/.`));
  if (!mine.ok) return err(refusal('EACCES', `${cacheDir} ${mine.error}`));
  const { errno, bytes } = await paths.read(join(cacheDir, 'FORMAT'), 4096);
  if (errno === 0) {
    const line = bytes.toString();
    if (line === FORMAT_LINE) return ok('ours');
    if (line === OLDER_LINE) return ok('older');
    const what = JSON.stringify(line.trimEnd().slice(0, 60));
    const advice = 'empty it, or name another directory';
    const message = `${cacheDir} is of a format that this gvfs does not know (${what}): ${advice}`;
    return err(refusal('EINVAL', message));
  }
  if (errno !== Errno.ENOENT) return err(localFailure(errno, 'read', join(cacheDir, 'FORMAT')));
  const listed = await paths.list(cacheDir);
  if (listed.errno !== 0) return err(localFailure(listed.errno, 'list', cacheDir));
  // What a start that was cut off leaves, and what mkfs makes.
  const strange = listed.names.find((name) => !/^(FORMAT\.new.*|lost\+found)$/.test(name));
  if (strange === undefined) return ok('empty');
  const message = `${cacheDir} is no cache of gvfs: it has no FORMAT, but ${strange}`;
  return err(refusal('EINVAL', message));
}

async function makeDirectories(path: string, paths: PathIo): Promise<number> {
  const errno = await paths.makeDirectory(path);
  if (errno === Errno.EEXIST) return 0;
  if (errno !== Errno.ENOENT || dirname(path) === path) return errno;
  const above = await makeDirectories(dirname(path), paths);
  return above === 0 ? paths.makeDirectory(path) : above;
}

function refusal(errno: 'EACCES' | 'EINVAL', message: string): FsError {
  return localError(errno, 'open cache', message);
}
