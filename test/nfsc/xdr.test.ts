import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../src/base/assert.ts';
import { XdrError, XdrReader } from '../../src/nfsc/xdr/reader.ts';
import { XdrWriter } from '../../src/nfsc/xdr/writer.ts';

function written(write: (writer: XdrWriter) => void): Buffer {
  const writer = new XdrWriter(Buffer.alloc(1024, 0xff));
  write(writer);
  return writer.bytes.subarray(0, writer.position);
}

describe('XDR', () => {
  it("reads and writes RFC 4506's example (section 7)", () => {
    // A file "sillyprog", type EXEC with interpreter "lisp", owner "john", data "(quit)".
    const bytes = Buffer.from(
      `00000009 73696c6c 7970726f 67000000 00000002 00000004 6c697370 00000004 6a6f686e
       00000006 28717569 74290000`.replaceAll(/\s/g, ''),
      'hex',
    );
    const reader = new XdrReader(bytes);
    assert.equal(reader.opaque(255).toString(), 'sillyprog');
    assert.equal(reader.uint32(), 2);
    assert.equal(reader.opaque(255).toString(), 'lisp');
    assert.equal(reader.opaque(32).toString(), 'john');
    assert.equal(reader.opaque(65535).toString(), '(quit)');
    assert.equal(reader.remaining, 0);
    const again = written((writer) => {
      writer.opaque(Buffer.from('sillyprog'), 255);
      writer.uint32(2);
      writer.opaque(Buffer.from('lisp'), 255);
      writer.opaque(Buffer.from('john'), 32);
      writer.opaque(Buffer.from('(quit)'), 65535);
    });
    assert.deepEqual(again, bytes);
  });

  it('keeps what it writes', () => {
    fc.assert(
      fc.property(
        fc.nat(0xffff_ffff),
        fc.bigInt(0n, 0xffff_ffff_ffff_ffffn),
        fc.nat(Number.MAX_SAFE_INTEGER),
        fc.uint8Array({ maxLength: 64 }),
        fc.boolean(),
        (word, long, offset, opaque, flag) => {
          const bytes = written((writer) => {
            writer.uint32(word);
            writer.uint64(long);
            writer.uint53(offset);
            writer.opaque(Buffer.from(opaque), 64);
            writer.bool(flag);
          });
          assert.equal(bytes.length % 4, 0);
          const reader = new XdrReader(bytes);
          assert.equal(reader.uint32(), word);
          assert.equal(reader.uint64(), long);
          assert.equal(reader.uint53(), offset);
          assert.deepEqual(reader.opaque(64), Buffer.from(opaque));
          assert.equal(reader.bool(), flag);
          assert.equal(reader.remaining, 0);
        },
      ),
    );
  });

  it('refuses what is truncated, wherever the end is', () => {
    const bytes = written((writer) => {
      writer.uint64(1n);
      writer.opaque(Buffer.from('abcde'), 8);
    });
    for (let end = 0; end < bytes.length; end++) {
      const reader = new XdrReader(bytes, 0, end);
      assert.throws(() => {
        reader.uint64();
        reader.opaque(8);
      }, XdrError);
    }
  });

  it('checks a length before it uses it', () => {
    for (const length of [9, 0x7fff_ffff, 0x8000_0000, 0xffff_fffd, 0xffff_ffff]) {
      const bytes = written((writer) => writer.uint32(length));
      assert.throws(() => new XdrReader(bytes).opaque(8), XdrError);
      assert.throws(() => new XdrReader(bytes).opaque(0xffff_ffff), XdrError);
      assert.throws(() => new XdrReader(bytes).skipOpaque(0xffff_ffff), XdrError);
    }
  });

  it('does not read beyond its stretch of the buffer', () => {
    const bytes = Buffer.alloc(64);
    assert.throws(() => new XdrReader(bytes, 60, 62).uint32(), XdrError);
    assert.equal(new XdrReader(bytes, 60, 64).uint32(), 0);
  });

  it('takes padding that is not zero', () => {
    const reader = new XdrReader(Buffer.from('0000000161ffffff00000001', 'hex'));
    assert.equal(reader.opaque(4).toString(), 'a');
    assert.equal(reader.uint32(), 1);
  });

  it('refuses a boolean of 2, and lengths beyond 2^53-1', () => {
    assert.throws(() => new XdrReader(Buffer.from('00000002', 'hex')).bool(), XdrError);
    const most = Buffer.from('001fffffffffffff', 'hex');
    assert.equal(new XdrReader(most).uint53(), Number.MAX_SAFE_INTEGER);
    const more = Buffer.from('0020000000000000', 'hex');
    assert.throws(() => new XdrReader(more).uint53(), XdrError);
    assert.equal(new XdrReader(more).amount(), Number.MAX_SAFE_INTEGER);
  });

  it('takes what does not fit, or is out of range, for a bug', () => {
    const writer = new XdrWriter(Buffer.alloc(8));
    assert.throws(() => writer.opaque(Buffer.alloc(9), 8), InvariantError);
    assert.throws(() => writer.opaque(Buffer.alloc(8), 8), InvariantError);
    assert.throws(() => writer.uint53(-1), InvariantError);
    assert.throws(() => writer.uint53(2 ** 53), InvariantError);
  });

  it('crashes on no bytes whatever', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.infiniteStream(fc.nat(5)), (raw, steps) => {
        const reader = new XdrReader(Buffer.from(raw));
        try {
          for (const step of steps) {
            const before = reader.remaining;
            if (step === 0) reader.uint32();
            else if (step === 1) reader.uint64();
            else if (step === 2) reader.uint53();
            else if (step === 3) assert.ok(reader.opaque(16).length <= 16);
            else if (step === 4) reader.bool();
            else reader.skipOpaque(16);
            assert.ok(reader.remaining < before && reader.remaining >= 0);
          }
        } catch (error) {
          assert.ok(error instanceof XdrError);
        }
      }),
    );
  });
});
