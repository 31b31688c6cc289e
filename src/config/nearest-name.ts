/**
 * The name that somebody who typed another one most likely meant.
 */

/**
 * The candidate with the fewest edits from `typed`, and of equals the first; none when even the
 * nearest would need more than a third of its letters changed (but two are always allowed, where
 * something of the word remains). A word of less than four letters is like too many others: only
 * two swapped letters are believed of it.
 */
export function nearestName(typed: string, candidates: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const edits = editDistance(typed, candidate);
    if (edits < fewest) [nearest, fewest] = [candidate, edits];
  }
  if (nearest === undefined) return undefined;
  if (typed.length < SHORT) return fewest <= 1 && isAnagram(typed, nearest) ? nearest : undefined;
  const length = Math.max(typed.length, nearest.length);
  return fewest <= Math.max(2, length / 3) && fewest < length ? nearest : undefined;
}

const SHORT = 4;

function isAnagram(one: string, other: string): boolean {
  return [...one].sort().join() === [...other].sort().join();
}

/**
 * Edits that lead from one word to the other: a letter put in, left out or changed, or two
 * neighbours swapped (the optimal string alignment distance).
 */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1];
      let edits = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1),
      );
      const swapped = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (row > 1 && column > 1 && swapped) edits = Math.min(edits, at(beforeLast, column - 2) + 1);
      current.push(edits);
    }
    [beforeLast, last] = [last, current];
  }
  return at(last, to.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
