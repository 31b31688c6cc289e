/**
 * The demo's guest boots from an absent image over the slow link: how much more crosses it than the
 * guest has touched.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootGuest } from '../../guest/boot.ts';
import { makeGuest } from '../../guest/make.ts';
import { linkNamed, Site } from '../site.ts';
import { cacheDirectory, mountCached } from './cached-mount.ts';
import type { Experiment } from './experiments.ts';
import type { Row } from './ledger.ts';

const PAGE_BYTES = 4096;

const rows = {
  share: {
    name: 'booting a guest over the WAN: bytes of the link / bytes touched',
    unit: 'ratio',
    bar: { kind: 'at most', value: 1.25 },
  },
  touched: { name: 'booting a guest: bytes touched', unit: 'MB' },
} satisfies Record<string, Row>;

export const booting: Experiment = {
  name: 'booting',
  async open() {
    const site = await Site.open(linkNamed('wan'), 1 << 20);
    const guest = await makeGuest(site.server.directory);
    const work = mkdtempSync(join(tmpdir(), 'gvfs-bench-boot-'));
    return {
      async run(ledger) {
        const cache = cacheDirectory();
        const mount = mountCached(site, cache.path, 'exclusive');
        const requestLog = join(work, 'requests');
        try {
          const before = await site.bytesToClient();
          const disk = join(mount.directory, guest.disk.slice(guest.disk.lastIndexOf('/') + 1));
          const { kernel, initrd } = guest; // beside the mount: only the disk is measured
          await bootGuest({ kernel, initrd, disk, cache: 'none', requestLog });
          const crossed = (await site.bytesToClient()) - before;
          const touched = touchedBytes(readFileSync(requestLog, 'utf8'), statSync(guest.disk).size);
          ledger.add(rows.share, crossed / touched);
          ledger.add(rows.touched, touched / 1e6);
        } finally {
          mount.unmount();
          cache.remove();
          rmSync(requestLog, { force: true });
        }
      },
      async close() {
        rmSync(work, { recursive: true });
        await site.close();
      },
    };
  },
};

/** The pages of the disk that were read at least once, in bytes. */
function touchedBytes(requests: string, sizeBytes: number): number {
  const touched = new Set<number>();
  for (const [, at, length] of requests.matchAll(/blk_co_preadv.* offset (\d+) bytes (\d+)/g)) {
    const end = Math.min(Number(at) + Number(length), sizeBytes);
    for (let page = Math.floor(Number(at) / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      touched.add(page);
    }
  }
  if (touched.size === 0) throw new Error('QEMU wrote down no request');
  return touched.size * PAGE_BYTES;
}
