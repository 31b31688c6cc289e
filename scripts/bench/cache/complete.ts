/**
 * An image that is complete in the cache: read by the kernel itself (passthrough) in a read-only
 * session, and through the daemon where it is open for writing, too.
 */
import { join } from 'node:path';
import { fio } from '../fio.ts';
import { IMAGE, linkNamed, Site } from '../site.ts';
import { cacheDirectory, complete, counts, mountCached } from './cached-mount.ts';
import type { Experiment } from './experiments.ts';
import { atLeast, atMost, type Row, ratioAtLeast } from './ledger.ts';

const SECONDS = 3;

const pass = {
  sequential: ratioAtLeast('complete, readonly: sequential / local', 0.9),
  random: ratioAtLeast('complete, readonly: random 4 KiB depth 1 / local', 0.9),
  mmap: ratioAtLeast('complete, readonly: mmap random / local', 0.9),
  reads: atMost('complete, readonly: READs that came to the daemon', '1', 0),
} satisfies Record<string, Row>;

export const passthrough: Experiment = {
  name: 'complete, readonly',
  async open(imageBytes) {
    const site = await Site.open(linkNamed('loopback'), imageBytes);
    const cache = cacheDirectory();
    const mount = mountCached(site, cache.path, 'readonly');
    await complete(join(mount.directory, IMAGE));
    const local = join(site.server.directory, IMAGE);
    const mounted = join(mount.directory, IMAGE);
    const timed = { time_based: true, runtime: SECONDS, invalidate: 0, size: imageBytes } as const;
    const rates = {
      sequential: (filename: string) => readRate({ filename, rw: 'read', bs: '1M', ...timed }),
      random: (filename: string) => readRate({ filename, rw: 'randread', bs: '4k', ...timed }),
      mmap: (filename: string) =>
        readRate({ filename, rw: 'randread', bs: '4k', ioengine: 'mmap', ...timed }),
    };
    for (const file of [local, mounted]) await rates.sequential(file); // both in memory
    return {
      async run(ledger) {
        const before = await counts(mount.directory);
        for (const work of ['sequential', 'random', 'mmap'] as const) {
          // Between two of the local file: what the machine has to spare drifts.
          const earlier = await rates[work](local);
          const rate = await rates[work](mounted);
          const later = await rates[work](local);
          ledger.add(pass[work], rate / ((earlier + later) / 2));
        }
        const after = await counts(mount.directory);
        ledger.add(pass.reads, after.kernelReads - before.kernelReads);
      },
      async close() {
        mount.unmount();
        await site.close();
        cache.remove();
      },
    };
  },
};

const through = {
  sequential: atLeast('complete, read-write: sequential 1 MiB O_DIRECT', 'MB/s', 1800),
  depth1: atLeast('complete, read-write: random 4 KiB O_DIRECT, depth 1', '1/s', 12_000),
  depth16: atLeast('complete, read-write: random 4 KiB O_DIRECT, depth 16', '1/s', 60_000),
  reads: atMost('complete, read-write: READs to the server', '1', 0),
} satisfies Record<string, Row>;

export const throughTheDaemon: Experiment = {
  name: 'complete, read-write',
  async open(imageBytes) {
    const site = await Site.open(linkNamed('loopback'), imageBytes);
    const cache = cacheDirectory();
    const mount = mountCached(site, cache.path, 'exclusive');
    const filename = join(mount.directory, IMAGE);
    await complete(filename);
    const direct = { filename, direct: 1, size: imageBytes } as const;
    const timed = { ...direct, time_based: true, runtime: SECONDS, bs: '4k' } as const;
    return {
      async run(ledger) {
        const before = await counts(mount.directory);
        const sequential = await readRate({ ...direct, rw: 'read', bs: '1M' });
        ledger.add(through.sequential, sequential / 1e6);
        const one = await fio({ ...timed, rw: 'randread' });
        ledger.add(through.depth1, one.read.operationsPerSecond);
        const deep = await fio({ ...timed, rw: 'randread', ioengine: 'libaio', iodepth: 16 });
        ledger.add(through.depth16, deep.read.operationsPerSecond);
        const after = await counts(mount.directory);
        ledger.add(through.reads, after.readRpcs - before.readRpcs);
      },
      async close() {
        mount.unmount();
        await site.close();
        cache.remove();
      },
    };
  },
};

async function readRate(job: Parameters<typeof fio>[0]): Promise<number> {
  return (await fio(job)).read.bytesPerSecond;
}
