/**
 * A cache that has grown: a thousand images of which every second block is present, and one of
 * 1 TB. How soon a mount answers, what memory it takes, and what eviction costs the event loop.
 */

import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FileHandle, Name } from '../../../src/base/brand.ts';
import { ExportDirectory } from '../../../src/cache/export-directory.ts';
import { BLOCK_BYTES, PAGES_PER_BLOCK } from '../../../src/cache/file-io.ts';
import { ImageDirectory } from '../../../src/cache/image-directory.ts';
import { NativeFileIo } from '../../../src/cache/native-file-io.ts';
import { Nfs3Client } from '../../../src/nfsc/index.ts';
import type { Attributes } from '../../../src/vfs/ports.ts';
import { fio } from '../fio.ts';
import { linkNamed, Site } from '../site.ts';
import { cacheDirectory, counts, mountCached } from './cached-mount.ts';
import type { Experiment } from './experiments.ts';
import { atMost, type Row } from './ledger.ts';

const IMAGES = 1000;
const IMAGE_BYTES = 1 << 20;
const LARGE_BYTES = 2 ** 40;
const LARGE = 'large.raw';
/** Half of what the thousand take: the rest has to go. */
const LIMIT = '256M';

const rows = {
  mount: atMost('1,000 images and one of 1 TB: the mount answers', 'ms', 1000),
  resident: atMost('the same: resident memory at the most', 'MB', 300),
  delay: atMost('the same: largest delay of the event loop while half is evicted', 'ms', 50),
} satisfies Record<string, Row>;

export const crowd: Experiment = {
  name: 'crowd',
  async open() {
    const site = await Site.open(linkNamed('loopback'), 1 << 20);
    const cache = cacheDirectory();
    const pristine = join(cache.path, 'pristine');
    const used = join(cache.path, 'used');
    mkdirSync(pristine, { mode: 0o700 });
    await fill(site, pristine);
    return {
      async run(ledger) {
        execFileSync('cp', ['-a', '--sparse=always', pristine, used]);
        const mount = mountCached(site, used, 'exclusive', `cachesize=${LIMIT}`, 'cachefree=0%');
        try {
          ledger.add(rows.mount, mount.mountMs);
          const large = join(mount.directory, LARGE);
          await fio({ filename: large, rw: 'randread', bs: '4k', size: '1T', io_size: '16M' });
          await sleep(5_000); // the eviction is under way or done
          ledger.add(rows.delay, (await counts(mount.directory)).loopDelayMaxMs);
          ledger.add(rows.resident, mount.peakResidentBytes() / 1e6);
        } finally {
          mount.unmount();
          rmSync(used, { recursive: true });
        }
      },
      async close() {
        await site.close();
        cache.remove();
      },
    };
  },
};

/** Makes the files on the server and, by the cache's own code, what an earlier mount has kept. */
async function fill(site: Site, cacheDir: string): Promise<void> {
  const { port, mountPort, server } = { ...site.route, server: site.server };
  execFileSync('truncate', ['-s', String(LARGE_BYTES), join(server.directory, LARGE)]);
  const home = join(server.directory, 'crowd');
  mkdirSync(home);
  for (let at = 0; at < IMAGES; at++) {
    execFileSync('truncate', ['-s', String(IMAGE_BYTES), join(home, `${at}.raw`)]);
  }
  const exportPath = server.exportPath;
  const client = must(await Nfs3Client.mount({ server: '127.0.0.1', exportPath, port, mountPort }));
  const io = must(NativeFileIo.open());
  const directory = must(
    await ExportDirectory.open({
      ...{ cacheDir, server: client.server, exportPath, pid: process.pid },
      ...{ socket: '', mountpoint: '', io },
    }),
  );
  const root = { uid: 0, gid: 0, groups: [] };
  const find = async (parent: FileHandle, name: string) =>
    must(await client.lookup(root, parent, Buffer.from(name) as Name)).file;
  const parent = await find(client.root, 'crowd');
  for (let at = 0; at < IMAGES; at++) {
    const file = await find(parent, `${at}.raw`);
    const content = must(await client.getattr(root, file)) as Attributes;
    const image = must(await take(directory, file, content, `crowd/${at}.raw`, io));
    const block = randomFillSync(Buffer.alloc(BLOCK_BYTES));
    for (let index = 0; index < IMAGE_BYTES / BLOCK_BYTES; index += 2) {
      const stored = await io.store(image.dataFd, index * BLOCK_BYTES, block, 'trusted');
      const page = index * PAGES_PER_BLOCK;
      image.map.mark(page, page + PAGES_PER_BLOCK, stored.sums);
    }
    await image.settle(content);
    await image.close(true);
  }
  const file = await find(client.root, LARGE);
  const content = must(await client.getattr(root, file)) as Attributes;
  const image = must(await take(directory, file, content, LARGE, io));
  for (let page = 0; page < LARGE_BYTES / 4096; page += 2 * PAGES_PER_BLOCK) {
    image.map.mark(page, page + PAGES_PER_BLOCK); // zeros: present, and a hole
  }
  await image.settle(content);
  await image.close(true);
  await directory.close();
  await io.close();
  await client.unmount();
}

function take(
  directory: ExportDirectory,
  file: FileHandle,
  content: Attributes,
  path: string,
  io: NativeFileIo,
) {
  return ImageDirectory.open(directory, file, content, { path, nowMs: Date.now() }, io);
}

function must<T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T {
  if (result.ok) return result.value;
  throw new Error(`it could not be set up: ${JSON.stringify(result.error)}`);
}
