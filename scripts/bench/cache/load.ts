/**
 * Present pages of one image are read while eight others are being filled over a 1 Gbit/s link: the
 * reader hardly notices, and the event loop is never held up.
 */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fio } from '../fio.ts';
import { IMAGE, linkNamed, Site } from '../site.ts';
import { cacheDirectory, complete, counts, mountCached } from './cached-mount.ts';
import type { Experiment } from './experiments.ts';
import type { Row } from './ledger.ts';

const FILLED_IMAGES = 8;
const FILLED_BYTES = 256 << 20;
const PRESENT_BYTES = 256 << 20;
const SECONDS = 5;

const rows = {
  p99: {
    name: 'p99 of random 4 KiB reads while 8 images are filled / quiet',
    unit: 'ratio',
    bar: { kind: 'at most', value: 3 },
  },
  quiet: { name: 'p99 of random 4 KiB reads, quiet', unit: 'us' },
  loop: {
    name: "p99 of the event loop's delay under that load",
    unit: 'ms',
    bar: { kind: 'at most', value: 20 },
  },
} satisfies Record<string, Row>;

export const underLoad: Experiment = {
  name: 'under load',
  async open() {
    const site = await Site.open(linkNamed('lan'), PRESENT_BYTES);
    const names = Array.from({ length: FILLED_IMAGES }, (_, at) => `absent-${at}.raw`);
    for (const name of names) {
      const path = join(site.server.directory, name);
      const args = ['if=/dev/urandom', `of=${path}`, 'bs=1M', `count=${FILLED_BYTES >> 20}`];
      execFileSync('dd', args, { stdio: 'ignore' });
    }
    return {
      async run(ledger) {
        const cache = cacheDirectory();
        const mount = mountCached(site, cache.path, 'exclusive');
        try {
          const filename = join(mount.directory, IMAGE);
          await complete(filename);
          const random = () =>
            fio({
              ...{ filename, rw: 'randread', bs: '4k', direct: 1, size: PRESENT_BYTES },
              ...{ time_based: true, runtime: SECONDS },
            });
          const quiet = (await random()).read.p99LatencyUs;
          const fills = names.map((name) =>
            execFile('dd', [`if=${join(mount.directory, name)}`, 'of=/dev/null', 'bs=1M']),
          );
          const busy = (await random()).read.p99LatencyUs;
          ledger.add(rows.quiet, quiet);
          ledger.add(rows.p99, busy / quiet);
          ledger.add(rows.loop, (await counts(mount.directory)).loopDelayP99Ms);
          for (const fill of fills) fill.kill();
          await Promise.all(fills.map(ended));
        } finally {
          mount.unmount();
          cache.remove();
        }
      },
      close: () => site.close(),
    };
  },
};

function ended(process: ReturnType<typeof execFile>): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return Promise.resolve();
  return new Promise((done) => process.once('exit', () => done()));
}
