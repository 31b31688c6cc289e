/**
 * What is believed of an inode's attributes, and for how long.
 *
 * Answers overtake one another and our own changes, so an answer is believed only if it cannot be
 * older than what is known:
 *
 * A1  An answer of a call that overlapped a local change of the inode is not believed, unless its
 *     ctime is newer than the known one after the change is done. The change's own wcc data tell.
 * A2  An answer of a call that overlapped another believed answer is believed only with a newer
 *     ctime. One sent after everything known is believed whatever it says: a server's clock may
 *     step back.
 * A3  Of local changes that overlap one another (WRITEs in flight together) the one with the
 *     newest ctime gives the attributes, and the size is the largest that any WRITE saw: their
 *     answers come in any order and must not shrink the file. What shrinks a file (SETATTR) never
 *     overlaps a WRITE: the inode's change lane sees to it, and the size that it set is believed.
 *     A change of mode, owner or times says nothing of the size, and all is asked for after it.
 * A4  A change whose answer says nothing of the file moves the known size at once, and the rest is
 *     asked for before it is shown again.
 * A5  A change is ours, and what is cached of the inode stays valid, only if the attributes just
 *     before it (wcc) are the known ones. Otherwise `contentVersion` moves: the names of a
 *     directory, the pages of a file are no longer believed.
 * A6  `othersVersion` moves only when another's change is proved: an answer that no call of ours
 *     explains, or a bout of changes of ours (those that overlap, or a lone one) that began from
 *     other attributes than the known ones: one of the bout must have found these (`before`).
 *     What another changes while a bout lasts counts as ours, as with Linux's client.
 *     A change of ours that was answered without attributes explains all but another size.
 *     A rename or unlink of ours moves the ctime untold: the next answer with the known size and
 *     mtime is explained by it. So is what a server that tells no `before` (none does of LINK) has
 *     after a change that leaves both. Before any other change (Ganesha tells nothing of WRITE)
 *     such a server is asked first, unless a change of ours was answered just before; where that
 *     was not done the content is in doubt.
 * A7  A frozen inode stays what it was: its file is read as it was, and what the server has now is
 *     another inode's.
 *
 * How long: in a shared session a tenth of the time since the last change (ctime), within nfs(5)'s
 * acregmin/acregmax or acdirmin/acdirmax, counted from when the call was sent, and for as long as
 * the server is away; in other sessions until they are known to have changed.
 */
import { assert } from '../base/assert.ts';
import type { Ino } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { VfsOptions } from './options.ts';
import type { Attributes, WccAttributes, WccData } from './ports.ts';

/** When a call was sent, in the order of what this side knows. */
export interface Stamp {
  readonly serial: number;
  readonly sentAtMs: number;
}

export interface ChangeStamp extends Stamp {
  /** No other local change was in flight when this one was sent. */
  readonly alone: boolean;
  readonly changesBegun: number;
}

export interface AttributeState {
  readonly ino: Ino;
  known: Attributes | undefined;
  freshUntilMs: number;
  /** A change of ours was answered without attributes: the next ones differ by our own hand. */
  unsure: boolean;
  /** When `known` was last learned or changed. */
  learnedSerial: number;
  /** When the last local change was answered. */
  changedSerial: number;
  changesBegun: number;
  changesInFlight: number;
  bout: Bout | undefined;
  /** Whether nobody but us has changed it cannot be told: it is to be dropped at the next open. */
  inDoubt: boolean;
  /** Bytes were written here since another's changes were last ruled out. */
  isWritten: boolean;
  /** When an answer last told what a change of ours found or left. */
  provedAtMs: number;
  /** Moves when the content (bytes, names) may have changed otherwise than by us. */
  contentVersion: number;
  /** Moves when another has changed the inode for certain (A6). */
  othersVersion: number;
  /** Moves when what callers are allowed may have changed. */
  accessVersion: number;
  /**
   * When a change of ours that moves the ctime untold was answered (A6): Infinity while it is under
   * way; undefined once an answer has told the ctime.
   */
  ctimeMovedSerial: number | undefined;
  /** A7 */
  frozen: boolean;
}

