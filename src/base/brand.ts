/**
 * Branded types: values that look alike to the machine and must never be swapped.
 */

declare const brand: unique symbol;

export type Brand<T, B extends string> = T & { readonly [brand]: B };

/** An NFSv3 file handle (RFC 1813, section 2.5, nfs_fh3): 1 to 64 opaque bytes of the server's. */
export type FileHandle = Brand<Buffer, 'FileHandle'>;

/** The kernel's node id of an inode (linux/fuse.h, nodeid): 1 is the root. Below 2^53. */
export type Ino = Brand<number, 'Ino'>;

/** The kernel's id of an open file or directory (linux/fuse.h, fh). Below 2^53, never reused. */
export type HandleId = Brand<number, 'HandleId'>;

/** One name in a directory: 1 to 255 bytes, no '/' and no NUL, never '.' or '..'. Not text. */
export type Name = Brand<Buffer, 'Name'>;
