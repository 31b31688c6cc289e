/**
 * A mount for tests: a private nfs-ganesha, the built `gvfs-mount` as a process of its own, and a
 * way out that always works.
 *
 * - The test process never touches the mountpoint: it looks at /proc/self/mountinfo, and children
 *   with a time limit do the rest.
 * - close() unmounts as a user would (fusermount3 -u) and asserts that the daemon ends with 0.
 *   Where that fails it kills the children, aborts the connection, unmounts lazily, and then says what
 *   went wrong. So does our exit: no test leaves a mount or a process behind.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Ganesha, type GaneshaOptions, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type OwnedProcess, spawnOwned } from '../../scripts/peers/owned-process.ts';
import '../exit-on-signals.ts';
import { Children } from './children.ts';
import { stopProcess } from './stopped.ts';

export interface MountOptions {
  /** For `-o`, beside the ports and the log. */
  options?: readonly string[];
  /** Where the disk cache lies: the maker's, to be removed by him. Default: nocache. */
  cacheDirectory?: string | undefined;
  /** The NFS port to use instead of the server's: that of a relay in front of it. */
  port?: number;
  /** What node is to run instead of the built `gvfs-mount`, its arguments following. */
  program?: readonly string[] | undefined;
}

export interface MountWithServerOptions extends MountOptions {
  server?: GaneshaOptions;
}

const GVFS_MOUNT = fileURLToPath(new URL('../../dist/cli/gvfs-mount.js', import.meta.url));

const START_LIMIT_MS = 30_000;
const END_LIMIT_MS = 20_000;

export class Mount {
  readonly server: Ganesha;
  readonly mountpoint: string;
  /** What the daemon logged and what it printed. */
  readonly logFile: string;
  readonly children = new Children();
  readonly #state: string;
  readonly #daemon: OwnedProcess;
  readonly #lastResort = () => {
    this.#daemon.child.kill('SIGKILL');
    this.#detach();
    this.#remove();
  };
  #closed = false;

  constructor(server: Ganesha, state: string, daemon: OwnedProcess) {
    this.server = server;
    this.mountpoint = join(state, 'mnt');
    this.logFile = join(state, 'log');
    this.#state = state;
    this.#daemon = daemon;
    process.once('exit', this.#lastResort);
  }

  get daemonPid(): number {
    return this.#daemon.pid;
  }

  /** The exported directory as the server sees it: what happens there, another client did. */
  get serverDirectory(): string {
    return this.server.directory;
  }

  daemonAlive(): boolean {
    return this.#daemon.alive();
  }

  log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8') : '';
  }

  /** Until the daemon says so: before that a signal interrupts the mounting, which is no end. */
  async untilMounted(): Promise<this> {
    const isReady = () => isMounted(this.mountpoint) && /\bmounted\b/.test(this.log());
    for (let waitedMs = 0; !isReady(); waitedMs += 20) {
      if (!this.#daemon.alive() || waitedMs > START_LIMIT_MS) {
        const log = this.log();
        await this.#forceOut();
        this.#remove();
        throw new Error(`gvfs-mount did not mount:\n${log}`);
      }
      await sleep(20);
    }
    return this;
  }

  /** Unmounts with fusermount3 and answers how the daemon ended; undefined: it still runs. */
  async unmount(limitMs = END_LIMIT_MS): Promise<number | undefined | null> {
    await execute('fusermount3', ['-u', this.mountpoint]);
    return this.daemonExit(limitMs);
  }

  /** How the daemon ended, waiting for it; undefined: it still runs after `limitMs`. */
  async daemonExit(limitMs = END_LIMIT_MS): Promise<number | undefined | null> {
    const stop = new AbortController();
    const status = await Promise.race([
      this.#daemon.ended,
      sleep(limitMs, undefined, { signal: stop.signal }).catch(() => undefined),
    ]);
    stop.abort();
    return status?.code;
  }

  /** Sends the daemon a signal. */
  signal(name: NodeJS.Signals): void {
    process.kill(this.#daemon.pid, name);
  }

  /** kill -9 of the daemon, and the dead mount is cleared away; nothing is asserted. */
  async crash(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#daemon.end('SIGKILL');
    await this.#forceOut();
    this.#remove();
  }

  /**
   * The host stops dead: the daemon where it is, then `cut` does what it does to its disk, and
   * nothing of the daemon runs any more.
   */
  async stopDead(cut: () => void): Promise<void> {
    const { pid } = this.#daemon;
    await stopProcess(pid);
    cut();
    process.kill(pid, 'SIGKILL');
    await this.crash();
  }

  /** Unmounts and asserts that the daemon ended well, nothing left. It may be called again. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.children.killAll();
      if (isMounted(this.mountpoint)) await this.#unmountPatiently();
      assert.equal(await this.daemonExit(), 0, `how the daemon ended; its log:\n${this.log()}`);
      assert.ok(!isMounted(this.mountpoint), 'still mounted though the daemon has ended');
    } finally {
      await this.#forceOut();
      this.#remove();
    }
  }

  /** A killed child may hold the mount a moment longer. */
  async #unmountPatiently(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await execute('fusermount3', ['-u', this.mountpoint]);
      } catch (error) {
        if (attempt === 50 || !isMounted(this.mountpoint)) throw error;
        await sleep(100);
      }
    }
  }

  async #forceOut(): Promise<void> {
    this.#detach();
    await this.#daemon.end('SIGKILL');
  }

  #detach(): void {
    this.children.killAll();
    abortConnection(this.mountpoint);
    unmountLazily(this.mountpoint);
  }

  #remove(): void {
    process.off('exit', this.#lastResort);
    // Not recursive through the mountpoint: a mount that is still there would be emptied.
    rmdirSync(this.mountpoint);
    rmSync(this.#state, { recursive: true, force: true });
  }
}

