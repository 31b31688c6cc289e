/**
 * Reading: as many READs in flight as the range needs, and never a byte that is not the file's.
 *
 * R1  A short READ is continued. The reply ends early only where the server, asked again, says
 *     that the file ends; a server that ends it before the size it states is an error, not zeros.
 * R2  Our own uncommitted bytes lie over what the server answers: it may have lost them.
 * R3  Every answer's memory is given back exactly once: with the reply's, or when the bytes of
 *     short answers, each of which may lie in memory for a full one, are put together.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import { localError } from '../errors/fs-error.ts';
import type { Inode } from './inodes.ts';
import type { KeptRange } from './kept-bytes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome, ReadReply } from './operations.ts';
import type { Fetched, ReadOk } from './ports.ts';

/** Bytes from `start`, in pieces without a gap, and where the server's file ended, if it did. */
interface Stretch {
  readonly pieces: readonly ReadOk[];
  readonly end: number;
}

/** Views, and how their memory is given back. */
interface Gathered {
  readonly parts: readonly Buffer[];
  readonly releases: readonly (() => void)[];
}

/** How often a READ that ends too early is tried before it is an error. */
const maxAttempts = 3;
/** Well below what one writev(2) takes (Linux, IOV_MAX: 1024). */
const maxParts = 512;

export async function readFile(
  state: MountState,
  as: Credentials,
  inode: Inode,
  offset: number,
  length: number,
): Outcome<ReadReply> {
  const known = state.shown(inode);
  let end = offset + length;
  if (known !== undefined && state.attributes.isFresh(inode.attributes)) {
    end = Math.min(end, known.size);
  }
  if (end <= offset) return ok(reply([], []));
  const read = await gather(state, as, inode, offset, end);
  return read.ok ? ok(reply(read.value.parts, read.value.releases)) : read;
}

/**
 * The same in one piece of memory, for the cache: [offset, offset + length) as the file has it now,
 * less only where the file ends. Behind the server's end there are zeros up to the end that
 * programs see; but not where the server's file was cut meanwhile.
 */
export async function fetchRange(
  state: MountState,
  as: Credentials,
  inode: Inode,
  offset: number,
  length: number,
): Outcome<Fetched> {
  const serverSize = () => inode.attributes.known?.size ?? 0;
  const sizeBefore = serverSize();
  const read = await gather(state, as, inode, offset, offset + length);
  if (!read.ok) return read;
  const { parts, releases } = read.value;
  const release = () => {
    for (const one of releases) one();
  };
  const mayEndBehind = state.unsentFiles.of(inode) !== undefined && serverSize() >= sizeBefore;
  const got = parts.reduce((sum, part) => sum + part.length, 0);
  // Where the server's file is not as long yet as ours has become there are zeros.
  const shown = Math.min(state.shown(inode)?.size ?? 0, inode.cutTo ?? Number.POSITIVE_INFINITY);
  const end = Math.min(offset + length, shown);
  const missing = mayEndBehind ? Math.max(end - offset - got, 0) : 0;
  const [first] = parts;
  if (missing === 0 && (first === undefined || parts.length === 1)) {
    return ok({ bytes: first ?? Buffer.alloc(0), release });
  }
  const bytes = Buffer.concat([...parts, Buffer.alloc(missing)]);
  release();
  return ok({ bytes, release: () => undefined });
}

/** Views of the bytes from `offset` to `end`, or to where the file ends before. */
async function gather(
  state: MountState,
  as: Credentials,
  inode: Inode,
  offset: number,
  end: number,
): Outcome<Gathered> {
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const kept = state.writes.keptWithin(inode, offset, end);
    if (covers(kept, offset, end)) {
      return ok({ parts: kept.map(({ bytes }) => bytes), releases: holdsOf(kept) });
    }
    const fetched = await fetch(state, as, inode, offset, end);
    if (!fetched.ok) {
      for (const { memory } of kept) memory.drop();
      return fetched;
    }
    const { pieces, end: reached } = fetched.value;
    const releases = [...holdsOf(kept), ...pieces.map((piece) => () => piece.release())];
    const complete = reached >= end;
    if (complete || (await endsAt(state, as, inode, reached))) {
      return ok({ parts: overlay(pieces, offset, kept), releases });
    }
    for (const release of releases) release();
    // What the server lost in a restart may be what is missing.
    const committed = await state.writes.commit(inode);
    if (!committed.ok) return committed;
  }
  return err(localError('EIO', 'read', 'READ: the server ends the file before its size'));
}

