import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Histogram } from '../../src/base/histogram.ts';

describe('a histogram of durations', () => {
  it('knows nothing of nothing', () => {
    const empty = new Histogram().summary();
    assert.deepEqual(empty, {
      count: 0,
      medianMs: undefined,
      p99Ms: undefined,
      maxMs: 0,
      sumMs: 0,
    });
  });

  it('knows every quantile to within an eighth and a microsecond', () => {
    const durations = fc.array(fc.double({ min: 0, max: 4_000_000, noNaN: true }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(durations, fc.constantFrom(0.01, 0.5, 0.99, 1), (all, share) => {
        const histogram = new Histogram();
        for (const durationMs of all) histogram.record(durationMs);
        const sorted = [...all].sort((one, other) => one - other);
        const exact = sorted[Math.max(0, Math.ceil(share * all.length) - 1)] ?? 0;
        const told = histogram.quantileMs(share) ?? Number.NaN;
        assert.ok(Math.abs(told - exact) <= exact / 8 + 0.001, `${told} for ${exact}`);
        assert.ok(told <= Math.max(...all));
      }),
    );
  });

  it('counts each duration in the bucket that it is below of', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 4_000_000, noNaN: true }), (durationMs) => {
        const histogram = new Histogram();
        histogram.record(durationMs);
        const [bucket, ...others] = [...histogram.buckets()];
        assert.equal(others.length, 0);
        assert.ok(bucket !== undefined && bucket.count === 1);
        assert.ok(durationMs < bucket.belowMs, `${durationMs} below ${bucket.belowMs}`);
      }),
    );
  });

  it('adds up', () => {
    const durations = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }));
    fc.assert(
      fc.property(durations, durations, (some, others) => {
        const [one, other, all] = [new Histogram(), new Histogram(), new Histogram()];
        for (const durationMs of some) one.record(durationMs);
        for (const durationMs of others) other.record(durationMs, 2);
        for (const durationMs of [...some, ...others, ...others]) all.record(durationMs);
        one.add(other);
        assert.deepEqual([...one.buckets()], [...all.buckets()]);
        assert.deepEqual(
          { ...one.summary(), sumMs: undefined },
          { ...all.summary(), sumMs: undefined },
        );
      }),
    );
  });

  it('takes what is longer than it can tell', () => {
    const histogram = new Histogram();
    histogram.record(1e12);
    assert.equal(histogram.summary().maxMs, 1e12);
    assert.ok((histogram.quantileMs(0.5) ?? 0) > 4_000_000);
  });
});
