/**
 * Reads XDR (RFC 4506) from a stretch of somebody else's buffer.
 *
 * - Nothing that the bytes say is believed before it is checked: every length against the RFC's
 *   maximum and against what remains, every discriminant against what is known.
 * - A fault throws XdrError. It is caught where a reply is decoded (rpc/connection.ts) and at the
 *   record layer, and never crosses the package's API: callers see a PROTOCOL error.
 * - Opaque bytes come as views; whoever keeps one longer than the buffer lives copies it.
 * - 64-bit lengths and offsets are numbers, refused above 2^53-1; what is only compared (cookies,
 *   verifiers, ids) is bigint.
 * - Padding is skipped, not judged: some servers leave rubbish there. Missing padding is a fault.
 */

/** The bytes are not what the protocol says. */
export class XdrError extends Error {
  override readonly name = 'XdrError';
}

/** Two words over one bigint: the cheapest way from 32-bit halves to 64 bits (little endian). */
const halves = new Uint32Array(2);
const whole = new BigUint64Array(halves.buffer);

export class XdrReader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  /** Reads `bytes` from `start` up to `end`. */
  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  /** FALSE or TRUE, nothing else (RFC 4506, section 4.4). */
  bool(): boolean {
    const value = this.uint32();
    if (value > 1) throw new XdrError(`a boolean of ${value}`);
    return value === 1;
  }

  uint64(): bigint {
    const at = this.#take(8);
    halves[1] = this.#bytes.readUInt32BE(at);
    halves[0] = this.#bytes.readUInt32BE(at + 4);
    // The index is in range, so that the default is never used.
    return whole[0] ?? 0n;
  }

  /** A 64-bit length or offset. Refused above 2^53-1. */
  uint53(): number {
    const at = this.#take(8);
    const high = this.#bytes.readUInt32BE(at);
    if (high > 0x1f_ffff) throw new XdrError('a length beyond 2^53-1');
    return high * 0x1_0000_0000 + this.#bytes.readUInt32BE(at + 4);
  }

  /** A 64-bit amount that is only shown: above 2^53-1 it counts as 2^53-1 ("no limit"). */
  amount(): number {
    const at = this.#take(8);
    const high = this.#bytes.readUInt32BE(at);
    if (high > 0x1f_ffff) return Number.MAX_SAFE_INTEGER;
    return high * 0x1_0000_0000 + this.#bytes.readUInt32BE(at + 4);
  }

  /** Counted bytes, at most `maxBytes` of them (RFC 4506, section 4.10). A view. */
  opaque(maxBytes: number): Buffer {
    const length = this.uint32();
    if (length > maxBytes) throw new XdrError(`${length} opaque bytes where ${maxBytes} may be`);
    const at = this.#take(length + padding(length));
    return this.#bytes.subarray(at, at + length);
  }

  /** Passes over counted bytes, at most `maxBytes` of them. */
  skipOpaque(maxBytes: number): void {
    const length = this.uint32();
    if (length > maxBytes) throw new XdrError(`${length} opaque bytes where ${maxBytes} may be`);
    this.#take(length + padding(length));
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#end - at) {
      throw new XdrError(`truncated: ${length} bytes wanted, ${this.#end - at} there`);
    }
    this.#at = at + length;
    return at;
  }
}

/** Zero to three bytes bring any length to a multiple of four. */
function padding(length: number): number {
  return -length & 3;
}
