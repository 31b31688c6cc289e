/**
 * Whether a directory can be mounted upon, found out without ever touching it from this process:
 * a look at a mount whose daemon hangs would hang us too. Another process looks, with a time limit.
 */
import { spawn } from 'node:child_process';
import { readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { mountAt } from '../fuse/mountinfo.ts';
import type { MountFailure, MountpointFault } from './mount-failure.ts';

/** The real path of the directory, or what is wrong with it. `path` is absolute. */
export async function checkMountpoint(path: string): Promise<Result<string, MountFailure>> {
  const seen = await look(path);
  if (seen !== 'directory') return fault(path, seen);
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    // The kernel answered the look from what it remembers of a mount whose daemon is gone.
    return fault(path, 'stale');
  }
  const present = await mountAt(real);
  if (present?.type !== 'fuse.gvfs') return ok(real);
  // The kernel may have answered from what it remembers; statfs(2) asks the daemon each time.
  if ((await look(real, ['-f'])) === 'stale') return fault(real, 'stale');
  return fault(real, 'inUse', present.source);
}

/** Whether a file that may not exist yet would lie in the directory. Both paths are absolute. */
export function liesBeneath(file: string, directory: string): boolean {
  return `${realPathOf(file)}/`.startsWith(directory === '/' ? '/' : `${directory}/`);
}

/** The kernel follows no more (linux/namei.h, MAXSYMLINKS). */
const LINKS_MAX = 40;

/** The real path of what exists of it, and the rest as it is written, or as a link there says. */
function realPathOf(path: string, left = { links: LINKS_MAX }): string {
  try {
    return realpathSync(path);
  } catch {
    if (dirname(path) === path) return path;
    const directory = realPathOf(dirname(path), left);
    const target = left.links-- > 0 ? targetOf(path) : undefined;
    if (target === undefined) return join(directory, basename(path));
    return realPathOf(resolve(directory, target), left);
  }
}

/** Where a symbolic link leads. */
function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function fault(
  mountpoint: string,
  fault: MountpointFault,
  occupant?: string,
): Result<never, MountFailure> {
  const known = occupant === undefined ? {} : { occupant };
  return err({ kind: 'mountpoint', fault, mountpoint, ...known });
}

const LOOK_LIMIT_MS = 3000;

/** What stat(1) says of the path; its messages are strerror(3)'s in the C locale. */
function look(
  path: string,
  how: readonly string[] = ['-L', '-c', '%F'],
): Promise<'directory' | MountpointFault> {
  return new Promise((done) => {
    const child = spawn('stat', [...how, '--', path], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    });
    let text = '';
    const read = (chunk: Buffer) => {
      text += chunk;
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    const timeout = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref(); // it may not end before the mount that it waits for
      done('hangs');
    }, LOOK_LIMIT_MS);
    const finish = (answer: 'directory' | MountpointFault) => {
      clearTimeout(timeout);
      done(answer);
    };
    child.on('error', () => finish('directory')); // no stat(1): mount(2) will tell
    child.on('close', (status) => finish(status === 0 ? typeIn(text) : faultIn(text)));
  });
}

function typeIn(text: string): 'directory' | MountpointFault {
  return text.trim() === 'directory' ? 'directory' : 'notDirectory';
}

function faultIn(text: string): MountpointFault {
  if (text.includes('Transport endpoint is not connected')) return 'stale';
  if (text.includes('No such file or directory')) return 'missing';
  if (text.includes('Not a directory')) return 'notDirectory';
  return 'denied';
}
