import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { KeptBytes, SharedMemory } from '../../src/vfs/kept-bytes.ts';
import { alice } from './mounted.ts';

const spaceBytes = 64;

describe('kept bytes', () => {
  it('are the newest of each byte, disjoint, in order, and free their memory', () => {
    const range = fc.tuple(fc.nat(spaceBytes - 1), fc.integer({ min: 1, max: 20 }));
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), range }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), range }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), range }) },
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const kept = new KeptBytes();
        const model = new Map<number, number>();
        let live = 0;
        let serial = 0;
        for (const {
          kind,
          range: [start, length],
        } of actions) {
          const end = start + length;
          if (kind === 'put') {
            serial += 1;
            live += 1;
            const memory = new SharedMemory(length, () => {
              live -= 1;
            });
            const bytes = Buffer.alloc(length, serial);
            const moment = { since: serial, sent: serial, verifier: 1n };
            kept.put({ start, bytes, memory, as: alice, ...moment });
            for (let at = start; at < end; at++) model.set(at, serial);
          } else if (kind === 'cut') {
            kept.cut(start, end);
            for (let at = start; at < end; at++) model.delete(at);
          } else {
            kept.drop(({ since }) => since % 3 === 0);
            for (const [at, since] of model) if (since % 3 === 0) model.delete(at);
          }
          const seen = new Map<number, number>();
          let last = -1;
          for (const one of kept.all()) {
            assert(one.start >= last && one.bytes.length > 0);
            for (const [index, byte] of one.bytes.entries()) seen.set(one.start + index, byte);
            last = one.start + one.bytes.length;
          }
          assert.deepEqual([...seen].sort(byPosition), [...model].sort(byPosition));
          assert.equal(kept.sizeBytes, model.size);
          assert.equal(kept.end, Math.max(0, ...[...model.keys()].map((at) => at + 1)));
          const within = kept.within(start, end);
          const inside = [...model].filter(([at]) => at >= start && at < end);
          const found = within.flatMap((one) =>
            [...one.bytes].map((byte, index) => [one.start + index, byte]),
          );
          assert.deepEqual(found, inside.sort(byPosition));
          for (const one of within) one.memory.drop();
        }
        kept.drop(() => true);
        assert.equal(live, 0);
      }),
    );
  });
});

function byPosition(one: [number, number], other: [number, number]): number {
  return one[0] - other[0];
}
