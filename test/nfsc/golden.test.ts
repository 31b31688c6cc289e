/**
 * The client against the bytes of a real server: the calls it sends and what it makes of replies.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { FileHandle } from '../../src/base/brand.ts';
import { Nfs3Client } from '../../src/nfsc/index.ts';
import { dump, exportList, mnt } from '../../src/nfsc/mount3.ts';
import * as nfs3 from '../../src/nfsc/nfs3/procedures.ts';
import { getPort } from '../../src/nfsc/portmap.ts';
import type { Procedure, Reply } from '../../src/nfsc/rpc/procedure.ts';
import { XdrError, XdrReader } from '../../src/nfsc/xdr/reader.ts';
import { plain, visitEveryProcedure } from './every-procedure.ts';
import { marked, type ReceivedCall, xdr } from './fake-server.ts';
import { fakeServer, must } from './support.ts';

interface Fixture {
  readonly steps: readonly { readonly step: string; readonly result: unknown }[];
  readonly exports: unknown;
  readonly exchanges: readonly { readonly call: string; readonly reply: string }[];
}

const fixture = JSON.parse(
  readFileSync(new URL('fixtures/ganesha-exchanges.json', import.meta.url), 'utf8'),
) as Fixture;

const NFS_PROGRAM = 100_003;
/** Status and accept_stat lie before the results. */
const REPLY_HEADER_BYTES = 5 * 4;

function callOf({ program, version, procedure, args }: ReceivedCall): string {
  return Buffer.concat([xdr(program, version, procedure), args]).toString('hex');
}

describe('exchanges with nfs-ganesha', () => {
  it('are sent and understood as they were', async (t) => {
    const expected = [...fixture.exchanges];
    const server = await fakeServer(t, (call) => {
      const exchange = expected.shift();
      assert.equal(callOf(call), exchange?.call);
      const reply = Buffer.from(exchange?.reply ?? '', 'hex');
      call.socket.write(marked(Buffer.concat([xdr(call.xid), reply])));
      return undefined;
    });
    const { port } = server;
    const options = { server: '127.0.0.1', exportPath: '/export', port, mountPort: port };
    const client = must(await Nfs3Client.mount(options));
    const steps = await visitEveryProcedure(client);
    for (const [index, step] of steps.entries()) {
      assert.deepEqual(plain(step), fixture.steps[index]);
    }
    assert.deepEqual(plain(must(await client.getExports())), fixture.exports);
    must(await client.unmount());
    assert.deepEqual(expected, []);
    assert.equal(steps.length, fixture.steps.length);
  });

  it('hold each of the 22 procedures', () => {
    const numbers = fixture.exchanges
      .map(({ call }) => Buffer.from(call, 'hex'))
      .filter((call) => call.readUInt32BE(0) === NFS_PROGRAM)
      .map((call) => call.readUInt32BE(8));
    const all = Array.from({ length: 22 }, (_, number) => number);
    assert.deepEqual(
      [...new Set(numbers)].sort((a, b) => a - b),
      all,
    );
  });

  it('mean what they should', () => {
    const result = (label: string) => {
      const { result: found } = fixture.steps.find(({ step }) => step === label) as {
        result: { ok: boolean; value: Record<string, unknown>; error: { code: string } };
      };
      return found.ok ? found.value : found.error.code;
    };
    const of = (label: string) => result(label) as Record<string, unknown>;
    const hex = (text: string) => Buffer.from(text).toString('hex');
    assert.equal(result('CREATE again'), 'NFS3ERR_EXIST');
    assert.equal(result('LOOKUP of nothing'), 'NFS3ERR_NOENT');
    assert.equal(result('SETATTR guarded'), 'NFS3ERR_NOT_SYNC');
    assert.equal(result('RENAME of nothing'), 'NFS3ERR_NOENT');
    assert.equal(result('REMOVE of a directory'), 'NFS3ERR_ISDIR');
    assert.equal(result('GETATTR of what is gone'), 'NFS3ERR_STALE');
    const { bytes, eof } = of('READ');
    assert.deepEqual([bytes, eof], [hex('five  b'), false]);
    const end = of('READ to the end');
    assert.deepEqual([end.bytes, end.eof], [hex('three'), true]);
    assert.equal(of('READLINK').target, hex('five bytes and three'));
    assert.equal(of('WRITE').count, 20);
    assert.equal(of('WRITE').committed, 'unstable');
    assert.equal(of('WRITE stable').committed, 'fileSync');
    const { after } = of('SETATTR of times') as { after: Record<string, unknown> };
    assert.equal(after.size, 3);
    assert.equal(after.atimeNs, '1234567890123456789n');
    assert.equal(after.mtimeNs, '1000000000n');
    const device = of('MKNOD of a device').attributes as Record<string, unknown>;
    assert.deepEqual([device.type, device.rdev], ['block', { major: 8, minor: 1 }]);
    const made = of('CREATE').attributes as Record<string, unknown>;
    assert.deepEqual([made.uid, made.gid, made.mode], [1000, 1001, 0o640]);
    const names = ['.', '..', 'device', 'directory', 'fifo', 'file', 'link', 'third name'];
    for (const label of ['READDIR', 'READDIRPLUS']) {
      const { entries } = of(label) as { entries: { name: string }[] };
      assert.deepEqual(entries.map((entry) => entry.name).sort(), names.map(hex).sort());
    }
    assert.deepEqual(fixture.exports, [{ directory: '/export', groups: [] }]);
  });
});

