/**
 * The table of operations: one entry for each opcode that the file system serves, holding all that
 * is known about it: how its request is read, which call it makes, how the answer is written, and
 * how an answer is given back that the kernel no longer takes.
 *
 * What is not in the table is answered ENOSYS, which the kernel remembers: it never asks again, and
 * gives programs the errno that fits (EOPNOTSUPP for extended attributes and fallocate, ENOTTY for
 * ioctl), keeps locks to this host, and copies by itself where copy_file_range is asked for.
 */
import { assert } from '../base/assert.ts';
import type { HandleId, Ino } from '../base/brand.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type {
  Caller,
  Entry,
  FileSystem,
  Outcome,
  Payload,
  ReadReply,
  SetattrChanges,
} from '../vfs/operations.ts';
import {
  FUSE_FSYNC_FDATASYNC,
  FUSE_GETATTR_FH,
  Opcode,
  type OpcodeName,
  SetattrValid,
} from './abi.ts';
import { DirentList, writeAttr, writeEntry, writeOpened, writeStatfs } from './encode.ts';
import { WireError, type WireReader, type WireWriter } from './wire.ts';

/** A request whose header was read. The reader stands at the operation's own arguments. */
export interface Request {
  readonly unique: number;
  readonly node: Ino;
  readonly caller: Caller;
  readonly args: WireReader;
  /** A WRITE's bytes; they are the operation's to pass on. */
  takePayload(length: number): Payload;
}

export interface Operation<T = unknown> {
  readonly name: OpcodeName;
  /** Reads the arguments and makes the call. @throws WireError when they do not decode. */
  call(fs: FileSystem, request: Request): Outcome<T> | Result<T, FsError>;
  /** Writes the reply's body; nothing for an operation that answers only success. */
  encode?(writer: WireWriter, value: T): void;
  /** Instead of `encode`, for a body too large for it. At most `READ_MAX_BYTES`. */
  body?(value: T): ReadReply;
  /** Gives back what an undelivered answer holds. */
  discard?(fs: FileSystem, value: T): void;
}

/** The largest READ that is served, and thus the mount's max_read: 256 pages. */
export const READ_MAX_BYTES = 1 << 20;
/** The largest reply to READDIR: more is not asked for by the kernels we know. */
const READDIR_MAX_BYTES = 1 << 17;
/** PATH_MAX without its NUL: what the kernel takes of a symbolic link. */
const LINK_MAX_BYTES = 4095;

const NO_VALUE = ok(undefined);

function operation<T>(entry: Operation<T>): Operation {
  return entry as Operation;
}

const lookup = operation({
  name: 'LOOKUP',
  call: (fs, { caller, node, args }) => fs.lookup(caller, node, args.name()),
  encode: writeEntry,
  discard: (fs, entry) => {
    if (entry.ino !== 0) fs.forget(entry.ino, 1);
  },
});

const getattr = operation({
  name: 'GETATTR',
  call(fs, { caller, node, args }) {
    const flags = args.u32();
    args.skip(4);
    const handle = args.u64('EIO') as HandleId;
    return (flags & FUSE_GETATTR_FH) !== 0
      ? fs.getattr(caller, node, handle)
      : fs.getattr(caller, node);
  },
  encode: writeAttr,
});

const setattr = operation({
  name: 'SETATTR',
  call(fs, { caller, node, args }) {
    const valid = args.u32();
    args.skip(4);
    const handle = args.bigU64();
    // What is not set is not believed: only a size that is asked for has to be in range.
    const size = args.bigU64();
    args.skip(8); // lock_owner
    const atimeSeconds = args.bigI64();
    const mtimeSeconds = args.bigI64();
    args.skip(8); // ctime: the server's own
    const atimeNs = args.u32();
    const mtimeNs = args.u32();
    args.skip(4);
    const mode = args.u32();
    args.skip(4);
    const uid = args.u32();
    const gid = args.u32();
    args.skip(4);
    const has = (bit: number) => (valid & bit) !== 0;
    const changes: SetattrChanges = {
      mode: has(SetattrValid.FATTR_MODE) ? mode & 0o7777 : undefined,
      uid: has(SetattrValid.FATTR_UID) ? uid : undefined,
      gid: has(SetattrValid.FATTR_GID) ? gid : undefined,
      size: has(SetattrValid.FATTR_SIZE) ? whole(size, 'EFBIG') : undefined,
      atime: has(SetattrValid.FATTR_ATIME_NOW)
        ? 'now'
        : has(SetattrValid.FATTR_ATIME)
          ? timeNs(atimeSeconds, atimeNs)
          : undefined,
      mtime: has(SetattrValid.FATTR_MTIME_NOW)
        ? 'now'
        : has(SetattrValid.FATTR_MTIME)
          ? timeNs(mtimeSeconds, mtimeNs)
          : undefined,
    };
    return has(SetattrValid.FATTR_FH)
      ? fs.setattr(caller, node, changes, whole(handle, 'EIO') as HandleId)
      : fs.setattr(caller, node, changes);
  },
  encode: writeAttr,
});

