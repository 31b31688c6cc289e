/**
 * The second transport, for machines where our addon cannot be built: the npm package fuse-native,
 * which binds libfuse 2's path interface. It is slower and knows less: see `path-operations.ts`,
 * and besides it has no notices, no INTERRUPT (a process that waits for a dead server cannot be
 * killed), no file replies, times in milliseconds, and inode numbers of its own.
 *
 * fuse-native tells nobody that its mount is gone, so /proc/self/mountinfo is asked, twice a second.
 */
import { systemClock } from '../base/clock.ts';
import type { Histogram } from '../base/histogram.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { FsError } from '../errors/fs-error.ts';
import type { FileSystem } from '../vfs/operations.ts';
import {
  checkMountpoint,
  detachByFusermount,
  escapeOption,
  isInTree,
  isOnTop,
  type Place,
  placeAt,
  SUBTYPE,
} from './attach.ts';
import { negative, PathOperations } from './path-operations.ts';
import type {
  Capabilities,
  End,
  MountError,
  Mounted,
  MountSettings,
  Notices,
  Transport,
  UnmountError,
} from './transport.ts';

/** What we use of the package: it has no types of its own. */
interface FuseNative {
  mount(callback: (error: Error | null) => void): void;
}
type FuseNativeModule = new (mountpoint: string, operations: object, options: object) => FuseNative;

type Callback<T> = (errno: number, value?: T) => void;

const POLL_INTERVAL_MS = 500;
/** libfuse 2's largest request. */
const MAX_BYTES = 1 << 17;

export class FuseNativeTransport implements Transport {
  readonly name = 'fuse-native';

  async mount(fs: FileSystem, settings: MountSettings): Promise<Result<Mounted, MountError>> {
    const loaded = await load();
    if (!loaded.ok) return loaded;
    const checked = await checkMountpoint(settings.mountpoint);
    if (!checked.ok) return checked;
    const mountpoint = checked.value;
    let fail: (end: End) => void = () => {};
    const failed = new Promise<End>((resolve) => {
      fail = resolve;
    });
    const caller = {
      pid: process.pid,
      credentials: {
        uid: process.getuid?.() ?? 0,
        gid: process.getgid?.() ?? 0,
        groups: (process.getgroups?.() ?? []).filter((group) => group !== process.getgid?.()),
      },
    };
    const operations = callbacks(new PathOperations(fs, caller), (error) => {
      fail({ reason: 'failed', error: error instanceof Error ? error : new Error(String(error)) });
    });
    const fuse = new loaded.value(mountpoint, operations, optionsOf(settings));
    const error = await new Promise<Error | null>((resolve) => {
      fuse.mount(resolve);
    });
    if (error !== null) {
      const message = `mounting on ${mountpoint} failed: ${error.message}`;
      return err({ code: 'MOUNT_FAILED', message });
    }
    const place = await placeAt(mountpoint);
    const ended = Promise.race([gone(place), failed]).then(async (end) => {
      if (end.reason === 'failed') await abandon(place);
      return end;
    });
    return ok(new FuseNativeMount(place, ended));
  }
}

class FuseNativeMount implements Mounted {
  readonly mountpoint: string;
  readonly ended: Promise<End>;
  readonly capabilities: Capabilities = {
    protocol: 'libfuse 2',
    maxReadBytes: MAX_BYTES,
    maxWriteBytes: MAX_BYTES,
    readAheadKib: undefined,
    passthrough: 'this transport has none',
  };
  /** The kernel believes for a second at most what it was told (libfuse's default). */
  readonly notices: Notices = {
    invalidateInode: () => Promise.resolve(),
    invalidateAttributes: () => Promise.resolve(),
    invalidateEntry: () => Promise.resolve(),
  };

  /** libfuse 2 keeps all of this to itself. */
  readonly backing = undefined;
  waiting = () => [];
  failWaiting = () => 0;
  latencies = () => new Map<string, Histogram>();

  readonly #place: Place;

  constructor(place: Place, ended: Promise<End>) {
    this.mountpoint = place.mountpoint;
    this.#place = place;
    this.ended = ended;
  }

