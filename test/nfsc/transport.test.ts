import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import {
  type ConnectionEvent,
  majorTimeoutMs,
  type RetransmitEvent,
  rpcChannels,
  type ServerEvent,
  type StrayEvent,
} from '../../src/nfsc/index.ts';
import { getattr, nullProcedure, read } from '../../src/nfsc/nfs3/procedures.ts';
import type { Outcome } from '../../src/nfsc/rpc/call.ts';
import type { RpcFailure } from '../../src/nfsc/rpc/failure.ts';
import { Transport, type TransportOptions } from '../../src/nfsc/rpc/transport.ts';
import {
  accepted,
  fattr,
  marked,
  postOp,
  type ReceivedCall,
  startFakeServer,
  xdr,
} from './fake-server.ts';
import { fakeServer, listen, root, until } from './support.ts';

const file = Buffer.from('handle') as FileHandle;
const attributes = Buffer.concat([xdr(0), fattr({ size: 5n })]);

function transportTo(t: TestContext, port: number, options: Partial<TransportOptions> = {}) {
  const transport = new Transport({
    host: '127.0.0.1',
    port,
    sourcePort: 'any',
    patience: 'hard',
    ...options,
  });
  t.after(() => transport.close());
  return transport;
}

function failure(outcome: Outcome<unknown>): RpcFailure {
  assert.ok(!outcome.ok, 'the call succeeded');
  return outcome.error;
}

function sizeOf(outcome: Outcome<{ status: string }>): number {
  assert.ok(outcome.ok);
  const reply = outcome.value as { ok?: { size: number } };
  assert.ok(reply.ok);
  return reply.ok.size;
}

const reply = (call: ReceivedCall, results: Buffer) => marked(accepted(call.xid, results));

