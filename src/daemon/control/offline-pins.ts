/**
 * Pins while no daemon runs. A pin is a word in the image's info file; whoever has the lock of its
 * export may rewrite that, durably, and the image need not be opened for it.
 */
import { join } from 'node:path';
import { err, ok, type Result } from '../../base/result.ts';
import type { FileIo } from '../../cache/file-io.ts';
import { decodeInfo, encodeInfo, INFO_MOST_BYTES } from '../../cache/info-file.ts';
import { localFailure } from '../../cache/local-failure.ts';
import { nodePathIo } from '../../cache/path-io.ts';
import { writeWhole } from '../../cache/whole-file.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';

/** Of the image whose directory this is, in an export that we have. Err: it cannot be told, or set. */
export async function setPinnedOffline(
  directory: string,
  pinned: boolean,
  io: FileIo,
): Promise<Result<void, FsError>> {
  const path = join(directory, 'info');
  const { errno, bytes } = await nodePathIo.read(path, INFO_MOST_BYTES);
  if (errno !== 0) return err(localFailure(errno, 'read', path));
  const info = decodeInfo(bytes);
  if (!info.ok) return err(localError('EIO', 'pin', `${path} ${info.error}`));
  const changed = encodeInfo({ ...info.value, pinned });
  const written = await writeWhole(nodePathIo, io, directory, 'info', changed, true);
  return written === 0 ? ok(undefined) : err(localFailure(written, 'write', path));
}
