/**
 * An image as write-back sees it: what is dirty, and what is known of the server's file.
 *
 *              beginSending (durable)              endSending, known
 *   resting -------------------------> sending ------------------------> resting
 *      |                                  ^ '--- endSending, unknown ---> sending
 *      | another has changed it (`replace`):
 *      |   shared: clean pages go --------'
 *      '   exclusive --> conflict --keepOurs--> sending        --discard--> nothing unsent
 *
 * C5  See `ImageContent.settleRun`, `DirtyPages`.
 * C6  Nothing is sent in conflict. Whose change it was the file system knows while a file is open;
 *     what was left by an earlier daemon, or had nobody to look after it, is compared when it is
 *     opened, unless WRITEs of ours may have changed the file, which is on the disk before the first.
 *
 * `map.synced` calls no page dirty any more before the note of what is unsent is taken back: a power
 * loss must not send old bytes over another host's.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { Attributes, ContentStamp, ImageSending } from '../vfs/ports.ts';
import type { CacheParts } from './cache-parts.ts';
import { isFull } from './disk-health.ts';
import type { ImageContent } from './image-content.ts';
import type { LocalChanges } from './local-changes.ts';
import { localFailure } from './local-failure.ts';
import type { DirtyImage, SendingRun } from './write-back/dirty-image.ts';

/** What write-back's side needs to know of its image. */
export interface UnsentHost {
  readonly fileId: string;
  readonly path: string;
  readonly content: ImageContent | undefined;
  readonly renewal: Promise<void> | undefined;
  readonly changes: LocalChanges;
  readonly sending: ImageSending | undefined;
  /** Another's change was found: `replace` of it. */
  changedByAnother(found: Attributes): Promise<void>;
  /** What is unsent has come, gone, changed its state, or failed. */
  unsentChanged(): void;
  /** Nothing is unsent any more, and the disk has failed with what is kept: anew. */
  renewLost(content: ImageContent, attributes: Attributes): Promise<void>;
}

const nobody: Credentials = { uid: 65534, gid: 65534, groups: [] };
/** Runs that are settled at once: each reads its bytes again. */
const SETTLED_AT_ONCE = 8;

export class UnsentPages implements DirtyImage {
  readonly #parts: CacheParts;
  readonly #host: UnsentHost;
  failure: { readonly serial: number; readonly error: FsError } | undefined;
  /** What `local` told last: what is not that any more is unsent still. */
  #told: { readonly size: number; readonly mtimeNs: bigint } | undefined;
  #beganMs = 0;
  /** Of the last run that the server has and that is called dirty all the same. */
  #unsettledErrno = 0;
  /** Between `beginSending` and `endSending`, whatever else is noted meanwhile. */
  isUnderWay = false;

  constructor(parts: CacheParts, host: UnsentHost) {
    this.#parts = parts;
    this.#host = host;
  }

  get fileId(): string {
    return this.#host.fileId;
  }

  get path(): string {
    return this.#host.path;
  }

  get sending(): ImageSending {
    return this.#host.sending ?? noSending;
  }

  get as(): Credentials {
    return this.#host.content?.unsent.as ?? nobody;
  }

  get dirtyBytes(): number {
    return this.#host.content?.map.dirtyBytes() ?? 0;
  }

  get dirtySinceMs(): number | undefined {
    return this.#host.content?.unsent.sinceMonotonicMs;
  }

  get hasUnsentAttributes(): boolean {
    return this.#host.content?.unsent.isAny ?? false;
  }

  get inConflict(): boolean {
    return this.#host.content?.unsent.inConflict ?? false;
  }

  get isResting(): boolean {
    const { content } = this.#host;
    return (
      content === undefined || (content.dirty.isResting && content.directory.state !== 'sending')
    );
  }

