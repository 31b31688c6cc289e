/**
 * Record marking (RFC 5531, section 11): a record is one or more fragments, each behind a word
 * that holds its length and, in the top bit, whether it is the last.
 *
 * The assembler takes the bytes as the socket has them and finds the records in them:
 *  - A record that lies in one piece is handed on where it lies (`whole`): no copy, no memory.
 *  - Any other is gathered in a buffer that the sink gives when it has seen the xid (`begin`); once
 *    that is known, `nextRead` offers the rest of the fragment's place in it to the socket, so
 *    that the kernel copies the payload to where it stays.
 *
 * R1  No memory is taken on the word of a record mark: a fragment longer than `maxRecordBytes` ends
 *     the stream (XdrError), and the sink says how much of a record it wants.
 * R2  A record that the sink does not want, or that outgrows its limit, is passed over.
 * R3  After XdrError, or `stop()`, the assembler takes nothing any more.
 */
import { XdrError } from '../xdr/reader.ts';

const LAST_FRAGMENT = 0x8000_0000;
export const RECORD_MARK_BYTES = 4;
const XID_BYTES = 4;
/** Less than this is not worth a read of its own: what follows can come with it. */
const MIN_DIRECT_READ_BYTES = 16 * 1024;

/** Where a record's bytes go. */
export interface Gathering {
  bytes: Buffer;
  /** `bytes` may grow up to this. */
  readonly limitBytes: number;
}

export interface RecordSink<G extends Gathering> {
  /** A record in one piece, from its xid on; the bytes are the socket's again after this. */
  whole(bytes: Buffer, start: number, end: number): void;
  /** A place for the record with this xid, which has at least `leastBytes`; or not wanted. */
  begin(xid: number, leastBytes: number): G | undefined;
  /** The record lies in `gathering.bytes`, up to `length`. */
  gathered(gathering: G, length: number): void;
  /** The record would outgrow its limit: the rest is passed over. */
  tooLong(gathering: G): void;
}

/** The record mark of a record in one fragment of `length` bytes. */
export function recordMark(length: number): number {
  return (LAST_FRAGMENT | length) >>> 0;
}

export class RecordAssembler<G extends Gathering> {
  readonly #sink: RecordSink<G>;
  readonly #maxRecordBytes: number;
  #stopped = false;
  /** A mark, and the record's first word, as far as they have come. */
  readonly #mark = Buffer.alloc(RECORD_MARK_BYTES);
  #markBytes = 0;
  readonly #xid = Buffer.alloc(XID_BYTES);
  /** What follows: a mark, the first four bytes of a record, or more of it. */
  #expect: 'mark' | 'xid' | 'body' = 'mark';
  #fragmentBytes = 0;
  #isLast = false;
  /** Bytes of the record so far, marks not counted. */
  #recordBytes = 0;
  #gathering: G | undefined;

