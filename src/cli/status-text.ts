/**
 * `gvfs status` for people: a line for each thing that one asks first, then tables.
 */
import type { Status } from '../daemon/control/schema.ts';
import { bytesText, countText, durationText, percentText, timeText } from './quantities.ts';
import { type Column, tableLines } from './table.ts';

/** The text of one mount, with a newline at its end. */
export function statusText(status: Status): string {
  const tables = [
    tableLines(openColumns, status.open.map(openRow), '  '),
    tableLines(waitingColumns, status.waiting.map(waitingRow), '  '),
    tableLines(taskColumns, status.tasks.map(taskRow), '  '),
    tableLines(rpcColumns, status.rpcs.map(rpcRow), '  '),
    tableLines(requestColumns, status.operations.map(requestRow), '  '),
  ];
  const lines = [
    `${status.source} on ${status.mountpoint}`,
    ...heads(status).map(([name, text]) => `  ${name.padEnd(NAME_WIDTH)}${text}`),
    ...tables.filter((table) => table.length > 0).flatMap((table) => ['', ...table]),
  ];
  return `${lines.join('\n')}\n`;
}

const NAME_WIDTH = 9;

function heads(status: Status): [name: string, text: string][] {
  return [
    ['session', session(status)],
    ['server', server(status.server)],
    ...cache(status.cache),
    ['reads', reads(status)],
    ['waiting', waiting(status)],
    ['loop', loop(status.eventLoop)],
  ];
}

function session(status: Status): string {
  const access = status.readOnly ? 'read-only' : 'read-write';
  const since = `${status.state} since ${timeText(status.startedAtMs)}`;
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
    `${bytesText(cache.allocatedBytes)} of ${bytesText(cache.limitBytes)}`,
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

function waiting({ waiting: oldest, waitingCount }: Status): string {
  const [first] = oldest;
  if (first === undefined) return 'nothing';
  return `${countText(waitingCount, 'request')}, the oldest for ${durationText(first.ageMs)}`;
}

function loop({ medianMs, p99Ms, maxMs }: Status['eventLoop']): string {
  const [median, p99, worst] = [medianMs, p99Ms, maxMs].map(durationText);
  return `late by ${median} (median), ${p99} (99 %), ${worst} (worst)`;
}

const left = (title: string): Column => ({ title, align: 'left' });
const right = (title: string): Column => ({ title, align: 'right' });

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

const servers: Record<Status['open'][number]['servedBy'], string> = {
  passthrough: 'passthrough',
  daemon: 'cache via daemon',
  server: 'server',
};

const waitingColumns = [left('waiting'), right('for'), left('file')];

function waitingRow({ operation, ageMs, path }: Status['waiting'][number]): string[] {
  return [operation, durationText(ageMs), path ?? '-'];
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
