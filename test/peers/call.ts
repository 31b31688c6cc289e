/** One hand-encoded RPC call over TCP (RFC 5531), so that the peers are tested without nfsc. */
import { connect, type Socket } from 'node:net';

export interface Call {
  port: number;
  program: number;
  version: number;
  procedure: number;
  /** The procedure's arguments, encoded. */
  body?: Buffer;
}

/** The reply's bytes after its record mark. Rejects when the connection ends before them. */
export async function call({ port, program, version, procedure, body }: Call): Promise<Buffer> {
  const words = [0x67766673, 0, 2, program, version, procedure, 0, 0, 0, 0];
  const header = Buffer.alloc(4 * words.length);
  for (const [index, word] of words.entries()) header.writeUInt32BE(word, 4 * index);
  const message = Buffer.concat([header, body ?? Buffer.alloc(0)]);
  const mark = Buffer.alloc(4);
  mark.writeUInt32BE((0x8000_0000 | message.length) >>> 0);

  const socket = connect(port, '127.0.0.1');
  try {
    socket.write(Buffer.concat([mark, message]));
    return await oneRecord(socket);
  } finally {
    socket.destroy();
  }
}

/** The reply's words: xid, REPLY, MSG_ACCEPTED, verifier (2), accept state, results. */
export function words(reply: Buffer): number[] {
  return Array.from({ length: reply.length >> 2 }, (_, index) => reply.readUInt32BE(4 * index));
}

async function oneRecord(socket: Socket): Promise<Buffer> {
  let received = Buffer.alloc(0);
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk as Buffer]);
    if (received.length < 4) continue;
    const length = received.readUInt32BE(0) & 0x7fff_ffff;
    if (received.length >= 4 + length) return received.subarray(4, 4 + length);
  }
  throw new Error('the connection ended before the reply');
}
