import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { WireError, WireReader, WireWriter } from '../../src/fuse/wire.ts';

it('what is written is read', () => {
  fc.assert(
    fc.property(
      fc.maxSafeNat(),
      fc.nat(2 ** 32 - 1),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      (whole, word, big) => {
        const buffer = Buffer.alloc(24);
        const writer = new WireWriter(buffer);
        writer.u64(whole);
        writer.u32(word);
        writer.bigU64(big);
        const reader = new WireReader();
        reader.reset(buffer, 0, writer.at);
        assert.deepEqual([reader.u64('EIO'), reader.u32(), reader.bigU64()], [whole, word, big]);
        assert.equal(reader.remaining, 0);
        assert.throws(() => reader.u32(), WireError);
      },
    ),
  );
});

it('a reader never leaves its message', () => {
  type Step = 'u32' | 'u64' | 'bigU64' | 'bigI64' | 'text' | 'name' | 'rest';
  const steps = fc.array(
    fc.constantFrom<Step>('u32', 'u64', 'bigU64', 'bigI64', 'text', 'name', 'rest'),
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.nat(8),
      fc.nat(8),
      steps,
      (raw, a, b, plan) => {
        const buffer = Buffer.from(raw);
        const start = Math.min(a, buffer.length);
        const end = Math.max(start, buffer.length - b);
        const reader = new WireReader();
        reader.reset(buffer, start, end);
        for (const step of plan) {
          const before = reader.remaining;
          try {
            const value = step === 'u64' ? reader.u64('EIO') : reader[step]();
            if (Buffer.isBuffer(value)) assert.ok(value.length <= before);
          } catch (error) {
            assert.ok(error instanceof WireError);
          }
          assert.ok(reader.remaining >= 0 && reader.remaining <= before);
        }
      },
    ),
  );
});

it('numbers above 2^53-1 are refused with the errno that was asked for', () => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(2n ** 53n);
  const reader = new WireReader();
  reader.reset(buffer, 0, 8);
  assert.throws(
    () => reader.u64('EFBIG'),
    (error) => error instanceof WireError && error.errno === 'EFBIG',
  );
});
