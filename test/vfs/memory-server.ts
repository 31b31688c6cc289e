/**
 * An image server in memory, with an NFSv3 server's semantics: permissions by mode and owner (the
 * owner may always read and write the bytes), weak cache consistency, EXCLUSIVE create, a write
 * verifier, and unstable bytes that a restart loses. A test can hold calls before and after they
 * are carried out, fail them, and leave parts of answers out.
 */
import type { FileHandle, Name } from '../../src/base/brand.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { nfsError } from '../../src/errors/fs-error.ts';
import type { NfsErrorName } from '../../src/errors/nfs-status.ts';
import {
  Access,
  type Answer,
  type Attributes,
  type Created,
  type DirectoryEntry,
  type FileType,
  type ImageServer,
  type ReaddirOk,
  type ReadOk,
  type ServerError,
  type SetAttributes,
  type Stability,
  type WccAttributes,
  type WccData,
  type WriteOk,
} from '../../src/vfs/ports.ts';

export interface Call {
  readonly procedure: keyof ImageServer;
  readonly as: Credentials;
  readonly name?: string;
  /** Of GETATTR. */
  readonly file?: FileHandle;
  readonly stability?: Stability;
}

interface Node {
  readonly id: number;
  readonly type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  /** The bytes as READ shows them, and as they would be after a restart. */
  bytes: Buffer;
  stable: Buffer;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  readonly children: Map<string, { readonly node: Node; readonly cookie: bigint }>;
  readonly target: Buffer;
  readonly rdev: { major: number; minor: number };
}

type Outcome<T> = Result<T, ServerError>;

export const rootUser: Credentials = { uid: 0, gid: 0, groups: [] };

export class MemoryServer implements ImageServer {
  readonly root: FileHandle;
  readonly limits = {
    readMax: 1024 * 1024,
    writeMax: 1024 * 1024,
    maxFileSize: Number.MAX_SAFE_INTEGER,
    timeDeltaNs: 1n,
  };
  readonly calls: Call[] = [];
  /** READs whose memory was not given back. */
  unreleasedReads = 0;
  verifier = 1n;
  /** The clock: each change is 1 us after the one before, from the second that was set. */
  nowNs = 1_700_000_000_000_000_000n;
  /** How far the clock goes with each change. */
  tickNs = 1_000n;
  squashRoot = false;
  omitWcc = false;
  omitAttributes = false;
  hasReaddirplus = true;
  hasExclusive = true;
  maxReadBytes = Number.POSITIVE_INFINITY;
  maxWriteBytes = Number.POSITIVE_INFINITY;
  /** READ says eof at this position, whatever the size. */
  eofAt = Number.POSITIVE_INFINITY;
  /** Awaited before and after a call is carried out. */
  before: (call: Call) => Promise<void> | undefined = () => undefined;
  after: (call: Call) => Promise<void> | undefined = () => undefined;
  /** A failure to answer with instead of carrying the call out. */
  fail: (call: Call) => NfsErrorName | undefined = () => undefined;
  /** Answers that a repeated call would get: the work is done, the answer is the second one's. */
  repeated: (call: Call) => boolean = () => false;
  readonly #nodes = new Map<number, Node>();
  readonly #rootNode: Node;
  #lastId = 0;
  #lastCookie = 2n;

