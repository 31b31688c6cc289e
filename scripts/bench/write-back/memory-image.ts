/**
 * The memory state of a VM, most of it zeros, written new through the mount, and written again after
 * little of it has changed: what crosses the link.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment } from '../cache/experiments.ts';
import { atMost, type Row } from '../cache/ledger.ts';
import { linkNamed, Site } from '../site.ts';
import { localDisk } from './local-disk.ts';
import { writtenMount } from './written-mount.ts';

const PAGE_BYTES = 4096;
const MOST_BYTES = 1 << 30;
const FILLED = 0.1;
const CHANGED = 0.05;

const rows = {
  fresh: atMost('a memory image, 90 % zeros, written new: bytes of the link / size', 'ratio', 0.11),
  again: atMost('the same, rewritten with 5 % changed: bytes of the link / size', 'ratio', 0.07),
} satisfies Record<string, Row>;

export const memoryImage: Experiment = {
  name: 'memory image',
  async open(imageBytes) {
    const bytes = Math.min(imageBytes, MOST_BYTES);
    const site = await Site.open(linkNamed('lan'), 1 << 20);
    const disk = localDisk();
    const state = join(disk.directory, 'memory');
    return {
      async run(ledger) {
        const mount = writtenMount(site, 'back');
        const target = join(mount.directory, 'memory');
        const sent = async () => {
          const before = await site.bytesToServer();
          const blocks = ['bs=1M', 'conv=notrunc'];
          execFileSync('dd', [`if=${state}`, `of=${target}`, ...blocks], { stdio: 'ignore' });
          await mount.writeBack(target);
          return ((await site.bytesToServer()) - before) / bytes;
        };
        try {
          writeFileSync(state, '');
          truncateSync(state, bytes);
          fillPages(state, bytes, FILLED);
          ledger.add(rows.fresh, await sent());
          fillPages(state, bytes, CHANGED);
          ledger.add(rows.again, await sent());
        } finally {
          execFileSync('rm', ['-f', target]);
          await mount.close();
        }
      },
      async close() {
        await site.close();
        disk.remove();
      },
    };
  },
};

/** Random bytes in so great a share of the pages, wherever. */
function fillPages(path: string, bytes: number, share: number): void {
  const page = Buffer.alloc(PAGE_BYTES);
  const fd = openSync(path, 'r+');
  for (let offset = 0; offset < bytes; offset += PAGE_BYTES) {
    if (Math.random() < share) writeSync(fd, randomFillSync(page), 0, PAGE_BYTES, offset);
  }
  closeSync(fd);
}
