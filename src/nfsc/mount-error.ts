/**
 * Why a mount failed, for a program that tells its user what to do about it.
 */

import type { ErrnoName } from '../errors/errno.ts';
import { type FsError, type FsErrorCode, nfsError } from '../errors/fs-error.ts';
import type { NfsErrorName } from '../errors/nfs-status.ts';
import type { MountErrorName } from './mount3.ts';
import {
  describeFailure,
  failureError,
  type RpcFailure,
  type UnreachableReason,
} from './rpc/failure.ts';

/** The three servers that a mount talks to. */
export type Service = 'portmapper' | 'mountd' | 'nfs';

/** Where it failed, and how. */
export type MountFailure =
  /** No TCP connection to `service`, or none that lasted. */
  | {
      readonly kind: 'unreachable';
      readonly service: Service;
      readonly host: string;
      readonly port: number;
      readonly reason: UnreachableReason;
    }
  /** Connected, and never answered. */
  | { readonly kind: 'timeout'; readonly service: Service; readonly port: number }
  /** The portmapper knows no such program over TCP. */
  | { readonly kind: 'notRegistered'; readonly service: 'mountd' | 'nfs' }
  /**
   * MNT said no. ACCES, and PERM, from an unprivileged source port may mean just that port;
   * NOENT, and with some servers ACCES, that there is no such export.
   */
  | {
      readonly kind: 'refused';
      readonly status: MountErrorName;
      readonly fromPrivilegedPort: boolean;
    }
  /** The RPC layer said no (MSG_DENIED): AUTH_TOOWEAK may mean the unprivileged source port. */
  | {
      readonly kind: 'denied';
      readonly service: Service;
      readonly stat: string;
      readonly fromPrivilegedPort: boolean;
    }
  /** The server has not the program, or not version 3 of it, or could not take the call. */
  | { readonly kind: 'notDone'; readonly service: Service; readonly stat: string }
  /** None of the server's flavors (auth_flavor numbers) is AUTH_SYS or AUTH_NONE. */
  | { readonly kind: 'noFlavor'; readonly offered: readonly number[] }
  /** FSINFO of the export's root failed. */
  | { readonly kind: 'fsinfo'; readonly status: NfsErrorName }
  /** What answers there does not speak the protocol. */
  | { readonly kind: 'protocol'; readonly service: Service; readonly port: number }
  /** Options that cannot be. */
  | { readonly kind: 'options' };

export interface MountError extends FsError {
  readonly detail: MountFailure;
}

interface Peer {
  readonly service: Service;
  readonly host: string;
  readonly port: number;
  /** Our own port, if there was a connection. */
  readonly localPort: number | undefined;
}

const OPERATION = 'mount';

export function rpcMountError(failure: RpcFailure, peer: Peer): MountError {
  const message = `${peer.service}: ${describeFailure(failure)}`;
  const base = { ...failureError(failure, OPERATION), message };
  return { ...base, ...errnoOf(failure), detail: detailOf(failure, peer) };
}

export function statusMountError(
  status: MountErrorName,
  localPort: number | undefined,
): MountError {
  const detail = { kind: 'refused', status, fromPrivilegedPort: isPrivileged(localPort) } as const;
  // Each mountstat3 is an nfsstat3 of the same number and, but for its first letters, name.
  const code = status.replace('MNT3', 'NFS3') as NfsErrorName;
  return { ...nfsError(code, OPERATION), message: `mountd: ${status}`, detail };
}

export function fsinfoMountError(status: NfsErrorName): MountError {
  const message = `nfs: FSINFO of the export: ${status}`;
  return { ...nfsError(status, OPERATION), message, detail: { kind: 'fsinfo', status } };
}

export function otherMountError(
  detail: MountFailure,
  errno: ErrnoName,
  code: FsErrorCode,
  message: string,
): MountError {
  return { errno, code, operation: OPERATION, message, detail };
}

function detailOf(failure: RpcFailure, { service, host, port, localPort }: Peer): MountFailure {
  switch (failure.kind) {
    case 'unreachable':
      return { kind: 'unreachable', service, host, port, reason: failure.reason };
    case 'timeout':
      return { kind: 'timeout', service, port };
    case 'denied': {
      const stat = failure.stat === 'AUTH_ERROR' ? failure.auth : failure.stat;
      return { kind: 'denied', service, stat, fromPrivilegedPort: isPrivileged(localPort) };
    }
    case 'notDone':
      return { kind: 'notDone', service, stat: failure.stat };
    case 'protocol':
      return { kind: 'protocol', service, port };
    case 'closed':
      return { kind: 'unreachable', service, host, port, reason: 'lost' };
  }
}

const unreachableErrnos: Record<UnreachableReason, ErrnoName> = {
  unknownHost: 'EHOSTUNREACH',
  refused: 'ECONNREFUSED',
  noRoute: 'EHOSTUNREACH',
  timeout: 'ETIMEDOUT',
  localPort: 'EACCES',
  lost: 'EIO',
};

/** At mount time the caller is told what the socket said, not EIO. */
function errnoOf(failure: RpcFailure): { errno?: ErrnoName } {
  if (failure.kind === 'unreachable') return { errno: unreachableErrnos[failure.reason] };
  return failure.kind === 'timeout' ? { errno: 'ETIMEDOUT' } : {};
}

function isPrivileged(localPort: number | undefined): boolean {
  return localPort !== undefined && localPort < 1024;
}
