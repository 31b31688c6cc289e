import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { bytesOf, printable } from '../../src/observe/printable.ts';

describe('printable', () => {
  const texts: [bytes: Buffer, text: string][] = [
    [Buffer.from('disk 1.qcow2'), 'disk 1.qcow2'],
    [Buffer.from('größe'), 'größe'],
    [Buffer.from('50%'), '50%25'],
    [Buffer.from('a\nb\0'), 'a%0Ab%00'],
    [Buffer.from([0x61, 0xff, 0xc3, 0xb6]), 'a%FF%C3%B6'],
    [Buffer.alloc(0), ''],
  ];
  for (const [bytes, text] of texts) {
    it(`shows ${bytes.toString('hex')} as ${text}`, () => assert.equal(printable(bytes), text));
  }

  it('keeps the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        assert.deepEqual(bytesOf(printable(bytes)), Buffer.from(bytes));
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        assert.equal(bytesOf(printable(Buffer.from(text))).toString(), text);
      }),
    );
  });
});
