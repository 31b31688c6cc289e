import assert from 'node:assert/strict';
import test from 'node:test';
import { InvariantError, assert as invariant } from '../../src/base/assert.ts';
import { systemClock } from '../../src/base/clock.ts';
import { credentialsKey } from '../../src/base/credentials.ts';

test('the wall clock is the one that Date reads, in nanoseconds', () => {
  const skewMs = Number(systemClock.wallNs() / 1_000_000n) - Date.now();
  assert.ok(Math.abs(skewMs) < 3_600_000, `skew ${skewMs} ms`);
});

test('a cancelled timer does not fire, one that is not does', async () => {
  const fired: string[] = [];
  systemClock.after(1, () => fired.push('cancelled')).cancel();
  const keepAlive = setTimeout(() => {}, 1000);
  await new Promise<void>((resolve) => {
    systemClock.after(5, () => {
      fired.push('kept');
      resolve();
    });
  });
  clearTimeout(keepAlive);
  assert.deepEqual(fired, ['kept']);
});

test('a broken invariant throws an error of its own class', () => {
  assert.throws(() => invariant(false, 'two and two'), InvariantError);
  assert.doesNotThrow(() => invariant(true, 'never seen'));
});

test('credentials that differ in any part have different keys', () => {
  const keys = [
    { uid: 1, gid: 2, groups: [] },
    { uid: 1, gid: 2, groups: [3] },
    { uid: 1, gid: 23, groups: [] },
    { uid: 12, gid: 2, groups: [] },
    { uid: 1, gid: 2, groups: [3, 4] },
    { uid: 1, gid: 2, groups: [34] },
  ].map(credentialsKey);
  assert.equal(new Set(keys).size, keys.length);
});
