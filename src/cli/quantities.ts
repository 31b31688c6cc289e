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

/** `38 %`; only what is whole is `100 %`, and only nothing is `0 %`. */
export function percentText(part: number, whole: number): string {
  if (whole === 0) return '-';
  const percent = Math.round((100 * part) / whole);
  if (percent === 0 && part > 0) return '<1 %';
  return `${part < whole ? Math.min(percent, 99) : percent} %`;
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