describe('replies that were tampered with', () => {
  const file = Buffer.from('h') as FileHandle;
  const args: Record<string, unknown> = {
    READ: { file, offset: 0, count: 4096 },
    WRITE: { file, offset: 0, bytes: Buffer.alloc(20), stability: 'unstable' },
    ACCESS: { file, wanted: 63 },
  };
  const procedures = [...Object.values(nfs3), mnt, dump, exportList, getPort].filter(
    (entry) => typeof entry === 'object',
  ) as Procedure<unknown, Reply>[];

  /** Decodes, and fails on anything but a reply or an XdrError. */
  function decode(procedure: Procedure<unknown, Reply>, results: Buffer): void {
    try {
      procedure.decode(new XdrReader(results), args[procedure.name] ?? {}, undefined);
    } catch (error) {
      assert.ok(error instanceof XdrError, String(error));
    }
  }

  const golden = fixture.exchanges.flatMap(({ call, reply }) => {
    const [program, number] = [0, 8].map((at) => Buffer.from(call, 'hex').readUInt32BE(at));
    const procedure = procedures.find((one) => one.program === program && one.number === number);
    const results = Buffer.from(reply, 'hex').subarray(REPLY_HEADER_BYTES);
    return procedure === undefined ? [] : [{ procedure, results }];
  });

  it('decode to something else or to an XdrError, whatever word is changed', () => {
    const word = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 2, 0x7fff_ffff, 0xffff_ffff));
    const change = fc.record({ at: fc.nat(400), word });
    fc.assert(
      fc.property(fc.nat(golden.length - 1), fc.array(change, { minLength: 1 }), (index, list) => {
        const { procedure, results } = golden[index] as (typeof golden)[number];
        const changed = Buffer.from(results);
        for (const { at, word: value } of list) {
          if (4 * at + 4 <= changed.length) changed.writeUInt32BE(value, 4 * at);
        }
        decode(procedure, changed);
      }),
      { numRuns: 2000 },
    );
  });

  it('are refused when they are cut, at any length', () => {
    assert.ok(golden.length > 35);
    for (const { procedure, results } of golden) {
      for (let length = 0; length < results.length; length += 4) {
        const reader = new XdrReader(results, 0, length);
        assert.throws(
          () => procedure.decode(reader, args[procedure.name] ?? {}, undefined),
          XdrError,
          `${procedure.name} at ${length} of ${results.length}`,
        );
      }
    }
  });

  it('crash no decoder, be they any bytes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...procedures),
        fc.uint8Array({ maxLength: 400 }),
        fc.boolean(),
        (procedure, bytes, isOk) => {
          // Half of them say that they are a success, or none would get beyond the status.
          decode(procedure, isOk ? Buffer.concat([xdr(0), bytes]) : Buffer.from(bytes));
        },
      ),
      { numRuns: 5000 },
    );
  });
});
