/**
 * Images that take writes: only the unsent pages are kept, all else is fetched each time. Small and
 * strict, it sends when it is told to, and fails the test where the file system breaks the contract:
 *
 *  - no page is sent, and no time or size set, by a call that overlaps one which excludes it;
 *  - nothing goes through to the server over a page that is unsent (the image sends it before).
 *
 * What is unsent at the end stays, for the next cache: `recovered`.
 */
import assert from 'node:assert/strict';
import type { FileHandle, HandleId } from '../../src/base/brand.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';
import type {
  Attributes,
  CachedImage,
  ImageCache,
  ImageSending,
  ImageSource,
  LocalWrites,
  PendingChange,
  ReadReply,
  RecoveredFile,
  Unsent,
} from '../../src/vfs/ports.ts';
import { MemoryKnowledge } from './memory-images.ts';

/** One unsent page. */
interface Page {
  bytes: Buffer;
  /** Written since it was last sent. */
  isDirty: boolean;
}

/** What of a file outlives the daemon. */
interface Kept {
  readonly pages: Map<number, Page>;
  size: number;
  mtimeNs: bigint;
  as: Credentials;
  fsid: bigint;
  fileid: bigint;
  inConflict: boolean;
  /** A server that restarts may lose what it was sent: it then has what looks like another's. */
  isSending: boolean;
  /** The same of what went through. */
  isWriting: boolean;
  /** Something is unsent: pages, size or mtime. */
  isUnsent: boolean;
}

export interface LocalOptions {
  readonly pageBytes?: number;
  /** In exclusive sessions a change of another's is a conflict. */
  readonly exclusive?: boolean;
  readonly clock: Clock;
}

export class LocalImages implements ImageCache {
  readonly knowledge = new MemoryKnowledge();
  readonly pageBytes: number;
  readonly exclusive: boolean;
  readonly clock: Clock;
  /** Awaited before an image does something to itself. */
  delay: () => Promise<void> | undefined = () => undefined;
  /** The local disk takes no writes. */
  refuses = false;
  /** Sending fails so. */
  failure: FsError | undefined;
  syncs = 0;
  discards = 0;
  isEnded = false;
  readonly bouts = new Set<Promise<unknown>>();
  recovered: readonly RecoveredFile[] = [];
  readonly #files = new Map<string, Kept>();
  readonly #open = new Map<string, LocalImage>();

  constructor({ pageBytes = 8, exclusive = true, clock }: LocalOptions) {
    this.pageBytes = pageBytes;
    this.exclusive = exclusive;
    this.clock = clock;
  }

  get openImages(): number {
    return this.#open.size;
  }

  async open(file: FileHandle, content: Attributes, source: ImageSource): Promise<CachedImage> {
    await this.delay();
    const open = this.#open.get(key(file));
    if (open !== undefined) {
      open.opens += 1;
      return open;
    }
    const kept = this.#files.get(key(file)) ?? {
      pages: new Map<number, Page>(),
      size: content.size,
      mtimeNs: content.mtimeNs,
      as: { uid: 0, gid: 0, groups: [] },
      fsid: content.fsid,
      fileid: content.fileid,
      inConflict: false,
      isSending: false,
      isWriting: false,
      isUnsent: false,
    };
    const image = new LocalImage(this, kept, source, () => this.#open.delete(key(file)));
    this.#files.set(key(file), kept);
    this.#open.set(key(file), image);
    return image;
  }

  async isKept(file: FileHandle): Promise<boolean> {
    return this.#files.has(key(file));
  }

