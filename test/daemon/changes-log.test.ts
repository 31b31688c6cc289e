import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FileHandle, Ino } from '../../src/base/brand.ts';
import { err, ok } from '../../src/base/result.ts';
import { logChanges } from '../../src/daemon/changes-log.ts';
import type { Controlled, ControlledCache } from '../../src/daemon/control/controlled.ts';
import { localError } from '../../src/errors/fs-error.ts';
import type { Log, LogFields } from '../../src/observe/log.ts';
import { FakeMount } from '../control/fake.ts';

const as = { uid: 0, gid: 0, groups: [] };
const watch = { signal: new AbortController().signal, onProgress: () => undefined };
const whole = { start: 0, end: 10 };
const file = Buffer.from('handle') as FileHandle;
const refused = err(localError('EIO', 'cache', 'the disk fails'));

const working: ControlledCache = {
  idOf: () => 'id',
  list: async () => ok([]),
  find: () => ({
    presentBytes: () => 0,
    pageStates: () => [],
    warm: async () => ok({ presentBytes: 4, fetchedBytes: 6, damagedBytes: 0 }),
  }),
  setPinned: async () => ok(undefined),
  evict: async () => ok({ freedBytes: 7 }),
  verify: async () => ok({ checkedBytes: 0, damagedBytes: 0 }),
};

/** A mount whose cache is this, and the lines that it logs. */
function logged(cache: ControlledCache | undefined, failed = 0) {
  const lines: [string, LogFields | undefined][] = [];
  const unexpected = () => assert.fail('nothing went wrong');
  const info = (message: string, fields?: LogFields) => void lines.push([message, fields]);
  const log: Log = { error: unexpected, warn: info, debug: unexpected, info };
  const kernel = { waiting: () => [], failWaiting: () => failed };
  const { sending, life, events } = new FakeMount();
  const controlled = { as, cache, kernel, sending, life, events } as unknown as Controlled;
  return { lines, fake: sending, ...logChanges(controlled, log) };
}

describe('what was changed over the control socket', () => {
  it('is logged, one line each', async () => {
    const { lines, cache, kernel } = logged(working, 3);
    assert.ok(cache !== undefined);
    await cache.setPinned('id', true);
    await cache.setPinned('id', false);
    await cache.evict('id');
    await cache.find(file)?.warm(whole, { ...watch, as, check: false });
    assert.equal(kernel.failWaiting(5 as Ino), 3);
    assert.deepEqual(lines, [
      ['pinned, as asked', { image: 'id' }],
      ['unpinned, as asked', { image: 'id' }],
      ['evicted, as asked', { image: 'id', freedBytes: 7, kept: undefined }],
      ['warmed, as asked', { image: 'id', fetchedBytes: 6, presentBytes: 4 }],
      ['waiting requests were failed, as asked', { ino: 5, failed: 3 }],
    ]);
  });

  it('is not logged when it was only a question, or failed', async () => {
    const failing = { setPinned: async () => refused, evict: async () => refused };
    const { lines, cache, kernel } = logged({ ...working, ...failing });
    assert.ok(cache !== undefined);
    assert.equal(await cache.setPinned('id', true), refused);
    assert.equal(await cache.evict('id'), refused);
    await cache.find(file)?.warm(whole, { ...watch, as, check: true });
    await cache.verify('id', watch);
    assert.equal(kernel.failWaiting(5 as Ino), 0);
    assert.deepEqual(lines, []);
  });

  it('says why warming has ended', async () => {
    const image = { presentBytes: () => 0, pageStates: () => [], warm: async () => refused };
    const { lines, cache } = logged({ ...working, find: () => image });
    await cache?.find(file)?.warm(whole, { ...watch, as, check: false });
    const reason = 'the disk fails';
    assert.deepEqual(lines, [['warming has ended early', { image: 'id', reason }]]);
  });

  it('needs no cache', () => {
    assert.equal(logged(undefined).cache, undefined);
  });

  it('tells how conflicts were resolved, and of unmounts', async () => {
    const { lines, sending, life, fake } = logged(working);
    fake.inConflict('vm/disk.img', 8192);
    await sending.resolve(as, 3 as Ino, 'theirs', watch.signal);
    await life.unmount({ ...watch, unsent: 'keep', force: false });
    assert.deepEqual(lines, [
      ['a conflict was resolved, as asked', { ino: 3, kept: 'theirs', bytes: 8192 }],
      ['an unmount was asked for', { unsent: 'keep', force: undefined }],
    ]);
  });
});
