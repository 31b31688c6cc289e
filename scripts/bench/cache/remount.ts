/** An image that an earlier mount has fetched: what the next one gives, without the network. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { child } from '../cases.ts';
import { fio } from '../fio.ts';
import { IMAGE, type LinkShape, links, Site } from '../site.ts';
import {
  cacheDirectory,
  complete,
  counts,
  gvfs,
  mountCached,
  type SessionKind,
} from './cached-mount.ts';
import type { Experiment } from './experiments.ts';
import type { Row } from './ledger.ts';

const WARMED_BYTES = 64 << 20;
const SLACK_MS = 5;
const WORKLOAD = fileURLToPath(new URL('../workload.ts', import.meta.url));

export const remounts: readonly Experiment[] = links.map(remount);

function remount(link: LinkShape): Experiment {
  const name = `remounted, ${link.name}`;
  const firstByte = (session: SessionKind): Row => {
    const value = session === 'shared' ? link.rttMs + SLACK_MS : SLACK_MS;
    return { name: `${name}: first byte, ${session}`, unit: 'ms', bar: { kind: 'at most', value } };
  };
  const rows = {
    rate: {
      name: `${name}: sequential, readonly / local`,
      unit: 'ratio',
      bar: { kind: 'ratio at least', value: 0.9 },
    },
    daemon: { name: `${name}: sequential O_DIRECT, exclusive`, unit: 'MB/s' },
    reads: {
      name: `${name}: READs to the server`,
      unit: '1',
      bar: { kind: 'at most', value: 0 },
    },
  } satisfies Record<string, Row>;
  return {
    name,
    async open() {
      const site = await Site.open(link, WARMED_BYTES);
      const local = join(site.server.directory, IMAGE);
      const sequential = { rw: 'read', bs: '1M', size: WARMED_BYTES, loops: 8 } as const;
      return {
        async run(ledger) {
          const cache = cacheDirectory();
          try {
            const first = mountCached(site, cache.path, 'exclusive');
            await gvfs('warm', join(first.directory, IMAGE));
            first.unmount();
            // Shared last: from then on an earlier session's knowledge is not to be believed.
            for (const session of ['exclusive', 'readonly', 'shared'] as const) {
              const mount = mountCached(site, cache.path, session);
              const filename = join(mount.directory, IMAGE);
              try {
                const { ms = Number.NaN } = await child(WORKLOAD, ['first-byte', filename]);
                ledger.add(firstByte(session), ms);
                if (session === 'readonly') {
                  await complete(filename);
                  const warm = { ...sequential, invalidate: 0 };
                  const limit = (await fio({ ...warm, filename: local })).read.bytesPerSecond;
                  const rate = (await fio({ ...warm, filename })).read.bytesPerSecond;
                  ledger.add(rows.rate, rate / limit);
                }
                if (session === 'exclusive') {
                  const { read } = await fio({ ...sequential, filename, direct: 1 });
                  ledger.add(rows.daemon, read.bytesPerSecond / 1e6);
                }
                ledger.add(rows.reads, (await counts(mount.directory)).readRpcs);
              } finally {
                mount.unmount();
              }
            }
          } finally {
            cache.remove();
          }
        },
        close: () => site.close(),
      };
    },
  };
}
