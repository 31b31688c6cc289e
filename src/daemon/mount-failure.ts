/**
 * Why there is no mount. The values travel from the daemon's process to the one that the user
 * started, which alone makes sentences of them.
 */
import { unreachable } from '../base/assert.ts';
import type { MountErrorCode } from '../fuse/transport.ts';
import type { MountFailure as ServerRefusal } from '../nfsc/index.ts';

export type MountFailure =
  | {
      readonly kind: 'mountpoint';
      readonly fault: MountpointFault;
      readonly mountpoint: string;
      /** What is mounted there already. */
      readonly occupant?: string;
    }
  | {
      readonly kind: 'server';
      readonly server: string;
      readonly exportPath: string;
      readonly detail: ServerRefusal;
      readonly message: string;
      /** What the server exports, where it was asked and told. */
      readonly exports?: readonly string[];
    }
  /** The export is there, and its root's attributes cannot be had. */
  | { readonly kind: 'root'; readonly source: string; readonly message: string }
  | {
      readonly kind: 'kernel';
      readonly code: MountErrorCode;
      readonly mountpoint: string;
      readonly message: string;
    }
  | { readonly kind: 'log'; readonly file: string; readonly reason: string }
  | { readonly kind: 'logInside'; readonly file: string; readonly mountpoint: string }
  | {
      readonly kind: 'cache';
      readonly fault: CacheFault;
      /** The whole cache's; empty when there is nowhere to put one. */
      readonly directory: string;
      /** What is wrong, for a person. */
      readonly message: string;
    }
  /** The daemon's process ended before the mount answered. */
  | { readonly kind: 'died'; readonly how: string }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'internal'; readonly message: string };

export type CacheFault =
  /** The user has no home that a cache could be in. */
  | 'nowhere'
  /** It lies beneath the mountpoint. */
  | 'inside'
  /** Another daemon has it. */
  | 'locked'
  /** Its disk fails, it is somebody else's, or not of this format. */
  | 'unusable';

export type MountpointFault =
  | 'missing'
  | 'notDirectory'
  | 'inUse'
  /** Its daemon is gone: every access answers ENOTCONN. */
  | 'stale'
  /** A look at it does not come back. */
  | 'hangs'
  | 'denied';

export type { MountErrorCode, ServerRefusal };

/** For the log: what happened, in one clause. What to do about it, the command says. */
export function reasonOf(failure: MountFailure): string {
  switch (failure.kind) {
    case 'mountpoint':
      return `the mountpoint ${failure.mountpoint} ${mountpointReasons[failure.fault]}`;
    case 'root':
      return `the root of ${failure.source} cannot be read (${failure.message})`;
    case 'server':
    case 'kernel':
      return failure.message;
    case 'log':
      return `the log ${failure.file} cannot be opened (${failure.reason})`;
    case 'logInside':
      return `the log ${failure.file} lies beneath the mountpoint`;
    case 'cache':
      return cacheReason(failure);
    case 'died':
      return `the daemon ended ${failure.how}`;
    case 'interrupted':
      return 'interrupted';
    case 'internal':
      return `internal error (${failure.message})`;
    default:
      return unreachable(failure);
  }
}

const mountpointReasons: Record<MountpointFault, string> = {
  missing: 'does not exist',
  notDirectory: 'is not a directory',
  inUse: 'is in use',
  stale: 'is left over from a daemon that is gone',
  hangs: 'does not answer',
  denied: 'may not be looked at',
};

function cacheReason({ fault, directory, message }: MountFailure & { kind: 'cache' }): string {
  switch (fault) {
    case 'nowhere':
      return 'there is no home to keep the cache in';
    case 'inside':
      return `the cache ${directory} lies beneath the mountpoint ${message}`;
    case 'locked':
      return `the cache is taken, ${message}`;
    case 'unusable':
      return `the cache in ${directory} cannot be used (${message})`;
    default:
      return unreachable(fault);
  }
}
