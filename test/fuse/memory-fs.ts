/**
 * A file system in memory, for tests of a transport: all that a kernel can ask of ours, with no
 * network, no caches and no permissions.
 *
 * Some names make trouble on purpose: what is done to a file whose name begins with `hang-` waits
 * for ever (`hang-lookup`, `hang-read`, `hang-write`, `hang-fsync`), and `throw-read` breaks an
 * invariant; a LOOKUP of `slow` takes a second. `zeros` and `local` are 8 MiB whose READs are
 * answered as zeros and from a local file. So are those of `unreadable` and `cut`, whose local file
 * cannot be read, or ends too early: instead, the first is answered with bytes that each are the
 * errno, the other with ESTALE. With a `backing`, the kernel reads `local` by itself.
 */
import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvariantError } from '../../src/base/assert.ts';
import type { HandleId, Ino, Name } from '../../src/base/brand.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import type { ErrnoName } from '../../src/errors/errno.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';
import type {
  Attr,
  Caller,
  Dirent,
  Entry,
  FileSystem,
  NegativeEntry,
  Opened,
  Outcome,
  Payload,
  ReadReply,
  SetattrChanges,
} from '../../src/vfs/operations.ts';
import type { Attributes, Backing, FileType, FsStat } from '../../src/vfs/ports.ts';

export const SPECIAL_BYTES = 8 << 20;
const O_ACCMODE = 3;

interface Node {
  readonly ino: Ino;
  readonly type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: { major: number; minor: number };
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  /** A file's bytes, in a buffer that may be longer than the file. */
  bytes: Buffer;
  size: number;
  target: Buffer;
  /** A directory's names, as latin1 strings, in order of creation. */
  children: Map<string, Node>;
  parent: Node | undefined;
  lookups: number;
  trouble: string;
}

export interface MemoryOptions {
  readonly localPath?: string | undefined;
  readonly validMs?: number;
  readonly keepCache?: boolean;
}

const never = <T>(): Outcome<T> => new Promise(() => {});

export class MemoryFs implements FileSystem {
  readonly root: Node;
  closed = false;
  /** Where the kernel is given `local`, as soon as there is one. */
  backing: Backing | undefined;
  /** READs of `local` that came to us. */
  localReads = 0;
  #passed: { readonly id: number; opens: number } | undefined;
  readonly #validMs: number;
  readonly #keepCache: boolean;
  readonly #nodes = new Map<Ino, Node>();
  readonly #handles = new Map<HandleId, { node: Node; listing?: [string, Node][] }>();
  #nextIno = 1;
  #nextHandle = 1;
  #localFd = -1;
  #directoryFd = -1;
  #lent = 0;

  /**
   * `localPath`: a file of SPECIAL_BYTES that answers the READs of `local`. `validMs`: how long the
   * kernel may believe names and attributes. `keepCache`: pages outlive the last close.
   */
  constructor({ localPath, validMs = 1000, keepCache = false }: MemoryOptions = {}) {
    this.#validMs = validMs;
    this.#keepCache = keepCache;
    this.root = this.#make('directory', 0o755, { uid: 0, gid: 0, groups: [] });
    this.root.nlink = 2;
    this.#special('zeros', SPECIAL_BYTES);
    if (localPath !== undefined) {
      this.#localFd = openSync(localPath, 'r');
      this.#directoryFd = openSync(dirname(localPath), 'r');
      for (const name of ['local', 'unreadable', 'cut']) this.#special(name, SPECIAL_BYTES);
    }
    for (const trouble of [
      'hang-lookup',
      'hang-read',
      'hang-write',
      'hang-fsync',
      'throw-read',
      'slow',
    ]) {
      this.#special(trouble, 4 << 20);
    }
  }

