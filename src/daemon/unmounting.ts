/**
 * `gvfs umount`: nobody opens anything any more, what is unsent is dealt with as asked, and then the
 * mount ends. Where that cannot be done the mount goes on as before, and whoever asked is told why.
 *
 *   asked ---> opens refused ---> (in use: goes on) ---> written back ---> (not all sent: goes on)
 *        ---> out of the tree ---> (in use: goes on) ---> drained, written down ---> answered
 *
 * With `force` nothing goes on: who uses the mount fails, and what is not sent in time is kept.
 */
import type { Clock } from '../base/clock.ts';
import type { Result } from '../base/result.ts';
import type { UnmountHow, Unmounting } from './control/controlled.ts';
import type { Sending, SentReport } from './sending.ts';
import type { UnsentFiles } from './unsent-files.ts';

export interface UnmountingParts {
  readonly files: Pick<UnsentFiles, 'setOpens'> & {
    openFiles(): readonly { readonly path: string }[];
  };
  readonly sending: Pick<Sending, 'writeBack'>;
  readonly clock: Clock;
  readonly mount: MountToEnd;
}

/** The mount, as far as its end goes. */
export interface MountToEnd {
  /** The kernel asks nothing any more: only the last writes are being settled. */
  readonly isDraining: boolean;
  /**
   * Out of the tree. Err, a clause: it is in use, and goes on. What is unsent when the kernel asks
   * nothing any more is sent, stays in the cache, or is dropped.
   */
  leave(unsent: UnmountHow['unsent']): Promise<Result<void, string>>;
  /** The same, whoever uses it. */
  abandon(unsent: UnmountHow['unsent']): void;
  /** It is draining: nothing more is sent, what is unsent stays or is dropped, it ends now. */
  endNow(unsent: 'keep' | 'discard'): void;
  /** All is written down, and the server was told. What stays unsent in the cache, what was dropped. */
  readonly settled: Promise<{ readonly keptBytes: number; readonly droppedBytes: number }>;
}

/** A file that was closed just now is released a moment later. */
const CLOSING_MS = 1_000;
const LOOK_MS = 50;
/** For what `force` still sends, where the caller gave it no time. */
const FORCED_MS = 10_000;

const nothing: SentReport = {
  files: 0,
  sentFiles: 0,
  sentBytes: 0,
  unsentBytes: 0,
  failed: [],
  ended: 'done',
};

export async function unmount(parts: UnmountingParts, how: UnmountHow): Promise<Unmounting> {
  const { files, mount } = parts;
  if (mount.isDraining) return drained(parts, how);
  files.setOpens('refused');
  const goesOn = (report: SentReport, why: string, inUse: readonly string[] = []): Unmounting => {
    files.setOpens('allowed');
    return { unmounted: false, report, inUse, why, droppedBytes: 0, keptBytes: 0 };
  };

  if (!how.force) {
    const inUse = await stillOpen(parts, how.signal);
    if (inUse.length > 0) return goesOn(nothing, 'files are open there', inUse);
  }
  const timeoutMs = how.timeoutMs ?? (how.force ? FORCED_MS : undefined);
  const report =
    how.unsent === 'send'
      ? await parts.sending.writeBack(undefined, { ...how, timeoutMs })
      : nothing;
  if (report.ended === 'cancelled') return goesOn(report, 'it was interrupted');
  const isAllSent = report.ended === 'done' && report.failed.length === 0;
  if (!isAllSent && !how.force) {
    const why = report.ended === 'timedOut' ? 'the time was up' : 'not everything could be sent';
    return goesOn(report, why);
  }

  // What is written until the kernel has gone is dealt with alike. Nothing is dropped before: if it
  // is in use after all, it goes on with all that it has.
  const unsent = isAllSent ? how.unsent : 'keep';
  const left = await mount.leave(unsent);
  if (!left.ok && !how.force) return goesOn(report, left.error);
  if (!left.ok) mount.abandon(unsent);
  return ended(report, await mount.settled);
}

/** The mount is gone already: only what is unsent is asked about. */
async function drained(parts: UnmountingParts, how: UnmountHow): Promise<Unmounting> {
  const { mount, sending } = parts;
  const timeoutMs = how.timeoutMs ?? (how.force ? FORCED_MS : undefined);
  const report =
    how.unsent === 'send' ? await sending.writeBack(undefined, { ...how, timeoutMs }) : nothing;
  const isAllSent = report.ended === 'done' && report.failed.length === 0;
  if (!isAllSent && !how.force) {
    const why = report.ended === 'timedOut' ? 'the time was up' : 'not everything could be sent';
    return { unmounted: false, report, inUse: [], why, droppedBytes: 0, keptBytes: 0 };
  }
  if (how.unsent !== 'send') mount.endNow(how.unsent);
  else if (!isAllSent) mount.endNow('keep');
  return ended(report, await mount.settled);
}

function ended(
  report: SentReport,
  { keptBytes, droppedBytes }: { readonly keptBytes: number; readonly droppedBytes: number },
): Unmounting {
  return { unmounted: true, report, inUse: [], why: undefined, droppedBytes, keptBytes };
}

/** What is open, and stays so. */
async function stillOpen(
  { files, clock }: UnmountingParts,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const untilMs = clock.monotonicMs() + CLOSING_MS;
  for (;;) {
    const open = files.openFiles();
    if (open.length === 0 || clock.monotonicMs() >= untilMs || signal.aborted) {
      return open.map(({ path }) => path);
    }
    await new Promise<void>((done) => {
      clock.after(LOOK_MS, done);
    });
  }
}
