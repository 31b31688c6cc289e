/**
 * All files with unsent writes: those of this session, and those that an earlier daemon left
 * behind, which are looked for by their handle.
 *
 *   left behind --the server has the file--> opened: its image has them (file-unsent.ts)
 *       |
 *       '--ESTALE, or another file--> gone: neither opened nor sent nor dropped; told of
 *
 * C6  Unsent writes never travel to another file than theirs: fsid, fileid and type have to agree
 *     before the image that has them is opened.
 */
import type { FileHandle, Ino } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { FileUnsent } from './file-unsent.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import type { Attributes, RecoveredFile, Unsent } from './ports.ts';

/** What an earlier daemon left of a file. */
export interface Recovered {
  readonly left: RecoveredFile;
  /** Why it is not opened. */
  gone: FsError | undefined;
  /** Why the server could not be asked for it, the last time. */
  failure: FsError | undefined;
  /** It was looked for, at least once. */
  readonly looked: Promise<void>;
  lookedNow(): void;
}

/** A file with unsent writes, for people. */
export interface UnsentFile {
  readonly ino: Ino;
  readonly file: FileHandle;
  /** From the export's root, without a slash in front; a hint. */
  readonly path: string;
  readonly unsent: Unsent;
  /** Why it could not be sent the last time. */
  readonly failure: FsError | undefined;
  /** An earlier daemon left them. */
  readonly recovered: boolean;
}

/** Files that are looked for at once. */
const looksAtOnce = 8;
/** Before a server that gave no answer is asked again; before what was not sent is tried again. */
const againMs = 5_000;

export class UnsentFiles {
  readonly #state: MountState;
  readonly #left: readonly RecoveredFile[];
  /** Left behind, and not opened; each is pinned. */
  readonly #recovered = new Set<Inode>();
  /** What was unsent when the session ended: its images are closed, and the cache keeps it. */
  #kept: UnsentFile[] | undefined;

  constructor(state: MountState, left: readonly RecoveredFile[]) {
    this.#state = state;
    this.#left = left;
  }

