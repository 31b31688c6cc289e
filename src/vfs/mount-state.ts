/**
 * All that a mount knows, and the questions that every operation asks of it: what does this inode
 * look like, may this caller, and what may the kernel believe of the answer.
 */
import type { Ino } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { knownAccess, learnAccess } from './access-cache.ts';
import {
  AttributeCache,
  type ChangeEffect,
  type ChangeStamp,
  maySearch,
  type Stamp,
} from './attribute-cache.ts';
import type { VfsEvents } from './events.ts';
import { FileImages } from './file-images.ts';
import { WriteBack } from './file-writes.ts';
import { HandleTable } from './handles.ts';
import { type Inode, InodeTable } from './inodes.ts';
import { Knowledge } from './knowledge.ts';
import { NameCache } from './name-cache.ts';
import type { Attr, Entry, Outcome } from './operations.ts';
import type { VfsOptions } from './options.ts';
import {
  Access,
  type Attributes,
  type Backing,
  type ImageCache,
  type ImageServer,
  type ServerError,
  type WccData,
} from './ports.ts';
import { atLeastOneBlock, withUnsent } from './unsent-attributes.ts';
import { UnsentFiles } from './unsent-files.ts';

/** All ACCESS bits: one question, and the answers to all later ones. */
const allAccess =
  Access.READ | Access.LOOKUP | Access.MODIFY | Access.EXTEND | Access.DELETE | Access.EXECUTE;

/** A name that the kernel asks for again is mostly answered from here, without the server. */
const KERNEL_NAME_MAX_MS = 1000;

/** Attributes of a file with unsent writes. */
const UNSENT_MAX_MS = 1000;

/** For how long one who was sent back is waited for. */
export const SENT_BACK_MS = 1000;
/** Who comes later was not sent back: it is another open of the same thread's. */
const COMES_BACK_MS = 10_000;

const slash = Buffer.from('/');
/** Of a path for people, in names and slashes: hints may lead in a circle. */
const maxDepth = 512;

/** What a mount has beside its server. */
export interface MountParts {
  readonly cache?: ImageCache | undefined;
  readonly backing?: Backing | undefined;
  /**
   * The daemon's own credentials where it is root's: unsent writes whose writer may not write any
   * more are sent as the file's owner, or so.
   */
  readonly own?: Credentials | undefined;
  /** The text of a path, whose bytes may be no text, for people. */
  readonly textOf?: (path: Buffer) => string;
}

export class MountState {
  readonly server: ImageServer;
  readonly options: VfsOptions;
  readonly clock: Clock;
  readonly events: VfsEvents;
  readonly attributes: AttributeCache;
  readonly inodes: InodeTable;
  readonly names: NameCache;
  readonly handles = new HandleTable();
  readonly writes: WriteBack;
  /** undefined in `nocache` mode. */
  readonly images: FileImages | undefined;
  readonly knowledge: Knowledge | undefined;
  readonly unsentFiles: UnsentFiles;
  readonly own: Credentials | undefined;
  /** Work that no caller waits for, and that closing does. */
  readonly background = new Set<Promise<void>>();
  /**
   * The threads whose open was answered ESTALE, of what, and when: the kernel looks the path up
   * again, but once. What it finds must not be gone when it comes to open it.
   */
  readonly sentBack = new Map<number, { readonly ino: Ino; readonly atMs: number }>();
  /** Opens of files that have no handle yet. */
  opensUnderWay = 0;
  /** The mount is about to go: opens are answered EBUSY. */
  refusesOpens = false;
  /** False once a server said that it has no READDIRPLUS. */
  hasReaddirplus: boolean;
  closing = false;
  readonly #textOf: (path: Buffer) => string;
  /** Whether old knowledge is better than none while the server is away. */
  readonly #softens: boolean;
  /** Those who would rather have what is known than wait for a server that is away. */
  readonly #waiting = new Set<() => void>();