/** Reads `start` to `end` in parts that are all in flight. */
async function fetch(
  state: MountState,
  as: Credentials,
  inode: Inode,
  start: number,
  end: number,
): Outcome<Stretch> {
  const { readMax } = state.server.limits;
  if (end - start <= readMax) return fetchPart(state, as, inode, start, end);
  const parts: Outcome<Stretch>[] = [];
  for (let at = start; at < end; at += readMax) {
    parts.push(fetchPart(state, as, inode, at, Math.min(at + readMax, end)));
  }
  const results = await Promise.all(parts);
  const pieces: ReadOk[] = [];
  let reached = start;
  let failure: Awaited<Outcome<Stretch>> | undefined;
  for (const result of results) {
    if (!result.ok) {
      failure ??= result;
      continue;
    }
    const { pieces: more, end: partEnd } = result.value;
    const [first] = more;
    // Only what follows without a gap counts.
    const follows =
      failure === undefined && first !== undefined && startOf(result.value) === reached;
    if (follows) {
      pieces.push(...more);
      reached = partEnd;
    } else {
      for (const piece of more) piece.release();
    }
  }
  if (failure === undefined) return ok({ pieces, end: reached });
  for (const piece of pieces) piece.release();
  return failure;
}

async function fetchPart(
  state: MountState,
  as: Credentials,
  inode: Inode,
  start: number,
  end: number,
): Outcome<Stretch> {
  let came: ReadOk | undefined;
  let gathered: Buffer | undefined;
  let at = start;
  while (at < end) {
    const stamp = state.attributes.stamp();
    const result = await state.server.read(as, inode.file, at, end - at);
    if (!result.ok) {
      came?.release();
      state.attributes.observe(inode.attributes, result.error.attributes, stamp);
      return state.failed(inode, result.error);
    }
    const piece = result.value;
    const { bytes, eof } = piece;
    state.attributes.observe(inode.attributes, piece.attributes, stamp);
    if (came === undefined) {
      came = piece;
    } else {
      gathered ??= copyOf(came, end - start);
      bytes.copy(gathered, at - start);
      piece.release();
      const all = gathered.subarray(0, at - start + bytes.length);
      came = { eof, bytes: all, release: () => undefined };
    }
    at += bytes.length;
    // No bytes and no end is an answer that would be asked for again for ever.
    if (eof || bytes.length === 0) break;
  }
  return ok({ pieces: came === undefined ? [] : [came], end: at });
}

/** The piece's bytes, given back, at the start of `roomBytes` of memory. */
function copyOf(piece: ReadOk, roomBytes: number): Buffer {
  const memory = Buffer.allocUnsafeSlow(roomBytes);
  piece.bytes.copy(memory);
  piece.release();
  return memory;
}

/** Whether the file really ends at `position` or before, as the server says when asked now. */
async function endsAt(
  state: MountState,
  as: Credentials,
  inode: Inode,
  position: number,
): Promise<boolean> {
  if (state.writes.keptEnd(inode) > position) return false;
  const now = await state.getattr(as, inode, 'now');
  return now.ok && now.value.size <= position;
}

function startOf(stretch: Stretch): number {
  return stretch.end - stretch.pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

function covers(kept: readonly KeptRange[], start: number, end: number): boolean {
  let at = start;
  for (const range of kept) {
    if (range.start !== at) return false;
    at += range.bytes.length;
  }
  return at === end;
}

/** The fetched bytes from `start`, with the kept ones in their place. */
function overlay(
  pieces: readonly ReadOk[],
  start: number,
  kept: readonly KeptRange[],
): readonly Buffer[] {
  if (kept.length === 0) return pieces.map(({ bytes }) => bytes);
  const views: Buffer[] = [];
  const ranges = kept.values();
  let range = ranges.next().value;
  let at = start;
  for (const { bytes } of pieces) {
    const end = at + bytes.length;
    const base = at;
    while (at < end) {
      if (range === undefined || range.start >= end) {
        views.push(bytes.subarray(at - base));
        at = end;
      } else if (range.start > at) {
        views.push(bytes.subarray(at - base, range.start - base));
        at = range.start;
      } else {
        const rangeEnd = range.start + range.bytes.length;
        const until = Math.min(rangeEnd, end);
        views.push(range.bytes.subarray(at - range.start, until - range.start));
        at = until;
        if (until === rangeEnd) range = ranges.next().value;
      }
    }
  }
  return views;
}

function holdsOf(kept: readonly KeptRange[]): (() => void)[] {
  return kept.map(
    ({ memory }) =>
      () =>
        memory.drop(),
  );
}

/** `bytes` in no more parts than go to the kernel at once: many small writes may lie in a range. */
function reply(bytes: readonly Buffer[], releases: readonly (() => void)[]): ReadReply {
  return {
    kind: 'bytes',
    bytes: bytes.length > maxParts ? [Buffer.concat(bytes)] : bytes,
    release: () => {
      for (const release of releases) release();
    },
  };
}
