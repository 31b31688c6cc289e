/**
 * The file system by paths, as libfuse's high-level interface asks for it: every call walks its
 * path with lookups and gives them back, but for those that an open file keeps until its release.
 *
 * What a path interface cannot say is lost: the caller's credentials (all is done as this process),
 * names that are not UTF-8 (not listed, not found), open flags of a create, generations.
 *
 * Invariant: when no file is open, every lookup that was counted has been given back.
 */
import { assert } from '../base/assert.ts';
import type { HandleId, Ino, Name } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type {
  Attr,
  Caller,
  Entry,
  FileSystem,
  Payload,
  SetattrChanges,
} from '../vfs/operations.ts';
import { ROOT_INO } from '../vfs/operations.ts';
import type { FsStat } from '../vfs/ports.ts';
import { FileMode } from './abi.ts';
import { NAME_MAX_BYTES } from './wire.ts';

/** A result, or the negative errno of a failure: what libfuse's callbacks return. */
export type Negative = number;

/** struct stat, with times in milliseconds. */
export interface PathStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly ino: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

interface OpenFile {
  readonly handle: HandleId;
  /** Looked up once, as long as it is open. */
  readonly ino: Ino;
}

const O_RDWR_CREAT = 0o102;
const UNCHANGED_ID = 0xffffffff;
const NS_PER_MS = 1_000_000;

export class PathOperations {
  readonly #fs: FileSystem;
  readonly #caller: Caller;
  readonly #open = new Map<number, OpenFile>();
  #nextFd = 1;

  constructor(fs: FileSystem, caller: Caller) {
    this.#fs = fs;
    this.#caller = caller;
  }

