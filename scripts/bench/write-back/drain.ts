/** A write-back over the slow link: how much of the link it takes, and what readers notice of it. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { Experiment } from '../cache/experiments.ts';
import { type Row, ratioAtLeast } from '../cache/ledger.ts';
import { fio } from '../fio.ts';
import { linkRate } from '../link.ts';
import { IMAGE, linkNamed, Site } from '../site.ts';
import { writtenMount } from './written-mount.ts';

const RUN_BYTES = 64 << 10;
const READ_SECONDS = 6;
/** Enough to keep the link busy for as long as the readers read, and longer. */
const MEANWHILE_BYTES = 160 << 20;
const READ_BYTES = 512 << 20;

const drained = ratioAtLeast('draining scattered runs of 64 KiB over the WAN / link', 0.9);

/** Half of an image as large as told: every second run of it. */
export const draining: Experiment = {
  name: 'draining',
  async open(imageBytes) {
    const link = linkNamed('wan');
    const site = await Site.open(link, 1 << 20);
    const limit = await linkRate({ rttMs: link.rttMs, mbit: link.mbit, seconds: 10 });
    sparse(site, imageBytes);
    return {
      async run(ledger) {
        const mount = writtenMount(site, 'deferred');
        try {
          await scatter(join(mount.directory, SPARSE), imageBytes / 2);
          const seconds = await mount.writeBack(join(mount.directory, SPARSE));
          ledger.add(drained, imageBytes / 2 / seconds / limit);
        } finally {
          await mount.close();
        }
      },
      close: () => site.close(),
    };
  },
};

const rows = {
  share: ratioAtLeast('random reads over the WAN during a write-back / quiet', 0.75),
  quiet: { name: 'random reads over the WAN, quiet', unit: '1/s' },
} satisfies Record<string, Row>;

export const readingMeanwhile: Experiment = {
  name: 'reading meanwhile',
  async open() {
    const site = await Site.open(linkNamed('wan'), READ_BYTES);
    sparse(site, 2 * MEANWHILE_BYTES);
    return {
      async run(ledger) {
        const mount = writtenMount(site, 'deferred');
        try {
          const reads = async () => {
            const job = { filename: join(mount.directory, IMAGE), rw: 'randread', bs: '4k' };
            const timed = { time_based: true, runtime: READ_SECONDS, randrepeat: 0 } as const;
            return (await fio({ ...job, ...timed, direct: 1, size: READ_BYTES })).read
              .operationsPerSecond;
          };
          await scatter(join(mount.directory, SPARSE), MEANWHILE_BYTES);
          const quiet = await reads();
          const writingBack = mount.writeBack(join(mount.directory, SPARSE));
          const busy = await reads();
          await writingBack;
          ledger.add(rows.quiet, quiet);
          ledger.add(rows.share, busy / quiet);
        } finally {
          await mount.close();
        }
      },
      close: () => site.close(),
    };
  },
};

const SPARSE = 'sparse.raw';

/** An image that is one hole: nothing of it has to be fetched, and little to be stored. */
function sparse(site: Site, bytes: number): void {
  execFileSync('truncate', ['-s', String(bytes), join(site.server.directory, SPARSE)]);
}

/** Writes so many bytes: a run, a gap of the same length, and so on. */
async function scatter(filename: string, bytes: number): Promise<void> {
  const pattern = { rw: `write:${RUN_BYTES}`, bs: RUN_BYTES, size: 2 * bytes, io_size: bytes };
  const { write } = await fio({ filename, ...pattern, refill_buffers: true });
  if (write.bytes !== bytes) throw new Error(`${write.bytes} bytes were written, not ${bytes}`);
}
