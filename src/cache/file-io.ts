/**
 * Local files, as the cache needs them: what Node cannot do, and what must not wait in libuv's
 * pool behind name look-ups. Work runs on native threads of its own; a promise each.
 *
 * Every promise resolves. Errors are errno numbers, 0 for none. A file descriptor must stay open,
 * and a Buffer must not change, until the promise that it was given to has resolved.
 */

/** The unit of presence, in bytes. */
export const PAGE_BYTES = 4096;
/** The unit of checksums, in bytes. */
export const BLOCK_BYTES = 65536;
export const PAGES_PER_BLOCK = BLOCK_BYTES / PAGE_BYTES;

/**
 * The sum of a block is linear: the CRC-32C of 64 KiB with neither initial nor final inversion,
 * where pages that are not present count as zeros. So the sum of a block to which pages are added
 * is the exclusive or of its old sum and that of the new pages alone.
 */
export interface Stored {
  readonly errno: number;
  /** For each block that the bytes touch, in order, the sum of these bytes alone. */
  readonly sums: Uint32Array;
}

export interface Overwritten {
  readonly errno: number;
  /**
   * For each block that the bytes touch, in order, the pages of the range whose bytes are other
   * ones now, or may be: all that were not left alone. Bit i is page i of the block. After an error
   * each of them may hold what it held, what was to be written, or some of both.
   */
  readonly changed: Uint16Array;
  /** The pages, all of them given, that are zeros now: holes, where the disk knows holes. */
  readonly zeros: Uint16Array;
  /** The sum of what the pages of `compare` held that were changed: of all their bytes. */
  readonly oldSums: Uint32Array;
}

export interface FileIo {
  /**
   * Writes the bytes of pages that were absent. `offset` is a multiple of 4096; the bytes may end
   * within a page only where the file ends. Pages that are all zeros are not written: `holes` says
   * whether they are holes already, or have to be made such. The file does not grow for zeros.
   *
   * After an error the pages may hold any bytes: they are holes to be trusted no longer.
   */
  store(fd: number, offset: number, bytes: Buffer, holes: 'trusted' | 'punch'): Promise<Stored>;
  /**
   * Writes bytes over whatever there is, at any offset. `compare` has a mask for each block that is
   * touched: pages that are left alone if they hold these bytes already, and whose old sum is told
   * if not. Other whole pages that are all zeros are made holes, and the file does not grow for
   * them. Of a page that is given in part only that part is compared, or written.
   *
   * What goes into one file by `store` and `overwrite` goes in one after the other, as asked for.
   */
  overwrite(fd: number, offset: number, bytes: Buffer, compare: Uint16Array): Promise<Overwritten>;
  /** pwrite of all of it. */
  write(fd: number, offset: number, bytes: Buffer): Promise<number>;
  /** pread of all of `into`; `got` is less where the file ends. */
  read(fd: number, offset: number, into: Buffer): Promise<{ errno: number; got: number }>;
  /**
   * The sums of the blocks from `firstBlock` on, one for each of `masks`: bit i of a mask says that
   * page i of the block is present. What lies beyond the file's end counts as zeros. One call keeps
   * one of few threads busy: a long row of blocks is asked for in portions.
   */
  sums(fd: number, firstBlock: number, masks: Uint16Array): Promise<Stored>;
  /** fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE); `length` is above 0. */
  punch(fd: number, offset: number, length: number): Promise<number>;
  truncate(fd: number, sizeBytes: number): Promise<number>;
  /** fdatasync(2) */
  sync(fd: number): Promise<number>;
  /** st_blocks in bytes, and st_size. */
  size(fd: number): Promise<{ errno: number; allocatedBytes: number; sizeBytes: number }>;
  /** flock(LOCK_EX | LOCK_NB), at once: EWOULDBLOCK when another holds it. */
  lock(fd: number): number;
  /**
   * Ends the threads; what has not begun resolves with ECANCELED, and so does what is asked for
   * later. What has begun is waited for, unless the disk hangs.
   */
  close(): Promise<void>;
}
