/**
 * Headers of calls and replies (RFC 5531, section 9).
 */
import type { Credentials } from '../../base/credentials.ts';
import { XdrError, type XdrReader } from '../xdr/reader.ts';
import type { XdrWriter } from '../xdr/writer.ts';
import { type AuthFlavorName, encodeAuth, MAX_AUTH_BYTES } from './auth.ts';
import { AuthStat, type AuthStatName, type NotDoneStat, type RpcFailure } from './failure.ts';

const CALL = 0;
const REPLY = 1;
const RPC_VERSION = 2;
const MSG_ACCEPTED = 0;
const MSG_DENIED = 1;
const SUCCESS = 0;
const RPC_MISMATCH = 0;
const AUTH_ERROR = 1;

export interface CallHeader {
  readonly xid: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
}

export function encodeCall(
  writer: XdrWriter,
  { xid, program, version, procedure }: CallHeader,
  flavor: AuthFlavorName,
  as: Credentials,
): void {
  writer.uint32(xid);
  writer.uint32(CALL);
  writer.uint32(RPC_VERSION);
  writer.uint32(program);
  writer.uint32(version);
  writer.uint32(procedure);
  encodeAuth(writer, flavor, as);
}

/**
 * Reads a reply's header, the xid already read. `undefined` is SUCCESS: the results follow.
 * @throws XdrError
 */
export function decodeReplyHeader(reader: XdrReader): RpcFailure | undefined {
  const type = reader.uint32();
  if (type !== REPLY) throw new XdrError(`a message of type ${type} where a reply should be`);
  const stat = reader.uint32();
  if (stat === MSG_ACCEPTED) return decodeAccepted(reader);
  if (stat === MSG_DENIED) return decodeDenied(reader);
  throw new XdrError(`reply_stat ${stat}`);
}

function decodeAccepted(reader: XdrReader): RpcFailure | undefined {
  reader.uint32(); // the verifier's flavor; neither AUTH_NONE nor AUTH_SYS has anything to verify
  reader.skipOpaque(MAX_AUTH_BYTES);
  const stat = reader.uint32();
  if (stat === SUCCESS) return undefined;
  const name = notDoneNames[stat];
  if (name === undefined) throw new XdrError(`accept_stat ${stat}`);
  if (name !== 'PROG_MISMATCH') return { kind: 'notDone', stat: name };
  const versions = { low: reader.uint32(), high: reader.uint32() };
  return { kind: 'notDone', stat: name, versions };
}

function decodeDenied(reader: XdrReader): RpcFailure {
  const stat = reader.uint32();
  if (stat === RPC_MISMATCH) {
    return { kind: 'denied', stat: 'RPC_MISMATCH', low: reader.uint32(), high: reader.uint32() };
  }
  if (stat !== AUTH_ERROR) throw new XdrError(`reject_stat ${stat}`);
  const auth = reader.uint32();
  const name = authStatNames.get(auth);
  if (name === undefined) throw new XdrError(`auth_stat ${auth}`);
  return { kind: 'denied', stat: 'AUTH_ERROR', auth: name };
}

/** accept_stat by number; SUCCESS is not among them. */
const notDoneNames: readonly (NotDoneStat | undefined)[] = [
  undefined,
  'PROG_UNAVAIL',
  'PROG_MISMATCH',
  'PROC_UNAVAIL',
  'GARBAGE_ARGS',
  'SYSTEM_ERR',
];

const authStatNames = new Map<number, AuthStatName>(
  Object.entries(AuthStat).map(([name, number]) => [number, name as AuthStatName]),
);
