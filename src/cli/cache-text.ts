/**
 * `gvfs cache` for people.
 */
import type { ImageLine, ResultOf } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import type { CacheTarget } from './cache-targets.ts';
import { bytesText, countText, percentText, timeText } from './quantities.ts';
import { type Column, tableLines } from './table.ts';

const columns: readonly Column[] = [
  { title: 'cached', align: 'right' },
  { title: 'size', align: 'right' },
  { title: 'on disk', align: 'right' },
  { title: 'last used', align: 'left' },
  { title: 'image', align: 'left' },
];

/** gvfs cache ls: an image a line. */
export function listText(target: CacheTarget, { images }: ResultOf<'images'>): string {
  const rows = tableLines(columns, images.map(imageRow), '  ');
  return linesOf([title(target), ...(rows.length === 0 ? ['  no images'] : rows)]);
}

/** gvfs cache du: as du(1), the total last. */
export function usageText(target: CacheTarget, { cache, images }: ResultOf<'images'>): string {
  const rows = images.map((image) => [bytesText(image.allocatedBytes), nameOf(image)]);
  const limit = cache.limitBytes === null ? '' : `, may be ${bytesText(cache.limitBytes)}`;
  const total = target.isOneImage
    ? []
    : [[bytesText(cache.allocatedBytes), `total${limit}, in ${cache.directory}`]];
  const table = tableLines(
    [
      { title: 'on disk', align: 'right' },
      { title: 'image', align: 'left' },
    ],
    [...rows, ...total],
    '  ',
  );
  return linesOf([title(target), ...table]);
}

export function verifiedText(target: CacheTarget, verified: ResultOf<'verify'>): string {
  const { images, checkedBytes, damagedBytes, damaged, setAside } = verified;
  const whole = damagedBytes === 0 ? [] : [`${bytesText(damagedBytes)} damaged`];
  const lost = setAside.length === 0 ? [] : [`${countText(setAside.length, 'image')} unbelievable`];
  const bad = [...whole, ...lost];
  const found = bad.length === 0 ? 'nothing damaged' : bad.join(', ');
  return linesOf([
    `${target.typed}: ${countText(images, 'image')}, ${bytesText(checkedBytes)} checked, ${found}`,
    ...damaged.map((one) => `  ${one.path}: ${bytesText(one.damagedBytes)} dropped`),
    ...setAside.map(({ path, why }) => `  ${path}: all of it dropped, ${why}`),
  ]);
}

export function evictedText(target: CacheTarget, evicted: ResultOf<'evict'>): string {
  const { images, freedBytes, kept } = evicted;
  return linesOf([
    `${target.typed}: ${countText(images, 'image')} evicted, ${bytesText(freedBytes)} freed`,
    ...kept.map(({ path, why }) => `  ${path} is kept: ${why}`),
  ]);
}

function title({ source, mountpoint }: CacheTarget): string {
  return mountpoint === null ? `${source}, no daemon` : `${source} on ${mountpoint}`;
}

function imageRow(image: ImageLine): string[] {
  const { presentBytes, sizeBytes, allocatedBytes, lastUsedMs } = image;
  const { open, unsent, pinned, gone, state, why } = image;
  const isPlain = state === 'settled' || (unsent && state === 'writing');
  const notes = [
    ...(open ? ['open'] : []),
    ...(unsent ? ['unsent'] : []),
    ...(pinned ? ['pinned'] : []),
    ...(gone === true ? ['gone at the server'] : []),
    ...(isPlain ? [] : [why === null ? state : `${state}: ${why}`]),
  ];
  return [
    percentText(presentBytes, sizeBytes),
    bytesText(sizeBytes),
    bytesText(allocatedBytes),
    lastUsedMs === 0 ? '-' : timeText(lastUsedMs),
    notes.length === 0 ? nameOf(image) : `${nameOf(image)}  (${notes.join(', ')})`,
  ];
}

/** An image whose path nobody knows is named by its directory. */
function nameOf({ path, id }: ImageLine): string {
  return path === '' ? id : path;
}

function linesOf(lines: readonly string[]): string {
  return `${lines.map(harmless).join('\n')}\n`;
}
