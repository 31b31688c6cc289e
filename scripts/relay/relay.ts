/**
 * The emulated link as a command:
 *
 *   node --import tsx scripts/relay/relay.ts --to HOST:PORT [--listen HOST:PORT] [--rtt MS]
 *     [--mbit N]
 *
 * Runs until it is interrupted, then prints what has crossed the link.
 */
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { startRelay } from './start-relay.ts';

const USAGE = 'usage: relay.ts --to HOST:PORT [--listen 127.0.0.1:0] [--rtt MS] [--mbit N]';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:0' },
    to: { type: 'string' },
    rtt: { type: 'string', default: '0' },
    mbit: { type: 'string', default: '0' },
  },
});
if (values.to === undefined) {
  console.error(USAGE);
  process.exit(2);
}
const relay = await startRelay({
  listen: endpoint(values.listen),
  to: endpoint(values.to),
  rttMs: amount(values.rtt),
  mbit: amount(values.mbit),
});
console.log(`relay: ${relay.host}:${relay.port} to ${values.to}`);
await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
console.log('relay:', await relay.counters());
await relay.stop();

function endpoint(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, Math.max(colon, 0)), port: amount(text.slice(colon + 1)) };
}

function amount(text: string): number {
  const value = Number(text);
  if (text === '' || !(value >= 0)) {
    console.error(`relay: "${text}" is not a number\n${USAGE}`);
    process.exit(2);
  }
  return value;
}