  async beginSending(): Promise<Result<'may send' | 'conflict', FsError>> {
    // Whose change it is that the look has found is the file system's to say: by `replace`.
    await this.#host.renewal;
    if (this.inConflict) return ok('conflict');
    const { content, path } = this.#host;
    if (content === undefined) return err(localError('ESTALE', 'send', `${path}: nothing is kept`));
    this.#told = undefined;
    this.#beganMs = this.#parts.clock.monotonicMs();
    this.#unsettledErrno = 0;
    const errno = await content.directory.markSending();
    // The server may be the last place for it to go. A daemon that knows nothing of it finds the
    // file changed by another: what is dirty stays, then.
    if (errno !== 0) content.health.failed(errno, 'sync');
    this.isUnderWay = true;
    this.#host.unsentChanged();
    return ok('may send');
  }

  take(from: number, maxRunBytes: number, maxRuns: number): SendingRun[] {
    const { content } = this.#host;
    if (content === undefined || content.unsent.inConflict) return [];
    return content.dirty.take(from, maxRunBytes, maxRuns);
  }

  async read(run: SendingRun): Promise<Result<Buffer, FsError>> {
    const { content, path } = this.#host;
    if (content?.dirty.isUnderWay(run) !== true) {
      return err(localError('ESTALE', 'send', `${path}: what was to be sent was dropped`));
    }
    const { errno, bytes } = await content.readRun(run);
    return errno === 0 ? ok(bytes) : err(localFailure(errno, 'send', path));
  }

  putBack(run: SendingRun): void {
    const dirty = this.#host.content?.dirty;
    if (dirty?.isUnderWay(run) === true) dirty.end(run);
  }

  async settle(runs: readonly SendingRun[]): Promise<void> {
    const { content } = this.#host;
    if (content === undefined) return;
    const left = runs.values();
    const worker = async () => {
      for (const run of left) {
        const errno = await content.settleRun(run);
        if (errno !== 0) this.#unsettledErrno = errno;
      }
    };
    await Promise.all(Array.from({ length: Math.min(SETTLED_AT_ONCE, runs.length) }, worker));
    this.#parts.mayEvictAgain();
  }

