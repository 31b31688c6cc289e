/**
 * Write back and flush, over a file system and a kernel that do as the test says.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { FileHandle, Ino } from '../../src/base/brand.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { Sending } from '../../src/daemon/sending.ts';
import type { UnsentFile } from '../../src/daemon/unsent-files.ts';
import { type FsError, localError, nfsError } from '../../src/errors/fs-error.ts';
import { ManualClock } from '../base/manual-clock.ts';

const never = new AbortController().signal;

describe('write back', () => {
  it('pulls what writers have in the kernel first, then sends all, and tells how far it is', async () => {
    const { sending, files, asked, finish, clock } = world();
    const progress: string[] = [];
    const sent = sending.writeBack(undefined, {
      signal: never,
      onProgress: (done, total) => progress.push(`${done}/${total}`),
    });
    await setImmediate();
    assert.deepEqual(asked, ['pull 1', 'settle 1', 'settle 2', 'settle all']);
    files.set(1, 100);
    clock.advance(200);
    finish(1, ok(undefined));
    finish(2, ok(undefined));
    finish(undefined, ok(undefined));
    const report = await sent;
    assert.deepEqual(report, {
      files: 2,
      sentFiles: 2,
      sentBytes: 5096,
      unsentBytes: 0,
      failed: [],
      ended: 'done',
    });
    assert.deepEqual(progress, ['0/5096', '900/5096', '5096/5096']);
  });

  it('is of one file alone when it is asked for one, written through or back', async () => {
    const { sending, asked, finish } = world();
    const sent = sending.writeBack(9 as Ino, { signal: never });
    await setImmediate();
    assert.deepEqual(asked, ['pull', 'settle 9']);
    finish(9, ok(undefined));
    assert.deepEqual((await sent).failed, []);
  });

  it('sends the others when one cannot be sent, and says which, and how much is left', async () => {
    const { sending, finish } = world();
    const sent = sending.writeBack(undefined, { signal: never });
    await setImmediate();
    finish(2, ok(undefined));
    const error = localError('ENOSPC', 'write', 'no room');
    finish(1, err(error));
    finish(undefined, err(error));
    const report = await sent;
    assert.deepEqual(report.failed, [{ path: 'a', unsentBytes: 1000, state: 'failing', error }]);
    assert.deepEqual(
      [report.files, report.sentFiles, report.sentBytes, report.unsentBytes],
      [2, 1, 4096, 1000],
    );
  });

  it('says whether it is in conflict, lost, or fails', async () => {
    const { sending, finish, states } = world();
    const failing = async (error: FsError) => {
      const sent = sending.writeBack(1 as Ino, { signal: never });
      await setImmediate();
      finish(1, err(error));
      return (await sent).failed.map(({ state }) => state);
    };
    assert.deepEqual(await failing(nfsError('NFS3ERR_NOSPC', 'WRITE')), ['failing']);
    assert.deepEqual(await failing(nfsError('NFS3ERR_STALE', 'GETATTR')), ['lost']);
    states.set(1, 'conflict');
    assert.deepEqual(await failing(localError('EIO', 'write back')), ['conflict']);
  });

  it('tells of writes that went through and were not committed', async () => {
    const { sending, files, finish } = world();
    files.clear();
    const sent = sending.writeBack(undefined, { signal: never });
    await setImmediate();
    const error = localError('EIO', 'commit', 'no');
    finish(undefined, err(error));
    assert.deepEqual((await sent).failed, [{ path: '', unsentBytes: 0, state: 'failing', error }]);
  });

  it('does not count what is written meanwhile', async () => {
    const { sending, files, finish } = world();
    const sent = sending.writeBack(undefined, { signal: never });
    await setImmediate();
    for (const ino of [1, 2, undefined]) finish(ino, ok(undefined));
    files.set(1, 70_000);
    const report = await sent;
    assert.equal(report.unsentBytes, 0);
    assert.deepEqual(report.failed, []);
  });

  it('gives up when the time is up, or nobody waits any more', async () => {
    const { sending, clock } = world();
    const late = sending.writeBack(undefined, { signal: never, timeoutMs: 500 });
    await setImmediate();
    clock.advance(500);
    const report = await late;
    assert.deepEqual([report.ended, report.unsentBytes, report.sentBytes], ['timedOut', 5096, 0]);
    const cancel = new AbortController();
    const left = sending.writeBack(undefined, { signal: cancel.signal, timeoutMs: 500 });
    await setImmediate();
    cancel.abort();
    assert.equal((await left).ended, 'cancelled');
  });

  it('says that the kernel is stuck', async () => {
    const { sending, finish, stuck } = world();
    stuck.push(1);
    const sent = sending.writeBack(undefined, { signal: never });
    await setImmediate();
    for (const ino of [1, 2, undefined]) finish(ino, ok(undefined));
    const [failed] = (await sent).failed;
    assert.deepEqual([failed?.path, failed?.error.errno], ['a', 'ETIMEDOUT']);
  });
});

describe('flush', () => {
  it('writes back, then doubts, and waits until the kernel has forgotten', async () => {
    const { sending, asked, finish } = world();
    const flushed = sending.flush(undefined, { signal: never });
    await setImmediate();
    for (const ino of [1, 2, undefined]) finish(ino, ok(undefined));
    assert.deepEqual((await flushed).failed, []);
    assert.deepEqual(asked.slice(-2), ['doubt all', 'settled']);
  });

  it('of one file makes the kernel forget that one in any case', async () => {
    const { sending, asked, finish } = world();
    const flushed = sending.flush(1 as Ino, { signal: never });
    await setImmediate();
    finish(1, ok(undefined));
    await flushed;
    assert.deepEqual(asked, ['pull 1', 'settle 1', 'doubt 1', 'pull 1', 'settled']);
  });

  it('does not doubt what it had no time to send', async () => {
    const { sending, asked, clock } = world();
    const flushed = sending.flush(undefined, { signal: never, timeoutMs: 1 });
    await setImmediate();
    clock.advance(1);
    assert.equal((await flushed).ended, 'timedOut');
    assert.ok(!asked.includes('doubt all'));
  });
});

/** `a` has 1000 unsent bytes and is open for writing; `b` has 4096. */
function world() {
  const asked: string[] = [];
  const stuck: number[] = [];
  const states = new Map<number, UnsentFile['unsent']['state']>();
  const files = new Map([
    [1, 1000],
    [2, 4096],
  ]);
  const names = new Map([
    [1, 'a'],
    [2, 'b'],
  ]);
  const waiting = new Map<number | undefined, (result: Result<void, FsError>) => void>();
  const clock = new ManualClock();
  const sending = new Sending({
    clock,
    files: {
      unsent: () =>
        [...files].map(
          ([ino, bytes]): UnsentFile => ({
            ino: ino as Ino,
            file: Buffer.from([ino]) as FileHandle,
            path: names.get(ino) ?? '',
            unsent: {
              bytes,
              size: bytes,
              mtimeNs: 0n,
              state: states.get(ino) ?? 'dirty',
              sinceMs: 0,
            },
            failure: undefined,
            recovered: false,
          }),
        ),
      settleUnsent(ino) {
        asked.push(`settle ${ino ?? 'all'}`);
        return new Promise((done) => waiting.set(ino, done));
      },
      doubt: (ino) => void asked.push(`doubt ${ino ?? 'all'}`),
      openFiles: () => [
        { ino: 1 as Ino, path: 'a', writers: 1 },
        { ino: 5 as Ino, path: 'c', writers: 0 },
      ],
      pathOf: (ino) => names.get(ino),
    },
    kernel: {
      async pull(inodes) {
        asked.push(['pull', ...inodes].join(' '));
        return stuck as Ino[];
      },
      async settled() {
        asked.push('settled');
        return true;
      },
    },
  });
  const finish = (ino: number | undefined, result: Result<void, FsError>) => {
    if (result.ok && ino !== undefined) files.delete(ino);
    waiting.get(ino)?.(result);
  };
  return { sending, files, asked, finish, clock, stuck, states };
}
