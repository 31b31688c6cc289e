/**
 * A read of pages of which the server does not have all (they are dirty, or behind its file's end),
 * while the others cannot be kept, or are being changed: put together from both sides.
 *
 * C2, C10  What is dirty comes from the local file, or not at all: the server's bytes are old.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Fetched, ReadReply } from '../vfs/ports.ts';
import { PAGE_BYTES } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import { localFailure } from './local-failure.ts';
import { type PageRange, pagesOf, without } from './page-range.ts';

type Fetch = (offset: number, length: number) => Promise<Result<Fetched, FsError>>;

/**
 * Less than asked for where the server's file was cut meanwhile: what it had there is no zeros.
 * Err: what is dirty cannot be read from the local disk, or the rest from the server.
 */
export async function readBeside(
  content: ImageContent,
  offset: number,
  length: number,
  fetch: Fetch,
): Promise<Result<ReadReply, FsError>> {
  const range = pagesOf(offset, length);
  const whole = Buffer.alloc(length);
  // Not punched meanwhile, whatever becomes of the pages.
  const reply = content.replyBegins(offset, length);
  try {
    const dirty = content.map.dirtyRuns(range.start, range.end);
    const zeros = content.zeroRuns(range);
    const ours = [...dirty, ...zeros].sort((a, b) => a.start - b.start);
    const results = await Promise.all([
      ...dirty.map((run) => readLocal(content, run, offset, whole)),
      ...without(range, ours).map((run) => readServer(content, run, offset, whole, fetch)),
    ]);
    // Neither side has more: it was cut since the read began.
    let end = Math.min(offset + length, Math.max(content.map.sizeBytes, content.zeros.serverBytes));
    for (const result of results) {
      if (!result.ok) return result;
      end = Math.min(end, result.value);
    }
    const bytes = whole.subarray(0, Math.max(end - offset, 0));
    return ok({ kind: 'bytes', bytes: [bytes], release: () => undefined });
  } finally {
    content.replies.drop(reply);
  }
}

/** Both answer where the file ended, if it did: infinity where not. */
async function readLocal(
  { io, fd, health }: ImageContent,
  run: PageRange,
  offset: number,
  whole: Buffer,
): Promise<Result<number, FsError>> {
  const { from, part } = partOf(run, offset, whole);
  const { errno } = await io.read(fd, from, part);
  if (errno === 0) return ok(Number.POSITIVE_INFINITY);
  health.failed(errno, 'read');
  return err(localFailure(errno, 'read', 'unsent writes'));
}

async function readServer(
  { zeros, counts }: ImageContent,
  run: PageRange,
  offset: number,
  whole: Buffer,
  fetch: Fetch,
): Promise<Result<number, FsError>> {
  const { from, part } = partOf(run, offset, whole);
  const atServer = Math.min(part.length, zeros.serverBytes - from);
  if (atServer <= 0) return ok(Number.POSITIVE_INFINITY);
  const answer = await fetch(from, atServer);
  if (!answer.ok) return answer;
  const { bytes, release } = answer.value;
  bytes.copy(part);
  const { length } = bytes;
  counts.serverBytes += length;
  release();
  return ok(length < atServer ? from + length : Number.POSITIVE_INFINITY);
}

/** What of the read lies in the run. */
function partOf(
  run: PageRange,
  offset: number,
  whole: Buffer,
): { readonly from: number; readonly part: Buffer } {
  const from = Math.max(run.start * PAGE_BYTES, offset);
  const end = Math.min(run.end * PAGE_BYTES, offset + whole.length);
  return { from, part: whole.subarray(from - offset, end - offset) };
}
