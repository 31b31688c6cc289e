/**
 * Writes that are acknowledged when the local disk has them.
 *
 *   write --> what is in its way? --overcome, a few times--.
 *              | nothing         ^-------------------------'
 *              v                                 cannot be overcome
 *             in the lane: note, bytes, marks       '--> what is dirty of the range is sent
 *              |                                          '--> 'through'
 *              v
 *             the changed records to the live map --> 'kept'
 *
 * C1  Marks are set after the bytes are in `data`; the live map has them before the answer.
 * C2  Bytes are compared with, and put beside, checked ones only: what a killed daemon left half
 *     done is found out before it can pass for what was written again.
 * C7  Where the disk takes nothing more, clean pages go; then writes go through to the server, after
 *     what is dirty of the same pages.
 * C11 Where a write makes the file longer, all between the old end and the write is zeros: the old
 *     last page is there before, and fills of it are cut.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { LocalWrites, Unsent } from '../vfs/ports.ts';
import type { CacheParts } from './cache-parts.ts';
import { BLOCK_BYTES, type Overwritten, PAGE_BYTES, PAGES_PER_BLOCK } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import type { LocalChanges } from './local-changes.ts';
import { localFailure } from './local-failure.ts';
import { maskOf, type PageRange, pagesOf } from './page-range.ts';
import type { DirtyImage } from './write-back/dirty-image.ts';

/** What local writes need to know of their image. */
export interface LocalHost {
  readonly fileId: string;
  readonly path: string;
  /** undefined: nothing is kept. */
  readonly content: ImageContent | undefined;
  readonly renewal: Promise<void> | undefined;
  /** What an image that is closed has left on the disk: another daemon sends it. */
  readonly leftBehind: Unsent | undefined;
  readonly changes: LocalChanges;
  /** The image as write-back sees it. */
  readonly dirty: DirtyImage;
  /** Programs' writes may be kept here. */
  readonly keepsWrites: boolean;
  readonly failure: { readonly serial: number; readonly error: FsError } | undefined;
  /** Fetches what only the server has of the range. */
  fill(range: PageRange, as: Credentials): Promise<Result<void, FsError>>;
  /** Another content, because the kernel reads this one by itself. */
  leaveToHolders(): Promise<void>;
  /** What is unsent has come or gone. */
  unsentChanged(): void;
  discard(): Promise<void>;
  keepOurs(): Promise<void>;
}

/** Why a write cannot be kept at once. */
type Obstacle =
  | 'another content is being made'
  | 'nothing is kept'
  | 'a change of the pages is pending'
  | 'the kernel reads it by itself'
  | 'the end is doubtful'
  | 'not checked'
  | 'absent in part'
  | 'no room';

/** So often a write is hindered, and by what it has overcome before: then it goes through. */
const MAX_TRIES = 8;
const MAX_ROOM_TRIES = 2;
const kept: Result<'kept', never> = ok('kept');
const noBlocks = new Uint16Array();

export class ImageLocalWrites implements LocalWrites {
  readonly #parts: CacheParts;
  readonly #host: LocalHost;

  constructor(parts: CacheParts, host: LocalHost) {
    this.#parts = parts;
    this.#host = host;
  }

  get unsent(): Unsent | undefined {
    const { content } = this.#host;
    if (content === undefined) return this.#host.leftBehind;
    if (!content.unsent.isAny) return undefined;
    const { unsent, map, directory } = content;
    const state = unsent.inConflict
      ? 'conflict'
      : directory.state === 'sending'
        ? 'sending'
        : 'dirty';
    const { mtimeNs, sinceMs } = unsent;
    return { bytes: map.dirtyBytes(), size: map.sizeBytes, mtimeNs, state, sinceMs };
  }

  get failure(): { readonly serial: number; readonly error: FsError } | undefined {
    return this.#host.failure;
  }

