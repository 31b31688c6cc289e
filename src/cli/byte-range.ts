/**
 * START-END of --range: bytes from START to before END, either of which may be left out. A number
 * may have K, M, G or T behind it, for powers of 1024.
 */
import { err, ok, type Result } from '../base/result.ts';

export interface ByteRange {
  readonly start?: number;
  readonly end?: number;
}

const shifts = { '': 0, K: 10, M: 20, G: 30, T: 40 } as const;

/** The error is what should have been said. */
export function parseByteRange(text: string): Result<ByteRange, string> {
  const parts = /^(?:(\d{1,15})([KMGT]?))?-(?:(\d{1,15})([KMGT]?))?$/i.exec(text);
  if (parts === null) return err(wanted);
  const start = bytes(parts[1], parts[2]);
  const end = bytes(parts[3], parts[4]);
  if (start === undefined && end === undefined) return err(wanted);
  if (!fits(start) || !fits(end)) return err('use numbers below 2^53');
  if (end !== undefined && (start ?? 0) >= end) return err('the end comes after the start');
  return ok({ ...(start === undefined ? {} : { start }), ...(end === undefined ? {} : { end }) });
}

const wanted = 'use START-END, as 0-64M or 1G-';

function bytes(digits: string | undefined, unit = ''): number | undefined {
  if (digits === undefined) return undefined;
  return Number(digits) * 2 ** shifts[unit.toUpperCase() as keyof typeof shifts];
}

function fits(bytes: number | undefined): boolean {
  return bytes === undefined || Number.isSafeInteger(bytes);
}
