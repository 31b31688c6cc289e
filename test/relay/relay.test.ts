import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { portOf } from '../../scripts/peers/ports.ts';
import { type Relay, type RelayOptions, startRelay } from '../../scripts/relay/start-relay.ts';

const PLAIN = {};
const SHAPED = { rttMs: 4, mbit: 400 };
const DELAYED = { rttMs: 4 };

describe('the relay', () => {
  const cleanups: (() => unknown)[] = [];

  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  /** A server that gets each connection, and a relay before it. */
  async function relayTo(
    serve: (socket: Socket) => unknown,
    shape: Omit<RelayOptions, 'to'>,
  ): Promise<Relay> {
    const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
      cleanups.push(() => socket.destroy());
      socket.on('error', () => socket.destroy());
      serve(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const relay = await startRelay({ ...shape, to: { port: portOf(server) } });
    cleanups.push(() => relay.stop());
    return relay;
  }

  async function dial(relay: Relay): Promise<Socket> {
    const socket = connect({ port: relay.port, host: relay.host, allowHalfOpen: true });
    cleanups.push(() => socket.destroy());
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  }

  for (const [name, shape] of Object.entries({ PLAIN, SHAPED, DELAYED })) {
    it(`carries bytes both ways, intact and in order (${name.toLowerCase()})`, async () => {
      const up = randomBytes(3_000_001);
      const down = randomBytes(5_000_003);
      const atServer: Promise<string>[] = [];
      const relay = await relayTo((socket) => {
        atServer.push(digest(socket));
        socket.end(down);
      }, shape);

      const sockets = await Promise.all([dial(relay), dial(relay), dial(relay)]);
      for (const socket of sockets) socket.end(up);
      const atClient = await Promise.all(sockets.map(digest));

      assert.deepEqual(
        atClient,
        sockets.map(() => sha256(down)),
      );
      assert.deepEqual(
        await Promise.all(atServer),
        sockets.map(() => sha256(up)),
      );
    });
  }

  it('passes the end of one direction on while the other goes on', async () => {
    const relay = await relayTo(async (socket) => {
      socket.end(`got ${await text(socket)}`); // answers only after the client's end
    }, SHAPED);
    const socket = await dial(relay);
    socket.end('all of it');
    assert.equal(await text(socket), 'got all of it');
  });

  it('counts bytes and connections where they leave the link', async () => {
    const relay = await relayTo(async (socket) => {
      await text(socket);
      socket.end(Buffer.alloc(70_000));
    }, SHAPED);
    for (let i = 0; i < 2; i++) {
      const socket = await dial(relay);
      socket.end(Buffer.alloc(1000));
      await digest(socket);
    }
    const { bytesToServer, bytesToClient, connections } = await relay.counters();
    assert.deepEqual(
      { bytesToServer, bytesToClient, connections },
      {
        bytesToServer: 2000,
        bytesToClient: 140_000,
        connections: 2,
      },
    );
    while ((await relay.counters()).openConnections > 0) await sleep(5);
  });

  it('forwards nothing while cut, and all of it after restore()', async () => {
    const relay = await relayTo((socket) => socket.pipe(socket), SHAPED);
    const socket = await dial(relay);
    socket.write('before ');
    assert.equal(String((await once(socket, 'data'))[0]), 'before ');

    await relay.cut();
    let heard = '';
    socket.on('data', (chunk) => {
      heard += chunk;
    });
    socket.write('while cut ');
    const late = await dial(relay); // the kernel completes the handshake, nobody answers
    late.end('a new connection');
    await sleep(50);
    assert.equal(heard, '');
    assert.equal((await relay.counters()).bytesToServer, 'before '.length);
    assert.equal(socket.destroyed, false);

    await relay.restore();
    assert.equal(await text(late), 'a new connection');
    socket.end('after');
    await once(socket, 'end');
    assert.equal(heard, 'while cut after');
  });

  it('resets connections on drop() and accepts new ones', async () => {
    const relay = await relayTo((socket) => socket.pipe(socket), PLAIN);
    const socket = await dial(relay);
    socket.write('x');
    await once(socket, 'data');
    const end = gone(socket);
    await relay.drop();
    assert.equal((await end)?.code, 'ECONNRESET');
    const next = await dial(relay);
    next.end('again');
    assert.equal(await text(next), 'again');
  });

  it('resets the client when the server refuses', async () => {
    const relay = await startRelay({ to: { port: await closedPort() } });
    cleanups.push(() => relay.stop());
    const socket = connect(relay.port, relay.host);
    assert.equal((await gone(socket))?.code, 'ECONNRESET');
  });

  it('holds back a sender whose receiver does not read, and only that one', async () => {
    let connections = 0;
    const relay = await relayTo((socket) => {
      if (connections++ > 0) socket.pipe(socket); // the first is never read
    }, SHAPED);
    const flood = await dial(relay);
    flood.write(Buffer.alloc(64 << 20));
    while ((await relay.counters()).bytesToServer === 0) await sleep(5);
    const other = await dial(relay);
    other.end('passes by');
    assert.equal(await text(other), 'passes by');
    assert.ok((await relay.counters()).bytesToServer < 32 << 20);
  });

  it('refuses connections after stop()', async () => {
    const relay = await relayTo((socket) => socket.pipe(socket), PLAIN);
    await relay.stop();
    await assert.rejects(dial(relay), { code: 'ECONNREFUSED' });
    await assert.rejects(relay.counters(), /the relay has ended/);
  });
});

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function digest(socket: Socket): Promise<string> {
  return sha256(await all(socket));
}

async function text(socket: Socket): Promise<string> {
  return String(await all(socket));
}

/** All that the peer sends. (Not by `for await`, which destroys the socket at the peer's end.) */
async function all(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  return Buffer.concat(chunks);
}

/** Resolves when the connection is gone, and says why, if by an error. */
function gone(socket: Socket): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((done) => {
    let why: NodeJS.ErrnoException | undefined;
    socket.on('error', (error) => {
      why = error;
    });
    socket.on('close', () => done(why));
  });
}

/** A port that was free a moment ago. */
async function closedPort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  await new Promise((done) => server.close(done));
  return port;
}
