/**
 * What only this host has, as `status` says it.
 */
import type { Clock } from '../../base/clock.ts';
import { harmless } from '../../observe/printable.ts';
import type { UnsentFile } from '../unsent-files.ts';
import type { Controlled } from './controlled.ts';
import type { Status } from './schema.ts';

const LISTED_MAX = 100;
const MS_NS = 1_000_000n;

type Line = Status['unsent']['list'][number];

export function unsentStatus({ cache, sending }: Controlled, clock: Clock): Status['unsent'] {
  const nowMs = Number(clock.wallNs() / MS_NS);
  const files = sending.unsent().toSorted((a, b) => a.unsent.sinceMs - b.unsent.sinceMs);
  const line = (file: UnsentFile): Line => ({
    path: harmless(file.path),
    id: cache?.idOf(file.file) ?? '',
    bytes: file.unsent.bytes,
    state: file.unsent.state,
    ageMs: ageOf(file, nowMs),
    recovered: file.recovered,
    failure: file.failure === undefined ? null : harmless(file.failure.message),
  });
  const sum = (some: readonly UnsentFile[]) =>
    some.reduce((bytes, { unsent }) => bytes + unsent.bytes, 0);
  const [oldest] = files;
  return {
    bytes: sum(files),
    files: files.length,
    ageMs: oldest === undefined ? null : ageOf(oldest, nowMs),
    recoveredBytes: sum(files.filter(({ recovered }) => recovered)),
    foundBytes: sending.foundBytes,
    list: files.slice(0, LISTED_MAX).map(line),
  };
}

/** In whole ms. The wall clock may have been set back since. */
function ageOf({ unsent }: UnsentFile, nowMs: number): number {
  return Math.max(0, Math.round(nowMs - unsent.sinceMs));
}
