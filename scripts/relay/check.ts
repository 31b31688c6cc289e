/**
 * Checks the emulated link against what it promises, and fails when it does not hold:
 * delay within 5 %, rate within 5 %, more than 1 GB/s unshaped.
 *
 *   node --import tsx scripts/relay/check.ts
 *
 * The delay is the median time of a 1-byte ping-pong through the link, less the same through an
 * unshaped relay, which is what the machine itself takes. A busy machine fails: run it alone.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { linkRate } from '../bench/link.ts';
import { machine } from '../bench/machine.ts';
import { median } from '../bench/median.ts';
import { type Cell, render } from '../bench/table.ts';
import { portOf } from '../peers/ports.ts';
import { startRelay } from './start-relay.ts';

const LINKS = [
  { name: 'LAN', rttMs: 1, mbit: 1000, pings: 1000 },
  { name: 'WAN', rttMs: 35, mbit: 100, pings: 100 },
];
const TOLERANCE = 0.05;
const UNSHAPED_BAR = 1e9;

const rows: Cell[][] = [];
let failures = 0;

const unshapedMs = await pingPongMs({ pings: 1000 });
rows.push(['none', 'ping-pong', 'ms', undefined, unshapedMs, undefined, '']);
for (const { name, pings, ...shape } of LINKS) {
  const delay = (await pingPongMs({ pings, ...shape })) - unshapedMs;
  report(name, 'added round trip', 'ms', shape.rttMs, delay);
  const rate = await linkRate({ ...shape, seconds: 10 });
  report(name, 'one TCP stream', 'Mbit/s', shape.mbit, (rate * 8) / 1e6);
}
const unshaped: number[] = [];
for (let run = 0; run < 5; run++) unshaped.push(await linkRate({ seconds: 2 }));
const rate = median(unshaped);
verdict(
  ['none', 'one TCP stream', 'MB/s', UNSHAPED_BAR / 1e6, rate / 1e6, rate / UNSHAPED_BAR],
  rate > UNSHAPED_BAR,
);

const columns = ['link', 'what', 'unit', 'wanted', 'measured', 'ratio', ''];
console.log(render({ title: `The relay on ${machine()}`, columns, rows }));
process.exitCode = failures > 0 ? 1 : 0;

function report(link: string, what: string, unit: string, wanted: number, measured: number): void {
  const ratio = measured / wanted;
  verdict([link, what, unit, wanted, measured, ratio], Math.abs(ratio - 1) <= TOLERANCE);
}

function verdict(row: Cell[], holds: boolean): void {
  if (!holds) failures++;
  rows.push([...row, holds ? 'ok' : 'FAILS']);
}

/** The median round trip of one byte through a relay of the given shape, milliseconds. */
async function pingPongMs(link: { pings: number; rttMs?: number; mbit?: number }): Promise<number> {
  const { pings, ...shape } = link;
  const echo = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const relay = await startRelay({ ...shape, to: { port: portOf(echo) } });
  const socket = connect({ port: relay.port, host: relay.host, noDelay: true });
  try {
    await once(socket, 'connect');
    const times: number[] = [];
    for (let ping = 0; ping < pings; ping++) times.push(await roundTripMs(socket));
    return median(times);
  } finally {
    socket.destroy();
    await relay.stop();
    echo.close();
  }
}

async function roundTripMs(socket: Socket): Promise<number> {
  const began = performance.now();
  socket.write('x');
  await once(socket, 'data');
  return performance.now() - began;
}
