/**
 * The file-system meaning of gvfs. Without a cache every read and write goes to the server, and
 * what is believed in between is attributes and names, for nfs(5)'s times; with one, bytes come
 * from the cache's images where they have them. What is believed for how long is the session's.
 *
 * This file is the door: it checks names, node ids and the session's state, and each operation's
 * meaning is in the module it is passed on to.
 */
import type { HandleId, Ino, Name } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { doubt } from './doubt.ts';
import type { VfsEvents } from './events.ts';
import type { Inode } from './inodes.ts';

import { type Located, locate, type OpenFileLine, openFiles, withImage } from './inspection.ts';
import { opendir, readdir, releasedir } from './listing.ts';
import { lookup } from './lookup.ts';
import { type MountParts, MountState } from './mount-state.ts';
import { checkName } from './names.ts';
import { link, mkdir, mknod, rename, rmdir, symlink, unlink } from './naming.ts';
import * as files from './open-files.ts';
import {
  type Attr,
  type Caller,
  type Dirent,
  type FileSystem,
  type Outcome,
  ROOT_INO,
} from './operations.ts';
import { defaultVfsOptions, type VfsOptions } from './options.ts';
import { Access, type CachedImage, type FsStat, type ImageServer } from './ports.ts';
import { setAttributes } from './set-attributes.ts';
import { removeHiddenName } from './silly-rename.ts';
import type { UnsentFile } from './unsent-files.ts';

/** Linux, unistd.h. */
const R_OK = 4;
const W_OK = 2;
const X_OK = 1;

/** How many lookups of files and how much memory the mount holds now. */
export interface VfsFigures {
  readonly inodes: number;
  readonly openHandles: number;
  /** Bytes in flight to the server, and acknowledged ones that are not committed. */
  readonly heldBytes: number;
  /** Images of the cache that somebody needs, and those that the kernel reads by itself. */
  readonly openImages: number;
  readonly passthroughImages: number;
  /** Of what only this host has. */
  readonly unsentFiles: number;
  readonly unsentBytes: number;
}

export type { Located, MountParts, OpenFileLine, UnsentFile };

export interface NfsFileSystem extends FileSystem {
  figures(): VfsFigures;
  /**
   * Takes in what an earlier session knew of the export, where this session may believe it
   * (exclusive, readonly). To be called before anything else is asked.
   */
  recall(): Promise<void>;
  /**
   * The server does not answer any more, or does again. While it is away what is known is believed,
   * however old, and calls that only wait to have it confirmed go on at once.
   */
  serverState(now: 'away' | 'back'): void;
  /** Walks from the root; symbolic links are not followed. May wait for the server. */
  locate(as: Credentials, path: readonly Name[]): Outcome<Located>;
  /** Runs `use` with the file's image open, if `as` may read the file. */
  withImage<T>(as: Credentials, ino: Ino, use: (image: CachedImage) => Promise<T>): Outcome<T>;
  /** Where an inode is, as `openFiles` says it; undefined: nobody knows it. */
  pathOf(ino: Ino): string | undefined;
  /** What programs have open. */
  openFiles(): OpenFileLine[];

  /** Files of which this host has what the server has not. */
  unsent(): UnsentFile[];
  /**
   * What was acknowledged before the call, of the file or of all, is durable at the server. Waits for
   * as long as the server does not answer (hard); answers the first error when all were tried.
   */
  settleUnsent(ino?: Ino): Outcome<void>;
  /** Drops what is unsent of the file, durably. */
  discardUnsent(ino: Ino): Outcome<void>;
  /**
   * Decides a conflict. 'mine': what is unsent may be sent again; 'theirs': it is dropped, and what
   * the server has counts. Once `signal` is aborted nothing is decided any more.
   */
  resolve(as: Credentials, ino: Ino, which: 'mine' | 'theirs', signal?: AbortSignal): Outcome<void>;
  /** 'refused': open(2) fails with EBUSY until they are allowed again; what is open goes on. */
  setOpens(now: 'allowed' | 'refused'): void;
  /**
   * Nothing that is known, of the file or of all, is believed any more without asking the server,
   * whatever the session. The kernel is to be told by `changedByOthers` and `namesRevoked`.
   */
  doubt(ino?: Ino): void;
  /**
   * Refuses new work and settles what was acknowledged. Unsent writes are sent until none is left
   * that can be, however long that takes; with `keepUnsent` they stay in the cache, for the next
   * daemon.
   */
  close(how?: { readonly keepUnsent?: boolean }): Promise<void>;
}

