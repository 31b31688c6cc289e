/**
 * `gvfs umount`, step by step, over a mount that does as the test says.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Ino } from '../../src/base/brand.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import type { UnmountHow } from '../../src/daemon/control/controlled.ts';
import type { SentReport } from '../../src/daemon/sending.ts';
import { unmount } from '../../src/daemon/unmounting.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { ManualClock } from '../base/manual-clock.ts';

const never = new AbortController().signal;

describe('unmounting', () => {
  it('refuses opens, writes back, leaves, and waits until all is written down', async () => {
    const { asked, run } = world();
    const ended = await run();
    assert.deepEqual(asked, ['opens refused', 'write back', 'leave']);
    assert.deepEqual([ended.unmounted, ended.report.sentBytes, ended.keptBytes], [true, 5, 0]);
  });

  it('waits a moment for files that are being closed', async () => {
    const { asked, run, open, clock } = world();
    open.push('a');
    const ending = run();
    await setImmediate();
    open.pop();
    clock.advance(50);
    assert.ok((await ending).unmounted);
    assert.deepEqual(asked, ['opens refused', 'write back', 'leave']);
  });

  it('goes on as before where files stay open: nothing is sent for it', async () => {
    const { asked, run, open, clock } = world();
    open.push('a', 'b');
    const ending = run();
    for (let at = 0; at < 25; at++) {
      await setImmediate();
      clock.advance(50);
    }
    const { unmounted, inUse, why } = await ending;
    assert.deepEqual([unmounted, inUse, why], [false, ['a', 'b'], 'files are open there']);
    assert.deepEqual(asked, ['opens refused', 'opens allowed']);
  });

  for (const [name, report, why] of [
    ['what could not be sent', { failed: [failure()] }, 'not everything could be sent'],
    ['what took too long', { ended: 'timedOut' as const }, 'the time was up'],
    ['who was interrupted', { ended: 'cancelled' as const }, 'it was interrupted'],
  ] as const) {
    it(`goes on as before for ${name}`, async () => {
      const { asked, run, sent } = world();
      Object.assign(sent, report);
      const ended = await run();
      assert.deepEqual([ended.unmounted, ended.why], [false, why]);
      assert.deepEqual(asked, ['opens refused', 'write back', 'opens allowed']);
    });
  }

  it('goes on as before where the kernel says that it is in use', async () => {
    const { asked, run, answers } = world();
    answers.leave = err('a working directory');
    const ended = await run();
    assert.deepEqual([ended.unmounted, ended.why], [false, 'a working directory']);
    assert.equal(asked.at(-1), 'opens allowed');
  });

  it('with keep sends nothing', async () => {
    const { asked, run, answers } = world();
    answers.keptBytes = 5;
    const ended = await run({ unsent: 'keep' });
    assert.deepEqual(asked, ['opens refused', 'leave, keeping']);
    assert.deepEqual([ended.unmounted, ended.keptBytes], [true, 5]);
  });

  it('with discard drops what is unsent when nobody can write any more, and says how much', async () => {
    const { asked, run, answers } = world();
    answers.droppedBytes = 5;
    const ended = await run({ unsent: 'discard' });
    assert.deepEqual(asked, ['opens refused', 'leave, dropping']);
    assert.deepEqual([ended.droppedBytes, ended.keptBytes], [5, 0]);
  });

  it('with discard drops nothing where the mount goes on', async () => {
    const { asked, run, answers } = world();
    answers.leave = err('a working directory');
    const ended = await run({ unsent: 'discard' });
    assert.deepEqual([ended.unmounted, ended.droppedBytes], [false, 0]);
    assert.deepEqual(asked, ['opens refused', 'leave, dropping', 'opens allowed']);
  });

  it('with force ends it in any case, and keeps what is not sent', async () => {
    const { asked, run, open, sent, answers, hows } = world();
    open.push('a');
    Object.assign(sent, { ended: 'timedOut' });
    answers.leave = err('in use');
    assert.ok((await run({ force: true })).unmounted);
    assert.deepEqual(asked, [
      ...['opens refused', 'write back', 'leave, keeping', 'abandon, keeping'],
    ]);
    assert.equal(hows[0]?.timeoutMs, 10_000);
  });

  it('of a mount that is gone waits for what is unsent, or ends it', async () => {
    const { asked, run, answers, sent } = world();
    answers.isDraining = true;
    assert.ok((await run()).unmounted);
    Object.assign(sent, { ended: 'timedOut' });
    assert.ok(!(await run({ timeoutMs: 5 })).unmounted);
    assert.ok((await run({ unsent: 'keep' })).unmounted);
    assert.ok((await run({ unsent: 'discard' })).unmounted);
    assert.deepEqual(asked, [
      ...['write back', 'write back', 'end now, keeping', 'end now, dropping'],
    ]);
  });
});

function failure() {
  const error = localError('ENOSPC', 'write', 'no room');
  return { path: 'a', unsentBytes: 5, state: 'failing' as const, error };
}

function world() {
  const asked: string[] = [];
  const open: string[] = [];
  const hows: { timeoutMs?: number | undefined }[] = [];
  const clock = new ManualClock();
  const sent: SentReport = {
    files: 1,
    sentFiles: 1,
    sentBytes: 5,
    unsentBytes: 0,
    failed: [],
    ended: 'done',
  };
  const answers = {
    leave: ok(undefined) as Result<void, string>,
    keptBytes: 0,
    droppedBytes: 0,
    isDraining: false,
  };
  type Unsent = UnmountHow['unsent'];
  const will = (unsent: Unsent) => ({ send: '', keep: ', keeping', discard: ', dropping' })[unsent];
  const parts = {
    clock,
    files: {
      setOpens: (now: string) => void asked.push(`opens ${now}`),
      openFiles: () => open.map((path) => ({ path })),
    },
    sending: {
      async writeBack(_: Ino | undefined, how: { timeoutMs?: number | undefined }) {
        asked.push('write back');
        hows.push(how);
        return sent;
      },
    },
    mount: {
      get isDraining() {
        return answers.isDraining;
      },
      async leave(unsent: Unsent) {
        asked.push(`leave${will(unsent)}`);
        return answers.leave;
      },
      abandon: (unsent: Unsent) => void asked.push(`abandon${will(unsent)}`),
      endNow: (unsent: 'keep' | 'discard') => void asked.push(`end now${will(unsent)}`),
      get settled() {
        const { keptBytes, droppedBytes } = answers;
        return Promise.resolve({ keptBytes, droppedBytes });
      },
    },
  };
  const run = (how: Partial<UnmountHow> = {}) =>
    unmount(parts, { signal: never, unsent: 'send', force: false, ...how });
  return { asked, open, hows, clock, sent, answers, run };
}
