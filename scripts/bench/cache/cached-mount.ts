/** A mount with a disk cache of its own, and what its daemon counts. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Status } from '../../../src/daemon/control/schema.ts';
import type { Mount, Site } from '../site.ts';

const GVFS = fileURLToPath(new URL('../../../dist/cli/gvfs.js', import.meta.url));

export type SessionKind = 'shared' | 'exclusive' | 'readonly';

/** A directory for a cache, and the way to be rid of it. */
export function cacheDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'gvfs-bench-cache-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function mountCached(
  site: Site,
  cache: string,
  session: SessionKind,
  ...more: string[]
): Mount {
  return site.mount('native', [`cachedir=${cache}`, `session=${session}`, ...more]);
}

/** Runs `gvfs` and gives what it printed. */
export async function gvfs(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [GVFS, ...args], {
    timeout: 600_000,
    maxBuffer: 64 << 20,
  });
  return stdout;
}

/** Fetches the whole image and has every block of it checked. */
export async function complete(file: string): Promise<void> {
  await gvfs('warm', file);
  await gvfs('warm', '--check', file);
}

export interface Counts {
  /** READ calls sent to the server. */
  readonly readRpcs: number;
  /** READ requests of the kernel that the daemon has answered. */
  readonly kernelReads: number;
  /** The event loop's delay since the start, milliseconds. */
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
}

/** What the daemon of a mount has counted so far. */
export async function counts(mountpoint: string): Promise<Counts> {
  const { rpcs, operations, eventLoop } = JSON.parse(
    await gvfs('status', '--json', mountpoint),
  ) as Status;
  return {
    readRpcs: rpcs.find(({ procedure }) => procedure === 'READ')?.calls ?? 0,
    kernelReads: operations.find(({ operation }) => operation === 'READ')?.calls ?? 0,
    loopDelayP99Ms: eventLoop.p99Ms,
    loopDelayMaxMs: eventLoop.maxMs,
  };
}