  getattr(path: string): Promise<Result<PathStat, FsError>> {
    return this.#at(path, async (ino) => {
      const attr = await this.#fs.getattr(this.#caller, ino);
      return attr.ok ? ok(statOf(attr.value)) : attr;
    });
  }

  setattr(path: string, changes: SetattrChanges): Promise<Result<Attr, FsError>> {
    return this.#at(path, (ino) => this.#fs.setattr(this.#caller, ino, changes));
  }

  chown(path: string, uid: number, gid: number): Promise<Result<Attr, FsError>> {
    return this.setattr(path, {
      uid: uid === UNCHANGED_ID ? undefined : uid,
      gid: gid === UNCHANGED_ID ? undefined : gid,
    });
  }

  /** Times in ms since 1970. */
  utimens(path: string, atimeMs: number, mtimeMs: number): Promise<Result<Attr, FsError>> {
    return this.setattr(path, { atime: nsOf(atimeMs), mtime: nsOf(mtimeMs) });
  }

  ftruncate(fd: number, size: number): Promise<Result<Attr, FsError>> {
    const { ino, handle } = this.#file(fd);
    return this.#fs.setattr(this.#caller, ino, { size }, handle);
  }

  access(path: string, mask: number): Promise<Result<void, FsError>> {
    return this.#at(path, (ino) => this.#fs.access(this.#caller, ino, mask & 7));
  }

  readlink(path: string): Promise<Result<string, FsError>> {
    return this.#at(path, async (ino) => {
      const target = await this.#fs.readlink(this.#caller, ino);
      return target.ok ? ok(target.value.toString()) : target;
    });
  }

  statfs(path: string): Promise<Result<FsStat, FsError>> {
    return this.#at(path, (ino) => this.#fs.statfs(this.#caller, ino));
  }

  async readdir(path: string): Promise<Result<string[], FsError>> {
    return this.#at(path, async (ino) => {
      const opened = await this.#fs.opendir(this.#caller, ino);
      if (!opened.ok) return opened;
      const names: string[] = [];
      const listed = await this.#fs.readdir(this.#caller, opened.value, 0n, false, ({ name }) => {
        const text = name.toString();
        if (Buffer.from(text).equals(name)) names.push(text); // what is not UTF-8 has no path
        return true;
      });
      this.#fs.releasedir(opened.value);
      return listed.ok ? ok(names) : listed;
    });
  }

  mknod(path: string, mode: number, rdev: number): Promise<Result<void, FsError>> {
    return this.#make(path, (parent, name) =>
      this.#fs.mknod(this.#caller, parent, name, mode, rdev),
    );
  }

  mkdir(path: string, mode: number): Promise<Result<void, FsError>> {
    return this.#make(path, (parent, name) =>
      this.#fs.mkdir(this.#caller, parent, name, mode & 0o7777),
    );
  }

  symlink(target: string, path: string): Promise<Result<void, FsError>> {
    return this.#make(path, (parent, name) =>
      this.#fs.symlink(this.#caller, parent, name, Buffer.from(target)),
    );
  }

  link(from: string, to: string): Promise<Result<void, FsError>> {
    return this.#at(from, (ino) =>
      this.#make(to, (parent, name) => this.#fs.link(this.#caller, ino, parent, name)),
    );
  }

  unlink(path: string): Promise<Result<void, FsError>> {
    return this.#in(path, (parent, name) => this.#fs.unlink(this.#caller, parent, name));
  }

  rmdir(path: string): Promise<Result<void, FsError>> {
    return this.#in(path, (parent, name) => this.#fs.rmdir(this.#caller, parent, name));
  }

  rename(from: string, to: string): Promise<Result<void, FsError>> {
    return this.#in(from, (parent, name) =>
      this.#in(to, (newParent, newName) =>
        this.#fs.rename(this.#caller, parent, name, newParent, newName, 0),
      ),
    );
  }

  /** Answers the descriptor. */
  async open(path: string, flags: number): Promise<Result<number, FsError>> {
    const walked = await this.#walk(names(path));
    if (!walked.ok) return walked;
    const opened = await this.#fs.open(this.#caller, walked.value, flags);
    if (opened.ok) return ok(this.#keep(walked.value, opened.value.handle));
    this.#forget(walked.value);
    return opened;
  }

  create(path: string, mode: number): Promise<Result<number, FsError>> {
    return this.#in(path, async (parent, name) => {
      const made = await this.#fs.create(this.#caller, parent, name, mode & 0o7777, O_RDWR_CREAT);
      return made.ok ? ok(this.#keep(made.value.entry.ino, made.value.opened.handle)) : made;
    });
  }

  /** Reads into `into`; answers how much. */
  async read(fd: number, into: Buffer, offset: number): Promise<Result<number, FsError>> {
    const { handle } = this.#file(fd);
    const reply = await this.#fs.read(this.#caller, handle, offset, into.length);
    if (!reply.ok) return reply;
    switch (reply.value.kind) {
      case 'zeros':
        into.fill(0, 0, reply.value.length);
        return ok(reply.value.length);
      case 'bytes': {
        let at = 0;
        for (const part of reply.value.bytes) at += part.copy(into, at);
        reply.value.release();
        return ok(at);
      }
      case 'file': // comes from a cache, which this transport does without
        reply.value.release();
        return err(
          localError('EOPNOTSUPP', 'read', 'replies from files need the native transport'),
        );
    }
  }

  /** `bytes` are the caller's again when this settles. */
  async write(fd: number, bytes: Buffer, offset: number): Promise<Result<number, FsError>> {
    const payload: Payload = { bytes: Buffer.from(bytes), release: () => {} };
    return this.#fs.write(this.#caller, this.#file(fd).handle, offset, payload);
  }

  flush(fd: number): Promise<Result<void, FsError>> {
    return this.#fs.flush(this.#caller, this.#file(fd).handle);
  }

  fsync(fd: number, onlyBytes: boolean): Promise<Result<void, FsError>> {
    return this.#fs.fsync(this.#caller, this.#file(fd).handle, onlyBytes);
  }

  release(fd: number): void {
    const { ino, handle } = this.#file(fd);
    this.#open.delete(fd);
    this.#fs.release(handle);
    this.#forget(ino);
  }

  #keep(ino: Ino, handle: HandleId): number {
    const fd = this.#nextFd++;
    this.#open.set(fd, { ino, handle });
    return fd;
  }

  #file(fd: number): OpenFile {
    const file = this.#open.get(fd);
    assert(file !== undefined, `path: descriptor ${fd} is not open`);
    return file;
  }

  #forget(ino: Ino): void {
    if (ino !== ROOT_INO) this.#fs.forget(ino, 1);
  }

  /** The inode of a path, looked up once more: to be forgotten, but for the root. */
  async #walk(path: readonly Name[]): Promise<Result<Ino, FsError>> {
    let ino = ROOT_INO;
    for (const name of path) {
      if (name.length > NAME_MAX_BYTES) {
        this.#forget(ino);
        return err(localError('ENAMETOOLONG', 'lookup'));
      }
      const entry = await this.#fs.lookup(this.#caller, ino, name);
      this.#forget(ino);
      if (!entry.ok) return entry;
      if (entry.value.ino === 0) return err(localError('ENOENT', 'lookup'));
      ino = entry.value.ino;
    }
    return ok(ino);
  }

  async #at<T>(
    path: string,
    use: (ino: Ino) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, FsError>> {
    return this.#using(names(path), use);
  }

  /** The directory that a path's last name is in, and that name. */
  async #in<T>(
    path: string,
    use: (parent: Ino, name: Name) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, FsError>> {
    const all = names(path);
    const last = all.pop();
    if (last === undefined) return err(localError('EBUSY', 'path', 'the root itself'));
    if (last.length > NAME_MAX_BYTES) return err(localError('ENAMETOOLONG', 'path'));
    return this.#using(all, (parent) => use(parent, last));
  }

  async #make(
    path: string,
    make: (parent: Ino, name: Name) => Promise<Result<Entry, FsError>>,
  ): Promise<Result<void, FsError>> {
    const made = await this.#in(path, make);
    if (!made.ok) return made;
    this.#forget(made.value.ino);
    return ok(undefined);
  }

  async #using<T>(
    path: readonly Name[],
    use: (ino: Ino) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, FsError>> {
    const walked = await this.#walk(path);
    if (!walked.ok) return walked;
    try {
      return await use(walked.value);
    } finally {
      this.#forget(walked.value);
    }
  }
}

/** The negative errno of an error. */
export function negative(error: FsError): Negative {
  return -Errno[error.errno];
}

function names(path: string): Name[] {
  return path.split('/').flatMap((name) => (name === '' ? [] : [Buffer.from(name) as Name]));
}

function nsOf(ms: number): bigint {
  return BigInt(Math.round(ms)) * BigInt(NS_PER_MS);
}

function statOf({ attributes }: Attr): PathStat {
  const { mode, type, uid, gid, size, nlink, fileid, used } = attributes;
  return {
    mode: FileMode[type] | mode,
    uid,
    gid,
    size,
    nlink,
    ino: Number(fileid & 0xffffffffn),
    blksize: 4096,
    blocks: size > 0 ? Math.max(1, Math.ceil(used / 512)) : Math.ceil(used / 512),
    atime: Number(attributes.atimeNs) / NS_PER_MS,
    mtime: Number(attributes.mtimeNs) / NS_PER_MS,
    ctime: Number(attributes.ctimeNs) / NS_PER_MS,
  };
}