  constructor(
    server: ImageServer,
    given: VfsOptions,
    clock: Clock,
    events: VfsEvents,
    { cache, backing, own, textOf }: MountParts = {},
  ) {
    const options = { ...given, readOnly: given.readOnly || given.session === 'readonly' };
    this.server = server;
    this.options = options;
    this.clock = clock;
    this.events = events;
    this.#textOf = textOf ?? ((path) => path.toString());
    this.#softens = options.attributeCaching && (cache !== undefined || given.session !== 'shared');
    this.hasReaddirplus = options.readdirplus;
    const attributes = new AttributeCache(options, clock, {
      changedByOthers: (ino, sizeToo) => this.#changedByOthers(ino, sizeToo),
      searchNarrowed: (ino) => this.#revokeNames(ino),
      mustFreeze: (ino) => this.#supersede(ino),
      learned: () => this.knowledge?.touched(),
    });
    this.attributes = attributes;
    this.inodes = new InodeTable(server.root, (ino) => attributes.newState(ino));
    this.names = new NameCache(options.nameCacheEntries, this.inodes, () =>
      this.knowledge?.touched(),
    );
    this.writes = new WriteBack(this);
    this.own = own;
    this.unsentFiles = new UnsentFiles(this, cache?.recovered ?? []);
    this.images = cache === undefined ? undefined : new FileImages(this, cache, backing);
    this.knowledge = cache === undefined ? undefined : new Knowledge(this, cache.knowledge);
  }

  /** Whether the server is known to be away, and what is known is believed for that long. */
  get isAway(): boolean {
    return this.attributes.serverIsAway;
  }

