/**
 * What the file system knows of an export, kept from one session to the next, where nobody else
 * changes the export: names, handles, attributes, listings, and what the server allowed whom.
 *
 *            recall, saved                          before the first change of ours,
 *   (none) ---------------> on the disk ----------> at another's change: forgotten ----> (none)
 *      ^ at quiet, at the end                                                              |
 *      '-----------------------------------------------------------------------------------'
 *
 * G1  What is on the disk is true of the export, or older than any change of ours: it is gone,
 *     durably, before a change is sent, and never saved while one is under way or a byte is
 *     acknowledged that the server may lose.
 * G2  A shared session believes nothing of an earlier one, saves nothing, and makes what there is
 *     go away as it begins: others may change the export meanwhile, seen or not.
 * G3  It is bounded: what was used last is kept. Whatever is missing is asked for.
 */
import type { Timer } from '../base/clock.ts';
import { isForVersion, learnAccessByKey } from './access-cache.ts';
import type { Inode } from './inodes.ts';
import {
  decodeKnown,
  encodeKnown,
  type Known,
  type KnownFile,
  type KnownName,
} from './knowledge-blob.ts';
import type { MountState } from './mount-state.ts';
import type { KnowledgeStore } from './ports.ts';

/** Saved so long after the last that was learned. */
const QUIET_MS = 5_000;
/** As many names and listed entries, together, as go into the blob. */
const MAX_ENTRIES = 20_000;
/** Callers of one file. */
const MAX_CALLERS = 16;

export class Knowledge {
  readonly #state: MountState;
  readonly #store: KnowledgeStore;
  readonly #keeps: boolean;
  /** What an earlier session left may be there. */
  #onDisk = true;
  #learnedAtMs = 0;
  #isNew = false;
  #timer: Timer | undefined;
  #changes = 0;
  /** The store is told one thing after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(state: MountState, store: KnowledgeStore) {
    this.#state = state;
    this.#store = store;
    this.#keeps = state.options.session !== 'shared';
  }

  /** Takes in what the last session knew. Before anything else is asked of the file system. */
  async recall(): Promise<void> {
    // While a shared session lasts, anybody may change what an earlier session knew.
    if (!this.#keeps) return this.#forget();
    const blob = await this.#store.load();
    const known = blob === undefined ? undefined : decodeKnown(blob);
    if (known === undefined) return;
    takeIn(this.#state, known);
    this.#isNew = false;
  }

  /** Something is known that was not. */
  touched(): void {
    if (!this.#keeps) return;
    this.#isNew = true;
    if (this.#state.closing) return;
    this.#learnedAtMs = this.#state.clock.monotonicMs();
    this.#timer ??= this.#state.clock.after(QUIET_MS, () => this.#saveAtQuiet());
  }

  /** Another has changed something. */
  doubt(): void {
    if (this.#onDisk) this.#state.inBackground(this.#forget());
  }

  /** Runs a change of ours (G1). */
  async changing<T>(change: () => Promise<T>): Promise<T> {
    this.#changes += 1;
    try {
      if (this.#onDisk) await this.#forget();
      return await change();
    } finally {
      this.#changes -= 1;
      this.touched();
    }
  }

  /** The session ends, and everything is settled. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    if (this.#keeps && this.#isNew) await this.#save();
  }

  #saveAtQuiet(): void {
    this.#timer = undefined;
    if (!this.#isNew || this.#state.closing) return;
    const waitMs = QUIET_MS - (this.#state.clock.monotonicMs() - this.#learnedAtMs);
    if (waitMs <= 0 && this.#maySave()) this.#state.inBackground(this.#save());
    else {
      const againMs = Math.max(waitMs, QUIET_MS / 5);
      this.#timer = this.#state.clock.after(againMs, () => this.#saveAtQuiet());
    }
  }

  #maySave(): boolean {
    return this.#changes === 0 && this.#state.writes.heldBytes === 0;
  }

  async #save(): Promise<void> {
    await this.#inTurn(async () => {
      if (!this.#maySave()) return;
      this.#isNew = false;
      // Said before it is there: a change that comes meanwhile waits, and has it forgotten.
      this.#onDisk = true;
      await this.#store.save(encodeKnown(collect(this.#state)));
    });
    if (this.#isNew) this.touched();
  }

  #forget(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#onDisk) return;
      await this.#store.forget();
      this.#onDisk = false;
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(work);
    return this.#turn;
  }
}

/** What is certain now, the names that were used last first. */
function collect(state: MountState): Known {
  const files: KnownFile[] = [];
  const indexes = new Map<Inode, number>();
  let entries = 0;
  const indexOf = (inode: Inode): number => {
    const known = indexes.get(inode);
    if (known !== undefined) return known;
    const file = fileOf(state, inode, MAX_ENTRIES - entries);
    entries += file.listing?.length ?? 0;
    indexes.set(inode, files.length);
    files.push(file);
    return files.length - 1;
  };
  indexOf(state.inodes.root);
  const names: KnownName[] = [];
  for (const { directory: ino, name, cached } of state.names.all()) {
    if (entries >= MAX_ENTRIES) break;
    const directory = state.inodes.get(ino);
    if (directory === undefined || cached.version !== directory.attributes.contentVersion) continue;
    const { inode } = cached;
    if (inode?.stale === true || directory.stale) continue;
    const file = inode === undefined ? undefined : indexOf(inode);
    names.push({ directory: indexOf(directory), name, file });
    entries += 1;
  }
  return { files, names };
}

function fileOf(state: MountState, inode: Inode, roomEntries: number): KnownFile {
  const { file, attributes, access, target, listing } = inode;
  const isCertain = state.attributes.isCertain(attributes) && state.attributes.isFresh(attributes);
  if (!isCertain) {
    return { file, attributes: undefined, callers: [], target: undefined, listing: undefined };
  }
  const callers = isForVersion(access, attributes.accessVersion)
    ? [...access.callers].slice(-MAX_CALLERS).map(([key, answer]) => ({ key, ...answer }))
    : [];
  const isListed =
    listing !== undefined &&
    listing.version === attributes.contentVersion &&
    listing.changesBegun === attributes.changesBegun &&
    listing.entries.length <= roomEntries;
  return {
    file,
    attributes: attributes.known,
    callers,
    target: target?.version === attributes.contentVersion ? target.bytes : undefined,
    listing: isListed ? listing.entries : undefined,
  };
}

function takeIn(state: MountState, { files, names }: Known): void {
  const [root] = files;
  // Another export has come to be under the same name.
  if (root === undefined || !root.file.equals(state.server.root)) return;
  const inodes = files.map((known) => {
    const inode = state.inodes.intern(known.file);
    state.inodes.pin(inode);
    if (known.attributes === undefined || inode.attributes.known !== undefined) return inode;
    state.attributes.recall(inode.attributes, known.attributes);
    const { contentVersion: version, accessVersion, changesBegun } = inode.attributes;
    for (const { key, asked, granted } of known.callers) {
      learnAccessByKey(inode.access, accessVersion, key, asked, granted);
    }
    if (known.target !== undefined) inode.target = { bytes: known.target, version };
    if (known.listing !== undefined) {
      inode.listing = { version, changesBegun, entries: known.listing };
    }
    return inode;
  });
  // Those that were used last were saved first, and are to be the last to go.
  for (const { directory: at, name, file } of names.toReversed()) {
    const directory = inodes[at];
    if (directory?.attributes.known === undefined) continue;
    const inode = file === undefined ? undefined : inodes[file];
    state.names.set(directory, name, inode, directory.attributes.contentVersion);
  }
  for (const inode of inodes) state.inodes.unpin(inode);
}
