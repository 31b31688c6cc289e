/**
 * Random writes, truncations, syncs, closes and server restarts against a plain array of bytes,
 * with answers that come late and in any order.
 *
 * What must hold: a read gives what was acknowledged last, the size is right at once, and at the
 * end, after a sync, the server's durable bytes are the model's, whatever it lost on the way.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import { MemoryImages } from './memory-images.ts';
import { MemoryServer } from './memory-server.ts';
import { alice, by, Mounted, O_RDWR, value } from './mounted.ts';

const spaceBytes = 96;

type Action =
  | { kind: 'write'; offset: number; length: number; fill: number }
  | { kind: 'writes'; offset: number; length: number; parts: number; fill: number }
  | { kind: 'writeSynced'; offset: number; length: number; fill: number }
  | { kind: 'truncate'; size: number }
  | { kind: 'restartDuring'; calls: number }
  | { kind: 'read'; offset: number; length: number }
  | { kind: 'stat' | 'sync' | 'restart' | 'times' | 'reopen' | 'commitFails' | 'wait' };

const offset = fc.nat(spaceBytes - 1);
const length = fc.integer({ min: 1, max: 24 });
const fill = fc.integer({ min: 1, max: 255 });
const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset, length, fill }),
  fc.record({
    kind: fc.constant('writes' as const),
    offset,
    length,
    parts: fc.integer({ min: 2, max: 5 }),
    fill,
  }),
  fc.record({ kind: fc.constant('writeSynced' as const), offset, length, fill }),
  fc.record({ kind: fc.constant('restartDuring' as const), calls: fc.nat(6) }),
  fc.record({ kind: fc.constant('truncate' as const), size: fc.nat(spaceBytes) }),
  fc.record({ kind: fc.constant('read' as const), offset, length }),
  fc.record({ kind: fc.constant('read' as const), offset, length: fc.constant(spaceBytes * 2) }),
  fc.record({
    kind: fc.constantFrom(
      'stat' as const,
      'sync' as const,
      'restart' as const,
      'restart' as const,
      'times' as const,
      'reopen' as const,
      'commitFails' as const,
      'wait' as const,
    ),
  }),
);

interface Setup {
  readonly actions: Action[];
  readonly delays: number[];
  readonly smallParts: boolean;
  readonly omitWcc: boolean;
  readonly coarseClock: boolean;
  readonly attributeCaching: boolean;
  readonly memoryBytes: number;
  readonly cached: boolean;
  readonly smallFileBytes: number;
}

const setups: fc.Arbitrary<Setup> = fc.record({
  actions: fc.array(actions, { maxLength: 30, size: 'max' }),
  delays: fc.array(fc.nat(4), { minLength: 1, maxLength: 20 }),
  smallParts: fc.boolean(),
  omitWcc: fc.boolean(),
  coarseClock: fc.boolean(),
  attributeCaching: fc.boolean(),
  memoryBytes: fc.constantFrom(30, 100, 1_000_000),
  cached: fc.boolean(),
  smallFileBytes: fc.constantFrom(0, 30),
});

class Run {
  readonly #server = new MemoryServer();
  readonly #images: MemoryImages | undefined;
  readonly #mounted: Mounted;
  #model: Buffer = Buffer.alloc(0);
  #ino = 0 as Ino;
  #handle = 0 as HandleId;
  #syncedHandle = 0 as HandleId;
  #callsToRestart = -1;

  constructor(setup: Setup) {
    const { delays, smallParts, memoryBytes } = setup;
    let call = 0;
    const wait = async (): Promise<void> => {
      call += 1;
      const turns = delays[call % delays.length] ?? 0;
      for (let turn = 0; turn < turns; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    this.#server.before = async () => {
      await wait();
      if (this.#callsToRestart === 0) this.#server.restart();
      this.#callsToRestart -= 1;
    };
    this.#server.after = wait;
    this.#server.omitWcc = setup.omitWcc;
    this.#server.tickNs = setup.coarseClock ? 0n : 1_000n;
    if (smallParts) {
      this.#server.limits.readMax = 10;
      this.#server.limits.writeMax = 9;
      this.#server.maxReadBytes = 7;
      this.#server.maxWriteBytes = 5;
    }
    const options = {
      commitFileBytes: memoryBytes / 2,
      commitTotalBytes: memoryBytes / 2,
      uncommittedMaxBytes: memoryBytes,
      copyBelowBytes: 12,
      attributeCaching: setup.attributeCaching,
      smallFileBytes: setup.smallFileBytes,
    };
    if (setup.cached) {
      this.#images = new MemoryImages(this.#server);
      this.#images.delay = wait;
    }
    this.#mounted = new Mounted(options, {}, this.#server, { cache: this.#images });
  }

  async all(list: readonly Action[]): Promise<void> {
    const { ino, handle } = await this.#mounted.create('/image');
    [this.#ino, this.#handle] = [ino, handle];
    const O_SYNC = 0o4010000;
    const synced = await this.#mounted.fs.open(by(alice), this.#ino, O_RDWR | O_SYNC);
    this.#syncedHandle = value(synced).handle;
    for (const action of list) await this.#do(action);
    value(await this.#mounted.fsync(this.#handle));
    assert.deepEqual(this.#server.stableBytesOf('/image'), this.#model, 'durable at the server');
    await this.#checkSize();
    this.#mounted.fs.release(this.#handle);
    this.#mounted.fs.release(this.#syncedHandle);
    await this.#mounted.fs.close();
    assert.equal(this.#mounted.payloads, 0);
    assert.equal(this.#server.unreleasedReads, 0);
    assert.equal(this.#mounted.fs.figures().heldBytes, 0);
    assert.equal(this.#mounted.fs.figures().openImages, 0);
    assert.equal(this.#images?.openImages ?? 0, 0);
    assert.deepEqual(this.#images?.faults ?? [], []);
  }

  async #do(action: Action): Promise<void> {
    const { fs } = this.#mounted;
    switch (action.kind) {
      case 'write':
        await this.#write(this.#handle, action.offset, Buffer.alloc(action.length, action.fill));
        return;
      case 'writeSynced': {
        const bytes = Buffer.alloc(action.length, action.fill);
        await this.#write(this.#syncedHandle, action.offset, bytes);
        const end = action.offset + action.length;
        const durable = this.#server.stableBytesOf('/image').subarray(action.offset, end);
        assert.deepEqual(durable, bytes, 'O_SYNC is durable at once');
        return;
      }
      case 'restartDuring':
        this.#callsToRestart = action.calls;
        return;
      case 'wait':
        this.#mounted.clock.advance(61_000);
        return;
      case 'writes': {
        // Beside them, calls whose answers are older or newer than the writes'.
        const { length: least } = this.#model;
        const writes: Promise<unknown>[] = [this.#looks(least), this.#looks(least)];
        for (let part = 0; part < action.parts; part++) {
          const bytes = Buffer.alloc(action.length, action.fill + part);
          writes.push(this.#write(this.#handle, action.offset + part * action.length, bytes));
        }
        writes.push(this.#looks(least));
        await Promise.all(writes);
        return this.#checkSize();
      }
      case 'truncate': {
        const set = await fs.setattr(
          by(alice),
          this.#ino,
          { size: action.size, mtime: 'now' },
          this.#handle,
        );
        this.#model = resized(this.#model, action.size);
        assert.equal(value(set).attributes.size, action.size);
        return;
      }
      case 'read': {
        const end = action.offset + action.length;
        const bytes = await this.#mounted.read(this.#handle, action.offset, action.length);
        assert.deepEqual(bytes, this.#model.subarray(action.offset, end), 'read your writes');
        return;
      }
      case 'stat':
        return this.#checkSize();
      case 'sync':
        value(await this.#mounted.fsync(this.#handle));
        assert.deepEqual(this.#server.stableBytesOf('/image'), this.#model);
        return;
      case 'restart':
        this.#server.restart();
        return;
      case 'times': {
        const mtime = 1_234_567_890_000_000_001n;
        const set = value(await fs.setattr(by(alice), this.#ino, { mtime }));
        assert.equal(set.attributes.mtimeNs, mtime);
        return;
      }
      case 'reopen': {
        const handle = await this.#mounted.open('/image', O_RDWR);
        value(await fs.flush(by(alice), this.#handle));
        fs.release(this.#handle);
        this.#handle = handle;
        return;
      }
      case 'commitFails': {
        this.#server.fail = (call) => (call.procedure === 'commit' ? 'NFS3ERR_IO' : undefined);
        await this.#mounted.fsync(this.#handle);
        this.#server.fail = () => undefined;
        return;
      }
    }
  }

  async #write(handle: HandleId, offset: number, bytes: Buffer): Promise<void> {
    // The writes of one action do not overlap: in the model they have no order.
    this.#model = resized(this.#model, Math.max(this.#model.length, offset + bytes.length));
    bytes.copy(this.#model, offset);
    const written = await this.#mounted.write(handle, offset, bytes);
    assert.equal(value(written), bytes.length);
    const size = await this.#mounted.size(this.#ino);
    assert(size >= offset + bytes.length, `size ${size} after a write to ${offset}`);
  }

  /** What a reader may see while the file grows: never less than there was. */
  async #looks(leastBytes: number): Promise<void> {
    const bytes = await this.#mounted.read(this.#handle, 0, leastBytes);
    assert.equal(bytes.length, leastBytes);
    assert((await this.#mounted.size(this.#ino)) >= leastBytes);
  }

  async #checkSize(): Promise<void> {
    assert.equal(await this.#mounted.size(this.#ino), this.#model.length);
  }
}

function resized(bytes: Buffer, size: number): Buffer {
  const result = Buffer.alloc(size);
  bytes.copy(result, 0, 0, Math.min(size, bytes.length));
  return result;
}

describe('writes', () => {
  it('once acknowledged are not lost, and what was cut off does not come back', async () => {
    await fc.assert(
      fc.asyncProperty(setups, (setup) => new Run(setup).all(setup.actions)),
      { numRuns: 200 },
    );
  });
});
