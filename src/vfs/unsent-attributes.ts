/**
 * What programs see of a file that has writes which only this host has (C10): the size, the mtime
 * and the blocks are ours, and the ctime is at least as new.
 *
 * They lie over what the server says, in each answer anew. So no answer of the server, whenever it
 * was asked, can undo them, and what is known of the server's file stays what the server said: it
 * tells whose change it was, and of which content the cache is.
 */
import type { Attributes, Unsent } from './ports.ts';

/** st_blocks are of so many bytes. */
const BLOCK_BYTES = 512;

export function withUnsent(server: Attributes, unsent: Unsent): Attributes {
  // What another host has written behind our end is not hidden; what is ours is not cut.
  const size = Math.max(server.size, unsent.size);
  const wholeBlocks = Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  const grown = Math.min(server.used + unsent.bytes, wholeBlocks);
  const ctimeNs = unsent.mtimeNs > server.ctimeNs ? unsent.mtimeNs : server.ctimeNs;
  const used = atLeastOneBlock(size, Math.max(server.used, grown));
  return { ...server, size, used, mtimeNs: unsent.mtimeNs, ctimeNs };
}

/** A file with bytes but without blocks would be archived as zeros (tar -S). */
export function atLeastOneBlock(size: number, used: number): number {
  return size > 0 ? Math.max(used, BLOCK_BYTES) : used;
}
