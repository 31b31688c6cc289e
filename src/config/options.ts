/**
 * The one table of mount options: from it come the parser, the types, --help and docs/OPTIONS.md.
 *
 * Names, units and defaults are mount.nfs's (nfs(5)) wherever it has the option. Every option is
 * given with -o; `flag` is its long spelling on gvfs-mount's command line, where it has one.
 * An option that is given again counts as it was given last, as with mount(8).
 */
import type { ValueKind, ValueOf } from './value-kind.ts';

export type OptionGroup = 'server' | 'cache' | 'attributes' | 'mount' | 'log';

export interface OptionSpec {
  readonly group: OptionGroup;
  readonly value: ValueKind;
  /** The value when it is not given; undefined where `defaultWords` says how it is chosen. */
  readonly default: number | string | boolean | undefined;
  readonly defaultWords?: string;
  /** Other names for the same option. */
  readonly also?: readonly string[];
  /** The long flag, with its dashes. */
  readonly flag?: string;
  /** Another value than the default takes effect for root only. */
  readonly rootOnly?: true;
  /** Values that are accepted and change nothing, with the reason. */
  readonly withoutEffect?: Readonly<Record<string, string>>;
  /** One sentence, without a full stop at its end. */
  readonly doc: string;
}

const seconds = { kind: 'integer', min: 0, max: 86_400, unit: 'seconds' } as const;
const port = { kind: 'integer', min: 0, max: 65_535 } as const;
const transferSize = { kind: 'size', min: 4096, max: 1 << 20, multiple: 4096 } as const;
const nearestSize =
  '4K to 1M in steps of 4K; other sizes are taken as the nearest of these, ' +
  'and the server may allow less';
const onlyTcp = {
  kind: 'choice',
  choices: ['tcp', 'tcp6'],
  otherwise: 'tcp, the only transport that gvfs speaks',
} as const;
const tcp6 = { tcp6: "the server's address decides between IPv4 and IPv6" } as const;
const onlyVersion3 = {
  kind: 'choice',
  choices: ['3'],
  otherwise: '3, the only NFS version that gvfs speaks, or leave the option out',
} as const;

