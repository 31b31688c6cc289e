/**
 * Random work on one file through a file system with a cache, and on the server by another client:
 * reads, writes, truncations, renames, changes of mode, evictions, remounts, crashes of the daemon,
 * restarts of the server, times without it. Answers come late and in any order.
 *
 * What must hold: after an open, which comes after another's change, every read gives the file's
 * bytes, whatever is kept; what is settled is the server's (the memory cache checks that).
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { type KeptCache, PaperCache, StrictCache } from './kept-caches.ts';
import { MemoryServer } from './memory-server.ts';
import { alice, by, Mounted, name, O_RDWR, settled, value } from './mounted.ts';

const spaceBytes = 96;
/** More than any file has. */
const wholeBytes = 1_000_000;

type Action =
  | { kind: 'write' | 'writeAndRead'; offset: number; length: number; fill: number }
  | { kind: 'foreignWrite'; offset: number; length: number; fill: number; close: boolean }
  | { kind: 'read'; offset: number; length: number }
  | { kind: 'truncate' | 'truncateByPath'; size: number }
  | { kind: 'foreignTruncate'; size: number; close: boolean }
  | { kind: 'evict'; nth: number }
  | { kind: 'chmod' | 'rename' | 'link'; closed: boolean }
  | {
      kind:
        | 'sync'
        | 'wait'
        | 'reopen'
        | 'remount'
        | 'crash'
        | 'powerCut'
        | 'serverRestart'
        | 'away'
        | 'quiet';
    };

const offset = fc.nat(spaceBytes - 1);
const length = fc.integer({ min: 1, max: 40 });
const fill = fc.integer({ min: 1, max: 255 });
const size = fc.nat(spaceBytes);
const closed = fc.boolean();
const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('write' as const, 'writeAndRead' as const),
    offset,
    length,
    fill,
  }),
  fc.record({ kind: fc.constant('read' as const), offset, length: fc.nat(spaceBytes) }),
  fc.record({
    kind: fc.constant('read' as const),
    offset: fc.constant(0),
    length: fc.constant(200),
  }),
  fc.record({
    kind: fc.constant('foreignWrite' as const),
    offset,
    length,
    fill,
    close: fc.boolean(),
  }),
  fc.record({
    kind: fc.constantFrom('truncate' as const, 'truncateByPath' as const),
    size,
  }),
  fc.record({ kind: fc.constant('foreignTruncate' as const), size, close: fc.boolean() }),
  fc.record({ kind: fc.constant('evict' as const), nth: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    kind: fc.constantFrom('chmod' as const, 'rename' as const, 'link' as const),
    closed,
  }),
  fc.record({
    kind: fc.constantFrom(
      'sync' as const,
      'wait' as const,
      'reopen' as const,
      'remount' as const,
      'crash' as const,
      'powerCut' as const,
      'serverRestart' as const,
      'away' as const,
      'quiet' as const,
    ),
  }),
);

interface Setup {
  readonly actions: Action[];
  readonly delays: number[];
  readonly smallParts: boolean;
  readonly omitWcc: boolean;
  readonly session: 'shared' | 'exclusive';
  readonly memoryBytes: number;
  readonly chances: number[];
  readonly smallFileBytes: number;
}

const setups: fc.Arbitrary<Setup> = fc.record({
  actions: fc.array(actions, { maxLength: 30, size: 'max' }),
  delays: fc.array(fc.nat(4), { minLength: 1, maxLength: 20 }),
  smallParts: fc.boolean(),
  omitWcc: fc.boolean(),
  session: fc.constantFrom('shared' as const, 'exclusive' as const),
  memoryBytes: fc.constantFrom(30, 1_000_000_000),
  smallFileBytes: fc.constantFrom(0, 40, 1000),
  chances: fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { minLength: 1 }),
});

class Run {
  readonly #server = new MemoryServer();
  readonly #kept: KeptCache;
  readonly #setup: Setup;
  #mounted = new Mounted();
  #path = '/image';
  #names = 0;
  #model: Buffer;
  #handle: HandleId | undefined;
  /** Memory that died with a daemon. */
  #lostReads = 0;
  #away = false;
  #goOn: (() => void)[] = [];

