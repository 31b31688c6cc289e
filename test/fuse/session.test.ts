/**
 * The session's promises: one answer each, nothing lost of what is not delivered, EINTR for the
 * dying, and an end in order when an invariant breaks.
 */
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../src/base/assert.ts';
import type { Ino } from '../../src/base/brand.ts';
import type { Clock } from '../../src/base/clock.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';
import { Opcode } from '../../src/fuse/abi.ts';
import { Callers } from '../../src/fuse/caller.ts';
import { type ReplyEvent, replyChannel, Session } from '../../src/fuse/session.ts';
import type { Payload, ReadReply } from '../../src/vfs/operations.ts';
import { request, u32, u64 } from './bytes.ts';
import { FakeDevice } from './fake-device.ts';
import { type Call, type Script, scriptedFs } from './scripted-fs.ts';

const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const ENODEV = 19;
const ENOENT = 2;
const EINVAL = 22;
const NAME_A = Buffer.from('a\0');
const READ = Buffer.concat([u64(9, 0), u32(4, 0), u64(0), u32(0, 0)]);
const PID = 77;
const LIVES = 'VmSize:\t4 kB\nSigPnd:\t0000000000004000\n'; // SIGTERM, handled
const DIES = 'VmSize:\t4 kB\nSigPnd:\t0000000000000100\n'; // SIGKILL

const time = BigInt(0);
const attributes = {
  type: 'regular',
  mode: 0o644,
  nlink: 1,
  uid: 0,
  gid: 0,
  size: 0,
  used: 0,
  rdev: { major: 0, minor: 0 },
  fsid: 1n,
  fileid: 42n,
  atimeNs: time,
  mtimeNs: time,
  ctimeNs: time,
};
const entry = { ino: 42, attributes, attributesValidMs: 0, generation: 0, entryValidMs: 0 };

/** A clock whose timers run when the test says. */
class HandClock implements Clock {
  nowMs = 1;
  timers: (() => void)[] = [];
  monotonicMs = () => this.nowMs;
  wallNs = () => 0n;

  after(_delayMs: number, callback: () => void) {
    this.timers.push(callback);
    return { cancel: () => {} };
  }

  tick(): void {
    const due = this.timers;
    this.timers = [];
    for (const timer of due) timer();
  }
}

/** An answer that the test gives when it likes. */
class Held<T> {
  settle: (result: Result<T, FsError>) => void = () => {};
  fail: (error: Error) => void = () => {};
  readonly promise = new Promise<Result<T, FsError>>((resolve, reject) => {
    this.settle = resolve;
    this.fail = reject;
  });
}

let device: FakeDevice;
let clock: HandClock;
let calls: Call[];
let session: Session;
let status: string | undefined;

beforeEach(() => {
  device = new FakeDevice();
  clock = new HandClock();
  calls = [];
  status = LIVES;
});

async function serve(script: Script, minor = 45): Promise<void> {
  session = new Session({
    device,
    fs: scriptedFs(script, calls),
    callers: new Callers(clock, () => status),
    clock,
    wishes: { autoInvalidate: true, passthrough: false },
  });
  device.start(session);
  await device.init(minor);
}

const turn = () => device.feed(request(Opcode.DESTROY, undefined, { unique: 9998 }));
const answers = () =>
  device.replies
    .filter(({ unique }) => unique !== 9998)
    .map(({ unique, errno }) => [unique, errno]);
const ask = (opcode: number, args: Buffer, unique = 8) =>
  device.feed(request(opcode, args, { unique, pid: PID }));
const interrupt = (unique: number) =>
  device.feed(request(Opcode.INTERRUPT, u64(unique), { unique: unique + 1 }));

class CountedPayload implements Payload {
  released = 0;
  readonly bytes: Buffer;

  constructor(length: number) {
    this.bytes = Buffer.alloc(length, 7);
  }

  release(): void {
    this.released++;
  }
}

