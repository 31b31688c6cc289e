/**
 * A stand-in for rpcbind that only says yes: answers every SET and UNSET (RFC 1833) on a UNIX
 * socket with TRUE, so that nfs-ganesha starts without rpcbind and without port 111.
 *
 *   node rpcbind-stub.mjs SOCKET      prints "ready" once it listens
 *
 * Plain JavaScript, because it must be up before the server can start: no loader, no compiler.
 */
import { createServer } from 'node:net';

const LAST_FRAGMENT = 0x80000000;
const RPCBPROC_SET = 1;
const RPCBPROC_UNSET = 2;

createServer((socket) => {
  let received = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    for (;;) {
      if (received.length < 4) return;
      const end = 4 + (received.readUInt32BE(0) & ~LAST_FRAGMENT);
      if (received.length < end) return;
      socket.write(answer(received.subarray(4, end)));
      received = received.subarray(end);
    }
  });
}).listen(process.argv[2], () => process.stdout.write('ready\n'));

/** The accepted reply to one call (RFC 5531, section 9): TRUE for SET and UNSET, else nothing. */
function answer(call) {
  const procedure = call.readUInt32BE(20);
  const results = procedure === RPCBPROC_SET || procedure === RPCBPROC_UNSET ? [1] : [];
  const words = [call.readUInt32BE(0), 1, 0, 0, 0, 0, ...results];
  const reply = Buffer.alloc(4 + 4 * words.length);
  reply.writeUInt32BE((LAST_FRAGMENT | (4 * words.length)) >>> 0, 0);
  for (const [index, word] of words.entries()) reply.writeUInt32BE(word, 4 + 4 * index);
  return reply;
}
