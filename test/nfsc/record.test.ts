import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Gathering, RecordAssembler, recordMark } from '../../src/nfsc/rpc/record.ts';
import { XdrError } from '../../src/nfsc/xdr/reader.ts';
import { marked, xdr } from './fake-server.ts';

const MAX_RECORD_BYTES = 100_000;
const MAX_REPLY_BYTES = 60_000;

/** An assembler, what came out of it, and how much memory it was given. */
function collector(wants: (xid: number) => boolean = () => true) {
  const records: Buffer[] = [];
  const tooLong: number[] = [];
  const given: number[] = [];
  const assembler = new RecordAssembler<Gathering>(
    {
      whole(bytes, start, end) {
        if (wants(bytes.readUInt32BE(start))) records.push(Buffer.from(bytes.subarray(start, end)));
      },
      begin(xid, leastBytes) {
        if (!wants(xid)) return undefined;
        const bytes = Buffer.alloc(Math.min(leastBytes, MAX_REPLY_BYTES));
        given.push(bytes.length);
        return { bytes, limitBytes: MAX_REPLY_BYTES };
      },
      gathered(gathering, length) {
        records.push(Buffer.from(gathering.bytes.subarray(0, length)));
      },
      tooLong(gathering) {
        tooLong.push(gathering.limitBytes);
      },
    },
    MAX_RECORD_BYTES,
  );
  return { assembler, records, tooLong, given };
}

/** Feeds a stream in reads of the given sizes, landing them where the assembler asks. */
function feed(assembler: RecordAssembler<Gathering>, stream: Buffer, sizes: Iterable<number>) {
  let at = 0;
  for (const size of sizes) {
    if (at >= stream.length) return;
    const direct = assembler.nextRead();
    const count = Math.min(size, stream.length - at, direct?.length ?? Infinity);
    const chunk = stream.subarray(at, at + count);
    if (direct !== undefined) {
      direct.set(chunk);
      assembler.landed(count);
    } else {
      assembler.push(Buffer.from(chunk), count);
    }
    at += count;
  }
}

function recordOf(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 31 + seed) & 0xff));
}

describe('the record assembler', () => {
  it('finds the same records in any fragments and any reads', () => {
    const lengths = fc.array(fc.integer({ min: 4, max: 50_000 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        lengths,
        fc.infiniteStream(fc.nat(20_000)),
        fc.infiniteStream(fc.integer({ min: 1, max: 30_000 })),
        (recordLengths, cuts, reads) => {
          const sent = recordLengths.map(recordOf);
          const stream = Buffer.concat(
            sent.map((record) => marked(record, ...cutsOf(record, cuts))),
          );
          const { assembler, records } = collector();
          feed(assembler, stream, reads);
          assert.deepEqual(records, sent);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('finds them byte by byte, the xid over four fragments, empty fragments between', () => {
    const record = recordOf(40, 3);
    const stream = Buffer.concat([marked(record, 0, 1, 1, 0, 1, 1, 9, 0), marked(record)]);
    const { assembler, records } = collector();
    feed(
      assembler,
      stream,
      Array.from(stream, () => 1),
    );
    assert.deepEqual(records, [record, record]);
  });

  it('passes over records that nobody wants, however they come', () => {
    const unwanted = Buffer.concat([xdr(1), recordOf(30_000, 1)]);
    const wanted = Buffer.concat([xdr(2), recordOf(30_000, 2)]);
    const stream = Buffer.concat([marked(unwanted, 10_000), marked(wanted), marked(unwanted)]);
    const { assembler, records, given } = collector((xid) => xid === 2);
    feed(assembler, stream, new Array(100).fill(1000));
    assert.deepEqual(records, [wanted]);
    assert.deepEqual(given, [wanted.length]);
  });

  it('ends the stream at a mark beyond belief, without taking memory', () => {
    for (const mark of [0xffff_ffff, recordMark(MAX_RECORD_BYTES + 1), 0x7fff_ffff]) {
      const { assembler, given, records } = collector();
      assert.throws(() => assembler.push(Buffer.concat([xdr(mark, 1)]), 8), XdrError);
      assembler.push(marked(recordOf(8, 0)), 12);
      assert.deepEqual([given, records], [[], []]);
    }
  });

  it('ends the stream when fragments add up to too much', () => {
    const { assembler, tooLong } = collector();
    const fragment = Buffer.concat([xdr(40_000), recordOf(40_000, 1)]);
    assembler.push(fragment, fragment.length);
    assembler.push(fragment, fragment.length); // more than the reply may have
    assert.deepEqual(tooLong, [MAX_REPLY_BYTES]);
    assert.throws(() => assembler.push(fragment, fragment.length), XdrError);
  });

  it('ends the stream at a record that has no room for an xid', () => {
    for (const length of [0, 1, 3]) {
      const { assembler } = collector();
      const stream = marked(recordOf(length, 1));
      assert.throws(() => assembler.push(stream, stream.length), XdrError);
    }
  });

  it('goes on after a record that outgrows its limit', () => {
    const { assembler, records, tooLong } = collector();
    const long = marked(recordOf(70_000, 1));
    const next = recordOf(10, 2);
    feed(assembler, Buffer.concat([long, marked(next)]), new Array(100).fill(4000));
    assert.deepEqual([records, tooLong], [[next], [MAX_REPLY_BYTES]]);
  });

  it('crashes on no bytes whatever', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 })), (chunks) => {
        const { assembler, given } = collector();
        try {
          for (const chunk of chunks) feed(assembler, Buffer.from(chunk), [40]);
        } catch (error) {
          assert.ok(error instanceof XdrError);
        }
        assert.ok(given.every((bytes) => bytes <= MAX_REPLY_BYTES));
      }),
    );
  });
});

function cutsOf(record: Buffer, cuts: fc.Stream<number>): number[] {
  const lengths: number[] = [];
  let left = record.length;
  for (const cut of cuts.take(4)) {
    if (cut > left) break;
    lengths.push(cut);
    left -= cut;
  }
  return lengths;
}