  serverState(now: 'away' | 'back'): void {
    this.attributes.serverIsAway = now === 'away' && this.#softens;
    if (!this.isAway) return;
    for (const goOn of [...this.#waiting]) goOn();
  }

  /** Runs a change of the export: what an earlier session knew of it is forgotten before. */
  changing<T>(change: () => Promise<T>): Promise<T> {
    return this.knowledge === undefined ? change() : this.knowledge.changing(change);
  }

  /** Where the inode is, from the export's root on, as far as its names are known. */
  pathText(inode: Inode): string {
    if (inode.place === undefined && inode.leftPath !== undefined) return inode.leftPath;
    const names: Buffer[] = [];
    for (let at = inode; at !== this.inodes.root; at = at.place.directory) {
      if (at.place === undefined) break;
      names.unshift(at.place.name, slash);
      if (names.length > maxDepth) break;
    }
    return this.#textOf(Buffer.concat(names.slice(0, -1)));
  }

  /** Whether somebody who was sent back may be about to open the inode. */
  isExpected(inode: Inode): boolean {
    const sinceMs = this.clock.monotonicMs() - SENT_BACK_MS;
    if (inode.lookedUpMs === undefined || inode.lookedUpMs < sinceMs) return false;
    return [...this.sentBack.values()].some(({ atMs }) => atMs >= sinceMs);
  }

  /** An open of the inode is answered ESTALE. */
  sendBack(pid: number, { ino }: Inode): void {
    const atMs = this.clock.monotonicMs();
    for (const [other, sent] of this.sentBack) {
      if (sent.atMs < atMs - COMES_BACK_MS) this.sentBack.delete(other);
    }
    this.sentBack.set(pid, { ino, atMs });
  }

  /** Whether this is the second coming of one who was sent back: from then on it is forgotten. */
  comesBack(pid: number, { ino }: Inode): boolean {
    const sent = this.sentBack.get(pid);
    this.sentBack.delete(pid);
    return sent?.ino === ino && sent.atMs >= this.clock.monotonicMs() - COMES_BACK_MS;
  }

  /** The inode of a node id of the kernel's. */
  inode(ino: Ino, operation: string): Result<Inode, FsError> {
    const inode = this.inodes.get(ino);
    return inode === undefined ? err(localError('ESTALE', operation)) : ok(inode);
  }

  /**
   * The attributes to show: what is known, never shorter than our uncommitted bytes, and what is
   * unsent over it.
   */
  shown(inode: Inode): Attributes | undefined {
    const server = this.atServer(inode);
    if (server === undefined || server.type !== 'regular') return server;
    const unsent = this.unsentFiles.of(inode);
    return unsent === undefined ? server : withUnsent(server, unsent);
  }

  /** What the server has, never shorter than our uncommitted bytes. */
  atServer(inode: Inode): Attributes | undefined {
    const { known } = inode.attributes;
    if (known === undefined || known.type !== 'regular') return known;
    const size = Math.max(known.size, this.writes.keptEnd(inode));
    const used = atLeastOneBlock(size, known.used);
    return size === known.size && used === known.used ? known : { ...known, size, used };
  }

  /** Fresh attributes: the known ones while they may be believed, else the server's. */
  async freshAttributes(as: Credentials, inode: Inode): Outcome<Attributes> {
    const shown = this.shown(inode);
    if (shown !== undefined && this.attributes.isFresh(inode.attributes)) return ok(shown);
    return this.askOrKnow(as, inode);
  }

  /** The server's attributes; while it is away the known ones, however old. */
  askOrKnow(as: Credentials, inode: Inode): Outcome<Attributes> {
    return this.unlessAway(this.askAttributes(as, inode), () => this.shown(inode));
  }

  /**
   * The answer, or what is `known` if the server turns out to be away before it comes. Nothing may
   * depend on the answer being taken in.
   */
  async unlessAway<T>(answer: Outcome<T>, known: () => T | undefined): Outcome<T> {
    if (!this.#softens) return answer;
    let goOn = (): void => undefined;
    const away = new Promise<Result<T, FsError>>((resolve) => {
      goOn = () => {
        const value = known();
        if (value !== undefined) resolve(ok(value));
      };
    });
    this.#waiting.add(goOn);
    if (this.isAway) goOn();
    const result = await Promise.race([answer, away]);
    this.#waiting.delete(goOn);
    if (result.ok || !isUnreachable(result.error)) return result;
    const value = known();
    return value === undefined ? result : ok(value);
  }

  /** The attributes as the server has them now, in agreement with what we changed meanwhile. */
  async askAttributes(as: Credentials, inode: Inode): Outcome<Attributes> {
    const asked = await this.getattr(as, inode);
    if (!asked.ok) return asked;
    return ok(this.shown(inode) ?? asked.value);
  }

  /**
   * What GETATTR says, as the server says it. One under way is shared, unless it was sent before
   * the last change of ours was answered, or the caller wants one that is sent `now`.
   */
  async getattr(as: Credentials, inode: Inode, when: 'now' | 'soon' = 'soon'): Outcome<Attributes> {
    const underWay = inode.refresh;
    if (underWay !== undefined && when === 'soon') {
      if (underWay.serial > inode.attributes.changedSerial) return underWay.answer;
    }
    const stamp = this.attributes.stamp();
    const answer = this.#sendGetattr(as, inode, stamp);
    const refresh = { serial: stamp.serial, answer };
    inode.refresh = refresh;
    try {
      return await answer;
    } finally {
      if (inode.refresh === refresh) inode.refresh = undefined;
    }
  }

  async #sendGetattr(as: Credentials, inode: Inode, stamp: Stamp): Outcome<Attributes> {
    const result = await this.server.getattr(as, inode.file);
    if (!result.ok) return this.failed(inode, result.error);
    this.attributes.observe(inode.attributes, result.value, stamp);
    return result;
  }

  /**
   * The bits of `wanted` that the caller has on the inode, as the server says: from what it said
   * this caller before, while the attributes are fresh, else by asking it.
   */
  async granted(as: Credentials, inode: Inode, wanted: number): Outcome<number> {
    const { attributes } = inode;
    if (this.attributes.isFresh(attributes)) {
      const known = knownAccess(inode.access, attributes.accessVersion, as, wanted);
      if (known !== undefined) return ok(known);
    }
    return this.askedAccess(as, inode, wanted);
  }

  /** The same by asking; while the server is away from what it said before. */
  askedAccess(as: Credentials, inode: Inode, wanted: number): Outcome<number> {
    const { attributes, access } = inode;
    const answer = this.askAccess(as, inode).then((asked) =>
      asked.ok ? ok(asked.value & wanted) : asked,
    );
    return this.unlessAway(answer, () => knownAccess(access, attributes.accessVersion, as, wanted));
  }

  /** All ACCESS bits that the caller has now; the attributes come along. */
  async askAccess(as: Credentials, inode: Inode): Outcome<number> {
    const stamp = this.attributes.stamp();
    const version = inode.attributes.accessVersion;
    const result = await this.server.access(as, inode.file, allAccess);
    if (!result.ok) return this.failed(inode, result.error);
    const { granted, attributes } = result.value;
    const agreed = this.attributes.observe(inode.attributes, attributes, stamp);
    if (attributes === undefined) {
      const asked = await this.getattr(as, inode);
      if (!asked.ok) return asked;
    }
    if (agreed || version === inode.attributes.accessVersion) {
      this.learnAccess(inode, as, stamp, allAccess, granted);
    }
    return ok(granted);
  }

  /**
   * Keeps what the server allowed, unless a change of ours may have overtaken the answer. That no
   * change of another's has, as far as is known, is the caller's to see.
   */
  learnAccess(inode: Inode, as: Credentials, stamp: Stamp, asked: number, granted: number): void {
    const { attributes, access } = inode;
    if (!this.attributes.undisturbed(attributes, stamp)) return;
    learnAccess(access, attributes.accessVersion, as, asked, granted);
    this.knowledge?.touched();
  }

  /** EACCES unless the caller may look names up in the directory. */
  async mayUseNames(as: Credentials, directory: Inode, operation: string): Outcome<void> {
    const granted = await this.granted(as, directory, Access.LOOKUP);
    if (!granted.ok) return granted;
    return granted.value === 0 ? err(localError('EACCES', operation)) : ok(undefined);
  }

  /** Runs a call that changes `inode`, and takes in what its answer tells of it. */
  beginChange(inode: Inode): ChangeStamp {
    return this.attributes.beginChange(inode.attributes);
  }

  endChange(inode: Inode, change: ChangeStamp, wcc?: WccData, effect?: ChangeEffect): void {
    this.attributes.endChange(inode.attributes, change, wcc, effect);
  }

  /** Takes in a failure that is about `inode`. */
  failed(inode: Inode, error: ServerError): { readonly ok: false; readonly error: FsError } {
    if (error.errno === 'ESTALE' && !inode.stale) {
      inode.stale = true;
      this.attributes.expire(inode.attributes);
      this.names.distrustAll();
      this.events.stale?.(inode.ino);
    }
    return err(error);
  }

  /**
   * ESTALE for a file without any name left: the server still has it for somebody's open file,
   * and the caller, who comes by a name, means another.
   */
  refuseNameless(inode: Inode, operation: string): Result<void, FsError> {
    if (inode.attributes.known?.nlink !== 0) return ok(undefined);
    return this.failed(inode, localError('ESTALE', operation));
  }

  /** An open that is under way decides how the kernel learns of what it has found. */
  #changedByOthers(ino: Ino, sizeToo: boolean): void {
    this.knowledge?.doubt();
    const inode = this.inodes.get(ino);
    if (inode !== undefined && inode.openChecks > 0) {
      this.#tellUnsent(inode);
      inode.changeUntold = true;
      return;
    }
    if (inode !== undefined && sizeToo) inode.sizeInDoubt = true;
    if (inode !== undefined) this.#tellUnsent(inode);
    this.events.changedByOthers?.(ino);
  }

  /** What is unsent may not be sent over it: the image is told at once, when the change is known. */
  #tellUnsent({ image }: Inode): void {
    if (image?.local.unsent === undefined) return;
    const told = Promise.resolve().then(() => image.current());
    this.inBackground(told.then(() => image.local.look()));
  }