describe('INIT', () => {
  it('takes what we want of what is offered, and answers once', async () => {
    await serve({});
    const agreement = await session.ready;
    assert.equal(agreement?.minor, 45);
    assert.equal(agreement?.maxReadaheadBytes, 131072);
    assert.equal(agreement?.flags2, 1 << 4);
    const wanted = [0, 5, 12, 13, 15, 18, 19, 22, 30].reduce((flags, bit) => flags | (1 << bit), 0);
    assert.equal(agreement?.flags, wanted);
  });

  it('is 64 bytes with our limits', async () => {
    await serve({});
    const fresh = new FakeDevice();
    fresh.start(
      new Session({
        device: fresh,
        fs: scriptedFs({}, calls),
        callers: new Callers(clock, () => status),
        clock,
        wishes: { autoInvalidate: false, passthrough: false },
      }),
    );
    await fresh.feed(request(Opcode.INIT, u32(7, 99, 4096, 0xffffffff, 0xffffffff)));
    const body = fresh.replies[0]?.body ?? Buffer.alloc(0);
    assert.equal(body.length, 64);
    assert.deepEqual([body.readUInt32LE(0), body.readUInt32LE(4)], [7, 45]);
    assert.equal(body.readUInt32LE(8), 4096);
    assert.equal(body.readUInt32LE(12) & (1 << 12), 0, 'no AUTO_INVAL_DATA unless wished');
    assert.deepEqual([body.readUInt16LE(16), body.readUInt16LE(18)], [1024, 768]);
    assert.deepEqual([body.readUInt32LE(20), body.readUInt32LE(24)], [1 << 20, 1]);
    assert.equal(body.readUInt16LE(28), 256);
  });

  it('takes passthrough only where it is wished, and then says how deep we are stacked', async () => {
    for (const [passthrough, flags2, depth] of [
      [true, (1 << 4) | (1 << 5), 1],
      [false, 1 << 4, 0],
    ] as const) {
      const fresh = new FakeDevice();
      const next = new Session({
        device: fresh,
        fs: scriptedFs({}, calls),
        callers: new Callers(clock, () => status),
        clock,
        wishes: { autoInvalidate: false, passthrough },
      });
      fresh.start(next);
      await fresh.feed(request(Opcode.INIT, u32(7, 45, 4096, 0xffffffff, 0xffffffff)));
      const { body } = fresh.replies[0] ?? { body: Buffer.alloc(0) };
      assert.deepEqual([body.readUInt32LE(32), body.readUInt32LE(36)], [flags2, depth]);
    }
  });

  it('refuses a kernel before 7.31', async () => {
    await serve({}, 30);
    assert.equal(await session.ready, undefined);
  });

  it('answers a newer major version with ours, and goes on when asked in it', async () => {
    await serve({});
    device = new FakeDevice();
    const next = new Session({
      device,
      fs: scriptedFs({}, calls),
      callers: new Callers(clock, () => status),
      clock,
      wishes: { autoInvalidate: true, passthrough: false },
    });
    device.start(next);
    await device.feed(request(Opcode.INIT, u32(8, 0, 0, 0)));
    assert.equal(device.replies[0]?.body.readUInt32LE(0), 7);
    await device.init();
    assert.notEqual(await next.ready, undefined);
  });

  it('comes first: what is asked before it is EIO', async () => {
    session = new Session({
      device,
      fs: scriptedFs({}, calls),
      callers: new Callers(clock, () => status),
      clock,
      wishes: { autoInvalidate: true, passthrough: false },
    });
    device.start(session);
    await ask(Opcode.LOOKUP, NAME_A);
    assert.deepEqual(answers(), [[8, EIO]]);
  });
});

