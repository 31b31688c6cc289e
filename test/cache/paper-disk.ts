/**
 * A disk of paper: files in memory that remember what is durable, so that a daemon can be killed,
 * or the power cut, after any single change.
 *
 * After a power cut each page of a file, and its size, is what was durable or what was written
 * last, page by page as chance has it (fdatasync(2) makes them durable); of changes of names some
 * came to the disk, the older before the newer (fsync(2) of a directory brings all so far).
 */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { basename, dirname } from 'node:path';
import {
  BLOCK_BYTES,
  type FileIo,
  type Overwritten,
  PAGE_BYTES,
  PAGES_PER_BLOCK,
  type Stored,
} from '../../src/cache/file-io.ts';
import type { PathIo, Status } from '../../src/cache/path-io.ts';

const { EAGAIN, EBADF, EEXIST, EISDIR, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY } = constants.errno;

interface PaperFile {
  readonly kind: 'file';
  bytes: Buffer;
  durable: Buffer;
  locked: boolean;
  mtimeNs: bigint;
}

interface PaperDirectory {
  readonly kind: 'directory';
  readonly entries: Map<string, PaperNode>;
}

type PaperNode = PaperFile | PaperDirectory;

/** A change of names: done now, and done again on what was durable. */
type NameChange =
  | { readonly do: 'add'; readonly path: string; readonly node: PaperNode }
  | { readonly do: 'move'; readonly path: string; readonly to: string }
  | { readonly do: 'remove'; readonly path: string };

/** The daemon is dead: whatever it had under way never comes back to it. */
export class Killed extends Error {}

export class PaperDisk {
  /** Changes so far. */
  effects = 0;
  /** The daemon is killed when it goes for one change more. */
  killAfter = Number.POSITIVE_INFINITY;
  /** What every change answers instead of being done. */
  failWith = 0;
  #root: PaperDirectory = { kind: 'directory', entries: new Map() };
  readonly #fds = new Map<number, PaperFile>();
  #nextFd = 100;
  /** Names as they are durable, and what was changed since. */
  #durableNames: PaperNode = { kind: 'directory', entries: new Map() };
  #changes: NameChange[] = [];