  /** What the kernel reads by itself stays as it is: the file's name gets another inode. */
  #supersede(ino: Ino): boolean {
    const inode = this.inodes.get(ino);
    if (inode?.image?.isHeld !== true) return false;
    this.inodes.supersede(inode);
    this.knowledge?.doubt();
    return true;
  }

  #revokeNames(directory: Ino): void {
    if (!this.options.allowOther) return;
    const names = this.names.namesIn(directory);
    if (names.length > 0) this.events.namesRevoked?.(directory, names);
  }

  /** Attributes for the kernel, which believes their size at once. */
  attr(inode: Inode, attributes: Attributes): Attr {
    inode.toldSize = attributes.size;
    const remainingMs = this.attributes.remainingMs(inode.attributes);
    // Sending it moves the ctime and the blocks, of which the kernel is not told.
    const isUnsent = this.unsentFiles.of(inode) !== undefined;
    const attributesValidMs = isUnsent ? Math.min(remainingMs, UNSENT_MAX_MS) : remainingMs;
    return { ino: inode.ino, attributes, attributesValidMs };
  }

  /** An entry for the kernel; counts the lookup. */
  entry(inode: Inode, attributes: Attributes, entryValidMs: number): Entry {
    const counted = this.inodes.countLookup(inode);
    counted.lookedUpMs = this.clock.monotonicMs();
    return { ...this.attr(counted, attributes), generation: 0, entryValidMs };
  }

  /**
   * For how long the kernel may believe a name of the directory, in ms. Its cached names serve
   * every user without asking us, so what not everybody may search is asked for each time; and
   * never for long, so that a directory that was open to all is soon closed when its mode changes.
   */
  nameValidMs(directory: Inode): number {
    const { known } = directory.attributes;
    if (known === undefined || this.options.lookupcache === 'none') return 0;
    if (this.options.allowOther && !maySearch(known)) return 0;
    return Math.min(this.attributes.remainingMs(directory.attributes), KERNEL_NAME_MAX_MS);
  }

  /** Work that goes on after its caller was answered. */
  inBackground(work: Promise<void>): void {
    this.background.add(work);
    void work.finally(() => this.background.delete(work));
  }
}

/** Whether the server was not reached within a soft mount's patience. */
function isUnreachable({ code }: FsError): boolean {
  return code === 'RPC_TIMEOUT' || code === 'RPC_UNREACHABLE';
}
