/**
 * What is measured of a directory, and how. Every case starts with the page cache of its file
 * dropped on the reader's side (fio's `invalidate`); the server keeps the file in its memory.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { fio } from './fio.ts';
import { IMAGE, SCRATCH, type Site } from './site.ts';

/** How much work a case does; less on a slower link. */
export interface Effort {
  readonly writeBytes: number;
  readonly seconds: number;
  /** Files to create and unlink. */
  readonly names: number;
}

export interface Target {
  readonly directory: string;
  readonly site: Site;
  readonly effort: Effort;
  /** A mount that was made just now, so that nothing is cached. */
  readonly fresh: boolean;
}

export const caseNames = [
  'first byte',
  'sequential read',
  'sequential read, O_DIRECT',
  'random read, depth 1',
  'random read, depth 16',
  'random read, buffered',
  'sequential write + fsync',
  'random write, each fsynced',
  'create',
  'first stat after a listing',
  'unlink',
] as const;

export type CaseName = (typeof caseNames)[number];

export const units: Record<CaseName, 'MB/s' | '1/s' | 'ms'> = {
  'first byte': 'ms',
  'sequential read': 'MB/s',
  'sequential read, O_DIRECT': 'MB/s',
  'random read, depth 1': '1/s',
  'random read, depth 16': '1/s',
  'random read, buffered': '1/s',
  'sequential write + fsync': 'MB/s',
  'random write, each fsynced': '1/s',
  create: '1/s',
  'first stat after a listing': '1/s',
  unlink: '1/s',
};

/** Runs the wanted cases on one target, in the order in which a fresh mount has to see them. */
export async function measure(
  target: Target,
  wanted: ReadonlySet<CaseName>,
): Promise<Map<CaseName, number>> {
  const { directory, site, effort } = target;
  const image = join(directory, IMAGE);
  const scratch = join(directory, SCRATCH);
  const results = new Map<CaseName, number>();
  const run = async (name: CaseName, work: () => Promise<number>) => {
    if (wanted.has(name)) results.set(name, await work());
  };
  const readRate = async (options: Record<string, string | number>) =>
    (await fio({ filename: image, rw: 'read', bs: '1M', size: site.imageBytes, ...options })).read
      .bytesPerSecond / 1e6;
  const timed = { time_based: true, runtime: effort.seconds, bs: '4k' } as const;
  const readsASecond = async (options: Record<string, string | number>) =>
    (await fio({ filename: image, rw: 'randread', size: site.imageBytes, ...timed, ...options }))
      .read.operationsPerSecond;

  await run('first byte', async () => (await workload('first-byte', image)).ms ?? Number.NaN);
  await run('sequential read', () => readRate({ invalidate: 1 }));
  await run('sequential read, O_DIRECT', () => readRate({ direct: 1 }));
  await run('random read, depth 1', () => readsASecond({ direct: 1 }));
  await run('random read, depth 16', () =>
    readsASecond({ direct: 1, ioengine: 'libaio', iodepth: 16 }),
  );
  await run('random read, buffered', () => readsASecond({ invalidate: 1 }));
  await run('sequential write + fsync', async () => {
    const written = await workload('write', join(directory, 'written'), effort.writeBytes);
    return (written.bytesPerSecond ?? Number.NaN) / 1e6;
  });
  await run('random write, each fsynced', async () => {
    const job = { filename: scratch, rw: 'randwrite', size: '64M', fsync: 1, ...timed };
    return (await fio(job)).write.operationsPerSecond;
  });
  if (wanted.has('create') || wanted.has('unlink')) {
    const names = await workload('names', directory, effort.names);
    await run('create', async () => names.create ?? Number.NaN);
    await run('unlink', async () => names.unlink ?? Number.NaN);
  }
  await run('first stat after a listing', async () => {
    const listed = await workload('stat', join(directory, site.freshListing()));
    return listed.stat ?? Number.NaN;
  });
  return results;
}

const WORKLOAD = fileURLToPath(new URL('workload.ts', import.meta.url));

async function workload(...args: (string | number)[]): Promise<Record<string, number>> {
  return child(WORKLOAD, args);
}

/** Runs a script of ours in a process of its own and gives the JSON object that it prints. */
export async function child(
  script: string,
  args: readonly (string | number)[],
): Promise<Record<string, number>> {
  const command = ['--import', 'tsx', script, ...args.map(String)];
  const { stdout } = await promisify(execFile)(process.execPath, command, { timeout: 300_000 });
  return JSON.parse(stdout) as Record<string, number>;
}