describe('answers', () => {
  it('carry the errno of an error', async () => {
    await serve({ lookup: () => Promise.resolve(err(localError('ESTALE', 'lookup'))) });
    await ask(Opcode.LOOKUP, NAME_A);
    assert.deepEqual(answers(), [[8, 116]]);
    assert.equal(session.counters.errors, 1);
  });

  it('come in the order of the results', async () => {
    const [first, second] = [new Held(), new Held()];
    const held = [first, second];
    await serve({ lookup: () => held.shift()?.promise });
    await ask(Opcode.LOOKUP, NAME_A, 8);
    await ask(Opcode.LOOKUP, NAME_A, 10);
    assert.equal(session.inFlight, 2);
    second.settle(ok(entry));
    await turn();
    first.settle(ok(entry));
    await turn();
    assert.deepEqual(answers(), [
      [10, 0],
      [8, 0],
    ]);
    assert.equal(session.inFlight, 0);
  });

  it('are none to FORGET and BATCH_FORGET', async () => {
    await serve({});
    await device.feed(request(Opcode.FORGET, u64(3), { node: 42 }));
    await device.feed(request(Opcode.BATCH_FORGET, Buffer.concat([u32(2, 0), u64(5, 1, 6, 2)])));
    assert.deepEqual(calls, [
      ['forget', 42, 3],
      ['forget', 5, 1],
      ['forget', 6, 2],
    ]);
    assert.deepEqual(answers(), []);
  });

  it('read a large message from its tail', async () => {
    await serve({});
    const tail = new CountedPayload(0);
    const whole = Object.assign(tail, { bytes: Buffer.concat([u32(1, 0), u64(5, 1)]) });
    await device.feed(request(Opcode.BATCH_FORGET), whole);
    assert.deepEqual(calls, [['forget', 5, 1]]);
    assert.equal(tail.released, 1);
  });

  it('are published while someone listens', async () => {
    const events: unknown[] = [];
    const listen = (event: unknown) => events.push(event);
    const held = new Held();
    await serve({ lookup: () => held.promise });
    replyChannel.subscribe(listen);
    try {
      await ask(Opcode.LOOKUP, NAME_A);
      clock.nowMs += 5;
      held.settle(err(localError('ENOENT', 'lookup')));
      await turn();
    } finally {
      replyChannel.unsubscribe(listen);
    }
    const [event] = events as ReplyEvent[];
    assert.deepEqual([event?.operation, event?.durationMs, event?.errno], ['LOOKUP', 5, ENOENT]);
    assert.equal(event?.error?.operation, 'lookup');
  });
});

describe('a WRITE', () => {
  const head = (length: number) => Buffer.concat([u64(9, 0), u32(length, 0), u64(0), u32(0, 0)]);

  it('hands a small payload over as a copy of its own', async () => {
    await serve({ write: () => new Promise(() => {}) });
    await ask(Opcode.WRITE, Buffer.concat([head(3), Buffer.from('abc')]));
    const payload = calls[0]?.[4] as Payload;
    assert.equal(payload.bytes.toString(), 'abc'); // the batch was overwritten since
    payload.release();
    assert.throws(() => payload.release(), InvariantError);
  });

  it('hands a large payload over as it is, and does not release it', async () => {
    await serve({ write: () => new Promise(() => {}) });
    const payload = new CountedPayload(65536);
    await device.feed(request(Opcode.WRITE, head(65536)), payload);
    assert.equal(calls[0]?.[4], payload);
    assert.equal(payload.released, 0);
  });

  it('releases the payload of a message that does not decode', async () => {
    await serve({});
    const payloads = [new CountedPayload(10), new CountedPayload(10)];
    await device.feed(request(Opcode.WRITE, head(65536)), payloads[0]); // another length
    await device.feed(request(Opcode.WRITE, u64(9), { unique: 10 }), payloads[1]); // too short
    assert.deepEqual(calls, []);
    assert.deepEqual(answers(), [
      [8, EIO],
      [10, EIO],
    ]);
    assert.deepEqual(
      payloads.map(({ released }) => released),
      [1, 1],
    );
  });
});

