/**
 * Open files and directories. Ids are a counter's, never used twice.
 *
 * A handle keeps its opener's credentials: READ, WRITE and COMMIT go out in the opener's name,
 * since read-ahead and the write-back of mapped pages come in nobody's.
 */
import type { HandleId } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import type { DirectoryStream } from './directory-stream.ts';
import type { FileImage, Way } from './file-images.ts';
import type { Inode } from './inodes.ts';
import type { Stability } from './ports.ts';

export interface OpenFile {
  readonly kind: 'file';
  readonly id: HandleId;
  readonly inode: Inode;
  readonly as: Credentials;
  readonly readable: boolean;
  readonly writable: boolean;
  /** How durable each write must be: O_DSYNC and O_SYNC ask for more than 'unstable'. */
  readonly stability: Stability;
  readonly syncs: SyncPattern;
  /** The cache's image of the file, once it was needed; left at release. */
  image: FileImage | undefined;
  entering: Promise<FileImage | undefined> | undefined;
  /** How the kernel reads it, where that is to be decided at open. */
  readonly way: Way | undefined;
  /** Nothing is kept of the file, as far as is known. */
  isUnkept: boolean;
  /** Losses of acknowledged bytes up to here were told to this handle. */
  lossSeen: number;
  /** The same of failures to send unsent writes; undefined: none were there. */
  failureSeen: number | undefined;
}

export interface OpenDirectory {
  readonly kind: 'directory';
  readonly id: HandleId;
  readonly inode: Inode;
  readonly as: Credentials;
  readonly stream: DirectoryStream;
}

/** A handle before it has its id. */
export type NewHandle = Omit<OpenFile, 'id'> | Omit<OpenDirectory, 'id'>;

export class HandleTable {
  readonly #open = new Map<HandleId, OpenFile | OpenDirectory>();
  #lastId = 0;

  get size(): number {
    return this.#open.size;
  }

  /** Open files. */
  files(): OpenFile[] {
    return [...this.#open.values()].filter((handle) => handle.kind === 'file');
  }

  add(handle: NewHandle): HandleId {
    this.#lastId += 1;
    const id = this.#lastId as HandleId;
    this.#open.set(id, { ...handle, id });
    return id;
  }

  file(id: HandleId): OpenFile | undefined {
    const handle = this.#open.get(id);
    return handle?.kind === 'file' ? handle : undefined;
  }

  directory(id: HandleId): OpenDirectory | undefined {
    const handle = this.#open.get(id);
    return handle?.kind === 'directory' ? handle : undefined;
  }

  delete(id: HandleId): void {
    this.#open.delete(id);
  }
}

/** Small writes that are each synced: at most this long. */
const smallWriteBytes = 64 * 1024;
/** So many in a row make a pattern. */
const patternLength = 3;

/**
 * Foresees an fsync: a handle on which one small write after the other was synced has the next one
 * sent FILE_SYNC, so that the fsync has nothing left to do and the pair costs one round trip.
 * A second write without an fsync ends it.
 */
export class SyncPattern {
  #inARow = 0;
  #sinceSync = 0;
  #small = true;

  /** To be asked for each write; whether an fsync is expected right after it. */
  expectsSync(lengthBytes: number): boolean {
    this.#sinceSync += 1;
    if (this.#sinceSync > 1) this.#inARow = 0;
    this.#small = this.#small && lengthBytes <= smallWriteBytes;
    return this.#inARow >= patternLength && this.#small;
  }

  synced(): void {
    if (this.#sinceSync === 0) return;
    this.#inARow = this.#sinceSync === 1 && this.#small ? this.#inARow + 1 : 0;
    this.#sinceSync = 0;
    this.#small = true;
  }
}