  private constructor(setup: Setup, which: 'memory' | 'disk') {
    this.#setup = setup;
    const { delays, chances } = setup;
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
      while (this.#away) await new Promise<void>((resolve) => this.#goOn.push(resolve));
    };
    this.#server.after = wait;
    this.#server.omitWcc = setup.omitWcc;
    let draws = 0;
    const chance = () => {
      draws += 1;
      return chances[draws % chances.length] ?? 0;
    };
    const server = this.#server;
    this.#kept =
      which === 'memory' ? new StrictCache(server, wait) : new PaperCache(server, chance);
    if (setup.smallParts) {
      server.limits.readMax = 10 * this.#kept.scale;
      server.limits.writeMax = 9 * this.#kept.scale;
      server.maxReadBytes = 7 * this.#kept.scale;
      server.maxWriteBytes = 5 * this.#kept.scale;
    }
    this.#model = Buffer.alloc(70 * this.#kept.scale, 'what was there before any mount, ');
    server.putFile(this.#path, this.#model, 0o666, alice);
  }

  static async all(setup: Setup, which: 'memory' | 'disk'): Promise<void> {
    const run = new Run(setup, which);
    await run.#kept.next();
    await run.#mountAgain();
    await run.#all(setup.actions);
  }

  async #all(list: readonly Action[]): Promise<void> {
    for (const action of list) {
      await this.#do(action);
      this.#kept.check();
    }
    await this.#check();
    value(await this.#mounted.fsync(await this.#open()));
    assert.deepEqual(this.#server.stableBytesOf(this.#path), this.#model, 'at the server');
    this.#close();
    await this.#mounted.fs.close();
    await this.#kept.end();
    assert.equal(this.#mounted.payloads, 0);
    await settled();
    assert.equal(this.#server.unreleasedReads, this.#lostReads);
    this.#kept.check();
  }

  #mount(): Mounted {
    const { memoryBytes, smallFileBytes, session } = this.#setup;
    const { scale, cache } = this.#kept;
    const options = {
      commitFileBytes: (memoryBytes * scale) / 2,
      commitTotalBytes: (memoryBytes * scale) / 2,
      uncommittedMaxBytes: memoryBytes * scale,
      copyBelowBytes: 12 * scale,
      smallFileBytes: smallFileBytes * scale,
      session,
    };
    return new Mounted(options, {}, this.#server, { cache });
  }

  async #open(): Promise<HandleId> {
    this.#handle ??= await this.#mounted.open(this.#path, O_RDWR);
    return this.#handle;
  }

  #close(): void {
    if (this.#handle !== undefined) this.#mounted.fs.release(this.#handle);
    this.#handle = undefined;
  }

  async #do(of: Action): Promise<void> {
    const action = scaled(of, this.#kept.scale);
    const { fs } = this.#mounted;
    switch (action.kind) {
      case 'write':
        await this.#write(action.offset, Buffer.alloc(action.length, action.fill));
        return;
      case 'writeAndRead': {
        const before = Buffer.from(this.#model);
        const end = action.offset + action.length;
        const handle = await this.#open();
        const written = this.#write(action.offset, Buffer.alloc(action.length, action.fill));
        const bytes = await this.#read(handle, 0, before.length);
        await written;
        for (const [i, byte] of bytes.entries()) {
          const isIn = i >= action.offset && i < end;
          assert(byte === before[i] || (isIn && byte === action.fill), `byte ${i} of nobody`);
        }
        return this.#check();
      }
      case 'read': {
        const bytes = await this.#read(await this.#open(), action.offset, action.length);
        const end = action.offset + action.length;
        assert.deepEqual(bytes, this.#model.subarray(action.offset, end));
        return;
      }
      case 'foreignWrite': {
        const bytes = resized(
          this.#model,
          Math.max(this.#model.length, action.offset + action.length),
        );
        bytes.fill(action.fill, action.offset, action.offset + action.length);
        return this.#foreign(bytes, action.close);
      }
      case 'foreignTruncate':
        return this.#foreign(resized(this.#model, action.size), action.close);
      case 'truncate':
      case 'truncateByPath': {
        const ino = await this.#ino();
        const handle = action.kind === 'truncate' ? await this.#open() : undefined;
        if (handle === undefined) this.#close();
        value(await fs.setattr(by(alice), ino, { size: action.size, mtime: 'now' }, handle));
        this.#model = resized(this.#model, action.size);
        return;
      }
      case 'chmod': {
        if (action.closed) this.#close();
        value(await fs.setattr(by(alice), await this.#ino(), { mode: 0o640 }));
        return;
      }
      case 'rename': {
        if (action.closed) this.#close();
        const [from, to] = [this.#path.slice(1), this.#newName()];
        value(await fs.rename(by(alice), ROOT_INO, name(from), ROOT_INO, name(to), 0));
        this.#path = `/${to}`;
        return;
      }
      case 'link': {
        if (action.closed) this.#close();
        const from = this.#path.slice(1);
        const linked = await fs.link(by(alice), await this.#ino(), ROOT_INO, name(this.#newName()));
        this.#path = `/image${this.#names}`;
        value(linked);
        value(await fs.unlink(by(alice), ROOT_INO, name(from)));
        return;
      }
      case 'evict':
        return this.#kept.evict(this.#path, action.nth);
      case 'sync':
        value(await this.#mounted.fsync(await this.#open()));
        return;
      case 'wait':
        this.#mounted.clock.advance(61_000);
        return settled();
      case 'quiet':
        await settled();
        this.#mounted.clock.advance(6_000);
        return settled();
      case 'reopen': {
        this.#close();
        await this.#open();
        return;
      }
      case 'remount':
        this.#close();
        await fs.close();
        await this.#kept.end();
        await this.#kept.next();
        return this.#mountAgain();
      case 'crash':
      case 'powerCut':
        this.#kept.die(action.kind === 'crash' ? 'kill' : 'power');
        await settled();
        this.#lostReads = this.#server.unreleasedReads;
        this.#model = this.#server.bytesOf(this.#path);
        // What nobody will commit any more comes to the server's disk in time.
        this.#server.nodeAt(this.#path).stable = Buffer.from(this.#model);
        await this.#kept.next();
        return this.#mountAgain();
      case 'serverRestart':
        this.#server.restart();
        return;
      case 'away': {
        const handle = await this.#open();
        value(await this.#mounted.fsync(handle));
        await settled();
        // Everything is known, everything is present: then the server is away.
        fs.release(await this.#mounted.open(this.#path, O_RDWR));
        await this.#read(handle, 0, wholeBytes);
        await settled();
        this.#mounted.clock.advance(61_000);
        this.#away = true;
        const bytes = this.#read(handle, 0, wholeBytes);
        await settled();
        fs.serverState('away');
        assert.deepEqual(await bytes, this.#model);
        const again = await this.#mounted.open(this.#path, O_RDWR);
        assert.deepEqual(await this.#read(again, 3, 20), this.#model.subarray(3, 23));
        fs.release(again);
        this.#away = false;
        fs.serverState('back');
        for (const goOn of this.#goOn.splice(0)) goOn();
        return;
      }
    }
  }

  /** Another client's change, and an open that comes after it. */
  async #foreign(bytes: Buffer, close: boolean): Promise<void> {
    if (this.#setup.session !== 'shared') return;
    value(await this.#mounted.fsync(await this.#open()));
    if (close) {
      this.#close();
      await settled();
    }
    this.#server.putFile(this.#path, bytes);
    this.#model = Buffer.from(bytes);
    const handle = await this.#mounted.open(this.#path, O_RDWR);
    this.#close();
    this.#handle = handle;
  }

  async #mountAgain(): Promise<void> {
    this.#handle = undefined;
    this.#mounted = this.#mount();
    await this.#mounted.fs.recall();
  }

  async #read(handle: HandleId, at: number, count: number): Promise<Buffer> {
    return this.#kept.taken(value(await this.#mounted.fs.read(by(alice), handle, at, count)));
  }

  async #write(at: number, bytes: Buffer): Promise<void> {
    const handle = await this.#open();
    this.#model = resized(this.#model, Math.max(this.#model.length, at + bytes.length));
    bytes.copy(this.#model, at);
    assert.equal(value(await this.#mounted.write(handle, at, bytes)), bytes.length);
  }

  async #check(): Promise<void> {
    const bytes = await this.#read(await this.#open(), 0, wholeBytes);
    assert.deepEqual(bytes, this.#model);
    assert.equal(await this.#mounted.size(await this.#ino()), this.#model.length);
  }

  async #ino(): Promise<Ino> {
    return (await this.#mounted.walk(this.#path)).ino;
  }

  #newName(): string {
    this.#names += 1;
    return `image${this.#names}`;
  }
}

/** The action in bytes of the file, not all of them whole pages. */
function scaled(action: Action, scale: number): Action {
  if (scale === 1) return action;
  const from = (position: number) => position * scale + (position % 3);
  if ('offset' in action) {
    return { ...action, offset: from(action.offset), length: action.length * scale };
  }
  return 'size' in action ? { ...action, size: from(action.size) } : action;
}

function resized(bytes: Buffer, size: number): Buffer<ArrayBuffer> {
  const result = Buffer.alloc(size);
  bytes.copy(result, 0, 0, Math.min(size, bytes.length));
  return result;
}

describe('a file through the cache', () => {
  it('is the file, whoever changes it, whatever is kept, and whenever the daemon ends', async () => {
    await fc.assert(
      fc.asyncProperty(setups, (setup) => Run.all(setup, 'memory')),
      { numRuns: 150, timeout: 20_000 },
    );
  });

  it('is the file through the disk cache, also after a power cut', async () => {
    await fc.assert(
      fc.asyncProperty(setups, (setup) => Run.all(setup, 'disk')),
      { numRuns: 60, timeout: 20_000 },
    );
  });
});