  readonly io: FileIo = {
    store: (fd, offset, bytes, holes) => this.#store(fd, offset, bytes, holes),
    overwrite: (fd, offset, bytes, compare) => this.#overwrite(fd, offset, bytes, compare),
    write: (fd, offset, bytes) => this.#change(() => this.#pwrite(fd, offset, bytes)),
    read: async (fd, offset, into) => {
      await tick();
      const file = this.#fds.get(fd);
      if (file === undefined) return { errno: EBADF, got: 0 };
      return { errno: 0, got: file.bytes.copy(into, 0, offset) };
    },
    sums: async (fd, firstBlock, masks) => {
      await tick();
      const file = this.#fds.get(fd);
      if (file === undefined) return { errno: EBADF, sums: new Uint32Array() };
      const sums = [...masks].map((mask, index) => blockSum(file.bytes, firstBlock + index, mask));
      return { errno: 0, sums: Uint32Array.from(sums) };
    },
    punch: (fd, offset, length) =>
      this.#change(() => {
        const file = this.#fds.get(fd);
        file?.bytes.fill(0, offset, Math.min(offset + length, file.bytes.length));
        return 0;
      }),
    truncate: (fd, sizeBytes) => this.#change(() => this.#resize(fd, sizeBytes)),
    sync: (fd) =>
      this.#change(() => {
        const file = this.#fds.get(fd);
        if (file === undefined) return EBADF;
        file.durable = Buffer.from(file.bytes);
        return 0;
      }),
    size: async (fd) => {
      await tick();
      const file = this.#fds.get(fd);
      const sizeBytes = file?.bytes.length ?? 0;
      return { errno: file === undefined ? EBADF : 0, allocatedBytes: sizeBytes, sizeBytes };
    },
    lock: (fd) => {
      const file = this.#fds.get(fd);
      if (file === undefined) return EBADF;
      if (file.locked) return EAGAIN;
      file.locked = true;
      return 0;
    },
    close: () => Promise.resolve(),
  };

  readonly paths: PathIo = {
    open: async (path, how) => {
      const found = this.#find(path);
      if (found?.kind === 'directory') return { errno: EISDIR, fd: -1 };
      if (how === 'existing' && found === undefined) return { errno: ENOENT, fd: -1 };
      let file = found;
      if (file === undefined) {
        const made: PaperFile = newFile();
        const errno = await this.#rename({ do: 'add', path, node: made });
        if (errno !== 0) return { errno, fd: -1 };
        file = made;
      } else if (how === 'empty' && file.bytes.length > 0) {
        const old = file;
        const errno = await this.#change(() => {
          old.bytes = Buffer.alloc(0);
          return 0;
        });
        if (errno !== 0) return { errno, fd: -1 };
      }
      this.#nextFd += 1;
      this.#fds.set(this.#nextFd, file);
      return { errno: 0, fd: this.#nextFd };
    },
    close: async (fd) => {
      await tick();
      const file = this.#fds.get(fd);
      assert.ok(file !== undefined, `fd ${fd} is closed already`);
      file.locked = false;
      this.#fds.delete(fd);
    },
    makeDirectory: (path) => {
      const node: PaperDirectory = { kind: 'directory', entries: new Map() };
      return this.#rename({ do: 'add', path, node });
    },
    status: async (path): Promise<Status> => {
      await tick();
      const node = this.#find(path);
      const sizeBytes = node?.kind === 'file' ? node.bytes.length : 0;
      const [kind, errno] = node === undefined ? ['other' as const, ENOENT] : [node.kind, 0];
      const uid = process.geteuid?.() ?? -1;
      const mtimeNs = node?.kind === 'file' ? node.mtimeNs : 0n;
      return { errno, kind, uid, mode: 0o700, sizeBytes, allocatedBytes: sizeBytes, mtimeNs };
    },
    list: async (path) => {
      await tick();
      const node = this.#find(path);
      if (node?.kind !== 'directory') return { errno: ENOENT, names: [] };
      return { errno: 0, names: [...node.entries.keys()] };
    },
    read: async (path) => {
      await tick();
      const node = this.#find(path);
      if (node?.kind !== 'file') return { errno: ENOENT, bytes: Buffer.alloc(0) };
      return { errno: 0, bytes: Buffer.from(node.bytes) };
    },
    rename: (path, to) => this.#rename({ do: 'move', path, to }),
    remove: (path) => this.#rename({ do: 'remove', path }),
    removeDirectory: (path) => {
      const node = this.#find(path);
      if (node?.kind === 'directory' && node.entries.size > 0) return Promise.resolve(ENOTEMPTY);
      return this.#rename({ do: 'remove', path });
    },
    sync: (path) =>
      this.#change(() => {
        const node = this.#find(path);
        if (node === undefined) return ENOENT;
        if (node.kind === 'file') node.durable = Buffer.from(node.bytes);
        else this.#commitNames();
        return 0;
      }),
  };

  get openFiles(): number {
    return this.#fds.size;
  }

  fileAt(path: string): PaperFile {
    const node = this.#find(path);
    assert.ok(node?.kind === 'file', `${path} is no file`);
    return node;
  }

  has(path: string): boolean {
    return this.#find(path) !== undefined;
  }

  /** What a killed daemon leaves: all that it had done. */
  afterKill(): PaperDisk {
    return this.#copyOf(this.#root, (file) => file.bytes);
  }

  /** What a power cut leaves; `chance` answers numbers of [0, 1). */
  afterPowerCut(chance: () => number): PaperDisk {
    const names = copyNames(this.#durableNames, (file) => file);
    assert.ok(names.kind === 'directory');
    const arrived = Math.floor(chance() * (this.#changes.length + 1));
    for (const change of this.#changes.slice(0, arrived)) apply(names, change);
    return this.#copyOf(names, (file) => {
      const size = chance() < 0.5 ? file.bytes.length : file.durable.length;
      const bytes = Buffer.alloc(size);
      for (let at = 0; at < size; at += PAGE_BYTES) {
        const from = chance() < 0.5 ? file.bytes : file.durable;
        if (at < from.length) from.copy(bytes, at, at, Math.min(at + PAGE_BYTES, from.length));
      }
      return bytes;
    });
  }

  #copyOf(names: PaperNode, bytesOf: (file: PaperFile) => Buffer): PaperDisk {
    const copy = new PaperDisk();
    const root = copyNames(names, (file) => {
      const bytes = Buffer.from(bytesOf(file));
      const { mtimeNs } = file;
      return { kind: 'file', bytes, durable: Buffer.from(bytes), locked: false, mtimeNs };
    });
    assert.ok(root.kind === 'directory');
    copy.#root = root;
    copy.#commitNames();
    return copy;
  }

  #find(path: string): PaperNode | undefined {
    return find(this.#root, path);
  }

  #commitNames(): void {
    // The same files, in directories of their own.
    this.#durableNames = copyNames(this.#root, (file) => file);
    this.#changes = [];
  }

  #rename(change: NameChange): Promise<number> {
    return this.#change(() => {
      const errno = apply(this.#root, change);
      if (errno !== 0) return errno;
      // A directory that is added is empty at that time, whatever is put in later.
      const node: PaperNode | undefined =
        change.do !== 'add' || change.node.kind === 'file'
          ? undefined
          : { kind: 'directory', entries: new Map() };
      this.#changes.push(node === undefined || change.do !== 'add' ? change : { ...change, node });
      return 0;
    });
  }

  async #change(effect: () => number): Promise<number> {
    await tick();
    if (this.effects >= this.killAfter) throw new Killed();
    if (this.failWith !== 0) return this.failWith;
    this.effects += 1;
    return effect();
  }

  async #store(
    fd: number,
    offset: number,
    bytes: Buffer,
    holes: 'trusted' | 'punch',
  ): Promise<Stored> {
    const firstBlock = Math.floor(offset / BLOCK_BYTES);
    const endBlock = Math.ceil((offset + bytes.length) / BLOCK_BYTES);
    const whole = Buffer.alloc(endBlock * BLOCK_BYTES - firstBlock * BLOCK_BYTES);
    bytes.copy(whole, offset - firstBlock * BLOCK_BYTES);
    const sums = new Uint32Array(endBlock - firstBlock).map((_, i) => blockSum(whole, i, 0xffff));
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, at + PAGE_BYTES);
      if (holes === 'trusted' && zeros.subarray(0, page.length).equals(page)) continue;
      const errno = await this.#change(() => this.#pwrite(fd, offset + at, page));
      if (errno !== 0) return { errno, sums };
    }
    return { errno: 0, sums };
  }

  /** Page by page, each of them a change. */
  async #overwrite(
    fd: number,
    offset: number,
    bytes: Buffer,
    compare: Uint16Array,
  ): Promise<Overwritten> {
    const firstBlock = Math.floor(offset / BLOCK_BYTES);
    const changed = new Uint16Array(compare.length);
    const zeroPages = new Uint16Array(compare.length);
    const oldSums = new Uint32Array(compare.length);
    const outcome = (errno: number) => ({ errno, changed, zeros: zeroPages, oldSums });
    const file = this.#fds.get(fd);
    if (file === undefined) return outcome(EBADF);
    const end = offset + bytes.length;
    const pieces: [at: number, piece: Buffer][] = [];
    for (let at = offset; at < end; ) {
      const page = Math.floor(at / PAGE_BYTES);
      const pieceEnd = Math.min((page + 1) * PAGE_BYTES, end);
      const piece = bytes.subarray(at - offset, pieceEnd - offset);
      const index = Math.floor(page / PAGES_PER_BLOCK) - firstBlock;
      const bit = 1 << (page % PAGES_PER_BLOCK);
      const compared = ((compare[index] ?? 0) & bit) !== 0;
      const old = Buffer.alloc(PAGE_BYTES);
      file.bytes.copy(old, 0, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      const from = at - page * PAGE_BYTES;
      if (!compared || !old.subarray(from, from + piece.length).equals(piece)) {
        changed[index] = (changed[index] ?? 0) | bit;
        if (piece.equals(zeros)) zeroPages[index] = (zeroPages[index] ?? 0) | bit;
        if (compared) {
          const sum = blockSum(file.bytes, firstBlock + index, bit);
          oldSums[index] = (oldSums[index] ?? 0) ^ sum;
        }
        pieces.push([at, piece]);
      }
      at = pieceEnd;
    }
    for (const [at, piece] of pieces) {
      const errno = await this.#change(() => {
        // Zeros do not make the file longer.
        const room = piece.equals(zeros) ? Math.max(file.bytes.length - at, 0) : piece.length;
        return this.#pwrite(fd, at, piece.subarray(0, room));
      });
      if (errno !== 0) return outcome(errno);
    }
    return outcome(0);
  }

  #pwrite(fd: number, offset: number, bytes: Buffer): number {
    const file = this.#fds.get(fd);
    if (file === undefined) return EBADF;
    if (offset + bytes.length > MOST_BYTES) return ENOSPC;
    if (bytes.length === 0) return 0;
    if (offset + bytes.length > file.bytes.length) this.#resize(fd, offset + bytes.length);
    bytes.copy(file.bytes, offset);
    return 0;
  }

  #resize(fd: number, sizeBytes: number): number {
    const file = this.#fds.get(fd);
    if (file === undefined) return EBADF;
    const bytes = Buffer.alloc(sizeBytes);
    file.bytes.copy(bytes);
    file.bytes = bytes;
    return 0;
  }
}

