/**
 * The disk cache as the control socket wants it.
 */
import { err, ok } from '../../base/result.ts';
import type { CatalogueLine } from '../../cache/catalogue.ts';
import type { DiskCache } from '../../cache/disk-cache.ts';
import { fileIdOf } from '../../cache/file-id.ts';
import { PAGE_BYTES } from '../../cache/file-io.ts';
import type { Image } from '../../cache/image.ts';
import { localError } from '../../errors/fs-error.ts';
import { harmless } from '../../observe/printable.ts';
import type { ControlledCache, ControlledImage } from './controlled.ts';
import type { ImageLine } from './schema.ts';

export function controlledCache(cache: DiskCache): ControlledCache {
  return {
    idOf: fileIdOf,
    async list(signal) {
      const listed = await cache.list(signal);
      return listed.ok ? ok(listed.value.map(imageLine)) : listed;
    },
    find(file) {
      const image = cache.find(file);
      return image === undefined ? undefined : controlledImage(image);
    },
    setPinned: (id, pinned) => cache.setPinned(id, pinned),
    async evict(id) {
      const evicted = await cache.evict(id);
      if (evicted.ok) return ok({ freedBytes: evicted.value });
      const { errno, message } = evicted.error;
      return errno === 'EBUSY' ? ok({ freedBytes: 0, why: `it is ${message}` }) : evicted;
    },
    verify: (id, watch) => cache.verify(id, watch),
  };
}

/** The cache's own line, as the schema has it. */
export function imageLine(line: CatalogueLine): ImageLine {
  const { id, sizeBytes, presentBytes, allocatedBytes, open, unsent } = line;
  const { pinned, lastUsedMs, state } = line;
  return {
    path: harmless(line.path.replace(/^\/+/, '')),
    ...{ id, sizeBytes, allocatedBytes, open, unsent, pinned, lastUsedMs, state },
    presentBytes: Math.min(presentBytes, sizeBytes),
    gone: null,
    why: line.why === undefined ? null : harmless(line.why),
  };
}

const whole = { start: 0, end: Number.MAX_SAFE_INTEGER };

/** Present pages, of which the first and the last count as far as they are in the range. */
function presentBytes({ content }: Image, start: number, end: number): number {
  if (content === undefined) return 0;
  const { map } = content;
  const stop = Math.min(end, map.sizeBytes);
  if (stop <= start) return 0;
  const first = Math.floor(start / PAGE_BYTES);
  const last = Math.ceil(stop / PAGE_BYTES);
  let bytes = map.countPresent(first, last) * PAGE_BYTES;
  if (map.countPresent(first, first + 1) > 0) bytes -= start - first * PAGE_BYTES;
  if (map.countPresent(last - 1, last) > 0) bytes -= last * PAGE_BYTES - stop;
  return bytes;
}

function controlledImage(image: Image): ControlledImage {
  return {
    presentBytes: ({ start, end } = whole) => presentBytes(image, start, end),
    async warm({ start, end }, { as, check, ...watch }) {
      const range = { offset: start, length: end - start };
      if (!check) return image.warm(range, { as, ...watch });
      const checked = await image.verify(range, watch);
      return watch.signal.aborted ? err(localError('EINTR', 'verify')) : ok(checked);
    },
    pageStates: (parts) => image.pageStates(parts),
  };
}
