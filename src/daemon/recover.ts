/**
 * Writes back what is unsent in the cache of one export, without a mount: the layers below the
 * kernel are opened as for one, and closed again.
 */
import { ok, type Result } from '../base/result.ts';
import type { MountSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import type { Log } from '../observe/log.ts';
import { unlessAborted } from './control/paths.ts';
import { Layers } from './layers.ts';
import type { MountFailure } from './mount-failure.ts';
import type { SendingHow, SentReport } from './sending.ts';

/** For the end, where the server has not answered in time. */
const CLOSE_LIMIT_MS = 2_000;

export interface RecoverPlan {
  readonly source: MountSource;
  readonly cacheDirectory: string;
  /** As for a mount; `session`, `write` and the like are set here. */
  readonly settings: Settings;
}

/** The cache must be free. What cannot be sent stays in it. */
export async function writeBackKept(
  { source, cacheDirectory, settings }: RecoverPlan,
  log: Log,
  how: SendingHow,
): Promise<Result<SentReport, MountFailure>> {
  const plan = {
    source,
    cacheDirectory,
    // Whether others have changed the files is to be seen, not taken as it comes.
    settings: { ...settings, ro: false, cache: true, session: 'exclusive', write: 'back' } as const,
    mountpoint: '',
    socket: '',
    notes: [],
    log: { file: undefined, required: false, level: 'warn', format: 'text' } as const,
  };
  const time = how.timeoutMs === undefined ? undefined : AbortSignal.timeout(how.timeoutMs);
  const signal = time === undefined ? how.signal : AbortSignal.any([how.signal, time]);
  const opening = Layers.open(plan, log, Promise.resolve(), undefined, signal);
  const opened = await unlessAborted(opening, signal);
  if (opened === undefined || (!opened.ok && signal.aborted)) {
    void opening.then((late) => (late.ok ? late.value.abandon() : undefined));
    const nothing = { files: 0, sentFiles: 0, sentBytes: 0, unsentBytes: 0, failed: [] };
    return ok({ ...nothing, ended: how.signal.aborted ? 'cancelled' : 'timedOut' });
  }
  if (!opened.ok) return opened;
  const layers = opened.value;
  const report = await layers.sending.writeBack(undefined, { ...how, signal });
  // What stays is on the disk already: a server that does not answer is not waited for.
  const ended = layers.close(true).then(() => layers.letGo());
  const patience = report.ended === 'done' ? undefined : AbortSignal.timeout(CLOSE_LIMIT_MS);
  await (patience === undefined ? ended : unlessAborted(ended, patience));
  await layers.unmount();
  // The time is part of the signal here.
  const isTimedOut = report.ended === 'cancelled' && !how.signal.aborted;
  return ok(isTimedOut ? { ...report, ended: 'timedOut' } : report);
}
