/**
 * What the images of one cache share, and whom they tell.
 */
import type { Clock } from '../base/clock.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { DiskHealth, DiskReport, DiskState } from './disk-health.ts';
import type { FetchQueue } from './fetch-queue.ts';
import type { FileIo } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import type { Space } from './space.ts';
import type { WriteBackEngine } from './write-back/engine.ts';

/** Where programs' writes go: see `LocalWrites`. 'deferred' is 'back' to an image. */
export type WriteMode = 'through' | 'back' | 'deferred';
/** Who else may write: in an 'exclusive' session nobody, and another's change is a conflict. */
export type Session = 'shared' | 'exclusive' | 'readonly';
/** What images ask of write-back. */
export type WriteBack = Pick<
  WriteBackEngine,
  'changed' | 'gone' | 'holdBack' | 'roomFor' | 'writeBack' | 'writeBackRange'
>;

/** What happens in a cache, for logs and those who watch. All are optional; none may throw. */
export interface CacheEvents {
  /** What was kept of an image is not believed: another content, or a damaged file. */
  setAside?(image: string, why: string): void;
  /** Bytes on the cache's disk are not what was stored there (C2); they are fetched again. */
  damaged?(image: string, offset: number, length: number): void;
  /** An image is not kept: the disk failed while it was opened or renewed. */
  notKept?(image: string, why: string): void;
  /** What the disk can be used for has changed. */
  disk?(report: DiskReport, was: DiskState): void;
  evicted?(run: { freedBytes: number; extents: number; images: number }): void;
  nothingToEvict?(wantedBytes: number): void;
  /** An image has unsent writes; the server has all of it. By file id and path. */
  dirty?(image: string, path: string): void;
  clean?(image: string, path: string): void;
  writtenBack?(run: { path: string; bytes: number }): void;
  /** Another has changed the server's file under unsent writes: nothing is sent; it is, all the same. */
  conflict?(image: string, path: string): void;
  changedUnderDirty?(image: string, path: string): void;
  /** Unsent writes could not be sent. */
  notSent?(image: string, path: string, error: FsError): void;
  /** A failure of the disk that costs no one anything now. */
  failure?(message: string): void;
}

/** Counted since the start. */
export interface CacheCounts {
  /** Bytes of reads answered from the cache's disk, but for those of blocks that are all zeros. */
  cacheBytes: number;
  zeroBytes: number;
  /** Bytes of reads answered with what came from the server, kept or not. */
  serverBytes: number;
  /** Reads that waited for a fill that another had begun. */
  waits: number;
  /** Bytes of pages stored; those that were all zeros among them. */
  storedBytes: number;
  /** Bytes read ahead that a reader has reached, and that none had reached when it closed. */
  readAheadUsedBytes: number;
  readAheadUnusedBytes: number;
  /** Blocks whose bytes were not what their sum said. */
  damagedBlocks: number;
  /** Blocks whose sum was checked. */
  verifiedBlocks: number;
}

export function noCounts(): CacheCounts {
  return {
    cacheBytes: 0,
    zeroBytes: 0,
    serverBytes: 0,
    waits: 0,
    storedBytes: 0,
    readAheadUsedBytes: 0,
    readAheadUnusedBytes: 0,
    damagedBlocks: 0,
    verifiedBlocks: 0,
  };
}

export interface CacheParts {
  readonly io: FileIo;
  readonly clock: Clock;
  /** `clock.monotonicMs()` when the cache was opened. */
  readonly startedMs: number;
  readonly queue: FetchQueue;
  readonly health: DiskHealth;
  readonly space: Space;
  readonly events: CacheEvents;
  readonly counts: CacheCounts;
  readonly session: Session;
  readonly write: WriteMode;
  readonly writeBack: WriteBack;
  /** Bytes that came and wait to be stored: beyond it a read waits for the disk. */
  readonly maxBacklogBytes: number;
  /** Bytes being stored now: the disk does not count them yet. */
  readonly storing: { bytes: number };
  /** An image may have become complete, or has to be looked at again before it is trusted. */
  verifyLater(content: ImageContent): void;
  /** Evicts at least so many bytes, if so many may go. The bytes that went. */
  makeRoom(bytes: number): Promise<number>;
  /** Evicted since the start. */
  evictedBytes(): number;
  /** What the pinned images take, open or not. */
  pinnedBytes(): Promise<number>;
  /** Something may be evicted that could not before. */
  mayEvictAgain(): void;
}
