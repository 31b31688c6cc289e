/**
 * What the control socket needs of a running mount: narrow, so that a test can be one. The session
 * provides it; `service.ts` turns it into the methods of the schema.
 */
import type { FileHandle, Ino, Name } from '../../base/brand.ts';
import type { Credentials } from '../../base/credentials.ts';
import type { Result } from '../../base/result.ts';
import type { FsError } from '../../errors/fs-error.ts';
import type { Attributes } from '../../vfs/ports.ts';
import type { EventHub } from '../event-hub.ts';
import type { Sending, SendingHow, SentReport } from '../sending.ts';
import type { UnsentFiles } from '../unsent-files.ts';
import type { ImageLine, Status } from './schema.ts';

export interface Controlled {
  /** In whose name the server is asked. */
  readonly as: Credentials;
  readonly files: ControlledFiles;
  /** undefined without a cache. */
  readonly cache: ControlledCache | undefined;
  readonly kernel: ControlledKernel;
  readonly sending: ControlledSending;
  readonly life: ControlledLife;
  readonly events: EventHub;
  /** The session's part of `status`, as it is now. */
  snapshot(): SessionSnapshot;
}

/** The rest of `Status` is the service's own. */
export type SessionSnapshot = Omit<
  Status,
  'protocol' | 'pid' | 'hitRatio' | 'open' | 'unsent' | 'waiting' | 'waitingCount' | 'tasks'
>;

export interface ControlledFiles {
  /** Walks from the root of the mount; may wait for the server. */
  locate(as: Credentials, path: readonly Name[]): Promise<Result<Located, FsError>>;
  /** Runs while the file's image is open, so that the cache can find it. */
  withImage<T>(as: Credentials, ino: Ino, run: () => Promise<T>): Promise<Result<T, FsError>>;
  openFiles(): readonly OpenFile[];
  /** Where a node is that need not be open; undefined when its name is not known. */
  pathOf?(ino: Ino): string | undefined;
}

export interface Located {
  readonly ino: Ino;
  readonly file: FileHandle;
  readonly attributes: Attributes;
}

export interface OpenFile {
  readonly ino: Ino;
  readonly file: FileHandle;
  /** As the schema has paths. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly readers: number;
  readonly writers: number;
  readonly servedBy: Status['open'][number]['servedBy'];
  readonly why: string | undefined;
}

/** Images are named by their directory in the cache: it outlives the file at the server. */
export interface ControlledCache {
  idOf(file: FileHandle): string;
  list(signal: AbortSignal): Promise<Result<readonly ImageLine[], FsError>>;
  /** Of a file that is open. */
  find(file: FileHandle): ControlledImage | undefined;
  setPinned(id: string, pinned: boolean): Promise<Result<void, FsError>>;
  /** `why` is what keeps it, in one clause. */
  evict(id: string): Promise<Result<{ freedBytes: number; why?: string | undefined }, FsError>>;
  verify(id: string, watch: Watch): Promise<Result<Verified, FsError>>;
}

/** How a long call is cancelled, and tells how far it is. */
export interface Watch {
  readonly signal: AbortSignal;
  onProgress(doneBytes: number, totalBytes: number): void;
}

export interface Verified {
  readonly checkedBytes: number;
  readonly damagedBytes: number;
}

export interface ControlledImage {
  /** Of the range in the cache: no more than the range and the file have. */
  presentBytes(range?: { readonly start: number; readonly end: number }): number;
  /** Ends early, with EINTR, when cancelled; what it fetched stays. */
  warm(
    range: { readonly start: number; readonly end: number },
    how: Watch & { readonly as: Credentials; readonly check: boolean },
  ): Promise<Result<Warmed, FsError>>;
  /** Page counts of `parts` equal parts of the file's pages; fewer where there are fewer pages. */
  pageStates(parts: number): readonly PageCounts[];
}

export interface Warmed {
  readonly presentBytes: number;
  readonly fetchedBytes: number;
  readonly damagedBytes: number;
}

export interface PageCounts {
  readonly absent: number;
  readonly present: number;
  readonly zero: number;
  readonly dirty: number;
}

export interface ControlledKernel {
  /** Requests of programs that are not answered yet. */
  waiting(): readonly { operation: string; ino: Ino; ageMs: number }[];
  /** Answers with EIO what waits of the inode; says how many. */
  failWaiting(ino: Ino): number;
}

/** What only this host has, and the ways to change that. */
export interface ControlledSending
  extends Pick<UnsentFiles, 'unsent' | 'resolve'>,
    Pick<Sending, 'writeBack' | 'flush'> {
  /** What an earlier daemon had left behind, when this one started. */
  readonly foundBytes: number;
}

export interface ControlledLife {
  /** Resolves when the mount has ended and all is written down, or when it goes on. */
  unmount(how: UnmountHow): Promise<Unmounting>;
}

export interface UnmountHow extends SendingHow {
  /** What becomes of what is unsent. */
  readonly unsent: 'send' | 'keep' | 'discard';
  /** Whoever uses it is not waited for. */
  readonly force: boolean;
}

export interface Unmounting {
  readonly unmounted: boolean;
  readonly report: SentReport;
  /** Paths of open files that keep it. */
  readonly inUse: readonly string[];
  /** Why it goes on, in one clause. */
  readonly why: string | undefined;
  readonly droppedBytes: number;
  readonly keptBytes: number;
}
