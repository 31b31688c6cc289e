/**
 * What lies below the file system of a mount: the server, and the cache of its export.
 *
 * The cache is known by the server's real port, so that the server is asked first. With
 * `session=readonly` a server that is away is done without, where the cache has what is needed: the
 * root, and whatever names and images are known.
 */
import { assert } from '../base/assert.ts';
import { systemClock } from '../base/clock.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { DiskCache, DiskCacheOptions } from '../cache/disk-cache.ts';
import { Nfs3Client } from '../nfsc/index.ts';
import type { Log } from '../observe/log.ts';
import { connect } from './connect.ts';
import type { EventHub } from './event-hub.ts';
import { logCache, tellCache } from './events.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { loadRecord, type MountRecord } from './mount-record.ts';
import { openCache } from './open-cache.ts';
import { amountOf, assumedServer, mountOptionsOf } from './translate.ts';

export interface Reached {
  readonly client: Nfs3Client;
  /** undefined with nocache. */
  readonly cache: DiskCache | undefined;
  /** Why the server could not be asked: the client has been resumed from the record. */
  readonly away: { readonly why: string; readonly record: MountRecord } | undefined;
}

/** `signal` ends what waits; what was opened by then is closed again. */
export async function reach(
  plan: MountPlan,
  log: Log,
  hub: EventHub,
  retrying: ((failure: MountFailure) => void) | undefined,
  signal: AbortSignal,
): Promise<Result<Reached, MountFailure>> {
  const { cacheDirectory, settings, source } = plan;
  const canDoWithout = cacheDirectory !== undefined && settings.session === 'readonly';
  if (cacheDirectory !== undefined) void import('../cache/disk-cache.ts'); // meanwhile
  let kept: { readonly cache: DiskCache; readonly record: MountRecord } | undefined;

  async function without(): Promise<boolean> {
    const opened = await open(assumedServer(source, settings), plan, log, hub);
    if (!opened.ok || opened.value === undefined) return false;
    const record = await loadRecord(opened.value.knowledge);
    if (record === undefined) await opened.value.close();
    else kept = { cache: opened.value, record };
    return kept !== undefined;
  }

  const hooks = { retrying, without: canDoWithout ? without : undefined };
  const connected = await connect(plan, log, hooks, signal);
  if (!connected.ok) return connected;
  const options = mountOptionsOf(source, settings);
  if (!(connected.value instanceof Nfs3Client)) {
    assert(kept !== undefined, 'what is done without the server is done with the cache');
    const { cache, record } = kept;
    const away = { why: connected.value.without, record };
    return ok({ client: Nfs3Client.resume(options, record.known), cache, away });
  }
  const client = connected.value;
  const cache = await open(client.server, plan, log, hub);
  if (cache.ok && !signal.aborted) return ok({ client, cache: cache.value, away: undefined });
  await client.unmount();
  if (!cache.ok) return cache;
  await cache.value?.close();
  return err({ kind: 'interrupted' });
}

async function open(
  server: string,
  plan: MountPlan,
  log: Log,
  hub: EventHub,
): Promise<Result<DiskCache | undefined, MountFailure>> {
  const { cacheDirectory, mountpoint, settings, socket, source } = plan;
  if (cacheDirectory === undefined) return ok(undefined);
  const { DiskCache } = await import('../cache/disk-cache.ts');
  const options: DiskCacheOptions = {
    cacheDir: cacheDirectory,
    server,
    exportPath: source.path,
    mountpoint,
    socket,
    pid: process.pid,
    size: amountOf(settings.cachesize),
    freeFloor: amountOf(settings.cachefree),
    changes: !settings.ro,
    session: settings.session,
    write: settings.write,
    writebackAgeMs: settings.writeback_age * 1000,
    ...(settings.dirtysize === undefined ? {} : { dirtyLimit: amountOf(settings.dirtysize) }),
    clock: systemClock,
  };
  const events = { ...logCache(log), ...tellCache(hub, log) };
  return openCache({ cacheDirectory, mountpoint, open: () => DiskCache.open(options, events) });
}