export const optionTable = {
  vers: {
    group: 'server',
    value: onlyVersion3,
    default: '3',
    also: ['nfsvers'],
    doc: 'NFS version',
  },
  mountvers: { group: 'server', value: onlyVersion3, default: '3', doc: 'MOUNT version' },
  proto: {
    group: 'server',
    value: onlyTcp,
    default: 'tcp',
    withoutEffect: tcp6,
    doc: "Transport of NFS; tcp6 is tcp: the server's address decides between IPv4 and IPv6",
  },
  mountproto: {
    group: 'server',
    value: onlyTcp,
    default: 'tcp',
    withoutEffect: tcp6,
    doc: 'Transport of MOUNT; tcp6 is tcp',
  },
  port: {
    group: 'server',
    value: port,
    default: 0,
    doc: 'TCP port of the NFS service; 0 asks the portmapper',
  },
  mountport: {
    group: 'server',
    value: port,
    default: 0,
    doc: 'TCP port of the MOUNT service; 0 asks the portmapper',
  },
  sec: {
    group: 'server',
    value: {
      kind: 'choice',
      choices: ['sys'],
      otherwise: 'sys, the only security flavour that gvfs speaks: it has no Kerberos',
    },
    default: 'sys',
    doc: 'Security flavour: user and group ids as the client states them',
  },
  hard: {
    group: 'server',
    value: { kind: 'switch', off: 'soft', offAlso: ['softerr'] },
    default: true,
    doc:
      'While the server is away: hard waits for it, soft fails with EIO after the retries ' +
      '(softerr is soft: EIO, not ETIMEDOUT)',
  },
  timeo: {
    group: 'server',
    value: { kind: 'integer', min: 1, max: 60_000, unit: 'tenths of a second' },
    default: 600,
    doc: 'Time to wait for an answer before the request is sent again',
  },
  retrans: {
    group: 'server',
    value: { kind: 'integer', min: 0, max: 100 },
    default: 2,
    doc: 'How often a request is sent again before the server counts as not responding',
  },
  rsize: {
    group: 'server',
    value: transferSize,
    default: 1 << 20,
    doc: `Most bytes in one READ, ${nearestSize}`,
  },
  wsize: {
    group: 'server',
    value: transferSize,
    default: 1 << 20,
    doc: `Most bytes in one WRITE, ${nearestSize}`,
  },
  nconnect: {
    group: 'server',
    value: { kind: 'integer', min: 1, max: 16 },
    default: 1,
    doc: 'Number of TCP connections to the server',
  },
  rdirplus: {
    group: 'server',
    value: { kind: 'switch', off: 'nordirplus' },
    default: true,
    doc: 'Read attributes together with the names of a directory (READDIRPLUS)',
  },
  resvport: {
    group: 'server',
    value: { kind: 'switch', off: 'noresvport' },
    default: undefined,
    defaultWords: 'on where the user may',
    doc: 'Connect from a port below 1024, which many servers insist on',
  },
  fg: {
    group: 'server',
    value: { kind: 'switch', off: 'bg' },
    default: true,
    doc:
      'When the server does not answer: fg tries for as long as retry says and fails, bg goes on ' +
      'trying in the background and the command succeeds',
  },
  retry: {
    group: 'server',
    value: { kind: 'integer', min: 0, max: 100_000, unit: 'minutes' },
    default: undefined,
    defaultWords: '0 with fg, 10000 with bg',
    doc:
      'For how long a mount is tried again when the server does not answer; the command waits ' +
      'for it, unless bg is given',
  },

  session: {
    group: 'cache',
    value: { kind: 'choice', choices: ['shared', 'exclusive', 'readonly'] },
    default: 'shared',
    doc:
      'Who else writes to the export: anybody (shared: each open asks the server), nobody while ' +
      'it is mounted here (exclusive: what is known is believed without asking), or nobody at ' +
      'all (readonly: the same, implies ro, and mounts with the server away)',
  },
  write: {
    group: 'cache',
    value: { kind: 'choice', choices: ['through', 'back', 'deferred'] },
    default: 'through',
    doc:
      'Where writes go: to the server at once (through), to the local disk and to the server soon ' +
      'after (back; with session=shared before close and fsync return), or to the server only ' +
      'when gvfs write-back or gvfs umount asks, or when room is needed (deferred)',
  },
  fsync: {
    group: 'cache',
    value: { kind: 'choice', choices: ['local', 'server'] },
    default: undefined,
    defaultWords: 'local with session=exclusive and write=back or deferred, else server',
    doc: 'Where a write is durable when fsync returns: on the local disk, or at the server',
  },
  writeback_age: {
    group: 'cache',
    value: { kind: 'integer', min: 1, max: 86_400, unit: 'seconds' },
    default: 30,
    doc: 'With write=back: how old a write becomes before it is sent',
  },
  dirtysize: {
    group: 'cache',
    value: { kind: 'amount', minPercent: 1, minBytes: 1 << 20 },
    default: undefined,
    defaultWords: '1G, or 25% of cachesize where that is less',
    doc:
      'With write=back: how much may be unsent before it is sent whatever its age: bytes, or ' +
      'percent of cachesize',
  },
  cache: {
    group: 'cache',
    value: { kind: 'switch', off: 'nocache' },
    default: true,
    doc: 'Keep what was read on the local disk, across mounts and restarts; nocache keeps nothing',
  },
  cachedir: {
    group: 'cache',
    value: { kind: 'path', of: 'directory' },
    default: undefined,
    defaultWords: '/var/cache/gvfs for root, $XDG_CACHE_HOME/gvfs for others',
    doc:
      'Directory of the cache, made where it is missing; open to nobody but who mounts, and on a ' +
      'file system of this host: not NFS, SMB, AFS, Ceph or FUSE',
  },
  cachesize: {
    group: 'cache',
    value: { kind: 'amount', minPercent: 1, minBytes: 64 << 20 },
    default: '80%',
    doc: "Most that the export's cache may take: bytes, or percent of the disk that it is on",
  },
  cachefree: {
    group: 'cache',
    value: { kind: 'amount', minPercent: 0, minBytes: 1 << 20 },
    default: '10%',
    doc: 'What the cache leaves free: bytes, or percent of the disk that it is on',
  },
  passthrough: {
    group: 'cache',
    value: { kind: 'switch', off: 'nopassthrough' },
    default: true,
    doc:
      'Let the kernel read complete images from the cache by itself, at the speed of the local ' +
      'disk: where nothing can be written (ro, session=readonly) and root mounts',
  },

  acregmin: {
    group: 'attributes',
    value: seconds,
    default: 3,
    doc: 'Least time that attributes of a file are believed',
  },
  acregmax: {
    group: 'attributes',
    value: seconds,
    default: 60,
    doc: 'Most time that attributes of a file are believed (at least acregmin)',
  },
  acdirmin: {
    group: 'attributes',
    value: seconds,
    default: 30,
    doc: 'Least time that attributes of a directory are believed',
  },
  acdirmax: {
    group: 'attributes',
    value: seconds,
    default: 60,
    doc: 'Most time that attributes of a directory are believed (at least acdirmin)',
  },
  ac: {
    group: 'attributes',
    value: { kind: 'switch', off: 'noac' },
    default: true,
    doc: 'Believe attributes for the times above; noac asks the server each time',
  },
  lookupcache: {
    group: 'attributes',
    value: { kind: 'choice', choices: ['all', 'pos', 'positive', 'none'] },
    default: 'all',
    doc: 'Which names are believed: all, only those that exist (pos, positive), or none',
  },

  ro: {
    group: 'mount',
    value: { kind: 'switch', off: 'rw' },
    default: false,
    flag: '--read-only',
    doc: 'Refuse every change',
  },
  transport: {
    group: 'mount',
    value: { kind: 'choice', choices: ['native', 'fuse-native'] },
    default: 'native',
    flag: '--transport',
    doc: 'Way to the kernel: our own addon, or the slower package fuse-native where there is none',
  },
  allow_other: {
    group: 'mount',
    value: { kind: 'switch', off: 'noallow_other' },
    default: undefined,
    defaultWords: 'on for root',
    doc: 'Let users other than the one who mounts in; the server still judges each of them',
  },
  readahead: {
    group: 'mount',
    value: { kind: 'integer', min: 0, max: 1 << 20, unit: 'KiB' },
    default: undefined,
    defaultWords: 'from the measured round trip to the server',
    rootOnly: true,
    doc: 'How far ahead of a sequential reader the kernel asks (root only: others have 128)',
  },
  suid: {
    group: 'mount',
    value: { kind: 'switch', off: 'nosuid' },
    default: false,
    rootOnly: true,
    doc: 'Honour set-user-id and set-group-id bits (root only)',
  },
  dev: {
    group: 'mount',
    value: { kind: 'switch', off: 'nodev' },
    default: false,
    rootOnly: true,
    doc: 'Honour device nodes (root only)',
  },
  exec: {
    group: 'mount',
    value: { kind: 'switch', off: 'noexec' },
    default: true,
    doc: 'Let programs on the mount be run',
  },

  log: {
    group: 'log',
    value: { kind: 'path' },
    default: undefined,
    defaultWords:
      '/var/log/gvfs/gvfs.log for root, $XDG_STATE_HOME/gvfs/gvfs.log for others; ' +
      'the terminal with -f',
    flag: '--log',
    doc: 'File that the log is appended to; SIGHUP opens it anew',
  },
  log_level: {
    group: 'log',
    value: { kind: 'choice', choices: ['error', 'warn', 'info', 'debug'] },
    default: 'info',
    flag: '--log-level',
    doc: 'Least weight that is logged',
  },
  log_format: {
    group: 'log',
    value: { kind: 'choice', choices: ['text', 'json'] },
    default: undefined,
    defaultWords: 'text on a terminal, json otherwise',
    flag: '--log-format',
    doc: 'Lines for people, or one JSON object a line',
  },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof optionTable;

type SettingOf<S extends OptionSpec> = S['default'] extends undefined
  ? ValueOf<S['value']> | undefined
  : ValueOf<S['value']>;

/** What was asked for: each option's value, or its default. Units are the table's. */
export type Settings = { readonly [N in OptionName]: SettingOf<(typeof optionTable)[N]> };

/** Options that stand for others, which they set to their own value. */
export const shorthands = {
  actimeo: {
    value: seconds,
    sets: ['acregmin', 'acregmax', 'acdirmin', 'acdirmax'],
    doc: 'Sets acregmin, acregmax, acdirmin and acdirmax',
  },
} as const satisfies Record<string, { value: ValueKind; sets: readonly OptionName[]; doc: string }>;

/** Why an option that is accepted changes nothing. */
const opensAsk = 'session= says whether an open asks the server';
const cachesAreApart = 'each mount has caches of its own';
const noSelinux = 'the mount has no SELinux labels of its own';
const forVersion4 = 'only NFSv4 has a use for it';
const namedInSource = 'the server is named in the source';
const ownCache = 'the disk cache is our own: it is on unless nocache is given';
const servedWhileAway = 'what is known is always served while the server is away';
const canBeKilled = 'waiting callers can always be killed, but for O_DIRECT';
const locksAreLocal = 'locks are kept by this host, and no other host sees them';
/** The reason that is not worth a line in the log. */
export const forMount = 'meant for mount(8) and its callers';

/** Accepted, so that an fstab line for NFS keeps working, without effect for the reason given. */
export const ignoredOptions: Readonly<Record<string, string>> = {
  nolock: locksAreLocal,
  lock: locksAreLocal,
  local_lock: locksAreLocal,
  tcp: 'TCP is the only transport',
  intr: canBeKilled,
  nointr: canBeKilled,
  cto: opensAsk,
  nocto: opensAsk,
  sharecache: cachesAreApart,
  nosharecache: cachesAreApart,
  softreval: servedWhileAway,
  nosoftreval: servedWhileAway,
  namlen: 'the server says how long names may be',
  fsc: ownCache,
  nofsc: ownCache,
  noacl: 'access lists are not shown',
  async: 'write= and fsync= say when writes are durable, and where',
  addr: namedInSource,
  mountaddr: namedInSource,
  mounthost: namedInSource,
  clientaddr: forVersion4,
  migration: forVersion4,
  nomigration: forVersion4,
  context: noSelinux,
  fscontext: noSelinux,
  defcontext: noSelinux,
  rootcontext: noSelinux,
  atime: 'the server keeps the access times',
  noatime: 'the server keeps the access times',
  diratime: 'the server keeps the access times',
  nodiratime: 'the server keeps the access times',
  relatime: 'the server keeps the access times',
  norelatime: 'the server keeps the access times',
  strictatime: 'the server keeps the access times',
  nostrictatime: 'the server keeps the access times',
  lazytime: 'the server keeps the access times',
  nolazytime: 'the server keeps the access times',
  defaults: forMount,
  silent: forMount,
  loud: forMount,
  auto: forMount,
  noauto: forMount,
  user: forMount,
  nouser: forMount,
  users: forMount,
  nousers: forMount,
  owner: forMount,
  noowner: forMount,
  group: forMount,
  nogroup: forMount,
  _netdev: forMount,
  nofail: forMount,
  comment: forMount,
  uhelper: forMount,
  helper: forMount,
};

/** Names that begin so are ignored too: X-systemd.automount and its kind. */
export const ignoredPrefixes: readonly string[] = ['x-', 'X-'];

const serversOwners = 'owners and modes are those at the server: leave it out';

/** Options of mount.nfs or mount(8) that we cannot honour: what to do instead. */
export const refusedOptions: Readonly<Record<string, string>> = {
  udp: 'gvfs speaks TCP only: leave it out',
  rdma: 'gvfs speaks TCP only: leave it out',
  minorversion: 'gvfs speaks NFS version 3 only: leave it out',
  sync: 'write= and fsync= say when writes are durable, and where: leave it out',
  dirsync: 'directory changes are always synchronous: leave it out',
  acl: 'gvfs does not show access lists: leave it out',
  remount: 'a mount cannot be changed in place: unmount it and mount it again',
  bind: 'mount --bind does that: gvfs-mount mounts NFS exports',
  uid: serversOwners,
  gid: serversOwners,
  umask: serversOwners,
};

/** What others call an option of ours, for who looks for it. */
export const knownElsewhere: Readonly<Record<string, string>> = {
  readonly: 'ro',
  'read-only': 'ro',
  readwrite: 'rw',
  'read-write': 'rw',
};

/** The names that turn a switch off. */
export function offSpellings(value: ValueKind): readonly string[] {
  if (value.kind !== 'switch' || value.off === undefined) return [];
  return [value.off, ...(value.offAlso ?? [])];
}

/** Every spelling that can be given, for finding the one that was meant. */
export function allSpellings(): string[] {
  const own = Object.entries<OptionSpec>(optionTable).flatMap(([name, spec]) => [
    name,
    ...(spec.also ?? []),
    ...offSpellings(spec.value),
  ]);
  return [...own, ...Object.keys(shorthands), ...Object.keys(ignoredOptions)];
}

/** What holds when no option is given. */
export function defaultSettings(): Settings {
  const entries = Object.entries<OptionSpec>(optionTable).map(([name, spec]) => [
    name,
    spec.default,
  ]);
  return Object.fromEntries(entries) as Settings;
}
