/**
 * gvfs recover --list | --write-back | --export DIR: what earlier mounts have left unsent in a
 * cache, without a mount.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { defaultCacheDirectory } from '../config/default-paths.ts';
import { parseSource } from '../config/mount-source.ts';
import { parseOptions } from '../config/parse-options.ts';
import {
  type CacheInUse,
  type Exported,
  type OfflineCache,
  type OpenedCaches,
  openOfflineCaches,
  type UnsentKept,
} from '../daemon/control/offline-cache.ts';
import type { SentReport } from '../daemon/sending.ts';
import { silentLog } from '../observe/log.ts';
import { harmless } from '../observe/printable.ts';
import { refusal } from './cache-targets.ts';
import { complain, type GvfsError, GvfsStatus, usage } from './gvfs-errors.ts';
import { type ExitStatus, report, sentence } from './mount-errors.ts';
import { ProgressLine } from './progress-line.ts';
import { bytesText, durationText } from './quantities.ts';
import { reasonText } from './reason-text.ts';
import { sentText } from './sending-command.ts';
import { jsonLine, progressOutput, type Shell } from './shell.ts';
import { type Column, tableLines } from './table.ts';

export interface RecoverRequest {
  /** Paths in the export, or ids; all when there are none. */
  readonly names: readonly string[];
  readonly cachedir: string | undefined;
  readonly json: boolean;
}

export const recoverHelp = `
Writes that an earlier mount acknowledged and could not send are in the cache; the next mount of the
export sends them by itself. This is for the time when there is none.

  --list        names them
  --write-back  sends them: asks the server as a mount would (-o has the options for the way there)
  --export DIR  copies all that is known of these files into DIR, which must be there, without the
                server: for files that are gone there, and for what could not be taken up (lost).
                Bytes that were never fetched are holes in the copy, and NAME.json beside it lists
                them. Nothing is changed in the cache, and no file in DIR is written over.

NAME is a file's path in the export, or its id; without NAME it is all of them. --cachedir is the
cache's directory, the default one when left out. A cache that a daemon has is that daemon's to send:
gvfs status, gvfs write-back.

Examples:
  gvfs recover --list
  gvfs recover --write-back --cachedir /var/cache/gvfs
  gvfs recover --export /root/rescue vm/disk.img

Exit status: 0 done, or nothing is unsent, 1 wrong usage or another user's cache, 5 --list: some of
it is lost or in conflict, 8 interrupted, 32 it failed, or nothing unsent has that name, 75
something stays unsent, or a daemon has the cache.
`;

interface Kept {
  readonly cache: OfflineCache;
  readonly kept: UnsentKept;
}

/** Names what is unsent. */
export async function recoverList(shell: Shell, request: RecoverRequest): Promise<GvfsStatus> {
  return withCaches(shell, request, async (caches) => {
    const all = await unsentOf(caches, request.names);
    const inUse = caches.inUse.map(({ source, mountpoint }) => ({ source, mountpoint }));
    if (request.json) shell.out(jsonLine({ unsent: all.map(lineObject), inUse }));
    else if (all.length > 0) shell.out(`${tableLines(columns, all.map(row)).join('\n')}\n`);
    const rest = sayRest(shell, request, all, caches);
    const isBad = all.some(({ kept: { state } }) => state === 'lost' || state === 'conflict');
    return rest === GvfsStatus.done && isBad ? GvfsStatus.no : rest;
  });
}

/** Copies what is known. */
export async function recoverExport(
  shell: Shell,
  request: RecoverRequest,
  to: string,
): Promise<GvfsStatus> {
  const directory = resolve(shell.workingDirectory, to);
  if (!existsSync(directory)) {
    return complain(shell, usage(`${to} does not exist`, 'make it first, with mkdir'));
  }
  return withCaches(shell, request, async (caches) => {
    const all = await unsentOf(caches, request.names);
    const done: object[] = [];
    let status = sayRest(shell, request, all, caches);
    for (const { cache, kept } of all) {
      const file = freeName(directory, kept);
      const line = new ProgressLine(file, progressOutput(shell), shell.clock);
      const copied = await cache.exportUnsent(kept, file, (at, of) => line.update(at, of));
      line.end();
      if (!copied.ok) {
        const toDo = 'look at the disk, or name another directory';
        status = complain(shell, { kind: 'cache', what: copied.error.message, toDo });
        continue;
      }
      const about = { file, ...lineObject({ cache, kept }), ...copied.value };
      writeFileSync(`${file}.json`, `${JSON.stringify(about, undefined, 1)}\n`, { mode: 0o600 });
      done.push(about);
      if (!request.json) shell.out(`${harmless(file)}: ${exportedText(copied.value)}\n`);
    }
    if (request.json) shell.out(jsonLine({ exported: done }));
    return status;
  });
}

