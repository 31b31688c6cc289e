/**
 * A process that sends bytes as fast as they are taken to whoever connects, on a free port of
 * 127.0.0.1, which it prints. Ends when it is killed.
 */
import { createServer, type Socket } from 'node:net';
import { portOf } from '../peers/ports.ts';

const block = Buffer.alloc(1 << 20, 'gvfs');

const server = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  send(socket);
});
server.listen(0, '127.0.0.1', () => console.log(portOf(server)));

/** Keeps two blocks on their way, so that the kernel never waits for the event loop. */
function send(socket: Socket): void {
  for (let i = 0; i < 2; i++) next();
  function next(): void {
    if (!socket.destroyed) socket.write(block, (error) => error ?? next());
  }
}
