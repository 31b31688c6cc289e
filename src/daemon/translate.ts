/**
 * The options as the user names them, in the words and units of the layers below.
 */
import type { Amount } from '../cache/space.ts';
import { whereDurable } from '../config/combinations.ts';
import type { MountSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import { hostAndPort, type MountOptions } from '../nfsc/index.ts';
import type { VfsOptions } from '../vfs/options.ts';

const MINUTE_MS = 60_000;
/** Registered for it (RFC 1813, section 2.1), and where nearly all servers listen. */
const NFS_PORT = 2049;

export function mountOptionsOf(source: MountSource, settings: Settings): MountOptions {
  return {
    server: source.server,
    exportPath: source.path,
    port: known(settings.port) ?? source.port,
    mountPort: known(settings.mountport),
    resvport: settings.resvport,
    rsize: settings.rsize,
    wsize: settings.wsize,
    timeoDeciseconds: settings.timeo,
    retrans: settings.retrans,
    hard: settings.hard,
    nconnect: settings.nconnect,
  };
}

export function vfsOptionsOf(settings: Settings, isRoot: boolean): Partial<VfsOptions> {
  const seconds = 1000;
  return {
    acregminMs: settings.acregmin * seconds,
    acregmaxMs: Math.max(settings.acregmin, settings.acregmax) * seconds,
    acdirminMs: settings.acdirmin * seconds,
    acdirmaxMs: Math.max(settings.acdirmin, settings.acdirmax) * seconds,
    attributeCaching: settings.ac,
    lookupcache: settings.lookupcache === 'pos' ? 'positive' : settings.lookupcache,
    readdirplus: settings.rdirplus,
    readOnly: settings.ro,
    session: settings.session,
    write: settings.write,
    fsync: whereDurable(settings),
    allowOther: settings.allow_other ?? isRoot,
  };
}

/** cachesize and cachefree, as the cache takes them. */
export function amountOf(value: Settings['cachesize']): Amount {
  return typeof value === 'number' ? { bytes: value } : { percent: Number(value.slice(0, -1)) };
}

/** `host:port` of a server that nobody has asked for its port: NFS's own unless one is named. */
export function assumedServer(source: MountSource, { port }: Settings): string {
  return hostAndPort(source.server, known(port) ?? source.port ?? NFS_PORT);
}

/** For how long a server that does not answer is asked again at mount time. */
export function retryLimitMs({ fg, retry }: Settings): number {
  return (retry ?? (fg ? 0 : 10_000)) * MINUTE_MS;
}

/** Port 0 is "ask the portmapper". */
function known(port: number): number | undefined {
  return port === 0 ? undefined : port;
}
