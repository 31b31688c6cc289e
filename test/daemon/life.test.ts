import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvariantError } from '../../src/base/assert.ts';
import { type LifeEvent, type LifeState, next } from '../../src/daemon/life.ts';

const events: LifeEvent[] = ['mounted', 'failed', 'terminate', 'unmounted', 'fault', 'settled'];

describe('the life of a mount', () => {
  const lives: [name: string, events: LifeEvent[], states: LifeState[]][] = [
    ['unmounted by a user', ['mounted', 'unmounted', 'settled'], ['serving', 'draining', 'ended']],
    [
      'terminated',
      ['mounted', 'terminate', 'unmounted', 'settled'],
      ['serving', 'leaving', 'draining', 'ended'],
    ],
    [
      'terminated twice while in use',
      ['mounted', 'terminate', 'terminate', 'settled'],
      ['serving', 'leaving', 'draining', 'ended'],
    ],
    ['failed', ['failed'], ['ended']],
    ['interrupted', ['terminate', 'terminate', 'failed'], ['cancelling', 'cancelling', 'ended']],
    [
      'interrupted in the last moment',
      ['terminate', 'mounted', 'unmounted', 'settled'],
      ['cancelling', 'leaving', 'draining', 'ended'],
    ],
    [
      'broken',
      ['mounted', 'fault', 'unmounted', 'settled'],
      ['serving', 'draining', 'draining', 'ended'],
    ],
  ];
  for (const [name, steps, states] of lives) {
    it(name, () => {
      let state: LifeState = 'starting';
      const seen = steps.map((event) => {
        state = next(state, event);
        return state;
      });
      assert.deepEqual(seen, states);
    });
  }

  it('takes terminate and fault in every state: they come from outside', () => {
    for (const state of reachable()) {
      next(state, 'terminate');
      next(state, 'fault');
    }
  });

  it('ends from every state, and never leaves the end', () => {
    for (const state of reachable()) assert.ok(reachable(state).has('ended'), state);
    assert.deepEqual([...reachable('ended')], ['ended']);
  });

  it('throws on what cannot be', () => {
    assert.throws(() => next('serving', 'mounted'), InvariantError);
    assert.throws(() => next('ended', 'settled'), InvariantError);
    assert.throws(() => next('starting', 'settled'), InvariantError);
  });
});

/** All states that some events lead to. */
function reachable(from: LifeState = 'starting'): Set<LifeState> {
  const found = new Set([from]);
  for (const state of found) {
    for (const event of events) {
      const target = attempt(state, event);
      if (target !== undefined) found.add(target);
    }
  }
  return found;
}

function attempt(state: LifeState, event: LifeEvent): LifeState | undefined {
  try {
    return next(state, event);
  } catch {
    return undefined;
  }
}
