/** Small files that are there whole, as they were or as they are to be: never anything between. */
import { join } from 'node:path';
import type { FileIo } from './file-io.ts';
import type { PathIo } from './path-io.ts';

/**
 * Puts `bytes` in the place of `directory`/`name`. `durable`: after a power loss, too. Two writers
 * of one name must not overlap. Errno.
 */
export async function writeWhole(
  paths: PathIo,
  io: FileIo,
  directory: string,
  name: string,
  bytes: Buffer,
  durable: boolean,
): Promise<number> {
  const to = join(directory, name);
  const temporary = `${to}.new`;
  const { errno, fd } = await paths.open(temporary, 'empty');
  if (errno !== 0) return errno;
  const written = await io.write(fd, 0, bytes);
  const synced = written === 0 && durable ? await io.sync(fd) : written;
  await paths.close(fd);
  const renamed = synced === 0 ? await paths.rename(temporary, to) : synced;
  if (renamed !== 0) {
    await paths.remove(temporary);
    return renamed;
  }
  return durable ? paths.sync(directory) : 0;
}
