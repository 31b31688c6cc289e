/**
 * The directory of one export in the cache: one daemon has it at a time, and no image is opened
 * before somebody wants it.
 *
 *   CACHE/<export id>/LOCK         flock, and who has it
 *                     knowledge    what is known of names
 *                     <file id>/   an image each
 *                     .unsent/<id> says that the image has unsent writes, <id>.synced that some of
 *                                  them were synced
 *                     .gone/<n>    directories of images that were dropped: to be removed
 *                     .lost/<n>    the same, with unsent writes: for people, never removed
 *
 * Invariants:
 *  - C9: an image is dropped by renaming its directory: whoever has its files open keeps them.
 *  - What was dropped does not come back: the rename is durable before `setAside` resolves with 0.
 *  - C4: what has unsent writes, or may have, is not dropped but put aside, unless that is asked
 *    for. `.unsent` has a file for every image with unsent writes, and perhaps for others.
 *  - Openings, closings and drops of one image do not overlap.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { RecoveredFile } from '../vfs/ports.ts';
import { checkCacheDirectory, openCacheDirectory } from './cache-format.ts';
import { exportIdOf, isFileId } from './file-id.ts';
import type { FileIo } from './file-io.ts';
import type { ImageInfo } from './info-file.ts';
import { KnowledgeFile } from './knowledge-file.ts';
import { Lane } from './lane.ts';
import { localFailure } from './local-failure.ts';
import { LOCK_BYTES, type LockHolder, parseLock, writeLock } from './lock-file.ts';
import { type LostImage, lostImages } from './lost-images.ts';
import { isOursAlone } from './ownership.ts';
import { nodePathIo, type PathIo } from './path-io.ts';
import { recoveredFiles } from './recovered-files.ts';
import { readInfo } from './take-up.ts';
import { writeWhole } from './whole-file.ts';

export type { LockHolder } from './lock-file.ts';
export type { LostImage } from './lost-images.ts';

export interface ExportOptions {
  readonly cacheDir: string;
  /** `host:port` as mounted: with `exportPath` it is what the export is known by. */
  readonly server: string;
  readonly exportPath: string;
  readonly pid: number;
  readonly socket: string;
  readonly mountpoint: string;
  /** The daemon may change files of the export (default): LOCK says so to the next one. */
  readonly changes?: boolean;
  readonly io: FileIo;
  readonly paths?: PathIo;
  /** The kernel's id of this boot, 32 hex digits; read from /proc unless a test says it. */
  readonly bootId?: string;
  /** Failures that no caller is told of: of knowledge, of sweeping. */
  readonly onFailure?: (error: FsError) => void;
}

export type ExportRefusal =
  /** Another daemon has it; who, as far as its LOCK can be read. `message` says it in a sentence. */
  | { readonly kind: 'locked'; readonly holder: LockHolder | undefined; readonly message: string }
  /** Another format, another owner, or the disk failed: `message` says it in a sentence. */
  | { readonly kind: 'refused'; readonly error: FsError; readonly message: string };

export class ExportDirectory {
  readonly id: string;
  /** CACHE/<export id> */
  readonly path: string;
  /** `host:port:/export`, as in every info file. */
  readonly source: string;
  readonly bootId: string;
  readonly io: FileIo;
  readonly paths: PathIo;
  readonly knowledge: KnowledgeFile;

  readonly #onFailure: (error: FsError) => void;
  readonly #lockFd: number;
  readonly #lanes = new Map<string, { lane: Lane; users: number }>();
  readonly #open = new Map<string, object>();
  readonly #sweepLane = new Lane();
  #holder: LockHolder;
  #nextAside = 0;

