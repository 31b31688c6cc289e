/**
 * One place to measure: an image server with its files, a link to it, and what is mounted over that
 * link. The server's own directory is the limit that everything is compared with.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ganesha, startGanesha } from '../peers/ganesha.ts';
import { type Relay, type RelayCounters, startRelay } from '../relay/start-relay.ts';

export interface LinkShape {
  readonly name: string;
  readonly rttMs: number;
  /** 0: as fast as it goes. */
  readonly mbit: number;
}

export const links: readonly LinkShape[] = [
  { name: 'loopback', rttMs: 0, mbit: 0 },
  { name: 'lan', rttMs: 1, mbit: 1000 },
  { name: 'wan', rttMs: 35, mbit: 100 },
];

export function linkNamed(name: string): LinkShape {
  const link = links.find((each) => each.name === name);
  if (link === undefined) throw new Error(`there is no link ${name}`);
  return link;
}

/** How a client reaches the server: both ports of it, through the link. */
export interface Route {
  readonly port: number;
  readonly mountPort: number;
}

export type Transport = 'native' | 'fuse-native';

export interface Mount {
  readonly directory: string;
  /** From the start of the command to its return: the mount answers then. */
  readonly mountMs: number;
  /** The daemon's largest resident set so far, bytes. */
  peakResidentBytes(): number;
  /** Returns when the daemon has ended, too. */
  unmount(): void;
}

export const IMAGE = 'image.raw';
export const SCRATCH = 'scratch.raw';
const LISTED_FILES = 1000;
const PAUSE_MS = 20;
const END_LIMIT_MS = 60_000;

export class Site {
  readonly server: Ganesha;
  readonly link: LinkShape;
  readonly route: Route;
  readonly imageBytes: number;
  readonly #relays: Relay[];
  #listings = 0;

  static async open(link: LinkShape, imageBytes: number): Promise<Site> {
    const server = await startGanesha();
    makeFile(join(server.directory, IMAGE), imageBytes);
    makeFile(join(server.directory, SCRATCH), 64 << 20);
    const relays: Relay[] = [];
    let route: Route = server;
    if (link.mbit > 0) {
      const shape = { rttMs: link.rttMs, mbit: link.mbit };
      const nfs = await startRelay({ ...shape, to: { port: server.port } });
      const mount = await startRelay({ ...shape, to: { port: server.mountPort } });
      relays.push(nfs, mount);
      route = { port: nfs.port, mountPort: mount.port };
    }
    return new Site(server, link, route, imageBytes, relays);
  }

  private constructor(
    server: Ganesha,
    link: LinkShape,
    route: Route,
    imageBytes: number,
    relays: Relay[],
  ) {
    this.server = server;
    this.link = link;
    this.route = route;
    this.imageBytes = imageBytes;
    this.#relays = relays;
  }

  /** A directory of small files that no client has seen before; relative to the export. */
  freshListing(): string {
    const name = `listing-${this.#listings++}`;
    const home = join(this.server.directory, name);
    mkdirSync(home);
    for (let at = 0; at < LISTED_FILES; at++) writeFileSync(join(home, `file-${at}`), '');
    return name;
  }

  /** Reads the images on the server, so that its disk is no part of a client's figure. */
  warmServer(): void {
    for (const name of [IMAGE, SCRATCH]) {
      execFileSync('dd', [`if=${join(this.server.directory, name)}`, 'of=/dev/null', 'bs=1M'], {
        stdio: 'ignore',
      });
    }
  }

  /** `options` as behind -o; without any it is the mode that keeps nothing. */
  mount(transport: Transport, options: readonly string[] = ['nocache']): Mount {
    const directory = mkdtempSync(join(tmpdir(), 'gvfs-bench-'));
    const { port, mountPort } = this.route;
    const all = [`port=${port},mountport=${mountPort},log=/dev/null`, ...options].join();
    const source = `127.0.0.1:${this.server.exportPath}`;
    const began = performance.now();
    const command = [COMMAND, `--transport=${transport}`, '-o', all, source, directory];
    const { status, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the mount failed (${status}): ${stderr}`);
    const mountMs = performance.now() - began;
    const pid = daemonOf(directory);
    return {
      directory,
      mountMs,
      peakResidentBytes: () => peakResidentBytes(pid),
      unmount: () => {
        execFileSync('fusermount3', ['-u', directory]);
        untilEnded(pid);
        rmdirSync(directory);
      },
    };
  }

  /** What has crossed the shaped link to the client so far, both ports; 0 where there is no relay. */
  async bytesToClient(): Promise<number> {
    return (await this.#counters()).reduce((sum, { bytesToClient }) => sum + bytesToClient, 0);
  }

  /** The same the other way. */
  async bytesToServer(): Promise<number> {
    return (await this.#counters()).reduce((sum, { bytesToServer }) => sum + bytesToServer, 0);
  }

  async close(): Promise<void> {
    for (const relay of this.#relays) await relay.stop();
    await this.server.stop();
  }

  #counters(): Promise<RelayCounters[]> {
    return Promise.all(this.#relays.map((relay) => relay.counters()));
  }
}

const COMMAND = fileURLToPath(new URL('../../dist/cli/gvfs-mount.js', import.meta.url));

/** Incompressible, and in the server's page cache, so that its disk is no part of a figure. */
function makeFile(path: string, bytes: number): void {
  execFileSync('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', `count=${bytes / 2 ** 20}`], {
    stdio: 'ignore',
  });
}

function daemonOf(directory: string): number {
  const [pid] = execFileSync('pgrep', ['-f', `gvfs-mount.*${directory}`], { encoding: 'utf8' })
    .trim()
    .split('\n');
  if (!pid) throw new Error(`no daemon serves ${directory}`);
  return Number(pid);
}

function untilEnded(pid: number): void {
  for (let waitedMs = 0; existsSync(`/proc/${pid}`); waitedMs += PAUSE_MS) {
    if (waitedMs > END_LIMIT_MS) throw new Error(`the daemon ${pid} does not end`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
  }
}

function peakResidentBytes(pid: number): number {
  const status = execFileSync('cat', [`/proc/${pid}/status`], { encoding: 'utf8' });
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
}
