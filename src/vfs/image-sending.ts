/**
 * How unsent writes of one file reach the server. Every call counts as a change of ours.
 *
 * S1  WRITEs that overlap are never in flight together, and what sets the size or the times is
 *     alone: an answer of a WRITE from before cannot make the file longer again, and `finish`
 *     cannot undo a truncation or utimes(2) that came in between.
 * S2  Once the server has said that the file is gone, nothing is sent any more.
 * S3  What an earlier session knew of the export is forgotten before the first call (G1 of
 *     knowledge.ts).
 * S4  A file without a name is lost, also where the server still knows its handle: nothing that was
 *     sent to it counts as sent.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { ChangeLane } from './change-lane.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import type { Attributes, ImageSending, SetAttributes, Unsent, WriteOk } from './ports.ts';
import { lookBefore, sendSetattr, sendWrite, toldAfter } from './server-changes.ts';

/** What it needs of the file's image. */
export interface SendingImage {
  readonly unsent: Unsent | undefined;
  /** Settles when the image knows of all that another is known to have changed. */
  told(): Promise<unknown>;
  unsentChanged(): void;
}

export class Sending implements ImageSending {
  /** The server has said that there is no such file any more (S2). */
  isGone = false;
  readonly #state: MountState;
  readonly #inode: Inode;
  readonly #image: SendingImage;
  /** S1 */
  readonly #lane = new ChangeLane();

  constructor(state: MountState, inode: Inode, image: SendingImage) {
    this.#state = state;
    this.#inode = inode;
    this.#image = image;
  }

  get writeMax(): number {
    return this.#state.server.limits.writeMax;
  }

  others(): readonly Credentials[] {
    const { own } = this.#state;
    const { known } = this.#inode.attributes;
    if (own === undefined) return [];
    return known === undefined ? [own] : [{ uid: known.uid, gid: known.gid, groups: [] }, own];
  }

  async look(as: Credentials): Outcome<Attributes> {
    if (this.isGone) return this.#gone();
    const found = await this.#state.getattr(as, this.#inode, 'now');
    // What it proves of another's changes is known to the image before anything is sent.
    await this.#image.told();
    return found.ok && hasNoName(found.value) ? this.#gone() : found;
  }

  async write(as: Credentials, offset: number, bytes: Buffer): Outcome<WriteOk> {
    const inode = this.#inode;
    const state = this.#state;
    const leave = await this.#lane.enterRange(offset, offset + bytes.length);
    try {
      if (this.isGone) return this.#gone();
      return await state.changing(async () => {
        await lookBefore(state, as, inode, 'write');
        const result = await sendWrite(state, inode, as, offset, bytes, 'unstable');
        if (!result.ok) return state.failed(inode, result.error);
        return hasNoName(inode.attributes.known) ? this.#gone() : result;
      });
    } finally {
      leave();
    }
  }

  async commit(as: Credentials): Outcome<{ readonly verifier: bigint }> {
    if (this.isGone) return this.#gone();
    const { attributes, server } = this.#state;
    const inode = this.#inode;
    const stamp = attributes.stamp();
    const result = await server.commit(as, inode.file, 0, 0);
    if (!result.ok) return this.#state.failed(inode, result.error);
    const wcc = await toldAfter(server, as, inode, result.value.wcc);
    attributes.observe(inode.attributes, wcc?.after, stamp);
    if (hasNoName(wcc?.after) || hasNoName(inode.attributes.known)) return this.#gone();
    return ok({ verifier: result.value.verifier });
  }

  async finish(
    as: Credentials,
    local: { readonly size: number; readonly mtimeNs: bigint },
  ): Outcome<Attributes> {
    const set = await this.alone(() => this.#state.changing(() => this.#finish(as, local)));
    if (!set.ok) return set;
    // What another has changed unseen meanwhile must not be taken for what the image has.
    this.#state.attributes.resolveDoubt(this.#inode.attributes);
    await this.#image.told();
    return this.#now(as);
  }

  unsentChanged(): void {
    this.#image.unsentChanged();
  }

  /** Runs `work` with nothing being sent (S1). */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    const leave = await this.#lane.enterAlone();
    try {
      return await work();
    } finally {
      leave();
    }
  }

  async #finish(
    as: Credentials,
    local: { readonly size: number; readonly mtimeNs: bigint },
  ): Outcome<void> {
    if (this.isGone) return this.#gone();
    const now = await this.#now(as);
    if (!now.ok) return now;
    // What was set since the caller looked is in there; cut off altogether, there is nothing to set.
    const { unsent } = this.#image;
    if (unsent === undefined) return ok(undefined);
    const size = Math.min(local.size, unsent.size);
    if (now.value.size < size) {
      const grown = await this.#set(as, { size });
      if (!grown.ok) return grown;
    }
    // Set even where it is known to be so: a WRITE within the same tick of the server's clock may
    // have moved it unseen.
    const timed = await this.#set(as, { mtime: unsent.mtimeNs });
    // Who may write a file need not own it: then the server's time is as good as it gets.
    return timed.ok || isRefusal(timed.error) ? ok(undefined) : timed;
  }

  /** What is known of the server's file for certain, else what it says. */
  async #now(as: Credentials): Outcome<Attributes> {
    const { attributes } = this.#inode;
    const { known } = attributes;
    const isKnown = known !== undefined && this.#state.attributes.isCertain(attributes);
    const now = isKnown ? ok(known) : await this.#state.getattr(as, this.#inode, 'now');
    return now.ok && hasNoName(now.value) ? this.#gone() : now;
  }

  /** In the writer's name, or another's who may. The first refusal, where nobody may. */
  async #set(as: Credentials, wanted: SetAttributes): Outcome<void> {
    let refusal: Result<never, FsError> | undefined;
    for (const name of [as, ...this.others()]) {
      const set = await sendSetattr(this.#state, name, this.#inode, wanted);
      if (set.ok) return ok(undefined);
      if (!isRefusal(set.error)) return set;
      refusal ??= set;
    }
    return refusal ?? ok(undefined);
  }

  #gone(): Result<never, FsError> {
    return err(localError('ESTALE', 'write-back', 'the file is gone'));
  }
}

function hasNoName(attributes: Attributes | undefined): boolean {
  return attributes?.nlink === 0;
}

function isRefusal({ errno }: FsError): boolean {
  return errno === 'EACCES' || errno === 'EPERM';
}