  async write(
    as: Credentials,
    offset: number,
    bytes: Buffer,
    fileSize: number,
  ): Promise<Result<'kept' | 'through', FsError>> {
    if (bytes.length === 0) return kept;
    const end = offset + bytes.length;
    let roomTries = 0;
    const mayWrite = this.#parts.writeBack.roomFor(bytes.length);
    if (mayWrite !== undefined) await mayWrite;
    if (this.#host.leftBehind !== undefined) return err(leftBehind('write', this.#host.path));
    for (let tries = 0; tries < MAX_TRIES && roomTries < MAX_ROOM_TRIES; tries++) {
      const { content } = this.#host;
      const obstacle = this.#obstacle(content, offset, end, fileSize);
      if (content === undefined || obstacle === 'nothing is kept') break;
      if (obstacle === undefined) {
        const outcome = await this.#keep(content, as, offset, bytes, fileSize);
        if (outcome === 'kept') return kept;
        if (outcome === 'failed') {
          roomTries++;
          if (content.health.state === 'full') await this.#parts.makeRoom(bytes.length);
        }
        if (outcome === 'not marked') return this.#sentInstead();
      } else {
        if (obstacle === 'no room') roomTries++;
        const overcome = await this.#overcome(obstacle, content, as, offset, end);
        if (!overcome.ok) return overcome;
      }
    }
    return this.#goesThrough(pagesOf(offset, bytes.length));
  }

  async setModified(mtimeNs: bigint): Promise<void> {
    const { content } = this.#host;
    if (content === undefined) return;
    // Not while it is noted that all was sent.
    const leave = await content.lane.enter({ start: 0, end: 1 });
    const wasAny = content.unsent.isAny;
    const errno = await content.unsent.setModified(mtimeNs, this.#host.dirty.as);
    leave();
    if (errno !== 0) content.health.failed(errno, 'write');
    this.#changed(wasAny);
  }

  async sync(): Promise<Result<void, FsError>> {
    if (this.#host.renewal !== undefined) await this.#host.renewal;
    const { content, path } = this.#host;
    if (content === undefined || !content.unsent.isAny) return ok(undefined);
    const errno = await content.directory.sync();
    content.failedSync(errno);
    return errno === 0 ? ok(undefined) : err(localFailure(errno, 'sync', path));
  }

  async writeBack(): Promise<Result<void, FsError>> {
    const { content, path } = this.#host;
    if (content === undefined && this.#host.leftBehind !== undefined) {
      return err(leftBehind('write back', path));
    }
    const sent = await this.#parts.writeBack.writeBack(this.#host.dirty);
    return sent.ok ? ok(undefined) : sent;
  }

  discard(): Promise<void> {
    return this.#host.discard();
  }

  keepOurs(): Promise<void> {
    return this.#host.keepOurs();
  }

  #obstacle(
    content: ImageContent | undefined,
    offset: number,
    end: number,
    fileSize: number,
  ): Obstacle | undefined {
    const { renewal, keepsWrites, changes } = this.#host;
    if (renewal !== undefined) return 'another content is being made';
    if (content === undefined || content.retired || !keepsWrites) return 'nothing is kept';
    const { map, health, verification } = content;
    if (fileSize > map.sizeBytes && !content.unsent.isAny) return 'nothing is kept';
    const range = laneOf(map.sizeBytes, offset, end);
    if (changes.any && changes.isChanging(range)) return 'a change of the pages is pending';
    if (content.held) return 'the kernel reads it by itself';
    const grows = end > map.sizeBytes;
    if (grows && content.sizeIsDoubtful) return 'the end is doubtful';
    if (!verification.isTrusted(pagesOf(offset, end - offset))) return 'not checked';
    if (neededPage(content, offset, end) !== undefined) return 'absent in part';
    const absentPages = countAbsent(content, offset, end);
    if (absentPages > 0 && !content.mayStore(absentPages * PAGE_BYTES)) {
      return health.mayStore || health.state === 'full' ? 'no room' : 'nothing is kept';
    }
    return health.mayMark ? undefined : 'nothing is kept';
  }

  async #overcome(
    obstacle: Exclude<Obstacle, 'nothing is kept'>,
    content: ImageContent,
    as: Credentials,
    offset: number,
    end: number,
  ): Promise<Result<void, FsError>> {
    const range = pagesOf(offset, end - offset);
    switch (obstacle) {
      case 'another content is being made':
        await this.#host.renewal;
        break;
      case 'a change of the pages is pending':
        await this.#host.changes.whenNone(laneOf(content.map.sizeBytes, offset, end));
        break;
      case 'the kernel reads it by itself':
        await this.#host.leaveToHolders();
        break;
      case 'the end is doubtful':
        await content.forgetEnd();
        break;
      case 'not checked':
        await content.verification.check(range);
        break;
      case 'absent in part': {
        const page = neededPage(content, offset, end);
        if (page === undefined) break;
        return this.#host.fill({ start: page, end: page + 1 }, as);
      }
      case 'no room':
        await this.#parts.makeRoom(countAbsent(content, offset, end) * PAGE_BYTES);
        break;
    }
    return ok(undefined);
  }

  async #keep(
    content: ImageContent,
    as: Credentials,
    offset: number,
    bytes: Buffer,
    fileSize: number,
  ): Promise<'kept' | 'hindered' | 'failed' | 'not marked'> {
    const end = offset + bytes.length;
    const wasAny = content.unsent.isAny;
    const range = laneOf(content.map.sizeBytes, offset, end);
    const leave = content.lane.enterNow(range) ?? (await content.lane.enter(range));
    let isMapChanged: boolean;
    try {
      // Who was before us in the lane may have changed what we found.
      if (this.#obstacle(content, offset, end, fileSize) !== undefined) return 'hindered';
      if (end > content.map.sizeBytes && range.end !== Number.POSITIVE_INFINITY) return 'hindered';
      const noted = content.unsent.noteWrite(as);
      const errno = noted === undefined ? 0 : await noted;
      if (errno !== 0) {
        content.health.failed(errno, 'write');
        if (content.map.dirtyPages === 0 && !wasAny) content.unsent.forget();
        return 'failed';
      }
      const outcome = await this.#put(content, offset, bytes);
      if (outcome === 'failed') {
        // What was noted is unsent all the same: the size, perhaps.
        this.#changed(wasAny);
        return outcome;
      }
      isMapChanged = outcome === 'map changed';
    } finally {
      leave();
    }
    content.marked(offset, bytes.length);
    if (isMapChanged) {
      const errno = await content.directory.persistMarks();
      if (errno !== 0) {
        content.health.failed(errno, 'write');
        return 'not marked';
      }
    }
    this.#changed(wasAny);
    return 'kept';
  }

  /** In the lane: bytes, then marks. */
  async #put(
    content: ImageContent,
    offset: number,
    bytes: Buffer,
  ): Promise<'failed' | 'map changed' | 'map as before'> {
    const { map, io, fd, zeros } = content;
    const end = offset + bytes.length;
    const range = pagesOf(offset, bytes.length);
    // A killed daemon's successor takes the size from the live map.
    const grows = end > map.sizeBytes;
    if (grows) {
      content.fills.cut(laneOf(map.sizeBytes, offset, end));
      if ((await content.grow(end)) !== 0) return 'failed';
    }
    for (const page of partialPages(map.sizeBytes, offset, end)) {
      if (!(await content.storeZerosInLane({ start: page, end: page + 1 }))) return 'failed';
    }
    const first = Math.floor(offset / BLOCK_BYTES);
    const newPages = range.end - range.start - map.countPresent(range.start, range.end);
    const compare = cleanMasks(content, range, first);
    const work = () => io.overwrite(fd, offset, bytes, compare);
    const written =
      newPages === 0 ? await work() : await content.counted(newPages * PAGE_BYTES, work);
    if (written.errno !== 0) {
      content.directory.distrustHoles();
      content.health.failed(written.errno, 'write');
      this.#isHalfDone(content, range, first, written);
      return 'failed';
    }
    // What readers have begun to fetch meanwhile is older.
    if (newPages > 0) content.fills.cut(range);
    // Others may have put other bytes there, unseen.
    const isAlone = this.#parts.session === 'exclusive';
    const zeroFrom = isAlone ? zeros.firstPage : Number.POSITIVE_INFINITY;
    let isMapChanged = grows;
    for (let i = 0; i < written.changed.length; i++) {
      const block = first + i;
      const changed = written.changed[i] ?? 0;
      if (changed === 0) continue;
      const absent = ~map.mask(block);
      const behind = maskOf({ start: zeroFrom, end: Number.POSITIVE_INFINITY }, block);
      // W4: the server's file has no other bytes there than zeros, and will have none.
      const clean = (written.zeros[i] ?? 0) & changed & absent & behind;
      if (clean !== 0) map.restore(block, map.mask(block) | clean, map.sum(block));
      const pages = changed & ~clean;
      isMapChanged ||= clean !== 0 || (pages & ~map.dirtyMask(block)) !== 0;
      map.makeDirty(block, pages, written.oldSums[i] ?? 0);
      content.dirty.wrote(block, pages);
    }
    return isMapChanged ? 'map changed' : 'map as before';
  }

