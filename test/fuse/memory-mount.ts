/**
 * A `memory-server.ts` process with its mountpoint, and children that use the mount. This process
 * itself never touches it. `destroy` cleans up whatever state things are in, and so does our exit.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmdirSync } from 'node:fs';
import { mkdtemp, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import '../exit-on-signals.ts';

const SERVER = fileURLToPath(new URL('./memory-server.ts', import.meta.url));
/** A child that takes longer hangs, and is killed. */
const CHILD_LIMIT_MS = 30_000;

export interface ServerStatus {
  readonly passthrough: string;
  /** READs of `local` that came to the server. */
  readonly localReads: number;
  readonly waiting: readonly { operation: string; ino: number; ageMs: number }[];
  /** How many answers the histograms know of, by operation. */
  readonly answered: Record<string, number>;
}

export interface ServerLine extends Partial<ServerStatus> {
  readonly failed?: number;
  readonly mounted?: { readonly protocol: string; readonly readAheadKib?: number };
  readonly error?: { readonly code: string; readonly message: string };
  readonly unmount?: { readonly ok: boolean; readonly error?: { readonly code: string } };
  readonly done?: string;
  readonly end?: { readonly reason: string; readonly error?: string };
  readonly counters?: Record<string, number>;
  readonly held?: { readonly nodes: number; readonly handles: number; readonly replies: number };
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A fresh directory below the system's temporary one, with `mnt` in it. */
export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'gvfs-fuse-'));
}

/** Runs a program to its end, or kills it after a time limit. */
export function run(program: string, args: readonly string[], cwd?: string): Promise<Ran> {
  return new Promise((done) => {
    const options = {
      cwd,
      timeout: CHILD_LIMIT_MS,
      killSignal: 'SIGKILL',
      maxBuffer: 2 ** 26,
    } as const;
    const child = execFile(program, args, options, (_error, stdout, stderr) => {
      done({ status: child.exitCode, stdout, stderr });
    });
  });
}

export class MemoryMount {
  readonly mountpoint: string;
  readonly server: ChildProcess;
  readonly exited: Promise<number | null>;
  readonly #lines: AsyncIterator<string>;
  readonly #lastResort = () => {
    this.server.kill('SIGKILL');
    if (!readFileSync('/proc/self/mounts', 'utf8').includes(` ${this.mountpoint} `)) return;
    execFileSync('umount', ['-l', '-i', this.mountpoint], { stdio: 'ignore', timeout: 10_000 });
    rmdirSync(this.mountpoint);
  };
  #stderr = '';

  /** `wrap`: a command that runs the server's command line, which is appended to it. */
  constructor(mountpoint: string, settings: object = {}, wrap: readonly string[] = []) {
    this.mountpoint = mountpoint;
    const command = [
      ...wrap,
      process.execPath,
      '--import',
      import.meta.resolve('tsx'),
      SERVER,
      mountpoint,
      JSON.stringify(settings),
    ];
    const [program = '', ...args] = command;
    this.server = spawn(program, args, { stdio: 'pipe' });
    process.once('exit', this.#lastResort);
    this.server.stderr?.on('data', (chunk) => {
      this.#stderr += chunk;
    });
    this.exited = once(this.server, 'exit').then(([code]) => code as number | null);
    this.#lines = createInterface({ input: this.server.stdout as NodeJS.ReadableStream })[
      Symbol.asyncIterator
    ]();
  }

  /** The server's next line. */
  async line(): Promise<ServerLine> {
    const next = await this.#lines.next();
    if (next.done) throw new Error(`the server has nothing to say: ${this.#stderr}`);
    return JSON.parse(next.value) as ServerLine;
  }

  /** A shell in the mount's root: its output, or an error with what it said. */
  async sh(script: string): Promise<string> {
    return mustRun(await run('sh', ['-exc', script], this.mountpoint));
  }

  async python(script: string): Promise<string> {
    // -I: or it would list its working directory, which makes the kernel know all names.
    return mustRun(await run('python3', ['-I', '-c', script], this.mountpoint));
  }

  /** Gives the server an order; its answer is its next line. */
  order(order: string): void {
    this.server.stdin?.write(`${order}\n`);
  }

  async status(): Promise<ServerStatus> {
    this.order('status');
    const { passthrough = '', localReads = 0, waiting = [], answered = {} } = await this.line();
    return { passthrough, localReads, waiting, answered };
  }

  /** Unmounts from outside and waits for the server's last words and exit status. */
  async finish(): Promise<{ status: number | null; last: ServerLine }> {
    mustRun(await run('fusermount3', ['-u', this.mountpoint]));
    return this.last();
  }

  async last(): Promise<{ status: number | null; last: ServerLine }> {
    let last = await this.line();
    while (last.end === undefined) last = await this.line();
    return { status: await this.exited, last };
  }

  /** Whatever happened: no server, no mount, no directory. */
  async destroy(): Promise<void> {
    if (this.server.exitCode === null && this.server.signalCode === null) {
      this.server.kill('SIGKILL');
      await this.exited;
    }
    await run('umount', ['-l', this.mountpoint]); // fails where nothing is mounted
    process.off('exit', this.#lastResort);
    await rmdir(this.mountpoint).catch(() => undefined);
  }
}

/** A served mount in a temporary folder; cleaned up after the test. */
export async function mountMemory(
  t: { after(fn: () => Promise<void>): void },
  settings: object = {},
): Promise<MemoryMount> {
  const folder = await temporaryFolder();
  const mount = new MemoryMount(folder, settings);
  t.after(async () => {
    await mount.destroy();
    await rm(folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
  });
  const line = await mount.line();
  if (line.mounted === undefined) throw new Error(`not mounted: ${JSON.stringify(line.error)}`);
  return mount;
}

function mustRun({ status, stdout, stderr }: Ran): string {
  if (status !== 0) throw new Error(`status ${status}: ${stderr}${stdout}`);
  return stdout;
}
