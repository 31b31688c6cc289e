/**
 * All images of an export that are on the disk, open or not: for those who list them, and for
 * eviction.
 *
 * Of a closed image only info is read, and its map only when it was not closed in order: then the
 * count of pages in info is that of an earlier close. What was read is kept until `changed` says
 * that it is old. One image after the other: a thousand of them delay nobody.
 */
import { join } from 'node:path';
import { ok, type Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import { BlockMap } from './block-map.ts';
import type { ClosedImage } from './eviction.ts';
import { type FileIo, PAGE_BYTES } from './file-io.ts';
import type { ImageInfo, ImageState } from './info-file.ts';
import { CHUNK_BYTES, MapFile, RECORD_BYTES } from './map-file.ts';
import type { PathIo } from './path-io.ts';

/** One image, as `gvfs cache ls` shows it. */
export interface CatalogueLine {
  /** The name of its directory. */
  readonly id: string;
  /** Where it was last seen, from the export's root; '' when its info cannot be read. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly presentBytes: number;
  readonly complete: boolean;
  /** What it takes of the disk, as du(1) counts. */
  readonly allocatedBytes: number;
  readonly open: boolean;
  /** Something of it is only here. */
  readonly unsent: boolean;
  readonly pinned: boolean;
  /** The wall clock, in ms since 1970; 0 when not known. */
  readonly lastUsedMs: number;
  /** 'damaged': its info cannot be believed, and `why` says so in a clause. */
  readonly state: ImageState | 'damaged';
  readonly why: string | undefined;
}

/** What is kept of an export: `ExportDirectory` has this shape. */
export interface KeptImages {
  images(): Promise<Result<string[], FsError>>;
  describe(id: string): Promise<Result<ImageInfo, FsError>>;
  isOpen(id: string): boolean;
  drop(id: string): Promise<number>;
  sweepGone(): Promise<number>;
}

export interface CatalogueOptions {
  readonly kept: KeptImages;
  /** What an image says of itself whose files are open; undefined for the others. */
  readonly opened: (id: string) => OpenImageLine | undefined;
  /** Allocated bytes of an image's directory; rejects with what node:fs says. */
  readonly allocated: (id: string) => Promise<number>;
  /** How many pages of a closed image are present; undefined: what info says is right. */
  readonly countPages: (id: string, info: ImageInfo) => Promise<number | undefined>;
}

/** What only an open image knows; the rest is as in its info. */
export interface OpenImageLine {
  readonly path: string;
  readonly sizeBytes: number;
  readonly presentBytes: number;
  readonly pinned: boolean;
  readonly lastUsedMs: number;
  readonly state: ImageState;
  readonly unsent: boolean;
  /** Nobody has it open now: only its files are, for a while. */
  readonly idle?: boolean;
}

interface Known {
  readonly described: Result<ImageInfo, FsError>;
  presentPages: number | undefined;
}

export class Catalogue {
  readonly #options: CatalogueOptions;
  readonly #known = new Map<string, Known>();

  constructor(options: CatalogueOptions) {
    this.#options = options;
  }

  /** What is known of the image is old: it was opened, closed, pinned or removed. */
  changed(id: string): void {
    this.#known.delete(id);
  }

  /** All images, by path; ends early, with what it has, when aborted. Err: no directory to read. */
  async list(signal?: AbortSignal): Promise<Result<CatalogueLine[], FsError>> {
    const ids = await this.#options.kept.images();
    if (!ids.ok) return ids;
    const lines: CatalogueLine[] = [];
    for (const id of ids.value) {
      if (signal?.aborted === true) break;
      lines.push(await this.#line(id));
    }
    lines.sort((a, b) => compare(a.path, b.path) || compare(a.id, b.id));
    return ok(lines);
  }

  /**
   * For eviction. An image of which nothing can be believed counts as the one longest unused; one
   * with unsent writes never goes (C4).
   */
  async closed(): Promise<readonly ClosedImage[]> {
    const ids = await this.#options.kept.images();
    if (!ids.ok) return [];
    const images: ClosedImage[] = [];
    for (const id of ids.value) {
      if (this.#options.kept.isOpen(id)) continue;
      const { described } = await this.#describe(id);
      if (described.ok && described.value.unsent !== undefined) continue;
      images.push({
        name: id,
        pinned: described.ok && described.value.pinned,
        lastUsedMs: described.ok ? described.value.lastUsedMs : 0,
        remove: () => this.remove(id),
      });
    }
    return images;
  }

  /** Takes a closed image away. The bytes freed; 0 when it is open, or cannot go. */
  async remove(id: string): Promise<number> {
    const bytes = await this.#allocated(id);
    if ((await this.#options.kept.drop(id)) !== 0) return 0;
    this.changed(id);
    await this.#options.kept.sweepGone();
    return bytes;
  }

  async #line(id: string): Promise<CatalogueLine> {
    const allocatedBytes = await this.#allocated(id);
    const opened = this.#options.opened(id);
    if (opened !== undefined) {
      const { idle = false, ...line } = opened;
      const complete = isComplete(line.presentBytes, line.sizeBytes);
      return { id, ...line, complete, allocatedBytes, open: !idle, why: undefined };
    }
    const known = await this.#describe(id);
    const { described } = known;
    if (!described.ok) return damagedLine(id, allocatedBytes, described.error.message);
    known.presentPages ??= await this.#options.countPages(id, described.value);
    return keptLine(id, described.value, known.presentPages, allocatedBytes);
  }

  async #describe(id: string): Promise<Known> {
    let known = this.#known.get(id);
    if (known === undefined) {
      known = { described: await this.#options.kept.describe(id), presentPages: undefined };
      // What could not be read may be there the next time.
      if (known.described.ok) this.#known.set(id, known);
    }
    return known;
  }

  #allocated(id: string): Promise<number> {
    return this.#options.allocated(id).catch(() => 0);
  }
}

/**
 * Counts the pages of a closed image that the next daemon would believe: by `map` in the same
 * boot, else by `map.synced`. Undefined when `map` says that it was closed in order, as then info
 * has the count, or when neither can be believed.
 */
export async function countKeptPages(
  from: { readonly path: string; readonly bootId: string; readonly paths: PathIo },
  io: FileIo,
  id: string,
  info: ImageInfo,
): Promise<number | undefined> {
  const live = await countIn('map');
  return live === 'unbelievable' ? asNumber(await countIn('map.synced')) : asNumber(live);

  async function countIn(name: 'map' | 'map.synced'): Promise<number | 'unbelievable' | undefined> {
    const { errno, fd } = await from.paths.open(join(from.path, id, name), 'existing');
    if (errno !== 0) return name === 'map' ? 'unbelievable' : undefined;
    try {
      const file = new MapFile(fd, io);
      const map = new BlockMap(info.stamp.size);
      const header = await file.readHeader(id, map);
      if (!header.ok) return name === 'map' ? 'unbelievable' : undefined;
      if (name === 'map' && header.value.bootId !== from.bootId) return 'unbelievable';
      if (name === 'map' && header.value.clean) return undefined;
      let pages = 0;
      const read = await file.readChunks(map.chunkCount, (_chunk, bytes, at) => {
        pages += pagesIn(bytes, at);
      });
      return read === 0 ? pages : undefined;
    } finally {
      await from.paths.close(fd);
    }
  }
}

function asNumber(count: number | 'unbelievable' | undefined): number | undefined {
  return count === 'unbelievable' ? undefined : count;
}

function pagesIn(bytes: Buffer, at: number): number {
  let pages = 0;
  for (let record = at; record < at + CHUNK_BYTES; record += RECORD_BYTES) {
    for (let mask = bytes.readUInt16LE(record); mask !== 0; mask &= mask - 1) pages++;
  }
  return pages;
}

function keptLine(
  id: string,
  info: ImageInfo,
  counted: number | undefined,
  allocatedBytes: number,
): CatalogueLine {
  const sizeBytes = info.stamp.size;
  const presentPages = counted ?? info.presentPages;
  const presentBytes = Math.min(presentPages * PAGE_BYTES, sizeBytes);
  return {
    id,
    path: info.path,
    sizeBytes,
    presentBytes,
    complete: isComplete(presentBytes, sizeBytes),
    allocatedBytes,
    open: false,
    unsent: info.unsent !== undefined,
    pinned: info.pinned,
    lastUsedMs: info.lastUsedMs,
    state: info.state,
    why: undefined,
  };
}

function damagedLine(id: string, allocatedBytes: number, why: string): CatalogueLine {
  return {
    id,
    path: '',
    sizeBytes: 0,
    presentBytes: 0,
    complete: false,
    allocatedBytes,
    open: false,
    unsent: false,
    pinned: false,
    lastUsedMs: 0,
    state: 'damaged',
    why,
  };
}

function isComplete(presentBytes: number, sizeBytes: number): boolean {
  return presentBytes >= sizeBytes;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