describe('a READ', () => {
  const instead = async () => err(localError('EIO', 'read'));
  const reply = (kind: ReadReply['kind'], release: () => void): ReadReply =>
    kind === 'bytes'
      ? { kind, bytes: [Buffer.from('ab'), Buffer.from('cd')], release }
      : kind === 'file'
        ? { kind, fd: 5, offset: 6, length: 4, release, instead }
        : { kind, length: 4 };

  it('is answered from bytes, zeros and files; what was lent is released when it is sent', async () => {
    for (const [kind, body] of [
      ['bytes', 'abcd'],
      ['zeros', '\0\0\0\0'],
      ['file', 'file 5 6 4'],
    ] as const) {
      let released = 0;
      device = new FakeDevice();
      await serve({ read: () => Promise.resolve(ok(reply(kind, () => released++))) });
      device.defer = true;
      await ask(Opcode.READ, READ);
      assert.deepEqual([released, answers()], [0, []]);
      device.later.shift()?.();
      assert.deepEqual([released, answers()], [kind === 'zeros' ? 0 : 1, [[8, 0]]]);
      assert.equal(device.replies[0]?.body.toString(), body);
      assert.equal(session.inFlight, 0);
    }
  });

  it('whose reply is refused is released once', async () => {
    let released = 0;
    await serve({ read: () => Promise.resolve(ok(reply('bytes', () => released++))) });
    device.refusals.push(ENOENT);
    await ask(Opcode.READ, READ);
    assert.equal(released, 1);
    assert.equal(session.counters.discarded, 1);
    assert.equal(session.inFlight, 0);
  });

  it('is answered in the same turn when the file system needs no time', async () => {
    await serve({ read: () => ok({ kind: 'zeros', length: 4 }) });
    const feeding = ask(Opcode.READ, READ);
    assert.deepEqual(answers(), [[8, 0]]);
    await feeding;
  });

  describe('whose file cannot be read', () => {
    /** Names of what was done, in order: `instead 5`, `release`, and `release other`. */
    let done: string[];
    let other: Held<ReadReply>;
    beforeEach(async () => {
      done = [];
      other = new Held();
      const file: ReadReply = {
        ...{ kind: 'file', fd: 5, offset: 6, length: 4 },
        release: () => done.push('release'),
        instead: (errno) => {
          done.push(`instead ${errno}`);
          return other.promise;
        },
      };
      await serve({ read: () => ok(file) });
      device.unreadable.push(EIO);
    });
    const bytes: ReadReply = {
      ...{ kind: 'bytes', bytes: [Buffer.from('abcd')] },
      release: () => done.push('release other'),
    };

    it('is answered with other bytes; each body is released once', async () => {
      await ask(Opcode.READ, READ);
      assert.deepEqual([answers(), done], [[], ['instead 5', 'release']]);
      assert.equal(session.inFlight, 1);
      other.settle(ok(bytes));
      await turn();
      assert.equal(device.replies.at(-1)?.body.toString(), 'abcd');
      assert.deepEqual(done, ['instead 5', 'release', 'release other']);
      assert.equal(session.inFlight, 0);
    });

    it('is answered with an error, where there are none', async () => {
      await ask(Opcode.READ, READ);
      other.settle(err(localError('ESTALE', 'read')));
      await turn();
      assert.deepEqual([answers(), done], [[[8, 116]], ['instead 5', 'release']]);
    });

    it('and whose caller was interrupted meanwhile: EINTR, and the bytes are released', async () => {
      device.defer = true;
      await ask(Opcode.READ, READ);
      await interrupt(8);
      status = DIES;
      device.later.shift()?.();
      assert.deepEqual(answers(), [[8, EINTR]]);
      other.settle(ok(bytes));
      await turn();
      assert.deepEqual(done, ['instead 5', 'release', 'release other']);
    });

    it('when nobody waits any more: nothing is asked for instead', async () => {
      device.defer = true;
      await ask(Opcode.READ, READ);
      device.end(ENODEV);
      device.later.shift()?.();
      assert.deepEqual([answers(), done], [[], ['release']]);
    });

    it('is told apart from a reply that the kernel refuses with EIO', async () => {
      device.unreadable.length = 0;
      device.refusals.push(EIO);
      await ask(Opcode.READ, READ);
      assert.deepEqual([answers(), done], [[[8, EIO]], ['release']]);
      assert.equal((await session.ended).reason, 'failed');
    });
  });

  it('longer than asked breaks the session', async () => {
    const long: ReadReply = { kind: 'zeros', length: 5 };
    await serve({ read: () => Promise.resolve(ok(long)) });
    await ask(Opcode.READ, READ);
    assert.deepEqual(answers(), [[8, EIO]]);
    assert.equal((await session.ended).reason, 'failed');
  });
});

