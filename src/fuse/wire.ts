/**
 * Reading and writing the kernel's structures in a buffer that someone else owns.
 *
 * No length is believed: a reader that would pass the end of its message throws `WireError`, which
 * becomes the errno of that one request. Views are given out, not copies, where it says so.
 */
import { assert } from '../base/assert.ts';
import type { Name } from '../base/brand.ts';
import type { ErrnoName } from '../errors/errno.ts';

/** A request that does not decode. The kernel is trusted, but a short message must not crash us. */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly errno: ErrnoName;

  constructor(errno: ErrnoName, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** NAME_MAX (linux/limits.h). */
export const NAME_MAX_BYTES = 255;

const MAX_HIGH_WORD = 2 ** 21 - 1;
const NUL = 0;
const SLASH = 0x2f;
const DOT = 0x2e;

export class WireReader {
  #buffer: Buffer = Buffer.alloc(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;
  #end = 0;

  /** Starts on the bytes [start, end) of `buffer`. */
  reset(buffer: Buffer, start: number, end: number): void {
    assert(start <= end && end <= buffer.length, 'wire: a message outside its buffer');
    if (buffer !== this.#buffer) {
      this.#buffer = buffer;
      this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    }
    this.#at = start;
    this.#end = end;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  skip(bytes: number): void {
    this.#advance(bytes);
  }

  /** A u64 up to 2^53-1. @throws WireError with `errno` above that. */
  u64(errno: ErrnoName): number {
    const at = this.#advance(8);
    const high = this.#view.getUint32(at + 4, true);
    if (high > MAX_HIGH_WORD) throw new WireError(errno, 'a number above 2^53-1');
    return high * 2 ** 32 + this.#view.getUint32(at, true);
  }

  bigU64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  bigI64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  /** Bytes up to a NUL, which is passed: a copy. */
  text(): Buffer {
    const nul = this.#buffer.indexOf(NUL, this.#at);
    if (nul < 0 || nul >= this.#end) throw new WireError('EIO', 'a string without its end');
    const bytes = Buffer.from(this.#buffer.subarray(this.#at, nul));
    this.#at = nul + 1;
    return bytes;
  }

  /** One name in a directory: a copy. */
  name(): Name {
    const bytes = this.text();
    if (bytes.length > NAME_MAX_BYTES)
      throw new WireError('ENAMETOOLONG', 'a name of over 255 bytes');
    if (bytes.length === 0 || bytes.includes(SLASH) || isDots(bytes)) {
      throw new WireError('EINVAL', 'not a name of one component');
    }
    return bytes as Name;
  }

  /** All that is left: a view. */
  rest(): Buffer {
    const bytes = this.#buffer.subarray(this.#at, this.#end);
    this.#at = this.#end;
    return bytes;
  }

  #advance(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#end) throw new WireError('EIO', 'a message shorter than its structure');
    this.#at = at + bytes;
    return at;
  }
}

export class WireWriter {
  readonly #buffer: Buffer;
  readonly #view: DataView;
  #at: number;

  /** Writes into `buffer` from `start` on. Writing past its end is our bug, and throws. */
  constructor(buffer: Buffer, start = 0) {
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    this.#at = start;
  }

  /** The next byte to be written. */
  get at(): number {
    return this.#at;
  }

  seek(at: number): void {
    this.#at = at;
  }

  u16(value: number): void {
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }

  /** A whole number from 0 to 2^53-1. */
  u64(value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.#view.setUint32(this.#at, value - high * 2 ** 32, true);
    this.#view.setUint32(this.#at + 4, high, true);
    this.#at += 8;
  }

  bigU64(value: bigint): void {
    this.#view.setBigUint64(this.#at, value, true);
    this.#at += 8;
  }

  zeros(bytes: number): void {
    this.#buffer.fill(0, this.#at, this.#at + bytes);
    this.#at += bytes;
  }

  bytes(bytes: Buffer): void {
    assert(
      bytes.length <= this.#buffer.length - this.#at,
      'wire: bytes past the end of the buffer',
    );
    bytes.copy(this.#buffer, this.#at);
    this.#at += bytes.length;
  }
}

function isDots(name: Buffer): boolean {
  return name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
}
