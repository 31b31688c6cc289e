/** Results for people, as a table on the terminal, and for programs, as JSON in bench-results/. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type Cell = string | number | undefined;

export interface Table {
  title: string;
  columns: readonly string[];
  rows: readonly (readonly Cell[])[];
}

/** Columns as wide as their widest cell; numbers to the right, an absent value as a dash. */
export function render({ title, columns, rows }: Table): string {
  const texts = [columns, ...rows.map((row) => columns.map((_, at) => cellText(row[at])))];
  const widths = columns.map((_, at) => Math.max(...texts.map((row) => row[at]?.length ?? 0)));
  const right = columns.map((_, at) => rows.some((row) => typeof row[at] === 'number'));
  const line = (row: readonly string[]) =>
    row
      .map((text, at) =>
        right[at] ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const [head = [], ...body] = texts;
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [title, '', line(head), rule, ...body.map(line), ''].join('\n');
}

/** Writes `bench-results/NAME-TIME.json` under the working directory and gives its path. */
export function save(name: string, results: unknown): string {
  mkdirSync('bench-results', { recursive: true });
  const time = new Date().toISOString().replaceAll(/[:.]/g, '-');
  const path = join('bench-results', `${name}-${time}.json`);
  writeFileSync(path, `${JSON.stringify(results, undefined, 2)}\n`);
  return path;
}

/** Three significant digits below 1000, whole numbers with separators above. */
function cellText(cell: Cell): string {
  if (cell === undefined) return '-';
  if (typeof cell === 'string') return cell;
  if (Math.abs(cell) >= 1000) return Math.round(cell).toLocaleString('en');
  return String(Number(cell.toPrecision(3)));
}
