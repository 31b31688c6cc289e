/**
 * A picture of an image's pages: rows of cells, each of which stands for an equal part of the file
 * and shows what is in it. It says the same without colours, and in ASCII.
 */
import type { ResultOf } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import { bytesText, countText, percentTexts } from './quantities.ts';

export interface PictureStyle {
  /** Cells in a row. */
  readonly width: number;
  readonly unicode: boolean;
  readonly colours: boolean;
}

type Parts = ResultOf<'map'>['parts'];
type Part = Parts[number];

/** What a cell shows of its pages; of several kinds the first that applies. */
type CellKind = 'dirty' | 'absent' | 'zero' | 'present' | 'partly';

const cells: Record<CellKind, { ascii: string; unicode: string; colour: string; name: string }> = {
  absent: { ascii: '.', unicode: '\u00b7', colour: '2', name: 'absent' },
  partly: { ascii: '+', unicode: '\u2592', colour: '33', name: 'partly present' },
  present: { ascii: '#', unicode: '\u2588', colour: '32', name: 'present' },
  zero: { ascii: '0', unicode: '\u2591', colour: '34', name: 'zero' },
  dirty: { ascii: '*', unicode: '\u2593', colour: '31', name: 'dirty' },
};

const ROWS_MAX = 16;

/** Into how many parts the file is to be cut for a picture of that width. */
export function partsWanted(width: number): number {
  return Math.min(width * ROWS_MAX, 65_536);
}

/** The picture with its legend, with a newline at its end. */
export function mapPicture(map: ResultOf<'map'>, style: PictureStyle): string {
  const { path, sizeBytes, pages, pageBytes, parts } = map;
  const size = `${bytesText(sizeBytes)}, ${countText(pages, 'page')} of ${bytesText(pageBytes)}`;
  const lines = [`${harmless(path)}: ${size}`, shares(parts), ''];
  const labels: string[] = [];
  for (let first = 0; first < parts.length; first += style.width) {
    labels.push(bytesText(Math.floor((first * pages) / parts.length) * pageBytes));
  }
  const labelWidth = Math.max(0, ...labels.map(({ length }) => length));
  for (const [row, label] of labels.entries()) {
    const of = parts.slice(row * style.width, (row + 1) * style.width).map(kindOf);
    lines.push(`${label.padStart(labelWidth)} |${drawn(of, style)}|`);
  }
  if (parts.length > 0) lines.push('', legend(parts, pages, style));
  return `${lines.join('\n')}\n`;
}

function shares(parts: Parts): string {
  const sum = (kind: keyof Part) => parts.reduce((total, part) => total + part[kind], 0);
  const kinds = ['present', 'zero', 'dirty', 'absent'] as const;
  const percents = percentTexts(kinds.map(sum));
  return kinds.map((kind, at) => `${percents[at]} ${kind}`).join(', ');
}

function kindOf({ absent, present, zero, dirty }: Part): CellKind {
  if (dirty > 0) return 'dirty';
  if (absent > 0) return present + zero > 0 ? 'partly' : 'absent';
  return present > 0 ? 'present' : 'zero';
}

/** Runs of one kind are coloured at once. */
function drawn(kinds: readonly CellKind[], style: PictureStyle): string {
  let text = '';
  let last: CellKind | undefined;
  for (const kind of kinds) {
    if (style.colours && kind !== last) text += `\u001b[0;${cells[kind].colour}m`;
    text += style.unicode ? cells[kind].unicode : cells[kind].ascii;
    last = kind;
  }
  return style.colours ? `${text}\u001b[0m` : text;
}

function legend(parts: Parts, pages: number, style: PictureStyle): string {
  const keys = Object.keys(cells) as CellKind[];
  const key = keys.map((kind) => `${drawn([kind], style)} ${cells[kind].name}`).join('  ');
  const perCell = pages / parts.length;
  const each = Number.isInteger(perCell)
    ? countText(perCell, 'page')
    : `${perCell.toFixed(1)} pages`;
  return `${key}  (a cell is ${each})`;
}
