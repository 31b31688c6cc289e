/**
 * `gvfs status` for people: a line for each thing that one asks first, then tables.
 */
import type { Status } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import {
  bytesText,
  countText,
  durationText,
  percentText,
  shareText,
  timeText,
} from './quantities.ts';
import { reasonText } from './reason-text.ts';
import { type Column, tableLines } from './table.ts';

const left = (title: string): Column => ({ title, align: 'left' });
const right = (title: string): Column => ({ title, align: 'right' });

/** The text of one mount, with a newline at its end; times of calls and requests if `verbose`. */
export function statusText(status: Status, verbose: boolean): string {
  const tables = [
    tableLines(openColumns, status.open.map(openRow), '  '),
    tableLines(unsentColumns, status.unsent.list.map(unsentRow), '  '),
    tableLines(waitingColumns, status.waiting.map(waitingRow), '  '),
    tableLines(taskColumns, status.tasks.map(taskRow), '  '),
    ...(verbose
      ? [
          tableLines(rpcColumns, status.rpcs.map(rpcRow), '  '),
          tableLines(requestColumns, status.operations.map(requestRow), '  '),
        ]
      : []),
  ];
  const lines = [
    harmless(`${status.source} on ${status.mountpoint}`),
    ...heads(status).map(([name, text]) => `  ${name.padEnd(NAME_WIDTH)}${harmless(text)}`),
    ...tables.filter((table) => table.length > 0).flatMap((table) => ['', ...table]),
  ];
  return `${lines.join('\n')}\n`;
}

/** What `--all` says of one mount. */
export interface MountRow {
  readonly mountpoint: string;
  readonly source: string;
  /** Or why there is none. */
  readonly status: Status | string;
  /** It serves, but its mount is not in the tree that we see. */
  readonly isDetached?: boolean;
}

/** A line a mount, with a newline at its end; '' of none. */
export function mountsText(mounts: readonly MountRow[]): string {
  const rows = mounts.map(({ mountpoint, source, status, isDetached = false }) => {
    if (typeof status === 'string') return [mountpoint, source, 'does not answer'];
    const isLost = isDetached && status.state === 'serving';
    const state = isLost ? states.leaving : states[status.state];
    return [mountpoint, source, state, ...briefly(status)];
  });
  return tableLines(mountColumns, rows)
    .map((line) => `${line}\n`)
    .join('');
}

const states: Record<Status['state'], string> = {
  serving: 'serving',
  leaving: 'not in the tree, waits for open files',
  draining: 'unmounted, still sends',
};

function briefly({ server, cache, open, unsent, waitingCount, pid }: Status): string[] {
  return [
    server.state === 'up' ? 'up' : 'away',
    cache === null ? 'none' : bytesText(cache.allocatedBytes),
    String(open.length),
    unsent.files === 0 ? '-' : bytesText(unsent.bytes),
    String(waitingCount),
    String(pid),
  ];
}

const NAME_WIDTH = 9;

function heads(status: Status): [name: string, text: string][] {
  return [
    ['session', session(status)],
    ['server', server(status.server)],
    ...cache(status.cache),
    ['reads', reads(status)],
    ...writes(status),
    ['waiting', waiting(status)],
    ['loop', loop(status.eventLoop)],
  ];
}

function session(status: Status): string {
  const access = status.readOnly ? 'read-only' : 'read-write';
  const started = timeText(status.startedAtMs);
  const { state } = status;
  const since =
    state === 'serving' ? `serving since ${started}` : `${states[state]}, started ${started}`;
  return [status.session, access, since, `pid ${status.pid}`, `gvfs ${status.version}`].join(', ');
}

function server(server: Status['server']): string {
  const { state, forMs, roundTripMs, connections, retransmissions } = server;
  const away = forMs === null ? 'does not answer' : `does not answer for ${durationText(forMs)}`;
  return [
    state === 'up' ? 'up' : away,
    ...(roundTripMs === null ? [] : [`round trip ${durationText(roundTripMs)}`]),
    countText(connections, 'connection'),
    `${bytesText(server.readBytes)} read`,
    `${bytesText(server.writtenBytes)} written`,
    ...(retransmissions === 0 ? [] : [`${countText(retransmissions, 'call')} sent again`]),
  ].join(', ');
}

function cache(cache: Status['cache']): [string, string][] {
  if (cache === null) return [['cache', 'none']];
  const free = cache.freeBytes === null ? [] : [`${bytesText(cache.freeBytes)} free`];
  const use = [
    shareText(cache.allocatedBytes, cache.limitBytes),
    countText(cache.images, 'image'),
    ...free,
    `leaves ${bytesText(cache.freeFloorBytes)} free`,
    ...(cache.evictedBytes === 0 ? [] : [`${bytesText(cache.evictedBytes)} evicted`]),
    ...(cache.damagedBytes === 0 ? [] : [`${bytesText(cache.damagedBytes)} found damaged`]),
  ];
  return [
    ['cache', use.join(', ')],
    ['', `in ${cache.directory}, ${cache.state}`],
  ];
}

