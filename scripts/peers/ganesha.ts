/**
 * A private nfs-ganesha: NFSv3 over TCP on 127.0.0.1, exporting one directory through FSAL_VFS.
 *
 * It runs as root in a mount namespace of its own, without systemd, D-Bus or rpcbind. A directory
 * of ours stands for /run there, with a stand-in for rpcbind's socket in it, so that the machine's
 * own rpcbind neither sees nor is needed by the server.
 *
 * - A server keeps its ports and its export through kill() and restart().
 * - The namespace holds no FUSE and no loop mount, but for the one that the export lies on: it would
 *   keep alive what is unmounted outside.
 * - Nothing outlives us: see owned-process.ts. stop() removes the state directory, and the export
 *   unless the caller gave it.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type OwnedProcess, spawnOwned } from './owned-process.ts';
import { freePorts } from './ports.ts';

export interface GaneshaOptions {
  /** The directory to export; a fresh one, removed at stop(), unless given. */
  exportDir?: string;
  /** Whose calls become anonymous ones (default: nobody's). */
  squash?: 'No_Root_Squash' | 'Root_Squash' | 'All_Squash';
  /** Default RW. */
  access?: 'RW' | 'RO';
  /** The uid and gid of anonymous callers (default 65534). */
  anonUid?: number;
  /** The export's largest READ and WRITE, bytes (default 1 MiB; what FSINFO offers). */
  maxRead?: number;
  maxWrite?: number;
  /** Serve only callers whose source port is below 1024 (default false). */
  privilegedPort?: boolean;
  /**
   * See at once what is changed in the directory behind its back; else nfs-ganesha believes the
   * attributes that it has for a minute (default false).
   */
  watchful?: boolean;
}

export interface Ganesha {
  readonly port: number;
  readonly mountPort: number;
  /** The name to mount: `127.0.0.1:${exportPath}`. */
  readonly exportPath: string;
  /** The exported directory, as the server itself sees it. */
  readonly directory: string;
  /** The server's process; another one after restart(). */
  readonly pid: number;
  /** Ends the server in order and removes its state. It may be called again. */
  stop(): Promise<void>;
  /** kill -9: what the server had not made durable is lost; its write verifier changes. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay, nobody answers. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same ports, after kill() or while it runs (which ends it first). */
  restart(): Promise<void>;
  /** What the server has logged. */
  log(): string;
}

/** Starts a server and resolves when both of its ports answer. Needs root. */
export async function startGanesha(options: GaneshaOptions = {}): Promise<Ganesha> {
  for (let attempt = 1; ; attempt++) {
    const state = mkdtempSync(join(tmpdir(), 'gvfs-ganesha-'));
    const server = new PrivateGanesha(state, options, await freePorts(4));
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.stop();
      // Somebody else may have taken a port between our look and the server's.
      if (attempt === 3) throw error;
    }
  }
}

/**
 * Becomes the server in a mount namespace made for it: $1 is our /run, $2 the exported directory, the
 * rest its command.
 */
const NAMESPACE_SCRIPT = `
set -eu
awk -v export="$2/" '($3 ~ /^fuse/ || $1 ~ /^\\/dev\\/loop/) && index(export, $2 "/") != 1 { print $2 }' \\
  /proc/self/mounts | tac |
  while read -r mount; do umount -lci "$(printf '%b' "$mount")" || true; done
mount --bind "$1" /run
shift 2
exec "$@"
`;

const STUB = fileURLToPath(new URL('rpcbind-stub.mjs', import.meta.url));
const START_LIMIT_MS = 20_000;