  constructor(rootMode = 0o777) {
    this.#rootNode = this.#make('directory', rootMode, rootUser);
    this.#rootNode.nlink = 2;
    this.root = handleOf(this.#rootNode);
  }

  count(procedure: keyof ImageServer): number {
    return this.calls.filter((call) => call.procedure === procedure).length;
  }

  /** The server stops and starts: what was not committed is lost. */
  restart(): void {
    this.verifier += 1n;
    for (const node of this.#nodes.values()) node.bytes = Buffer.from(node.stable);
  }

  /** The bytes of a file, by its path from the root, as READ would show them. */
  bytesOf(path: string): Buffer {
    return Buffer.from(this.nodeAt(path).bytes);
  }

  /** The bytes that would survive a restart now. */
  stableBytesOf(path: string): Buffer {
    return Buffer.from(this.nodeAt(path).stable);
  }

  exists(path: string): boolean {
    return this.#walk(path) !== undefined;
  }

  namesIn(path: string): string[] {
    return [...this.nodeAt(path).children.keys()].sort();
  }

  nodeAt(path: string): Node {
    const node = this.#walk(path);
    if (node === undefined) throw new Error(`no such path: ${path}`);
    return node;
  }

  attributesAt(path: string): Attributes {
    return this.#attributes(this.nodeAt(path));
  }

  handleAt(path: string): FileHandle {
    return handleOf(this.nodeAt(path));
  }

  /** The file behind a handle, if there is one still. */
  nodeOf(file: FileHandle): Node | undefined {
    return this.#node(file);
  }

  /** Another client's work, done at once and without permissions. */
  putFile(path: string, bytes: Buffer | string, mode = 0o666, owner = rootUser): void {
    const { directory, name } = this.#parent(path);
    const existing = directory.children.get(name)?.node;
    const node = existing ?? this.#make('regular', mode, owner);
    if (existing === undefined) this.#link(directory, name, node);
    node.bytes = Buffer.from(bytes);
    node.stable = Buffer.from(bytes);
    this.#touch(node, 'bytes');
  }

  putDirectory(path: string, mode = 0o777, owner = rootUser): void {
    const { directory, name } = this.#parent(path);
    const node = this.#make('directory', mode, owner);
    node.nlink = 2;
    this.#link(directory, name, node);
  }

  deletePath(path: string): void {
    const { directory, name } = this.#parent(path);
    this.#unlink(directory, name);
  }

  movePath(from: string, to: string): void {
    const source = this.#parent(from);
    const target = this.#parent(to);
    const node = this.nodeAt(from);
    if (this.#walk(to) !== undefined) this.#unlink(target.directory, target.name);
    source.directory.children.delete(source.name);
    this.#touch(source.directory, 'bytes');
    target.directory.children.set(target.name, { node, cookie: this.#nextCookie() });
    this.#touch(target.directory, 'bytes');
  }

  setMode(path: string, mode: number): void {
    const node = this.nodeAt(path);
    node.mode = mode;
    this.#touch(node, 'attributes');
  }

  getattr(as: Credentials, file: FileHandle): Answer<Attributes> {
    return this.#run({ procedure: 'getattr', as, file }, () =>
      this.#on(file, (node) => ok(this.#attributes(node))),
    );
  }

  setattr(
    as: Credentials,
    file: FileHandle,
    changes: SetAttributes,
    guardCtimeNs?: bigint,
  ): Answer<WccData> {
    return this.#run({ procedure: 'setattr', as }, () =>
      this.#on(file, (node) => {
        const before = wccOf(node);
        if (guardCtimeNs !== undefined && guardCtimeNs !== node.ctimeNs) {
          return this.#err('NFS3ERR_NOT_SYNC', 'setattr');
        }
        const owner = this.#isOwner(as, node);
        const { mode, uid, gid, size, atime, mtime } = changes;
        const ownerOnly =
          mode !== undefined || typeof atime === 'bigint' || typeof mtime === 'bigint';
        if (ownerOnly && !owner) return this.#err('NFS3ERR_PERM', 'setattr');
        const chowns = (uid ?? node.uid) !== node.uid || (gid ?? node.gid) !== node.gid;
        if (chowns && !this.#isRoot(as)) return this.#err('NFS3ERR_PERM', 'setattr');
        if (size !== undefined) {
          if (node.type !== 'regular') return this.#err('NFS3ERR_INVAL', 'setattr');
          if (!owner && !this.#may(as, node, 2)) return this.#err('NFS3ERR_ACCES', 'setattr');
          node.bytes = resized(node.bytes, size);
          node.stable = resized(node.stable, size);
          this.#touch(node, 'bytes');
        }
        if (mode !== undefined) node.mode = mode;
        node.uid = uid ?? node.uid;
        node.gid = gid ?? node.gid;
        this.#touch(node, 'attributes');
        if (atime !== undefined) node.atimeNs = atime === 'server' ? node.ctimeNs : atime;
        if (mtime !== undefined) node.mtimeNs = mtime === 'server' ? node.ctimeNs : mtime;
        return ok(this.#wcc(before, node));
      }),
    );
  }

  lookup(
    as: Credentials,
    directory: FileHandle,
    name: Name,
  ): Answer<{ file: FileHandle; attributes?: Attributes; directory?: Attributes }> {
    return this.#run({ procedure: 'lookup', as, name: text(name) }, () =>
      this.#inDirectory(as, directory, 'lookup', (parent) => {
        const child = parent.children.get(text(name))?.node;
        const after = this.#optional(parent);
        if (child === undefined) {
          return err({ ...nfsError('NFS3ERR_NOENT', 'lookup'), attributes: after });
        }
        const attributes = this.#optional(child);
        return ok({
          file: handleOf(child),
          ...(attributes === undefined ? {} : { attributes }),
          ...(after === undefined ? {} : { directory: after }),
        });
      }),
    );
  }

  access(
    as: Credentials,
    file: FileHandle,
    wanted: number,
  ): Answer<{ granted: number; attributes?: Attributes }> {
    return this.#run({ procedure: 'access', as }, () =>
      this.#on(file, (node) => {
        const reads = this.#may(as, node, 4) ? Access.READ : 0;
        const writes = this.#may(as, node, 2) ? Access.MODIFY | Access.EXTEND : 0;
        const executes = node.type === 'directory' ? Access.LOOKUP : Access.EXECUTE;
        const granted = (reads | writes | (this.#may(as, node, 1) ? executes : 0)) & wanted;
        const attributes = this.#optional(node);
        return ok({ granted, ...(attributes === undefined ? {} : { attributes }) });
      }),
    );
  }

