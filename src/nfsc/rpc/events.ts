/**
 * What the RPC layer tells whoever listens, through node:diagnostics_channel: logs and metrics
 * subscribe, and nothing is made when nobody does. Events are published synchronously.
 */
import { channel } from 'node:diagnostics_channel';

/** A call has ended. */
export interface CallEvent {
  readonly server: string;
  readonly procedure: string;
  readonly xid: number;
  /** From the moment it was asked for. */
  readonly durationMs: number;
  readonly requestBytes: number;
  /** 0 without a reply. */
  readonly replyBytes: number;
  /** Bytes of a file that a READ brought or a WRITE took. */
  readonly contentBytes: number;
  /** The reply's status, `NFS3_OK`, or the kind of the failure. */
  readonly outcome: string;
  /** How often it went out. */
  readonly sends: number;
}

/** A call is sent again with its old xid. */
export interface RetransmitEvent {
  readonly server: string;
  readonly procedure: string;
  readonly xid: number;
  /** This time included. */
  readonly sends: number;
}

export interface ConnectionEvent {
  readonly server: string;
  /** 0 to nconnect-1. */
  readonly connection: number;
  readonly state: 'idle' | 'connecting' | 'up' | 'backingOff' | 'closed';
  /** Why it is no longer up. */
  readonly reason?: string | undefined;
}

/** Published once when a server stops answering, and once when it answers again. */
export interface ServerEvent {
  readonly server: string;
  readonly state: 'notResponding' | 'ok';
  /** `server HOST:PORT not responding, still trying`, as the kernel's client has it. */
  readonly message: string;
}

/** A reply that no call waits for, or bytes that are no record. */
export interface StrayEvent {
  readonly server: string;
  readonly connection: number;
  readonly reason: string;
}

/** The channels by name: `gvfs:nfsc:call` carries CallEvent, and so on. */
export const rpcChannels = {
  call: channel('gvfs:nfsc:call'),
  retransmit: channel('gvfs:nfsc:retransmit'),
  connection: channel('gvfs:nfsc:connection'),
  server: channel('gvfs:nfsc:server'),
  stray: channel('gvfs:nfsc:stray'),
} as const;