  /**
   * Some of the bytes may be in `data`. Clean pages are found to be damaged at their next use; dirty
   * ones hold the one or the other, as after a write that was interrupted.
   */
  #isHalfDone(content: ImageContent, range: PageRange, first: number, written: Overwritten): void {
    content.verification.distrustBlocks(range);
    for (const [i, changed] of written.changed.entries()) content.dirty.wrote(first + i, changed);
  }

  /** The bytes are here, but a killed daemon's successor would not know: the server gets them. */
  async #sentInstead(): Promise<Result<'kept', FsError>> {
    const sent = await this.writeBack();
    return sent.ok ? kept : sent;
  }

  async #goesThrough(range: PageRange): Promise<Result<'through', FsError>> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      if (this.#host.renewal !== undefined) await this.#host.renewal;
      const { content, dirty } = this.#host;
      if (this.#host.leftBehind !== undefined) return err(leftBehind('write', this.#host.path));
      if (content === undefined) break;
      if (content.map.countDirty(range.start, range.end) === 0 && !content.unsent.inConflict) break;
      if (content.unsent.inConflict) {
        const why =
          'nothing more can be kept, and nothing can be sent before the conflict is resolved';
        return err(localError('ENOSPC', 'write', `${this.#host.path}: ${why}`));
      }
      const sent = await this.#parts.writeBack.writeBackRange(dirty, range);
      if (!sent.ok) return sent;
    }
    return ok('through');
  }

  #changed(wasAny: boolean): void {
    this.#parts.writeBack.changed(this.#host.dirty);
    if (wasAny) return;
    this.#parts.events.dirty?.(this.#host.fileId, this.#host.path);
    this.#host.unsentChanged();
  }
}

