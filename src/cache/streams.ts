/**
 * Which reads follow one another, and how much is worth fetching before it is asked for.
 *
 * Each reader (open file) may have many streams at once: a guest's files all come through its one
 * virtual disk. A read that begins where a stream ended continues it; large ones also near its
 * end, because the kernel's own read-ahead sends several at once and they overtake one another.
 * Everything else begins a stream of its own, and the longest unused one is forgotten.
 *
 * What is fetched beyond a reader is bounded by what it has read in sequence, so that little is
 * wasted on those who stop: a quarter of a short run, half of a longer one, as much as a long one;
 * and never more than the link needs to be full.
 */
import type { HandleId } from '../base/brand.ts';
import { BLOCK_BYTES } from './file-io.ts';

const STREAMS_A_READER = 32;
/** Requests of this size are the kernel's read-ahead, or a copy: they may come out of order. */
const LARGE_BYTES = 64 * 1024;
const OUT_OF_ORDER_BYTES = 8 * 1024 * 1024;
const SHORT_RUN_BYTES = 1024 * 1024;
const LONG_RUN_BYTES = 4 * 1024 * 1024;

export class Stream {
  readonly reader: HandleId;
  /** Where its last read ended. */
  next: number;
  /** Bytes read in sequence; 0 before its second read. */
  runBytes = 0;
  /** Up to here read-ahead was begun, or found nothing to do. */
  frontier: number;
  /** Bytes that read-ahead fetched for it and that were not read yet. */
  aheadBytes = 0;
  #firstBytes: number;
  gone = false;

  constructor(reader: HandleId, offset: number, length: number) {
    this.reader = reader;
    this.next = offset + length;
    this.frontier = this.next;
    this.#firstBytes = length;
  }

  continued(offset: number, length: number): void {
    const end = offset + length;
    if (this.runBytes === 0) this.runBytes = this.#firstBytes;
    this.runBytes += length;
    this.next = Math.max(this.next, end);
    this.frontier = Math.max(this.frontier, this.next);
  }

  /** How much may be fetched beyond what it has read. */
  get worthBytes(): number {
    if (this.runBytes < SHORT_RUN_BYTES) return this.runBytes / 4;
    if (this.runBytes < LONG_RUN_BYTES) return this.runBytes / 2;
    return this.runBytes;
  }

  /** Where a miss that ends at `end` should end, to be worth its round trip: within the block. */
  widened(end: number): number {
    const blockEnd = Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES;
    return Math.min(blockEnd, end + this.worthBytes);
  }

  /**
   * The next piece to read ahead: whole blocks from the frontier on, at most `pieceBytes`, not
   * further than `limitBytes` beyond the reader. undefined: not now.
   */
  nextPiece(pieceBytes: number, limitBytes: number, fileSize: number): PieceRange | undefined {
    const ahead = Math.min(this.worthBytes, limitBytes);
    const wall = Math.ceil(fileSize / BLOCK_BYTES) * BLOCK_BYTES;
    const limit = Math.min(Math.floor((this.next + ahead) / BLOCK_BYTES) * BLOCK_BYTES, wall);
    const start = this.frontier;
    const room = limit - start;
    if (room <= 0 || start >= fileSize) return undefined;
    // Small pieces cost as many calls as large ones: wait for room, unless the reader is near.
    if (room < pieceBytes && limit < wall && start - this.next > ahead / 2) return undefined;
    const end = Math.floor((start + pieceBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    return { start, end: Math.min(end, limit, fileSize) };
  }
}

/** In bytes; the end is exclusive. */
export interface PieceRange {
  readonly start: number;
  readonly end: number;
}

export class Streams {
  /** By reader; of each, by where they end, the longest unused first. */
  readonly #readers = new Map<HandleId, Map<number, Stream>>();
  readonly #dropped: (stream: Stream) => void;

  /** `dropped`: a stream is forgotten, and what it still wants with it. */
  constructor(dropped: (stream: Stream) => void) {
    this.#dropped = dropped;
  }

  /** A read. The stream that it continues; undefined: it may be random. */
  note(reader: HandleId, offset: number, length: number): Stream | undefined {
    let streams = this.#readers.get(reader);
    if (streams === undefined) {
      streams = new Map();
      this.#readers.set(reader, streams);
    }
    let stream = streams.get(offset);
    if (stream === undefined && length >= LARGE_BYTES) stream = near(streams, offset, length);
    if (stream === undefined) {
      this.#begin(streams, new Stream(reader, offset, length));
      return undefined;
    }
    streams.delete(stream.next);
    stream.continued(offset, length);
    this.#keep(streams, stream);
    return stream;
  }

  /** The reader has closed. */
  gone(reader: HandleId): void {
    for (const stream of this.#readers.get(reader)?.values() ?? []) this.#drop(stream);
    this.#readers.delete(reader);
  }

  /** The streams of all readers, for a look at them. */
  *all(): Iterable<Stream> {
    for (const streams of this.#readers.values()) yield* streams.values();
  }

  #begin(streams: Map<number, Stream>, stream: Stream): void {
    this.#keep(streams, stream);
    if (streams.size <= STREAMS_A_READER) return;
    for (const oldest of streams.values()) {
      this.#drop(oldest);
      streams.delete(oldest.next);
      return;
    }
  }

  #keep(streams: Map<number, Stream>, stream: Stream): void {
    const other = streams.get(stream.next);
    if (other !== undefined) {
      this.#drop(other);
      streams.delete(other.next);
    }
    streams.set(stream.next, stream);
  }

  #drop(stream: Stream): void {
    stream.gone = true;
    this.#dropped(stream);
  }
}

/** A stream whose end is so near that the read belongs to it, out of order. */
function near(
  streams: ReadonlyMap<number, Stream>,
  offset: number,
  length: number,
): Stream | undefined {
  let nearest: Stream | undefined;
  let distance = OUT_OF_ORDER_BYTES;
  for (const stream of streams.values()) {
    const after = offset - stream.next;
    const before = stream.next - (offset + length);
    const away = Math.max(after, before, 0);
    if (away >= distance) continue;
    nearest = stream;
    distance = away;
  }
  return nearest;
}
