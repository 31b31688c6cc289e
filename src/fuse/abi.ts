/**
 * The kernel's FUSE protocol, version 7 (linux/fuse.h), as far as we speak it: our own copy, since
 * distributions' headers are older than the kernels we meet. Every constant has the kernel's name.
 *
 * Spoken: minor 31 (Linux 5.4) to 45 (Linux 6.18). Every number is little-endian on the machines
 * that we run on (x86-64, arm64).
 */

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor version whose layouts are known here. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** The oldest that has all we need: FUSE_MAX_PAGES (28), PARALLEL_DIROPS (25), batched forgets. */
export const OLDEST_MINOR_VERSION = 31;

/** enum fuse_opcode */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

export type OpcodeName = keyof typeof Opcode;

/** INIT flags, bits 0 to 31 (`flags` of fuse_init_in and fuse_init_out). */
export const InitFlag = {
  FUSE_ASYNC_READ: 2 ** 0,
  FUSE_POSIX_LOCKS: 2 ** 1,
  FUSE_ATOMIC_O_TRUNC: 2 ** 3,
  FUSE_EXPORT_SUPPORT: 2 ** 4,
  FUSE_BIG_WRITES: 2 ** 5,
  FUSE_DONT_MASK: 2 ** 6,
  FUSE_FLOCK_LOCKS: 2 ** 10,
  FUSE_AUTO_INVAL_DATA: 2 ** 12,
  FUSE_DO_READDIRPLUS: 2 ** 13,
  FUSE_READDIRPLUS_AUTO: 2 ** 14,
  FUSE_ASYNC_DIO: 2 ** 15,
  FUSE_WRITEBACK_CACHE: 2 ** 16,
  FUSE_NO_OPEN_SUPPORT: 2 ** 17,
  FUSE_PARALLEL_DIROPS: 2 ** 18,
  FUSE_HANDLE_KILLPRIV: 2 ** 19,
  FUSE_MAX_PAGES: 2 ** 22,
  FUSE_CACHE_SYMLINKS: 2 ** 23,
  FUSE_EXPLICIT_INVAL_DATA: 2 ** 25,
  FUSE_SETXATTR_EXT: 2 ** 29,
  FUSE_INIT_EXT: 2 ** 30,
} as const;

/** INIT flags, bits 32 to 63 (`flags2`), believed only with FUSE_INIT_EXT. */
export const InitFlag2 = {
  FUSE_CREATE_SUPP_GROUP: 2 ** 2,
  FUSE_HAS_EXPIRE_ONLY: 2 ** 3,
  FUSE_DIRECT_IO_ALLOW_MMAP: 2 ** 4,
  FUSE_PASSTHROUGH: 2 ** 5,
  FUSE_HAS_RESEND: 2 ** 7,
} as const;

/** `open_flags` of fuse_open_out. */
export const OpenFlag = {
  FOPEN_DIRECT_IO: 1 << 0,
  FOPEN_KEEP_CACHE: 1 << 1,
  FOPEN_PASSTHROUGH: 1 << 7,
} as const;

/** `valid` of fuse_setattr_in. */
export const SetattrValid = {
  FATTR_MODE: 1 << 0,
  FATTR_UID: 1 << 1,
  FATTR_GID: 1 << 2,
  FATTR_SIZE: 1 << 3,
  FATTR_ATIME: 1 << 4,
  FATTR_MTIME: 1 << 5,
  FATTR_FH: 1 << 6,
  FATTR_ATIME_NOW: 1 << 7,
  FATTR_MTIME_NOW: 1 << 8,
} as const;

export const FUSE_GETATTR_FH = 1 << 0;
export const FUSE_FSYNC_FDATASYNC = 1 << 0;

/** enum fuse_notify_code */
export const NotifyCode = {
  FUSE_NOTIFY_INVAL_INODE: 2,
  FUSE_NOTIFY_INVAL_ENTRY: 3,
  FUSE_NOTIFY_STORE: 4,
} as const;

/** Sizes of the fixed structures, in bytes. */
export const Size = {
  fuse_in_header: 40,
  fuse_out_header: 16,
  fuse_write_in: 40,
  fuse_attr: 88,
  fuse_entry_out: 128,
  fuse_attr_out: 104,
  fuse_open_out: 16,
  fuse_write_out: 8,
  fuse_statfs_out: 80,
  fuse_init_out: 64,
  fuse_lseek_out: 8,
  fuse_forget_one: 16,
  fuse_dirent: 24,
} as const;

/** st_mode's type bits (linux/stat.h). */
export const FileMode = {
  socket: 0o140000,
  symlink: 0o120000,
  regular: 0o100000,
  block: 0o060000,
  directory: 0o040000,
  character: 0o020000,
  fifo: 0o010000,
} as const;