  constructor(sink: RecordSink<G>, maxRecordBytes: number) {
    this.#sink = sink;
    this.#maxRecordBytes = maxRecordBytes;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** The bytes of a gathering under way, for its owner to give back when the stream ends. */
  get gathering(): G | undefined {
    return this.#gathering;
  }

  /** Where the socket's next bytes belong, if that is worth a read of its own. */
  nextRead(): Buffer | undefined {
    if (this.#expect !== 'body' || this.#gathering === undefined) return undefined;
    if (this.#fragmentBytes < MIN_DIRECT_READ_BYTES) return undefined;
    const at = this.#recordBytes;
    return this.#gathering.bytes.subarray(at, at + this.#fragmentBytes);
  }

  /** The socket has put `count` bytes where `nextRead` said. @throws XdrError */
  landed(count: number): void {
    if (this.#stopped) return;
    this.#recordBytes += count;
    this.#fragmentBytes -= count;
    if (this.#fragmentBytes === 0) this.#endFragment();
  }

  /** The socket's next bytes, `bytes` up to `end`. @throws XdrError */
  push(bytes: Buffer, end: number): void {
    let at = 0;
    while (at < end && !this.#stopped) {
      if (this.#expect === 'mark' && this.#recordBytes === 0 && this.#markBytes === 0) {
        const next = this.#pushWhole(bytes, at, end);
        if (next !== at) {
          at = next;
          continue;
        }
      }
      at = this.#pushPiece(bytes, at, end);
    }
  }

  /** Hands on the record at `at` if it is all there; otherwise takes nothing. */
  #pushWhole(bytes: Buffer, at: number, end: number): number {
    if (end - at < RECORD_MARK_BYTES + XID_BYTES) return at;
    const mark = bytes.readUInt32BE(at);
    if (mark < LAST_FRAGMENT) return at;
    const start = at + RECORD_MARK_BYTES;
    const recordEnd = start + (mark - LAST_FRAGMENT);
    if (recordEnd > end || recordEnd - start < XID_BYTES) return at;
    this.#sink.whole(bytes, start, recordEnd);
    return recordEnd;
  }

  /** Takes what belongs together at `at`, and returns where it ends. */
  #pushPiece(bytes: Buffer, at: number, end: number): number {
    if (this.#expect === 'mark') {
      const count = Math.min(RECORD_MARK_BYTES - this.#markBytes, end - at);
      bytes.copy(this.#mark, this.#markBytes, at, at + count);
      this.#markBytes += count;
      if (this.#markBytes === RECORD_MARK_BYTES) this.#beginFragment();
      return at + count;
    }
    let count = Math.min(this.#fragmentBytes, end - at);
    if (this.#expect === 'xid') {
      count = Math.min(count, XID_BYTES - this.#recordBytes);
      bytes.copy(this.#xid, this.#recordBytes, at, at + count);
    } else if (this.#gathering !== undefined) {
      bytes.copy(this.#gathering.bytes, this.#recordBytes, at, at + count);
    }
    this.#recordBytes += count;
    this.#fragmentBytes -= count;
    if (this.#expect === 'xid' && this.#recordBytes === XID_BYTES) this.#beginBody();
    if (this.#fragmentBytes === 0) this.#endFragment();
    return at + count;
  }

  #beginFragment(): void {
    const mark = this.#mark.readUInt32BE(0);
    this.#markBytes = 0;
    this.#isLast = mark >= LAST_FRAGMENT;
    this.#fragmentBytes = this.#isLast ? mark - LAST_FRAGMENT : mark;
    const total = this.#recordBytes + this.#fragmentBytes;
    if (total > this.#maxRecordBytes) {
      this.#stopped = true;
      throw new XdrError(`a record of ${total} bytes or more`);
    }
    this.#expect = this.#recordBytes < XID_BYTES ? 'xid' : 'body';
    this.#makeRoom(total);
    if (this.#fragmentBytes === 0) this.#endFragment();
  }

  #beginBody(): void {
    this.#expect = 'body';
    const leastBytes = XID_BYTES + this.#fragmentBytes;
    this.#gathering = this.#sink.begin(this.#xid.readUInt32BE(0), leastBytes);
    this.#makeRoom(leastBytes);
    if (this.#gathering !== undefined) this.#xid.copy(this.#gathering.bytes);
  }

  /** Room for `total` bytes in the gathering, or its end. */
  #makeRoom(total: number): void {
    const gathering = this.#gathering;
    if (gathering === undefined || total <= gathering.bytes.length) return;
    if (total > gathering.limitBytes) {
      this.#gathering = undefined;
      this.#sink.tooLong(gathering);
      return;
    }
    const larger = Math.min(gathering.limitBytes, Math.max(total, 2 * gathering.bytes.length));
    const bytes = Buffer.allocUnsafeSlow(larger);
    gathering.bytes.copy(bytes, 0, 0, this.#recordBytes);
    gathering.bytes = bytes;
  }

  #endFragment(): void {
    this.#expect = 'mark';
    if (!this.#isLast) return;
    const gathering = this.#gathering;
    const length = this.#recordBytes;
    this.#gathering = undefined;
    this.#recordBytes = 0;
    if (length < XID_BYTES) {
      this.#stopped = true;
      throw new XdrError(`a record of ${length} bytes`);
    }
    if (gathering !== undefined) this.#sink.gathered(gathering, length);
  }
}
