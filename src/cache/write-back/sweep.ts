/**
 * One walk over the pages of an image, from the first to the last of a range: what was dirty when
 * it began is sent on the way, each page at most once, as it is then.
 *
 * So when it is through, and nothing of it was lost, everything that was dirty when it began is at
 * the server, or newer bytes of the same pages are; a page that is written again and again does
 * not make it endless. It may be interrupted and go on from where it was.
 */
import type { PageRange } from '../page-range.ts';

export interface Sweep {
  readonly range: PageRange;
  /** Size and mtime are sent as well. */
  readonly isWhole: boolean;
  /** Enough is sent when so many bytes are. */
  readonly limitBytes: number;
  /** All before it was sent, or was clean. */
  cursor: number;
  /** Something that was sent did not become durable: it is dirty again, behind the cursor. */
  isLost: boolean;
  /** Durable at the server. */
  sentBytes: number;
}

export function wholeSweep(limitBytes = Number.POSITIVE_INFINITY): Sweep {
  const range = { start: 0, end: Number.POSITIVE_INFINITY };
  return { range, isWhole: true, limitBytes, cursor: 0, isLost: false, sentBytes: 0 };
}

export function rangeSweep(range: PageRange): Sweep {
  const limitBytes = Number.POSITIVE_INFINITY;
  return { range, isWhole: false, limitBytes, cursor: range.start, isLost: false, sentBytes: 0 };
}

/** From the beginning: what was lost is dirty again. */
export function restart(sweep: Sweep): void {
  sweep.cursor = sweep.range.start;
  sweep.isLost = false;
}
