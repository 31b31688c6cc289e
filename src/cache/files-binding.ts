/**
 * The part of the addon that the cache uses, typed. It checks nothing: what is passed here has
 * been checked.
 *
 * A `ticket` is a number above 0 of the caller's choice that comes back among the outcomes. Memory
 * that goes with it must be held, and stay as it is, until then.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../base/result.ts';

export interface FilesBinding {
  readonly Files: new (threads: number, listener: (outcomes: Outcomes) => void) => BindingFiles;
}

/** In fours: ticket, errno (0 for none), and two values whose meaning is the operation's. */
export type Outcomes = readonly number[];

export interface BindingFiles {
  /** `sums` has an entry for each block that is touched, 0 so far. */
  store(
    fd: number,
    offset: number,
    bytes: Buffer,
    punch: boolean,
    sums: Uint32Array,
    ticket: number,
  ): void;
  /**
   * `blocks` has two words for each block that is touched: the mask of pages to compare, then 0.
   * They become `changed`, with `zeros` in the upper half, and the sum of what was changed.
   */
  overwrite(fd: number, offset: number, bytes: Buffer, blocks: Uint32Array, ticket: number): void;
  write(fd: number, offset: number, bytes: Buffer, ticket: number): void;
  /** First value: the count of bytes that were read. */
  read(fd: number, offset: number, into: Buffer, ticket: number): void;
  /** `sums` is as long as `masks`, and 0 so far; the masks are copied. */
  sums(fd: number, firstBlock: number, masks: Uint16Array, sums: Uint32Array, ticket: number): void;
  punch(fd: number, offset: number, length: number, ticket: number): void;
  truncate(fd: number, sizeBytes: number, ticket: number): void;
  sync(fd: number, ticket: number): void;
  /** The values: bytes allocated, and the file's size. */
  size(fd: number, ticket: number): void;
  /** errno, at once */
  lock(fd: number): number;
  /**
   * Nothing may be called after this. `clean` is false when a thread hung in the kernel and was
   * left behind. What is not among the last outcomes was not begun, or hangs.
   */
  stop(): Promise<[clean: boolean, outcomes: Outcomes]>;
}

/** The addon, or a sentence that says why there is none and what to do. */
export function loadFilesBinding(): Result<FilesBinding, string> {
  const require = createRequire(import.meta.url);
  // The same from src/cache/ and from dist/cache/.
  const folder = fileURLToPath(new URL('../../native-bindings', import.meta.url));
  let reason = 'it was built from older sources';
  try {
    const nodeGypBuild = require('node-gyp-build') as (folder: string) => Partial<FilesBinding>;
    const { Files } = nodeGypBuild(folder);
    if (Files !== undefined) return ok({ Files });
  } catch (error) {
    reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
  }
  return err(
    `the gvfs addon cannot be loaded (${reason}); build it with npm run setup in a checkout, ` +
      `or else with: cd ${folder} && npx node-gyp rebuild`,
  );
}
