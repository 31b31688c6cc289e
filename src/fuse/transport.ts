/**
 * The port behind which a file system becomes a directory of this machine. The native transport
 * speaks the kernel's own protocol; another one may stand behind the same port.
 */
import type { Ino, Name } from '../base/brand.ts';
import type { Histogram } from '../base/histogram.ts';
import type { Result } from '../base/result.ts';
import type { FileSystem } from '../vfs/operations.ts';
import type { Backing } from '../vfs/ports.ts';

export interface MountSettings {
  /** An existing directory. */
  readonly mountpoint: string;
  /** What /proc/self/mountinfo and mount(8) show as the source: `server:/export`. */
  readonly source: string;
  readonly readOnly: boolean;
  /** Other users than the one who mounts may look in. */
  readonly allowOther: boolean;
  /** Set-user-id bits and device nodes are honoured: only where root says so. Default false. */
  readonly suid?: boolean;
  readonly dev?: boolean;
  /** Programs may be run. Default true. */
  readonly exec?: boolean;
  /** The kernel judges permissions by mode and owner, and the file system is not asked. */
  readonly defaultPermissions: boolean;
  /**
   * Cached pages of a file are dropped when its attributes come back with another mtime or size:
   * what a file needs that others write, too.
   */
  readonly autoInvalidate: boolean;
  /**
   * The kernel's read-ahead for this mount, in KiB; undefined leaves its default of 128. Only root
   * can set it: for others it stays as it is.
   */
  readonly readAheadKib: number | undefined;
  /** The kernel may read local files by itself, where it can (Linux 6.9, root). Default false. */
  readonly passthrough?: boolean;
  /** Requests are played before the mount, so that the first real ones are fast. Default true. */
  readonly rehearse?: boolean;
}

export type MountErrorCode =
  | 'NO_ADDON'
  | 'NO_FUSE_DEVICE'
  | 'FUSE_DEVICE_DENIED'
  | 'NO_FUSERMOUNT'
  | 'MOUNTPOINT_MISSING'
  | 'MOUNTPOINT_NOT_DIRECTORY'
  | 'MOUNTPOINT_STALE'
  | 'MOUNTPOINT_BUSY'
  | 'MOUNT_DENIED'
  | 'KERNEL_TOO_OLD'
  | 'MOUNT_FAILED';

/** For the person at the terminal: one sentence that says what to do. */
export interface MountError {
  readonly code: MountErrorCode;
  readonly message: string;
}

export interface UnmountError {
  /** BUSY: a process has a file open or its working directory in there. */
  readonly code: 'BUSY' | 'NOT_MOUNTED' | 'FAILED';
  readonly message: string;
}

export type End =
  | { readonly reason: 'unmounted' }
  /** A broken invariant, or a connection that failed. */
  | { readonly reason: 'failed'; readonly error: Error };

/** Tells the kernel what it may no longer believe. No reply may wait for one of these. */
export interface Notices {
  /**
   * Attributes, and with `length` not negative the pages of [offset, offset + length); length 0
   * goes to the end of the file. Resolves when the kernel has done it.
   */
  invalidateInode(ino: Ino, offset: number, length: number): Promise<void>;
  /** Only the attributes: never waits for a request. */
  invalidateAttributes(ino: Ino): Promise<void>;
  /** A name: it waits for pending lookups of that directory, and blocks it meanwhile. */
  invalidateEntry(parent: Ino, name: Name): Promise<void>;
}

/** What the two sides of the mount have agreed on, for the log. */
export interface Capabilities {
  readonly protocol: string;
  readonly maxReadBytes: number;
  readonly maxWriteBytes: number;
  /** As it is now; undefined where the machine does not tell. */
  readonly readAheadKib: number | undefined;
  /** 'yes' when the kernel has taken a file to read by itself; else one clause on why not. */
  readonly passthrough: string;
}

/** A request of a program that has no answer yet. */
export interface Waiting {
  /** In the kernel's words: `READ`. */
  readonly operation: string;
  readonly ino: Ino;
  readonly ageMs: number;
}

export interface Mounted {
  /** The real path of the mountpoint. */
  readonly mountpoint: string;
  /** As they are now: what the kernel will pass through shows with the first file. */
  readonly capabilities: Capabilities;
  readonly notices: Notices;
  /** Local files for the kernel to read; undefined where it was not wished or the kernel cannot. */
  readonly backing: Backing | undefined;
  /** Requests that have waited for over a second. */
  waiting(): readonly Waiting[];
  /**
   * Answers EIO to every request that waits for this node, those that a signal cannot reach
   * (O_DIRECT) included, and says how many. What was under way for them goes on unseen.
   */
  failWaiting(ino: Ino): number;
  /** How long answers took, by operation: they are added to as long as the mount lives. */
  latencies(): ReadonlyMap<string, Histogram>;
  /** Settles once: the mount is gone or was abandoned and every thread has ended, or it failed. */
  readonly ended: Promise<End>;
  /** Asks the kernel to end the mount; `ended` follows. Refused while something is open in it. */
  unmount(): Promise<Result<void, UnmountError>>;
  /**
   * Ends it whoever uses it: what waits and what still comes fails. A process that is to end while
   * its mount lives has to: a notice that waits for a request which nobody answers any more holds
   * it in the kernel for good, and with it the connection.
   */
  abandon(): Promise<void>;
}

export interface Transport {
  readonly name: 'native' | 'fuse-native';
  /** Answers when the kernel has greeted and the mount can be used. */
  mount(fs: FileSystem, settings: MountSettings): Promise<Result<Mounted, MountError>>;
}