/** Mounts the server's export; needs root and a built `dist`. */
export async function mountExport(server: Ganesha, options: MountOptions = {}): Promise<Mount> {
  assert.ok(existsSync(GVFS_MOUNT), 'not built: npm run build');
  const state = mkdtempSync(join(tmpdir(), 'gvfs-mount-'));
  execFileSync('chmod', ['755', state]); // other users must get through
  mkdirSync(join(state, 'mnt'));
  const logFile = join(state, 'log');
  const all = [
    `port=${options.port ?? server.port}`,
    `mountport=${server.mountPort}`,
    `log=${logFile}`,
    options.cacheDirectory === undefined ? 'nocache' : `cachedir=${options.cacheDirectory}`,
    ...(options.options ?? []),
  ];
  const output = openSync(logFile, 'a');
  try {
    const daemon = await spawnOwned(
      process.execPath,
      [
        ...(options.program ?? [GVFS_MOUNT]),
        ...['-f', '-o', all.join(',')],
        ...[`127.0.0.1:${server.exportPath}`, join(state, 'mnt')],
      ],
      { stdio: ['ignore', output, output], env: { ...process.env, NODE_OPTIONS: '' } },
    );
    return await new Mount(server, state, daemon).untilMounted();
  } finally {
    closeSync(output);
  }
}

/** Runs `body` with a fresh export, mounted; both are gone afterwards, whatever happened. */
export async function withMount(
  options: MountWithServerOptions,
  body: (mount: Mount) => Promise<void>,
): Promise<void> {
  const server = await startGanesha(options.server);
  try {
    const mount = await mountExport(server, options);
    try {
      await body(mount);
    } catch (error) {
      // What close() finds is most likely a consequence: the first failure is told.
      await mount.close().catch(() => undefined);
      throw error;
    }
    await mount.close();
  } finally {
    await server.stop();
  }
}

/** Whether something is mounted exactly there; asks the kernel's table, not the mount. */
export function isMounted(mountpoint: string): boolean {
  return mountLine(mountpoint) !== undefined;
}

/** The fields of mountinfo (proc(5)): the third is the device, the fifth the mountpoint. */
function mountLine(mountpoint: string): string[] | undefined {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find((fields) => fields[4] === mountpoint);
}

/** Ends the FUSE connection for the kernel: everyone who waits gets ENOTCONN. */
function abortConnection(mountpoint: string): void {
  const [, connection] = mountLine(mountpoint)?.[2]?.split(':') ?? [];
  if (connection === undefined) return;
  const control = '/sys/fs/fuse/connections';
  try {
    if (!existsSync(join(control, connection))) {
      execFileSync('mount', ['-t', 'fusectl', 'fusectl', control], { stdio: 'ignore' });
    }
    writeFileSync(join(control, connection, 'abort'), '1');
  } catch {
    // it is gone already
  }
}

function unmountLazily(mountpoint: string): void {
  for (let depth = 0; isMounted(mountpoint) && depth < 3; depth++) {
    execFileSync('umount', ['-l', '-i', mountpoint], { stdio: 'ignore', timeout: 10_000 });
  }
}

/** A program that is not expected to touch the mount, but may wait for the daemon. */
function execute(program: string, args: readonly string[]): Promise<void> {
  return new Promise((done, fail) => {
    execFile(program, args, { timeout: 30_000 }, (error, _stdout, stderr) => {
      if (error === null) done();
      else fail(new Error(`${program} ${args.join(' ')}: ${stderr || error.message}`));
    });
  });
}
