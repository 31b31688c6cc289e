import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { DiskHealth, type DiskReport, diskProbe, errnoOf } from '../../src/cache/disk-health.ts';
import { Errno } from '../../src/errors/errno.ts';
import { ManualClock } from '../base/manual-clock.ts';

class Watched {
  readonly clock = new ManualClock();
  readonly changes: string[] = [];
  probes = 0;
  /** What the next tries answer; the last one again and again. */
  answers: number[] = [0];
  readonly health = new DiskHealth({
    clock: this.clock,
    probe: () => {
      this.probes++;
      return Promise.resolve(this.#nextAnswer());
    },
    changed: (report: DiskReport, was) => this.changes.push(`${was} -> ${report.state}`),
  });

  async advance(ms: number): Promise<void> {
    this.clock.advance(ms);
    await settled();
  }

  #nextAnswer(): number {
    const [answer = 0] = this.answers;
    if (this.answers.length > 1) this.answers.shift();
    return answer;
  }
}

/** Promises that were resolved have run their callbacks. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('a full disk is read and marked, not stored to, and is tried when room was made', async () => {
  const { health, changes } = new Watched();
  assert.deepEqual([health.mayStore, health.mayMark, health.mayRead], [true, true, true]);
  health.failed(Errno.ENOSPC, 'write');
  health.failed(Errno.EDQUOT, 'write');
  assert.deepEqual([health.mayStore, health.mayMark, health.mayRead], [false, true, true]);
  assert.deepEqual(health.report(), {
    state: 'full',
    errno: Errno.ENOSPC,
    work: 'write',
    failures: 0,
  });
  health.roomMade();
  await settled();
  assert.equal(health.state, 'healthy');
  assert.deepEqual(changes, ['healthy -> full', 'full -> healthy']);
});

test('room made is no news to a disk that is not full', async () => {
  const watched = new Watched();
  watched.health.roomMade();
  watched.health.failed(Errno.EIO, 'write');
  watched.health.roomMade();
  await settled();
  assert.equal(watched.probes, 0);
});

test('a failing disk is tried ever more seldom, and says only what changed', async () => {
  const watched = new Watched();
  const { health } = watched;
  watched.answers = [Errno.EIO, Errno.EROFS, 0];
  health.failed(Errno.EROFS, 'write');
  assert.deepEqual([health.mayStore, health.mayMark, health.mayRead], [false, false, true]);
  await watched.advance(999);
  assert.equal(watched.probes, 0);
  await watched.advance(1);
  assert.equal(watched.probes, 1);
  assert.equal(health.state, 'failing');
  await watched.advance(1_999);
  assert.equal(watched.probes, 1);
  await watched.advance(1);
  assert.equal(watched.probes, 2);
  await watched.advance(4_000);
  assert.equal(health.state, 'healthy');
  assert.deepEqual(watched.changes, ['healthy -> failing', 'failing -> healthy']);
});

test('while a try is under way the disk is probing, nothing is allowed, and no other starts', async () => {
  const clock = new ManualClock();
  let answer: (errno: number) => void = () => assert.fail('no try is under way');
  let probes = 0;
  const health = new DiskHealth({
    clock,
    probe: () => {
      probes++;
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
    changed: () => undefined,
  });
  health.failed(Errno.EIO, 'sync');
  clock.advance(1_000);
  assert.equal(health.state, 'probing');
  assert.deepEqual([health.mayStore, health.mayMark], [false, false]);
  clock.advance(1_000_000);
  assert.equal(probes, 1);
  answer(0);
  await settled();
  assert.equal(health.state, 'healthy');
  health.failed(Errno.ENOSPC, 'write');
  health.roomMade();
  health.roomMade();
  assert.equal(probes, 2);
});

test('a disk that is healthy for moments only does not get its first pause back', async () => {
  const watched = new Watched();
  watched.health.failed(Errno.EIO, 'write');
  await watched.advance(1_000);
  assert.equal(watched.health.state, 'healthy');
  watched.health.failed(Errno.EIO, 'write');
  await watched.advance(1_000);
  assert.equal(watched.health.state, 'failing');
  await watched.advance(1_000);
  assert.equal(watched.health.state, 'healthy');
  await watched.advance(60_000);
  watched.health.failed(Errno.EIO, 'write');
  await watched.advance(1_000);
  assert.equal(watched.health.state, 'healthy');
});

test('a full disk that fails is failing, and a failing one that is full is full', async () => {
  const watched = new Watched();
  watched.health.failed(Errno.ENOSPC, 'write');
  watched.health.failed(Errno.ENODEV, 'read');
  watched.answers = [Errno.ENOSPC, 0];
  await watched.advance(2_000);
  assert.equal(watched.health.state, 'full');
  watched.health.roomMade();
  await settled();
  assert.deepEqual(watched.changes, [
    'healthy -> full',
    'full -> failing',
    'failing -> full',
    'full -> healthy',
  ]);
});

test('reads go on after one bad sector, and no more after many, until a try has worked', async () => {
  const watched = new Watched();
  const { health } = watched;
  for (let i = 0; i < 7; i++) health.failed(Errno.EIO, 'read');
  assert.equal(health.mayRead, true);
  health.failed(Errno.EIO, 'read');
  assert.equal(health.mayRead, false);
  await watched.advance(1_000);
  assert.equal(health.mayRead, true);
  assert.equal(health.report().failures, 8);
});

test('after close nothing is tried, and threads that end are no failure of the disk', async () => {
  const watched = new Watched();
  watched.health.failed(125, 'write');
  assert.equal(watched.health.state, 'healthy');
  watched.health.failed(Errno.EIO, 'write');
  watched.health.close();
  await watched.advance(1_000_000);
  assert.equal(watched.probes, 0);
});

test('a real disk that fills up is full until a file went, then healthy', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gvfs-health-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'gvfs-test', directory]);
  try {
    const clock = new ManualClock();
    let changed: (state: DiskReport) => void = () => undefined;
    const health = new DiskHealth({
      clock,
      probe: diskProbe(directory),
      changed: (report) => changed(report),
    });
    const all = join(directory, 'all');
    assert.throws(
      () => writeFileSync(all, Buffer.alloc(2 * 1024 * 1024)),
      (error) => {
        health.failed(errnoOf(error), 'write');
        return true;
      },
    );
    assert.equal(health.state, 'full');
    let rounds = 0;
    const healthy = new Promise<DiskReport>((resolve) => {
      changed = resolve;
    });
    // Room that was made and is not enough: it goes on trying.
    health.roomMade();
    while (health.state === 'full' && rounds++ < 10_000) {
      if (rounds === 20) rmSync(all);
      clock.advance(60_000);
      await setTimeout(1);
    }
    assert.equal((await healthy).state, 'healthy');
    assert.ok(rounds >= 20);
    assert.equal(health.mayStore, true);
    health.close();
  } finally {
    execFileSync('umount', [directory]);
    rmSync(directory, { recursive: true });
  }
});

test('the real try: a full file system, one with room again, a read-only one, a missing one', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gvfs-health-'));
  const mounted = join(directory, 'disk');
  mkdirSync(mounted);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'gvfs-test', mounted]);
  try {
    const probe = diskProbe(mounted);
    assert.equal(await probe(), 0);
    assert.deepEqual(readdirSync(mounted), []);
    writeFileSync(join(mounted, 'all'), Buffer.alloc(1024 * 1024));
    assert.equal(await probe(), Errno.ENOSPC);
    assert.deepEqual(readdirSync(mounted), ['all']);
    rmSync(join(mounted, 'all'));
    assert.equal(await probe(), 0);
    execFileSync('mount', ['-o', 'remount,ro', mounted]);
    assert.equal(await probe(), Errno.EROFS);
  } finally {
    execFileSync('umount', [mounted]);
    rmSync(directory, { recursive: true });
  }
  assert.equal(await diskProbe(mounted)(), Errno.ENOENT);
});