const MOST_BYTES = 1 << 26;
const zeros = Buffer.alloc(PAGE_BYTES);

/** CRC-32C without inversions of the pages that `mask` says; what is beyond the end is zeros. */
export function blockSum(bytes: Buffer, block: number, mask: number): number {
  if (mask === 0) return 0;
  const whole = new Uint8Array(BLOCK_BYTES);
  for (let page = 0; page < PAGES_PER_BLOCK; page += 1) {
    const at = block * BLOCK_BYTES + page * PAGE_BYTES;
    if (((mask >> page) & 1) === 0) continue;
    whole.set(bytes.subarray(at, at + PAGE_BYTES), page * PAGE_BYTES);
  }
  let crc = 0;
  for (const word of new Uint32Array(whole.buffer)) {
    crc ^= word;
    crc =
      (table[768 + (crc & 255)] ?? 0) ^
      (table[512 + ((crc >>> 8) & 255)] ?? 0) ^
      (table[256 + ((crc >>> 16) & 255)] ?? 0) ^
      (table[crc >>> 24] ?? 0);
  }
  return crc >>> 0;
}

/** Four tables: a byte with no, one, two and three bytes of zeros behind it. */
const table = new Uint32Array(4 * 256);
for (let value = 0; value < table.length; value += 1) {
  let crc = value < 256 ? value : (table[value - 256] ?? 0);
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0x82f63b78 : 0);
  table[value] = crc;
}

