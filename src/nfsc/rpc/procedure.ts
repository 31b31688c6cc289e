/**
 * A remote procedure as the RPC layer sees it: one table entry holds everything about it.
 */
import type { XdrReader } from '../xdr/reader.ts';
import type { XdrWriter } from '../xdr/writer.ts';
import type { Lease } from './buffer-pool.ts';

/** What every decoded reply can say of itself: the status's name, for logs and metrics. */
export interface Reply {
  readonly status: string;
}

export interface Procedure<Args, R extends Reply> {
  readonly program: number;
  readonly version: number;
  readonly number: number;
  readonly name: string;
  /** Arguments without the payload; at most MAX_ARGS_BYTES. */
  encode(writer: XdrWriter, args: Args): void;
  /** The last argument's bytes, sent from where they lie; `encode` wrote their count. */
  payload?(args: Args): Buffer;
  /** Throws XdrError. `lease` is there when `storage` is 'pooled'. */
  decode(reader: XdrReader, args: Args, lease: Lease | undefined): R;
  /** The largest reply that is believed, without the RPC header. */
  replyMaxBytes(args: Args): number;
  /**
   * Whose memory the reply is decoded from.
   *  - borrowed: the socket's; `decode` keeps no view of it
   *  - owned: its own, left to the collector; views are fine
   *  - pooled: lent; `decode` passes the lease on, or else it is given back at once. To pass it
   *    on it returns a reply that is `retained`.
   */
  readonly storage: 'borrowed' | 'owned' | 'pooled';
  /** Bytes of a file that the call has moved, for metrics; 0 without it. */
  contentBytes?(reply: R): number;
  /** Whether a reply of a pooled procedure keeps its lease. */
  retains?(reply: R): boolean;
}

/** xid to verifier, with AUTH_SYS at its longest. */
export const MAX_CALL_HEADER_BYTES = 4 + 6 * 4 + 8 + 400 + 8;
/** Two handles, two names and a link's target, with room to spare. */
export const MAX_ARGS_BYTES = 6 * 1024;
export const MAX_CALL_BYTES = MAX_CALL_HEADER_BYTES + MAX_ARGS_BYTES;
/** xid, type, status, a verifier at its longest, accept_stat and a version range. */
export const MAX_REPLY_HEADER_BYTES = 3 * 4 + 8 + 400 + 3 * 4;
