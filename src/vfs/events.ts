/**
 * What the file system tells the outside without being asked. Subscribers must not throw and must
 * not call back into the file system.
 */
import type { Ino, Name } from '../base/brand.ts';
import type { FsError } from '../errors/fs-error.ts';

export interface VfsEvents {
  /**
   * Another client changed the inode: the kernel's attributes of it are old. To be passed on as an
   * attribute-only invalidation, so that an open after another client's close sees the new size.
   */
  changedByOthers?(ino: Ino): void;
  /**
   * Not everybody may search the directory any more: names that the kernel was given of it would
   * still serve everybody. To be passed on as an entry invalidation of each.
   */
  namesRevoked?(directory: Ino, names: readonly Name[]): void;
  /** The server no longer knows the inode's handle, or has only what an open file left of it. */
  stale?(ino: Ino): void;
  /** The server's write verifier changed: acknowledged writes are sent again. */
  resending?(ino: Ino, bytes: number): void;
  /** Acknowledged bytes could not be made durable yet; they are kept and tried again. */
  writeBackFailed?(ino: Ino, bytes: number, error: FsError): void;
  /** Acknowledged bytes were given up: the next fsync or close of each open handle fails. */
  writesLost?(ino: Ino, bytes: number, error: FsError): void;
  /** The `.nfs` file of a deleted open file could not be removed from the server. */
  sillyNameLeft?(ino: Ino, name: Name, error: FsError): void;
  /** The first program opens a file; the last one that had it open has closed it. */
  fileOpened?(ino: Ino, path: string, writable: boolean): void;
  fileClosed?(ino: Ino, path: string): void;
  /** A file has unsent writes; the server has all of it again. */
  dirty?(ino: Ino, path: string): void;
  clean?(ino: Ino, path: string): void;
  /** Another has changed a file with unsent writes: they wait for a decision. */
  conflict?(ino: Ino, path: string): void;
  /** The file of these unsent writes is gone from the server: they were dropped. */
  unsentDropped?(ino: Ino, path: string, bytes: number): void;
  /** Unsent writes of an earlier daemon whose file is gone: they stay where they are. */
  recoveredGone?(path: string, bytes: number, error: FsError): void;
  /** The server has no READDIRPLUS: READDIR from now on. */
  readdirplusMissing?(): void;
}