/** What a change did, for servers that do not tell. */
export interface ChangeEffect {
  /** The size that it set. */
  readonly size?: number;
  /** The file reaches as far, at least. */
  readonly sizeAtLeast?: number;
  /** What it left as it was, whether it was carried out or not. */
  readonly keeps?: 'size' | 'size and mtime';
}

/** Changes of ours from when the first is sent until none is in flight. */
interface Bout {
  /** What was known, and how certain it was, when it began. */
  readonly known: Attributes | undefined;
  readonly unsure: boolean;
  /** What was known was what the server had. */
  readonly proved: boolean;
  /** A call of ours moved the ctime untold, before it or meanwhile. */
  ctimeMoved: boolean;
  /** A `before` that is not what was known, if one was told at all; and whether one was. */
  strange: WccAttributes | undefined;
  toldBefore: boolean;
  found: boolean;
  /** The same but for the ctime. */
  foundButCtime: boolean;
  /** All who told no `before` keep size and mtime; one does; an `after` of theirs has others. */
  keeps: boolean;
  untold: boolean;
  changed: WccAttributes | undefined;
  /** Mode, owner or times were changed while something else was. */
  mixed: boolean;
}

/** Who is to know of what the attributes tell. */
export interface AttributeWatcher {
  changedByOthers(ino: Ino, sizeToo: boolean): void;
  /** Another has changed the inode: must it stay what it was (A7)? */
  mustFreeze?(ino: Ino): boolean;
  /** Something is known that was not. */
  learned?(): void;
  /** The directory could be searched by everybody, and now it cannot. */
  searchNarrowed(ino: Ino): void;
}

type Policy = Pick<
  VfsOptions,
  'acregminMs' | 'acregmaxMs' | 'acdirminMs' | 'acdirmaxMs' | 'attributeCaching' | 'session'
>;

/** Ten years: what has no other end. */
const FOREVER_MS = 315_360_000_000;
/** What the server has is what our last change left, where it does not tell, for so long. */
const OURS_MS = 1_000;
/** What is believed only because the server is away: soon to be asked for again. */
const AWAY_MS = 1_000;

export class AttributeCache {
  readonly #policy: Policy;
  readonly #clock: Clock;
  readonly #watcher: AttributeWatcher;
  /** While the server is away what is known is believed, however old it is. */
  serverIsAway = false;
  /** Whether this server tells what a WRITE, another change of a file, found (`before`). */
  #writesTell = false;
  #settingTells = false;
  #serial = 0;

  constructor(policy: Policy, clock: Clock, watcher: AttributeWatcher) {
    this.#policy = policy;
    this.#clock = clock;
    this.#watcher = watcher;
  }

  newState(ino: Ino): AttributeState {
    return {
      ino,
      known: undefined,
      freshUntilMs: 0,
      unsure: false,
      learnedSerial: 0,
      changedSerial: 0,
      changesBegun: 0,
      changesInFlight: 0,
      bout: undefined,
      inDoubt: false,
      isWritten: false,
      provedAtMs: Number.NEGATIVE_INFINITY,
      contentVersion: 0,
      othersVersion: 0,
      accessVersion: 0,
      ctimeMovedSerial: undefined,
      frozen: false,
    };
  }

