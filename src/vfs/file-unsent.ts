/**
 * The unsent writes of one file, as the file system deals with them.
 *
 *            a write is kept             all of it is at the server, or dropped
 *   (none) -----------------> dirty ---------------------------------------------> (none)
 *                             |   ^
 *       another's change seen |   | decided: ours
 *                             v   |
 *                            conflict (exclusive sessions; nothing is sent)
 *
 * U1  While there are any the image stays open and the inode is not forgotten: what programs see
 *     of the file is ours whether it is open or not (unsent-attributes.ts).
 * U2  They are dropped only when the server itself has said that the file is gone, or upon the
 *     word of whoever owns them. While a call is under way that takes a name, nothing is sent.
 * U3  Bytes that the local disk takes are not kept in memory any more: what a server lost of them
 *     is not sent again from there, over newer ones.
 * U4  A failure to send is told by the next fsync or close of each open handle, once.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { Sending } from './image-sending.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import type { CachedImage, LocalWrites, Unsent } from './ports.ts';

/** S_ISUID and S_ISGID (Linux, stat.h). */
const SET_ID_BITS = 0o6000;

/** The image that the writes are in. */
export interface UnsentImage {
  /** undefined while it is being opened. */
  readonly image: CachedImage | undefined;
  /** The image, once it is told of all that is known. */
  current(): CachedImage | Promise<CachedImage>;
  /** Keeps it open for a while longer. */
  stay(): void;
  leave(): void;
  /** Something was changed since it was settled. */
  changed(): void;
  /** Notes durably what it is of, if something was changed. */
  settle(): Promise<void>;
}

export class FileUnsent {
  readonly sending: Sending;
  /** It was left behind by an earlier daemon. */
  isRecovered = false;
  readonly #state: MountState;
  readonly #inode: Inode;
  readonly #image: UnsentImage;
  /** What was there when it was last looked at (U1). */
  #seen: Unsent['state'] | undefined;
  #isEnded = false;

  constructor(state: MountState, inode: Inode, image: UnsentImage) {
    this.#state = state;
    this.#inode = inode;
    this.#image = image;
    this.sending = new Sending(state, inode, {
      get unsent() {
        return image.image?.local?.unsent;
      },
      told: async () => image.current(),
      unsentChanged: () => this.look(),
    });
  }

  get unsent(): Unsent | undefined {
    return this.#local?.unsent;
  }

  get failure(): LocalWrites['failure'] {
    return this.#local?.failure;
  }

  /** Takes in what has become of it. */
  look(): void {
    const was = this.#seen;
    const now = this.unsent?.state;
    if (was === now) return;
    if (this.#isEnded) return;
    this.#seen = now;
    const { events } = this.#state;
    const { ino } = this.#inode;
    const path = this.#state.pathText(this.#inode);
    if (was === undefined) {
      this.#image.stay();
      this.#state.inodes.pin(this.#inode);
      events.dirty?.(ino, path);
    }
    if (now === 'conflict') events.conflict?.(ino, path);
    if (now !== undefined) return;
    this.isRecovered = false;
    events.clean?.(ino, path);
    // What the image is of was moved by what was sent.
    this.#image.changed();
    this.#image.leave();
    this.#state.inodes.unpin(this.#inode);
  }

  /**
   * In the file's lane: has the local disk take the bytes (at most 1 MiB). 'through': they are to
   * be sent.
   */
  async write(as: Credentials, offset: number, bytes: Buffer): Outcome<'kept' | 'through'> {
    // One that is being opened waits for the lane: it is opened as of what this write makes.
    if (this.#image.image === undefined) return ok('through');
    this.#image.stay();
    try {
      const { local } = await this.#image.current();
      const { size = 0, mode = 0 } = this.#state.shown(this.#inode) ?? {};
      // The server takes these bits away with a write, for some writers: at once, or not safely.
      if (local === undefined || (mode & SET_ID_BITS) !== 0) return ok('through');
      // Else a kill would make changes of ours before the first unsent write look like another's.
      if (local.unsent === undefined) await this.#image.settle();
      const written = await local.write(as, offset, bytes, size);
      this.look();
      return written;
    } finally {
      this.#image.leave();
    }
  }

  /** What was acknowledged survives a power loss. */
  async sync(): Outcome<void> {
    const { unsent } = this;
    return unsent === undefined ? ok(undefined) : this.#with((local) => local.sync());
  }

  /** What was acknowledged is durable at the server. */
  async writeBack(): Outcome<void> {
    const { unsent } = this;
    return unsent === undefined ? ok(undefined) : this.#with((local) => local.writeBack());
  }

  /** Its owner gives it up. */
  async discard(): Promise<void> {
    await this.#with(async (local) => ok(await local.discard()));
  }

  /** A conflict is decided for ours. */
  async keepOurs(): Outcome<void> {
    return this.#with(async (local) => {
      if (local.keepOurs === undefined) return err(localError('EOPNOTSUPP', 'resolve'));
      return ok(await local.keepOurs());
    });
  }

  /** A call of ours that sets the size or the times, with nothing being sent. */
  async setting<T>(change: () => Outcome<T>): Promise<Result<T, FsError>> {
    return this.sending.alone(change);
  }

  /** Our own call has set the mtime, or moved it: the server is to have it in the end. */
  async modified(mtimeNs: bigint | undefined): Promise<void> {
    if (mtimeNs === undefined || this.unsent === undefined) return;
    await this.#local?.setModified(mtimeNs);
  }

  /** Runs a call that takes a name from the file (U2). */
  async whileNameGoes<T>(as: Credentials, call: () => Promise<T>): Promise<T> {
    if (this.unsent === undefined) return call();
    this.#image.stay();
    try {
      const answer = await this.sending.alone(async () => {
        const answered = await call();
        this.sending.isGone = await this.#isGone(as);
        return answered;
      });
      if (this.sending.isGone) await this.#drop();
      return answer;
    } finally {
      this.#image.leave();
    }
  }

  /** The session ends, and the image with it: what is unsent is the cache's to keep. */
  ended(): void {
    this.#isEnded = true;
    if (this.#seen !== undefined) this.#state.inodes.unpin(this.#inode);
  }

  get #local(): LocalWrites | undefined {
    return this.#image.image?.local;
  }

  async #with(use: (local: LocalWrites) => Outcome<void>): Outcome<void> {
    this.#image.stay();
    try {
      const { local } = await this.#image.current();
      const result = local === undefined ? ok(undefined) : await use(local);
      this.look();
      return result;
    } finally {
      this.#image.leave();
    }
  }

  async #isGone(as: Credentials): Promise<boolean> {
    const asked = await this.#state.server.getattr(as, this.#inode.file);
    return asked.ok ? asked.value.nlink === 0 : asked.error.errno === 'ESTALE';
  }

  async #drop(): Promise<void> {
    const bytes = this.unsent?.bytes ?? 0;
    const path = this.#state.pathText(this.#inode);
    await this.discard();
    this.#state.events.unsentDropped?.(this.#inode.ino, path, bytes);
  }
}
