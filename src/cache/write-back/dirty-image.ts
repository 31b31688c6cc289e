/**
 * What the write-back engine needs of an image: the engine decides what is sent when, the image
 * keeps the state of its pages.
 *
 *                 write                take               settle
 *   absent/clean -------> dirty --------------> sending --------------> clean
 *                           ^                     |  | write
 *                           '----- putBack -------'  '--> sending, rewritten --settle--> dirty
 *
 * C5  A page that is written while it is being sent stays dirty whatever the answer is. A page is
 *     clean only after a WRITE and a COMMIT that answered with one verifier.
 */
import type { Credentials } from '../../base/credentials.ts';
import type { Result } from '../../base/result.ts';
import type { FsError } from '../../errors/fs-error.ts';
import type { Attributes, ImageSending } from '../../vfs/ports.ts';
import type { PageRange } from '../page-range.ts';

/** Dirty pages on their way to the server. */
export interface SendingRun {
  readonly range: PageRange;
  /** In bytes; the length is clipped to the file's end. */
  readonly offset: number;
  readonly length: number;
}

export interface DirtyImage {
  readonly fileId: string;
  /** From the export's root: a hint. */
  readonly path: string;
  readonly sending: ImageSending;
  /** Who wrote last. */
  readonly as: Credentials;
  /** Of dirty pages, those being sent included. */
  readonly dirtyBytes: number;
  /** Monotonic ms of the oldest unsent write; undefined: nothing is unsent. */
  readonly dirtySinceMs: number | undefined;
  /** Something other than pages is unsent: the size or the mtime. */
  readonly hasUnsentAttributes: boolean;
  /** The server's file was changed by another (C6): nothing is sent. */
  readonly inConflict: boolean;
  /** Nothing is being sent, as far as the disk knows: what the server has is compared first. */
  readonly isResting: boolean;

  /**
   * C6: compares what the server has with what the image is of, and notes durably that WRITEs are
   * about to go out. 'conflict': another has changed the file in an exclusive session; nothing may
   * be sent then. An error of the local disk is answered as one.
   */
  beginSending(found: Attributes): Promise<Result<'may send' | 'conflict', FsError>>;
  /**
   * The next dirty runs from page `from` on that are not being sent, ascending; they are now. None:
   * there is no such page, or the image is in conflict.
   */
  take(from: number, maxRunBytes: number, maxRuns: number): SendingRun[];
  /** The run's bytes as they are now. */
  read(run: SendingRun): Promise<Result<Buffer, FsError>>;
  /** The server does not have it: dirty again. */
  putBack(run: SendingRun): void;
  /** The server has it durably: its pages are clean, but for those written meanwhile. */
  settle(runs: readonly SendingRun[]): Promise<void>;
  /**
   * Nothing is being sent any more; `attributes`: what the server has then, all of it ours.
   * Durably notes of which content the clean pages are, and forgets the size and mtime that were
   * unsent if nothing is dirty. undefined: it is not known, and the next `beginSending` finds out.
   * Err: the local disk may tell the next daemon to send again what was sent: that is no success.
   */
  endSending(attributes: Attributes | undefined): Promise<Result<void, FsError>>;
  /** What `ImageSending.finish` is to set. */
  local(): { readonly size: number; readonly mtimeNs: bigint };
  /** It could not be sent: for `LocalWrites.failure`. */
  failed(error: FsError): void;
}
