/** The middle of a few measurements and how far they lie apart. */

export interface Summary {
  median: number;
  lowest: number;
  highest: number;
  /** (highest - lowest) / median: 0 when all agree. */
  spread: number;
  count: number;
}

/** Throws when there is nothing to summarise. */
export function summarise(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const lowest = sorted[0];
  const highest = sorted.at(-1);
  if (lowest === undefined || highest === undefined) throw new Error('no measurements');
  const median = middle(sorted);
  const spread = median === 0 ? 0 : (highest - lowest) / median;
  return { median, lowest, highest, spread, count: sorted.length };
}

export function median(values: readonly number[]): number {
  return summarise(values).median;
}

function middle(sorted: readonly number[]): number {
  const half = sorted.length >> 1;
  const [below = 0, above = 0] = [sorted[sorted.length % 2 === 0 ? half - 1 : half], sorted[half]];
  return (below + above) / 2;
}
