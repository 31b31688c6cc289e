/**
 * An RPC server over TCP that does what a test scripts, and bytes to answer with.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

export interface ReceivedCall {
  readonly xid: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  /** The credentials' flavor and body. */
  readonly flavor: number;
  readonly credentials: Buffer;
  /** The arguments. */
  readonly args: Buffer;
  /** The whole record. */
  readonly record: Buffer;
  /** The number of the connection, from 0 on. */
  readonly connection: number;
  readonly socket: Socket;
}

/** Results for an accepted reply, or nothing: the script has answered in its own way, or not. */
export type Script = (call: ReceivedCall) => Buffer | undefined;

export interface FakeServer {
  readonly port: number;
  readonly calls: readonly ReceivedCall[];
  readonly sockets: readonly Socket[];
  script: Script;
  stop(): Promise<void>;
}

export async function startFakeServer(script: Script, port = 0): Promise<FakeServer> {
  const calls: ReceivedCall[] = [];
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    const connection = sockets.push(socket) - 1;
    socket.on('error', () => {});
    forEachRecord(socket, (record) => {
      const call = received(record, connection, socket);
      calls.push(call);
      const results = server.script(call);
      if (results !== undefined) socket.write(marked(accepted(call.xid, results)));
    });
  });
  listener.listen(port, '127.0.0.1');
  await once(listener, 'listening');
  const server: FakeServer = {
    port: (listener.address() as AddressInfo).port,
    calls,
    sockets,
    script,
    async stop() {
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, 'close');
    },
  };
  return server;
}

/** Calls `take` with every record of the stream, its fragments joined. */
export function forEachRecord(socket: Socket, take: (record: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  let fragments: Buffer[] = [];
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 4) {
      const mark = pending.readUInt32BE(0);
      const end = 4 + (mark & 0x7fff_ffff);
      if (pending.length < end) return;
      fragments.push(pending.subarray(4, end));
      pending = pending.subarray(end);
      if (mark < 0x8000_0000) continue;
      const record = Buffer.concat(fragments);
      fragments = [];
      take(record);
    }
  });
}

function received(record: Buffer, connection: number, socket: Socket): ReceivedCall {
  const word = (index: number) => record.readUInt32BE(4 * index);
  const credentialsEnd = 32 + padded(word(7));
  const verifierEnd = credentialsEnd + 8 + padded(record.readUInt32BE(credentialsEnd + 4));
  return {
    xid: word(0),
    program: word(3),
    version: word(4),
    procedure: word(5),
    flavor: word(6),
    credentials: record.subarray(32, 32 + word(7)),
    args: record.subarray(verifierEnd),
    record,
    connection,
    socket,
  };
}

// ---- Bytes --------------------------------------------------------------------------------------

/** XDR: a number is a word, a bigint two, a boolean a word, a Buffer counted bytes. */
export function xdr(...parts: readonly (number | bigint | boolean | Buffer)[]): Buffer {
  return Buffer.concat(parts.map(encoded));
}

function encoded(part: number | bigint | boolean | Buffer): Buffer {
  if (typeof part === 'bigint') {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(part);
    return bytes;
  }
  const word = Buffer.alloc(4);
  if (!Buffer.isBuffer(part)) {
    word.writeUInt32BE(Number(part));
    return word;
  }
  word.writeUInt32BE(part.length);
  return Buffer.concat([word, part, Buffer.alloc(padded(part.length) - part.length)]);
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/** MSG_ACCEPTED, no verifier, SUCCESS, and the results. */
export function accepted(xid: number, results: Buffer): Buffer {
  return Buffer.concat([xdr(xid, 1, 0, 0, 0, 0), results]);
}

/** A record in one fragment, or in as many as there are lengths and one for the rest. */
export function marked(record: Buffer, ...lengths: readonly number[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const length of lengths) {
    parts.push(xdr(length), record.subarray(at, at + length));
    at += length;
  }
  const rest = record.subarray(at);
  return Buffer.concat([...parts, xdr((0x8000_0000 | rest.length) >>> 0), rest]);
}

/** fattr3 of a file of 1970, but for what is said. */
export function fattr(
  options: { type?: number; mode?: number; uid?: number; size?: bigint; fileid?: bigint } = {},
): Buffer {
  const { type = 1, mode = 0o644, uid = 0, size = 0n, fileid = 7n } = options;
  const times = [1, 2, 3, 4, 5, 6];
  return xdr(type, mode, 1, uid, 0, size, size, 0, 0, 1n, fileid, ...times);
}

/** post_op_attr */
export function postOp(attributes?: Buffer): Buffer {
  return attributes === undefined ? xdr(0) : Buffer.concat([xdr(1), attributes]);
}

/** wcc_data that says nothing. */
export const noWcc = xdr(0, 0);

/** What FSINFO answers with, behind NFS3_OK. */
export function fsinfoResults(rtmax = 1 << 20, wtmax = 1 << 20): Buffer {
  const transfers = [rtmax, rtmax, 512, wtmax, wtmax, 512];
  return xdr(0, 0, ...transfers, 8192, 0x7fff_ffff_ffff_ffffn, 0, 1, 0x1b);
}

export const ROOT = Buffer.from('root handle');

/**
 * Answers MNT, UMNT and FSINFO as a decent server, and leaves the other NFS procedures to `nfs`.
 */
export function exportScript(nfs: Script): Script {
  return (call) => {
    if (call.program === 100_005) {
      return call.procedure === 1 ? Buffer.concat([xdr(0, ROOT, 1, 1)]) : xdr();
    }
    return call.procedure === 19 ? fsinfoResults() : nfs(call);
  };
}
