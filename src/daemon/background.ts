/**
 * Puts a mount into the background: starts its process in a session of its own, and waits until the
 * mount answers or has failed.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../base/result.ts';
import { formatSource } from '../config/mount-source.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';

export interface ToDaemon {
  readonly plan: MountPlan;
}

export type FromDaemon =
  | { readonly kind: 'ready' }
  /** With `bg`: the first attempt failed so, and others follow. */
  | { readonly kind: 'retrying'; readonly failure: MountFailure }
  | { readonly kind: 'failed'; readonly failure: MountFailure };

/** The same from src/ and from dist/. */
const PROCESS = fileURLToPath(
  new URL(`background-process${import.meta.url.slice(-3)}`, import.meta.url),
);

/**
 * Resolves when the mount answers, or (bg) waits for its server. `interrupted` ends a mount that
 * does not answer yet.
 */
export function mountInBackground(
  plan: MountPlan,
  interrupted: AbortSignal,
): Promise<Result<FromDaemon, MountFailure>> {
  return new Promise((done) => {
    // The arguments are for ps(1), and make room for the title that the process gives itself.
    const daemon = fork(PROCESS, [formatSource(plan.source), plan.mountpoint], {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      serialization: 'advanced',
    });
    const finish = (result: Result<FromDaemon, MountFailure>) => {
      interrupted.removeEventListener('abort', interrupt);
      daemon.removeAllListeners();
      daemon.unref();
      // Its process was told to end, whatever it was about to say.
      done(interrupted.aborted ? err({ kind: 'interrupted' }) : result);
    };
    const interrupt = () => daemon.kill('SIGTERM');
    interrupted.addEventListener('abort', interrupt, { once: true });
    daemon.on('message', (message) => {
      const answer = message as FromDaemon;
      finish(answer.kind === 'failed' ? err(answer.failure) : ok(answer));
    });
    daemon.on('error', (error) => finish(err({ kind: 'died', how: error.message })));
    daemon.on('exit', (code, signal) => {
      finish(err({ kind: 'died', how: signal === null ? `with status ${code}` : `by ${signal}` }));
    });
    const message: ToDaemon = { plan };
    daemon.send(message, (error) => {
      if (error !== null) finish(err({ kind: 'died', how: error.message }));
    });
  });
}
