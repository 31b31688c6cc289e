/**
 * What an earlier daemon has left unsent, as the disk tells it: only images that are marked are
 * looked at, so that it takes no time where there are none.
 */
import { join } from 'node:path';
import type { FileHandle } from '../base/brand.ts';
import type { RecoveredFile } from '../vfs/ports.ts';
import { readMap } from './believed-map.ts';
import type { BlockMap } from './block-map.ts';
import type { ExportDirectory } from './export-directory.ts';
import { isFileId } from './file-id.ts';
import type { ImageInfo } from './info-file.ts';
import { readInfo } from './take-up.ts';

/** In no order. What cannot be read is told when it is opened. */
export async function recoveredFiles(from: ExportDirectory): Promise<RecoveredFile[]> {
  const { names } = await from.paths.list(join(from.path, '.unsent'));
  const recovered: RecoveredFile[] = [];
  for (const fileId of names.filter(isFileId)) {
    const info = await readInfo(from, fileId);
    if (info.ok) recovered.push(...(await recoveredFile(from, fileId, info.value)));
  }
  return recovered;
}

async function recoveredFile(
  from: ExportDirectory,
  fileId: string,
  info: ImageInfo,
): Promise<RecoveredFile[]> {
  const { handle, fsid, fileid, path, state, unsent } = info;
  if (unsent === undefined) return [];
  const { mtimeNs, sinceMs, as, conflict } = unsent;
  const map = await believedMap(from, fileId);
  return [
    {
      file: Buffer.from(handle, 'hex') as FileHandle,
      fsid,
      fileid,
      path,
      as,
      unsent: {
        bytes: map?.dirtyBytes() ?? 0,
        size: map?.sizeBytes ?? unsent.size,
        mtimeNs,
        state: conflict ? 'conflict' : state === 'sending' ? 'sending' : 'dirty',
        sinceMs,
      },
    },
  ];
}

/** As far as it can be told without opening the image: `take-up` decides. */
async function believedMap(from: ExportDirectory, fileId: string): Promise<BlockMap | undefined> {
  const { bootId, io, paths } = from;
  const at = { path: join(from.path, fileId), fileId, bootId, io, paths };
  const live = await readMap(at, 'map');
  if (live === undefined) return undefined;
  return live.bootId === bootId ? live.map : (await readMap(at, 'map.synced'))?.map;
}