  async endSending(attributes: Attributes | undefined): Promise<Result<void, FsError>> {
    this.isUnderWay = false;
    await this.#host.renewal;
    const { content, path } = this.#host;
    // What was not settled is not called sent anyway.
    if (content === undefined || attributes === undefined) return ok(undefined);
    const errno = (await this.#endedAs(content, attributes)) || this.#takeUnsettled();
    return errno === 0 ? ok(undefined) : err(localFailure(errno, 'note as sent', path));
  }

  local(): { readonly size: number; readonly mtimeNs: bigint } {
    const { content } = this.#host;
    const size = content?.map.sizeBytes ?? 0;
    this.#told = { size, mtimeNs: content?.unsent.mtimeNs ?? 0n };
    return this.#told;
  }

  failed(error: FsError): void {
    this.failure = { serial: (this.failure?.serial ?? 0) + 1, error };
    this.#parts.events.notSent?.(this.fileId, this.path, error);
    this.#host.unsentChanged();
  }

  /** The server's file has changed under what is unsent, in an exclusive session (C6). */
  async conflictFound(): Promise<void> {
    const { content } = this.#host;
    if (content === undefined || content.unsent.inConflict) return;
    // Not while it is noted that all was sent.
    const leave = await content.lane.enter({ start: 0, end: 1 });
    const errno = await content.unsent.setConflict(true);
    leave();
    if (!content.unsent.isAny) return;
    if (errno !== 0) content.health.failed(errno, 'sync');
    this.#parts.events.conflict?.(this.fileId, this.path);
    this.#host.unsentChanged();
  }

  /**
   * The conflict is decided for what is ours: it may be sent over the other's. What is kept of the
   * old content goes.
   */
  async keepOurs(): Promise<void> {
    const { content } = this.#host;
    if (content === undefined || !content.unsent.inConflict) return;
    await content.dropClean();
    // From now on the server's file is not compared any more, also after a crash.
    const marked = await content.directory.markSending();
    const errno = marked === 0 ? await content.unsent.setConflict(false) : marked;
    if (errno !== 0) content.health.failed(errno, 'sync');
    this.#parts.writeBack.changed(this);
    this.#host.unsentChanged();
  }

  /** Errno: the disk may call pages dirty that are not. */
  async #endedAs(content: ImageContent, attributes: Attributes): Promise<number> {
    const { changes } = this.#host;
    const { map, unsent, zeros, health, directory } = content;
    if (content.mustGo && map.dirtyPages === 0 && !changes.any) {
      await this.#host.renewLost(content, attributes);
      this.#host.unsentChanged();
      return 0;
    }
    if (attributes.size > map.sizeBytes && !changes.any) {
      await this.#host.changedByAnother(attributes);
      return this.#marksDown(content);
    }
    zeros.raise(attributes.size);
    const told = this.#told;
    const isSent =
      map.dirtyPages === 0 &&
      told !== undefined &&
      told.mtimeNs === unsent.mtimeNs &&
      told.size >= map.sizeBytes &&
      attributes.size === map.sizeBytes;
    if (!isSent) unsent.isSince(this.#beganMs);
    // What has begun meanwhile is settled with its own end.
    if (changes.any || !health.mayMark) return this.#marksDown(content);
    const errno = await this.#noteSettled(content, attributes, isSent);
    if (isFull(errno)) {
      // Clean pages go for it: the next attempt finds room.
      health.failed(errno, 'write');
      return this.#marksDown(content);
    }
    content.failedSync(errno);
    if (errno !== 0 && isSent) await this.#host.renewLost(content, attributes);
    // Dropped, it is found by nobody any more.
    const isHere = this.#host.content === content && directory.unsent !== undefined;
    this.#host.unsentChanged();
    this.#parts.mayEvictAgain();
    return isHere ? errno : 0;
  }

  /** Both maps say what is dirty still, and no more. Errno. */
  async #marksDown({ directory, health }: ImageContent): Promise<number> {
    const saved = await directory.persistMarks();
    const errno = saved === 0 ? await directory.sync() : saved;
    if (errno !== 0) health.failed(errno, 'sync');
    return errno;
  }

  /** Of what was sent some could not be called clean: errno of that. */
  #takeUnsettled(): number {
    const errno = this.#unsettledErrno;
    this.#unsettledErrno = 0;
    return errno;
  }

  /** First what is synced, then the note: in this order both can be believed at any time. */
  async #noteSettled(content: ImageContent, of: Attributes, isSent: boolean): Promise<number> {
    const { directory, unsent } = content;
    const settled = await directory.settle(of, 'durable');
    if (settled !== 0 || !isSent) return settled;
    // No write is between its note and its marks then.
    const leave = await content.lane.enter({ start: 0, end: Number.POSITIVE_INFINITY });
    try {
      const { map } = content;
      const isNew = unsent.mtimeNs !== this.#told?.mtimeNs || map.sizeBytes !== of.size;
      if (content.retired || map.dirtyPages > 0 || isNew) return 0;
      unsent.forget();
      // Asked for in the same turn: the note of a later write comes after it.
      return await directory.noteUnsent(undefined, 'durable');
    } finally {
      leave();
      if (!unsent.isAny) this.#parts.events.clean?.(this.fileId, this.path);
    }
  }
}

/** C6: a change of names or permissions is none of the content. */
export function isSameContent(one: ContentStamp, other: ContentStamp): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs;
}

const unsendable = () => Promise.resolve(err(localError('EIO', 'send', 'the file is not open')));

/** Of an image that the file system has not opened: nothing can be sent. */
const noSending: ImageSending = {
  writeMax: 65536,
  others: () => [],
  look: unsendable,
  write: unsendable,
  commit: unsendable,
  finish: unsendable,
};
