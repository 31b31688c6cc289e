/**
 * From `server:/export` to a root handle and a connection: portmapper, mountd, FSINFO.
 *
 * Every step is bounded: the first connection that cannot be made, or `mountTimeoutMs` without an
 * answer, ends the mount with an error that says which of the three servers it was.
 */

import { assert } from '../base/assert.ts';
import type { FileHandle } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import {
  fsinfoMountError,
  type MountError,
  otherMountError,
  rpcMountError,
  statusMountError,
} from './mount-error.ts';
import {
  dump,
  type ExportNode,
  exportList,
  MNTPATHLEN,
  MOUNT_PROGRAM,
  MOUNT_VERSION,
  type MountBody,
  mnt,
  umnt,
} from './mount3.ts';
import { fsinfo, NFS_PROGRAM, NFS_VERSION, nullProcedure } from './nfs3/procedures.ts';
import type { FsinfoOk3 } from './nfs3/types.ts';
import { getPort, PORTMAPPER_PORT } from './portmap.ts';
import { AuthFlavor, type AuthFlavorName } from './rpc/auth.ts';
import { BufferPool } from './rpc/buffer-pool.ts';
import type { SourcePort } from './rpc/dial.ts';
import type { Procedure, Reply } from './rpc/procedure.ts';
import { MAX_CONNECTIONS, Transport } from './rpc/transport.ts';

/** How to reach a server's mountd: what listing its exports takes. */
export interface ServerOptions {
  /** A name or an address, without brackets. */
  readonly server: string;
  /** mountd's port; the portmapper is asked unless it is given. */
  readonly mountPort?: number | undefined;
  /** Default 111. */
  readonly portmapperPort?: number | undefined;
  /** True: a source port below 1024 or none; false: any; default: below 1024 where allowed. */
  readonly resvport?: boolean | undefined;
  /** Bounds each step of a mount; default 30 s. */
  readonly mountTimeoutMs?: number | undefined;
  /** In whose name MNT and FSINFO are asked; default the process's own. */
  readonly as?: Credentials | undefined;
}

/** As mount.nfs has them (nfs(5)). */
export interface MountOptions extends ServerOptions {
  readonly exportPath: string;
  /** The NFS port; the portmapper is asked unless it is given. */
  readonly port?: number | undefined;
  /** The most bytes in a READ and in a WRITE; 1 MiB, and the server's limit, at most. */
  readonly rsize?: number | undefined;
  readonly wsize?: number | undefined;
  /** The first time-out in tenths of a second (default 600), and how many follow (default 2). */
  readonly timeoDeciseconds?: number | undefined;
  readonly retrans?: number | undefined;
  /** True (default): calls wait for a silent server for ever. False (soft): they fail. */
  readonly hard?: boolean | undefined;
  /** Connections, 1 (default) to 16. */
  readonly nconnect?: number | undefined;
}

export interface MountedExport extends Reached {
  readonly transport: Transport;
  readonly fsinfo: FsinfoOk3;
  /** What FSINFO took. */
  readonly roundTripMs: number;
}

/** What portmapper and mountd have told. */
export interface Reached {
  readonly root: FileHandle;
  /** The NFS port, and mountd's. */
  readonly port: number;
  readonly mountPort: number;
  readonly flavor: AuthFlavorName;
}

const DEFAULT_MOUNT_TIMEOUT_MS = 30_000;