  /**
   * Makes the inodes of what was left behind, so that their attributes are right from the start,
   * and looks for their files in the background.
   */
  recover(): void {
    const { inodes } = this.#state;
    const found = this.#left.map((left) => {
      const inode = inodes.intern(left.file);
      inode.recovered = newRecovered(left);
      inode.leftPath = left.path;
      inodes.pin(inode);
      this.#recovered.add(inode);
      return inode;
    });
    const queue = found.values();
    const looker = async (): Promise<void> => {
      for (const inode of queue) {
        // One that cannot be asked for now does not keep the others waiting.
        if (!(await this.#look(inode))) void this.#lookAgain(inode);
      }
    };
    for (let count = 0; count < looksAtOnce; count++) void looker();
  }

  /** What is unsent of a file. */
  of(inode: Inode): Unsent | undefined {
    const { image, recovered, attributes } = inode;
    const unsent = image?.local.unsent;
    if (unsent !== undefined || recovered === undefined) return unsent;
    const { left, gone } = recovered;
    const { known } = attributes;
    return gone === undefined && known !== undefined && isOf(left, known) ? left.unsent : undefined;
  }

  /** Whether the file's image may be opened (C6). The attributes are known. */
  mayOpen(inode: Inode): boolean {
    const { recovered, attributes } = inode;
    if (recovered === undefined) return true;
    const { known } = attributes;
    if (recovered.gone === undefined && known !== undefined && !isOf(recovered.left, known)) {
      const why = known.nlink === 0 ? 'the file is gone' : 'the handle is of another file';
      this.#gone(recovered, localError('ESTALE', 'recover', why));
    }
    return recovered.gone === undefined;
  }

  /**
   * Before the size of the file is changed: what was left behind of it is in its image, which cuts
   * it, or gone. Err: the server refuses to tell.
   */
  async ready(as: Credentials, inode: Inode): Outcome<void> {
    for (;;) {
      const { recovered } = inode;
      if (recovered === undefined || recovered.gone !== undefined) return ok(undefined);
      const image = await this.#state.images?.enter(as, inode);
      image?.leave();
      if (image !== undefined) continue;
      await recovered.looked;
      if (inode.recovered !== recovered || recovered.gone !== undefined) continue;
      if (recovered.failure !== undefined) return err(recovered.failure);
      if (this.#kept !== undefined) return err(notAsked());
      await this.#pause();
    }
  }

  /** Its image is open: what was left behind is in there. */
  opened(inode: Inode, local: FileUnsent): void {
    local.isRecovered = inode.recovered !== undefined;
    local.look();
    if (inode.recovered === undefined) return;
    inode.recovered = undefined;
    this.#recovered.delete(inode);
    this.#state.inodes.unpin(inode);
  }

  /** Whether there are any. */
  get any(): boolean {
    if (this.#recovered.size > 0) return true;
    return this.#state.images?.all().some(({ local }) => local.unsent !== undefined) === true;
  }

  figures(): { readonly unsentFiles: number; readonly unsentBytes: number } {
    let [unsentFiles, unsentBytes] = [0, 0];
    const count = (unsent: Unsent | undefined): void => {
      if (unsent === undefined) return;
      unsentFiles += 1;
      unsentBytes += unsent.bytes;
    };
    for (const { local } of this.#state.images?.all() ?? []) count(local.unsent);
    for (const { recovered } of this.#recovered) count(recovered?.left.unsent);
    return { unsentFiles, unsentBytes };
  }

  /** All of them, those that are gone or not looked for yet included; after `end` as it left them. */
  list(): UnsentFile[] {
    if (this.#kept !== undefined) return this.#kept;
    const open = (this.#state.images?.all() ?? []).flatMap(({ inode, local }) =>
      local.unsent === undefined
        ? []
        : [this.#line(inode, local.unsent, local.failure?.error, local.isRecovered)],
    );
    const left = [...this.#recovered].flatMap((inode) =>
      inode.recovered === undefined
        ? []
        : [this.#line(inode, inode.recovered.left.unsent, whyNot(inode.recovered), true)],
    );
    return [...open, ...left];
  }

  /**
   * What was acknowledged before the call, of the file or of all, is durable at the server. The
   * first error; the others are tried all the same.
   */
  async settle(inode?: Inode): Outcome<void> {
    const { images, writes } = this.#state;
    if (inode !== undefined) return this.#settleOne(inode);
    const files = new Set([...(images?.all() ?? []).map(({ inode: one }) => one)]);
    for (const one of [...this.#recovered, ...writes.holding()]) files.add(one);
    const settled = await Promise.all([...files].map((one) => this.#settleOne(one)));
    return settled.find(({ ok: isOk }) => !isOk) ?? ok(undefined);
  }

  /** Drops what is unsent of the file: its owner's word. */
  async discard(inode: Inode): Outcome<void> {
    const looked = await this.#looked(inode);
    const { recovered } = inode;
    if (recovered?.gone !== undefined) return this.#discardLeft(inode, recovered);
    if (!looked.ok) return looked;
    const { image, attributes } = inode;
    if (image?.local.unsent === undefined) return ok(undefined);
    await image.local.discard();
    // What the kernel has of it is no more.
    attributes.contentVersion += 1;
    inode.sizeInDoubt = true;
    this.#state.events.changedByOthers?.(inode.ino);
    return ok(undefined);
  }

  /**
   * Decides a conflict: ours is to be sent, or what the server has counts. Nothing is decided any
   * more once `signal` is aborted.
   */
  async resolve(
    as: Credentials,
    inode: Inode,
    which: 'mine' | 'theirs',
    signal?: AbortSignal,
  ): Outcome<void> {
    const looked = await this.#looked(inode);
    if (!looked.ok) return looked;
    const asked = which === 'mine' ? looked : await this.#state.askAttributes(as, inode);
    if (!asked.ok) return asked;
    if (signal?.aborted === true) return err(localError('EINTR', 'resolve'));
    const { image } = inode;
    if (image?.local.unsent === undefined) return ok(undefined);
    if (which === 'mine') return image.local.keepOurs();
    const discarded = await this.discard(inode);
    if (!discarded.ok) return discarded;
    // The image is told of their change, if it was not yet.
    inode.attributes.othersVersion += 1;
    await image.current();
    return ok(undefined);
  }

  /**
   * The session ends: sends until there is nothing left that can be sent. What waits for a
   * decision stays, and so does all when the cache is closed meanwhile.
   */
  async settleForClose(): Promise<void> {
    for (;;) {
      const settled = await this.settle();
      if (settled.ok || settled.error.code === 'CLOSED') return;
      const hopeful = this.list().filter(
        ({ unsent, failure }) => unsent.state !== 'conflict' && failure?.errno !== 'ESTALE',
      );
      if (hopeful.length === 0) return;
      await this.#pause();
    }
  }

  /** Nothing is looked for any more, and what is unsent is the cache's to keep. */
  end(): void {
    this.#kept = this.list();
  }

  async #settleOne(inode: Inode): Outcome<void> {
    const looked = await this.#looked(inode);
    if (!looked.ok) return looked;
    const committed = await this.#state.writes.commit(inode);
    const sent = (await inode.image?.local.writeBack()) ?? ok(undefined);
    return committed.ok ? sent : committed;
  }

  /** Of a file that is gone: its image is never opened. */
  async #discardLeft(inode: Inode, { left }: Recovered): Outcome<void> {
    const discarded = await this.#state.images?.discardLeft(inode);
    if (discarded?.ok !== true) return discarded ?? err(localError('EOPNOTSUPP', 'discard'));
    if (!this.#recovered.delete(inode)) return ok(undefined);
    inode.recovered = undefined;
    this.#state.inodes.unpin(inode);
    this.#state.events.unsentDropped?.(inode.ino, left.path, left.unsent.bytes);
    return ok(undefined);
  }

  /** Err: what was left behind is not in an open image, and why. */
  async #looked(inode: Inode): Outcome<void> {
    const { recovered } = inode;
    if (recovered === undefined) return ok(undefined);
    // Its image is not open before the server has answered.
    await recovered.looked;
    if (inode.recovered === undefined) return ok(undefined);
    return err(recovered.gone ?? recovered.failure ?? notAsked());
  }

  async #lookAgain(inode: Inode): Promise<void> {
    do await this.#pause();
    while (!(await this.#look(inode)));
  }

  /** Whether there is no more to look for. */
  async #look(inode: Inode): Promise<boolean> {
    const { recovered } = inode;
    if (recovered === undefined) return true;
    const isDone =
      this.#kept !== undefined || recovered.gone !== undefined || (await this.#find(inode));
    recovered.lookedNow();
    return isDone;
  }

  async #find(inode: Inode): Promise<boolean> {
    const { recovered } = inode;
    if (recovered === undefined) return true;
    const asked = await this.#ask(inode, recovered);
    recovered.failure = asked.ok ? undefined : asked.error;
    if (asked.ok) {
      // Whatever the handle is of now: also where it is no file any more (C6).
      if (!this.mayOpen(inode)) return true;
      const image = await this.#state.images?.enter(recovered.left.as, inode);
      image?.leave();
      return image !== undefined || recovered.gone !== undefined;
    }
    if (asked.error.errno !== 'ESTALE') return false;
    this.#gone(recovered, asked.error);
    return true;
  }

  #ask(inode: Inode, { left }: Recovered): Promise<Result<Attributes, FsError>> {
    return this.#state.getattr(left.as, inode, 'now');
  }

  #gone(recovered: Recovered, error: FsError): void {
    recovered.gone = error;
    const { path, unsent } = recovered.left;
    this.#state.events.recoveredGone?.(path, unsent.bytes, error);
  }

  #line(
    inode: Inode,
    unsent: Unsent,
    failure: FsError | undefined,
    recovered: boolean,
  ): UnsentFile {
    const { ino, file } = inode;
    return {
      ino,
      file,
      path: this.#state.pathText(inode),
      unsent,
      failure,
      recovered,
    };
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#state.clock.after(againMs, resolve);
    });
  }
}

/** Runs a call that takes a name from `inode`: what is unsent of it may go with it. */
export function takingName<T>(
  as: Credentials,
  inode: Inode | undefined,
  call: () => Promise<T>,
): Promise<T> {
  const image = inode?.image;
  return image === undefined ? call() : image.local.whileNameGoes(as, call);
}

function newRecovered(left: RecoveredFile): Recovered {
  let lookedNow = (): void => undefined;
  const looked = new Promise<void>((done) => {
    lookedNow = done;
  });
  return { left, gone: undefined, failure: undefined, looked, lookedNow: () => lookedNow() };
}

function whyNot({ gone, failure }: Recovered): FsError | undefined {
  return gone ?? failure;
}

function notAsked(): FsError {
  return localError('EAGAIN', 'recover', 'the server was not asked for the file yet');
}

/** One without a name is lost, also where the server still knows its handle. */
function isOf({ fsid, fileid }: RecoveredFile, known: Attributes): boolean {
  if (known.nlink === 0) return false;
  return known.type === 'regular' && known.fsid === fsid && known.fileid === fileid;
}