  /** To be taken just before a call is sent. */
  stamp(): Stamp {
    this.#serial += 1;
    return { serial: this.#serial, sentAtMs: this.#clock.monotonicMs() };
  }

  /** For how long `known` may still be believed, in ms; 0 when it is to be asked for. */
  remainingMs(state: AttributeState): number {
    if (state.known === undefined) return 0;
    if (state.frozen) return FOREVER_MS;
    const remainingMs = state.freshUntilMs - this.#clock.monotonicMs();
    return Math.max(this.serverIsAway ? AWAY_MS : 0, remainingMs);
  }

  isFresh(state: AttributeState): boolean {
    return this.remainingMs(state) > 0;
  }

  /** What is known is to be asked for again before it is shown. */
  expire(state: AttributeState): void {
    state.freshUntilMs = 0;
  }

  /** A change of ours that tells nothing of the inode is about to move its ctime (A6). */
  ctimeMoves(state: AttributeState): void {
    if (state.bout !== undefined) state.bout.ctimeMoved = true;
    state.ctimeMovedSerial = Number.POSITIVE_INFINITY;
  }

  /** That change was answered. */
  ctimeMoved(state: AttributeState): void {
    this.#serial += 1;
    state.ctimeMovedSerial = this.#serial;
    state.learnedSerial = this.#serial;
    this.expire(state);
  }

  /** Whether `known` is what the server has, but for others' changes. */
  isCertain(state: AttributeState): boolean {
    const { known, unsure, ctimeMovedSerial, changesInFlight, frozen } = state;
    const isTold = known !== undefined && !unsure && ctimeMovedSerial === undefined;
    return isTold && changesInFlight === 0 && !frozen;
  }

  /** What an earlier session knew. */
  recall(state: AttributeState, known: Attributes): void {
    if (state.known !== undefined || state.changesInFlight > 0) return;
    this.#learn(state, known, this.stamp(), true);
  }

  /** Whether no local change has been in flight since `stamp`. */
  undisturbed(state: AttributeState, stamp: Stamp): boolean {
    return state.changesInFlight === 0 && state.changedSerial < stamp.serial;
  }

  /** Takes in an answer's attributes; true when they are what is known now (A1, A2). */
  observe(state: AttributeState, attributes: Attributes | undefined, stamp: Stamp): boolean {
    if (attributes === undefined || state.frozen) return false;
    const { known } = state;
    if (known !== undefined) {
      if (state.changesInFlight > 0) return false;
      const later = stamp.serial > state.learnedSerial;
      if (!later && attributes.ctimeNs <= known.ctimeNs) {
        return sameMoment(attributes, known) && this.undisturbed(state, stamp);
      }
      if (!sameMoment(attributes, known) && !isExplained(state, attributes, known)) {
        if (this.#watcher.mustFreeze?.(state.ino) === true) {
          state.frozen = true;
          return false;
        }
        this.#changedByOthers(state, attributes, known);
      }
    }
    this.#learn(state, attributes, stamp, false);
    return true;
  }

  /** To be called just before a call that changes the inode is sent; pairs with `endChange`. */
  beginChange(state: AttributeState): ChangeStamp {
    state.bout ??= newBout(state, this.#isProved(state));
    const alone = state.changesInFlight === 0;
    state.changesInFlight += 1;
    state.changesBegun += 1;
    return { ...this.stamp(), alone, changesBegun: state.changesBegun };
  }

  /** Takes in the answer of a local change (A3, A4, A5); true when the change was ours alone. */
  endChange(
    state: AttributeState,
    change: ChangeStamp,
    wcc: WccData | undefined,
    effect: ChangeEffect = {},
  ): boolean {
    const { bout } = state;
    assert(bout !== undefined, 'endChange without beginChange');
    state.changesInFlight -= 1;
    if (effect.sizeAtLeast !== undefined) state.isWritten = true;
    const alone = change.alone && change.changesBegun === state.changesBegun;
    const { known } = state;
    const { before, after } = wcc ?? {};
    const ours = alone && known !== undefined && before !== undefined && sameMoment(before, known);
    takeInto(bout, wcc, effect, alone);
    if (before !== undefined && effect.sizeAtLeast !== undefined) this.#writesTell = true;
    if (before !== undefined && effect.sizeAtLeast === undefined) this.#settingTells = true;
    if (after !== undefined) state.provedAtMs = this.#clock.monotonicMs();
    if (state.changesInFlight === 0) this.#judge(state, bout);
    if (after === undefined) {
      this.#applyBlindly(state, effect);
    } else if (known === undefined || alone) {
      this.#learn(state, after, change, ours);
    } else {
      this.#learnOverlapping(state, known, after, change, effect);
    }
    if (state.changesInFlight === 0) {
      state.bout = undefined;
      if (bout.mixed) this.expire(state);
    }
    this.#serial += 1;
    state.changedSerial = this.#serial;
    state.learnedSerial = this.#serial;
    return ours;
  }

  /**
   * Whether the attributes are to be asked for (and `proved`) before a change of ours, because its
   * answer will not tell what it found.
   */
  mustLook(state: AttributeState, change: 'write' | 'set'): boolean {
    const tells = change === 'write' ? this.#writesTell : this.#settingTells;
    if (tells || this.#policy.session !== 'shared' || state.changesInFlight > 0) return false;
    return !this.#isProved(state);
  }

  /** What is known is what the server has just said, for a change that is about to be sent. */
  proved(state: AttributeState): void {
    state.provedAtMs = this.#clock.monotonicMs();
  }

  #isProved({ provedAtMs }: AttributeState): boolean {
    return provedAtMs > this.#clock.monotonicMs() - OURS_MS;
  }

  /**
   * Another may have changed the inode. What it changed while we did passed for ours: where others
   * write, what we have written is of unknown content.
   */
  doubt(state: AttributeState): void {
    this.expire(state);
    // What the server allows may have changed without a trace in the attributes.
    state.accessVersion += 1;
    if (state.isWritten && this.#policy.session === 'shared') state.inDoubt = true;
    state.isWritten = false;
    this.resolveDoubt(state);
  }

  /** Somebody opens the file: what is in doubt counts as changed by others. */
  resolveDoubt(state: AttributeState): void {
    if (!state.inDoubt) return;
    state.inDoubt = false;
    state.contentVersion += 1;
    state.othersVersion += 1;
  }

  /** A6, for changes of ours. */
  #judge(state: AttributeState, bout: Bout): void {
    const { known, strange, changed } = bout;
    if (known === undefined) return;
    if (bout.toldBefore) {
      const isMoved = bout.ctimeMoved || bout.untold;
      const isOurs = bout.found || (isMoved && bout.foundButCtime);
      if (!isOurs && strange !== undefined) this.#changedByOthers(state, strange, known);
    } else if (bout.keeps) {
      if (changed !== undefined) this.#changedByOthers(state, changed, known);
    } else if (known.type === 'regular' && this.#policy.session === 'shared') {
      if (!bout.proved) state.inDoubt = true;
    }
  }

  /** A3 */
  #learnOverlapping(
    state: AttributeState,
    known: Attributes,
    after: Attributes,
    change: ChangeStamp,
    effect: ChangeEffect,
  ): void {
    const { keeps } = effect;
    // Within one tick of its clock what is known may be older, though its ctime is as new.
    const isAsNew = after.ctimeNs >= known.ctimeNs;
    const mayWriteMore = keeps === undefined && effect.size === undefined;
    const size = effect.size ?? (mayWriteMore ? Math.max(after.size, known.size) : known.size);
    if (isAsNew) {
      const isMtimeOlder = keeps === 'size and mtime' && after.mtimeNs < known.mtimeNs;
      const mtimeNs = isMtimeOlder ? known.mtimeNs : after.mtimeNs;
      this.#learn(state, { ...after, size, mtimeNs }, change, false);
      return;
    }
    state.contentVersion += 1;
    if (size !== known.size) state.known = { ...known, size };
  }

  #changedByOthers(state: AttributeState, seen: WccAttributes, known: Attributes): void {
    state.othersVersion += 1;
    // The kernel asks anyway.
    if (state.unsure) return;
    this.#watcher.changedByOthers(state.ino, seen.size !== known.size);
  }

