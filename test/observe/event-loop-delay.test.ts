import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';
import { EventLoopDelay } from '../../src/observe/event-loop-delay.ts';

describe('the delay of the event loop', () => {
  it('is seen when the loop is held up', async (t) => {
    const delay = new EventLoopDelay(() => 0, heldClock().clock);
    t.after(() => delay.close());
    await sleep(20);
    hold(60);
    await sleep(20);
    const { maxMs, medianMs, p99Ms } = delay.summary();
    assert.ok(maxMs >= 50, `${maxMs}`);
    assert.ok(medianMs <= p99Ms && p99Ms <= maxMs);
  });

  it('is not measured while nothing happens, and a pause is no delay', async (t) => {
    let activity = 0;
    const { clock, tick } = heldClock();
    const delay = new EventLoopDelay(() => activity, clock);
    t.after(() => delay.close());
    await sleep(20);
    for (let look = 0; look < 20; look++) tick();
    assert.equal(delay.isMeasuring, false);
    const before = delay.summary();
    hold(500);
    await sleep(5);
    assert.deepEqual(delay.summary(), before);
    activity += 1;
    tick();
    assert.equal(delay.isMeasuring, true);
    await sleep(20);
    assert.ok(delay.summary().maxMs < 400, `${delay.summary().maxMs}`);
  });

  it('is measured as long as something happens', (t) => {
    let activity = 0;
    const { clock, tick } = heldClock();
    const delay = new EventLoopDelay(() => activity++, clock);
    t.after(() => delay.close());
    for (let look = 0; look < 100; look++) tick();
    assert.equal(delay.isMeasuring, true);
  });
});

/** Keeps the loop from turning. */
function hold(durationMs: number): void {
  const endMs = performance.now() + durationMs;
  while (performance.now() < endMs);
}

/** Its timers run when they are told to. */
function heldClock(): { clock: Clock; tick: () => void } {
  let due: (() => void) | undefined;
  return {
    clock: {
      monotonicMs: () => 0,
      wallNs: () => 0n,
      after(_delayMs, callback) {
        due = callback;
        return { cancel: () => undefined };
      },
    },
    tick: () => due?.(),
  };
}
