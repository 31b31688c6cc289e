/** The directory of one export in the cache. */
import type { FileHandle } from '../base/brand.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { KnowledgeStore } from '../vfs/ports.ts';
import type { FileIo } from './file-io.ts';
import type { ImageInfo } from './info-file.ts';

/** What a daemon writes into LOCK about itself. */
export interface LockHolder {
  readonly pid: number;
  /** Of its control socket; empty when it has none. */
  readonly socket: string;
  readonly mountpoint: string;
  /** `server:port:/export`, for people. */
  readonly source: string;
  readonly state: 'serving' | 'draining';
}

export interface ExportOptions {
  readonly cacheDir: string;
  /** `host:port` as mounted: with `exportPath` it is what the export is known by. */
  readonly server: string;
  readonly exportPath: string;
  readonly pid: number;
  readonly socket: string;
  readonly mountpoint: string;
  readonly io: FileIo;
  /** The kernel's id of this boot, 32 hex digits; read from /proc unless a test says it. */
  readonly bootId?: string;
  /** Failures that no caller is told of: knowledge, sweeping. */
  readonly onFailure?: (error: FsError) => void;
}

export type ExportRefusal =
  /** Another daemon has it; who, as far as its LOCK can be read. `message` says it in a sentence. */
  | { readonly kind: 'locked'; readonly holder: LockHolder | undefined; readonly message: string }
  /** Another format, another owner, or the disk failed: `message` says it in a sentence. */
  | { readonly kind: 'refused'; readonly error: FsError; readonly message: string };

export class ExportDirectory {
  readonly id: string = '';
  /** Absolute: CACHE/<export id>. */
  readonly path: string = '';
  /** `server:/export`, as in every info file. */
  readonly source: string = '';
  readonly bootId: string = '';
  readonly io: FileIo;
  readonly knowledge: KnowledgeStore;

  constructor(io: FileIo, knowledge: KnowledgeStore) {
    this.io = io;
    this.knowledge = knowledge;
  }

  /** Makes what is missing, checks the rest, and takes the lock. Opens no image. */
  static open(_options: ExportOptions): Promise<Result<ExportDirectory, ExportRefusal>> {
    throw new Error('not yet');
  }

  /** File ids of all that is kept, open or not, in no order. */
  images(): Promise<Result<string[], FsError>> {
    throw new Error('not yet');
  }

  /** What is on the disk about one image, open or not; Err when damaged or gone. */
  describe(_fileId: string): Promise<Result<ImageInfo, FsError>> {
    throw new Error('not yet');
  }

  isOpen(_fileId: string): boolean {
    throw new Error('not yet');
  }

  /** Drops a closed image: durably out of sight when it resolves; EBUSY when it is open. */
  drop(_fileId: string): Promise<number> {
    throw new Error('not yet');
  }

  /** Removes what was set aside or dropped; how many directories. Meant for the background. */
  sweepGone(): Promise<number> {
    throw new Error('not yet');
  }

  /** Says in LOCK whether this daemon still serves. */
  setState(_state: LockHolder['state']): Promise<number> {
    throw new Error('not yet');
  }

  /** Gives the lock back. Images have to be closed before. */
  close(): Promise<void> {
    throw new Error('not yet');
  }
}

/** Ids of the exports in a cache (needs no lock): directories only. */
export function exportsIn(_cacheDir: string): Promise<Result<string[], FsError>> {
  throw new Error('not yet');
}

/** Who holds, or last held, an export: what its LOCK says; undefined when it says nothing. */
export function lockHolderOf(
  _cacheDir: string,
  _exportId: string,
): Promise<LockHolder | undefined> {
  throw new Error('not yet');
}

export type { FileHandle };
