/** A new file of 2 GiB, written from its start to its end. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Experiment } from '../cache/experiments.ts';
import { atLeast, type Row, ratioAtLeast } from '../cache/ledger.ts';
import { child } from '../cases.ts';
import { fio } from '../fio.ts';
import { linkNamed, Site } from '../site.ts';
import { localDisk } from './local-disk.ts';
import { writtenMount } from './written-mount.ts';

const WORKLOAD = fileURLToPath(new URL('../workload.ts', import.meta.url));

const rows = {
  plain: atLeast('sequential 1 MiB writes, no fsync', 'MB/s', 800),
  local: { name: 'the same on the local disk', unit: 'MB/s' },
  synced: ratioAtLeast('sequential 1 MiB writes and an fsync / local', 0.7),
  syncedRate: { name: 'sequential 1 MiB writes and an fsync', unit: 'MB/s' },
} satisfies Record<string, Row>;

export const sequentialWrites: Experiment = {
  name: 'sequential writes',
  async open(imageBytes) {
    const site = await Site.open(linkNamed('loopback'), 1 << 20);
    const disk = localDisk();
    const plain = async (filename: string) => {
      const job = { filename, rw: 'write', bs: '1M', size: imageBytes, fallocate: 'none' };
      return (await fio(job)).write.bytesPerSecond;
    };
    const synced = async (filename: string) => {
      const { bytesPerSecond = Number.NaN } = await child(WORKLOAD, [
        'write',
        filename,
        imageBytes,
      ]);
      return bytesPerSecond;
    };
    return {
      async run(ledger) {
        const measured = async (work: (filename: string) => Promise<number>) => {
          const mount = writtenMount(site, 'back'); // its cache is empty
          const [local, mounted] = [disk.directory, mount.directory].map((at) => join(at, 'new'));
          if (local === undefined || mounted === undefined) throw new Error('no place to write to');
          try {
            const limit = await work(local);
            rmSync(local);
            return { limit, got: await work(mounted) };
          } finally {
            execFileSync('rm', ['-f', mounted]);
            await mount.close();
          }
        };
        const fast = await measured(plain);
        ledger.add(rows.plain, fast.got / 1e6);
        ledger.add(rows.local, fast.limit / 1e6);
        const safe = await measured(synced);
        ledger.add(rows.syncedRate, safe.got / 1e6);
        ledger.add(rows.synced, safe.got / safe.limit);
      },
      async close() {
        await site.close();
        disk.remove();
      },
    };
  },
};
