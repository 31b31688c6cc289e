/** Mounts with the built `gvfs-mount` and unmounts with `fusermount3`, as a user does. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Status } from '../../src/daemon/control/schema.ts';

export interface MountRequest {
  /** HOST:/EXPORT. */
  source: string;
  /** An empty directory. */
  mountpoint: string;
  /** As behind -o. */
  options: readonly string[];
}

/** Resolves when the mount answers; its daemon is then in the background. */
export async function mount({ source, mountpoint, options }: MountRequest): Promise<void> {
  if (!existsSync(GVFS_MOUNT)) throw new Error(`${GVFS_MOUNT} is not there: npm run build`);
  await run(process.execPath, [GVFS_MOUNT, '-o', options.join(','), source, mountpoint]);
}

/** Ends the mount; tries again for a while as long as it is busy. */
export async function unmount(mountpoint: string): Promise<void> {
  for (let tries = 1; isMounted(mountpoint); tries++) {
    try {
      await run('fusermount3', ['-u', mountpoint]);
    } catch (error) {
      if (tries === 10) throw error;
      await sleep(500);
    }
  }
}

/** Fetches what is absent of a file of the mount. */
export async function warm(path: string): Promise<void> {
  await run(process.execPath, [GVFS, 'warm', path]);
}

/** Bytes that the mount has read from the server's files so far. */
export async function imageBytesRead(mountpoint: string): Promise<number> {
  const printed = await run(process.execPath, [GVFS, 'status', '--json', mountpoint]);
  return (JSON.parse(printed) as Status).server.readBytes;
}

/** Looks into the kernel's table; never touches the mount itself. */
export function isMounted(mountpoint: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountpoint} `);
}

const GVFS = fileURLToPath(new URL('../../dist/cli/gvfs.js', import.meta.url));
const GVFS_MOUNT = fileURLToPath(new URL('../../dist/cli/gvfs-mount.js', import.meta.url));
const LIMIT_MS = 60_000;

/** Gives what the program has printed; rejects with what it has complained of. */
async function run(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { timeout: LIMIT_MS })).stdout;
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw new Error(stderr.trim() || message);
  }
}