const readlink = operation({
  name: 'READLINK',
  async call(fs, { caller, node }): Promise<Result<Buffer, FsError>> {
    const target = await fs.readlink(caller, node);
    return target.ok && target.value.length > LINK_MAX_BYTES
      ? err(localError('ENAMETOOLONG', 'readlink', 'a symbolic link of over 4095 bytes'))
      : target;
  },
  encode: (writer, target) => writer.bytes(target),
});

const symlink = operation<Entry>({
  name: 'SYMLINK',
  call(fs, { caller, node, args }) {
    const name = args.name();
    return fs.symlink(caller, node, name, args.text());
  },
  encode: writeEntry,
  discard: forgetEntry,
});

const mknod = operation<Entry>({
  name: 'MKNOD',
  call(fs, { caller, node, args }) {
    const mode = args.u32();
    const rdev = args.u32();
    args.skip(8); // umask, which the kernel has applied; padding
    return fs.mknod(caller, node, args.name(), mode, rdev);
  },
  encode: writeEntry,
  discard: forgetEntry,
});

const mkdir = operation<Entry>({
  name: 'MKDIR',
  call(fs, { caller, node, args }) {
    const mode = args.u32();
    args.skip(4); // umask
    return fs.mkdir(caller, node, args.name(), mode & 0o7777);
  },
  encode: writeEntry,
  discard: forgetEntry,
});

const unlink = operation({
  name: 'UNLINK',
  call: (fs, { caller, node, args }) => fs.unlink(caller, node, args.name()),
});

const rmdir = operation({
  name: 'RMDIR',
  call: (fs, { caller, node, args }) => fs.rmdir(caller, node, args.name()),
});

const rename = operation({
  name: 'RENAME',
  call(fs, { caller, node, args }) {
    const newParent = args.u64('EIO') as Ino;
    const name = args.name();
    return fs.rename(caller, node, name, newParent, args.name(), 0);
  },
});

const rename2 = operation({
  name: 'RENAME2',
  call(fs, { caller, node, args }) {
    const newParent = args.u64('EIO') as Ino;
    const flags = args.u32();
    args.skip(4);
    const name = args.name();
    return fs.rename(caller, node, name, newParent, args.name(), flags);
  },
});

const link = operation<Entry>({
  name: 'LINK',
  call(fs, { caller, node, args }) {
    const file = args.u64('EIO') as Ino;
    return fs.link(caller, file, node, args.name());
  },
  encode: writeEntry,
  discard: forgetEntry,
});

const open = operation({
  name: 'OPEN',
  call: (fs, { caller, node, args }) => fs.open(caller, node, args.u32()),
  encode: writeOpened,
  discard: (fs, opened) => fs.release(opened.handle),
});

const create = operation({
  name: 'CREATE',
  call(fs, { caller, node, args }) {
    const flags = args.u32();
    const mode = args.u32();
    args.skip(8); // umask, open_flags
    return fs.create(caller, node, args.name(), mode & 0o7777, flags);
  },
  encode(writer, { entry, opened }) {
    writeEntry(writer, entry);
    writeOpened(writer, opened);
  },
  discard(fs, { entry, opened }) {
    fs.release(opened.handle);
    fs.forget(entry.ino, 1);
  },
});

const read = operation({
  name: 'READ',
  call(fs, { caller, args }) {
    const handle = args.u64('EIO') as HandleId;
    const offset = args.u64('EOVERFLOW');
    const length = args.u32();
    if (length > READ_MAX_BYTES) throw new WireError('EIO', 'a READ longer than was agreed');
    args.skip(4 + 8 + 4 + 4); // read_flags, lock_owner, flags, padding
    const outcome = fs.read(caller, handle, offset, length);
    return outcome instanceof Promise
      ? outcome.then((reply) => upTo(length, reply))
      : upTo(length, outcome);
  },
  body: (reply) => reply,
  discard: (_fs, reply) => {
    if (reply.kind !== 'zeros') reply.release();
  },
});

const write = operation({
  name: 'WRITE',
  call(fs, request): Outcome<number> {
    const { caller, args } = request;
    const handle = args.u64('EIO') as HandleId;
    const offset = args.u64('EFBIG');
    const length = args.u32();
    args.skip(4 + 8 + 4 + 4); // write_flags, lock_owner, flags, padding
    if (!Number.isSafeInteger(offset + length)) throw new WireError('EFBIG', 'a WRITE past 2^53-1');
    return fs.write(caller, handle, offset, request.takePayload(length));
  },
  encode(writer, written) {
    writer.u32(written);
    writer.u32(0);
  },
});

