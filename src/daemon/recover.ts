/**
 * Writes back what is unsent in the cache of one export, without a mount: the layers below the
 * kernel are opened as for one, and closed again.
 */
import { ok, type Result } from '../base/result.ts';
import type { MountSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import type { Log } from '../observe/log.ts';
import { Layers } from './layers.ts';
import type { MountFailure } from './mount-failure.ts';
import type { SendingHow, SentReport } from './sending.ts';

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
  const opened = await Layers.open(plan, log, Promise.resolve(), undefined, how.signal);
  if (!opened.ok) return opened;
  const layers = opened.value;
  const report = await layers.sending.writeBack(undefined, how);
  await layers.close(true);
  await layers.letGo();
  await layers.unmount();
  return ok(report);
}