  async discardLeft(file: FileHandle): Promise<Result<void, FsError>> {
    assert(!this.#open.has(key(file)), 'the image is open');
    if (this.failure !== undefined) return err(this.failure);
    this.discards += 1;
    this.#files.delete(key(file));
    return ok(undefined);
  }

  image(file: FileHandle): LocalImage {
    const image = this.#open.get(key(file));
    assert(image !== undefined, 'the image is not open');
    return image;
  }

  /** Nothing is sent any more, as when a cache is given to the next daemon. */
  async end(): Promise<void> {
    this.isEnded = true;
    await Promise.all(this.bouts);
  }

  /** Another daemon begins. */
  next(): void {
    assert.equal(this.#open.size, 0);
    this.isEnded = false;
    this.recovered = [...this.#files].flatMap(([name, kept]) => {
      if (!kept.isUnsent) return [];
      const { fsid, fileid, as } = kept;
      const file = Buffer.from(name, 'hex') as FileHandle;
      return [{ file, fsid, fileid, as, path: 'image', unsent: unsentOf(kept, this.pageBytes) }];
    });
  }
}

export class LocalImage implements CachedImage, LocalWrites {
  opens = 1;
  readonly local: LocalWrites = this;
  failure: LocalWrites['failure'];
  readonly #cache: LocalImages;
  readonly #kept: Kept;
  readonly #source: ImageSource;
  readonly #closed: () => void;
  #bout: Promise<Result<void, FsError>> | undefined;
  #serial = 0;
  /** Ends of the WRITEs in flight, and who waits for them. */
  readonly #sending = new Set<{ readonly end: number; readonly answered: Promise<unknown> }>();
  #changes = 0;
  /** Moves with every change of the bytes. */
  #touched = 0;
  /** A resize that is under way: where the file may end. */
  #limit = Number.POSITIVE_INFINITY;
  #resizing: Promise<void> = Promise.resolve();

  constructor(cache: LocalImages, kept: Kept, source: ImageSource, closed: () => void) {
    this.#cache = cache;
    this.#kept = kept;
    this.#source = source;
    this.#closed = closed;
  }

  get path(): string {
    return this.#source.path();
  }

  get unsent(): Unsent | undefined {
    return this.#kept.isUnsent ? unsentOf(this.#kept, this.#cache.pageBytes) : undefined;
  }

  // ---- CachedImage --------------------------------------------------------------------------------

  async read(
    as: Credentials,
    _reader: HandleId,
    offset: number,
    length: number,
    fileSize: number,
  ): Promise<Result<ReadReply, FsError>> {
    assert(length > 0 && offset + length <= fileSize, 'a read beyond the size that it states');
    const { pageBytes } = this.#cache;
    const parts: Buffer[] = [];
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + length; page++) {
      const bytes = await this.#pageBytes(as, page, fileSize);
      if (!bytes.ok) return bytes;
      parts.push(bytes.value);
    }
    const skip = offset % pageBytes;
    const bytes = Buffer.concat(parts).subarray(skip, skip + length);
    return ok({ kind: 'bytes', bytes: [bytes], release: () => undefined });
  }

  readerGone(): void {}

