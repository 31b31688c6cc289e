/**
 * What was put aside because it cannot be taken up, though there are unsent writes in it, or may
 * be (C4): directories as images have them, for people to look into and to export.
 */
import { join } from 'node:path';
import { decodeInfo, type ImageInfo, INFO_MOST_BYTES } from './info-file.ts';
import type { PathIo } from './path-io.ts';

export interface LostImage {
  /** Its directory. */
  readonly path: string;
  /** A clause. */
  readonly why: string;
  /** As far as it can be believed. */
  readonly info: ImageInfo | undefined;
}

/** `exportPath` is the export's directory in the cache. In the order in which they were put aside. */
export async function lostImages(exportPath: string, paths: PathIo): Promise<LostImage[]> {
  const aside = join(exportPath, '.lost');
  const { names } = await paths.list(aside);
  const lost: LostImage[] = [];
  for (const name of names.sort((a, b) => Number(a) - Number(b))) {
    const path = join(aside, name);
    const why = await paths.read(join(path, 'why'), INFO_MOST_BYTES);
    const read = await paths.read(join(path, 'info'), INFO_MOST_BYTES);
    const info = read.errno === 0 ? decodeInfo(read.bytes) : undefined;
    lost.push({
      path,
      why: why.errno === 0 ? why.bytes.toString().trimEnd() : 'nobody knows why',
      info: info?.ok === true ? info.value : undefined,
    });
  }
  return lost;
}
