/**
 * A mount's process: the log, the signals and the one session, until it ends.
 */
import { formatSource } from '../config/mount-source.ts';
import { type LogSink, openLog } from '../observe/log.ts';
import { type MountFailure, reasonOf } from './mount-failure.ts';
import type { LogPlan, MountPlan } from './mount-plan.ts';
import { liesBeneath } from './mountpoint.ts';
import { Session, type SessionEnd, type SessionHooks } from './session.ts';

export type Served =
  | { readonly kind: 'ended'; readonly end: SessionEnd }
  | { readonly kind: 'failed'; readonly failure: MountFailure };

export interface ServeHooks extends SessionHooks {
  /** The mount answers. */
  ready(): void;
}

/**
 * Mounts and serves until the end. `abandoned` ends a mount that has not answered yet, when nobody
 * waits for it any more.
 */
export async function serve(
  plan: MountPlan,
  hooks: ServeHooks,
  abandoned?: AbortSignal,
): Promise<Served> {
  const opened = open(plan);
  if ('kind' in opened) return { kind: 'failed', failure: opened };
  const session = new Session(plan, opened);
  const release = listen(session, opened);
  const giveUp = () => session.terminate();
  abandoned?.addEventListener('abort', giveUp, { once: true });
  try {
    const started = await session.start(hooks);
    abandoned?.removeEventListener('abort', giveUp);
    if (!started.ok) {
      // On the terminal the command's own sentence says it.
      if (plan.log.file !== undefined)
        opened.error('not mounted', { reason: reasonOf(started.error) });
      return { kind: 'failed', failure: started.error };
    }
    hooks.ready();
    return { kind: 'ended', end: await session.ended };
  } finally {
    release();
    await opened.close();
  }
}

function open({ log, mountpoint, source }: MountPlan): LogSink | MountFailure {
  const common = { mount: mountpoint };
  const toTerminal = { ...options(log), to: process.stderr };
  if (log.file === undefined) return openLog(toTerminal);
  if (liesBeneath(log.file, mountpoint)) {
    return { kind: 'logInside', file: log.file, mountpoint };
  }
  try {
    return openLog({ ...options(log), to: { file: log.file }, common });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (log.required) return { kind: 'log', file: log.file, reason };
    const sink = openLog(toTerminal);
    sink.warn('there is no log', { source: formatSource(source), reason });
    return sink;
  }
}

function options({ level, format }: LogPlan): Pick<LogPlan, 'level' | 'format'> {
  return { level, format };
}

/** Signals and faults to the session; returns the way to stop. */
function listen(session: Session, log: LogSink): () => void {
  const terminate = () => session.terminate();
  const reopen = () => log.reopen();
  const writeBack = () => session.writeBack();
  const flush = () => session.flush();
  const fault = (error: unknown) => session.fault(error);
  process.on('SIGTERM', terminate).on('SIGINT', terminate).on('SIGHUP', reopen);
  // Without a listener Node's own SIGUSR1 would start its inspector, and SIGUSR2 would kill us.
  process.on('SIGUSR1', writeBack).on('SIGUSR2', flush);
  process.on('uncaughtException', fault).on('unhandledRejection', fault);
  return () => {
    process.off('SIGTERM', terminate).off('SIGINT', terminate).off('SIGHUP', reopen);
    process.off('SIGUSR1', writeBack).off('SIGUSR2', flush);
    process.off('uncaughtException', fault).off('unhandledRejection', fault);
  };
}