  /** What is still held: must be 1 (the root) and 0 when every forget and release has come. */
  get held(): { nodes: number; handles: number; replies: number } {
    let nodes = 0;
    for (const node of this.#nodes.values()) if (node.lookups > 0) nodes++;
    return { nodes: nodes + 1, handles: this.#handles.size, replies: this.#lent };
  }

  inoOf(name: string): Ino {
    const node = this.root.children.get(name);
    if (node === undefined) throw new InvariantError(`memory: no ${name}`);
    return node.ino;
  }

  /** Writes a file of the root behind the kernel's back; it is made if it is not there. */
  poke(name: string, text: string): Ino {
    let node = this.root.children.get(name);
    if (node === undefined) {
      node = this.#make('regular', 0o644, { uid: 0, gid: 0, groups: [] });
      this.root.children.set(name, node);
    }
    node.bytes = Buffer.from(text);
    node.size = node.bytes.length;
    node.mtimeNs = nowNs();
    return node.ino;
  }

  async lookup(_c: Caller, parent: Ino, name: Name): Outcome<Entry | NegativeEntry> {
    const node = this.#node(parent).children.get(name.toString('latin1'));
    if (node === undefined) return ok({ ino: 0, entryValidMs: this.#validMs });
    if (node.trouble === 'hang-lookup') return never();
    if (node.trouble === 'slow') await sleep(1000);
    return ok(this.#entry(node));
  }

  forget(ino: Ino, lookups: number): void {
    const node = this.#nodes.get(ino);
    if (node === undefined) return;
    node.lookups -= lookups;
    this.#drop(node);
  }

  async getattr(_c: Caller, ino: Ino): Outcome<Attr> {
    return ok(this.#attr(this.#node(ino)));
  }

  async setattr(_c: Caller, ino: Ino, changes: SetattrChanges): Outcome<Attr> {
    const node = this.#node(ino);
    const now = nowNs();
    if (changes.mode !== undefined) node.mode = changes.mode;
    if (changes.uid !== undefined) node.uid = changes.uid;
    if (changes.gid !== undefined) node.gid = changes.gid;
    if (changes.atime !== undefined) node.atimeNs = changes.atime === 'now' ? now : changes.atime;
    if (changes.size !== undefined) {
      this.#grow(node, changes.size);
      node.bytes.fill(0, changes.size);
      node.size = changes.size;
      node.mtimeNs = now;
    }
    if (changes.mtime !== undefined) node.mtimeNs = changes.mtime === 'now' ? now : changes.mtime;
    node.ctimeNs = now;
    return ok(this.#attr(node));
  }

  async readlink(_c: Caller, ino: Ino): Outcome<Buffer> {
    return ok(this.#node(ino).target);
  }

  async access(): Outcome<void> {
    return ok(undefined);
  }

  async mknod(c: Caller, parent: Ino, name: Name, mode: number, rdev: number): Outcome<Entry> {
    const type = TYPE_OF_MODE.get(mode & 0o170000) ?? 'regular';
    return this.#add(parent, name, () => {
      const node = this.#make(type, mode & 0o7777, c.credentials);
      node.rdev = {
        major: (rdev >>> 8) & 0xfff,
        minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00),
      };
      return node;
    });
  }

  async mkdir(c: Caller, parent: Ino, name: Name, mode: number): Outcome<Entry> {
    return this.#add(parent, name, (directory) => {
      const node = this.#make('directory', mode, c.credentials);
      node.nlink = 2;
      node.parent = directory;
      directory.nlink++;
      return node;
    });
  }

  async symlink(c: Caller, parent: Ino, name: Name, target: Buffer): Outcome<Entry> {
    return this.#add(parent, name, () => {
      const node = this.#make('symlink', 0o777, c.credentials);
      node.target = target;
      node.size = target.length;
      return node;
    });
  }

  async link(_c: Caller, ino: Ino, newParent: Ino, newName: Name): Outcome<Entry> {
    return this.#add(newParent, newName, () => {
      const node = this.#node(ino);
      node.nlink++;
      node.ctimeNs = nowNs();
      return node;
    });
  }

  async unlink(_c: Caller, parent: Ino, name: Name): Outcome<void> {
    const directory = this.#node(parent);
    const node = directory.children.get(name.toString('latin1'));
    if (node === undefined) return failed('ENOENT');
    if (node.type === 'directory') return failed('EISDIR');
    this.#removeName(directory, name, node);
    return ok(undefined);
  }

  async rmdir(_c: Caller, parent: Ino, name: Name): Outcome<void> {
    const directory = this.#node(parent);
    const node = directory.children.get(name.toString('latin1'));
    if (node === undefined) return failed('ENOENT');
    if (node.type !== 'directory') return failed('ENOTDIR');
    if (node.children.size > 0) return failed('ENOTEMPTY');
    this.#removeName(directory, name, node);
    return ok(undefined);
  }

  async rename(
    _c: Caller,
    parent: Ino,
    name: Name,
    newParent: Ino,
    newName: Name,
    flags: number,
  ): Outcome<void> {
    const [from, to] = [this.#node(parent), this.#node(newParent)];
    const node = from.children.get(name.toString('latin1'));
    if (node === undefined) return failed('ENOENT');
    const replaced = to.children.get(newName.toString('latin1'));
    if ((flags & ~1) !== 0) return failed('EINVAL');
    if (replaced !== undefined && flags === 1) return failed('EEXIST');
    if (replaced === node) return ok(undefined);
    if (replaced !== undefined) {
      if (replaced.children.size > 0) return failed('ENOTEMPTY');
      this.#removeName(to, newName, replaced);
    }
    from.children.delete(name.toString('latin1'));
    to.children.set(newName.toString('latin1'), node);
    if (node.type === 'directory') {
      from.nlink--;
      to.nlink++;
      node.parent = to;
    }
    from.mtimeNs = nowNs();
    to.mtimeNs = nowNs();
    return ok(undefined);
  }

  async create(
    c: Caller,
    parent: Ino,
    name: Name,
    mode: number,
  ): Outcome<{ entry: Entry; opened: Opened }> {
    const added = this.#add(parent, name, () => this.#make('regular', mode, c.credentials));
    if (!added.ok) return added;
    return ok({ entry: added.value, opened: this.#open(this.#node(added.value.ino)) });
  }

  async open(_c: Caller, ino: Ino, flags: number): Outcome<Opened> {
    const node = this.#node(ino);
    if (node.type === 'directory' && (flags & O_ACCMODE) !== 0) return failed('EISDIR');
    return ok(this.#open(node));
  }

  read(
    _c: Caller,
    handle: HandleId,
    offset: number,
    length: number,
  ): Outcome<ReadReply> | Result<ReadReply, FsError> {
    const { node } = this.#handle(handle);
    if (node.trouble === 'hang-read') return never();
    if (node.trouble === 'throw-read') throw new InvariantError('asked to break');
    const n = Math.max(0, Math.min(length, node.size - offset));
    if (node.trouble === 'zeros') return ok({ kind: 'zeros', length: n });
    if (node.trouble === 'local') {
      this.localReads++;
      return this.#lend(this.#localFd, offset, n);
    }
    if (node.trouble === 'unreadable') return this.#lend(this.#directoryFd, offset, n);
    if (node.trouble === 'cut') return this.#lend(this.#localFd, SPECIAL_BYTES - n / 2, n);
    return this.#bytes(node.bytes.subarray(offset, offset + n));
  }

  #lend(fd: number, offset: number, length: number): Result<ReadReply, FsError> {
    this.#lent++;
    return ok({
      kind: 'file',
      fd,
      offset,
      length,
      release: () => {
        this.#lent--;
      },
      instead: async (errno) =>
        fd === this.#directoryFd ? this.#bytes(Buffer.alloc(length, errno)) : failed('ESTALE'),
    });
  }

  #bytes(bytes: Buffer): Result<ReadReply, FsError> {
    this.#lent++;
    return ok({
      kind: 'bytes',
      bytes: [bytes],
      release: () => {
        this.#lent--;
      },
    });
  }

  async write(_c: Caller, handle: HandleId, offset: number, payload: Payload): Outcome<number> {
    const { node } = this.#handle(handle);
    if (node.trouble === 'hang-write') return never();
    const { length } = payload.bytes;
    this.#grow(node, offset + length);
    payload.bytes.copy(node.bytes, offset);
    payload.release();
    node.size = Math.max(node.size, offset + length);
    node.mtimeNs = nowNs();
    node.ctimeNs = node.mtimeNs;
    return ok(length);
  }

  async flush(): Outcome<void> {
    return ok(undefined);
  }

  async fsync(_c: Caller, handle: HandleId): Outcome<void> {
    return this.#handle(handle).node.trouble === 'hang-fsync' ? never() : ok(undefined);
  }

  release(handle: HandleId): void {
    const { node } = this.#handle(handle);
    this.#handles.delete(handle);
    if (node.trouble === 'local' && this.#passed !== undefined && --this.#passed.opens === 0) {
      this.backing?.close(this.#passed.id);
      this.#passed = undefined;
    }
  }

  async lseek(_c: Caller, handle: HandleId, offset: number, whence: number): Outcome<number> {
    const { node } = this.#handle(handle);
    if (offset >= node.size) return failed('ENXIO');
    return ok(whence === 3 ? offset : node.size);
  }

  async opendir(_c: Caller, ino: Ino): Outcome<HandleId> {
    return ok(this.#open(this.#node(ino)).handle);
  }

  async readdir(
    _c: Caller,
    handle: HandleId,
    offset: bigint,
    plus: boolean,
    take: (dirent: Dirent) => boolean,
  ): Outcome<void> {
    const open = this.#handle(handle);
    if (open.listing === undefined || offset === 0n) open.listing = [...open.node.children];
    const { node } = open;
    const dots: [string, Node][] = [
      ['.', node],
      ['..', node.parent ?? node],
    ];
    const all = [...dots, ...open.listing];
    for (let i = Number(offset); i < all.length; i++) {
      const [name, child] = all[i] ?? ['.', node];
      const entry = plus && i >= 2 ? this.#entry(child) : undefined;
      const accepted = take({
        name: Buffer.from(name, 'latin1'),
        ino: child.ino,
        type: child.type,
        nextOffset: BigInt(i + 1),
        entry,
      });
      if (!accepted) {
        if (entry !== undefined) this.forget(entry.ino, 1);
        break;
      }
    }
    return ok(undefined);
  }

  releasedir(handle: HandleId): void {
    this.release(handle);
  }

  async fsyncdir(): Outcome<void> {
    return ok(undefined);
  }

  async statfs(): Outcome<FsStat> {
    return ok({
      totalBytes: 2 ** 40,
      freeBytes: 2 ** 39,
      availableBytes: 2 ** 38,
      totalFiles: 1000,
      freeFiles: 500,
      availableFiles: 500,
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const fd of [this.#localFd, this.#directoryFd]) if (fd >= 0) closeSync(fd);
  }

  #node(ino: Ino): Node {
    const node = this.#nodes.get(ino);
    if (node === undefined) throw new InvariantError(`memory: no node ${ino}`);
    return node;
  }

  #handle(handle: HandleId): { node: Node; listing?: [string, Node][] } {
    const open = this.#handles.get(handle);
    if (open === undefined) throw new InvariantError(`memory: no handle ${handle}`);
    return open;
  }

  #open(node: Node): Opened {
    const handle = this.#nextHandle++ as HandleId;
    this.#handles.set(handle, { node });
    const keepCache = this.#keepCache;
    if (node.trouble !== 'local' || this.backing === undefined) return { handle, keepCache };
    if (this.#passed === undefined) {
      const id = this.backing.open(this.#localFd);
      if (id === undefined) return { handle, keepCache };
      this.#passed = { id, opens: 0 };
    }
    this.#passed.opens++;
    return { handle, keepCache, backingId: this.#passed.id };
  }

  #make(type: FileType, mode: number, owner: Caller['credentials']): Node {
    const now = nowNs();
    const node: Node = {
      ino: this.#nextIno++ as Ino,
      type,
      mode,
      uid: owner.uid,
      gid: owner.gid,
      nlink: 1,
      rdev: { major: 0, minor: 0 },
      atimeNs: now,
      mtimeNs: now,
      ctimeNs: now,
      bytes: Buffer.alloc(0),
      size: 0,
      target: Buffer.alloc(0),
      children: new Map(),
      parent: undefined,
      lookups: 0,
      trouble: '',
    };
    this.#nodes.set(node.ino, node);
    return node;
  }

  #special(name: string, size: number): void {
    const node = this.#make('regular', 0o666, { uid: 0, gid: 0, groups: [] });
    node.trouble = name;
    node.size = size;
    this.root.children.set(name, node);
  }

  #add(parent: Ino, name: Name, make: (parent: Node) => Node): Result<Entry, FsError> {
    const directory = this.#node(parent);
    const key = name.toString('latin1');
    if (directory.children.has(key)) return failed('EEXIST');
    const node = make(directory);
    directory.children.set(key, node);
    directory.mtimeNs = nowNs();
    return ok(this.#entry(node));
  }

  #removeName(directory: Node, name: Name, node: Node): void {
    directory.children.delete(name.toString('latin1'));
    directory.mtimeNs = nowNs();
    node.nlink -= node.type === 'directory' ? 2 : 1;
    if (node.type === 'directory') directory.nlink--;
    node.ctimeNs = nowNs();
    this.#drop(node);
  }

  #drop(node: Node): void {
    if (node.nlink === 0 && node.lookups <= 0) this.#nodes.delete(node.ino);
  }

  /** Geometrically, so that appending is not quadratic. */
  #grow(node: Node, size: number): void {
    if (size <= node.bytes.length) return;
    const bytes = Buffer.alloc(Math.max(size, Math.min(node.bytes.length * 2, 2 ** 31)));
    node.bytes.copy(bytes);
    node.bytes = bytes;
  }

  #attr(node: Node): Attr {
    return { ino: node.ino, attributes: attributesOf(node), attributesValidMs: this.#validMs };
  }

  #entry(node: Node): Entry {
    node.lookups++;
    return { ...this.#attr(node), generation: 0, entryValidMs: this.#validMs };
  }
}

const TYPE_OF_MODE = new Map<number, FileType>([
  [0o140000, 'socket'],
  [0o060000, 'block'],
  [0o020000, 'character'],
  [0o010000, 'fifo'],
  [0o100000, 'regular'],
]);

function failed(errno: ErrnoName): Result<never, FsError> {
  return err(localError(errno, 'memory'));
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

function attributesOf(node: Node): Attributes {
  return {
    type: node.type,
    mode: node.mode,
    nlink: node.nlink,
    uid: node.uid,
    gid: node.gid,
    size: node.size,
    used: node.size,
    rdev: node.rdev,
    fsid: 1n,
    fileid: BigInt(node.ino),
    atimeNs: node.atimeNs,
    mtimeNs: node.mtimeNs,
    ctimeNs: node.ctimeNs,
  };
}
