/**
 * Amounts as people read them: at most four figures and a unit.
 */

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `0 B`, `4.0 KiB`, `128 MiB`: powers of 1024. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // What would round to 1024 is one of the next unit.
  while (Math.round(value) >= 1024 && unit < byteUnits.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : decimals(value)} ${byteUnits[unit]}`;
}

/** `0.04 ms`, `35.1 ms`, `3.2 s`, `5 min`, `3 h`, `4 d`. */
export function durationText(ms: number): string {
  if (ms < 0.995) return `${ms.toFixed(2)} ms`;
  if (ms < 999.5) return `${decimals(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 119.5) return `${decimals(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 119.5) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  return hours < 47.5 ? `${Math.round(hours)} h` : `${Math.round(hours / 24)} d`;
}

/** `4.0 KiB of 32.0 KiB`; where both would read alike though they are not, in bytes. */
export function shareText(part: number, whole: number): string {
  const [some, all] = [bytesText(part), bytesText(whole)];
  return some === all && part !== whole ? `${part} of ${whole} B` : `${some} of ${all}`;
}

/** `38 %`; more than the whole is the whole; only what is whole is `100 %`, and only nothing is `0 %`. */
export function percentText(part: number, whole: number): string {
  if (whole === 0) return '-';
  const percent = Math.min(Math.round((100 * part) / whole), 100);
  if (percent === 0 && part > 0) return '<1 %';
  return `${part < whole ? Math.min(percent, 99) : percent} %`;
}

/** The same of parts that are the whole together, so that no sum is beyond 100. */
export function percentTexts(parts: readonly number[]): string[] {
  const whole = parts.reduce((sum, part) => sum + part, 0);
  if (whole === 0) return parts.map(() => '-');
  const exact = parts.map((part) => (100 * part) / whole);
  const percents = exact.map(Math.floor);
  const lost = exact.map((value, at) => value - (percents[at] ?? 0));
  const missing = 100 - percents.reduce((sum, percent) => sum + percent, 0);
  const most = [...parts.keys()].sort((one, other) => (lost[other] ?? 0) - (lost[one] ?? 0));
  // What is nothing has lost nothing, and is never among them.
  for (const at of most.slice(0, missing)) percents[at] = (percents[at] ?? 0) + 1;
  return parts.map((part, at) => {
    const percent = percents[at] ?? 0;
    if (part === 0) return '0 %';
    if (percent === 0) return '<1 %';
    return `${part < whole ? Math.min(percent, 99) : percent} %`;
  });
}

/** `2026-01-02 03:04:05`, in the time zone of whoever reads it. */
export function timeText(ms: number): string {
  const time = new Date(ms);
  const two = (value: number) => String(value).padStart(2, '0');
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-');
  return `${day} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':')}`;
}

/** `1 image`, `2 images`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function decimals(value: number): string {
  return value < 99.95 ? value.toFixed(1) : String(Math.round(value));
}
