/**
 * Life of a mount.
 *
 *   starting ------mounted------> serving ---unmounted, fault---> draining --settled--> ended
 *    |   | terminate, fault         | terminate                     ^
 *    |   v                          v                               |
 *    |  cancelling ---mounted---> leaving --unmounted, fault, ------+
 *    |   |                                  terminate (the second one)
 *    +---+------failed-----> ended
 *
 * I1  `leaving`: the mount is out of the tree, or about to be, and those who have something open in
 *     it are served until they close it. Nobody new can come.
 * I2  `draining`: the kernel asks nothing any more, or is no longer answered. What was acknowledged
 *     is made durable at the server (a hard mount waits for it, until a second SIGTERM: then what is
 *     unsent stays in the cache), and the server is told of the unmount. The control socket answers
 *     until all of that is done. The next mount of the export may take the cache meanwhile.
 * I3  Every way out ends in `ended`, exactly once, and only the first fault is remembered.
 */
import { assert } from '../base/assert.ts';

export type LifeState = 'starting' | 'cancelling' | 'serving' | 'leaving' | 'draining' | 'ended';
export type LifeEvent = 'mounted' | 'failed' | 'terminate' | 'unmounted' | 'fault' | 'settled';

const transitions: Record<LifeState, Partial<Record<LifeEvent, LifeState>>> = {
  starting: { mounted: 'serving', failed: 'ended', terminate: 'cancelling', fault: 'cancelling' },
  cancelling: { mounted: 'leaving', failed: 'ended', terminate: 'cancelling', fault: 'cancelling' },
  serving: { terminate: 'leaving', unmounted: 'draining', fault: 'draining' },
  leaving: { terminate: 'draining', unmounted: 'draining', fault: 'draining' },
  draining: { settled: 'ended', terminate: 'draining', unmounted: 'draining', fault: 'draining' },
  ended: { terminate: 'ended', unmounted: 'ended', fault: 'ended' },
};

/** An illegal transition is a bug. */
export function next(state: LifeState, event: LifeEvent): LifeState {
  const target = transitions[state][event];
  assert(target !== undefined, `life: ${event} while ${state}`);
  return target;
}
