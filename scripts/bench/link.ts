/**
 * What a link carries: one raw TCP stream through a relay, the yardstick of every bandwidth ratio.
 *
 * Sender and relay are processes of their own; the receiver reads into one buffer and counts.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { spawnOwned } from '../peers/owned-process.ts';
import { startRelay } from '../relay/start-relay.ts';

export interface LinkOptions {
  rttMs?: number;
  mbit?: number;
  /** How long to measure, after `warmUpSeconds` (default 20 and 1). */
  seconds?: number;
  warmUpSeconds?: number;
}

/** Bytes a second of one stream from server to client. */
export async function linkRate(options: LinkOptions): Promise<number> {
  const { seconds = 20, warmUpSeconds = 1, ...shape } = options;
  const source = await spawnOwned(process.execPath, ['--import', 'tsx', SOURCE], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const { stdout } = source.child;
    if (!stdout) throw new Error('the source has no standard output');
    const [port] = (await once(stdout, 'data')) as [Buffer];
    const relay = await startRelay({ ...shape, to: { port: Number(port) } });
    try {
      return await receive(relay.port, seconds, warmUpSeconds);
    } finally {
      await relay.stop();
    }
  } finally {
    await source.end('SIGKILL');
  }
}

const SOURCE = fileURLToPath(new URL('stream-source.ts', import.meta.url));

async function receive(port: number, seconds: number, warmUpSeconds: number): Promise<number> {
  let received = 0;
  const socket = connect({
    port,
    host: '127.0.0.1',
    onread: {
      buffer: Buffer.alloc(1 << 20),
      callback: (size) => {
        received += size;
        return true;
      },
    },
  });
  await once(socket, 'connect');
  await sleep(warmUpSeconds * 1000);
  const before = received;
  const began = performance.now();
  await sleep(seconds * 1000);
  const rate = (received - before) / ((performance.now() - began) / 1000);
  socket.destroy();
  return rate;
}
