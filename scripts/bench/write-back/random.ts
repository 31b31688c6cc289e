/** Random 4 KiB writes to an image that is present, beside the same on the cache's own disk. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { complete } from '../cache/cached-mount.ts';
import type { Experiment } from '../cache/experiments.ts';
import { atLeast, type Row, ratioAtLeast } from '../cache/ledger.ts';
import { type FioJob, fio } from '../fio.ts';
import { IMAGE, linkNamed, Site } from '../site.ts';
import { localDisk } from './local-disk.ts';
import { writtenMount } from './written-mount.ts';

const SECONDS = 5;
const MOST_BYTES = 1 << 30;

const works: readonly { name: string; job: FioJob; bar: number }[] = [
  { name: 'O_DIRECT, depth 1', job: { direct: 1 }, bar: 0.7 },
  { name: 'O_DIRECT, depth 16', job: { direct: 1, ioengine: 'libaio', iodepth: 16 }, bar: 0.7 },
  { name: 'buffered, fsync every 32', job: { fsync: 32 }, bar: 0.5 },
];

const buffered = atLeast('random 4 KiB writes, buffered', '1/s', 15_000);

export const randomWrites: Experiment = {
  name: 'random writes',
  async open(imageBytes) {
    const bytes = Math.min(imageBytes, MOST_BYTES);
    const site = await Site.open(linkNamed('loopback'), bytes);
    const mount = writtenMount(site, 'back');
    const mounted = join(mount.directory, IMAGE);
    await complete(mounted);
    const disk = localDisk();
    const local = join(disk.directory, IMAGE);
    execFileSync('cp', [join(site.server.directory, IMAGE), local]);
    execFileSync('sync', ['-f', local]);
    const rate = async (filename: string, job: FioJob) => {
      const timed = { time_based: true, runtime: SECONDS, randrepeat: 0 } as const;
      const all = { filename, rw: 'randwrite', bs: '4k', size: bytes, ...timed, ...job };
      return (await fio(all)).write.operationsPerSecond;
    };
    return {
      async run(ledger) {
        for (const { name, job, bar } of works) {
          const limit = await rate(local, job);
          const got = await rate(mounted, job);
          const row: Row = { name: `random 4 KiB writes, ${name}`, unit: '1/s' };
          ledger.add(row, got);
          ledger.add(ratioAtLeast(`${row.name} / local`, bar), got / limit);
          await mount.writeBack(mounted);
        }
        ledger.add(buffered, await rate(mounted, {}));
        await mount.writeBack(mounted);
      },
      async close() {
        await mount.close();
        await site.close();
        disk.remove();
      },
    };
  },
};
