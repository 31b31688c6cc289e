/** What the cache has to show: rows of values, each with its bar, and the table of them. */
import { type Summary, summarise } from '../median.ts';
import { render } from '../table.ts';

export type Bar =
  | { readonly kind: 'at least'; readonly value: number }
  | { readonly kind: 'at most'; readonly value: number }
  /** A median of ratios; a noisy yardstick counts as far as its spread reaches. */
  | { readonly kind: 'ratio at least'; readonly value: number };

export interface Row {
  readonly name: string;
  readonly unit: string;
  /** None: for the record. */
  readonly bar?: Bar;
}

export function atLeast(name: string, unit: string, value: number): Row {
  return { name, unit, bar: { kind: 'at least', value } };
}

export function atMost(name: string, unit: string, value: number): Row {
  return { name, unit, bar: { kind: 'at most', value } };
}

export function ratioAtLeast(name: string, value: number): Row {
  return { name, unit: 'ratio', bar: { kind: 'ratio at least', value } };
}

export class Ledger {
  readonly #rows: { readonly row: Row; readonly values: number[] }[] = [];

  add(row: Row, value: number): void {
    const known = this.#rows.find(({ row: { name } }) => name === row.name);
    if (known === undefined) this.#rows.push({ row, values: [value] });
    else known.values.push(value);
  }

  all(): Record<string, number[]> {
    return Object.fromEntries(this.#rows.map(({ row, values }) => [row.name, values]));
  }

  /** Prints the table and gives the number of bars that were missed. */
  print(title: string): number {
    let missed = 0;
    const rows = this.#rows.map(({ row, values }) => {
      const summary = summarise(values);
      const verdict = row.bar === undefined ? '' : verdictOf(row.bar, summary);
      if (verdict === 'MISSED') missed++;
      const { median, lowest, highest, count } = summary;
      const bar = row.bar === undefined ? '' : `${row.bar.kind} ${row.bar.value}`;
      return [row.name, row.unit, median, lowest, highest, count, bar, verdict];
    });
    const columns = ['work', 'unit', 'median', 'lowest', 'highest', 'runs', 'bar', ''];
    console.log(render({ title, columns, rows }));
    return missed;
  }
}

function verdictOf(bar: Bar, { median, highest }: Summary): string {
  switch (bar.kind) {
    case 'at least':
      return median >= bar.value ? 'reached' : 'MISSED';
    case 'at most':
      return median <= bar.value ? 'reached' : 'MISSED';
    case 'ratio at least':
      if (median >= bar.value) return 'reached';
      return highest >= bar.value ? 'reached within the spread' : 'MISSED';
  }
}
