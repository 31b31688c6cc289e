/**
 * Why there is no mount. The values travel from the daemon's process to the one that the user
 * started, which alone makes sentences of them.
 */
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
