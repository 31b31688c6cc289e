import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { FileHandle } from '../../src/base/brand.ts';
import { Nfs3Client } from '../../src/nfsc/index.ts';
import type { ImageServer } from '../../src/vfs/ports.ts';
import {
  accepted,
  exportScript,
  fattr,
  fsinfoResults,
  marked,
  noWcc,
  postOp,
  type ReceivedCall,
  ROOT,
  type Script,
  xdr,
} from './fake-server.ts';
import { fakeMount, fakeServer, must, mustFail, name, root, until } from './support.ts';

const file = Buffer.from('file handle') as FileHandle;
const NOENT = 2;
const EXIST = 17;
const JUKEBOX = 10008;

const LOOKUP = 3;
const READLINK = 5;
const GETATTR = 1;

/** Answers procedure by procedure, the results of one after another. */
function byProcedure(answers: Record<number, Buffer[]>): Script {
  return (call) => {
    const next = answers[call.procedure]?.shift();
    assert.ok(next, `procedure ${call.procedure} was not expected`);
    return next;
  };
}

/** Cuts the first connection that carries `procedure`, as if its reply were lost. */
function losingTheFirstReply(procedure: number, script: Script): Script {
  let isLost = false;
  return (call) => {
    if (isLost || call.procedure !== procedure) return script(call);
    isLost = true;
    call.socket.destroy();
    return undefined;
  };
}

const found = (attributes: Buffer) => Buffer.concat([xdr(0, file), postOp(attributes), postOp()]);