class PrivateGanesha implements Ganesha {
  readonly port: number;
  readonly mountPort: number;
  readonly exportPath = '/export';
  readonly directory: string;
  readonly #state: string;
  readonly #lastResort = () => {
    // Or it would go on writing what we remove.
    this.#server?.child.kill('SIGKILL');
    this.#removeState();
  };
  #portmapper: OwnedProcess | undefined;
  #server: OwnedProcess | undefined;

  constructor(state: string, options: GaneshaOptions, ports: readonly number[]) {
    const [port = 0, mountPort = 0, rquotaPort = 0, lockPort = 0] = ports;
    this.port = port;
    this.mountPort = mountPort;
    this.#state = state;
    this.directory = options.exportDir ?? join(state, 'export');
    chmodSync(state, 0o755); // squashed callers must get through
    mkdirSync(join(state, 'run', 'ganesha'), { recursive: true });
    mkdirSync(this.directory, { recursive: true });
    writeFileSync(
      join(state, 'ganesha.conf'),
      configuration(this.directory, this.exportPath, options, {
        NFS_Port: port,
        MNT_Port: mountPort,
        Rquota_Port: rquotaPort,
        NLM_Port: lockPort,
      }),
    );
    process.once('exit', this.#lastResort);
  }

  get pid(): number {
    if (this.#server === undefined) throw new Error('nfs-ganesha is not running');
    return this.#server.pid;
  }

  async start(): Promise<void> {
    this.#portmapper ??= await startPortmapper(join(this.#state, 'run', 'rpcbind.sock'));
    const path = (name: string) => join(this.#state, name);
    const command = ['ganesha.nfsd', '-F', '-f', path('ganesha.conf'), '-L', path('ganesha.log')];
    this.#server = await spawnOwned(
      'unshare',
      [
        ...['--mount', '--propagation', 'private', '--'],
        ...['bash', '-c', NAMESPACE_SCRIPT, 'ganesha', path('run'), this.directory],
        ...[...command, '-p', path('ganesha.pid')],
      ],
      { stdio: 'ignore' },
    );
    await this.#untilReady(this.#server);
  }

  async stop(): Promise<void> {
    await this.#server?.end('SIGTERM');
    this.#server = undefined;
    await this.#portmapper?.end('SIGKILL');
    this.#portmapper = undefined;
    process.off('exit', this.#lastResort);
    this.#removeState();
  }

  #removeState(): void {
    rmSync(this.#state, { recursive: true, force: true, maxRetries: 5 });
  }

  async kill(): Promise<void> {
    await this.#server?.end('SIGKILL');
    this.#server = undefined;
  }

  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  async restart(): Promise<void> {
    await this.#server?.end('SIGTERM');
    await this.start();
  }

  log(): string {
    try {
      return readFileSync(join(this.#state, 'ganesha.log'), 'utf8');
    } catch {
      return ''; // it ended before it could open its log
    }
  }

  async #untilReady(server: OwnedProcess): Promise<void> {
    const end = performance.now() + START_LIMIT_MS;
    while (!((await answers(this.port)) && (await answers(this.mountPort)))) {
      if (!server.alive() || performance.now() > end) {
        await server.end('SIGKILL');
        const last = this.log().split('\n').slice(-8).join('\n');
        throw new Error(`nfs-ganesha did not come up on port ${this.port}:\n${last}`);
      }
      await sleep(20);
    }
  }
}

/** The stand-in for rpcbind, listening on `socket`. */
async function startPortmapper(socket: string): Promise<OwnedProcess> {
  const portmapper = await spawnOwned(process.execPath, [STUB, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  await Promise.race([
    new Promise((ready) => portmapper.child.stdout?.once('data', ready)),
    portmapper.ended.then(({ code }) => {
      throw new Error(`the stand-in for rpcbind ended with ${code}`);
    }),
  ]);
  return portmapper;
}

/** Whether somebody accepts connections on the port. */
function answers(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** nfs-ganesha's configuration file; the names are those of ganesha-core-config(8). */
function configuration(
  directory: string,
  exportPath: string,
  options: GaneshaOptions,
  ports: Record<string, number>,
): string {
  const anonymous = options.anonUid ?? 65_534;
  return [
    block('NFS_CORE_PARAM', {
      ...ports,
      Protocols: 3,
      Bind_addr: '127.0.0.1',
      Enable_UDP: false,
      Enable_NLM: false,
      Enable_RQUOTA: false,
      mount_path_pseudo: true, // MNT takes the short name
    }),
    block('EXPORT', {
      Export_Id: 1,
      Path: `"${directory}"`,
      Pseudo: exportPath,
      Protocols: 3,
      Transports: 'TCP',
      Access_Type: options.access ?? 'RW',
      Squash: options.squash ?? 'No_Root_Squash',
      Anonymous_Uid: anonymous,
      Anonymous_Gid: anonymous,
      SecType: 'sys',
      Disable_ACL: true,
      PrivilegedPort: options.privilegedPort ?? false,
      Attr_Expiration_Time: options.watchful === true ? 0 : 60,
      MaxRead: options.maxRead ?? 1 << 20,
      MaxWrite: options.maxWrite ?? 1 << 20,
      FSAL: { Name: 'VFS' },
    }),
    block('LOG', { Default_Log_Level: 'EVENT' }),
  ].join('\n');
}

type Settings = { [key: string]: string | number | boolean | Settings };

function block(name: string, settings: Settings): string {
  const lines = Object.entries(settings).map(([key, value]) =>
    typeof value === 'object' ? block(key, value) : `${key} = ${value};`,
  );
  return `${name} {\n${lines.join('\n')}\n}`;
}