export async function mountExport(
  options: MountOptions,
): Promise<Result<MountedExport, MountError>> {
  const fault = faultOf(options);
  if (fault !== undefined) {
    return err(otherMountError({ kind: 'options' }, 'EINVAL', 'LOCAL', `mount: ${fault}`));
  }
  const ports = await portsOf(options, ['nfs', 'mountd']);
  if (!ports.ok) return ports;
  const { nfs: port, mountd: mountPort } = ports.value;
  const { server: host } = options;
  const transport = openTransport(options, port);
  transport.connectAhead();
  const mounted = await askForRoot(options, mountPort);
  if (!mounted.ok) {
    transport.close();
    return mounted;
  }
  const { root, flavor } = mounted.value;
  transport.flavor = flavor;
  const startMs = performance.now();
  const answer = await transport.call(fsinfo, credentialsOf(options), { file: root });
  const roundTripMs = performance.now() - startMs;
  const { localPort } = transport;
  if (!answer.ok) {
    transport.close();
    return err(rpcMountError(answer.error, { service: 'nfs', host, port, localPort }));
  }
  const reply = answer.value;
  if (reply.status !== 'NFS3_OK') {
    transport.close();
    return err(fsinfoMountError(reply.status));
  }
  makePatient(transport, options);
  return ok({ transport, root, fsinfo: reply.ok, roundTripMs, port, mountPort, flavor });
}

/** The way to a server that was reached before, and need not be there now. */
export function resumeExport(options: MountOptions, { port, flavor }: Reached): Transport {
  const transport = openTransport(options, port);
  transport.flavor = flavor;
  makePatient(transport, options);
  return transport;
}

/** UMNT: tells the server to strike us off its list. It keeps nothing else of a mount. */
export async function unmountExport(
  options: MountOptions,
  mountPort: number,
): Promise<Result<void, MountError>> {
  const path = Buffer.from(options.exportPath);
  const answer = await askMountd(options, mountPort, umnt, path);
  return answer.ok ? ok(undefined) : answer;
}

/** EXPORT: what the server offers. */
export async function listExports(
  options: ServerOptions,
): Promise<Result<readonly ExportNode[], MountError>> {
  const ports = await portsOf(options, ['mountd']);
  if (!ports.ok) return ports;
  const answer = await askMountd(options, ports.value.mountd, exportList, undefined);
  return answer.ok ? ok(answer.value.reply.entries) : answer;
}

/** DUMP: who has mounted what, as far as the server remembers. */
export async function listMounts(
  options: ServerOptions,
): Promise<Result<readonly MountBody[], MountError>> {
  const ports = await portsOf(options, ['mountd']);
  if (!ports.ok) return ports;
  const answer = await askMountd(options, ports.value.mountd, dump, undefined);
  return answer.ok ? ok(answer.value.reply.entries) : answer;
}

// ---- Steps --------------------------------------------------------------------------------------

function faultOf({ exportPath, nconnect = 1, timeoDeciseconds = 600, retrans = 2 }: MountOptions) {
  const pathBytes = Buffer.byteLength(exportPath);
  if (!exportPath.startsWith('/')) return `the export's path does not start with '/'`;
  if (pathBytes > MNTPATHLEN) return `the export's path is longer than ${MNTPATHLEN} bytes`;
  if (!(nconnect >= 1 && nconnect <= MAX_CONNECTIONS)) return 'nconnect is 1 to 16';
  if (!(timeoDeciseconds > 0)) return 'timeo is a positive number';
  if (!(retrans >= 0)) return 'retrans is not negative';
  return undefined;
}

type Ports<S extends string> = Record<S, number>;

/** The ports that the options name, and from the portmapper those that they do not. */
async function portsOf<S extends 'nfs' | 'mountd'>(
  options: ServerOptions & { readonly port?: number | undefined },
  services: readonly S[],
): Promise<Result<Ports<S>, MountError>> {
  const given = { nfs: options.port, mountd: options.mountPort };
  const ports: Partial<Record<S, number>> = {};
  const missing: S[] = [];
  for (const service of services) {
    const port = given[service];
    if (port === undefined || port === 0) missing.push(service);
    else ports[service] = port;
  }
  if (missing.length === 0) return ok(ports as Ports<S>);

  const { server: host, portmapperPort: port = PORTMAPPER_PORT } = options;
  // The portmapper serves any source port, and those below 1024 are scarce.
  const transport = new Transport({ ...common(options), host, port, sourcePort: 'any' });
  try {
    const asked = missing.map((service) =>
      transport.call(getPort, credentialsOf(options), programs[service]),
    );
    for (const [index, service] of missing.entries()) {
      const answer = await asked[index];
      assert(answer !== undefined, 'a call for each service');
      if (!answer.ok) {
        const { localPort } = transport;
        return err(rpcMountError(answer.error, { service: 'portmapper', host, port, localPort }));
      }
      if (answer.value.port === 0) return err(notRegistered(host, service));
      ports[service] = answer.value.port;
    }
    return ok(ports as Ports<S>);
  } finally {
    transport.close();
  }
}

