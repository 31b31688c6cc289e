/**
 * A portmapper (RFC 1833, version 2, TCP) that answers from a table: the peer of GETPORT tests.
 *
 * It runs in the caller's process on a free port of 127.0.0.1. It knows NULL, GETPORT and DUMP;
 * anything else gets PROC_UNAVAIL, another version PROG_MISMATCH, another program PROG_UNAVAIL.
 */
import { createServer, type Socket } from 'node:net';
import { portOf } from './ports.ts';

export interface Mapping {
  program: number;
  version: number;
  /** 6 is TCP, 17 is UDP (the default is TCP). */
  protocol?: number;
  port: number;
}

export interface Portmapper {
  readonly port: number;
  /** How many calls it has answered. */
  readonly calls: number;
  stop(): Promise<void>;
}

const LAST_FRAGMENT = 0x8000_0000;
const PMAP_PROGRAM = 100_000;
const PMAP_VERSION = 2;
const IPPROTO_TCP = 6;
/** Where a call's credentials begin: after xid, CALL, rpcvers, prog, vers and proc. */
const CREDENTIALS_AT = 24;

/** Accept states of RFC 5531, section 9. */
const accept = { success: 0, progUnavail: 1, progMismatch: 2, procUnavail: 3 } as const;

/** Starts it; GETPORT of what is not in the table answers 0, as the protocol has it. */
export async function startPortmapper(table: readonly Mapping[]): Promise<Portmapper> {
  const sockets = new Set<Socket>();
  let calls = 0;
  const server = createServer((socket) => {
    let received: Buffer = Buffer.alloc(0);
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 4) {
        const end = 4 + (received.readUInt32BE(0) & ~LAST_FRAGMENT);
        if (received.length < end) return;
        socket.write(answer(received.subarray(4, end), table));
        calls++;
        received = received.subarray(end);
      }
    });
  });
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(0, '127.0.0.1', done);
  });
  return {
    port: portOf(server),
    get calls() {
      return calls;
    },
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((done) => server.close(() => done()));
    },
  };
}

function answer(call: Buffer, table: readonly Mapping[]): Buffer {
  const xid = call.readUInt32BE(0);
  const program = call.readUInt32BE(12);
  const version = call.readUInt32BE(16);
  if (program !== PMAP_PROGRAM) return reply(xid, accept.progUnavail);
  if (version !== PMAP_VERSION) {
    return reply(xid, accept.progMismatch, [PMAP_VERSION, PMAP_VERSION]);
  }
  switch (call.readUInt32BE(20)) {
    case 0: // NULL
      return reply(xid, accept.success);
    case 3: // GETPORT
      return reply(xid, accept.success, [portFor(table, call, argumentsAt(call))]);
    case 4: // DUMP: a list of mappings, each after a TRUE
      return reply(xid, accept.success, [
        ...table.flatMap((m) => [1, m.program, m.version, m.protocol ?? IPPROTO_TCP, m.port]),
        0,
      ]);
    default:
      return reply(xid, accept.procUnavail);
  }
}

/** Behind credentials and verifier, each a flavour and a counted body padded to 4 bytes. */
function argumentsAt(call: Buffer): number {
  const after = (at: number) => at + 8 + Math.ceil(call.readUInt32BE(at + 4) / 4) * 4;
  return after(after(CREDENTIALS_AT));
}

function portFor(table: readonly Mapping[], call: Buffer, at: number): number {
  const [program, version, protocol] = [0, 4, 8].map((offset) => call.readUInt32BE(at + offset));
  const found = table.find(
    (mapping) =>
      mapping.program === program &&
      mapping.version === version &&
      (mapping.protocol ?? IPPROTO_TCP) === protocol,
  );
  return found?.port ?? 0;
}

/** An accepted reply with its record mark. */
function reply(xid: number, state: number, results: readonly number[] = []): Buffer {
  const words = [xid, 1, 0, 0, 0, state, ...results];
  const bytes = Buffer.alloc(4 + 4 * words.length);
  bytes.writeUInt32BE((LAST_FRAGMENT | (4 * words.length)) >>> 0, 0);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, 4 + 4 * index);
  return bytes;
}