  #applyBlindly(state: AttributeState, effect: ChangeEffect): void {
    state.contentVersion += 1;
    state.accessVersion += 1;
    if (effect.keeps === 'size and mtime') this.ctimeMoved(state);
    else state.unsure = true;
    this.expire(state);
    const { known } = state;
    if (known === undefined) return;
    const size = effect.size ?? Math.max(known.size, effect.sizeAtLeast ?? 0);
    if (size !== known.size) state.known = { ...known, size };
  }

  #learn(state: AttributeState, attributes: Attributes, stamp: Stamp, ours: boolean): void {
    const { known } = state;
    if (known !== undefined) {
      if (!ours && !sameMoment(attributes, known)) state.contentVersion += 1;
      const sameAccess =
        known.mode === attributes.mode &&
        known.uid === attributes.uid &&
        known.gid === attributes.gid &&
        (ours || known.ctimeNs === attributes.ctimeNs);
      if (!sameAccess) state.accessVersion += 1;
    }
    this.#serial += 1;
    state.known = attributes;
    state.unsure = false;
    if (stamp.serial > (state.ctimeMovedSerial ?? 0)) state.ctimeMovedSerial = undefined;
    state.learnedSerial = this.#serial;
    state.freshUntilMs = stamp.sentAtMs + this.#lifetimeMs(attributes);
    const narrowed = known !== undefined && maySearch(known) && !maySearch(attributes);
    if (narrowed && known.type === 'directory') this.#watcher.searchNarrowed(state.ino);
    if (known === undefined || !sameMoment(known, attributes)) this.#watcher.learned?.();
  }

  #lifetimeMs(attributes: Attributes): number {
    if (!this.#policy.attributeCaching) return 0;
    if (this.#policy.session !== 'shared') return FOREVER_MS;
    const { acregminMs, acregmaxMs, acdirminMs, acdirmaxMs } = this.#policy;
    const isDirectory = attributes.type === 'directory';
    const minMs = isDirectory ? acdirminMs : acregminMs;
    const maxMs = isDirectory ? acdirmaxMs : acregmaxMs;
    const unchangedMs = Number((this.#clock.wallNs() - attributes.ctimeNs) / 1_000_000n);
    return Math.min(Math.max(unchangedMs / 10, minMs), maxMs);
  }
}

/** Whether everybody may search the directory. */
export function maySearch({ mode }: Attributes): boolean {
  return (mode & 0o111) === 0o111;
}

function newBout({ known, unsure, ctimeMovedSerial }: AttributeState, proved: boolean): Bout {
  return {
    known,
    unsure,
    proved,
    ctimeMoved: ctimeMovedSerial !== undefined,
    strange: undefined,
    toldBefore: false,
    found: false,
    foundButCtime: false,
    keeps: true,
    untold: false,
    changed: undefined,
    mixed: false,
  };
}

/** Takes in what an answer tells of what it found. */
function takeInto(
  bout: Bout,
  wcc: WccData | undefined,
  effect: ChangeEffect,
  alone: boolean,
): void {
  const { known } = bout;
  const { before, after } = wcc ?? {};
  if (effect.keeps !== undefined && !alone) bout.mixed = true;
  if (known === undefined) return;
  if (before !== undefined) {
    bout.toldBefore = true;
    const sameSize = before.size === known.size;
    if (sameMoment(before, known) || (bout.unsure && sameSize)) bout.found = true;
    else if (sameSize && before.mtimeNs === known.mtimeNs) bout.foundButCtime = true;
    if (!bout.found) bout.strange ??= before;
    return;
  }
  if (effect.keeps === 'size and mtime') bout.untold = true;
  else bout.keeps = false;
  if (after === undefined) return;
  const isKept = after.size === known.size && (bout.unsure || after.mtimeNs === known.mtimeNs);
  if (!isKept) bout.changed ??= after;
}

/** Whether what differs from what is known may be our own doing. */
function isExplained(state: AttributeState, seen: WccAttributes, known: Attributes): boolean {
  // By how much a change of ours has moved the size is known, whatever the server tells.
  if (state.unsure) return seen.size === known.size;
  const isMoved = state.ctimeMovedSerial !== undefined;
  return isMoved && seen.size === known.size && seen.mtimeNs === known.mtimeNs;
}

/** Whether two views of an inode are of one moment, as far as NFSv3 can tell. */
function sameMoment(one: WccAttributes, other: WccAttributes): boolean {
  return one.ctimeNs === other.ctimeNs && one.mtimeNs === other.mtimeNs && one.size === other.size;
}
