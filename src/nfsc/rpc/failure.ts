/**
 * Why a call has no reply that could be looked at, and what that is to a file-system caller.
 */
import type { ErrnoName } from '../../errors/errno.ts';
import type { FsError } from '../../errors/fs-error.ts';

/** auth_stat (RFC 5531, section 9). */
export const AuthStat = {
  AUTH_OK: 0,
  AUTH_BADCRED: 1,
  AUTH_REJECTEDCRED: 2,
  AUTH_BADVERF: 3,
  AUTH_REJECTEDVERF: 4,
  AUTH_TOOWEAK: 5,
  AUTH_INVALIDRESP: 6,
  AUTH_FAILED: 7,
  AUTH_KERB_GENERIC: 8,
  AUTH_TIMEEXPIRE: 9,
  AUTH_TKT_FILE: 10,
  AUTH_DECODE: 11,
  AUTH_NET_ADDR: 12,
  RPCSEC_GSS_CREDPROBLEM: 13,
  RPCSEC_GSS_CTXPROBLEM: 14,
} as const;
export type AuthStatName = keyof typeof AuthStat;

/** Why there is no connection. */
export type UnreachableReason =
  /** The name has no address. */
  | 'unknownHost'
  /** Nobody listens there. */
  | 'refused'
  /** No route, network or host down. */
  | 'noRoute'
  /** Nothing came back in time. */
  | 'timeout'
  /** A privileged source port was demanded and is not to be had. */
  | 'localPort'
  /** The connection was there and ended before the answer. */
  | 'lost';

export type RpcFailure =
  | { readonly kind: 'unreachable'; readonly reason: UnreachableReason; readonly message: string }
  | { readonly kind: 'timeout'; readonly message: string }
  /** MSG_DENIED (RFC 5531, section 9). */
  | { readonly kind: 'denied'; readonly stat: 'AUTH_ERROR'; readonly auth: AuthStatName }
  | {
      readonly kind: 'denied';
      readonly stat: 'RPC_MISMATCH';
      readonly low: number;
      readonly high: number;
    }
  /** MSG_ACCEPTED, but not done (RFC 5531, section 9, accept_stat). */
  | { readonly kind: 'notDone'; readonly stat: NotDoneStat; readonly versions?: Versions }
  | { readonly kind: 'protocol'; readonly message: string }
  | { readonly kind: 'closed' };

export type NotDoneStat =
  | 'PROG_UNAVAIL'
  | 'PROG_MISMATCH'
  | 'PROC_UNAVAIL'
  | 'GARBAGE_ARGS'
  | 'SYSTEM_ERR';

export interface Versions {
  readonly low: number;
  readonly high: number;
}

/** One sentence, without the operation's name. */
export function describeFailure(failure: RpcFailure): string {
  switch (failure.kind) {
    case 'unreachable':
    case 'timeout':
    case 'protocol':
      return failure.message;
    case 'denied':
      return failure.stat === 'AUTH_ERROR'
        ? `the server refuses our credentials (${failure.auth})`
        : `the server speaks RPC versions ${failure.low} to ${failure.high} only`;
    case 'notDone':
      return failure.versions === undefined
        ? `the server did not carry out the call (${failure.stat})`
        : `the server has versions ${failure.versions.low} to ${failure.versions.high} only`;
    case 'closed':
      return 'the client is closed';
  }
}

/** The failure as the error of `operation`. */
export function failureError(failure: RpcFailure, operation: string): FsError {
  const message = `${operation}: ${describeFailure(failure)}`;
  switch (failure.kind) {
    case 'unreachable':
      return { errno: 'EIO', code: 'RPC_UNREACHABLE', operation, message };
    case 'timeout':
      return { errno: 'EIO', code: 'RPC_TIMEOUT', operation, message };
    case 'denied': {
      const errno: ErrnoName = failure.stat === 'AUTH_ERROR' ? 'EACCES' : 'EIO';
      return { errno, code: 'RPC_DENIED', operation, message };
    }
    case 'notDone': {
      if (failure.stat === 'PROC_UNAVAIL') {
        return { errno: 'EOPNOTSUPP', code: 'NFS3ERR_NOTSUPP', operation, message };
      }
      return { errno: 'EIO', code: 'RPC_DENIED', operation, message };
    }
    case 'protocol':
      return { errno: 'EIO', code: 'PROTOCOL', operation, message };
    case 'closed':
      return { errno: 'EIO', code: 'CLOSED', operation, message };
  }
}
