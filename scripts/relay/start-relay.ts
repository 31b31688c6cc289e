/**
 * An emulated link between two TCP ends: a relay process with delay and bandwidth (see relay.cpp).
 *
 * It is a process of its own, so that neither the caller's event loop nor its garbage collector
 * is part of the link, and it ends when the caller does.
 */
import { execFileSync } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type OwnedProcess, spawnOwned } from '../peers/owned-process.ts';

export interface RelayOptions {
  /** Where connections go. */
  to: { host?: string; port: number };
  /** Where to listen (default: 127.0.0.1, a free port). */
  listen?: { host?: string; port?: number };
  /** Round-trip time that the link adds, milliseconds; half of it each way (default 0). */
  rttMs?: number;
  /** Payload bandwidth each way, 10^6 bits a second, shared by all connections (default: any). */
  mbit?: number;
}

/** What has been delivered since the start; counted where bytes leave the relay. */
export interface RelayCounters {
  bytesToServer: number;
  bytesToClient: number;
  connections: number;
  openConnections: number;
}

export interface Relay {
  readonly host: string;
  readonly port: number;
  counters(): Promise<RelayCounters>;
  /** A dead network: nothing is forwarded or accepted, nothing is closed. */
  cut(): Promise<void>;
  /** Ends cut(); what waited goes on, nothing was lost. */
  restore(): Promise<void>;
  /** Resets all connections; new ones are accepted. */
  drop(): Promise<void>;
  /** Ends the relay; its connections are reset, new ones refused. It may be called again. */
  stop(): Promise<void>;
}

/** Starts a relay and resolves when it listens. Compiles it first when that is due (needs g++). */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const { to, rttMs = 0, mbit = 0 } = options;
  const host = options.listen?.host ?? '127.0.0.1';
  const program = execFileSync(BUILD, { encoding: 'utf8' }).trim();
  const child = await spawnOwned(
    program,
    [
      ...[host, options.listen?.port ?? 0],
      ...[to.host ?? '127.0.0.1', to.port],
      ...[Math.round((rttMs / 2) * 1e6), Math.round(mbit * 125_000)],
    ].map(String),
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  return new RelayProcess(child, host).ready();
}

const BUILD = fileURLToPath(new URL('build', import.meta.url));

class RelayProcess implements Relay {
  readonly host: string;
  port = 0;
  readonly #process: OwnedProcess;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(child: OwnedProcess, host: string) {
    const { stdout } = child.child;
    if (!stdout) throw new Error('the relay has no standard output');
    this.host = host;
    this.#process = child;
    this.#lines = createInterface({ input: stdout });
    this.#lines.on('line', (line) => this.#waiting.shift()?.(line));
    child.child.stdin?.on('error', () => undefined); // it has ended: the caller sees that by #line
  }

  async ready(): Promise<this> {
    this.port = Number((await this.#line()).replace('listening ', ''));
    return this;
  }

  async counters(): Promise<RelayCounters> {
    return this.#tell('counters');
  }

  async cut(): Promise<void> {
    await this.#tell('cut');
  }

  async restore(): Promise<void> {
    await this.#tell('restore');
  }

  async drop(): Promise<void> {
    await this.#tell('drop');
  }

  async stop(): Promise<void> {
    await this.#process.end('SIGKILL'); // the kernel resets its sockets
    this.#lines.close();
  }

  /** Every command is answered by the counters, in order. */
  async #tell(command: string): Promise<RelayCounters> {
    this.#process.child.stdin?.write(`${command}\n`);
    const [bytesToServer = 0, bytesToClient = 0, connections = 0, openConnections = 0] = (
      await this.#line()
    )
      .split(' ')
      .map(Number);
    return { bytesToServer, bytesToClient, connections, openConnections };
  }

  #line(): Promise<string> {
    return Promise.race([
      new Promise<string>((done) => this.#waiting.push(done)),
      this.#process.ended.then(({ code, signal }) => {
        throw new Error(`the relay has ended (${signal ?? code})`);
      }),
    ]);
  }
}
