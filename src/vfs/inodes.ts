/**
 * The inodes that the kernel, an open handle, a cached name or pending work refers to.
 *
 * - One inode a file handle, and so one node id a file: the kernel's own locks hang on it.
 * - An ino is never reused while the session lives (a counter), so `generation` stays 0.
 * - An inode is forgotten when nothing refers to it any more: no lookup the kernel has not given
 *   back, no open handle, no pin. The root never is.
 * - An inode that is superseded stays what it was, for those who have it open: its handle leads to
 *   another inode from then on. So one inode a file *content*, where the old one must live on.
 */
import { assert } from '../base/assert.ts';
import type { FileHandle, Ino, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { type AccessState, newAccessState } from './access-cache.ts';
import type { AttributeState } from './attribute-cache.ts';
import type { Listing } from './directory-stream.ts';
import type { FileImage } from './file-images.ts';
import type { FileWrites } from './file-writes.ts';
import { type Outcome, ROOT_INO } from './operations.ts';
import type { Attributes } from './ports.ts';
import type { Recovered } from './unsent-files.ts';

/** A deleted file that is still open, under the name that keeps it alive at the server. */
export interface SillyName {
  readonly directory: Inode;
  readonly name: Name;
  readonly as: Credentials;
  /** Whether the file has come to have this name, once that is known. */
  readonly moved: Promise<boolean>;
}

export interface Inode {
  readonly ino: Ino;
  readonly file: FileHandle;
  readonly attributes: AttributeState;
  readonly access: AccessState;
  /** The GETATTR under way, to be shared by those who may. */
  refresh: { readonly serial: number; readonly answer: Outcome<Attributes> } | undefined;
  /** Present once something was written. */
  writes: FileWrites | undefined;
  /** The size that the server has been given, until the image knows: nothing is behind it. */
  cutTo: number | undefined;
  /** Of the cache, while somebody needs it. */
  image: FileImage | undefined;
  /** Unsent writes of an earlier daemon, until the image that has them is open. */
  recovered: Recovered | undefined;
  /** Where an earlier daemon knew the file: a hint for people, as long as it has no place. */
  leftPath: string | undefined;
  /** Handles that programs have on it. */
  programs: number;
  /** What a symbolic link says, and of which content version that is. */
  target: { readonly bytes: Buffer; readonly version: number } | undefined;
  /** All names of a directory, from its last whole reading. */
  listing: Listing | undefined;
  /** A name that led here: a hint, for people. */
  place: { readonly directory: Inode; readonly name: Name } | undefined;
  silly: SillyName | undefined;
  /** Of a directory: hidden names in it that are on their way out. A listing waits for them. */
  readonly removals: Set<Promise<void>>;
  /** While a name of it is being removed that nobody had open: who opens it now waits. */
  leaving: Promise<unknown> | undefined;
  /** The kernel's uncollected lookups. */
  lookups: number;
  /** When the kernel was last told of it by name. */
  lookedUpMs: number | undefined;
  /** Open handles, and opens under way. */
  opens: number;
  /** Cached names and pending work. */
  pins: number;
  /** The content version that the kernel's pages are not older than, from the last open. */
  openedVersion: number | undefined;
  /**
   * The size that the kernel takes the file to have, as far as it is known: what it was told last,
   * and what it has written since.
   */
  toldSize: number | undefined;
  /**
   * The kernel was given notice of another's change of the size, upon which it drops attributes
   * that are on their way: it may not know the size that it was told.
   */
  sizeInDoubt: boolean;
  /** Opens that ask the server, and whether they found another's change that is not told yet. */
  openChecks: number;
  changeUntold: boolean;
  /** The server said ESTALE: names that lead here are looked up again. */
  stale: boolean;
  /** Its last name was removed by us. */
  unlinked: boolean;
  /** Its file has another content, which another inode is of. */
  superseded: boolean;
}

/** Makes opens of the inode wait for the call that takes a name from it. */
export async function whileLeaving<T>(inode: Inode, call: Promise<T>): Promise<T> {
  inode.leaving = call;
  try {
    return await call;
  } finally {
    if (inode.leaving === call) inode.leaving = undefined;
  }
}

export class InodeTable {
  readonly root: Inode;
  readonly #newAttributes: (ino: Ino) => AttributeState;
  readonly #byIno = new Map<Ino, Inode>();
  readonly #byFile = new Map<string, Inode>();
  readonly #superseded = new Set<Inode>();
  #lastIno: number = ROOT_INO;

  constructor(root: FileHandle, newAttributes: (ino: Ino) => AttributeState) {
    this.#newAttributes = newAttributes;
    this.root = this.#add(ROOT_INO, root);
    this.root.pins = 1;
  }

  get size(): number {
    return this.#byIno.size;
  }

  get(ino: Ino): Inode | undefined {
    return this.#byIno.get(ino);
  }

  /** The inode of a handle that the server just gave. */
  intern(file: FileHandle): Inode {
    const known = this.#byFile.get(fileKey(file));
    if (known !== undefined) {
      known.stale = false;
      return known;
    }
    this.#lastIno += 1;
    // A copy: the server's is a view of a whole reply.
    return this.#add(this.#lastIno as Ino, Buffer.from(file) as FileHandle);
  }

  /** The inode known of a handle, if any. */
  find(file: FileHandle): Inode | undefined {
    return this.#byFile.get(fileKey(file));
  }

  /** The file of the inode leads to another one from now on. */
  supersede(inode: Inode): void {
    inode.superseded = true;
    this.#superseded.add(inode);
    this.#unlist(inode);
  }

  /** Whether an inode of another content of the same file has its image open. */
  isReplaced(inode: Inode): boolean {
    for (const old of this.#superseded) {
      if (old !== inode && old.image !== undefined && old.file.equals(inode.file)) return true;
    }
    return false;
  }

  /** The root first, the rest in the order in which they came. */
  all(): IterableIterator<Inode> {
    return this.#byIno.values();
  }

  /**
   * Counts one lookup of the kernel's, and answers the inode it is of: `inode`, or the one that
   * has taken its place if it was forgotten meanwhile.
   */
  countLookup(inode: Inode): Inode {
    const key = fileKey(inode.file);
    const known = inode.superseded ? inode : (this.#byFile.get(key) ?? inode);
    if (!inode.superseded) this.#byFile.set(key, known);
    this.#byIno.set(known.ino, known);
    known.lookups += 1;
    return known;
  }

  forget(ino: Ino, lookups: number): void {
    const inode = this.#byIno.get(ino);
    if (inode === undefined || inode === this.root) return;
    assert(lookups <= inode.lookups, `forget ${lookups} of ${inode.lookups} lookups`);
    inode.lookups -= lookups;
    if (inode.lookups === 0) inode.toldSize = undefined;
    this.settle(inode);
  }

  /** Deleted files that are still open. */
  hidden(): Inode[] {
    return [...this.#byIno.values()].filter(({ silly }) => silly !== undefined);
  }

  pin(inode: Inode): void {
    inode.pins += 1;
  }

  unpin(inode: Inode): void {
    assert(inode.pins > 0, 'unpin without pin');
    inode.pins -= 1;
    this.settle(inode);
  }

  /** Forgets the inode if nothing refers to it. */
  settle(inode: Inode): void {
    if (inode.lookups > 0 || inode.opens > 0 || inode.pins > 0) return;
    if (this.#byIno.get(inode.ino) !== inode) return;
    this.#byIno.delete(inode.ino);
    this.#superseded.delete(inode);
    this.#unlist(inode);
  }

  #unlist(inode: Inode): void {
    const key = fileKey(inode.file);
    if (this.#byFile.get(key) === inode) this.#byFile.delete(key);
  }

  #add(ino: Ino, file: FileHandle): Inode {
    const inode: Inode = {
      ino,
      file,
      attributes: this.#newAttributes(ino),
      access: newAccessState(),
      refresh: undefined,
      writes: undefined,
      cutTo: undefined,
      image: undefined,
      recovered: undefined,
      leftPath: undefined,
      programs: 0,
      target: undefined,
      listing: undefined,
      place: undefined,
      silly: undefined,
      removals: new Set(),
      leaving: undefined,
      lookups: 0,
      lookedUpMs: undefined,
      opens: 0,
      pins: 0,
      openedVersion: undefined,
      toldSize: undefined,
      sizeInDoubt: false,
      openChecks: 0,
      changeUntold: false,
      stale: false,
      unlinked: false,
      superseded: false,
    };
    this.#byIno.set(ino, inode);
    this.#byFile.set(fileKey(file), inode);
    return inode;
  }
}

function fileKey(file: FileHandle): string {
  return file.toString('latin1');
}