describe('an INTERRUPT', () => {
  it('of a dying caller: EINTR at once, and the late result is given back', async () => {
    const opened = { handle: 9, keepCache: false };
    for (const [opcode, args, method, value, given] of [
      [Opcode.LOOKUP, NAME_A, 'lookup', entry, [['forget', 42, 1]]],
      [Opcode.LOOKUP, NAME_A, 'lookup', { ino: 0, entryValidMs: 1 }, []],
      [Opcode.MKDIR, Buffer.concat([u32(0, 0), NAME_A]), 'mkdir', entry, [['forget', 42, 1]]],
      [Opcode.OPEN, u32(0, 0), 'open', opened, [['release', 9]]],
      [Opcode.OPENDIR, u32(0, 0), 'opendir', 9, [['releasedir', 9]]],
      [
        Opcode.CREATE,
        Buffer.concat([u32(0, 0, 0, 0), NAME_A]),
        'create',
        { entry, opened },
        [
          ['release', 9],
          ['forget', 42, 1],
        ],
      ],
    ] as const) {
      const held = new Held<unknown>();
      device = new FakeDevice();
      status = DIES;
      calls = [];
      await serve({ [method]: () => held.promise });
      await ask(opcode, args);
      await interrupt(8);
      assert.deepEqual(answers(), [[8, EINTR]]);
      assert.equal(session.inFlight, 0);
      held.settle(ok(value));
      await turn();
      assert.deepEqual(answers(), [[8, EINTR]]);
      assert.deepEqual(calls.slice(1), given);
      assert.equal(session.counters.discarded, 1);
    }
  });

  it('of a READ: its bytes are released when they come', async () => {
    const held = new Held<ReadReply>();
    let released = 0;
    status = DIES;
    await serve({ read: () => held.promise });
    await ask(Opcode.READ, READ);
    await interrupt(8);
    held.settle(ok({ kind: 'bytes', bytes: [], release: () => released++ }));
    await turn();
    assert.deepEqual([released, answers()], [1, [[8, EINTR]]]);
  });

  it('by a signal that is handled: the request goes on, until the caller dies', async () => {
    const held = new Held();
    await serve({ lookup: () => held.promise });
    await ask(Opcode.LOOKUP, NAME_A);
    await interrupt(8);
    clock.tick();
    await turn();
    assert.deepEqual(answers(), []);
    status = DIES;
    clock.tick();
    assert.deepEqual(answers(), [[8, EINTR]]);
    clock.tick();
    assert.deepEqual(clock.timers, [], 'nobody is watched any more');
  });

  it('by a signal that is handled: the answer comes as if there was none', async () => {
    const held = new Held();
    await serve({ lookup: () => held.promise });
    await ask(Opcode.LOOKUP, NAME_A);
    await interrupt(8);
    held.settle(ok(entry));
    await turn();
    status = DIES;
    clock.tick();
    assert.deepEqual(answers(), [[8, 0]]);
  });

  it('of a caller that cannot be seen: taken for dying', async () => {
    status = undefined;
    await serve({ lookup: () => new Promise(() => {}) });
    await ask(Opcode.LOOKUP, NAME_A);
    await interrupt(8);
    assert.deepEqual(answers(), [[8, EINTR]]);
  });

  it('of an unknown request, too early or too late: EAGAIN to the INTERRUPT', async () => {
    await serve({ lookup: () => Promise.resolve(ok(entry)) });
    await interrupt(8);
    await ask(Opcode.LOOKUP, NAME_A);
    await interrupt(8);
    assert.deepEqual(answers(), [
      [9, EAGAIN],
      [8, 0],
      [9, EAGAIN],
    ]);
  });

  it('of a request whose reply is on its way: nothing', async () => {
    status = DIES;
    await serve({ read: () => Promise.resolve(ok({ kind: 'zeros', length: 4 })) });
    device.defer = true;
    await ask(Opcode.READ, READ);
    await interrupt(8);
    assert.deepEqual(answers(), []);
    device.later.shift()?.();
    assert.deepEqual(answers(), [[8, 0]]);
  });
});