/** Sends, export by export; `options` are those of a mount. */
export async function recoverWriteBack(
  shell: Shell,
  request: RecoverRequest,
  options: string,
  timeoutMs: number | undefined,
): Promise<GvfsStatus | ExitStatus> {
  const parsed = parseOptions([options]);
  if (!parsed.ok) return complain(shell, usageOf(parsed.error));
  if (parsed.value.given.has('port')) {
    // By another port it would be another cache, with nothing in it.
    return complain(shell, usage('the cache knows the port of its server', 'leave port out'));
  }
  const cacheDirectory = directoryOf(shell, request);
  if (!cacheDirectory.ok) return complain(shell, cacheDirectory.error);
  const sources: string[] = [];
  let isLost = false;
  let status: GvfsStatus | ExitStatus = await withCaches(shell, request, async (caches) => {
    for (const cache of caches.caches) {
      const unsent = await cache.unsent();
      if (unsent.some(({ state }) => state !== 'lost')) sources.push(cache.source);
      for (const { directory, why } of unsent.filter(({ state }) => state === 'lost')) {
        const what = `${directory} cannot be sent (${why ?? 'it is lost'})`;
        shell.err(`${sentence('gvfs', { what, toDo: 'gvfs recover --export copies it' })}\n`);
        isLost = true;
      }
    }
    const busy = sayInUse(shell, caches.inUse);
    return busy === GvfsStatus.done && isLost ? GvfsStatus.unsent : busy;
  });
  const { writeBackKept } = await import('../daemon/recover.ts');
  const done: object[] = [];
  for (const text of sources) {
    const place = placeOf(text);
    if (place === undefined) {
      const toDo = 'gvfs recover --export copies what is unsent';
      shell.err(`${sentence('gvfs', { what: `${text} is no name of an export`, toDo })}\n`);
      if (status === GvfsStatus.done) status = GvfsStatus.unsent;
      continue;
    }
    const interrupted = new AbortController();
    const release = shell.onInterrupt(() => interrupted.abort());
    const line = new ProgressLine(text, progressOutput(shell), shell.clock);
    const settings = { ...parsed.value.settings, port: place.port };
    const plan = { source: place.source, cacheDirectory: cacheDirectory.value, settings };
    const sent = await writeBackKept(plan, silentLog, {
      signal: interrupted.signal,
      timeoutMs,
      onProgress: (at, of) => line.update(at, of),
    });
    line.end();
    release();
    if (interrupted.signal.aborted) return complain(shell, { kind: 'interrupted' });
    if (!sent.ok) {
      const said = report(sent.error);
      shell.err(`${sentence('gvfs', said)}\n`);
      if (status === GvfsStatus.done) status = said.status;
      continue;
    }
    const { ended, ...rest } = sent.value;
    const result = { ...rest, timedOut: ended === 'timedOut', failed: failures(sent.value) };
    done.push({ source: text, ...result });
    if (!request.json) shell.out(`${harmless(text)}: ${sentText(result)}\n`);
    for (const { path, unsentBytes, why } of result.failed) {
      const what = `${path}: ${bytesText(unsentBytes)} not at the server (${reasonText(why)})`;
      shell.err(`${sentence('gvfs', { what, toDo: 'it stays in the cache' })}\n`);
    }
    if (result.timedOut) {
      const what = `${text}: the time was up`;
      shell.err(`${sentence('gvfs', { what, toDo: 'what is unsent stays in the cache' })}\n`);
    }
    // It was unsent a moment ago: whoever has sent it was not we.
    if (result.files === 0 && !result.timedOut) {
      const what = `${text}: nothing was found to send any more`;
      shell.err(`${sentence('gvfs', { what, toDo: 'see gvfs recover --list again' })}\n`);
    }
    const isAll = ended === 'done' && result.failed.length === 0 && result.files > 0;
    if (!isAll && status === GvfsStatus.done) status = GvfsStatus.unsent;
  }
  if (request.json) shell.out(jsonLine({ done }));
  else if (sources.length === 0 && status === GvfsStatus.done) shell.out('nothing is unsent\n');
  return status;
}

function failures({ failed }: SentReport) {
  return failed.map(({ path, unsentBytes, state, error: { errno, message } }) => ({
    ...{ path: harmless(path), unsentBytes, state, errno, why: harmless(message) },
  }));
}

async function withCaches(
  shell: Shell,
  request: RecoverRequest,
  run: (caches: OpenedCaches) => Promise<GvfsStatus>,
): Promise<GvfsStatus> {
  const directory = directoryOf(shell, request);
  if (!directory.ok) return complain(shell, directory.error);
  const opened = await openOfflineCaches(directory.value);
  if (!opened.ok) return complain(shell, refusal(directory.value, opened.error));
  try {
    return await run(opened.value);
  } finally {
    await opened.value.close();
  }
}

function directoryOf(shell: Shell, { cachedir }: RecoverRequest): Result<string, GvfsError> {
  if (cachedir !== undefined) return ok(resolve(shell.workingDirectory, cachedir));
  const directory = defaultCacheDirectory(shell.surroundings);
  return directory === undefined
    ? err(usage('there is no home to keep a cache in', 'name it with --cachedir'))
    : ok(directory);
}

