import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { err, ok } from '../../src/base/result.ts';
import type { ExportRefusal, LockHolder } from '../../src/cache/export-directory.ts';
import { openCache } from '../../src/daemon/open-cache.ts';

describe('the cache of an export', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-open-cache-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** Refuses as told, one after the other, and then opens. */
  function opening(refusals: ExportRefusal[], asked: (holder: LockHolder) => void = () => {}) {
    let tries = 0;
    return {
      tries: () => tries,
      cacheDirectory: join(directory, 'cache'),
      mountpoint: join(directory, 'mnt'),
      async open() {
        const refusal = refusals[Math.min(tries++, refusals.length - 1)];
        return refusal === undefined || tries > refusals.length ? ok('open') : err(refusal);
      },
      askToLetGo: async (holder: LockHolder) => asked(holder),
    };
  }

  function locked(holder: Partial<LockHolder> = {}): ExportRefusal {
    const known: LockHolder = {
      pid: 4711,
      socket: '',
      mountpoint: join(directory, 'elsewhere'),
      source: 'images:2049:/vm',
      changes: true,
      state: 'serving',
      ...holder,
    };
    return { kind: 'locked', holder: known, message: 'it is in use' };
  }

  it('is opened', async () => {
    assert.deepEqual(await openCache(opening([])), ok('open'));
  });

  it('is not opened beneath the mountpoint', async () => {
    const inside = { ...opening([]), cacheDirectory: join(directory, 'mnt', 'a', 'cache') };
    const opened = await openCache(inside);
    assert.ok(!opened.ok && opened.error.kind === 'cache' && opened.error.fault === 'inside');
    assert.equal(inside.tries(), 0);
  });

  it('is not opened on a file system that is none of this host', async () => {
    const there = { ...opening([]), notLocal: async () => 'it is on NFS' };
    const opened = await openCache(there);
    assert.ok(!opened.ok && opened.error.kind === 'cache' && opened.error.fault === 'unusable');
    assert.equal(opened.error.message, 'it is on NFS');
    assert.equal(there.tries(), 0);
  });

  it('is refused at once where a disk or an owner is in the way', async () => {
    const error = { errno: 'EROFS', code: 'LOCAL', operation: 'open', message: 'no' } as const;
    const attempt = opening([{ kind: 'refused', error, message: 'a read-only disk' }]);
    const opened = await openCache(attempt);
    assert.deepEqual(opened, {
      ok: false,
      error: {
        kind: 'cache',
        fault: 'unusable',
        directory: join(directory, 'cache'),
        message: 'a read-only disk',
      },
    });
    assert.equal(attempt.tries(), 1);
  });

  it('is waited for while its daemon ends, whether it says so or not', async () => {
    const attempt = opening([locked(), locked(), locked({ state: 'draining' })]);
    assert.deepEqual(await openCache(attempt), ok('open'));
    assert.equal(attempt.tries(), 4);
  });

  it('is asked for once, when its daemon does not end by itself', async () => {
    const asked: number[] = [];
    let isFree = false;
    const attempt = opening([], ({ pid }) => {
      asked.push(pid);
      isFree = true;
    });
    const busy = err(locked({ state: 'draining' }));
    const opened = await openCache({ ...attempt, open: async () => (isFree ? ok('open') : busy) });
    assert.deepEqual(opened, ok('open'));
    assert.deepEqual(asked, [4711]);
  });

  it('is refused when its daemon does not let go of it', async () => {
    let asked = 0;
    const attempt = opening([], () => asked++);
    const busy = err(locked({ state: 'draining' }));
    const opened = await openCache({ ...attempt, open: async () => busy });
    assert.ok(!opened.ok && opened.error.kind === 'cache' && opened.error.fault === 'locked');
    assert.equal(opened.error.message, 'it is in use');
    assert.equal(asked, 1);
  });

  it('is asked for of the process that has its lock file open, and of no other', async (t) => {
    mkdirSync(join(directory, 'cache', 'id'), { recursive: true });
    const lock = join(directory, 'cache', 'id', 'LOCK');
    const script = 'trap "echo told; exit" USR2; echo up; while :; do sleep 0.1; done';
    const holder = spawn('sh', ['-c', `exec 9>"$0"; ${script}`, lock], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const stranger = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    t.after(() => {
      holder.kill('SIGKILL');
      stranger.kill('SIGKILL');
    });
    await Promise.all([once(holder.stdout, 'data'), once(stranger.stdout, 'data')]);
    const ended = once(holder, 'exit').then(() => true);
    let isFree = false;
    void ended.then(() => {
      isFree = true;
    });
    assert.ok(holder.pid !== undefined && stranger.pid !== undefined);

    const { askToLetGo: _, ...attempt } = opening([]);
    const busy = (pid: number) => err(locked({ pid, state: 'draining' }));
    const open = (pid: number) => async () => (isFree ? ok('open') : busy(pid));
    const refused = await openCache({ ...attempt, open: open(stranger.pid) });
    assert.ok(!refused.ok);
    assert.equal(stranger.exitCode, null);
    assert.deepEqual(await openCache({ ...attempt, open: open(holder.pid) }), ok('open'));
    assert.equal(stranger.exitCode, null);
  });
});
