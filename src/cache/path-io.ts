/**
 * Local files by name: what happens once per image or session. What happens per read or fill goes
 * by descriptor, through `FileIo`.
 *
 * Every promise resolves. Errors are errno numbers, 0 for none. What is opened is never a symbolic
 * link: nobody else can put one there, and so none has a meaning.
 */
import { close, constants, fsync, open } from 'node:fs';
import { lstat, mkdir, open as openHandle, readdir, rename, rmdir, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { Errno } from '../errors/errno.ts';

export interface Status {
  readonly errno: number;
  readonly kind: 'file' | 'directory' | 'other';
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
  readonly sizeBytes: number;
  /** st_blocks in bytes. */
  readonly allocatedBytes: number;
  /** ns since 1970 */
  readonly mtimeNs: bigint;
}

export interface PathIo {
  /** For reading and writing. 'create' makes a missing file (0600), 'empty' cuts it to 0 too. */
  open(path: string, how: 'existing' | 'create' | 'empty'): Promise<{ errno: number; fd: number }>;
  close(fd: number): Promise<void>;
  /** Mode 0700; EEXIST when there is anything. */
  makeDirectory(path: string): Promise<number>;
  /** lstat(2) */
  status(path: string): Promise<Status>;
  list(path: string): Promise<{ errno: number; names: string[] }>;
  /** A whole file, of at most `mostBytes`: EFBIG beyond. */
  read(path: string, mostBytes: number): Promise<{ errno: number; bytes: Buffer }>;
  rename(from: string, to: string): Promise<number>;
  remove(path: string): Promise<number>;
  removeDirectory(path: string): Promise<number>;
  /** fsync(2) of a file or directory. */
  sync(path: string): Promise<number>;
}

const openFd = promisify(open);
const closeFd = promisify(close);
const syncFd = promisify(fsync);

const openFlags = {
  existing: constants.O_RDWR | constants.O_NOFOLLOW,
  create: constants.O_RDWR | constants.O_NOFOLLOW | constants.O_CREAT,
  empty: constants.O_RDWR | constants.O_NOFOLLOW | constants.O_CREAT | constants.O_TRUNC,
} as const;

export const nodePathIo: PathIo = {
  async open(path, how) {
    try {
      return { errno: 0, fd: await openFd(path, openFlags[how], 0o600) };
    } catch (error) {
      return { errno: errnoOf(error), fd: -1 };
    }
  },
  async close(fd) {
    // Whatever it answers, the descriptor is gone (close(2), Linux).
    await closeFd(fd).catch(() => undefined);
  },
  makeDirectory: (path) => tried(mkdir(path, 0o700)),
  async status(path) {
    try {
      const stat = await lstat(path, { bigint: true });
      return {
        errno: 0,
        kind: stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other',
        uid: Number(stat.uid),
        mode: Number(stat.mode) & 0o7777,
        sizeBytes: Number(stat.size),
        allocatedBytes: Number(stat.blocks) * 512,
        mtimeNs: stat.mtimeNs,
      };
    } catch (error) {
      const errno = errnoOf(error);
      const nothing = { uid: -1, mode: 0, sizeBytes: 0, allocatedBytes: 0, mtimeNs: 0n };
      return { errno, kind: 'other', ...nothing };
    }
  },
  async list(path) {
    try {
      return { errno: 0, names: await readdir(path) };
    } catch (error) {
      return { errno: errnoOf(error), names: [] };
    }
  },
  async read(path, mostBytes) {
    try {
      const handle = await openHandle(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        const { size } = await handle.stat();
        if (size > mostBytes) return { errno: Errno.EFBIG, bytes: Buffer.alloc(0) };
        return { errno: 0, bytes: await handle.readFile() };
      } finally {
        await handle.close();
      }
    } catch (error) {
      return { errno: errnoOf(error), bytes: Buffer.alloc(0) };
    }
  },
  rename: (from, to) => tried(rename(from, to)),
  remove: (path) => tried(unlink(path)),
  removeDirectory: (path) => tried(rmdir(path)),
  async sync(path) {
    try {
      const fd = await openFd(path, constants.O_RDONLY);
      try {
        await syncFd(fd);
      } finally {
        await closeFd(fd);
      }
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  },
};

async function tried(call: Promise<unknown>): Promise<number> {
  try {
    await call;
    return 0;
  } catch (error) {
    return errnoOf(error);
  }
}

/** Node has the kernel's number, negative. */
function errnoOf(error: unknown): number {
  const { errno } = error as NodeJS.ErrnoException;
  return errno === undefined || errno >= 0 ? Errno.EIO : -errno;
}
