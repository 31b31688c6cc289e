/**
 * A call on its way, from the moment it is asked for to its end, over however many connections.
 */
import type { RpcFailure } from './failure.ts';
import type { Procedure, Reply } from './procedure.ts';

/** What came of a call. */
export type Outcome<R> =
  | {
      readonly ok: true;
      readonly value: R;
      /** It was sent more than once: the server may have carried it out more than once. */
      readonly retransmitted: boolean;
    }
  | { readonly ok: false; readonly error: RpcFailure; readonly retransmitted: boolean };

export interface Call {
  readonly xid: number;
  readonly procedure: Procedure<unknown, Reply>;
  readonly args: unknown;
  /** Record mark, header, arguments: the same bytes each time it is sent. */
  readonly head: Buffer;
  /** What follows the head, with its padding made up by the connection. */
  readonly payload: Buffer | undefined;
  /** The reply with its header is not longer than this. */
  readonly replyMaxBytes: number;
  readonly startedMs: number;
  /** When a soft call ends without a reply; Infinity for a hard one. */
  readonly deadlineMs: number;
  readonly settle: (outcome: Outcome<Reply>) => void;
  /** How often it has been put on a socket. */
  sends: number;
  /** When it last was; startedMs until then. */
  sentMs: number;
  /** Time-outs it has seen. */
  timeouts: number;
}

export function requestBytes(call: Call): number {
  return call.head.length + (call.payload?.length ?? 0);
}
