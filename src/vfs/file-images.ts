/**
 * The images of the cache behind the files that are open: one for each inode, shared by all who
 * have it open, and told of everything that happens to the file.
 *
 *            enter                       last leave: committed, settled
 *   (none) --------> opening --> open ------------------------------------> closed
 *                                 | ^
 *                                 '-' another's change was proved: replaced
 *
 * Unsent writes (file-unsent.ts) count as one who has it open.
 *
 * I1  An image is opened with no change of the file's bytes under way (alone in the file's lane):
 *     a change that it is not told of is over, and in the attributes that it is opened with.
 * I2  Whenever another's change is proved (`othersVersion`), the image is told before anything is
 *     read from it, written to it or settled.
 * I3  A change of ours is begun on the image before it is sent, and ended when its outcome is
 *     known; the image stays open for that long.
 * I4  The image learns the file's attributes only where they are the server's and all ours: no
 *     change under way, no answer missing, nothing uncommitted that the server may lose.
 * I5  Passthrough: all of the kernel's open files of an inode are served one way. It is chosen when
 *     none is open, and stays for as long as one is; there is one backing id, given back after the
 *     last release. A file that is read so is never replaced under its readers: the inode is
 *     superseded, stays as it was, and the file's name gets another inode.
 * I6  What another changes while we write passes for ours. So when doubt comes up (doubt.ts), what
 *     is kept of a file that was written here in a shared session is dropped, also if the image was
 *     closed, or the inode forgotten, since then.
 */
import type { FileHandle, HandleId } from '../base/brand.ts';
import type { Timer } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { fetchRange } from './file-reads.ts';
import { FileUnsent, type UnsentImage } from './file-unsent.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import type {
  Attributes,
  Backing,
  CachedImage,
  ImageCache,
  ImageSource,
  PendingChange,
  ReadReply,
} from './ports.ts';

/** An image that is written to is settled after so long without a change. */
const QUIET_MS = 5_000;

/** How the kernel reads a file, or why not by itself. */
export type Way = { readonly backingId: number } | { readonly why: string };

/** The local file that the kernel reads by itself. */
interface Held {
  readonly backingId: number;
  release(): void;
}

export class FileImages {
  readonly #state: MountState;
  readonly #cache: ImageCache;
  readonly #backing: Backing | undefined;
  readonly #open = new Set<FileImage>();
  /** Files that were written here, by their handles: of closed ones nobody else knows it (I6). */
  readonly #written = new Set<string>();
  /** Of these, what is kept is not to be believed: others may have written them, too. */
  readonly #distrusted = new Set<string>();
  /** The session ends: none is opened any more, but to send what was left behind; then none. */
  #ending: 'not' | 'soon' | 'now' = 'not';

  constructor(state: MountState, cache: ImageCache, backing: Backing | undefined) {
    this.#state = state;
    this.#cache = cache;
    this.#backing = backing;
  }

