/** An image of which nothing is kept yet: what a first reader gets, and what crosses the link. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fio } from '../fio.ts';
import { linkRate } from '../link.ts';
import { IMAGE, type LinkShape, linkNamed, Site } from '../site.ts';
import { cacheDirectory, counts, mountCached } from './cached-mount.ts';
import type { Experiment, Place } from './experiments.ts';
import { atLeast, atMost, type Row, ratioAtLeast } from './ledger.ts';

const loopbackRows = {
  ratio: ratioAtLeast('absent, loopback: sequential / nocache', 0.8),
  rate: { name: 'absent, loopback: sequential', unit: 'MB/s' },
  again: atMost('absent, loopback: READs of a second reading', '1', 0),
} satisfies Record<string, Row>;

export const onLoopback: Experiment = {
  name: 'absent, loopback',
  async open(imageBytes) {
    const site = await Site.open(linkNamed('loopback'), imageBytes);
    const read = (directory: string) => sequential(directory, imageBytes);
    return {
      async run(ledger) {
        site.warmServer();
        const plain = site.mount('native');
        let limit = 0;
        try {
          limit = await read(plain.directory);
        } finally {
          plain.unmount();
        }
        const cache = cacheDirectory();
        const mount = mountCached(site, cache.path, 'exclusive');
        try {
          const rate = await read(mount.directory);
          ledger.add(loopbackRows.rate, rate / 1e6);
          ledger.add(loopbackRows.ratio, rate / limit);
          const first = await counts(mount.directory);
          await read(mount.directory);
          const second = await counts(mount.directory);
          ledger.add(loopbackRows.again, second.readRpcs - first.readRpcs);
        } finally {
          mount.unmount();
          cache.remove();
        }
      },
      close: () => site.close(),
    };
  },
};

/** A link on which nothing has come for so long is quiet; and so long that is waited for. */
const QUIET_MS = 1_000;
const QUIET_LIMIT_MS = 60_000;

/** How much of the image is read, and for how long at random, on a slow link. */
const efforts: Record<string, { bytes: number; seconds: number }> = {
  lan: { bytes: 512 << 20, seconds: 3 },
  wan: { bytes: 128 << 20, seconds: 4 },
};

export const onLan = overLink(linkNamed('lan'));
export const onWan = overLink(linkNamed('wan'));

function overLink(link: LinkShape): Experiment {
  const { bytes, seconds } = efforts[link.name] ?? { bytes: 64 << 20, seconds: 3 };
  const name = `absent, ${link.name}`;
  const rows = {
    link: ratioAtLeast(`${name}: sequential / link`, 0.95),
    sixteen: atLeast(`${name}: 16 random readers / 1`, 'ratio', 10),
    miss: atMost(`${name}: bytes of the link a random 4 KiB miss`, 'bytes', 16_384),
    again: atMost(`${name}: bytes of the link to read it again`, 'bytes', 4096),
  } satisfies Record<string, Row>;
  return {
    name,
    async open(imageBytes): Promise<Place> {
      const site = await Site.open(link, imageBytes);
      const limit = await linkRate({ rttMs: link.rttMs, mbit: link.mbit, seconds: 10 });
      const fresh = async (use: (directory: string) => Promise<void>) => {
        const cache = cacheDirectory();
        const mount = mountCached(site, cache.path, 'exclusive');
        try {
          await use(mount.directory);
        } finally {
          mount.unmount();
          cache.remove();
        }
      };
      const random = (directory: string, jobs: number) =>
        fio({
          filename: join(directory, IMAGE),
          ...{ rw: 'randread', bs: '4k', direct: 1, size: imageBytes, numjobs: jobs },
          ...{ group_reporting: true, time_based: true, runtime: seconds, randrepeat: 0 },
          thread: true, // processes of its own would cost the daemon much of the two cores
        });
      return {
        async run(ledger) {
          await fresh(async (directory) => {
            ledger.add(rows.link, (await sequential(directory, bytes)) / limit);
            const before = await quiet(site); // what was to be read ahead of it still comes
            await sequential(directory, bytes);
            ledger.add(rows.again, (await site.bytesToClient()) - before);
          });
          let one = Number.NaN;
          await fresh(async (directory) => {
            const before = await site.bytesToClient();
            const { read } = await random(directory, 1);
            one = read.operationsPerSecond;
            const crossed = (await site.bytesToClient()) - before;
            ledger.add(rows.miss, crossed / (read.bytes / 4096));
          });
          await fresh(async (directory) => {
            ledger.add(rows.sixteen, (await random(directory, 16)).read.operationsPerSecond / one);
          });
        },
        close: () => site.close(),
      };
    },
  };
}

/** Waits until nothing crosses the link any more; what has crossed it to the client by then. */
async function quiet(site: Site): Promise<number> {
  let before = await site.bytesToClient();
  for (let waitedMs = 0; waitedMs < QUIET_LIMIT_MS; waitedMs += QUIET_MS) {
    await sleep(QUIET_MS);
    const now = await site.bytesToClient();
    if (now === before) return now;
    before = now;
  }
  throw new Error('the link does not come to rest');
}

/** Bytes a second of one reader with read(2), the kernel's own pages dropped before. */
async function sequential(directory: string, bytes: number): Promise<number> {
  const job = { filename: join(directory, IMAGE), rw: 'read', bs: '1M', invalidate: 1 };
  return (await fio({ ...job, size: bytes })).read.bytesPerSecond;
}