describe('Nfs3Client', () => {
  it('is what the file-system layer asks for', async (t) => {
    const { client } = await fakeMount(t, () => undefined);
    const port: ImageServer = client;
    assert.deepEqual(port.root, ROOT);
  });

  it('asks for no more than 1 MiB, the server, and the options allow, in whole pages', async (t) => {
    const cases: [number, { rsize?: number }, number][] = [
      [64 << 20, {}, 1 << 20],
      [512 << 10, {}, 512 << 10],
      [1 << 20, { rsize: 70_000 }, 69_632],
      [1 << 20, { rsize: 1000 }, 1000],
      [0, {}, 8192],
      [1, {}, 1],
      [0xffff_ffff, { rsize: 1 << 30 }, 1 << 20],
    ];
    for (const [rtmax, options, expected] of cases) {
      const decent = exportScript(() => undefined);
      const server = await fakeServer(t, (call) =>
        call.procedure === 19 ? fsinfoResults(rtmax, rtmax) : decent(call),
      );
      const { port } = server;
      const mounted = await Nfs3Client.mount({
        server: '127.0.0.1',
        exportPath: '/x',
        port,
        mountPort: port,
        wsize: options.rsize,
        ...options,
      });
      const client = must(mounted);
      assert.deepEqual([client.limits.readMax, client.limits.writeMax], [expected, expected]);
      client.close();
    }
  });

  it('reads and writes at most the limit in one call', async (t) => {
    const asked: number[] = [];
    const { client } = await fakeMount(
      t,
      (call) => {
        asked.push(call.args.readUInt32BE(16 + 8));
        if (call.procedure === 6) return xdr(0, 0, 4096, false, Buffer.alloc(4096));
        return Buffer.concat([xdr(0), noWcc, xdr(4096, 2, 1n)]);
      },
      { rsize: 4096, wsize: 4096 },
    );
    const answer = must(await client.read(root, file, 0, 100_000));
    assert.equal(answer.bytes.length, 4096);
    answer.release();
    assert.equal(
      must(await client.write(root, file, 0, Buffer.alloc(100_000), 'fileSync')).count,
      4096,
    );
    assert.deepEqual(asked, [4096, 4096]);
  });

  it('carries the server’s error with what came along', async (t) => {
    const wcc = Buffer.concat([xdr(1, 10n, 1, 2, 3, 4), postOp(fattr({ size: 11n }))]);
    const { client } = await fakeMount(t, () => Buffer.concat([xdr(28), wcc]));
    const error = mustFail(await client.write(root, file, 0, Buffer.from('x'), 'unstable'));
    assert.deepEqual(
      [error.code, error.errno, error.operation],
      ['NFS3ERR_NOSPC', 'ENOSPC', 'WRITE'],
    );
    assert.equal(error.wcc?.before?.size, 10);
    assert.equal(error.wcc?.before?.mtimeNs, 1_000_000_002n);
    assert.equal(error.wcc?.after?.size, 11);
    assert.equal(error.retransmitted, false);
  });

  it('believes no READ that contradicts itself or the question', async (t) => {
    const lies = [
      xdr(0, 0, 5, false, Buffer.from('four')), // count is not the length
      xdr(0, 0, 11, false, Buffer.alloc(11)), // more than was asked for
      xdr(0, 0, 0, false, Buffer.alloc(0)), // nothing, and not the end
      Buffer.concat([xdr(0, 0, 4, false, 0x7fff_ffff), Buffer.alloc(4)]), // a length beyond all
      xdr(0, 0, 10, false, 10, 1, 2), // truncated
      xdr(0, 2), // neither attributes nor none
    ];
    const { client } = await fakeMount(t, () => lies.shift() as Buffer);
    while (lies.length > 0) {
      const error = mustFail(await client.read(root, file, 0, 10));
      assert.deepEqual([error.code, error.errno], ['PROTOCOL', 'EIO']);
    }
  });

  it('believes no WRITE of nothing, or of more than was sent', async (t) => {
    const lies = [0, 11].map((count) => Buffer.concat([xdr(0), noWcc, xdr(count, 0, 1n)]));
    lies.push(Buffer.concat([xdr(0), noWcc, xdr(10, 3, 1n)])); // stable_how 3
    const { client } = await fakeMount(t, () => lies.shift() as Buffer);
    while (lies.length > 0) {
      const error = mustFail(await client.write(root, file, 0, Buffer.alloc(10), 'unstable'));
      assert.equal(error.code, 'PROTOCOL');
    }
  });

  it('refuses listings with names that are none', async (t) => {
    const bad = ['', 'a/b', '/', 'a\0b', 'x'.repeat(256)];
    const listing = (text: string) => xdr(0, 0, 1n, true, 5n, Buffer.from(text), 1n, false, true);
    const names = [...bad];
    const { client } = await fakeMount(t, () => listing(names.shift() ?? '..'));
    for (const _ of bad) {
      const error = mustFail(await client.readdir(root, client.root, 0n, 0n, 4096));
      assert.equal(error.code, 'PROTOCOL');
    }
    const { entries, eof } = must(await client.readdir(root, client.root, 0n, 0n, 4096));
    assert.deepEqual([entries.map((entry) => String(entry.name)), eof], [['..'], true]);
  });

  it('refuses handles that are empty or too long', async (t) => {
    const handles = [Buffer.alloc(0), Buffer.alloc(65)];
    const { client } = await fakeMount(t, () => xdr(0, handles.shift() as Buffer, 0, 0));
    while (handles.length > 0) {
      const error = mustFail(await client.lookup(root, client.root, name('x')));
      assert.equal(error.code, 'PROTOCOL');
    }
  });

  it('says NOTSUPP where the server has no such procedure', async (t) => {
    const { client } = await fakeMount(t, (call) => {
      call.socket.write(marked(xdr(call.xid, 1, 0, 0, 0, 3)));
      return undefined;
    });
    const error = mustFail(await client.readdirplus(root, client.root, 0n, 0n, 4096));
    assert.deepEqual([error.code, error.errno], ['NFS3ERR_NOTSUPP', 'EOPNOTSUPP']);
  });

  it('asks again when the server says JUKEBOX, with a new xid', async (t) => {
    const { client, server } = await fakeMount(t, () =>
      server.calls.length < 4
        ? Buffer.concat([xdr(JUKEBOX), postOp()])
        : Buffer.concat([xdr(0), postOp(), xdr(1)]),
    );
    assert.equal(must(await client.access(root, file, 1)).granted, 1);
    const asked = server.calls.filter(({ procedure }) => procedure === 4);
    assert.equal(new Set(asked.map(({ xid }) => xid)).size, 2);
  });

  it('gives JUKEBOX up after the major time-out when soft, and when closed', async (t) => {
    const jukebox = () => Buffer.concat([xdr(JUKEBOX), postOp()]);
    const soft = { hard: false, timeoDeciseconds: 2, retrans: 0 };
    const { client } = await fakeMount(t, jukebox, soft);
    const error = mustFail(await client.access(root, file, 1));
    assert.deepEqual([error.code, error.errno], ['NFS3ERR_JUKEBOX', 'EIO']);

    const { client: hard, server } = await fakeMount(t, jukebox);
    const waiting = hard.access(root, file, 1);
    await until(() => server.calls.length === 3);
    hard.close();
    assert.match(mustFail(await waiting).code, /CLOSED|JUKEBOX/);
  });

  it('uses another verifier for each EXCLUSIVE create', async (t) => {
    const verifiers: string[] = [];
    const { client } = await fakeMount(t, (call) => {
      verifiers.push(call.args.subarray(-8).toString('hex'));
      return Buffer.concat([xdr(0), xdr(1, file), postOp(), noWcc]);
    });
    for (const _ of [1, 2, 3]) {
      must(await client.create(root, client.root, name('x'), { kind: 'exclusive' }));
    }
    assert.equal(new Set(verifiers).size, 3);
  });
});

