import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import { type CallEvent, Nfs3Client, rpcChannels, type ServerEvent } from '../../src/nfsc/index.ts';
import { getattr, nullProcedure } from '../../src/nfsc/nfs3/procedures.ts';
import { Transport } from '../../src/nfsc/rpc/transport.ts';
import { accepted, fattr, marked, type ReceivedCall, startFakeServer, xdr } from './fake-server.ts';
import { fakeMount, fakeServer, listen, must, root, until } from './support.ts';

const file = Buffer.from('handle') as FileHandle;
const attributes = Buffer.concat([xdr(0), fattr({ size: 5n })]);
const NULL = 0;

/** A patient transport that probes, with time-outs that no test reaches. */
function transportTo(t: TestContext, port: number): Transport {
  const transport = new Transport({
    host: '127.0.0.1',
    port,
    sourcePort: 'any',
    patience: 'hard',
    probe: nullProcedure,
  });
  t.after(() => transport.close());
  return transport;
}

describe('a probe', () => {
  it('finds that a silent server is away, long before the time-out, and finds it back', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    let isSilent = true;
    const server = await fakeServer(t, (call) =>
      isSilent ? undefined : call.procedure === NULL ? Buffer.alloc(0) : attributes,
    );
    const transport = transportTo(t, server.port);
    const call = transport.call(getattr, root, { file });
    await until(() => said.length > 0);
    assert.match(said[0]?.message ?? '', /not responding \(no answer from .*\), still trying$/);
    isSilent = false;
    // The connection of before stays silent: what waits goes out on another.
    assert.ok((await call).ok);
    assert.deepEqual(
      said.map(({ state }) => state),
      ['notResponding', 'ok'],
    );
    assert.equal(server.calls.filter(({ procedure }) => procedure === getattr.number).length, 2);
  });

  it('finds a server back while nobody asks it anything', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    const server = await fakeServer(t, () => Buffer.alloc(0));
    const transport = transportTo(t, server.port);
    transport.assumeAway('as a test says');
    assert.match(said[0]?.message ?? '', /not responding \(as a test says\)/);
    await until(() => said.length > 1);
    assert.equal(said[1]?.state, 'ok');
    assert.deepEqual(
      server.calls.map(({ procedure }) => procedure),
      [NULL],
    );
  });

  it('finds that a slow server is there, and leaves its connection alone', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    let waiting: ReceivedCall | undefined;
    let probes = 0;
    const server = await fakeServer(t, (call) => {
      if (call.procedure === NULL) {
        probes++;
        return Buffer.alloc(0);
      }
      waiting = call;
      return undefined;
    });
    const transport = transportTo(t, server.port);
    const call = transport.call(getattr, root, { file });
    await until(() => probes > 0);
    await until(() => server.sockets[1]?.destroyed === true);
    assert.ok(waiting !== undefined);
    waiting.socket.write(marked(accepted(waiting.xid, attributes)));
    assert.ok((await call).ok);
    assert.deepEqual(said, []);
  });

  it('is not made while answers come', async (t) => {
    const calls = listen<CallEvent>(t, rpcChannels.call);
    const held: ReceivedCall[] = [];
    const server = await fakeServer(t, (call) => {
      if (call.args.includes('slow')) {
        held.push(call);
        return undefined;
      }
      return attributes;
    });
    const transport = transportTo(t, server.port);
    const slow = transport.call(getattr, root, { file: Buffer.from('slow') as FileHandle });
    const endMs = performance.now() + 4_000;
    while (performance.now() < endMs) {
      await transport.call(getattr, root, { file });
      await new Promise((later) => setTimeout(later, 100));
    }
    for (const { socket, xid } of held) socket.write(marked(accepted(xid, attributes)));
    assert.ok((await slow).ok);
    assert.ok(calls.every(({ procedure }) => procedure === 'GETATTR'));
  });
});

describe('a client that is resumed', () => {
  it('asks nobody until it is asked, and goes on where the other one was', async (t) => {
    const { client, server } = await fakeMount(t, () => attributes);
    const before = server.calls.length;
    const options = { server: '127.0.0.1', exportPath: '/export', resvport: false };
    const resumed = Nfs3Client.resume(options, structuredClone(client.known));
    t.after(() => resumed.close());
    assert.equal(server.calls.length, before);
    assert.deepEqual(resumed.limits, client.limits);
    assert.deepEqual(Buffer.from(resumed.root), client.root);
    assert.equal(must(await resumed.getattr(root, resumed.root)).size, 5);
  });

  it('waits for a server that is away', async (t) => {
    const { client, server } = await fakeMount(t, () => attributes);
    const { known } = client;
    client.close();
    await server.stop();
    const options = { server: '127.0.0.1', exportPath: '/export', resvport: false };
    const resumed = Nfs3Client.resume(options, known);
    t.after(() => resumed.close());
    const said = listen<ServerEvent>(t, rpcChannels.server);
    resumed.assumeAway('it refuses');
    const answer = resumed.getattr(root, resumed.root);
    const again = await startFakeServer(() => attributes, known.port);
    t.after(() => again.stop());
    assert.equal(must(await answer).size, 5);
    assert.deepEqual(
      said.map(({ state }) => state),
      ['notResponding', 'ok'],
    );
  });
});