function reads({ bytes, hitRatio }: Status): string {
  if (hitRatio === null) return 'none yet';
  const here = [
    `${bytesText(bytes.cache)} cache`,
    `${bytesText(bytes.zero)} zero`,
    ...(bytes.passthrough === null ? [] : [`${bytesText(bytes.passthrough)} passthrough`]),
  ].join(', ');
  return `${percentText(hitRatio, 1)} from here: ${here}; server ${bytesText(bytes.server)}`;
}

/** Where nothing waits here on purpose there is a line only for what does all the same. */
function writes({ write, fsync, unsent }: Status): [string, string][] {
  const { bytes, files, ageMs, recoveredBytes } = unsent;
  if (write === 'through' && files === 0) return [];
  const failed = unsent.list.filter(
    ({ failure, state }) => failure !== null && state !== 'conflict',
  );
  const conflicts = unsent.list.filter(({ state }) => state === 'conflict');
  const what =
    files === 0
      ? ['nothing unsent']
      : [
          `${bytesText(bytes)} of ${countText(files, 'file')} unsent`,
          ...(ageMs === null ? [] : [`the oldest for ${durationText(ageMs)}`]),
          ...(recoveredBytes === 0 ? [] : [`${bytesText(recoveredBytes)} of an earlier mount`]),
          ...(failed.length === 0 ? [] : [`${failed.length} could not be sent`]),
          ...(conflicts.length === 0 ? [] : [`${countText(conflicts.length, 'conflict')}`]),
        ];
  const durable = fsync === 'local' ? 'fsync is local' : 'fsync is at the server';
  return [['writes', [write, durable, ...what].join(', ')]];
}

function waiting({ waiting: oldest, waitingCount }: Status): string {
  const [first] = oldest;
  if (first === undefined) return 'nothing';
  return `${countText(waitingCount, 'request')}, the oldest for ${durationText(first.ageMs)}`;
}

function loop({ medianMs, p99Ms, maxMs }: Status['eventLoop']): string {
  const [median, p99, worst] = [medianMs, p99Ms, maxMs].map(durationText);
  return `late by ${median} (median), ${p99} (99 %), ${worst} (worst)`;
}

const mountColumns = [
  left('mountpoint'),
  left('source'),
  left('state'),
  left('server'),
  right('cached'),
  right('open'),
  right('unsent'),
  right('waiting'),
  right('pid'),
];

const openColumns = [
  left('open'),
  right('size'),
  right('cached'),
  right('readers'),
  right('writers'),
  left('served by'),
];

function openRow(file: Status['open'][number]): string[] {
  return [
    // Removed, or opened before this daemon knew names.
    file.path === '' ? '(no name)' : file.path,
    bytesText(file.sizeBytes),
    file.presentBytes === null ? '-' : percentText(file.presentBytes, file.sizeBytes),
    String(file.readers),
    String(file.writers),
    `${servers[file.servedBy]}${file.why === null ? '' : `, not passthrough: ${file.why}`}`,
  ];
}

const unsentColumns = [left('unsent'), right('bytes'), right('for'), left('state')];

function unsentRow(file: Status['unsent']['list'][number]): string[] {
  const state = {
    dirty: 'waits',
    sending: 'is being sent',
    conflict: 'conflict: say gvfs resolve',
  }[file.state];
  return [
    file.path === '' ? file.id : file.path,
    bytesText(file.bytes),
    durationText(file.ageMs),
    [
      state,
      ...(file.recovered ? ['of an earlier mount'] : []),
      ...(file.failure === null ? [] : [`not sent: ${reasonText(file.failure)}`]),
    ].join(', '),
  ];
}

const servers: Record<Status['open'][number]['servedBy'], string> = {
  passthrough: 'passthrough',
  daemon: 'cache via daemon',
  server: 'server',
};

const waitingColumns = [left('waiting'), right('for'), left('file or directory')];

function waitingRow({ operation, ageMs, path }: Status['waiting'][number]): string[] {
  return [operation, durationText(ageMs), path === '' ? '(the mountpoint)' : (path ?? '-')];
}

const taskColumns = [left('task'), right('done'), right('of'), left('state'), left('file')];

function taskRow(task: Status['tasks'][number]): string[] {
  const state = task.message === null ? task.state : `${task.state} (${task.message})`;
  const path = task.path === '' ? 'all images' : task.path;
  const done = percentText(task.doneBytes, task.totalBytes);
  return [task.kind, done, bytesText(task.totalBytes), state, path];
}

const rpcColumns = [left('call'), right('count'), right('failed'), right('median'), right('99 %')];

function rpcRow(rpc: Status['rpcs'][number]): string[] {
  const { procedure, calls, failures, medianMs, p99Ms } = rpc;
  return [procedure, String(calls), String(failures), duration(medianMs), duration(p99Ms)];
}

const requestColumns = [left('request'), right('count'), right('median'), right('99 %')];

function requestRow({ operation, calls, medianMs, p99Ms }: Status['operations'][number]): string[] {
  return [operation, String(calls), duration(medianMs), duration(p99Ms)];
}

function duration(ms: number | null): string {
  return ms === null ? '-' : durationText(ms);
}
