/**
 * The protocol, spoken by hand and by the client, to a server with a fake mount behind it.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { systemClock } from '../../src/base/clock.ts';
import { type ControlClient, connectTo } from '../../src/daemon/control/client.ts';
import { type ControlServer, listenWith } from '../../src/daemon/control/listen.ts';
import { LineReader } from '../../src/daemon/control/protocol.ts';
import { ErrorCode, methods } from '../../src/daemon/control/schema.ts';
import { defaultLimits, type ServerLimits } from '../../src/daemon/control/server.ts';
import { Service } from '../../src/daemon/control/service.ts';
import { FakeMount, temporary } from './fake.ts';

describe('the control socket', () => {
  it('answers a request a line, in any pieces', async () => {
    await using served = await serve();
    const raw = await RawClient.connect(served.socket);
    raw.send('{"jsonrpc":"2.0","id":"one","meth');
    raw.send(
      'od":"failWaiting"}\n\n  \n{"jsonrpc":"2.0","id":2,"method":"failWaiting","params":{}}\n',
    );
    assert.deepEqual(await raw.next(), {
      jsonrpc: '2.0',
      id: 'one',
      result: { failed: 0, waitElsewhere: 0 },
    });
    assert.deepEqual(await raw.next(), {
      jsonrpc: '2.0',
      id: 2,
      result: { failed: 0, waitElsewhere: 0 },
    });
    raw.close();
  });

  const refused: [line: string, code: number, id: unknown][] = [
    ['{', ErrorCode.parse, null],
    ['\u0000\u0001', ErrorCode.parse, null],
    [`${'['.repeat(60_000)}`, ErrorCode.parse, null],
    ['[]', ErrorCode.invalidRequest, null],
    ['7', ErrorCode.invalidRequest, null],
    ['{"id":1,"method":"status"}', ErrorCode.invalidRequest, 1],
    ['{"jsonrpc":"2.0","id":{},"method":"status"}', ErrorCode.invalidRequest, null],
    ['{"jsonrpc":"2.0","id":1.5,"method":"status"}', ErrorCode.invalidRequest, null],
    ['{"jsonrpc":"2.0","id":1,"method":"format"}', ErrorCode.unknownMethod, 1],
    ['{"jsonrpc":"2.0","id":1,"method":"__proto__"}', ErrorCode.unknownMethod, 1],
    ['{"jsonrpc":"2.0","id":1,"method":"warm"}', ErrorCode.badParams, 1],
    ['{"jsonrpc":"2.0","id":1,"method":"warm","params":[1]}', ErrorCode.badParams, 1],
    ['{"jsonrpc":"2.0","id":1,"method":"status","params":{"a":1}}', ErrorCode.badParams, 1],
    [
      '{"jsonrpc":"2.0","id":1,"method":"map","params":{"path":"vm/disk.img","parts":1e9}}',
      -32602,
      1,
    ],
    ['{"jsonrpc":"2.0","id":1,"method":"warm","params":{"path":"../etc"}}', ErrorCode.badParams, 1],
  ];
  it('refuses what is no call, and goes on', async () => {
    await using served = await serve();
    const raw = await RawClient.connect(served.socket);
    for (const [line, code, id] of refused) {
      raw.send(`${line}\n`);
      const { error, ...rest } = await raw.next();
      assert.deepEqual(rest, { jsonrpc: '2.0', id }, line.slice(0, 80));
      assert.equal((error as { code: number }).code, code, line.slice(0, 80));
    }
    raw.send('{"jsonrpc":"2.0","method":"failWaiting"}\n'); // a notification: no answer
    raw.send('{"jsonrpc":"2.0","method":"cancel","params":7}\n');
    raw.send('{"jsonrpc":"2.0","id":9,"method":"failWaiting"}\n');
    assert.equal((await raw.next()).id, 9);
    raw.close();
  });

  it('hangs up on a line that does not end', async () => {
    await using served = await serve();
    const raw = await RawClient.connect(served.socket);
    raw.send('x'.repeat(70_000));
    const { error } = await raw.next();
    assert.deepEqual(error, { code: ErrorCode.parse, message: 'the line is too long' });
    await raw.closed;
  });

  it('answers whatever the parameters are, with a result or an error', async () => {
    await using served = await serve();
    const client = await clientOf(served);
    const call = client.call.bind(client) as unknown as (
      method: string,
      params: unknown,
    ) => Promise<{ ok: boolean; error?: { kind: string; code: number } }>;
    const params = fc.oneof(
      fc.jsonValue(),
      fc.record(
        {
          path: fc.oneof(fc.string(), fc.constantFrom('vm/disk.img', 'vm/old.img', 'vm', '')),
          start: fc.oneof(fc.nat(), fc.jsonValue()),
          end: fc.oneof(fc.nat(), fc.jsonValue()),
          parts: fc.oneof(fc.nat({ max: 70_000 }), fc.jsonValue()),
          check: fc.oneof(fc.boolean(), fc.jsonValue()),
          background: fc.oneof(fc.boolean(), fc.jsonValue()),
        },
        { requiredKeys: [] },
      ),
    );
    // Who follows the events has no answer before he leaves.
    const method = fc.constantFrom(...Object.keys(methods).filter((name) => name !== 'events'));
    await fc.assert(
      fc.asyncProperty(method, params, async (name, value) => {
        const answer = await call(name, value);
        if (answer.ok) return;
        assert.equal(answer.error?.kind, 'refused');
        assert.notEqual(answer.error?.code, ErrorCode.internal);
      }),
      { numRuns: 500 },
    );
    client.close();
    assert.deepEqual(served.faults, []);
  });

  it('serves two clients at once, and each gets its own answers', async () => {
    await using served = await serve();
    served.mount.image.isFree = false;
    const [one, other] = [await clientOf(served), await clientOf(served)];
    const warming = one.call('warm', { path: 'vm/disk.img' });
    const states = await Promise.all(
      [1, 2, 3].map((parts) => other.call('map', { path: 'vm/disk.img', parts })),
    );
    assert.deepEqual(
      states.map((answer) => answer.ok && answer.value.parts.length),
      [1, 2, 3],
    );
    await free(served.mount);
    const warmed = await warming;
    assert.ok(warmed.ok);
    assert.equal(warmed.value.fetchedBytes, 5 * 4096);
    one.close();
    other.close();
  });

  it('tells the progress of a long call under the id of its request', async () => {
    await using served = await serve({ progressMs: 0 });
    const raw = await RawClient.connect(served.socket);
    const params = '{"path":"vm/disk.img","start":0,"end":16384}';
    raw.send(`{"jsonrpc":"2.0","id":5,"method":"warm","params":${params}}\n`);
    for (const doneBytes of [4096, 8192, 12_288, 16_384]) {
      assert.deepEqual(await raw.next(), {
        jsonrpc: '2.0',
        method: 'progress',
        params: { id: 5, path: 'vm/disk.img', doneBytes, totalBytes: 16_384 },
      });
    }
    assert.equal((await raw.next()).id, 5);
    raw.close();
  });

  it('tells events under the id of the request that asks for them, until it is cancelled', async () => {
    await using served = await serve();
    const { events } = served.mount;
    events.tell('opened', { path: 'vm/a' });
    const client = await clientOf(served);
    const seen: string[] = [];
    const leave = new AbortController();
    const following = client.call(
      'events',
      { since: 0 },
      { signal: leave.signal, onEvent: ({ number, event }) => seen.push(`${number} ${event}`) },
    );
    await until(() => seen.length === 1);
    events.tell('closed', { path: 'vm/a' });
    await until(() => seen.length === 2);
    leave.abort();
    const ended = await following;
    assert.deepEqual(seen, ['1 opened', '2 closed']);
    assert.ok(ended.ok && ended.value.last === 2);
    events.tell('dirty');
    const kept = await client.call('events', { since: 1, follow: false });
    assert.ok(kept.ok && kept.value.last === 3);
    client.close();
  });

  it('cancels a call on request, and when its client goes away', async () => {
    await using served = await serve();
    const { image } = served.mount;
    image.isFree = false;
    const client = await clientOf(served);
    const stop = new AbortController();
    const warming = client.call('warm', { path: 'vm/disk.img' }, { signal: stop.signal });
    await until(() => image.steps.length === 1);
    stop.abort();
    const answer = await warming;
    assert.ok(!answer.ok && answer.error.kind === 'refused');
    assert.equal(answer.error.code, ErrorCode.cancelled);
    await until(() => image.cancelled === 1);

    void client.call('warm', { path: 'vm/disk.img' });
    await until(() => image.steps.length === 2);
    client.close();
    await until(() => image.cancelled === 2);

    const half = await RawClient.connect(served.socket);
    half.send('{"jsonrpc":"2.0","id":1,"method":"warm","params":{"path":"vm/disk.img"}}\n');
    await until(() => image.steps.length === 3);
    half.end();
    let last = await half.next();
    while (last.method === 'progress') last = await half.next();
    assert.equal((last.error as { code: number }).code, ErrorCode.cancelled);
    await half.closed;
  });

  it('bounds the clients, and the calls of each', async () => {
    await using served = await serve({ clients: 2, calls: 3 });
    served.mount.image.isFree = false;
    const [one, other] = [await clientOf(served), await clientOf(served)];
    const third = await RawClient.connect(served.socket);
    assert.equal(((await third.next()).error as { code: number }).code, ErrorCode.busy);
    await third.closed;
    for (let at = 0; at < 3; at += 1) void one.call('warm', { path: 'vm/disk.img' });
    const refusedCall = await one.call('status', {});
    assert.ok(!refusedCall.ok && refusedCall.error.kind === 'refused');
    assert.equal(refusedCall.error.code, ErrorCode.busy);
    assert.ok((await other.call('status', {})).ok);
    one.close();
    other.close();
  });

  it('hangs up on a client that does not read, and serves the others', async () => {
    await using served = await serve({ unreadBytes: 1 << 20, calls: 1000 });
    const deaf = createConnection(served.socket);
    deaf.on('error', () => undefined);
    deaf.pause();
    const hungUp = new Promise((done) => deaf.once('close', done));
    const line =
      '{"jsonrpc":"2.0","id":ID,"method":"map","params":{"path":"vm/disk.img","parts":8}}\n';
    for (let id = 0; id < 40_000; id += 1) deaf.write(line.replace('ID', String(id)));
    const other = await clientOf(served);
    assert.ok((await other.call('status', {})).ok);
    await hungUp;
    other.close();
  });

  it('hangs up on a client that is idle, not on one that waits', async () => {
    await using served = await serve({ idleMs: 50 });
    served.mount.image.isFree = false;
    const [idle, waits] = [await RawClient.connect(served.socket), await clientOf(served)];
    const warming = waits.call('warm', { path: 'vm/disk.img' });
    await idle.closed;
    await free(served.mount);
    assert.ok((await warming).ok);
    waits.close();
  });

  it('answers a fault of a method as such, and goes on', async () => {
    await using served = await serve();
    served.mount.snapshot = () => {
      throw new Error('a bug');
    };
    const client = await clientOf(served);
    const answer = await client.call('status', {});
    assert.ok(!answer.ok && answer.error.kind === 'refused');
    assert.equal(answer.error.code, ErrorCode.internal);
    assert.deepEqual(served.faults, ['status: Error: a bug']);
    assert.ok((await client.call('failWaiting', {})).ok);
    client.close();
  });

  it('ends what runs when it closes, and takes its socket away', async () => {
    const served = await serve();
    served.mount.image.isFree = false;
    const client = await clientOf(served);
    const warming = client.call('warm', { path: 'vm/disk.img' });
    await until(() => served.mount.image.steps.length === 1);
    await served[Symbol.asyncDispose]();
    const answer = await warming;
    assert.ok(!answer.ok && answer.error.kind === 'refused');
    assert.equal(answer.error.code, ErrorCode.cancelled);
    const gone = await client.call('status', {});
    assert.ok(!gone.ok && gone.error.kind === 'gone');
    assert.deepEqual(await connectTo(served.socket), { ok: false, error: { kind: 'absent' } });
  });
});

describe('the socket file', () => {
  it('is for its owner alone', async () => {
    await using served = await serve();
    assert.equal(lstatSync(served.socket).mode & 0o777, 0o600);
    assert.equal(lstatSync(dirname(served.socket)).mode & 0o777, 0o700);
  });

  it('replaces what a dead daemon left, and what a hidden one has', async () => {
    using place = temporary();
    mkdirSync(dirname(place.socket), { mode: 0o700 });
    const left = createServer().listen(place.socket);
    await once(left, 'listening');
    await using first = await serve({}, place.socket);
    const second = await serve({}, place.socket);
    second.mount.waitingRequests = [{ operation: 'READ', ino: 3 as never, ageMs: 1 }];
    const client = await clientOf(second);
    const answer = await client.call('status', {});
    assert.equal(answer.ok && answer.value.waitingCount, 1);
    client.close();
    // Who lost the name does not take it from the other.
    await first[Symbol.asyncDispose]();
    assert.ok(lstatSync(place.socket).isSocket());
    await second[Symbol.asyncDispose]();
    assert.equal(lstatSync(place.socket, { throwIfNoEntry: false }), undefined);
    left.close();
  });

  it('is not put where others may write', async () => {
    using place = temporary();
    const handlers = new Service(new FakeMount(), systemClock).handlers;
    const events = { fault: () => undefined };
    mkdirSync(dirname(place.socket), { mode: 0o755 });
    const open = await listenWith(handlers, place.socket, events);
    assert.match(open.ok ? '' : open.error, /run is not a directory of user \d+ alone$/);
    const link = `${place.path}/link`;
    mkdirSync(`${place.path}/own`, { mode: 0o700 });
    symlinkSync('own', link);
    assert.ok(!(await listenWith(handlers, `${link}/x.sock`, events)).ok);
    writeFileSync(`${place.path}/file`, '');
    assert.ok(!(await listenWith(handlers, `${place.path}/file/x.sock`, events)).ok);
    const long = await listenWith(handlers, `${place.path}/own/${'x'.repeat(120)}.sock`, events);
    assert.ok(!long.ok);
  });
});

describe('lines', () => {
  it('are the same however a stream is cut', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), fc.array(fc.nat(200)), (stream, cuts) => {
        const bytes = Buffer.from(stream);
        const at = [...new Set(cuts)].filter((cut) => cut < bytes.length).toSorted((a, b) => a - b);
        const reader = new LineReader(1000);
        const lines = [0, ...at].flatMap(
          (from, index) => reader.push(bytes.subarray(from, at[index])) ?? [],
        );
        assert.deepEqual(lines, stream.split('\n').slice(0, -1));
      }),
    );
  });

  it('are bounded, in one piece or many', () => {
    assert.deepEqual(new LineReader(3).push(Buffer.from('abc\n')), ['abc']);
    assert.equal(new LineReader(3).push(Buffer.from('abcd\n')), undefined);
    const reader = new LineReader(3);
    assert.deepEqual(reader.push(Buffer.from('a\nbc')), ['a']);
    assert.equal(reader.push(Buffer.from('de')), undefined);
  });
});

interface Served extends AsyncDisposable {
  readonly socket: string;
  readonly mount: FakeMount;
  readonly faults: string[];
}

async function serve(limits: Partial<ServerLimits> = {}, at?: string): Promise<Served> {
  const place = at === undefined ? temporary() : undefined;
  const socket = at ?? place?.socket ?? '';
  const mount = new FakeMount();
  const faults: string[] = [];
  const service = new Service(mount, systemClock);
  const fault = (method: string, error: unknown) => faults.push(`${method}: ${String(error)}`);
  const listening = await listenWith(
    service.handlers,
    socket,
    { fault: (method, error) => void fault(method, error) },
    { ...defaultLimits, ...limits },
  );
  assert.ok(listening.ok, listening.ok ? '' : listening.error);
  let server: ControlServer | undefined = listening.value;
  return {
    socket,
    mount,
    faults,
    async [Symbol.asyncDispose]() {
      service.ending();
      const closing = server;
      server = undefined;
      await closing?.close();
      place?.[Symbol.dispose]();
    },
  };
}

async function clientOf({ socket }: Served): Promise<ControlClient> {
  const client = await connectTo(socket);
  assert.ok(client.ok);
  return client.value;
}

/** Lets a warm that waits go to its end. */
async function free({ image }: FakeMount): Promise<void> {
  await until(() => image.steps.length > 0);
  image.isFree = true;
  for (const step of image.steps) step();
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}

/** Lines sent and received as they are. */
class RawClient {
  readonly #socket: Socket;
  readonly #lines: string[] = [];
  #wake: () => void = () => undefined;
  readonly closed: Promise<unknown>;

  static async connect(path: string): Promise<RawClient> {
    const socket = createConnection({ path, allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  constructor(socket: Socket) {
    this.#socket = socket;
    const reader = new LineReader(1 << 30);
    socket.on('error', () => undefined);
    socket.on('end', () => socket.end());
    socket.on('data', (chunk) => {
      this.#lines.push(...(reader.push(chunk) ?? []));
      this.#wake();
    });
    this.closed = once(socket, 'close');
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  /** Ends the sending half. */
  end(): void {
    this.#socket.end();
  }

  async next(): Promise<Record<string, unknown>> {
    while (this.#lines.length === 0) {
      await new Promise<void>((done) => {
        this.#wake = done;
      });
    }
    return JSON.parse(this.#lines.shift() ?? '') as Record<string, unknown>;
  }

  close(): void {
    this.#socket.destroy();
  }
}
