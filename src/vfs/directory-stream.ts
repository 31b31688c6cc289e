/**
 * One reading of a directory, as an open handle sees it.
 *
 * D1  An offset given to the kernel is the entry's position in what this handle has read, so it
 *     stays good for the handle's life, whatever happens to the directory: each entry that stayed
 *     is listed exactly once.
 * D2  Offset 0 reads the directory anew.
 * D3  When the server no longer knows a cookie, the directory is read from its start, without the
 *     names that were already given.
 * D4  Pages come on demand, and the next one while the kernel takes the present one.
 * D5  A whole reading of one moment is remembered. It answers the next one where nobody else
 *     changes the directory, or while the server is away, and nothing of it was changed by us.
 */
import type { FileHandle } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import type { AttributeState, Stamp } from './attribute-cache.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { nameKey } from './names.ts';
import type { Outcome } from './operations.ts';
import type { Answer, Attributes, DirectoryEntry, ReaddirOk } from './ports.ts';

export interface ListedEntry {
  readonly name: Buffer;
  readonly fileid: bigint;
  readonly type: Attributes['type'] | undefined;
  /** With READDIRPLUS: the file as the page had it. Gone once it was taken. */
  found: FoundEntry | undefined;
}

export interface FoundEntry {
  readonly file: FileHandle;
  readonly attributes: Attributes;
  readonly stamp: Stamp;
  /** The directory's content version that the page is true of, if it is known to be. */
  readonly version: number | undefined;
}

/** A directory's names, of one moment (D5). */
export interface Listing {
  readonly version: number;
  /** Changes of ours that had been begun when it was read. */
  readonly changesBegun: number;
  readonly entries: readonly Omit<ListedEntry, 'found'>[];
}

/** More names than these are not remembered. */
const maxListed = 10_000;

/** How often one reading may be started again (D3), for servers that forget every cookie. */
const maxRestarts = 8;

interface Page {
  readonly answer: ReaddirOk;
  readonly stamp: Stamp;
  readonly version: number | undefined;
}

