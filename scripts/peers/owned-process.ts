/**
 * A child process that cannot outlive us.
 *
 * The kernel sends it SIGKILL when the thread that started it ends (prctl PR_SET_PDEATHSIG, set
 * through util-linux's setpriv, which then becomes the program: the pid is the program's own). So
 * even a test runner that is killed with -9 leaves nothing behind.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface OwnedProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Settles when the process has ended; never rejects. */
  readonly ended: Promise<ExitStatus>;
  /** Whether it still runs. */
  alive(): boolean;
  /** Sends `signal`, and SIGKILL after `graceMs` (default 10 s); resolves when it has ended. */
  end(signal?: NodeJS.Signals, graceMs?: number): Promise<ExitStatus>;
}

/** Starts a program as an owned process. Rejects when it cannot be started. */
export async function spawnOwned(
  program: string,
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<OwnedProcess> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], options);
  const ended = new Promise<ExitStatus>((done) => {
    child.once('exit', (code, signal) => done({ code, signal }));
    child.once('error', () => done({ code: 127, signal: null }));
  });
  await new Promise<void>((done, fail) => {
    child.once('spawn', done);
    child.once('error', fail);
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} has no pid`);

  const alive = () => child.exitCode === null && child.signalCode === null;
  return {
    child,
    pid,
    ended,
    alive,
    async end(signal = 'SIGTERM', graceMs = 10_000) {
      if (alive()) {
        child.kill('SIGCONT'); // a stopped process would keep the signal pending
        child.kill(signal);
        const late = new AbortController();
        void sleep(graceMs, undefined, { signal: late.signal }).then(
          () => child.kill('SIGKILL'),
          () => undefined,
        );
        await ended;
        late.abort();
      }
      return ended;
    },
  };
}
