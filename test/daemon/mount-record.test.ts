import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { FileHandle } from '../../src/base/brand.ts';
import { behindRecord, loadRecord, type MountRecord } from '../../src/daemon/mount-record.ts';
import type { KnowledgeStore } from '../../src/vfs/ports.ts';

describe('the record of a mount', () => {
  it('is found with what the file system has saved behind it', async () => {
    await fc.assert(
      fc.asyncProperty(anyRecord(), fc.uint8Array(), async (record, bytes) => {
        const { store } = memoryStore();
        const seen = behindRecord(store, () => record);
        await seen.save(Buffer.from(bytes));
        assert.deepEqual(await loadRecord(store), record);
        assert.deepEqual(await seen.load(), Buffer.from(bytes));
      }),
    );
  });

  it('is as it is when something is saved', async () => {
    const { store } = memoryStore();
    let roundTripMs = 1;
    const seen = behindRecord(store, () => ({ ...aRecord, roundTripMs }));
    roundTripMs = 35;
    await seen.save(Buffer.alloc(0));
    assert.equal((await loadRecord(store))?.roundTripMs, 35);
  });

  it('goes when what is known is forgotten', async () => {
    const { store, kept } = memoryStore();
    const seen = behindRecord(store, () => aRecord);
    await seen.save(Buffer.from('names'));
    await seen.forget();
    assert.equal(kept(), undefined);
    assert.equal(await seen.load(), undefined);
    assert.equal(await loadRecord(store), undefined);
  });

  it('is none, whatever else is found there', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), async (bytes) => {
        const { store } = memoryStore(Buffer.from(bytes));
        assert.equal(await loadRecord(store), undefined);
        assert.equal(await behindRecord(store, () => aRecord).load(), undefined);
      }),
    );
  });

  it('is none when a field cannot be, and then nothing behind it is believed', async () => {
    const { store, kept } = memoryStore();
    await behindRecord(store, () => aRecord).save(Buffer.from('names'));
    const text = kept()?.toString('latin1') ?? '';
    const damages = [
      ['"port":2049', '"port":0'],
      ['"port":2049', '"port":65536'],
      ['"rtmax":1048576', '"rtmax":-1'],
      ['AUTH_SYS', 'AUTH_KRB'],
      ['"root":"', '"toor":"'],
      ['{', '['],
    ];
    for (const [from = '', to = ''] of damages) {
      assert.ok(text.includes(from), from);
      const body = text.slice(12).replace(from, to);
      const end = body.length - 'names'.length;
      const header = Buffer.from(text.slice(0, 12), 'latin1');
      header.writeUInt32LE(end, 8);
      const damaged = memoryStore(Buffer.concat([header, Buffer.from(body, 'latin1')])).store;
      assert.equal(await loadRecord(damaged), undefined, to);
      assert.equal(await behindRecord(damaged, () => aRecord).load(), undefined, to);
    }
  });
});

const aRecord: MountRecord = {
  known: {
    root: Buffer.from('a handle') as FileHandle,
    port: 2049,
    mountPort: 20_048,
    rtmax: 1 << 20,
    wtmax: 1 << 20,
    maxFileSize: 2 ** 43,
    timeDeltaNs: 1n,
    flavor: 'AUTH_SYS',
  },
  roundTripMs: 0.25,
};

function anyRecord(): fc.Arbitrary<MountRecord> {
  const port = fc.integer({ min: 1, max: 65_535 });
  const known = fc.record({
    root: fc
      .uint8Array({ minLength: 1, maxLength: 64 })
      .map((bytes) => Buffer.from(bytes) as FileHandle),
    port,
    mountPort: port,
    rtmax: fc.nat(),
    wtmax: fc.nat(),
    maxFileSize: fc.maxSafeNat(),
    timeDeltaNs: fc.bigInt(0n, 10n ** 18n),
    flavor: fc.constantFrom('AUTH_SYS' as const, 'AUTH_NONE' as const),
  });
  const roundTripMs = fc.option(
    fc.double({ min: 0, max: 1e4, noNaN: true }).map((ms) => ms + 0),
    {
      nil: undefined,
    },
  );
  return fc.record({ known: known.map(plain), roundTripMs }).map(plain);
}

/** With the prototype of a literal. */
function plain<T extends object>(record: T): T {
  return { ...record };
}

function memoryStore(bytes?: Buffer): { store: KnowledgeStore; kept: () => Buffer | undefined } {
  let kept = bytes;
  return {
    kept: () => kept,
    store: {
      load: async () => kept,
      async save(bytes) {
        kept = bytes;
      },
      async forget() {
        kept = undefined;
      },
    },
  };
}
