/**
 * The one error value of the file-system layers. It is a plain object, made where the failure is
 * seen and carried unchanged to the kernel's reply and the log: never thrown, no stack.
 */
import { Errno, type ErrnoName } from './errno.ts';
import { errnoOfNfsStatus, type NfsErrorName } from './nfs-status.ts';

/**
 * Where the failure was decided. Codes are stable: users and dashboards match on them.
 *  - an nfsstat3 name: the server said so
 *  - LOCAL: we said so, without asking the server (bad name, closed handle, read-only mount)
 *  - RPC_TIMEOUT: no answer within the back-off of a soft mount
 *  - RPC_UNREACHABLE: no connection (refused, no route), soft mount or mount time
 *  - RPC_DENIED: the RPC layer refused us (RFC 5531, reject_stat and accept_stat)
 *  - PROTOCOL: the server's bytes do not decode; they are not believed
 *  - CLOSED: the session is ending
 */
export type FsErrorCode =
  | NfsErrorName
  | 'LOCAL'
  | 'RPC_TIMEOUT'
  | 'RPC_UNREACHABLE'
  | 'RPC_DENIED'
  | 'PROTOCOL'
  | 'CLOSED';

export interface FsError {
  readonly errno: ErrnoName;
  readonly code: FsErrorCode;
  /** The operation that failed, in the words of its layer: `READ`, `lookup`. */
  readonly operation: string;
  /** What a reader of the log wants to know beside the code, in one sentence. */
  readonly message: string;
}

/** The error of a reply whose status is not NFS3_OK. */
export function nfsError(status: NfsErrorName, operation: string): FsError {
  return {
    errno: errnoOfNfsStatus[status],
    code: status,
    operation,
    message: `${operation}: ${status}`,
  };
}

/** An error that we decided ourselves. */
export function localError(errno: ErrnoName, operation: string, message?: string): FsError {
  return { errno, code: 'LOCAL', operation, message: message ?? `${operation}: ${errno}` };
}

/** The positive errno number for the kernel. */
export function errnoNumber(error: FsError): number {
  return Errno[error.errno];
}