describe('a call that went out twice', () => {
  const failed = (status: number) => Buffer.concat([xdr(status), noWcc]);

  it('is a removal done, when the name is gone', async (t) => {
    const { client } = await fakeMount(
      t,
      losingTheFirstReply(12, () => failed(NOENT)),
    );
    must(await client.remove(root, client.root, name('x')));
    // The next goes out once only, and fails as it should.
    const error = mustFail(await client.remove(root, client.root, name('x')));
    assert.equal(error.code, 'NFS3ERR_NOENT');
  });

  it('is a removed directory, likewise', async (t) => {
    const { client } = await fakeMount(
      t,
      losingTheFirstReply(13, () => failed(NOENT)),
    );
    must(await client.rmdir(root, client.root, name('x')));
    assert.equal(mustFail(await client.rmdir(root, client.root, name('x'))).code, 'NFS3ERR_NOENT');
  });

  it('is a directory made, if it is one and ours', async (t) => {
    const cases: [Buffer, boolean][] = [
      [fattr({ type: 2, mode: 0o2750, uid: 5 }), true],
      [fattr({ type: 1, mode: 0o750, uid: 5 }), false],
      [fattr({ type: 2, mode: 0o755, uid: 5 }), false],
      [fattr({ type: 2, mode: 0o750, uid: 6 }), false],
    ];
    for (const [attributes, isMade] of cases) {
      const script = byProcedure({ 9: [failed(EXIST)], [LOOKUP]: [found(attributes)] });
      const { client } = await fakeMount(t, losingTheFirstReply(9, script));
      const as = { uid: 5, gid: 5, groups: [] };
      const answer = await client.mkdir(as, client.root, name('x'), { mode: 0o750 });
      assert.equal(answer.ok, isMade);
      if (answer.ok) assert.deepEqual(answer.value.file, file);
      else {
        assert.deepEqual([answer.error.code, answer.error.retransmitted], ['NFS3ERR_EXIST', true]);
      }
    }
  });

  it('is a link made, if it points there', async (t) => {
    for (const [target, isMade] of [
      ['there', true],
      ['elsewhere', false],
    ] as const) {
      const script = byProcedure({
        10: [failed(EXIST)],
        [LOOKUP]: [found(fattr({ type: 5 }))],
        [READLINK]: [xdr(0, 0, Buffer.from(target))],
      });
      const { client } = await fakeMount(t, losingTheFirstReply(10, script));
      const answer = await client.symlink(root, client.root, name('x'), Buffer.from('there'), {});
      assert.equal(answer.ok, isMade);
    }
  });

  it('is a second name given, if it is the same file', async (t) => {
    for (const [fileid, isMade] of [
      [7n, true],
      [8n, false],
    ] as const) {
      const script = byProcedure({
        15: [Buffer.concat([xdr(EXIST), postOp(), noWcc])],
        [LOOKUP]: [found(fattr({ fileid }))],
        [GETATTR]: [Buffer.concat([xdr(0), fattr({ fileid: 7n })])],
      });
      const { client } = await fakeMount(t, losingTheFirstReply(15, script));
      const to = { directory: client.root, name: name('x') };
      assert.equal((await client.link(root, file, to)).ok, isMade);
    }
  });

  it('is a renaming done, if the old name is gone and the new one there', async (t) => {
    const absent = Buffer.concat([xdr(NOENT), postOp()]);
    const there = found(fattr());
    for (const [lookups, isDone] of [
      [[absent, there], true],
      [[absent, absent], false],
      [[there], false],
    ] as const) {
      const script = byProcedure({
        14: [Buffer.concat([xdr(NOENT), noWcc, noWcc])],
        [LOOKUP]: [...lookups],
      });
      const { client } = await fakeMount(t, losingTheFirstReply(14, script));
      const from = { directory: client.root, name: name('a') };
      const to = { directory: client.root, name: name('b') };
      assert.equal((await client.rename(root, from, to)).ok, isDone);
    }
  });

  it('is not judged for a guarded CREATE: who made the file matters', async (t) => {
    const { client } = await fakeMount(
      t,
      losingTheFirstReply(8, () => failed(EXIST)),
    );
    const how = { kind: 'guarded', attributes: {} } as const;
    const error = mustFail(await client.create(root, client.root, name('x'), how));
    assert.deepEqual([error.code, error.retransmitted], ['NFS3ERR_EXIST', true]);
  });

  it('keeps its bytes on the way', async (t) => {
    const payload = Buffer.alloc(300_000, 'payload');
    const done = Buffer.concat([xdr(0), noWcc, xdr(payload.length, 2, 1n)]);
    const { client, server } = await fakeMount(
      t,
      losingTheFirstReply(7, () => done),
    );
    must(await client.write(root, file, 0, payload, 'fileSync'));
    const [first, second] = server.calls.filter(({ procedure }) => procedure === 7);
    assert.ok(first && second && first.record.equals(second.record));
    assert.ok(second.args.subarray(-payload.length).equals(payload));
  });
});