  async beginWrite(offset: number, length: number): Promise<PendingChange> {
    this.#changes += 1;
    await this.#sendOver(offset, offset + length);
    this.#kept.isWriting = true;
    return this.#pending((bytes) => {
      const end = offset + (bytes?.length ?? length);
      this.#kept.size = Math.max(this.#kept.size, end);
      return undefined;
    });
  }

  async beginResize(size: number): Promise<PendingChange> {
    this.#changes += 1;
    this.#limit = size;
    let isOver = (): void => undefined;
    this.#resizing = new Promise((resolve) => {
      isOver = resolve;
    });
    for (const { end, answered } of [...this.#sending]) if (end > size) await answered;
    const ended = () => {
      this.#limit = Number.POSITIVE_INFINITY;
      isOver();
    };
    return this.#pending(() => this.#resize(size), ended);
  }

  async replace(content: Attributes): Promise<void> {
    if (!this.#kept.isUnsent) this.#kept.size = content.size;
    await this.#cache.delay();
    const { isUnsent, isSending, isWriting } = this.#kept;
    if (!this.#cache.exclusive || !isUnsent || isSending || isWriting) return;
    if (content.nlink === 0) return;
    this.#kept.inConflict = true;
    this.#changed();
  }

  async settle(): Promise<void> {
    await this.#cache.delay();
    if (this.#source.attributes() !== undefined) this.#kept.isWriting = false;
  }

  hold(): { readonly why: string } {
    return { why: 'not here' };
  }

  close(): void {
    this.opens -= 1;
    if (this.opens > 0) return;
    assert.equal(this.#changes, 0, 'closed while a change is pending');
    this.#closed();
  }

  // ---- LocalWrites --------------------------------------------------------------------------------

  async write(
    as: Credentials,
    offset: number,
    bytes: Buffer,
    fileSize: number,
  ): Promise<Result<'kept' | 'through', FsError>> {
    const kept = this.#kept;
    const { pageBytes } = this.#cache;
    const end = offset + bytes.length;
    if (this.#cache.refuses) {
      await this.#sendOver(offset, end);
      return ok('through');
    }
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < end; page++) {
      const from = page * pageBytes;
      const isWhole = offset <= from && end >= from + pageBytes;
      const known = Math.max(fileSize, kept.size);
      const whole = isWhole ? ok(Buffer.alloc(0)) : await this.#pageBytes(as, page, known);
      if (!whole.ok) return whole;
      const now = kept.pages.get(page)?.bytes ?? whole.value;
      const copy = Buffer.alloc(pageBytes);
      now.copy(copy);
      bytes.copy(
        copy,
        Math.max(offset - from, 0),
        Math.max(from - offset, 0),
        from + pageBytes - offset,
      );
      kept.pages.set(page, { bytes: copy, isDirty: true });
      // With the page: it is sent as far as the file reaches.
      kept.size = Math.max(kept.size, fileSize, Math.min(end, from + pageBytes));
      if (!kept.isUnsent) {
        kept.isUnsent = true;
        this.#changed();
      }
      this.#touched += 1;
    }
    await this.#cache.delay();
    kept.as = as;
    kept.mtimeNs = this.#cache.clock.wallNs();
    if (!kept.isUnsent) {
      kept.isUnsent = true;
      kept.size = Math.max(fileSize, end);
      this.#changed();
    }
    return ok('kept');
  }

  async setModified(mtimeNs: bigint): Promise<void> {
    this.#kept.mtimeNs = mtimeNs;
  }

  async sync(): Promise<Result<void, FsError>> {
    this.#cache.syncs += 1;
    return ok(undefined);
  }

  async writeBack(): Promise<Result<void, FsError>> {
    while (this.#kept.isUnsent) {
      const underWay = this.#bout;
      if (underWay !== undefined) {
        await underWay;
        continue;
      }
      const bout = this.#send();
      this.#bout = bout;
      this.#cache.bouts.add(bout);
      const sent = await bout;
      this.#cache.bouts.delete(bout);
      this.#bout = undefined;
      if (!sent.ok) return sent;
    }
    return ok(undefined);
  }

  async discard(): Promise<void> {
    this.#cache.discards += 1;
    this.#kept.pages.clear();
    this.#clean();
  }

  async keepOurs(): Promise<void> {
    this.#kept.inConflict = false;
    this.#changed();
  }

  // ---- Private ------------------------------------------------------------------------------------

  get sending(): ImageSending {
    const { sending } = this.#source;
    assert(sending !== undefined);
    return sending;
  }

  #changed(): void {
    this.#source.sending?.unsentChanged?.();
  }

  #clean(): void {
    const wasUnsent = this.#kept.isUnsent;
    this.#kept.isUnsent = false;
    this.#kept.inConflict = false;
    if (wasUnsent) this.#changed();
  }

  /** A page, zeros behind the end that programs see. */
  async #pageBytes(
    as: Credentials,
    page: number,
    fileSize: number,
  ): Promise<Result<Buffer, FsError>> {
    const { pageBytes } = this.#cache;
    const from = page * pageBytes;
    const own = this.#kept.pages.get(page);
    if (own !== undefined) return ok(Buffer.from(own.bytes));
    const length = Math.min(pageBytes, fileSize - from);
    if (length <= 0) return ok(Buffer.alloc(pageBytes));
    const touched = this.#touched;
    const fetched = await this.#source.fetch(as, from, length);
    if (!fetched.ok) return fetched;
    // It may have been asked for before what has been written and sent meanwhile.
    if (touched !== this.#touched) {
      fetched.value.release();
      return this.#pageBytes(as, page, fileSize);
    }
    const bytes = Buffer.alloc(pageBytes);
    assert.equal(fetched.value.bytes.length, length, 'a fetch within the size that programs see');
    fetched.value.bytes.copy(bytes);
    fetched.value.release();
    return ok(this.#kept.pages.get(page)?.bytes ?? bytes);
  }

  #resize(size: number): void {
    const kept = this.#kept;
    const { pageBytes } = this.#cache;
    for (const [page, { bytes }] of [...kept.pages]) {
      const from = page * pageBytes;
      if (from >= size) kept.pages.delete(page);
      else if (from + pageBytes > size) bytes.fill(0, size - from);
    }
    kept.size = size;
    if (kept.pages.size === 0) this.#clean();
  }

  #pending(
    apply: (bytes: Buffer | undefined) => void,
    ended: () => void = () => undefined,
  ): PendingChange {
    let isPending = true;
    const end = async (work: () => void) => {
      assert(isPending, 'a change that is ended twice');
      isPending = false;
      this.#touched += 1;
      work();
      ended();
      await this.#cache.delay();
      this.#changes -= 1;
    };
    return { done: (bytes) => end(() => apply(bytes)), failed: () => end(() => undefined) };
  }

  /** Nothing of the range is unsent any more when it resolves. */
  async #sendOver(start: number, end: number): Promise<void> {
    const { pageBytes } = this.#cache;
    const isOver = (page: number) => page * pageBytes < end && (page + 1) * pageBytes > start;
    while ([...this.#kept.pages.keys()].some(isOver)) {
      const sent = await this.writeBack();
      if (!sent.ok) return;
    }
  }

  /** One bout: what is dirty now is sent and committed, the rest set if nothing is left. */
  async #send(): Promise<Result<void, FsError>> {
    const kept = this.#kept;
    if (kept.inConflict) return err(localError('EBUSY', 'write-back', 'in conflict'));
    const { failure } = this.#cache;
    if (failure !== undefined) return this.#failed(failure);
    if (this.#cache.isEnded) return err(closed);
    await this.#resizing;
    const found = await this.sending.look(kept.as);
    if (!found.ok) return this.#failed(found.error);
    if (this.#cache.isEnded) return err(closed);
    kept.isSending = true;
    const verifiers = new Set<bigint>();
    const pages = [...kept.pages];
    const sent = await Promise.all(
      pages.map(async ([number, page]) => {
        page.isDirty = false;
        const answer = await this.#sendPage(number, page);
        if (!answer.ok || answer.value === undefined) page.isDirty = true;
        else verifiers.add(answer.value);
        return answer;
      }),
    );
    const wrong = sent.find((one) => !one.ok);
    if (wrong?.ok === false) return this.#failed(wrong.error);
    if (this.#cache.isEnded) return err(closed);
    const committed = await this.sending.commit(kept.as);
    if (!committed.ok) return this.#failed(committed.error);
    verifiers.add(committed.value.verifier);
    for (const [number, page] of pages) {
      if (verifiers.size > 1) page.isDirty = true;
      else if (!page.isDirty && kept.pages.get(number) === page) kept.pages.delete(number);
    }
    this.#touched += 1;
    if (verifiers.size === 1) kept.isSending = false;
    if (kept.pages.size > 0 || !kept.isUnsent) return ok(undefined);
    if (this.#cache.isEnded) return err(closed);
    const { size, mtimeNs } = kept;
    const finished = await this.sending.finish(kept.as, { size, mtimeNs });
    if (!finished.ok) return this.#failed(finished.error);
    await this.#cache.delay();
    const isAll = kept.pages.size === 0 && kept.mtimeNs === mtimeNs && kept.size === size;
    if (isAll) this.#clean();
    return ok(undefined);
  }

  async #sendPage(number: number, page: Page): Promise<Result<bigint | undefined, FsError>> {
    const { pageBytes } = this.#cache;
    const from = number * pageBytes;
    const end = Math.min(from + pageBytes, this.#kept.size);
    if (end <= from || end > this.#limit) return ok(undefined);
    const writing = this.sending.write(
      this.#kept.as,
      from,
      Buffer.from(page.bytes.subarray(0, end - from)),
    );
    const inFlight = { end, answered: writing };
    this.#sending.add(inFlight);
    const answer = await writing;
    this.#sending.delete(inFlight);
    if (!answer.ok) return answer;
    assert.equal(answer.value.count, end - from, 'this server takes all of it');
    return ok(answer.value.verifier);
  }

  #failed(error: FsError): Result<never, FsError> {
    this.#serial += 1;
    this.failure = { serial: this.#serial, error };
    this.#changed();
    return err(error);
  }
}

const closed: FsError = {
  errno: 'ENOTCONN',
  code: 'CLOSED',
  operation: 'write-back',
  message: 'the cache is closed',
};

function unsentOf(kept: Kept, pageBytes: number): Unsent {
  const { size, mtimeNs, inConflict, pages } = kept;
  const state = inConflict ? 'conflict' : 'dirty';
  return { bytes: pages.size * pageBytes, size, mtimeNs, state, sinceMs: 0 };
}

function key(file: FileHandle): string {
  return file.toString('hex');
}