  async unmount(): Promise<Result<void, UnmountError>> {
    if (await isOnTop(this.#place)) return detachByFusermount(this.mountpoint, false);
    return err({ code: 'NOT_MOUNTED', message: `${this.mountpoint} is not mounted` });
  }

  /** It sends no notices that could hold the process, whose end fails what waits. */
  abandon(): Promise<void> {
    return abandon(this.#place);
  }
}

async function load(): Promise<Result<FuseNativeModule, MountError>> {
  try {
    const name: string = 'fuse-native'; // a string, not a literal: the package may be absent
    const loaded = (await import(name)) as { default: FuseNativeModule };
    return ok(loaded.default);
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    return err({
      code: 'NO_ADDON',
      message:
        `the package fuse-native cannot be loaded (${reason}): ` +
        'run npm install fuse-native, and install libfuse2',
    });
  }
}

/** Options are joined by commas, which is how those get in that fuse-native has no name for. */
function optionsOf(settings: MountSettings): object {
  return {
    fsname: escapeOption(settings.source),
    subtype: [SUBTYPE, 'big_writes', ...(settings.readOnly ? ['ro'] : [])].join(','),
    allowOther: settings.allowOther,
    defaultPermissions: settings.defaultPermissions,
    timeout: false, // a slow server is waited for
  };
}

/** The package's callbacks: an errno below 0, or a result. A broken invariant ends the session. */
function callbacks(paths: PathOperations, broken: (error: unknown) => void): object {
  const reply = <T, V>(
    callback: Callback<V>,
    call: () => Promise<Result<T, FsError>>,
    send: (value: T) => void,
  ): void => {
    Promise.resolve()
      .then(call)
      .then(
        (result) => {
          if (result.ok) send(result.value);
          else callback(negative(result.error));
        },
        (error: unknown) => {
          callback(-5); // EIO
          broken(error);
        },
      );
  };
  const done = (callback: Callback<void>, call: () => Promise<Result<unknown, FsError>>): void =>
    reply(callback, call, () => callback(0));
  const value = <T>(callback: Callback<T>, call: () => Promise<Result<T, FsError>>): void =>
    reply(callback, call, (result) => callback(0, result));
  /** For read and write, whose result takes the errno's place. */
  const count = (callback: Callback<void>, call: () => Promise<Result<number, FsError>>): void =>
    reply(callback, call, (bytes) => callback(bytes));

  return {
    getattr: (path: string, cb: Callback<object>) => value(cb, () => paths.getattr(path)),
    fgetattr: (path: string, _fd: number, cb: Callback<object>) =>
      value(cb, () => paths.getattr(path)),
    access: (path: string, mask: number, cb: Callback<void>) =>
      done(cb, () => paths.access(path, mask)),
    chmod: (path: string, mode: number, cb: Callback<void>) =>
      done(cb, () => paths.setattr(path, { mode: mode & 0o7777 })),
    chown: (path: string, uid: number, gid: number, cb: Callback<void>) =>
      done(cb, () => paths.chown(path, uid, gid)),
    truncate: (path: string, size: number, cb: Callback<void>) =>
      done(cb, () => paths.setattr(path, { size })),
    ftruncate: (_path: string, fd: number, size: number, cb: Callback<void>) =>
      done(cb, () => paths.ftruncate(fd, size)),
    utimens: (path: string, atimeMs: number, mtimeMs: number, cb: Callback<void>) =>
      done(cb, () => paths.utimens(path, atimeMs, mtimeMs)),
    readlink: (path: string, cb: Callback<string>) => value(cb, () => paths.readlink(path)),
    readdir: (path: string, cb: Callback<string[]>) => value(cb, () => paths.readdir(path)),
    statfs: (path: string, cb: Callback<object>) =>
      reply(
        cb,
        () => paths.statfs(path),
        (stat) =>
          cb(0, {
            bsize: 4096,
            frsize: 4096,
            blocks: Math.floor(stat.totalBytes / 4096),
            bfree: Math.floor(stat.freeBytes / 4096),
            bavail: Math.floor(stat.availableBytes / 4096),
            files: stat.totalFiles,
            ffree: stat.freeFiles,
            favail: stat.availableFiles,
            namemax: 255,
          }),
      ),
    mknod: (path: string, mode: number, rdev: number, cb: Callback<void>) =>
      done(cb, () => paths.mknod(path, mode, rdev)),
    mkdir: (path: string, mode: number, cb: Callback<void>) =>
      done(cb, () => paths.mkdir(path, mode)),
    symlink: (target: string, path: string, cb: Callback<void>) =>
      done(cb, () => paths.symlink(target, path)),
    link: (from: string, to: string, cb: Callback<void>) => done(cb, () => paths.link(from, to)),
    unlink: (path: string, cb: Callback<void>) => done(cb, () => paths.unlink(path)),
    rmdir: (path: string, cb: Callback<void>) => done(cb, () => paths.rmdir(path)),
    rename: (from: string, to: string, cb: Callback<void>) =>
      done(cb, () => paths.rename(from, to)),
    open: (path: string, flags: number, cb: Callback<number>) =>
      value(cb, () => paths.open(path, flags)),
    create: (path: string, mode: number, cb: Callback<number>) =>
      value(cb, () => paths.create(path, mode)),
    read: (
      _path: string,
      fd: number,
      into: Buffer,
      length: number,
      offset: number,
      cb: Callback<void>,
    ) => count(cb, () => paths.read(fd, into.subarray(0, length), offset)),
    write: (
      _path: string,
      fd: number,
      bytes: Buffer,
      length: number,
      offset: number,
      cb: Callback<void>,
    ) => count(cb, () => paths.write(fd, bytes.subarray(0, length), offset)),
    flush: (_path: string, fd: number, cb: Callback<void>) => done(cb, () => paths.flush(fd)),
    fsync: (_path: string, onlyBytes: number, fd: number, cb: Callback<void>) =>
      done(cb, () => paths.fsync(fd, onlyBytes !== 0)),
    release: (_path: string, fd: number, cb: Callback<void>) =>
      done(cb, async () => ok(paths.release(fd))),
  };
}

/** Out of the tree, busy or not. */
async function abandon(place: Place): Promise<void> {
  if (await isOnTop(place)) await detachByFusermount(place.mountpoint, true);
}

/** Resolves when nothing of ours is mounted there any more. */
function gone(place: Place): Promise<End> {
  return new Promise((resolve) => {
    const look = async () => {
      if (await isInTree(place).catch(() => false)) again();
      else resolve({ reason: 'unmounted' });
    };
    const again = () => systemClock.after(POLL_INTERVAL_MS, () => void look());
    again();
  });
}