const programs = {
  nfs: { program: NFS_PROGRAM, version: NFS_VERSION },
  mountd: { program: MOUNT_PROGRAM, version: MOUNT_VERSION },
} as const;

function notRegistered(host: string, service: 'nfs' | 'mountd'): MountError {
  const message = `portmapper: ${host} has no ${service}, version 3, over TCP`;
  const detail = { kind: 'notRegistered', service } as const;
  return otherMountError(detail, 'ECONNREFUSED', 'RPC_UNREACHABLE', message);
}

async function askForRoot(
  options: MountOptions,
  mountPort: number,
): Promise<Result<{ root: FileHandle; flavor: AuthFlavorName }, MountError>> {
  const answer = await askMountd(options, mountPort, mnt, Buffer.from(options.exportPath));
  if (!answer.ok) return answer;
  const { reply, localPort } = answer.value;
  if (reply.status !== 'MNT3_OK') return err(statusMountError(reply.status, localPort));
  const { root, flavors } = reply;
  if (flavors.length === 0 || flavors.includes(AuthFlavor.AUTH_SYS)) {
    return ok({ root, flavor: 'AUTH_SYS' });
  }
  if (flavors.includes(AuthFlavor.AUTH_NONE)) return ok({ root, flavor: 'AUTH_NONE' });
  const message = `mountd: the server wants authentication that we lack (${flavors.join(', ')})`;
  return err(
    otherMountError({ kind: 'noFlavor', offered: flavors }, 'EACCES', 'RPC_DENIED', message),
  );
}

/** One call on a connection of its own: mountd is asked twice in a mount's life. */
async function askMountd<Args, R extends Reply>(
  options: ServerOptions,
  port: number,
  procedure: Procedure<Args, R>,
  args: Args,
): Promise<Result<{ reply: R; localPort: number | undefined }, MountError>> {
  const { server: host } = options;
  const transport = new Transport({ ...common(options), host, port });
  try {
    const answer = await transport.call(procedure, credentialsOf(options), args);
    const { localPort } = transport;
    if (answer.ok) return ok({ reply: answer.value, localPort });
    return err(rpcMountError(answer.error, { service: 'mountd', host, port, localPort }));
  } finally {
    transport.close();
  }
}

function openTransport(options: MountOptions, port: number): Transport {
  const { server: host, timeoDeciseconds, retrans, nconnect: connections } = options;
  const patience = 'mounting';
  const probe = nullProcedure;
  return new Transport(
    { ...common(options), host, port, timeoDeciseconds, retrans, connections, patience, probe },
    new BufferPool(),
  );
}

function makePatient(transport: Transport, { hard = true }: MountOptions): void {
  transport.setPatience(hard ? 'hard' : 'soft');
}

function common({ resvport, mountTimeoutMs = DEFAULT_MOUNT_TIMEOUT_MS }: ServerOptions) {
  const sourcePort: SourcePort = resvport === undefined ? 'auto' : resvport ? 'privileged' : 'any';
  return { sourcePort, mountTimeoutMs, patience: 'mounting' } as const;
}

function credentialsOf({ as }: ServerOptions): Credentials {
  if (as !== undefined) return as;
  const gid = process.getgid?.() ?? 0;
  const groups = process.getgroups?.() ?? [];
  return { uid: process.getuid?.() ?? 0, gid, groups: groups.filter((group) => group !== gid) };
}
