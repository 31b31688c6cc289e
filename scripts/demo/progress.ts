/** Calm terminal output: a line for each step, with the time it took. */

const WIDTH = 76;

/** Says what is being done, does it, and says how long it took. */
export async function timed<T>(label: string, work: () => Promise<T>): Promise<T> {
  process.stdout.write(`  ${label}`);
  const began = performance.now();
  try {
    const result = await work();
    console.log(seconds(performance.now() - began).padStart(WIDTH - label.length));
    return result;
  } catch (error) {
    console.log('failed'.padStart(WIDTH - label.length));
    throw error;
  }
}

/** One more thing to know, under the steps. */
export function fact(label: string, text: string): void {
  console.log(`  ${label.padEnd(29)}${text}`);
}

export function heading(text: string): void {
  console.log(`\n${text}\n`);
}

/** What somebody else has said, marked as such. */
export function quote(title: string, lines: readonly string[]): void {
  if (lines.length === 0) return;
  console.error(`\n${title}`);
  for (const line of lines) console.error(`  | ${line}`);
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 1000 ? 2 : 1)} s`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
