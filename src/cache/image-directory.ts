/** The files of one image. */
import type { FileHandle } from '../base/brand.ts';
import type { Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { Attributes, ContentStamp } from '../vfs/ports.ts';
import type { BlockMap } from './block-map.ts';
import type { ExportDirectory } from './export-directory.ts';
import type { FileIo } from './file-io.ts';
import type { ImageState } from './info-file.ts';

export interface ImageAbout {
  /** From the export's root, for people. */
  readonly path: string;
  /** The wall clock, ms since 1970: when the image was used. */
  readonly nowMs: number;
}

/** How an image was found at open. */
export type Found = 'fresh' | 'kept' | 'setAside';

export declare class ImageDirectory {
  readonly file: FileHandle;
  readonly fileId: string;
  readonly map: BlockMap;
  /** Open for reading and writing until `close`, whatever becomes of its name (C9). */
  readonly dataFd: number;
  readonly found: Found;
  /** Why what was kept is not believed (or only in part): a clause for people. */
  readonly why: string | undefined;

  /**
   * Takes up what is kept if all of it agrees with `content`; else sets it aside and makes a new,
   * empty one. Waits for a `close` of the same image. An image is open at most once.
   * Err: the disk fails, and nothing can be kept.
   */
  static open(
    exportDirectory: ExportDirectory,
    file: FileHandle,
    content: Attributes,
    about: ImageAbout,
    io: FileIo,
  ): Promise<Result<ImageDirectory, FsError>>;

  /** What to tell `FileIo.store` about pages that are absent. */
  get holes(): 'trusted' | 'punch';
  /** To be called when bytes may lie in absent pages: a store failed, or was not marked. */
  distrustHoles(): void;
  get state(): ImageState;
  get stamp(): ContentStamp;
  get pinned(): boolean;
  get lastUsedMs(): number;

  /**
   * Writes the changed records of `map` to the live map. What is marked when it is called is
   * written when it resolves with 0. Calls that wait are joined. Answers errno.
   */
  persistMarks(): Promise<number>;
  /**
   * Makes what is marked now durable: fdatasync of `data`, then the records to `map.synced`, then
   * fdatasync of that. Answers errno. May take as long as the disk needs for all unwritten bytes.
   */
  sync(): Promise<number>;
  /**
   * Takes the marks of all blocks that the range touches, whole blocks: in memory at once, on the
   * disk when it resolves with 0. Only then may bytes be punched, cut or overwritten. Errno else:
   * then the bytes must be left as they are. Fills of these blocks must not run meanwhile.
   */
  clearDurably(startPage: number, endPage: number): Promise<number>;
  /** Punches pages that `clearDurably` cleared. On an error holes are not trusted any more. */
  discard(startPage: number, endPage: number): Promise<number>;
  /** Cuts or extends data and maps; only in state 'writing'. Errno: drop the image. */
  resize(sizeBytes: number): Promise<number>;

  /** Durably notes that bytes are going to change; at once when that is noted already. */
  markWriting(): Promise<number>;
  /**
   * What is marked is of `content` now: persists, syncs and says so in info. `how` 'light' leaves
   * out the waits for the disk where a power loss would find nothing to believe anyway. Does
   * nothing (0, the state stays 'writing') when `markWriting` was called meanwhile.
   */
  settle(content: Attributes, how?: 'durable' | 'light'): Promise<number>;
  setPinned(pinned: boolean): Promise<number>;
  /** Only noted; written with the next info. */
  touch(lastUsedMs: number, path?: string): void;

  /** What all its files take on the disk, as du counts. 0 when that cannot be told. */
  allocated(): Promise<number>;

  /**
   * The server's file has other content: a new, empty image under the same name. This one lives on
   * without a name until its `close`. Err: there is no image of this file any more.
   */
  replace(content: Attributes, about: ImageAbout): Promise<Result<ImageDirectory, FsError>>;
  /** Drops the image: durably out of sight; it lives on without a name until its `close`. */
  drop(): Promise<number>;
  /** `clean`: everything is written down and synced first. Nothing may be under way. */
  close(clean: boolean): Promise<void>;
}
