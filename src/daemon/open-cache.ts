/**
 * Opens the cache of an export, or takes it over from a daemon whose mount is gone and which has
 * not let go of it yet.
 *
 * Such a daemon is left in peace for a moment: its last writes are being settled, and an image that
 * writes through belong to is dropped where it does not come to that. Then it is asked to let go.
 * What is unsent stays in the cache, for us to send; with what it holds itself it goes on waiting
 * for its server: nothing acknowledged is lost.
 */
import { readdir, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { err, type Result } from '../base/result.ts';
import type { ExportRefusal, LockHolder } from '../cache/export-directory.ts';
import { mountAt } from '../fuse/mountinfo.ts';
import { notLocal } from './cache-disk.ts';
import type { MountFailure } from './mount-failure.ts';
import { liesBeneath } from './mountpoint.ts';

/** What a daemon that is draining is sent. A SIGTERM could be its second: it would give up. */
export const LET_GO_SIGNAL = 'SIGUSR2';

/** All in all at most two seconds: for it to end by itself, and after it was asked. */
const PATIENCE_MS = 400;
const LET_GO_MS = 1_600;
const PAUSE_MS = 20;

export interface Opening<T> {
  readonly cacheDirectory: string;
  /** '' without one: nothing is mounted. */
  readonly mountpoint: string;
  /** Tries once. */
  open(): Promise<Result<T, ExportRefusal>>;
  /** Why the directory is no place for a cache. Replaced by tests. */
  notLocal?(directory: string): Promise<string | undefined>;
  /** Asks the holder of the lock file to let go. Replaced by tests. */
  askToLetGo?(holder: LockHolder, directory: string): Promise<void>;
}

/** The cache, or why the mount cannot have it. */
export async function openCache<T>(opening: Opening<T>): Promise<Result<T, MountFailure>> {
  const { cacheDirectory: directory, mountpoint } = opening;
  if (mountpoint !== '' && liesBeneath(directory, mountpoint)) {
    return err({ kind: 'cache', fault: 'inside', directory, message: mountpoint });
  }
  const elsewhere = await (opening.notLocal ?? notLocal)(directory);
  if (elsewhere !== undefined) return unusable(directory, elsewhere);
  const startMs = performance.now();
  let asked = false;
  for (;;) {
    const opened = await opening.open();
    if (opened.ok) return opened;
    const refusal = opened.error;
    const elapsedMs = performance.now() - startMs;
    const { message } = refusal;
    if (refusal.kind === 'refused') return unusable(directory, message);
    const { holder } = refusal;
    const ending = holder === undefined ? elapsedMs < PATIENCE_MS : await isEnding(holder);
    if (!ending || elapsedMs > PATIENCE_MS + LET_GO_MS) {
      return err({ kind: 'cache', fault: 'locked', directory, message });
    }
    if (!asked && elapsedMs > PATIENCE_MS && holder?.state === 'draining') {
      asked = true;
      await (opening.askToLetGo ?? askToLetGo)(holder, directory);
    }
    await sleep(PAUSE_MS);
  }
}

function unusable(directory: string, message: string): Result<never, MountFailure> {
  return err({ kind: 'cache', fault: 'unusable', directory, message });
}

/** It says so, or its mount is gone and it has not noticed yet. */
async function isEnding({ state, mountpoint }: LockHolder): Promise<boolean> {
  return state === 'draining' || (await mountAt(mountpoint))?.type !== 'fuse.gvfs';
}

/** Process ids are used again: it is the holder only if it has the lock file of this cache open. */
async function askToLetGo({ pid }: LockHolder, directory: string): Promise<void> {
  try {
    const cache = `${await realpath(directory)}/`;
    const descriptors = `/proc/${pid}/fd`;
    for (const fd of await readdir(descriptors)) {
      const file = await readlink(join(descriptors, fd)).catch(() => '');
      if (!file.startsWith(cache) || !file.endsWith('/LOCK')) continue;
      process.kill(pid, LET_GO_SIGNAL);
      return;
    }
  } catch {
    // It has ended meanwhile, or is another user's: the next attempt will tell.
  }
}
