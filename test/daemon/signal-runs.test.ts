import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SignalRuns } from '../../src/daemon/signal-runs.ts';

describe('a signal', () => {
  it('starts a run, and during one exactly one more', async () => {
    const begun: string[] = [];
    const ends: (() => void)[] = [];
    const runs = new SignalRuns((kind) => {
      begun.push(kind);
      return new Promise((done) => ends.push(done));
    });
    for (let count = 0; count < 5; count++) runs.ask('write-back');
    runs.ask('flush');
    assert.deepEqual(begun, ['write-back', 'flush']);
    ends.shift()?.();
    await setImmediate();
    assert.deepEqual(begun, ['write-back', 'flush', 'write-back']);
    ends.pop()?.();
    await setImmediate();
    assert.equal(begun.length, 3);
    runs.ask('write-back');
    assert.equal(begun.length, 4);
  });
});