  /** Makes what is missing, checks the rest, and takes the lock. Opens no image. */
  static async open(options: ExportOptions): Promise<Result<ExportDirectory, ExportRefusal>> {
    const { cacheDir, io, paths = nodePathIo } = options;
    const cache = await openCacheDirectory(cacheDir, paths, io);
    if (!cache.ok) return refused(cache.error);
    const path = join(cacheDir, exportIdOf(options.server, options.exportPath));
    const made = await paths.makeDirectory(path);
    if (made !== 0 && made !== Errno.EEXIST) return refused(localFailure(made, 'make', path));
    const mine = isOursAlone(await paths.status(path));
    if (!mine.ok) return refused(localError('EACCES', 'open cache', `${path} ${mine.error}`));
    const lock = join(path, 'LOCK');
    const opened = await paths.open(lock, 'create');
    if (opened.errno !== 0) return refused(localFailure(opened.errno, 'open', lock));
    const taken = await takeLock(io, paths, opened.fd, path);
    if (taken !== undefined) {
      await paths.close(opened.fd);
      return err(taken);
    }
    const before = await paths.read(lock, LOCK_BYTES);
    const holder = holderOf(options);
    const written = await writeLock(io, opened.fd, holder);
    if (written !== 0) {
      await paths.close(opened.fd);
      return refused(localFailure(written, 'write', lock));
    }
    const bootId = options.bootId ?? (await currentBootId(paths));
    const directory = new ExportDirectory(options, path, bootId, paths, opened.fd, holder);
    // Who did not end in order may have changed names while the disk did not let it forget.
    if (mayHaveChanged(before.bytes)) await directory.knowledge.forget();
    return ok(directory);
  }