/** Options that are not given have nfs(5)'s defaults. Without `cache` nothing is cached. */
export function createFileSystem(
  server: ImageServer,
  options: Partial<VfsOptions>,
  clock: Clock,
  events: VfsEvents = {},
  parts: MountParts = {},
): NfsFileSystem {
  const all = { ...defaultVfsOptions, ...options };
  const state = new MountState(server, all, clock, events, parts);
  let lastStat: FsStat | undefined;
  const closed: FsError = {
    errno: 'ENOTCONN',
    code: 'CLOSED',
    operation: 'session',
    message: 'the session is ending',
  };

  /** Runs an operation on an inode that the kernel named. */
  async function on<T>(
    ino: Ino,
    operation: string,
    run: (inode: Inode) => Outcome<T>,
  ): Promise<Result<T, FsError>> {
    if (state.closing) return err(closed);
    const inode = state.inode(ino, operation);
    return inode.ok ? run(inode.value) : inode;
  }

  /** Runs an operation on a name in a directory. */
  function at<T>(
    parent: Ino,
    name: Buffer,
    operation: string,
    run: (directory: Inode, name: Name) => Outcome<T>,
  ): Outcome<T> {
    return on(parent, operation, async (directory) => {
      const checked = checkName(name, operation);
      return checked.ok ? run(directory, checked.value) : checked;
    });
  }

  /** Runs an operation that changes something. */
  function changing<T>(operation: string, run: () => Outcome<T>): Outcome<T> {
    if (state.options.readOnly) return Promise.resolve(err(localError('EROFS', operation)));
    return state.changing(run);
  }

  async function getattr(caller: Caller, ino: Ino): Outcome<Attr> {
    return on(ino, 'getattr', async (inode) => {
      // A mount that comes up without its server: there is nothing that could be waited for.
      if (ino === ROOT_INO && state.isAway && inode.attributes.known === undefined) {
        return err(localError('EIO', 'getattr', 'the server is away, and nothing is known of it'));
      }
      const attributes = await state.freshAttributes(caller.credentials, inode);
      return attributes.ok ? ok(state.attr(inode, attributes.value)) : attributes;
    });
  }

  async function access(caller: Caller, ino: Ino, mask: number): Outcome<void> {
    return on(ino, 'access', async (inode) => {
      const { credentials: as } = caller;
      const attributes = await state.freshAttributes(as, inode);
      if (!attributes.ok) return attributes;
      const isDirectory = attributes.value.type === 'directory';
      const isWrite = (mask & W_OK) !== 0;
      if (isWrite && state.options.readOnly) return err(localError('EROFS', 'access'));
      const wanted =
        ((mask & R_OK) !== 0 ? Access.READ : 0) |
        (isWrite ? Access.MODIFY | Access.EXTEND : 0) |
        ((mask & X_OK) !== 0 ? (isDirectory ? Access.LOOKUP : Access.EXECUTE) : 0);
      if (wanted === 0) return ok(undefined);
      const granted = await state.granted(as, inode, wanted);
      if (!granted.ok) return granted;
      return granted.value === wanted ? ok(undefined) : err(localError('EACCES', 'access'));
    });
  }

  async function readlink(caller: Caller, ino: Ino): Outcome<Buffer> {
    return on(ino, 'readlink', async (inode) => {
      const { target } = inode;
      const isBelieved = state.isAway || state.options.session !== 'shared';
      if (isBelieved && target !== undefined && state.attributes.isFresh(inode.attributes)) {
        if (target.version === inode.attributes.contentVersion) return ok(target.bytes);
      }
      const stamp = state.attributes.stamp();
      const version = inode.attributes.contentVersion;
      const result = await server.readlink(caller.credentials, inode.file);
      if (!result.ok) return state.failed(inode, result.error);
      const agreed = state.attributes.observe(inode.attributes, result.value.attributes, stamp);
      const bytes = Buffer.from(result.value.target);
      const { contentVersion } = inode.attributes;
      if ((agreed || contentVersion === version) && state.images !== undefined) {
        inode.target = { bytes, version: contentVersion };
        state.knowledge?.touched();
      }
      return ok(bytes);
    });
  }

  function read(_caller: Caller, handle: HandleId, offset: number, length: number) {
    return state.closing ? err(closed) : files.read(state, handle, offset, length);
  }

  /** Also while the session ends. */
  async function onUnsent(ino: Ino, run: (inode: Inode) => Outcome<void>): Outcome<void> {
    const inode = state.inode(ino, 'write-back');
    return inode.ok ? run(inode.value) : inode;
  }

  function ifOpen<T>(run: () => Outcome<T>): Outcome<T> {
    return state.closing ? Promise.resolve(err(closed)) : run();
  }

  return {
    lookup: ({ credentials, pid }, parent, name) =>
      at(parent, name, 'lookup', async (directory, checked) => {
        const found = await lookup(state, credentials, directory, checked);
        // The path leads nowhere: nothing is opened again.
        if (!found.ok || found.value.ino === 0) state.sentBack.delete(pid);
        return found;
      }),
    forget: (ino, lookups) => state.inodes.forget(ino, lookups),

    getattr,
    setattr: ({ credentials }, ino, changes, handle) =>
      changing('setattr', () =>
        on(ino, 'setattr', async (inode) => {
          const file = handle === undefined ? undefined : state.handles.file(handle);
          const set = await setAttributes(state, credentials, inode, changes, file);
          return set.ok ? ok(state.attr(inode, set.value)) : set;
        }),
      ),
    readlink,
    access,

    mknod: ({ credentials }, parent, name, mode, rdev) =>
      changing('mknod', () =>
        at(parent, name, 'mknod', (directory, checked) =>
          mknod(state, credentials, directory, checked, mode, rdev),
        ),
      ),
    mkdir: ({ credentials }, parent, name, mode) =>
      changing('mkdir', () =>
        at(parent, name, 'mkdir', (directory, checked) =>
          mkdir(state, credentials, directory, checked, mode),
        ),
      ),
    symlink: ({ credentials }, parent, name, target) =>
      changing('symlink', () =>
        at(parent, name, 'symlink', (directory, checked) =>
          symlink(state, credentials, directory, checked, target),
        ),
      ),
    link: ({ credentials }, ino, newParent, newName) =>
      changing('link', () =>
        on(ino, 'link', (inode) =>
          at(newParent, newName, 'link', (directory, checked) =>
            link(state, credentials, inode, directory, checked),
          ),
        ),
      ),
    unlink: ({ credentials }, parent, name) =>
      changing('unlink', () =>
        at(parent, name, 'unlink', (directory, checked) =>
          unlink(state, credentials, directory, checked),
        ),
      ),
    rmdir: ({ credentials }, parent, name) =>
      changing('rmdir', () =>
        at(parent, name, 'rmdir', (directory, checked) =>
          rmdir(state, credentials, directory, checked),
        ),
      ),
    rename: ({ credentials }, parent, name, newParent, newName, flags) =>
      changing('rename', () =>
        at(parent, name, 'rename', (from, fromName) =>
          at(newParent, newName, 'rename', (to, toName) =>
            rename(
              state,
              credentials,
              { directory: from, name: fromName },
              { directory: to, name: toName },
              flags,
            ),
          ),
        ),
      ),

    create: ({ credentials }, parent, name, mode, flags) =>
      changing('create', () =>
        at(parent, name, 'create', (directory, checked) =>
          files.create(state, credentials, directory, checked, mode, flags),
        ),
      ),
    open: (caller, ino, flags) =>
      on(ino, 'open', (inode) => {
        const open = () => files.open(state, caller, inode, flags);
        return files.truncates(flags) && !state.options.readOnly ? state.changing(open) : open();
      }),
    read,
    write: (_caller, handle, offset, payload) => {
      if (!state.closing) return state.changing(() => files.write(state, handle, offset, payload));
      payload.release();
      return Promise.resolve(err(closed));
    },
    // Still served while the session ends: closing a file tells of errors.
    flush: (_caller, handle) => files.flush(state, handle),
    fsync: (_caller, handle, _onlyBytes) => files.sync(state, handle),
    release: (handle) => files.release(state, handle),
    lseek: ({ credentials }, handle, offset, whence) =>
      ifOpen(() => files.lseek(state, credentials, handle, offset, whence)),

    opendir: ({ credentials }, ino) =>
      on(ino, 'opendir', (inode) => opendir(state, credentials, inode)),
    readdir: (_caller, handle, offset, plus, take: (dirent: Dirent) => boolean) =>
      ifOpen(() => readdir(state, handle, offset, plus, take)),
    releasedir: (handle) => releasedir(state, handle),
    // Changes of directories are durable when they are answered (RFC 1813, section 4.8).
    fsyncdir: () => Promise.resolve(ok(undefined)),

    statfs: ({ credentials }, ino) =>
      on(ino, 'statfs', async (inode) => {
        const asking = server.fsstat(credentials, inode.file);
        const result = await state.unlessAway(asking, () => lastStat);
        if (!result.ok) return state.failed(inode, result.error);
        lastStat = result.value;
        return result;
      }),

    close: (how = {}) => close(state, how.keepUnsent === true),
    figures: () => ({
      inodes: state.inodes.size,
      openHandles: state.handles.size,
      heldBytes: state.writes.heldBytes,
      openImages: state.images?.all().length ?? 0,
      passthroughImages: state.images?.all().filter(({ isHeld }) => isHeld).length ?? 0,
      ...state.unsentFiles.figures(),
    }),
    recall: async () => {
      await state.knowledge?.recall();
      state.unsentFiles.recover();
    },
    serverState: (now) => state.serverState(now),
    locate: (as, path) =>
      on(ROOT_INO, 'locate', () => {
        const wrong = path.map((name) => checkName(name, 'locate')).find((checked) => !checked.ok);
        return wrong?.ok === false ? Promise.resolve(wrong) : locate(state, as, path);
      }),
    withImage: (as, ino, use) => on(ino, 'image', (inode) => withImage(state, as, inode, use)),
    pathOf: (ino) => {
      const inode = state.inodes.get(ino);
      return inode === undefined ? undefined : state.pathText(inode);
    },
    openFiles: () => openFiles(state),

    unsent: () => state.unsentFiles.list(),
    settleUnsent: (ino) =>
      ino === undefined
        ? state.unsentFiles.settle()
        : onUnsent(ino, (inode) => state.unsentFiles.settle(inode)),
    discardUnsent: (ino) => onUnsent(ino, (inode) => state.unsentFiles.discard(inode)),
    resolve: (as, ino, which, signal) =>
      onUnsent(ino, (inode) => state.unsentFiles.resolve(as, inode, which, signal)),
    setOpens: (now) => {
      state.refusesOpens = now === 'refused';
    },
    doubt: (ino) => doubt(state, ino),
  };
}

/** Settles what was acknowledged, and removes the names of deleted files that are still open. */
async function close(state: MountState, keepUnsent: boolean): Promise<void> {
  state.closing = true;
  await state.images?.closeSettled();
  await state.writes.settleAll();
  while (state.background.size > 0) await Promise.all(state.background);
  // First: what is unsent of them need not be sent.
  for (const inode of state.inodes.hidden()) await removeHiddenName(state, inode, () => false);
  if (!keepUnsent) await state.unsentFiles.settleForClose();
  state.unsentFiles.end();
  while (state.background.size > 0) await Promise.all(state.background);
  await state.images?.close();
  await state.knowledge?.close();
  state.names.clear();
}
