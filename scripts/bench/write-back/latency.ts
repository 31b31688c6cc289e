/** How long a write and an fsync take, with the server near and far: no write waits for an RPC. */
import { join } from 'node:path';
import { complete } from '../cache/cached-mount.ts';
import type { Experiment } from '../cache/experiments.ts';
import { atMost, type Row } from '../cache/ledger.ts';
import { fio } from '../fio.ts';
import { IMAGE, linkNamed, Site } from '../site.ts';
import { writtenMount } from './written-mount.ts';

const IMAGE_BYTES = 64 << 20;
const SECONDS = 10;

const rows = {
  write: atMost('p99 of a write, 35 ms more round trip: how much more', 'ms', 5),
  fsync: atMost('p99 of an fsync, 35 ms more round trip: how much more', 'ms', 5),
  nearWrite: { name: 'p99 of a write, loopback', unit: 'ms' },
  nearFsync: { name: 'p99 of an fsync, loopback', unit: 'ms' },
} satisfies Record<string, Row>;

export const latency: Experiment = {
  name: 'latency',
  async open() {
    const sites = [
      await Site.open(linkNamed('loopback'), IMAGE_BYTES),
      await Site.open(linkNamed('wan'), IMAGE_BYTES),
    ] as const;
    const mounts = [writtenMount(sites[0], 'back'), writtenMount(sites[1], 'back')] as const;
    for (const { directory } of mounts) await complete(join(directory, IMAGE));
    /** As fast as a busy guest, and slow enough that the disk is no part of it. */
    const measure = (directory: string) =>
      fio({
        ...{ filename: join(directory, IMAGE), rw: 'randwrite', bs: '4k', size: IMAGE_BYTES },
        ...{ fsync: 8, rate_iops: 400, time_based: true, runtime: SECONDS, randrepeat: 0 },
      });
    return {
      async run(ledger) {
        const near = await measure(mounts[0].directory);
        const far = await measure(mounts[1].directory);
        const writes = [near, far].map(({ write }) => write.p99LatencyUs / 1000);
        const fsyncs = [near, far].map(({ fsyncP99LatencyUs }) => fsyncP99LatencyUs / 1000);
        ledger.add(rows.nearWrite, writes[0] ?? Number.NaN);
        ledger.add(rows.nearFsync, fsyncs[0] ?? Number.NaN);
        ledger.add(rows.write, (writes[1] ?? Number.NaN) - (writes[0] ?? Number.NaN));
        ledger.add(rows.fsync, (fsyncs[1] ?? Number.NaN) - (fsyncs[0] ?? Number.NaN));
      },
      async close() {
        for (const mount of mounts) await mount.close();
        for (const site of sites) await site.close();
      },
    };
  },
};
