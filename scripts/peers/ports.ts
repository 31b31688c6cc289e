/**
 * Free TCP ports on 127.0.0.1.
 *
 * They are taken from below the kernel's ephemeral range (32768 and up), so that no outgoing
 * connection can sit on a port while a server that owns it is being restarted.
 */
import { createServer, type Server } from 'node:net';

const LOWEST = 20_000;
const HIGHEST = 32_000;

/** `count` distinct ports that are free now. Throws when a hundred tries each do not find them. */
export async function freePorts(count: number): Promise<number[]> {
  const holders: Server[] = [];
  try {
    for (let tries = 0; holders.length < count; tries++) {
      if (tries > 100 * count) throw new Error(`no ${count} free TCP ports on 127.0.0.1`);
      const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
      const holder = await hold(port);
      if (holder) holders.push(holder);
    }
    return holders.map(portOf);
  } finally {
    await Promise.all(holders.map((holder) => new Promise((done) => holder.close(done))));
  }
}

/** The port that a listening TCP server has. */
export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address.port;
}

/** Listens on the port, or says by `undefined` that somebody else does. */
function hold(port: number): Promise<Server | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(undefined));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => done(server));
  });
}