describe('a hostile server', () => {
  it('gets a typed error, whatever bytes it answers with', async (t) => {
    let results = Buffer.alloc(0);
    const { client } = await fakeMount(t, () => results);
    const at = { directory: client.root, name: name('x') };
    const calls: (() => Promise<{ ok: boolean }>)[] = [
      () => client.getattr(root, file),
      () => client.setattr(root, file, { mode: 1 }),
      () => client.lookup(root, client.root, name('x')),
      () => client.access(root, file, 63),
      () => client.readlink(root, file),
      () => client.read(root, file, 0, 4096),
      () => client.write(root, file, 0, Buffer.alloc(10), 'unstable'),
      () => client.create(root, client.root, name('x'), { kind: 'exclusive' }),
      () => client.mkdir(root, client.root, name('x'), {}),
      () => client.remove(root, client.root, name('x')),
      () => client.rename(root, at, at),
      () => client.link(root, file, at),
      () => client.readdir(root, client.root, 0n, 0n, 4096),
      () => client.readdirplus(root, client.root, 0n, 0n, 4096),
      () => client.fsstat(root, file),
      () => client.pathconf(root),
      () => client.commit(root, file, 0, 0),
    ];
    const word = fc.oneof(fc.nat(3), fc.constantFrom(0xffff_ffff, 0x7fff_ffff, 64, 255, 4096));
    const words = fc.array(word, { maxLength: 60 }).map((list) => xdr(...list));
    const anything = fc.oneof(words, fc.uint8Array({ maxLength: 300 }).map(Buffer.from));
    await fc.assert(
      fc.asyncProperty(fc.nat(calls.length - 1), anything, async (index, bytes) => {
        // JUKEBOX would be asked again.
        fc.pre(bytes.length < 4 || bytes.readUInt32BE(0) !== JUKEBOX);
        results = bytes as Buffer<ArrayBuffer>;
        const answer = (await calls[index]?.()) as { ok: boolean; error?: { code: string } };
        if (!answer.ok) assert.match(answer.error?.code ?? '', /^(PROTOCOL|NFS3ERR_\w+)$/);
      }),
      { numRuns: 500 },
    );
  });

  it('gets one, whatever it does to its stream', async (t) => {
    const decent = Buffer.concat([xdr(0), fattr()]);
    let mangle = (bytes: Buffer) => bytes;
    const script = (call: ReceivedCall) => {
      call.socket.write(mangle(marked(accepted(call.xid, decent))));
      return undefined;
    };
    const soft = { hard: false, timeoDeciseconds: 1, retrans: 0 };
    const { client } = await fakeMount(t, script, soft);
    await fc.assert(
      fc.asyncProperty(fc.nat(111), fc.nat(255), async (at, byte) => {
        mangle = (bytes) => {
          bytes[at] = byte;
          return bytes;
        };
        const answer = await client.getattr(root, file);
        if (!answer.ok) assert.match(answer.error.code, /^(PROTOCOL|RPC_\w+|NFS3ERR_\w+)$/);
        mangle = (bytes) => bytes;
        // The client is as good as before: at most one stream was lost.
        const next = await client.getattr(root, file);
        assert.ok(next.ok || next.error.code.startsWith('RPC_'));
      }),
      { numRuns: 60 },
    );
  });
});