function newFile(): PaperFile {
  const bytes = Buffer.alloc(0);
  return { kind: 'file', bytes, durable: Buffer.from(bytes), locked: false, mtimeNs: 0n };
}

function find(root: PaperDirectory, path: string): PaperNode | undefined {
  let node: PaperNode | undefined = root;
  for (const name of path.split('/').filter((part) => part !== '' && part !== '.')) {
    node = node?.kind === 'directory' ? node.entries.get(name) : undefined;
  }
  return node;
}

function apply(root: PaperDirectory, change: NameChange): number {
  const parent = find(root, dirname(change.path));
  if (parent === undefined) return ENOENT;
  if (parent.kind !== 'directory') return ENOTDIR;
  const name = basename(change.path);
  if (change.do === 'add') {
    if (parent.entries.has(name)) return EEXIST;
    parent.entries.set(name, change.node);
    return 0;
  }
  const node = parent.entries.get(name);
  if (node === undefined) return ENOENT;
  if (change.do === 'move') {
    const target = find(root, dirname(change.to));
    if (target?.kind !== 'directory') return ENOENT;
    const there = target.entries.get(basename(change.to));
    if (there?.kind === 'directory' && there.entries.size > 0) return ENOTEMPTY;
    target.entries.set(basename(change.to), node);
  }
  parent.entries.delete(name);
  return 0;
}

function copyNames(node: PaperNode, fileOf: (file: PaperFile) => PaperFile): PaperNode {
  if (node.kind === 'file') return fileOf(node);
  const entries = [...node.entries].map(
    ([name, child]) => [name, copyNames(child, fileOf)] as const,
  );
  return { kind: 'directory', entries: new Map(entries) };
}

/** Nothing is done before the caller has gone on. */
function tick(): Promise<void> {
  return Promise.resolve();
}