describe('what waits', () => {
  it('is told from the age of one second on', async () => {
    await serve({ lookup: () => new Promise(() => {}) });
    await ask(Opcode.LOOKUP, NAME_A, 8);
    clock.nowMs += 600;
    await ask(Opcode.LOOKUP, NAME_A, 10);
    assert.deepEqual(session.waiting(), []);
    clock.nowMs += 500;
    assert.deepEqual(session.waiting(), [{ operation: 'LOOKUP', ino: 1, ageMs: 1100 }]);
  });

  it('is failed by node; late results are given back', async () => {
    const held = new Held();
    await serve({ lookup: () => held.promise, read: () => new Promise(() => {}) });
    await ask(Opcode.LOOKUP, NAME_A, 8);
    await device.feed(request(Opcode.READ, READ, { unique: 10, node: 42 }));
    assert.equal(session.failWaiting(1 as Ino), 1);
    assert.equal(session.failWaiting(1 as Ino), 0);
    assert.deepEqual([answers(), session.inFlight], [[[8, EIO]], 1]);
    held.settle(ok(entry));
    await turn();
    assert.deepEqual(calls.at(-1), ['forget', 42, 1]);
    assert.deepEqual(answers(), [[8, EIO]]);
  });

  it('though its reply hangs on a disk: bytes are released when they are let go of', async () => {
    let released = 0;
    const reply: ReadReply = { kind: 'bytes', bytes: [], release: () => released++ };
    await serve({ read: () => ok(reply) });
    device.defer = true;
    await ask(Opcode.READ, READ);
    assert.equal(session.failWaiting(1 as Ino), 1);
    assert.deepEqual([answers(), released], [[[8, EIO]], 0]);
    device.refusals.push(ENOENT);
    device.later.shift()?.();
    assert.deepEqual([answers(), released], [[[8, EIO]], 1]);
  });

  it('but not what is just being answered', async () => {
    await serve({ read: () => ok({ kind: 'zeros', length: 4 }) });
    device.defer = true;
    await ask(Opcode.READ, READ);
    device.refusals.push(ENOENT); // the kernel has its answer
    assert.equal(session.failWaiting(1 as Ino), 0);
    device.later.shift()?.();
    assert.deepEqual([answers(), session.inFlight], [[[8, 0]], 0]);
  });

  it('shows in the latencies when it is answered', async () => {
    const held = new Held();
    await serve({ lookup: () => held.promise });
    await ask(Opcode.LOOKUP, NAME_A);
    assert.deepEqual([...session.latencies().keys()], []);
    clock.nowMs += 5;
    held.settle(ok(entry));
    await turn();
    assert.equal(session.latencies().get('LOOKUP')?.summary().maxMs, 5);
  });
});

describe('a reply that the kernel does not take', () => {
  it('ENOENT: what it held is given back, and the session goes on', async () => {
    await serve({ open: () => Promise.resolve(ok({ handle: 9, keepCache: false })) });
    device.refusals.push(ENOENT);
    await ask(Opcode.OPEN, u32(0, 0));
    assert.deepEqual(calls.slice(1), [['release', 9]]);
    await ask(Opcode.OPEN, u32(0, 0), 10);
    assert.deepEqual(answers(), [[10, 0]]);
  });

  it('any other errno: the caller gets EIO, and the session ends', async () => {
    await serve({ open: () => Promise.resolve(ok({ handle: 9, keepCache: false })) });
    device.refusals.push(EINVAL);
    await ask(Opcode.OPEN, u32(0, 0));
    assert.deepEqual(answers(), [[8, EIO]]);
    assert.equal((await session.ended).reason, 'failed');
  });
});

describe('a broken invariant', () => {
  const throwing: [string, Script][] = [
    [
      'thrown by a call',
      {
        getattr: () => {
          throw new InvariantError('broken');
        },
      },
    ],
    ['rejected', { getattr: () => Promise.reject(new InvariantError('broken')) }],
  ];
  for (const [what, script] of throwing) {
    it(`${what}: all that waits and all that comes gets EIO, and the end says why`, async () => {
      const held = new Held();
      await serve({ ...script, lookup: () => held.promise });
      await ask(Opcode.LOOKUP, NAME_A, 8);
      await ask(Opcode.GETATTR, u64(0, 0), 10);
      await ask(Opcode.STATFS, Buffer.alloc(0), 12);
      assert.deepEqual(answers(), [
        [8, EIO],
        [10, EIO],
        [12, EIO],
      ]);
      const end = await session.ended;
      assert.ok(end.reason === 'failed' && end.error instanceof InvariantError);
      held.settle(ok(entry)); // late: no second answer, and the lookup is given back
      await turn();
      assert.equal(answers().length, 3);
      assert.deepEqual(calls.at(-1), ['forget', 42, 1]);
    });
  }

  it('is an answer that does not fit', async () => {
    await serve({ readlink: () => Promise.resolve(ok(undefined)) });
    await ask(Opcode.READLINK, Buffer.alloc(0));
    assert.deepEqual(answers(), [[8, EIO]]);
    assert.equal((await session.ended).reason, 'failed');
  });
});

