/**
 * What there is to say of an image, for people and for the daemon.
 */
import type { Unsent } from '../vfs/ports.ts';
import { PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import type { ImageState } from './info-file.ts';
import { blocksOf, type PageRange } from './page-range.ts';

/** One image, for people. */
export interface ImageReport {
  readonly fileId: string;
  /** From the export's root: a hint. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly presentBytes: number;
  /** With its maps and notes, as du(1) counts. */
  readonly allocatedBytes: number;
  readonly complete: boolean;
  /** All that is present was checked since the image was taken up, or stored since. */
  readonly verified: boolean;
  readonly state: ImageState | 'not kept';
  /** What only this host has. */
  readonly unsent: Unsent | undefined;
  readonly pinned: boolean;
  /** The kernel reads it by itself. */
  readonly held: boolean;
  readonly opens: number;
  /** Sequential streams that are followed. */
  readonly streams: number;
}

export interface WarmRange {
  readonly offset: number;
  readonly length: number;
}

export interface WarmOutcome {
  readonly fetchedBytes: number;
  readonly presentBytes: number;
  readonly absentBytes: number;
  readonly damagedBytes: number;
}

/** Pages of one bucket of a picture, by what they are. */
export interface PageStates {
  readonly absent: number;
  readonly present: number;
  readonly zero: number;
  readonly dirty: number;
}

type ContentReport = Pick<
  ImageReport,
  'presentBytes' | 'complete' | 'verified' | 'state' | 'pinned' | 'held'
>;

/** undefined: nothing is kept. */
export function contentReport(content: ImageContent | undefined): ContentReport {
  return {
    presentBytes: content?.map.presentBytes() ?? 0,
    complete: content?.map.complete ?? false,
    verified: content?.verification.isDone ?? false,
    state: content?.directory.state ?? 'not kept',
    pinned: content?.pinned ?? false,
    held: content?.held ?? false,
  };
}

/** Pages of equal parts of the image, by state; as many as there are pages, at most. */
export function pageStates(
  content: ImageContent | undefined,
  sizeBytes: number,
  buckets: number,
): PageStates[] {
  const pages = Math.ceil(sizeBytes / PAGE_BYTES);
  const count = Math.max(Math.min(buckets, pages), 0);
  return Array.from({ length: count }, (_, i) => {
    const start = Math.floor((i * pages) / count);
    const end = Math.floor(((i + 1) * pages) / count);
    if (content === undefined) return { absent: end - start, present: 0, zero: 0, dirty: 0 };
    const present = content.map.countPresent(start, end);
    const dirty = content.map.countDirty(start, end);
    const zero = zeroPages(content, { start, end });
    return { absent: end - start - present, present: present - zero - dirty, zero, dirty };
  });
}

/** Clean pages of blocks whose clean pages are all zeros: their linear sum is zero. */
function zeroPages({ map }: ImageContent, range: PageRange): number {
  let zero = 0;
  const blocks = blocksOf(range);
  for (let start = blocks.start; start < blocks.end; start += PAGES_PER_BLOCK) {
    if (map.sum(start / PAGES_PER_BLOCK) !== 0) continue;
    const from = Math.max(start, range.start);
    const end = Math.min(start + PAGES_PER_BLOCK, range.end);
    zero += map.countPresent(from, end) - map.countDirty(from, end);
  }
  return zero;
}