  private constructor(
    options: ExportOptions,
    path: string,
    bootId: string,
    paths: PathIo,
    lockFd: number,
    holder: LockHolder,
  ) {
    this.id = exportIdOf(options.server, options.exportPath);
    this.path = path;
    this.source = holder.source;
    this.bootId = bootId;
    this.io = options.io;
    this.paths = paths;
    this.#onFailure = options.onFailure ?? (() => undefined);
    this.#lockFd = lockFd;
    this.#holder = holder;
    this.knowledge = new KnowledgeFile(this, this.#onFailure);
  }

  /** File ids of all that is kept, open or not, in no order. */
  async images(): Promise<Result<string[], FsError>> {
    const { errno, names } = await this.paths.list(this.path);
    return errno === 0 ? ok(names.filter(isFileId)) : err(localFailure(errno, 'list', this.path));
  }

  /** What is on the disk about one image, open or not; Err when it is damaged or gone. */
  async describe(fileId: string): Promise<Result<ImageInfo, FsError>> {
    const info = await readInfo(this, fileId);
    if (info.ok) return info;
    const message = `${join(this.path, fileId, 'info')} ${info.error}`;
    return err(localError('EIO', 'describe image', message));
  }

  isOpen(fileId: string): boolean {
    return this.#open.has(fileId);
  }

  /**
   * Drops a closed image: durably out of sight when it resolves with 0. EBUSY when it is open, or
   * has unsent writes, unless `what` says that these are to go, too.
   */
  drop(fileId: string, what: 'what is sent' | 'all' = 'what is sent'): Promise<number> {
    return this.exclusively(fileId, async () => {
      if (this.isOpen(fileId)) return Errno.EBUSY;
      if (what === 'what is sent' && (await this.#hasUnsent(fileId))) return Errno.EBUSY;
      return this.setAside(fileId);
    });
  }

  /** The files with unsent writes that are kept. Meant for the start: opens no image. */
  recovered(): Promise<RecoveredFile[]> {
    return recoveredFiles(this);
  }

  /** What was put aside with unsent writes in it. */
  lost(): Promise<LostImage[]> {
    return lostImages(this.path, this.paths);
  }

  /** Removes what was set aside or dropped; how many. Meant for the background. */
  sweepGone(): Promise<number> {
    return this.#sweepLane.run(() => this.#sweep());
  }

  /** Says in LOCK whether this daemon still serves. Errno. */
  setState(state: LockHolder['state']): Promise<number> {
    this.#holder = { ...this.#holder, state };
    return writeLock(this.io, this.#lockFd, this.#holder);
  }

  /** Ends in order, and gives the lock back. Images have to be closed before. */
  async close(): Promise<void> {
    assert(this.#open.size === 0, 'export directory: images are open');
    if (this.knowledge.isTrue) await this.setState('ended');
    await this.paths.close(this.#lockFd);
  }

  // ---- For the image directories ----

  /** Runs `work` when no other work on this image runs. It must not call this again. */
  async exclusively<T>(fileId: string, work: () => Promise<T>): Promise<T> {
    const known = this.#lanes.get(fileId) ?? { lane: new Lane(), users: 0 };
    this.#lanes.set(fileId, known);
    known.users += 1;
    try {
      return await known.lane.run(work);
    } finally {
      known.users -= 1;
      if (known.users === 0) this.#lanes.delete(fileId);
    }
  }

  /** The directory of `fileId` is `owner`'s: the one before it has no name any more. */
  attach(fileId: string, owner: object): void {
    this.#open.set(fileId, owner);
  }

  detach(fileId: string, owner: object): void {
    if (this.#open.get(fileId) === owner) this.#open.delete(fileId);
  }

  /**
   * Takes the name from whatever has it, durably. `lost` says why something with unsent writes in
   * it cannot be taken up: it is kept for people. Errno; 0 when nothing has the name.
   */
  async setAside(fileId: string, lost?: string): Promise<number> {
    const aside = join(this.path, lost === undefined ? '.gone' : '.lost');
    const made = await this.paths.makeDirectory(aside);
    if (made !== 0 && made !== Errno.EEXIST) return made;
    for (;;) {
      const to = join(aside, String(this.#nextAside));
      this.#nextAside += 1;
      // What a daemon before this one left there is not looked for, but met.
      if ((await this.paths.status(to)).errno === 0) continue;
      const errno = await this.paths.rename(join(this.path, fileId), to);
      if (errno !== 0 && errno !== Errno.ENOENT) return errno;
      if (errno === 0) {
        if (lost !== undefined) await this.#sayWhy(to, lost);
        const synced = await this.paths.sync(aside);
        const left = synced === 0 ? await this.paths.sync(this.path) : synced;
        if (left !== 0) return left;
      }
      await this.unmarkUnsent(fileId);
      return 0;
    }
  }

  /** Notes, for a daemon that is killed, that the image is going to have unsent writes. Errno. */
  async markUnsent(fileId: string): Promise<number> {
    const marks = join(this.path, '.unsent');
    const made = await this.paths.makeDirectory(marks);
    if (made !== 0 && made !== Errno.EEXIST) return made;
    const { errno, fd } = await this.paths.open(join(marks, fileId), 'create');
    if (errno !== 0) return errno;
    const written = await this.io.write(fd, 0, Buffer.from(`${this.bootId}\n`));
    await this.paths.close(fd);
    return written;
  }

  /** Durably notes that it has unsent writes that have to outlive a power loss. Errno. */
  async markSynced(fileId: string): Promise<number> {
    const { errno, fd } = await this.paths.open(this.#syncedMark(fileId), 'create');
    if (errno !== 0) return errno;
    await this.paths.close(fd);
    const synced = await this.paths.sync(join(this.path, '.unsent'));
    return synced === 0 ? this.paths.sync(this.path) : synced;
  }

  /** Marks that are left say nothing: info is asked. */
  async unmarkUnsent(fileId: string): Promise<void> {
    await this.paths.remove(this.#syncedMark(fileId));
    await this.paths.remove(join(this.path, '.unsent', fileId));
  }

  /**
   * Whether unsent writes may be in an image that cannot be believed. After a power loss only what
   * was synced had to be there: what else it has left of an image is no loss.
   */
  async mayHoldUnsent(fileId: string): Promise<boolean> {
    const mark = await this.paths.read(join(this.path, '.unsent', fileId), 4096);
    if (mark.errno === 0 && mark.bytes.toString() === `${this.bootId}\n`) return true;
    return (await this.paths.status(this.#syncedMark(fileId))).errno === 0;
  }

  writeWhole(directory: string, name: string, bytes: Buffer, durable: boolean): Promise<number> {
    return writeWhole(this.paths, this.io, directory, name, bytes, durable);
  }

  /** An image of which nothing can be read has unsent writes if it is marked so. */
  async #hasUnsent(fileId: string): Promise<boolean> {
    const info = await readInfo(this, fileId);
    return info.ok ? info.value.unsent !== undefined : this.mayHoldUnsent(fileId);
  }

  #syncedMark(fileId: string): string {
    return join(this.path, '.unsent', `${fileId}.synced`);
  }

  async #sayWhy(path: string, why: string): Promise<void> {
    const errno = await this.writeWhole(path, 'why', Buffer.from(`${why}\n`), false);
    if (errno !== 0) this.#onFailure(localFailure(errno, 'write', join(path, 'why')));
  }

  async #sweep(): Promise<number> {
    const gone = join(this.path, '.gone');
    const { errno, names } = await this.paths.list(gone);
    if (errno !== 0) return 0;
    let removed = 0;
    for (const name of names) {
      const failed = await removeTree(this.paths, join(gone, name));
      if (failed === 0) removed += 1;
      else this.#onFailure(localFailure(failed, 'remove', join(gone, name)));
    }
    return removed;
  }
}

/** Ids of the exports in a cache; takes no lock. */
export async function exportsIn(
  cacheDir: string,
  paths: PathIo = nodePathIo,
): Promise<Result<string[], FsError>> {
  const ours = await checkCacheDirectory(cacheDir, paths);
  if (!ours.ok) return ours;
  const { errno, names } = await paths.list(cacheDir);
  return errno === 0 ? ok(names.filter(isFileId)) : err(localFailure(errno, 'list', cacheDir));
}

/** Who holds, or held last, an export: what its LOCK says; undefined when it says nothing. */
export async function lockHolderOf(
  cacheDir: string,
  exportId: string,
  paths: PathIo = nodePathIo,
): Promise<LockHolder | undefined> {
  const { errno, bytes } = await paths.read(join(cacheDir, exportId, 'LOCK'), LOCK_BYTES);
  return errno === 0 ? parseLock(bytes) : undefined;
}

function refused(error: FsError): Result<never, ExportRefusal> {
  return err({ kind: 'refused', error, message: error.message });
}

async function takeLock(
  io: FileIo,
  paths: PathIo,
  fd: number,
  path: string,
): Promise<ExportRefusal | undefined> {
  const errno = io.lock(fd);
  if (errno === 0) return undefined;
  const lock = join(path, 'LOCK');
  if (errno !== Errno.EAGAIN) {
    const error = localFailure(errno, 'lock', lock);
    return { kind: 'refused', error, message: error.message };
  }
  const { bytes } = await paths.read(lock, LOCK_BYTES);
  const holder = parseLock(bytes);
  const who =
    holder === undefined
      ? 'another daemon, which has not said who it is'
      : `the daemon ${holder.pid}, which serves ${holder.source} at ${holder.mountpoint}`;
  const ending = holder?.state === 'draining' ? ', and is about to end' : '';
  return { kind: 'locked', holder, message: `${path} is in use by ${who}${ending}` };
}

function holderOf(options: ExportOptions): LockHolder {
  const { pid, socket, mountpoint, server, exportPath, changes = true } = options;
  const source = `${server}:${exportPath}`;
  return { pid, socket, mountpoint, source, changes, state: 'serving' };
}

/** Whether the last holder, as LOCK has it, may have left knowledge that is not true. */
function mayHaveChanged(lock: Buffer): boolean {
  if (lock.length === 0) return false;
  const last = parseLock(lock);
  return last === undefined || (last.changes && last.state !== 'ended');
}

/** Where the kernel does not say, every start counts as one of another boot. */
async function currentBootId(paths: PathIo): Promise<string> {
  const { bytes } = await paths.read('/proc/sys/kernel/random/boot_id', 4096);
  const id = bytes.toString().trim().replaceAll('-', '');
  return isFileId(id) ? id : randomBytes(16).toString('hex');
}

async function removeTree(paths: PathIo, path: string): Promise<number> {
  const { errno, kind } = await paths.status(path);
  if (errno !== 0) return errno;
  if (kind !== 'directory') return paths.remove(path);
  const { names } = await paths.list(path);
  for (const name of names) {
    const failed = await removeTree(paths, join(path, name));
    if (failed !== 0) return failed;
  }
  return paths.removeDirectory(path);
}
