/**
 * How a mount is, as plain values: what its layers count and know, in the words of the control
 * socket's schema.
 */

import type { CacheFigures, DiskCache } from '../cache/disk-cache.ts';
import { BLOCK_BYTES } from '../cache/file-io.ts';
import { whereDurable } from '../config/combinations.ts';
import { formatSource } from '../config/mount-source.ts';
import { packageVersion } from '../config/version.ts';
import type { Mounted } from '../fuse/transport.ts';
import type { Nfs3Client } from '../nfsc/index.ts';
import { errnoText } from '../observe/errno-text.ts';
import type { EventLoopDelay } from '../observe/event-loop-delay.ts';
import type { SessionSnapshot } from './control/controlled.ts';
import type { LifeState } from './life.ts';
import type { MountPlan } from './mount-plan.ts';
import type { ServerStatistics } from './statistics.ts';

/** Where the values come from. */
export interface SnapshotSources {
  readonly plan: MountPlan;
  readonly startedAtMs: number;
  readonly client: Nfs3Client;
  readonly cache: DiskCache | undefined;
  readonly statistics: ServerStatistics;
  readonly eventLoop: EventLoopDelay;
  /** undefined before the mount answers. */
  readonly mounted: Mounted | undefined;
  readonly roundTripMs: number | undefined;
}

export function snapshot(sources: SnapshotSources, state: LifeState): SessionSnapshot {
  const { plan, startedAtMs, client, cache, statistics, eventLoop, mounted } = sources;
  const server = statistics.figures();
  const figures = cache?.figures();
  const delay = eventLoop.summary();
  return {
    version: packageVersion(),
    startedAtMs,
    source: formatSource(plan.source),
    mountpoint: plan.mountpoint,
    session: plan.settings.session,
    write: plan.settings.write,
    fsync: whereDurable(plan.settings),
    readOnly: plan.settings.ro,
    state: stateNames[state],
    server: {
      state: server.state,
      forMs: rounded(server.awayMs),
      roundTripMs: rounded(figures?.link.roundTripMs ?? sources.roundTripMs),
      connections: client.connectionCount,
      readBytes: server.readBytes,
      writtenBytes: server.writtenBytes,
      retransmissions: server.retransmissions,
    },
    cache: figures === undefined ? null : cacheOf(figures),
    bytes: {
      server: figures?.counts.serverBytes ?? server.readBytes,
      cache: figures?.counts.cacheBytes ?? 0,
      zero: figures?.counts.zeroBytes ?? 0,
      passthrough: null,
    },
    rpcs: server.calls.map(({ procedure, calls, failures, medianMs, p99Ms }) => ({
      procedure,
      calls,
      failures,
      medianMs: rounded(medianMs),
      p99Ms: rounded(p99Ms),
    })),
    operations: operationsOf(mounted),
    eventLoop: {
      medianMs: rounded(delay.medianMs) ?? 0,
      p99Ms: rounded(delay.p99Ms) ?? 0,
      maxMs: rounded(delay.maxMs) ?? 0,
    },
  };
}

const stateNames: Record<LifeState, SessionSnapshot['state']> = {
  starting: 'serving',
  serving: 'serving',
  cancelling: 'leaving',
  leaving: 'leaving',
  draining: 'draining',
  ended: 'draining',
};

function cacheOf(figures: CacheFigures): SessionSnapshot['cache'] {
  const { directory, disk, space, counts, evicted } = figures;
  return {
    directory,
    state: disk.state === 'healthy' ? 'good' : `${disk.state} (${errnoText(disk.errno)})`,
    allocatedBytes: space.usedBytes,
    limitBytes: space.limitBytes,
    freeBytes: space.availableBytes,
    freeFloorBytes: space.freeFloorBytes,
    images: figures.keptImages,
    evictedBytes: evicted.freedBytes,
    damagedBytes: counts.damagedBlocks * BLOCK_BYTES,
  };
}

function operationsOf(mounted: Mounted | undefined): SessionSnapshot['operations'] {
  return [...(mounted?.latencies() ?? [])].map(([operation, durations]) => {
    const { count, medianMs, p99Ms } = durations.summary();
    return { operation, calls: count, medianMs: rounded(medianMs), p99Ms: rounded(p99Ms) };
  });
}

/** To the microsecond: more is noise. */
function rounded(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 1000) / 1000;
}