  /**
   * The image of a regular file, open until it is left as often. undefined: the file's attributes
   * cannot be learned, and reads go to the server.
   */
  async enter(as: Credentials, inode: Inode): Promise<FileImage | undefined> {
    const { attributes } = this.#state;
    if (inode.image === undefined && !attributes.isCertain(inode.attributes)) {
      const asked = await this.#state.askOrKnow(as, inode);
      if (!asked.ok) return undefined;
    }
    if (!this.#mayEnter(inode)) return undefined;
    let { image } = inode;
    if (image === undefined) {
      image = new FileImage(this.#state, inode, this.#backing, (left) => {
        this.#open.delete(left);
        if (inode.image === left) inode.image = undefined;
      });
      inode.image = image;
      this.#open.add(image);
      image.begin(as, this.#cache);
    } else {
      image.enter(as);
    }
    await image.current();
    return image;
  }

  /** An image is of a regular file, and opened only as of what is known of it for certain. */
  #mayEnter(inode: Inode): boolean {
    const { image, superseded, attributes } = inode;
    if (attributes.known?.type !== 'regular') return false;
    if (image !== undefined) return true;
    if (superseded || this.#ending === 'now') return false;
    if (this.#ending === 'soon' && inode.recovered === undefined) return false;
    if (!this.#state.unsentFiles.mayOpen(inode)) return false;
    // What is kept would be dropped for what nobody can say while the server is away.
    return !this.#state.isAway || this.#state.attributes.isCertain(attributes);
  }

  /** Whether there is anything of the file that a change could be told to. */
  async isKept(inode: Inode): Promise<boolean> {
    return inode.image !== undefined || (await this.#cache.isKept?.(inode.file)) !== false;
  }

  /** Durably drops what an earlier daemon left unsent of a file, unopened. */
  async discardLeft({ file }: Inode): Outcome<void> {
    return (
      (await this.#cache.discardLeft?.(file)) ?? err(localError('EOPNOTSUPP', 'discard unsent'))
    );
  }

  /** An image is closed, of a file that may have been written here since others were ruled out. */
  closed({ file, attributes }: Inode): void {
    if (attributes.isWritten && this.#state.options.session === 'shared') {
      this.#written.add(keyOf(file));
    }
  }

  /**
   * Another host may have changed the file, or any of them: what is kept of those that were written
   * here is not believed when they are opened the next time.
   */
  distrustWritten(inode: Inode | undefined): void {
    const keys = inode === undefined ? [...this.#written] : [keyOf(inode.file)];
    for (const key of keys) {
      const isWritten = this.#written.delete(key) || inode?.attributes.isWritten === true;
      if (isWritten && this.#state.options.session === 'shared') this.#distrusted.add(key);
    }
  }

  isDistrusted({ file }: Inode): boolean {
    return this.#distrusted.has(keyOf(file));
  }

  /** Nothing is kept any more of what it was. */
  renewed({ file }: Inode): void {
    this.#distrusted.delete(keyOf(file));
  }

  /** Those that are open. */
  all(): FileImage[] {
    return [...this.#open];
  }

  /** The session ends: whatever is left is settled and closed. */
  async close(): Promise<void> {
    this.#ending = 'now';
    await Promise.all(this.all().map((image) => image.end()));
  }

  /** The session is about to end: what needs nothing of the server is closed before what does. */
  async closeSettled(): Promise<void> {
    this.#ending = 'soon';
    await Promise.all(this.all().flatMap((image) => (image.isSettled ? [image.end()] : [])));
  }
}

/**
 * Runs a change of ours that moves the file's ctime and leaves its bytes (mode, owner, times,
 * names): what is kept of the file stays of it, whether it is open or not.
 */
export async function keepingImage<T>(
  state: MountState,
  as: Credentials,
  inode: Inode | undefined,
  change: () => Promise<T>,
): Promise<T> {
  const { images } = state;
  const isFile = inode?.attributes.known?.type === 'regular';
  const isKept = images !== undefined && isFile && (await images.isKept(inode));
  const image = isKept ? await images.enter(as, inode) : undefined;
  try {
    return await change();
  } finally {
    // One that was opened meanwhile is of the attributes before the change.
    (image ?? inode?.image)?.changed();
    image?.leave();
  }
}

export class FileImage {
  readonly inode: Inode;
  readonly local: FileUnsent;
  readonly #state: MountState;
  readonly #backing: Backing | undefined;
  readonly #closed: (image: FileImage) => void;
  readonly #source: ImageSource;
  /** In whose name attributes are asked for, when nobody else is there to ask. */
  #as: Credentials | undefined;
  #users = 1;
  #image: CachedImage | undefined;
  /** Being opened or replaced. */
  #renewing: Promise<void> | undefined;
  /** Why it could not be opened. */
  #failure: unknown;
  /** Changes of the bytes under way. */
  #changes = 0;
  /** The `othersVersion` that the image is of. */
  #version = -1;
  /** Something was changed since it was settled. */
  #unsettled = false;
  #quiet: Timer | undefined;
  #changedAtMs = 0;
  /** The kernel's open files by the way they are served (I5). */
  #cachedOpens = 0;
  #passthroughOpens = 0;
  #held: Held | undefined;
  #why = 'not opened by a program';
  #isClosed = false;

  constructor(
    state: MountState,
    inode: Inode,
    backing: Backing | undefined,
    closed: (image: FileImage) => void,
  ) {
    this.#state = state;
    this.inode = inode;
    this.#backing = backing;
    this.#closed = closed;
    this.local = new FileUnsent(state, inode, this.#unsentSide());
    this.#source = {
      fetch: (as, offset, length) => fetchRange(state, as, inode, offset, length),
      attributes: () => this.#attributes(),
      path: () => state.pathText(inode),
      sending: this.local.sending,
    };
  }

  /** Whether the kernel reads the local file by itself. */
  get isHeld(): boolean {
    return this.#held !== undefined;
  }

  /** Why the kernel does not. */
  get why(): string {
    return this.#why;
  }

  /** Opens it, for its first user. */
  begin(as: Credentials, cache: ImageCache): void {
    this.#as = as;
    this.#renew(async () => {
      try {
        await this.#openAlone(cache);
      } catch (failure) {
        // Whoever comes next tries again.
        this.#failure = failure;
        this.#close();
        throw failure;
      }
    });
  }

  /** One more has it open. */
  enter(as: Credentials): void {
    this.#users += 1;
    this.#as = as;
  }

  /** One less; the last one leaves it to be settled and closed in the background. */
  leave(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#state.inBackground(this.#finish());
  }

  /** The image, once it is told of all that is known (I2); without a promise where it is. */
  current(): CachedImage | Promise<CachedImage> {
    const image = this.#image;
    return image !== undefined && this.#isCurrent() ? image : this.#whenCurrent();
  }

  /** Bytes from `offset` on, as many of `length` as the file has. */
  read(
    as: Credentials,
    reader: HandleId,
    offset: number,
    length: number,
  ): Result<ReadReply, FsError> | Outcome<ReadReply> {
    const shown = this.#state.shown(this.inode);
    const image = this.#image;
    const isKnown = shown !== undefined && this.#state.attributes.isFresh(this.inode.attributes);
    if (!isKnown || image === undefined || !this.#isCurrent()) {
      return this.#readLater(as, reader, offset, length);
    }
    return readWithin(image, as, reader, offset, length, shown.size);
  }

  /** The reader has closed. */
  readerGone(reader: HandleId): void {
    this.#image?.readerGone(reader);
  }

  /**
   * To be awaited before bytes are sent (I3), in the file's lane. undefined: the image waits for
   * the lane to be opened, and so is opened with what the change makes of the file (I1).
   */
  async beginWrite(offset: number, length: number): Promise<PendingChange | undefined> {
    return this.#begin((image) => image.beginWrite(offset, length));
  }

  /** The same before the size is changed. */
  async beginResize(size: number): Promise<PendingChange | undefined> {
    return this.#begin((image) => image.beginResize(size));
  }

  /** Acknowledged bytes were given up: nobody knows what the server has there. */
  lost(ranges: readonly { readonly start: number; readonly bytes: Buffer }[]): void {
    const forget = async (start: number, length: number): Promise<void> => {
      await (await this.beginWrite(start, length))?.failed();
    };
    for (const { start, bytes } of ranges) {
      this.#state.inBackground(forget(start, bytes.length));
    }
  }

  /** The file's attributes were changed by us, or its bytes were: to be settled at quiet. */
  changed(): void {
    this.#unsettled = true;
    this.#changedAtMs = this.#state.clock.monotonicMs();
    this.#quiet ??= this.#state.clock.after(QUIET_MS, () => this.#settleAtQuiet());
  }

  /**
   * Makes what is kept durable as of the file's present attributes, if something of it was changed
   * and nothing is under way. `what`: also with unsent writes, where only attributes were changed.
   */
  async settle(what: 'all sent' | 'attributes' = 'all sent'): Promise<void> {
    const { inode } = this;
    if (!this.#unsettled || this.#isClosed || inode.writes?.kept.isEmpty === false) return;
    // It is of what the server has once everything is sent.
    if (what === 'all sent' && this.local.unsent !== undefined) return;
    const { attributes } = this.#state;
    if (inode.attributes.changesInFlight === 0 && !attributes.isCertain(inode.attributes)) {
      if (this.#as === undefined || this.#state.isAway) return;
      await this.#state.askOrKnow(this.#as, inode);
    }
    const image = await this.current();
    if (this.#attributes() === undefined) return;
    this.#unsettled = false;
    await image.settle();
  }

  /**
   * A program opens the file: how it is served. `mustNot` says why it must not be read by the
   * kernel itself, where it must not.
   */
  opened(mustNot: string | undefined): Way {
    const held = this.#held ?? (this.#cachedOpens > 0 ? { why: this.#why } : this.#hold(mustNot));
    if ('why' in held) {
      this.#why = held.why;
      this.#cachedOpens += 1;
      return held;
    }
    this.#held = held;
    this.#passthroughOpens += 1;
    return { backingId: held.backingId };
  }

  /** What `opened` answered has been closed. */
  released(way: Way): void {
    if ('why' in way) {
      this.#cachedOpens -= 1;
      return;
    }
    this.#passthroughOpens -= 1;
    if (this.#passthroughOpens === 0) this.#letGo();
  }

  /** The session ends. */
  async end(): Promise<void> {
    await this.#renewing;
    if (!this.inode.superseded) await this.settle();
    this.#close();
    this.#letGo();
  }

  /** Nothing of ours is under way, or left to be told to it. */
  get isSettled(): boolean {
    const isDirty = this.local.unsent !== undefined;
    return !isDirty && !this.#unsettled && this.#changes === 0 && this.#renewing === undefined;
  }

  // ---- Private ----------------------------------------------------------------------------------

  #unsentSide(): UnsentImage {
    const image = () => this.#image;
    return {
      get image() {
        return image();
      },
      current: () => this.current(),
      stay: () => {
        this.#users += 1;
      },
      leave: () => this.leave(),
      settle: () => this.settle(),
      changed: () => this.changed(),
    };
  }

  #letGo(): void {
    this.#held?.release();
    this.#held = undefined;
    this.#why = 'not opened by a program';
  }

  #isCurrent(): boolean {
    if (this.#renewing !== undefined) return false;
    return this.#version === this.inode.attributes.othersVersion;
  }

  async #whenCurrent(): Promise<CachedImage> {
    for (;;) {
      await this.#renewing;
      const image = this.#image;
      if (image === undefined && this.#renewing === undefined) throw this.#failure;
      if (image !== undefined && this.#isCurrent()) return image;
      if (image !== undefined && this.#renewing === undefined) {
        this.#renew(() => this.#replace(image));
      }
    }
  }

  #renew(work: () => Promise<void>): void {
    const renewing = work().finally(() => {
      if (this.#renewing === renewing) this.#renewing = undefined;
    });
    this.#renewing = renewing;
  }

  /** I1 */
  async #openAlone(cache: ImageCache): Promise<void> {
    const { inode } = this;
    const state = this.#state;
    await state.writes.alone(inode, async () => {
      const isCertain = () => state.attributes.isCertain(inode.attributes);
      if (!isCertain() && this.#as !== undefined && !state.isAway) {
        await state.askOrKnow(this.#as, inode);
      }
      const version = inode.attributes.othersVersion;
      const known = contentOf(state, inode);
      // What is kept must not be taken for what nobody knows.
      const content = isCertain() ? known : { ...known, ctimeNs: 0n };
      const wasReplaced = state.inodes.isReplaced(inode);
      const image = await cache.open(inode.file, content, this.#source);
      this.#image = image;
      this.#version = version;
      state.unsentFiles.opened(inode, this.local);
      // It is open for another inode already, which has stayed what it was (I5).
      const isOpenElsewhere = wasReplaced || state.inodes.isReplaced(inode);
      if (isOpenElsewhere || state.images?.isDistrusted(inode) === true) {
        await image.replace(contentOf(state, inode));
        state.images?.renewed(inode);
      }
      await this.#unsettle(image);
    });
  }

  async #replace(image: CachedImage): Promise<void> {
    const { inode } = this;
    const { othersVersion } = inode.attributes;
    await image.replace(contentOf(this.#state, inode));
    this.#state.images?.renewed(inode);
    this.#version = othersVersion;
    await this.#unsettle(image);
  }

  /** What the server may still lose of ours is in what is read from now on: it is not settled. */
  async #unsettle(image: CachedImage): Promise<void> {
    const [first] = this.inode.writes?.kept.all() ?? [];
    if (first === undefined) return;
    const change = await image.beginWrite(first.start, 1);
    await change.failed();
    this.changed();
  }

  async #readLater(
    as: Credentials,
    reader: HandleId,
    offset: number,
    length: number,
  ): Outcome<ReadReply> {
    const attributes = await this.#state.freshAttributes(as, this.inode);
    if (!attributes.ok) return attributes;
    const image = await this.current();
    const size = this.#state.shown(this.inode)?.size ?? attributes.value.size;
    return readWithin(image, as, reader, offset, length, size);
  }

  async #begin(
    begin: (image: CachedImage) => Promise<PendingChange>,
  ): Promise<PendingChange | undefined> {
    if (this.#image === undefined) return undefined;
    this.#users += 1;
    this.#changes += 1;
    const change = await begin(await this.current());
    const ended = (): void => {
      this.#changes -= 1;
      this.changed();
      this.leave();
    };
    return {
      done: (bytes) => change.done(bytes).then(ended),
      failed: () => change.failed().then(ended),
    };
  }

  /** I4 */
  #attributes(): Attributes | undefined {
    const { attributes, writes, superseded } = this.inode;
    if (superseded || attributes.inDoubt || this.#version !== attributes.othersVersion)
      return undefined;
    if (!this.#state.attributes.isCertain(attributes)) return undefined;
    return writes?.kept.isEmpty === false ? undefined : attributes.known;
  }

  #settleAtQuiet(): void {
    this.#quiet = undefined;
    if (!this.#unsettled || this.#isClosed || this.#state.closing) return;
    const idleMs = this.#state.clock.monotonicMs() - this.#changedAtMs;
    const isQuiet = idleMs >= QUIET_MS && this.inode.attributes.changesInFlight === 0;
    // It is told when everything is sent.
    if (this.local.unsent !== undefined) return;
    if (isQuiet && this.inode.writes?.kept.isEmpty !== false) {
      this.#state.inBackground(this.settle());
      return;
    }
    const waitMs = Math.max(QUIET_MS - idleMs, QUIET_MS / 5);
    this.#quiet = this.#state.clock.after(waitMs, () => this.#settleAtQuiet());
  }

  async #finish(): Promise<void> {
    const { inode } = this;
    this.#state.inodes.pin(inode);
    await this.#renewing;
    await this.#state.writes.settle(inode);
    if (!inode.superseded) await this.settle();
    if (this.#users === 0) this.#close();
    this.#state.inodes.unpin(inode);
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#quiet?.cancel();
    this.local.ended();
    this.#state.images?.closed(this.inode);
    this.#closed(this);
    this.#image?.close();
  }

  /** The local file for the kernel to read by itself, or why not. */
  #hold(mustNot: string | undefined): Held | { readonly why: string } {
    if (mustNot !== undefined) return { why: mustNot };
    const image = this.#image;
    const backing = this.#backing;
    if (backing === undefined) return { why: 'the kernel does not offer it here' };
    if (image === undefined || !this.#isCurrent()) return { why: 'its content is being replaced' };
    const held = image.hold();
    if ('why' in held) return held;
    const backingId = backing.open(held.fd);
    if (backingId === undefined) {
      held.release();
      return { why: 'the kernel refuses it' };
    }
    const release = () => {
      backing.close(backingId);
      held.release();
    };
    return { backingId, release };
  }
}

/** Passes the answer on as it is: at once where it is at hand. */
function readWithin(
  image: CachedImage,
  as: Credentials,
  reader: HandleId,
  offset: number,
  length: number,
  size: number,
): Result<ReadReply, FsError> | Outcome<ReadReply> {
  const end = Math.min(offset + length, size);
  if (end <= offset) return ok({ kind: 'bytes', bytes: [], release: () => undefined });
  return image.read(as, reader, offset, end - offset, size);
}

function keyOf(file: FileHandle): string {
  return file.toString('latin1');
}

function contentOf(state: MountState, inode: Inode): Attributes {
  const content = state.atServer(inode);
  if (content === undefined) throw new Error('an image of a file without attributes');
  return content;
}