/** The server's bytes are old, and those of the disk another daemon's. */
export function leftBehind(operation: string, path: string): FsError {
  const message = `${path}: what was not sent is on the local disk, which is closed, or fails`;
  return { ...localError('EIO', operation, message), code: 'CLOSED' };
}

/** The pages whose bytes or meaning a write changes: with the end of the file all behind it. */
function laneOf(sizeBytes: number, offset: number, end: number): PageRange {
  const range = pagesOf(offset, end - offset);
  if (end <= sizeBytes) return range;
  const start = Math.min(range.start, Math.floor(sizeBytes / PAGE_BYTES));
  return { start, end: Number.POSITIVE_INFINITY };
}

/** Pages of which a write leaves a part as it is; when it makes the file longer, the last one, too. */
function partialPages(sizeBytes: number, offset: number, end: number): number[] {
  const pages: number[] = [];
  const last = Math.floor(sizeBytes / PAGE_BYTES);
  if (end > sizeBytes && sizeBytes % PAGE_BYTES !== 0) {
    const isCovered = offset <= last * PAGE_BYTES && end >= Math.min((last + 1) * PAGE_BYTES, end);
    if (!isCovered) pages.push(last);
  }
  if (offset % PAGE_BYTES !== 0) pages.push(Math.floor(offset / PAGE_BYTES));
  if (end % PAGE_BYTES !== 0 && end < sizeBytes) pages.push(Math.floor(end / PAGE_BYTES));
  return pages;
}

/** One of these that only the server has. */
function neededPage(content: ImageContent, offset: number, end: number): number | undefined {
  const { map, zeros } = content;
  if (offset % PAGE_BYTES === 0 && end % PAGE_BYTES === 0 && end <= map.sizeBytes) return undefined;
  return partialPages(map.sizeBytes, offset, end).find(
    (page) => page < zeros.firstPage && page < map.pageCount && !map.isPresent(page, page + 1),
  );
}

function countAbsent({ map }: ImageContent, offset: number, end: number): number {
  const range = pagesOf(offset, end - offset);
  return range.end - range.start - map.countPresent(range.start, range.end);
}

/** Pages of the range that are clean, block by block. */
function cleanMasks({ map }: ImageContent, range: PageRange, first: number): Uint16Array {
  const count = Math.ceil(range.end / PAGES_PER_BLOCK) - first;
  if (count === 0) return noBlocks;
  const masks = new Uint16Array(count);
  for (let i = 0; i < count; i++) masks[i] = map.cleanMask(first + i) & maskOf(range, first + i);
  return masks;
}
