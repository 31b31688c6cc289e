/**
 * Child processes that touch a mount, so that the test process never does.
 *
 * - Each has a time limit, a guard against hanging for ever and no measure of speed: at its end the
 *   child's whole process group gets SIGKILL, and the caller an error that says how far it came.
 * - A child in uninterruptible sleep does not end by SIGKILL. Nobody waits for it: the mount's
 *   owner aborts the connection, and then it goes.
 */
import type { SpawnOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ExitStatus,
  type OwnedProcess,
  spawnOwned,
} from '../../scripts/peers/owned-process.ts';

export interface ChildOptions {
  /** Limit after which the child is killed, ms (default 60 s). */
  timeoutMs?: number;
  cwd?: string;
  env?: Record<string, string>;
  /** Run as this user and group, with no other group (default: ours). */
  user?: number;
  /** Given to its standard input, which is empty otherwise. */
  input?: string;
  /** Its standard input stays open, for `tell`. */
  interactive?: boolean;
}

export interface Finished extends ExitStatus {
  stdout: string;
  stderr: string;
}

/** Python of the distribution, whatever else PATH may hold. */
export const PYTHON = '/usr/bin/python3';

export class Child {
  readonly pid: number;
  stdout = '';
  stderr = '';
  /** When it has ended and its output is complete. It may never settle: see `finish`. */
  readonly ended: Promise<Finished>;
  readonly #process: OwnedProcess;
  readonly #command: string;

  constructor(process: OwnedProcess, command: string) {
    this.pid = process.pid;
    this.#process = process;
    this.#command = command;
    const { stdout, stderr } = process.child;
    stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((done) => {
      process.child.once('close', (code, signal) =>
        done({ code, signal, stdout: this.stdout, stderr: this.stderr }),
      );
    });
  }

  alive(): boolean {
    return this.#process.alive();
  }

  /** kill -9 of the child alone: the processes it started stay. */
  kill(): void {
    if (this.alive()) process.kill(this.pid, 'SIGKILL');
  }

  /** SIGKILL to all of its process group. */
  killGroup(): void {
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // the group has ended
    }
  }

  /** Waits for its end; kills it and rejects after `timeoutMs`. */
  async finish(timeoutMs = 60_000): Promise<Finished> {
    const stop = new AbortController();
    const late = sleep(timeoutMs, 'late' as const, { signal: stop.signal }).catch(() => 'late');
    const finished = await Promise.race([this.ended, late]);
    stop.abort();
    if (typeof finished !== 'string') return finished;
    const where = this.whereabouts();
    this.killGroup();
    throw new Error(`no end after ${timeoutMs} ms (${where}): ${this.#described()}`);
  }

  /** Waits for its end, and rejects unless it ended with 0. */
  async succeed(timeoutMs?: number): Promise<string> {
    const { code, signal, stdout } = await this.finish(timeoutMs);
    if (code !== 0) throw new Error(`ended with ${signal ?? code}: ${this.#described()}`);
    return stdout;
  }

  /** Resolves when its output has come to hold `text`; rejects when it ends before, or in 60 s. */
  async says(text: string): Promise<void> {
    for (let waitedMs = 0; !this.stdout.includes(text); waitedMs += 20) {
      if (!this.alive() || waitedMs > 60_000) {
        throw new Error(`it never said ${JSON.stringify(text)}: ${this.#described()}`);
      }
      await sleep(20);
    }
  }

  /** Writes a line to the standard input of an interactive child. */
  tell(line: string): void {
    this.#process.child.stdin?.write(`${line}\n`);
  }

  /** Tells it something and gives the next line that it prints; rejects when none comes in 60 s. */
  async ask(line: string): Promise<string> {
    const from = this.stdout.length;
    this.tell(line);
    for (let waitedMs = 0; ; waitedMs += 20) {
      const end = this.stdout.indexOf('\n', from);
      if (end >= 0) return this.stdout.slice(from, end);
      if (!this.alive() || waitedMs > 60_000) {
        throw new Error(`no answer to ${JSON.stringify(line)}: ${this.#described()}`);
      }
      await sleep(20);
    }
  }

  /** Ends the input of an interactive child. */
  endInput(): void {
    this.#process.child.stdin?.end();
  }

  /** Its state as the kernel shows it, and where it sleeps there. */
  whereabouts(): string {
    const read = (name: string) => {
      try {
        return readFileSync(`/proc/${this.pid}/${name}`, 'utf8');
      } catch {
        return '';
      }
    };
    return `${/^State:\s+(\S)/m.exec(read('status'))?.[1] ?? 'gone'} in ${read('wchan') || '?'}`;
  }

  #described(): string {
    return `${this.#command}\n${this.stdout.slice(-2000)}${this.stderr.slice(-4000)}`;
  }
}

/** The children of one test or of one mount. */
export class Children {
  readonly #live = new Set<Child>();

  async start(program: string, args: readonly string[], options: ChildOptions = {}) {
    const { cwd, env, user, input, interactive = false } = options;
    const spawnOptions: SpawnOptions = {
      detached: true, // a process group of its own
      stdio: [input === undefined && !interactive ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...process.env, LC_ALL: 'C', PYTHONDONTWRITEBYTECODE: '1', ...env },
    };
    const became =
      user === undefined
        ? [program, ...args]
        : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups', program, ...args];
    const [command = program, ...rest] = became;
    const child = new Child(
      await spawnOwned(command, rest, spawnOptions).then((owned) => {
        owned.child.stdin?.on('error', () => undefined); // it has ended: its status tells
        if (input !== undefined) owned.child.stdin?.end(input);
        return owned;
      }),
      [program, ...args].join(' ').slice(0, 600),
    );
    this.#live.add(child);
    void child.ended.then(() => this.#live.delete(child));
    return child;
  }

  /** Runs it to its end, whatever its exit status. */
  async finish(program: string, args: readonly string[], options: ChildOptions = {}) {
    return (await this.start(program, args, options)).finish(options.timeoutMs);
  }

  /** Runs it and answers what it printed; rejects unless it ended with 0. */
  async run(program: string, args: readonly string[], options: ChildOptions = {}) {
    return (await this.start(program, args, options)).succeed(options.timeoutMs);
  }

  /** A shell script; `$1` and so on are `args`. */
  async sh(script: string, args: readonly string[] = [], options: ChildOptions = {}) {
    return this.run('bash', ['-euo', 'pipefail', '-c', script, 'bash', ...args], options);
  }

  /** A Python program; `sys.argv[1:]` is `args`. */
  async python(program: string, args: readonly string[] = [], options: ChildOptions = {}) {
    return this.run(PYTHON, ['-c', program, ...args], options);
  }

  killAll(): void {
    for (const child of this.#live) child.killGroup();
  }
}