export class DirectoryStream {
  readonly #state: MountState;
  readonly #directory: Inode;
  readonly #as: Credentials;
  #entries: ListedEntry[] = [];
  #cookie = 0n;
  #verifier = 0n;
  #atEnd = false;
  #plus = false;
  #next: Outcome<Page> | undefined;
  /** While names that were given are skipped (D3). */
  #given: Set<string> | undefined;
  #restarts = 0;
  /** Changes of ours when the reading began; undefined: it is of no one moment, or not from here. */
  #changesBegun: number | undefined;
  #version: number | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(state: MountState, directory: Inode, as: Credentials) {
    this.#state = state;
    this.#directory = directory;
    this.#as = as;
  }

  /** Runs one reader at a time. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** The directory is read anew (D2), unless nothing of it was taken yet. */
  rewind(): void {
    if (this.#entries.length === 0 && this.#next === undefined && !this.#atEnd) return;
    this.#entries = [];
    this.#restart();
    this.#given = undefined;
    this.#restarts = 0;
  }

  /** The entry at a position, or undefined at the end of the directory. */
  async entryAt(index: number, plus: boolean): Outcome<ListedEntry | undefined> {
    this.#plus = plus;
    if (index >= this.#entries.length && !this.#atEnd) this.#recall();
    while (index >= this.#entries.length && !this.#atEnd) {
      const more = await this.#readPage();
      if (!more.ok) return more;
    }
    return ok(this.#entries[index]);
  }

  #restart(): void {
    this.#cookie = 0n;
    this.#verifier = 0n;
    this.#atEnd = false;
    this.#next = undefined;
  }

  async #readPage(): Outcome<void> {
    if (this.#cookie === 0n && this.#given === undefined) {
      // What was closed before is gone from the listing, though its REMOVE may still be under way.
      await Promise.all(this.#directory.removals);
      this.#changesBegun = this.#directory.attributes.changesBegun;
      this.#version = undefined;
    }
    const page = await (this.#next ?? this.#fetch());
    this.#next = undefined;
    if (!page.ok) {
      const mayRestart = this.#cookie !== 0n && this.#restarts < maxRestarts;
      if (page.error.code !== 'NFS3ERR_BAD_COOKIE' || !mayRestart) return page;
      this.#restarts += 1;
      this.#given = new Set(this.#entries.map(({ name }) => nameKey(name)));
      this.#restart();
      return ok(undefined);
    }
    const { answer } = page.value;
    const last = answer.entries.at(-1);
    // It would be asked for again for ever; taken for the end, it would hide what is there.
    if (!answer.eof && (last === undefined || last.cookie === this.#cookie)) {
      const message = 'READDIR: the server does not get on with its listing';
      return err({ errno: 'EIO', code: 'PROTOCOL', operation: 'READDIR', message });
    }
    for (const entry of answer.entries) {
      if (this.#given?.has(nameKey(entry.name)) !== true) {
        this.#entries.push(listed(entry, page.value));
      }
    }
    this.#atEnd = answer.eof;
    this.#cookie = last?.cookie ?? this.#cookie;
    this.#verifier = answer.verifier;
    this.#remember(page.value.version);
    if (!this.#atEnd) this.#next = this.#fetch();
    return ok(undefined);
  }

  /** D5 */
  #recall(): void {
    const { listing, attributes } = this.#directory;
    const { session } = this.#state.options;
    if (this.#entries.length > 0 || this.#next !== undefined || listing === undefined) return;
    if (session === 'shared' && !this.#state.isAway) return;
    if (!this.#state.attributes.isFresh(attributes)) return;
    if (!isOf(listing, attributes)) return;
    this.#entries = listing.entries.map((entry) => ({ ...entry, found: undefined }));
    this.#atEnd = true;
  }

  /** A page was taken that is true of the directory's `version`. */
  #remember(version: number | undefined): void {
    if (this.#state.images === undefined || this.#changesBegun === undefined) return;
    this.#version ??= version;
    const isOne = version !== undefined && version === this.#version && this.#given === undefined;
    if (!isOne || this.#entries.length > maxListed) {
      this.#changesBegun = undefined;
      return;
    }
    if (!this.#atEnd) return;
    const entries = this.#entries.map(({ name, fileid, type }) => ({ name, fileid, type }));
    const listing = { version, changesBegun: this.#changesBegun, entries };
    if (!isOf(listing, this.#directory.attributes)) return;
    this.#directory.listing = listing;
    this.#state.knowledge?.touched();
  }

  async #fetch(): Outcome<Page> {
    const { attributes } = this.#state;
    const directory = this.#directory;
    const version = directory.attributes.contentVersion;
    const stamp = attributes.stamp();
    const result = await this.#send();
    if (!result.ok) return this.#state.failed(directory, result.error);
    const answer = result.value;
    const agreed = attributes.observe(directory.attributes, answer.attributes, stamp);
    const isTrue =
      attributes.undisturbed(directory.attributes, stamp) &&
      (agreed || directory.attributes.contentVersion === version);
    const now = isTrue ? directory.attributes.contentVersion : undefined;
    return ok({ answer, stamp, version: now });
  }

  async #send(): Answer<ReaddirOk> {
    const { server, options, events } = this.#state;
    const position = [this.#cookie, this.#verifier, options.directoryPageBytes] as const;
    const { file } = this.#directory;
    if (this.#plus && this.#state.hasReaddirplus) {
      const result = await server.readdirplus(this.#as, file, ...position);
      if (result.ok || result.error.code !== 'NFS3ERR_NOTSUPP') return result;
      this.#state.hasReaddirplus = false;
      events.readdirplusMissing?.();
    }
    return server.readdir(this.#as, file, ...position);
  }
}

function isOf(listing: Listing, { contentVersion, changesBegun }: AttributeState): boolean {
  return listing.version === contentVersion && listing.changesBegun === changesBegun;
}

function listed(entry: DirectoryEntry, page: Page): ListedEntry {
  const { file, attributes, fileid } = entry;
  const { stamp, version } = page;
  const found =
    file === undefined || attributes === undefined
      ? undefined
      : { file: Buffer.from(file) as FileHandle, attributes, stamp, version };
  // A copy: the server's is a view that would keep the whole page's bytes.
  return { name: Buffer.from(entry.name), fileid, type: attributes?.type, found };
}
