/**
 * Which map of an image's directory is to be believed when nobody has it open, and that map: the
 * live one if it is of this boot, else the synced one (C3). Read, and nothing changed.
 */
import { join } from 'node:path';
import { BlockMap } from './block-map.ts';
import type { FileIo } from './file-io.ts';
import { decodeChunk, MapFile } from './map-file.ts';
import type { PathIo } from './path-io.ts';

export interface MapsAt {
  /** The image's directory. */
  readonly path: string;
  readonly fileId: string;
  readonly bootId: string;
  readonly io: FileIo;
  readonly paths: PathIo;
}

/** undefined: neither can be read. */
export async function believedMap(at: MapsAt): Promise<BlockMap | undefined> {
  const live = await readMap(at, 'map');
  if (live !== undefined && live.bootId === at.bootId) return live.map;
  return (await readMap(at, 'map.synced'))?.map;
}

/** undefined: it cannot be read. */
export async function readMap(
  { path, fileId, io, paths }: MapsAt,
  name: 'map' | 'map.synced',
): Promise<{ bootId: string; map: BlockMap } | undefined> {
  const { errno, fd } = await paths.open(join(path, name), 'existing');
  if (errno !== 0) return undefined;
  try {
    const file = new MapFile(fd, io);
    const header = await file.readHeader(fileId);
    if (!header.ok) return undefined;
    const map = new BlockMap(header.value.sizeBytes);
    const read = await file.readChunks(map.chunkCount, (chunk, bytes, from) => {
      decodeChunk(map, chunk, bytes, from);
    });
    return read === 0 ? { bootId: header.value.bootId, map } : undefined;
  } finally {
    await paths.close(fd);
  }
}