describe('the end', () => {
  it('ENODEV is an unmount', async () => {
    const held = new Held();
    await serve({ lookup: () => held.promise });
    await ask(Opcode.LOOKUP, NAME_A);
    device.end(ENODEV);
    assert.deepEqual(await session.ended, { reason: 'unmounted' });
    held.settle(ok(entry));
    await turn();
    assert.deepEqual(calls.at(-1), ['forget', 42, 1]);
    assert.deepEqual(answers(), []);
  });

  it('abandoned: all that waits and all that comes gets EIO, late results are given back', async () => {
    const held = new Held<unknown>();
    await serve({ lookup: () => held.promise });
    await ask(Opcode.LOOKUP, NAME_A, 8);
    session.abandon();
    session.abandon();
    assert.deepEqual(await session.ended, { reason: 'unmounted' });
    await ask(Opcode.LOOKUP, NAME_A, 10);
    held.settle(ok(entry));
    await turn();
    assert.deepEqual(answers(), [
      [8, EIO],
      [10, EIO],
    ]);
    assert.deepEqual(calls.at(-1), ['forget', 42, 1]);
    device.end(ENODEV);
  });

  it('any other errno is a failure', async () => {
    await serve({});
    device.end(EIO);
    assert.equal((await session.ended).reason, 'failed');
  });
});

it('no message crashes the session or is answered twice', async () => {
  const attr = { ino: 42, attributes, attributesValidMs: 0 };
  const opcodes = fc.oneof(fc.constantFrom(...Object.values(Opcode)), fc.nat(60));
  const message = fc.record({
    opcode: opcodes.filter((opcode) => opcode !== Opcode.INTERRUPT),
    args: fc.uint8Array({ maxLength: 120 }),
    cut: fc.option(fc.nat(39), { freq: 20 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 12 }), async (messages) => {
      device = new FakeDevice();
      calls = [];
      const fine = () => Promise.resolve(ok(undefined));
      await serve({
        lookup: () => Promise.resolve(ok(entry)),
        getattr: () => Promise.resolve(ok(attr)),
        setattr: () => Promise.resolve(ok(attr)),
        readlink: () => Promise.resolve(ok(Buffer.from('x'))),
        access: fine,
        mknod: () => Promise.resolve(ok(entry)),
        mkdir: () => Promise.resolve(ok(entry)),
        symlink: () => Promise.resolve(ok(entry)),
        link: () => Promise.resolve(ok(entry)),
        unlink: fine,
        rmdir: fine,
        rename: fine,
        create: () => Promise.resolve(ok({ entry, opened: { handle: 1, keepCache: false } })),
        open: () => Promise.resolve(ok({ handle: 1, keepCache: false })),
        read: () => Promise.resolve(ok({ kind: 'zeros', length: 0 })),
        write: () => Promise.resolve(ok(1)),
        flush: fine,
        fsync: fine,
        lseek: () => Promise.resolve(ok(0)),
        opendir: () => Promise.resolve(ok(1)),
        readdir: fine,
        fsyncdir: fine,
        statfs: () => Promise.resolve(err(localError('EIO', 'statfs'))),
      });
      let unique = 10;
      const expected = new Set<number>();
      let whole = true;
      for (const { opcode, args, cut } of messages) {
        unique += 2;
        const bytes = request(opcode, Buffer.from(args), { unique });
        whole &&= cut === null;
        if (cut === null) expected.add(unique);
        await device.feed(cut === null ? bytes : bytes.subarray(0, cut));
      }
      const uniques = device.replies.map((reply) => reply.unique);
      assert.equal(new Set(uniques).size, uniques.length, 'answered once');
      const silent = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY]);
      if (!whole || messages.some(({ opcode }) => silent.has(opcode))) return;
      if (messages.some(({ opcode }) => opcode === Opcode.INIT)) return;
      assert.deepEqual(new Set(uniques), expected, 'all answered');
    }),
    { numRuns: 500 },
  );
});