  readlink(as: Credentials, file: FileHandle): Answer<{ target: Buffer }> {
    return this.#run({ procedure: 'readlink', as }, () =>
      this.#on(file, (node) =>
        node.type === 'symlink'
          ? ok({ target: node.target })
          : this.#err('NFS3ERR_INVAL', 'readlink'),
      ),
    );
  }

  read(as: Credentials, file: FileHandle, offset: number, count: number): Answer<ReadOk> {
    return this.#run({ procedure: 'read', as }, () =>
      this.#on(file, (node) => {
        if (!this.#isOwner(as, node) && !this.#may(as, node, 4) && !this.#may(as, node, 1)) {
          return this.#err('NFS3ERR_ACCES', 'read');
        }
        const end = Math.min(node.bytes.length, this.eofAt);
        const until = Math.min(offset + Math.min(count, this.maxReadBytes), end);
        const bytes = Buffer.from(node.bytes.subarray(Math.min(offset, end), until));
        this.unreleasedReads += 1;
        let released = false;
        const release = (): void => {
          if (released) throw new Error('READ memory given back twice');
          released = true;
          this.unreleasedReads -= 1;
          bytes.fill(0xdd);
        };
        const attributes = this.#optional(node);
        const eof = offset + bytes.length >= end;
        return ok({ eof, bytes, release, ...(attributes === undefined ? {} : { attributes }) });
      }),
    );
  }

  write(
    as: Credentials,
    file: FileHandle,
    offset: number,
    bytes: Buffer,
    stability: Stability,
  ): Answer<WriteOk> {
    return this.#run({ procedure: 'write', as, stability }, () =>
      this.#on(file, (node) => {
        if (!this.#isOwner(as, node) && !this.#may(as, node, 2)) {
          return this.#err('NFS3ERR_ACCES', 'write');
        }
        const before = wccOf(node);
        const part = bytes.subarray(0, this.maxWriteBytes);
        node.bytes = written(node.bytes, offset, part);
        if (stability !== 'unstable') node.stable = written(node.stable, offset, part);
        this.#touch(node, 'bytes');
        return ok({
          wcc: this.#wcc(before, node),
          count: part.length,
          committed: stability,
          verifier: this.verifier,
        });
      }),
    );
  }

  create(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    how: { kind: 'unchecked' | 'guarded'; attributes: SetAttributes } | { kind: 'exclusive' },
  ): Answer<Created> {
    return this.#run({ procedure: 'create', as, name: text(name) }, () => {
      if (how.kind === 'exclusive' && !this.hasExclusive) {
        return this.#err('NFS3ERR_NOTSUPP', 'create');
      }
      const mode = how.kind === 'exclusive' ? 0 : (how.attributes.mode ?? 0);
      return this.#makeIn(as, directory, name, 'regular', mode);
    });
  }

  mkdir(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    attributes: SetAttributes,
  ): Answer<Created> {
    return this.#run({ procedure: 'mkdir', as, name: text(name) }, () =>
      this.#makeIn(as, directory, name, 'directory', attributes.mode ?? 0o755),
    );
  }

  symlink(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    target: Buffer,
    attributes: SetAttributes,
  ): Answer<Created> {
    return this.#run({ procedure: 'symlink', as, name: text(name) }, () =>
      this.#makeIn(as, directory, name, 'symlink', attributes.mode ?? 0o777, target),
    );
  }

  mknod(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    node:
      | { type: 'fifo' | 'socket'; attributes: SetAttributes }
      | { type: 'block' | 'character'; attributes: SetAttributes; major: number; minor: number },
  ): Answer<Created> {
    const rdev = 'major' in node ? { major: node.major, minor: node.minor } : undefined;
    return this.#run({ procedure: 'mknod', as, name: text(name) }, () =>
      this.#makeIn(as, directory, name, node.type, node.attributes.mode ?? 0, undefined, rdev),
    );
  }

  remove(as: Credentials, directory: FileHandle, name: Name): Answer<WccData> {
    return this.#run({ procedure: 'remove', as, name: text(name) }, () =>
      this.#changeDirectory(as, directory, 'remove', (parent) => {
        const child = parent.children.get(text(name))?.node;
        if (child === undefined) return 'NFS3ERR_NOENT';
        if (child.type === 'directory') return 'NFS3ERR_ISDIR';
        this.#unlink(parent, text(name));
        return undefined;
      }),
    );
  }

  rmdir(as: Credentials, directory: FileHandle, name: Name): Answer<WccData> {
    return this.#run({ procedure: 'rmdir', as, name: text(name) }, () =>
      this.#changeDirectory(as, directory, 'rmdir', (parent) => {
        const child = parent.children.get(text(name))?.node;
        if (child === undefined) return 'NFS3ERR_NOENT';
        if (child.type !== 'directory') return 'NFS3ERR_NOTDIR';
        if (child.children.size > 0) return 'NFS3ERR_NOTEMPTY';
        this.#unlink(parent, text(name));
        return undefined;
      }),
    );
  }

  rename(
    as: Credentials,
    from: { directory: FileHandle; name: Name },
    to: { directory: FileHandle; name: Name },
  ): Answer<{ from: WccData; to: WccData }> {
    return this.#run({ procedure: 'rename', as, name: text(from.name) }, () => {
      const source = this.#node(from.directory);
      const target = this.#node(to.directory);
      if (source === undefined || target === undefined) {
        return this.#err('NFS3ERR_STALE', 'rename');
      }
      if (!this.#may(as, source, 3) || !this.#may(as, target, 3)) {
        return this.#err('NFS3ERR_ACCES', 'rename');
      }
      const moving = source.children.get(text(from.name))?.node;
      if (moving === undefined) return this.#err('NFS3ERR_NOENT', 'rename');
      const existing = target.children.get(text(to.name))?.node;
      const [beforeFrom, beforeTo] = [wccOf(source), wccOf(target)];
      if (existing !== moving) {
        if (existing !== undefined) {
          const isDirectory = existing.type === 'directory';
          if (isDirectory !== (moving.type === 'directory')) {
            return this.#err(isDirectory ? 'NFS3ERR_ISDIR' : 'NFS3ERR_NOTDIR', 'rename');
          }
          if (existing.children.size > 0) return this.#err('NFS3ERR_NOTEMPTY', 'rename');
          this.#unlink(target, text(to.name));
        }
        source.children.delete(text(from.name));
        target.children.set(text(to.name), { node: moving, cookie: this.#nextCookie() });
        this.#touch(source, 'bytes');
        if (target !== source) this.#touch(target, 'bytes');
        this.#touch(moving, 'attributes');
      }
      return ok({ from: this.#wcc(beforeFrom, source), to: this.#wcc(beforeTo, target) });
    });
  }

  link(
    as: Credentials,
    file: FileHandle,
    to: { directory: FileHandle; name: Name },
  ): Answer<{ attributes?: Attributes; directory: WccData }> {
    return this.#run({ procedure: 'link', as, name: text(to.name) }, () =>
      this.#on(file, (node) => {
        let attributes: Attributes | undefined;
        const done = this.#changeDirectory(as, to.directory, 'link', (parent) => {
          if (parent.children.has(text(to.name))) return 'NFS3ERR_EXIST';
          if (node.type === 'directory') return 'NFS3ERR_ISDIR';
          node.nlink += 1;
          this.#link(parent, text(to.name), node);
          this.#touch(node, 'attributes');
          attributes = this.#optional(node);
          return undefined;
        });
        if (!done.ok) return done;
        return ok({ directory: done.value, ...(attributes === undefined ? {} : { attributes }) });
      }),
    );
  }

  readdir(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    _verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk> {
    return this.#run({ procedure: 'readdir', as }, () =>
      this.#list(as, directory, cookie, countBytes, false),
    );
  }

  readdirplus(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    _verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk> {
    return this.#run({ procedure: 'readdirplus', as }, () =>
      this.hasReaddirplus
        ? this.#list(as, directory, cookie, countBytes, true)
        : this.#err('NFS3ERR_NOTSUPP', 'readdirplus'),
    );
  }

  fsstat(as: Credentials, file: FileHandle): ReturnType<ImageServer['fsstat']> {
    return this.#run({ procedure: 'fsstat', as }, () =>
      this.#on(file, () =>
        ok({
          totalBytes: 1e9,
          freeBytes: 5e8,
          availableBytes: 4e8,
          totalFiles: 1000,
          freeFiles: 900,
          availableFiles: 900,
        }),
      ),
    );
  }

  commit(
    as: Credentials,
    file: FileHandle,
    _offset: number,
    _count: number,
  ): Answer<{ wcc: WccData; verifier: bigint }> {
    return this.#run({ procedure: 'commit', as }, () =>
      this.#on(file, (node) => {
        node.stable = Buffer.from(node.bytes);
        return ok({ wcc: this.#wcc(wccOf(node), node), verifier: this.verifier });
      }),
    );
  }

  async #run<T>(call: Call, run: () => Outcome<T>): Answer<T> {
    this.calls.push(call);
    await this.before(call);
    const failure = this.fail(call);
    let result = failure === undefined ? run() : this.#err(failure, call.procedure);
    if (failure === undefined && this.repeated(call)) {
      result = run();
      if (!result.ok) result = err({ ...result.error, retransmitted: true });
    }
    await this.after(call);
    return result;
  }

  #on<T>(file: FileHandle, run: (node: Node) => Outcome<T>): Outcome<T> {
    const node = this.#node(file);
    return node === undefined ? this.#err('NFS3ERR_STALE', 'call') : run(node);
  }

  #inDirectory<T>(
    as: Credentials,
    directory: FileHandle,
    operation: string,
    run: (node: Node) => Outcome<T>,
  ): Outcome<T> {
    return this.#on(directory, (node) => {
      if (node.type !== 'directory') return this.#err('NFS3ERR_NOTDIR', operation);
      return this.#may(as, node, 1) ? run(node) : this.#err('NFS3ERR_ACCES', operation);
    });
  }

  #changeDirectory(
    as: Credentials,
    directory: FileHandle,
    operation: string,
    run: (node: Node) => NfsErrorName | undefined,
  ): Outcome<WccData> {
    return this.#inDirectory(as, directory, operation, (node) => {
      const before = wccOf(node);
      const failure = this.#may(as, node, 2) ? run(node) : 'NFS3ERR_ACCES';
      const wcc = this.#wcc(before, node);
      return failure === undefined ? ok(wcc) : err({ ...nfsError(failure, operation), wcc });
    });
  }

  #makeIn(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    type: FileType,
    mode: number,
    target?: Buffer,
    rdev?: { major: number; minor: number },
  ): Outcome<Created> {
    let made: Node | undefined;
    const done = this.#changeDirectory(as, directory, 'create', (parent) => {
      if (parent.children.has(text(name))) return 'NFS3ERR_EXIST';
      made = this.#make(type, mode, as, target, rdev);
      if (type === 'directory') made.nlink = 2;
      this.#link(parent, text(name), made);
      return undefined;
    });
    if (!done.ok) return done;
    if (made === undefined || this.omitAttributes) return ok({ directory: done.value });
    return ok({
      directory: done.value,
      file: handleOf(made),
      attributes: this.#attributes(made),
    });
  }

  #list(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    countBytes: number,
    plus: boolean,
  ): Outcome<ReaddirOk> {
    return this.#on(directory, (node) => {
      if (node.type !== 'directory') return this.#err('NFS3ERR_NOTDIR', 'readdir');
      if (!this.#may(as, node, 4)) return this.#err('NFS3ERR_ACCES', 'readdir');
      const max = Math.max(1, Math.floor(countBytes / 200));
      const all: DirectoryEntry[] = [
        { name: Buffer.from('.'), fileid: BigInt(node.id), cookie: 1n },
        { name: Buffer.from('..'), fileid: BigInt(node.id), cookie: 2n },
      ];
      for (const [name, child] of node.children) {
        const entry = {
          name: Buffer.from(name, 'latin1'),
          fileid: BigInt(child.node.id),
          cookie: child.cookie,
        };
        const more = { attributes: this.#attributes(child.node), file: handleOf(child.node) };
        all.push(plus ? { ...entry, ...more } : entry);
      }
      const rest = all.filter((entry) => entry.cookie > cookie);
      const entries = rest.slice(0, max);
      const eof = rest.length <= max;
      const attributes = this.#optional(node);
      const more = attributes === undefined ? {} : { attributes };
      return ok({ verifier: 7n, entries, eof, ...more });
    });
  }

  #make(
    type: FileType,
    mode: number,
    owner: Credentials,
    target: Buffer = Buffer.alloc(0),
    rdev = { major: 0, minor: 0 },
  ): Node {
    this.#lastId += 1;
    this.nowNs += this.tickNs;
    const { uid, gid } = this.#squashed(owner);
    const node: Node = {
      id: this.#lastId,
      type,
      mode,
      uid,
      gid,
      nlink: 1,
      bytes: Buffer.alloc(0),
      stable: Buffer.alloc(0),
      atimeNs: this.nowNs,
      mtimeNs: this.nowNs,
      ctimeNs: this.nowNs,
      children: new Map(),
      target: Buffer.from(target),
      rdev,
    };
    this.#nodes.set(node.id, node);
    return node;
  }

  #link(directory: Node, name: string, node: Node): void {
    directory.children.set(name, { node, cookie: this.#nextCookie() });
    if (node.type === 'directory') directory.nlink += 1;
    this.#touch(directory, 'bytes');
  }

  #unlink(directory: Node, name: string): void {
    const node = directory.children.get(name)?.node;
    if (node === undefined) throw new Error(`no such name: ${name}`);
    directory.children.delete(name);
    if (node.type === 'directory') directory.nlink -= 1;
    node.nlink -= node.type === 'directory' ? 2 : 1;
    this.#touch(directory, 'bytes');
    this.#touch(node, 'attributes');
    if (node.nlink <= 0) this.#nodes.delete(node.id);
  }

  #touch(node: Node, what: 'bytes' | 'attributes'): void {
    this.nowNs += this.tickNs;
    node.ctimeNs = this.nowNs;
    if (what === 'bytes') node.mtimeNs = this.nowNs;
  }

  #nextCookie(): bigint {
    this.#lastCookie += 1n;
    return this.#lastCookie;
  }

  #node(file: FileHandle): Node | undefined {
    return this.#nodes.get(Number(file.readBigUInt64BE(0)));
  }

  #attributes(node: Node): Attributes {
    const { type, mode, nlink, uid, gid, rdev, atimeNs, mtimeNs, ctimeNs } = node;
    const size = sizeOf(node);
    const used = Math.ceil(size / 4096) * 4096;
    const ids = { fsid: 1n, fileid: BigInt(node.id) };
    return { type, mode, nlink, uid, gid, size, used, rdev, ...ids, atimeNs, mtimeNs, ctimeNs };
  }

  #optional(node: Node): Attributes | undefined {
    return this.omitAttributes ? undefined : this.#attributes(node);
  }

  #wcc(before: WccAttributes, node: Node): WccData {
    return this.omitWcc ? {} : { before, after: this.#attributes(node) };
  }

  #may(as: Credentials, node: Node, bits: number): boolean {
    if (this.#isRoot(as)) return true;
    const { uid, gid, groups } = this.#squashed(as);
    const inGroup = gid === node.gid || groups.includes(node.gid);
    const shift = uid === node.uid ? 6 : inGroup ? 3 : 0;
    return ((node.mode >> shift) & bits) === bits;
  }

  #isRoot(as: Credentials): boolean {
    return as.uid === 0 && !this.squashRoot;
  }

  #isOwner(as: Credentials, node: Node): boolean {
    return this.#isRoot(as) || this.#squashed(as).uid === node.uid;
  }

  #squashed(as: Credentials): Credentials {
    return as.uid === 0 && this.squashRoot ? { uid: 65534, gid: 65534, groups: [] } : as;
  }

  #err(status: NfsErrorName, operation: string): { ok: false; error: ServerError } {
    return err(nfsError(status, operation));
  }

  #walk(path: string): Node | undefined {
    let node: Node | undefined = this.#rootNode;
    for (const name of path.split('/').filter((part) => part !== '')) {
      node = node?.children.get(name)?.node;
    }
    return node;
  }

  #parent(path: string): { directory: Node; name: string } {
    const slash = path.lastIndexOf('/');
    return { directory: this.nodeAt(path.slice(0, slash + 1)), name: path.slice(slash + 1) };
  }
}

function handleOf(node: Node): FileHandle {
  const handle = Buffer.alloc(8);
  handle.writeBigUInt64BE(BigInt(node.id));
  return handle as FileHandle;
}

function sizeOf(node: Node): number {
  if (node.type === 'directory') return 4096;
  return node.type === 'symlink' ? node.target.length : node.bytes.length;
}

function wccOf(node: Node): WccAttributes {
  return { size: sizeOf(node), mtimeNs: node.mtimeNs, ctimeNs: node.ctimeNs };
}

function text(name: Name): string {
  return name.toString('latin1');
}

function resized(bytes: Buffer, size: number): Buffer {
  const result = Buffer.alloc(size);
  bytes.copy(result, 0, 0, Math.min(size, bytes.length));
  return result;
}

function written(bytes: Buffer, offset: number, part: Buffer): Buffer {
  const result = resized(bytes, Math.max(bytes.length, offset + part.length));
  part.copy(result, offset);
  return result;
}
