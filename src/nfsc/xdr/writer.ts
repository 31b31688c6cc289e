/**
 * Writes XDR (RFC 4506) into a buffer of the caller's, from a position on.
 *
 * What does not fit, and a value out of its range, is a bug of ours and throws InvariantError:
 * sizes are bounded before anything is encoded (rpc/procedure.ts, MAX_CALL_BYTES).
 */
import { assert } from '../../base/assert.ts';

export class XdrWriter {
  readonly bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, start = 0) {
    this.bytes = bytes;
    this.#at = start;
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#at;
  }

  uint32(value: number): void {
    this.#at = this.bytes.writeUInt32BE(value, this.#at);
  }

  bool(value: boolean): void {
    this.uint32(value ? 1 : 0);
  }

  uint64(value: bigint): void {
    this.#at = this.bytes.writeBigUInt64BE(value, this.#at);
  }

  /** A 64-bit length or offset, 0 to 2^53-1. */
  uint53(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, `not a length or an offset: ${value}`);
    this.uint32(Math.floor(value / 0x1_0000_0000));
    this.uint32(value % 0x1_0000_0000);
  }

  /** Counted bytes with their padding. */
  opaque(value: Buffer, maxBytes: number): void {
    assert(value.length <= maxBytes, `${value.length} bytes where ${maxBytes} may be`);
    this.uint32(value.length);
    const end = this.#at + ((value.length + 3) & ~3);
    assert(end <= this.bytes.length, 'the call does not fit its buffer');
    this.bytes.set(value, this.#at);
    this.bytes.fill(0, this.#at + value.length, end);
    this.#at = end;
  }
}