const statfs = operation({
  name: 'STATFS',
  call: (fs, { caller, node }) => fs.statfs(caller, node),
  encode: writeStatfs,
});

const flush = operation({
  name: 'FLUSH',
  call: (fs, { caller, args }) => fs.flush(caller, args.u64('EIO') as HandleId),
});

const fsync = operation({
  name: 'FSYNC',
  call(fs, { caller, args }) {
    const handle = args.u64('EIO') as HandleId;
    return fs.fsync(caller, handle, (args.u32() & FUSE_FSYNC_FDATASYNC) !== 0);
  },
});

const release = operation({
  name: 'RELEASE',
  call(fs, { args }) {
    fs.release(args.u64('EIO') as HandleId);
    return NO_VALUE;
  },
});

const lseek = operation({
  name: 'LSEEK',
  call(fs, { caller, args }) {
    const handle = args.u64('EIO') as HandleId;
    const offset = args.u64('EOVERFLOW');
    return fs.lseek(caller, handle, offset, args.u32());
  },
  encode: (writer, offset) => writer.u64(offset),
});

const opendir = operation({
  name: 'OPENDIR',
  call: (fs, { caller, node }) => fs.opendir(caller, node),
  encode: (writer, handle) => writeOpened(writer, { handle, keepCache: false }),
  discard: (fs, handle) => fs.releasedir(handle),
});

const readdir = operation({
  name: 'READDIR',
  call: (fs, request) => list(fs, request, false),
  body: bytesReply,
});

const readdirplus = operation({
  name: 'READDIRPLUS',
  call: (fs, request) => list(fs, request, true),
  body: bytesReply,
  discard: forgetListed,
});

const releasedir = operation({
  name: 'RELEASEDIR',
  call(fs, { args }) {
    fs.releasedir(args.u64('EIO') as HandleId);
    return NO_VALUE;
  },
});

const fsyncdir = operation({
  name: 'FSYNCDIR',
  call: (fs, { caller, args }) => fs.fsyncdir(caller, args.u64('EIO') as HandleId),
});

const access = operation({
  name: 'ACCESS',
  call: (fs, { caller, node, args }) => fs.access(caller, node, args.u32() & 7),
});

/** By opcode: a hole for what is not served. */
export const operations: readonly (Operation | undefined)[] = byOpcode([
  lookup,
  getattr,
  setattr,
  readlink,
  symlink,
  mknod,
  mkdir,
  unlink,
  rmdir,
  rename,
  rename2,
  link,
  open,
  create,
  read,
  write,
  statfs,
  flush,
  fsync,
  release,
  lseek,
  opendir,
  readdir,
  readdirplus,
  releasedir,
  fsyncdir,
  access,
]);

/** Bytes that a reply carries. */
export function lengthOf(reply: ReadReply): number {
  if (reply.kind !== 'bytes') return reply.length;
  let length = 0;
  for (const part of reply.bytes) length += part.length;
  return length;
}

function byOpcode(entries: readonly Operation[]): (Operation | undefined)[] {
  const table = new Array<Operation | undefined>(Math.max(...Object.values(Opcode)) + 1);
  table.fill(undefined);
  for (const entry of entries) {
    assert(table[Opcode[entry.name]] === undefined, `operations: ${entry.name} is there twice`);
    table[Opcode[entry.name]] = entry;
  }
  return table;
}

function upTo(length: number, reply: Result<ReadReply, FsError>): Result<ReadReply, FsError> {
  assert(!reply.ok || lengthOf(reply.value) <= length, 'read: more bytes than were asked for');
  return reply;
}

async function list(
  fs: FileSystem,
  { caller, args }: Request,
  plus: boolean,
): Promise<Result<DirentList, FsError>> {
  const handle = args.u64('EIO') as HandleId;
  const offset = args.bigU64();
  const entries = new DirentList(Math.min(args.u32(), READDIR_MAX_BYTES), plus);
  const listed = await fs.readdir(caller, handle, offset, plus, (dirent) => entries.add(dirent));
  if (listed.ok) return ok(entries);
  forgetListed(fs, entries);
  return listed;
}

function forgetEntry(fs: FileSystem, entry: Entry): void {
  fs.forget(entry.ino, 1);
}

function forgetListed(fs: FileSystem, entries: DirentList): void {
  for (const ino of entries.looked) fs.forget(ino, 1);
}

function bytesReply(entries: DirentList): ReadReply {
  return { kind: 'bytes', bytes: [entries.bytes()], release: () => {} };
}

function whole(value: bigint, errno: 'EFBIG' | 'EIO'): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new WireError(errno, 'a number above 2^53-1');
  return Number(value);
}

function timeNs(seconds: bigint, ns: number): bigint {
  return seconds * 1_000_000_000n + BigInt(ns);
}