describe('the RPC transport', () => {
  it('matches replies to calls by xid, in whatever order they come', async (t) => {
    const waiting: ReceivedCall[] = [];
    const server = await fakeServer(t, (call) => {
      waiting.push(call);
      if (waiting.length === 20) {
        for (const [index, late] of waiting.reverse().entries()) {
          const sized = Buffer.concat([xdr(0), fattr({ size: BigInt(late.args.at(-1) ?? index) })]);
          late.socket.write(reply(late, sized));
        }
      }
      return undefined;
    });
    const transport = transportTo(t, server.port);
    const files = Array.from({ length: 20 }, (_, index) => Buffer.from([1, 1, 1, index]));
    const answers = await Promise.all(
      files.map((handle) => transport.call(getattr, root, { file: handle as FileHandle })),
    );
    assert.deepEqual(answers.map(sizeOf), [...files.keys()]);
    assert.equal(server.sockets.length, 1);
    assert.equal(transport.callCount, 0);
  });

  it('puts replies together from fragments and dribbles', async (t) => {
    const payload = Buffer.alloc(200_000, 'payload ');
    const results = Buffer.concat([xdr(0, 0, payload.length, true, payload)]);
    const server = await fakeServer(t, (call) => {
      const stream = marked(accepted(call.xid, results), 3, 65_532, 0, 65_532);
      for (let at = 0; at < stream.length; at += 7_001) {
        call.socket.write(stream.subarray(at, at + 7_001));
      }
      return undefined;
    });
    const transport = transportTo(t, server.port);
    const args = { file, offset: 0, count: 1 << 20 };
    const answers = await Promise.all([1, 2, 3].map(() => transport.call(read, root, args)));
    for (const answer of answers) {
      assert.ok(answer.ok && answer.value.status === 'NFS3_OK');
      assert.ok(answer.value.ok.bytes.equals(payload));
      answer.value.ok.release();
    }
  });

  it('lets a buffer be released once only, and uses it again', async (t) => {
    const server = await fakeServer(t, () => xdr(0, 0, 4, true, Buffer.from('data')));
    const transport = transportTo(t, server.port);
    const args = { file, offset: 0, count: 4096 };
    const first = await transport.call(read, root, args);
    assert.ok(first.ok && first.value.status === 'NFS3_OK');
    const { bytes, release } = first.value.ok;
    release();
    assert.throws(release, /twice/);
    const second = await transport.call(read, root, args);
    assert.ok(second.ok && second.value.status === 'NFS3_OK');
    assert.equal(second.value.ok.bytes.buffer, bytes.buffer);
    const third = await transport.call(read, root, args);
    assert.ok(third.ok && third.value.status === 'NFS3_OK');
    assert.notEqual(third.value.ok.bytes.buffer, bytes.buffer); // the second is still out
  });

  it('sends again with the same xid what a lost connection left unanswered', async (t) => {
    const resent = listen<RetransmitEvent>(t, rpcChannels.retransmit);
    const server = await fakeServer(t, (call) => {
      if (call.connection > 0) return attributes;
      if (server.calls.length === 3) call.socket.destroy();
      return undefined;
    });
    const transport = transportTo(t, server.port);
    const answers = await Promise.all([1, 2, 3].map(() => transport.call(getattr, root, { file })));
    assert.deepEqual(answers.map(sizeOf), [5, 5, 5]);
    assert.ok(answers.every((answer) => answer.retransmitted));
    const [before, after] = [server.calls.slice(0, 3), server.calls.slice(3)];
    assert.deepEqual(
      after.map((call) => call.record),
      before.map((call) => call.record),
    );
    assert.deepEqual(
      resent.map(({ xid, sends }) => [xid, sends]),
      before.map(({ xid }) => [xid, 2]),
    );
  });

  it('sends again when the connection ends in the middle of a reply', async (t) => {
    const payload = Buffer.alloc(100_000, 1);
    const results = xdr(0, 0, payload.length, true, payload);
    const server = await fakeServer(t, (call) => {
      if (call.connection > 0) return results;
      call.socket.write(reply(call, results).subarray(0, 90_000), () => call.socket.destroy());
      return undefined;
    });
    const transport = transportTo(t, server.port);
    const answer = await transport.call(read, root, { file, offset: 0, count: 1 << 17 });
    assert.ok(answer.ok && answer.value.status === 'NFS3_OK');
    assert.ok(answer.value.ok.bytes.equals(payload));
  });

  it('replaces a connection on which no answer comes, and takes the answer from the next', async (t) => {
    const server = await fakeServer(t, (call) => (call.connection < 2 ? undefined : attributes));
    const transport = transportTo(t, server.port, { timeoDeciseconds: 1 });
    const answer = await transport.call(getattr, root, { file });
    assert.equal(sizeOf(answer), 5);
    assert.equal(new Set(server.calls.map((call) => call.xid)).size, 1);
    assert.equal(server.calls.length, 3);
  });

  it('fails soft calls after the major time-out, and drops the socket first', async (t) => {
    const server = await fakeServer(t, () => undefined);
    const transport = transportTo(t, server.port, {
      patience: 'soft',
      timeoDeciseconds: 1,
      retrans: 1,
    });
    assert.equal(transport.majorTimeoutMs, 300);
    assert.equal(failure(await transport.call(getattr, root, { file })).kind, 'timeout');
    await until(() => server.sockets.every((socket) => socket.readableEnded || socket.destroyed));
    server.script = () => attributes;
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
  });

  it('says that a soft call found nobody there', async (t) => {
    const server = await startFakeServer(() => undefined);
    await server.stop();
    const transport = transportTo(t, server.port, {
      patience: 'soft',
      timeoDeciseconds: 1,
      retrans: 0,
    });
    const error = failure(await transport.call(getattr, root, { file }));
    assert.ok(error.kind === 'unreachable' && error.reason === 'refused');
  });

  it('waits through a server that is away, and says so once, and once that it is back', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    const first = await startFakeServer(() => attributes);
    const { port } = first;
    const transport = transportTo(t, port, { timeoDeciseconds: 1, retrans: 0 });
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    await first.stop();
    const calls = [1, 2, 3].map(() => transport.call(getattr, root, { file }));
    await until(() => said.length > 0);
    await new Promise((later) => setTimeout(later, 300)); // nothing more is said meanwhile
    const second = await startFakeServer(() => attributes, port);
    t.after(() => second.stop());
    assert.deepEqual((await Promise.all(calls)).map(sizeOf), [5, 5, 5]);
    const states = said.map(({ state }) => state);
    assert.deepEqual(states, ['notResponding', 'ok']);
    const [away, back] = said;
    assert.match(away?.message ?? '', /^server 127\.0\.0\.1:\d+ not responding.*, still trying$/);
    assert.match(back?.message ?? '', /^server 127\.0\.0\.1:\d+ OK$/);
  });

  it('says the same of a server that is there and silent', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    let isSilent = true;
    const server = await fakeServer(t, () => (isSilent ? undefined : attributes));
    const transport = transportTo(t, server.port, { timeoDeciseconds: 1, retrans: 1 });
    const call = transport.call(getattr, root, { file });
    await until(() => said.length > 0);
    isSilent = false;
    assert.equal(sizeOf(await call), 5);
    assert.deepEqual(
      said.map(({ state }) => state),
      ['notResponding', 'ok'],
    );
  });

  it('names each refusal of the RPC layer', async (t) => {
    const refusals: [Buffer, RpcFailure][] = [
      [xdr(1, 1, 1, 5), { kind: 'denied', stat: 'AUTH_ERROR', auth: 'AUTH_TOOWEAK' }],
      [xdr(1, 1, 0, 2, 3), { kind: 'denied', stat: 'RPC_MISMATCH', low: 2, high: 3 }],
      [xdr(1, 0, 0, 0, 1), { kind: 'notDone', stat: 'PROG_UNAVAIL' }],
      [
        xdr(1, 0, 0, 0, 2, 4, 4),
        { kind: 'notDone', stat: 'PROG_MISMATCH', versions: { low: 4, high: 4 } },
      ],
      [xdr(1, 0, 0, 0, 3), { kind: 'notDone', stat: 'PROC_UNAVAIL' }],
      [xdr(1, 0, 0, 0, 4), { kind: 'notDone', stat: 'GARBAGE_ARGS' }],
      [xdr(1, 0, 0, 0, 5), { kind: 'notDone', stat: 'SYSTEM_ERR' }],
    ];
    const server = await fakeServer(t, (call) => {
      const [bytes] = refusals[server.calls.length - 1] ?? [Buffer.alloc(0)];
      call.socket.write(marked(Buffer.concat([xdr(call.xid), bytes])));
      return undefined;
    });
    const transport = transportTo(t, server.port);
    for (const [, expected] of refusals) {
      assert.deepEqual(failure(await transport.call(getattr, root, { file })), expected);
    }
  });

  it('passes over a verifier, and refuses one that is too long', async (t) => {
    let verifier = Buffer.alloc(400, 9);
    const server = await fakeServer(t, (call) => {
      const header = xdr(call.xid, 1, 0, 77, verifier, 0);
      call.socket.write(marked(Buffer.concat([header, attributes])));
      return undefined;
    });
    const transport = transportTo(t, server.port);
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    verifier = Buffer.alloc(401);
    assert.equal(failure(await transport.call(getattr, root, { file })).kind, 'protocol');
  });

  it('fails the call whose reply does not decode, once, and keeps the connection', async (t) => {
    const rubbish = [
      xdr(0, 9), // ftype3 9
      xdr(12345), // no such nfsstat3
      xdr(0), // truncated
      Buffer.alloc(0),
    ];
    const server = await fakeServer(t, () => rubbish[server.calls.length - 1] ?? attributes);
    const transport = transportTo(t, server.port);
    for (const _ of rubbish) {
      assert.equal(failure(await transport.call(getattr, root, { file })).kind, 'protocol');
    }
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    assert.equal(server.calls.length, rubbish.length + 1);
    assert.equal(server.sockets.length, 1);
  });

  it('fails the call whose reply is longer than it may be', async (t) => {
    const long = Buffer.alloc(100_000);
    const server = await fakeServer(t, () => (server.calls.length < 3 ? long : attributes));
    const transport = transportTo(t, server.port);
    for (const _ of [1, 2]) {
      assert.equal(failure(await transport.call(getattr, root, { file })).kind, 'protocol');
    }
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    assert.equal(server.sockets.length, 1);
  });

  it('drops a stream with a huge record mark, and asks again on the next', async (t) => {
    const server = await fakeServer(t, (call) => {
      if (call.connection > 1) return attributes;
      call.socket.write(xdr(0xffff_ffff, call.xid));
      return undefined;
    });
    const transport = transportTo(t, server.port);
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    assert.equal(server.sockets.length, 3);
  });

  it('gives up a call, even a hard one, when stream after stream is rubbish', async (t) => {
    const server = await fakeServer(t, (call) => {
      call.socket.write(Buffer.alloc(64, 'HTTP/1.1 400 Bad Request\r\n'));
      return undefined;
    });
    const transport = transportTo(t, server.port);
    assert.equal(failure(await transport.call(getattr, root, { file })).kind, 'protocol');
  });

  it('counts and ignores replies that no call waits for', async (t) => {
    const strays = listen<StrayEvent>(t, rpcChannels.stray);
    const server = await fakeServer(t, (call) => {
      call.socket.write(marked(accepted(call.xid ^ 1, attributes)));
      call.socket.write(marked(accepted(call.xid ^ 1, Buffer.alloc(300_000))));
      return attributes;
    });
    const transport = transportTo(t, server.port);
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    assert.equal(strays.length, 2);
  });

  it('spreads calls over its connections, each with its own xid', async (t) => {
    const waiting: ReceivedCall[] = [];
    const server = await fakeServer(t, (call) => {
      waiting.push(call);
      return undefined;
    });
    const transport = transportTo(t, server.port, { connections: 4 });
    const calls = Array.from({ length: 16 }, () => transport.call(getattr, root, { file }));
    await until(() => waiting.length === 16);
    const perConnection = [0, 1, 2, 3].map(
      (index) => waiting.filter(({ connection }) => connection === index).length,
    );
    assert.deepEqual(perConnection, [4, 4, 4, 4]);
    assert.equal(new Set(waiting.map(({ xid }) => xid)).size, 16);
    for (const call of waiting) call.socket.write(reply(call, attributes));
    assert.equal((await Promise.all(calls)).length, 16);
  });

  it('goes on with the connections that stand when one is lost', async (t) => {
    const server = await fakeServer(t, (call) => {
      if (call.connection === 0) call.socket.destroy();
      return call.connection === 0 ? undefined : attributes;
    });
    const transport = transportTo(t, server.port, { connections: 2 });
    const calls = Array.from({ length: 6 }, () => transport.call(getattr, root, { file }));
    assert.deepEqual((await Promise.all(calls)).map(sizeOf), [5, 5, 5, 5, 5, 5]);
  });

  it('ends what waits when it is closed, and what comes after', async (t) => {
    const server = await fakeServer(t, () => undefined);
    const transport = transportTo(t, server.port);
    const waiting = transport.call(getattr, root, { file });
    await until(() => server.calls.length === 1);
    transport.close();
    transport.close();
    assert.equal(failure(await waiting).kind, 'closed');
    assert.equal(failure(await transport.call(nullProcedure, root, undefined)).kind, 'closed');
  });

  it('fails what waits when told to, and goes on', async (t) => {
    let isSilent = true;
    const server = await fakeServer(t, () => (isSilent ? undefined : attributes));
    const transport = transportTo(t, server.port);
    const waiting = transport.call(getattr, root, { file });
    await until(() => server.calls.length === 1);
    transport.failAll({ kind: 'timeout', message: 'given up' });
    assert.deepEqual(failure(await waiting), { kind: 'timeout', message: 'given up' });
    isSilent = false;
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
  });

  it('connects when it is needed: not before, and not while nobody waits', async (t) => {
    const events = listen<ConnectionEvent>(t, rpcChannels.connection);
    const server = await fakeServer(t, () => attributes);
    const transport = transportTo(t, server.port);
    assert.equal(events.length, 0);
    await transport.call(getattr, root, { file });
    server.sockets[0]?.destroy();
    await until(() => events.at(-1)?.state === 'idle');
    assert.equal(sizeOf(await transport.call(getattr, root, { file })), 5);
    const states = events.map(({ state }) => state);
    assert.deepEqual(states, ['connecting', 'up', 'idle', 'connecting', 'up']);
  });

  it('carries the caller and at most 16 groups in AUTH_SYS, or nothing in AUTH_NONE', async (t) => {
    const server = await fakeServer(t, () => xdr());
    const transport = transportTo(t, server.port);
    const groups = Array.from({ length: 20 }, (_, index) => 100 + index);
    await transport.call(nullProcedure, { uid: 1000, gid: 1001, groups }, undefined);
    const [sys] = server.calls;
    assert.ok(sys);
    assert.equal(sys.flavor, 1);
    const nameLength = sys.credentials.readUInt32BE(4);
    const rest = sys.credentials.subarray(8 + Math.ceil(nameLength / 4) * 4);
    assert.deepEqual(rest, xdr(1000, 1001, 16, ...groups.slice(0, 16)));
    transport.flavor = 'AUTH_NONE';
    await transport.call(nullProcedure, { uid: 1000, gid: 1001, groups }, undefined);
    const [, none] = server.calls;
    assert.deepEqual([none?.flavor, none?.credentials.length], [0, 0]);
  });

  it('sums its time-outs as nfs(5) says', () => {
    assert.equal(majorTimeoutMs(600, 2), 60_000 + 120_000 + 180_000);
    assert.equal(majorTimeoutMs(1, 0), 100);
    assert.equal(majorTimeoutMs(4000, 2), 400_000 + 600_000 + 600_000);
  });

  it('sends a payload from where it lies, padded, and keeps calls apart', async (t) => {
    const server = await fakeServer(t, () => xdr());
    const transport = transportTo(t, server.port);
    const sizes = [0, 1, 2, 3, 4, 70_001];
    const writeNull = {
      ...nullProcedure,
      encode() {},
      payload: (args: unknown) => args as Buffer,
    };
    const payloads = sizes.map((size) => Buffer.alloc(size, size + 1));
    await Promise.all(payloads.map((bytes) => transport.call(writeNull, root, bytes as never)));
    for (const [index, payload] of payloads.entries()) {
      const args = server.calls[index]?.args;
      const padding = Buffer.alloc(-payload.length & 3);
      assert.deepEqual(args, Buffer.concat([payload, padding]));
    }
  });

  it('tells of a dropped post-op attribute what it is: nothing', async (t) => {
    const server = await fakeServer(t, () => Buffer.concat([xdr(0), postOp(), xdr(0, true, 0)]));
    const transport = transportTo(t, server.port);
    const answer = await transport.call(read, root, { file, offset: 9, count: 10 });
    assert.ok(answer.ok && answer.value.status === 'NFS3_OK');
    const { attributes: none, eof, bytes } = answer.value.ok;
    assert.deepEqual([none, eof, bytes.length], [undefined, true, 0]);
  });
});
