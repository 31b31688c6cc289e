/**
 * Names of directories in the cache. They are made of what identifies an export and a file for the
 * server, never of names that people gave: hashes fit every local file system, and the whole NFS
 * file handle is hashed since servers use inode numbers again.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from '../base/brand.ts';

const ID_BYTES = 16;

/** 32 hex digits. `server` is `host:port` as mounted, `exportPath` begins with a slash. */
export function exportIdOf(server: string, exportPath: string): string {
  return shortHash(`${server}:${exportPath}`);
}

/** 32 hex digits. */
export function fileIdOf(file: FileHandle): string {
  return shortHash(file);
}

/** Whether a name in an export's directory can be a file id: others are not images. */
export function isFileId(name: string): boolean {
  return /^[0-9a-f]{32}$/.test(name);
}

function shortHash(of: string | Buffer): string {
  return createHash('sha256').update(of).digest().subarray(0, ID_BYTES).toString('hex');
}
