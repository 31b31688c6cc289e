import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Ino } from '../../src/base/brand.ts';
import { AttributeCache } from '../../src/vfs/attribute-cache.ts';
import { defaultVfsOptions } from '../../src/vfs/options.ts';
import type { Attributes } from '../../src/vfs/ports.ts';
import { ManualClock } from '../base/manual-clock.ts';

function seen(size: number, ctimeNs: bigint, more: Partial<Attributes> = {}): Attributes {
  return {
    type: 'regular',
    mode: 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    size,
    used: size,
    rdev: { major: 0, minor: 0 },
    fsid: 1n,
    fileid: 2n,
    atimeNs: ctimeNs,
    mtimeNs: ctimeNs,
    ctimeNs,
    ...more,
  };
}

function cacheWith(options = {}) {
  const clock = new ManualClock();
  const foreign: number[] = [];
  const policy = { ...defaultVfsOptions, ...options };
  const narrowed: number[] = [];
  const cache = new AttributeCache(policy, clock, {
    changedByOthers: (ino) => foreign.push(ino),
    searchNarrowed: (ino) => narrowed.push(ino),
  });
  return { cache, clock, foreign, narrowed, state: cache.newState(7 as Ino) };
}

describe('attribute cache', () => {
  it('drops an answer that a local change overtook', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const stamp = cache.stamp();
    const change = cache.beginChange(state);
    cache.endChange(state, change, { before: seen(10, 1n), after: seen(20, 5n) });
    cache.observe(state, seen(10, 1n), stamp);
    assert.equal(state.known?.size, 20);
    // Carried out after the change, though it was sent before it.
    cache.observe(state, seen(25, 6n), stamp);
    assert.equal(state.known?.size, 25);
  });

  it('drops an answer of equal ctime that a local change overtook: clocks tick coarsely', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const stamp = cache.stamp();
    const change = cache.beginChange(state);
    cache.endChange(state, change, { before: seen(10, 1n), after: seen(20, 1n) });
    cache.observe(state, seen(10, 1n), stamp);
    assert.equal(state.known?.size, 20);
  });

  it('drops what comes while a local change is in flight', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const change = cache.beginChange(state);
    assert.equal(cache.observe(state, seen(5, 9n), cache.stamp()), false);
    assert.equal(state.known?.size, 10);
    cache.endChange(state, change, { before: seen(10, 1n), after: seen(20, 5n) });
    assert.equal(state.known?.size, 20);
  });

  it('drops the older of two answers that overlap', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(1, 1n), cache.stamp());
    const [first, second] = [cache.stamp(), cache.stamp()];
    cache.observe(state, seen(30, 3n), second);
    cache.observe(state, seen(20, 2n), first);
    assert.equal(state.known?.size, 30);
  });

  it('believes a later call even when the clock of the server went back', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 100n), cache.stamp());
    cache.observe(state, seen(20, 50n), cache.stamp());
    assert.equal(state.known?.size, 20);
  });

  it('takes the largest size of changes that overlap, whatever the order of answers', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(0, 1n), cache.stamp());
    const [one, two] = [cache.beginChange(state), cache.beginChange(state)];
    cache.endChange(state, two, { after: seen(20, 3n) });
    cache.endChange(state, one, { after: seen(10, 2n) });
    assert.equal(state.known?.size, 20);
    assert.equal(state.known?.mtimeNs, 3n);
    const [three, four] = [cache.beginChange(state), cache.beginChange(state)];
    cache.endChange(state, three, { after: seen(40, 4n) });
    cache.endChange(state, four, { after: seen(30, 5n) });
    assert.equal(state.known?.size, 40);
    assert.equal(state.known?.mtimeNs, 5n);
  });

  it('lets a change that is alone shrink the file', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const change = cache.beginChange(state);
    cache.endChange(state, change, { before: seen(10, 1n), after: seen(2, 2n) });
    assert.equal(state.known?.size, 2);
    const blind = cache.beginChange(state);
    cache.endChange(state, blind, {}, { size: 1 });
    assert.equal(state.known?.size, 1);
    assert.equal(cache.isFresh(state), false);
  });

  it('tells our own change from one by another client', () => {
    const { cache, state, foreign } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const own = cache.beginChange(state);
    cache.endChange(state, own, { before: seen(10, 1n), after: seen(20, 2n) });
    assert.equal(state.contentVersion, 0);
    const mixed = cache.beginChange(state);
    cache.endChange(state, mixed, { before: seen(30, 3n), after: seen(40, 4n) });
    assert.equal(state.contentVersion, 1);
    assert.deepEqual(foreign, [7]);
    cache.observe(state, seen(40, 4n), cache.stamp());
    assert.equal(state.contentVersion, 1);
    cache.observe(state, seen(40, 5n), cache.stamp());
    assert.equal(state.contentVersion, 2);
    assert.deepEqual(foreign, [7, 7]);
  });

  it('does not take our own change for one by another when the server told nothing of it', () => {
    const { cache, state, foreign } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    cache.endChange(state, cache.beginChange(state), {});
    cache.observe(state, seen(20, 2n), cache.stamp());
    assert.deepEqual(foreign, []);
    assert.equal(state.contentVersion > 0, true, 'but it may have been both');
    cache.observe(state, seen(30, 3n), cache.stamp());
    assert.deepEqual(foreign, [7]);
  });

  it('keeps what callers may through our own writes, not through a change of mode', () => {
    const { cache, state } = cacheWith();
    cache.observe(state, seen(10, 1n), cache.stamp());
    const own = cache.beginChange(state);
    cache.endChange(state, own, { before: seen(10, 1n), after: seen(20, 2n) });
    assert.equal(state.accessVersion, 0);
    const chmod = cache.beginChange(state);
    cache.endChange(state, chmod, { before: seen(20, 2n), after: seen(20, 3n, { mode: 0 }) });
    assert.equal(state.accessVersion, 1);
    cache.observe(state, seen(20, 4n, { mode: 0 }), cache.stamp());
    assert.equal(state.accessVersion, 2);
  });

  it('tells when a directory may no longer be searched by everybody', () => {
    const { cache, state, narrowed } = cacheWith();
    const type = 'directory' as const;
    cache.observe(state, seen(1, 1n, { type, mode: 0o755 }), cache.stamp());
    cache.observe(state, seen(1, 2n, { type, mode: 0o711 }), cache.stamp());
    assert.deepEqual(narrowed, []);
    cache.observe(state, seen(1, 3n, { type, mode: 0o744 }), cache.stamp());
    assert.deepEqual(narrowed, [7]);
    cache.observe(state, seen(1, 4n, { type, mode: 0o700 }), cache.stamp());
    assert.deepEqual(narrowed, [7]);
  });

  it('believes for a tenth of the time since the last change, within its bounds', () => {
    const { cache, clock, state } = cacheWith();
    const remaining = (unchangedMs: number, type: Attributes['type'] = 'regular'): number => {
      const ctimeNs = clock.wallNs() - BigInt(unchangedMs) * 1_000_000n;
      cache.observe(state, seen(1, ctimeNs, { type }), cache.stamp());
      return Math.round(cache.remainingMs(state));
    };
    assert.equal(remaining(0), 3_000);
    assert.equal(remaining(200_000), 20_000);
    assert.equal(remaining(10_000_000), 60_000);
    assert.equal(remaining(0, 'directory'), 30_000);
    assert.equal(remaining(10_000_000, 'directory'), 60_000);
    clock.advance(59_999);
    assert.equal(cache.isFresh(state), true);
    clock.advance(2);
    assert.equal(cache.isFresh(state), false);
  });

  it('counts from when the call was sent', () => {
    const { cache, clock, state } = cacheWith();
    const stamp = cache.stamp();
    const ctimeNs = clock.wallNs();
    clock.advance(2_500);
    cache.observe(state, seen(1, ctimeNs), stamp);
    assert.equal(Math.round(cache.remainingMs(state)), 500);
  });

  it('believes nothing with noac', () => {
    const { cache, state } = cacheWith({ attributeCaching: false });
    cache.observe(state, seen(1, 1n), cache.stamp());
    assert.equal(cache.isFresh(state), false);
  });
});