async function unsentOf(
  { caches }: OpenedCaches,
  names: readonly string[],
): Promise<readonly Kept[]> {
  const all: Kept[] = [];
  for (const cache of caches) {
    for (const kept of await cache.unsent()) all.push({ cache, kept });
  }
  if (names.length === 0) return all;
  return all.filter(({ kept }) => names.some((name) => isNamed(kept, name)));
}

function isNamed(kept: UnsentKept, name: string): boolean {
  const wanted = name.replace(/^\/+/, '');
  return wanted === kept.id || wanted === pathOf(kept);
}

/** Of what was not found: whether that means that there is nothing. */
function sayRest(
  shell: Shell,
  { names, json }: RecoverRequest,
  all: readonly Kept[],
  { inUse }: OpenedCaches,
): GvfsStatus {
  const busy = sayInUse(shell, inUse);
  if (busy !== GvfsStatus.done) return busy;
  if (names.length === 0) {
    if (all.length === 0 && !json) shell.out('nothing is unsent\n');
    return GvfsStatus.done;
  }
  let status: GvfsStatus = GvfsStatus.done;
  for (const name of names) {
    if (all.some(({ kept }) => isNamed(kept, name))) continue;
    const toDo = 'gvfs recover --list names all that is';
    status = complain(shell, { kind: 'cache', what: `${name} is not unsent`, toDo });
  }
  return status;
}

/** Of those that a daemon has, which knows better how it is. */
function sayInUse(shell: Shell, inUse: readonly CacheInUse[]): GvfsStatus {
  const daemons = inUse.filter(({ source }) => source !== undefined);
  for (const { message } of daemons) {
    const toDo = 'gvfs status --all says what it has to send';
    shell.err(`${sentence('gvfs', { what: message, toDo })}\n`);
  }
  return daemons.length === 0 ? GvfsStatus.done : GvfsStatus.unsent;
}

const columns: Column[] = [
  { title: 'unsent', align: 'right' },
  { title: 'size', align: 'right' },
  { title: 'for', align: 'right' },
  { title: 'state', align: 'left' },
  { title: 'export', align: 'left' },
  { title: 'file', align: 'left' },
];

function row({ cache, kept }: Kept): string[] {
  const { unsentBytes, sizeBytes, sinceMs, state, why } = kept;
  return [
    unsentBytes === undefined ? '?' : bytesText(unsentBytes),
    sizeBytes === undefined ? '?' : bytesText(sizeBytes),
    sinceMs === undefined ? '?' : durationText(Math.max(0, Date.now() - sinceMs)),
    state === 'lost' ? `lost (${why ?? ''})` : state,
    cache.source,
    nameOf(kept),
  ];
}

function lineObject({ cache, kept }: Kept) {
  const { id, unsentBytes = null, sizeBytes = null, state, why = null } = kept;
  const sinceMs = kept.sinceMs === undefined ? null : Math.round(kept.sinceMs);
  const path = pathOf(kept);
  return { source: cache.source, path, id, unsentBytes, sizeBytes, sinceMs, state, why };
}

function exportedText({ sizeBytes, unsent, absent }: Exported): string {
  const sum = (ranges: readonly { start: number; end: number }[]) =>
    bytesText(ranges.reduce((bytes, { start, end }) => bytes + end - start, 0));
  if (absent === undefined) {
    return `${bytesText(sizeBytes)}, as it lay there: nothing tells which of its zeros are holes`;
  }
  const holes = absent.length === 0 ? 'all of it is there' : `${sum(absent)} never fetched: holes`;
  return `${bytesText(sizeBytes)}, ${sum(unsent)} of it unsent, ${holes}`;
}

function pathOf({ path }: UnsentKept): string {
  return harmless(path.replace(/^\/+/, ''));
}

function nameOf(kept: UnsentKept): string {
  return pathOf(kept) === '' ? kept.id : pathOf(kept);
}

/** No name that is there already: neither of a file nor of what is written about it. */
function freeName(directory: string, kept: UnsentKept): string {
  const name = basename(nameOf(kept));
  for (let count = 0; ; count++) {
    const file = join(directory, count === 0 ? name : `${name}.${count}`);
    if (!existsSync(file) && !existsSync(`${file}.json`)) return file;
  }
}

/** `host:port:/export`, as caches are called. */
function placeOf(text: string) {
  const found = /^(?<host>.+):(?<port>\d+):(?<path>\/.*)$/s.exec(text)?.groups;
  if (found === undefined) return undefined;
  const source = parseSource(`${found.host}:${found.path}`);
  return source.ok ? { source: source.value, port: Number(found.port) } : undefined;
}

function usageOf(error: Parameters<typeof report>[0]): GvfsError {
  const { what, toDo } = report(error);
  return usage(what, toDo);
}
