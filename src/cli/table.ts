/**
 * Columns that line up, for a terminal and for cut(1): two blanks between them. A cell cannot break
 * its line, whatever it has in it: names are others'.
 */
import { harmless } from '../observe/printable.ts';

export interface Column {
  readonly title: string;
  /** Figures stand at the right of their column. */
  readonly align: 'left' | 'right';
}

/** The lines of a table, each with `indent` before it; none without rows. */
export function tableLines(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  indent = '',
): string[] {
  if (rows.length === 0) return [];
  const all = [columns.map(({ title }) => title), ...rows.map((row) => row.map(harmless))];
  const widths = columns.map((_, at) => Math.max(...all.map((row) => widthOf(row[at] ?? ''))));
  return all.map((row) => {
    const cells = columns.map(({ align }, at) => {
      const cell = row[at] ?? '';
      const blanks = ' '.repeat((widths[at] ?? 0) - widthOf(cell));
      return align === 'left' ? cell + blanks : blanks + cell;
    });
    return `${indent}${cells.join('  ')}`.trimEnd();
  });
}

/** In characters; what a terminal shows wider than one is rare in paths, and only misaligned. */
function widthOf(text: string): number {
  return [...text].length;
}
