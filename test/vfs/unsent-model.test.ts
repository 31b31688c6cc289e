/**
 * Random writes, truncations, times, syncs, closes, remounts and server restarts against a plain
 * array of bytes, where the local disk acknowledges writes and sends them now and then, with
 * answers that come late and in any order.
 *
 * What must hold: a read gives what was acknowledged last; size and mtime are ours at once, whoever
 * asks and whenever the server answers; where close and fsync mean the server, it has it then; and
 * at the end the server's durable bytes, size and mtime are the model's.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import type { ImageCache, ReadReply } from '../../src/vfs/ports.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { PaperCache } from './kept-caches.ts';
import { LocalImages } from './local-images.ts';
import { MemoryServer } from './memory-server.ts';
import { alice, by, Mounted, O_RDWR, settled, value } from './mounted.ts';

const spaceBytes = 96;
const O_SYNC = 0o4010000;

type Action =
  | { kind: 'write' | 'writeSynced'; offset: number; length: number; fill: number }
  | { kind: 'writes'; offset: number; length: number; parts: number; fill: number }
  | { kind: 'truncate'; size: number }
  | { kind: 'truncateWhileSending'; size: number }
  | { kind: 'restartDuring'; calls: number }
  | { kind: 'read'; offset: number; length: number }
  | {
      kind:
        | 'stat'
        | 'sync'
        | 'restart'
        | 'times'
        | 'timesWhileSending'
        | 'mode'
        | 'touch'
        | 'reopen'
        | 'wait'
        | 'writeBack'
        | 'writeBackSoon'
        | 'refuse'
        | 'remount'
        | 'kill';
    };

const offset = fc.nat(spaceBytes - 1);
const length = fc.integer({ min: 1, max: 24 });
const fill = fc.integer({ min: 1, max: 255 });
const size = fc.nat(spaceBytes);
const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('write' as const), offset, length, fill }),
  },
  fc.record({
    kind: fc.constant('writes' as const),
    offset,
    length,
    parts: fc.integer({ min: 2, max: 5 }),
    fill,
  }),
  fc.record({ kind: fc.constant('writeSynced' as const), offset, length, fill }),
  fc.record({ kind: fc.constant('restartDuring' as const), calls: fc.nat(6) }),
  fc.record({ kind: fc.constant('truncate' as const), size }),
  fc.record({ kind: fc.constant('truncateWhileSending' as const), size }),
  fc.record({ kind: fc.constant('read' as const), offset, length }),
  fc.record({ kind: fc.constant('read' as const), offset, length: fc.constant(spaceBytes * 2) }),
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'stat' as const,
        'sync' as const,
        'restart' as const,
        'times' as const,
        'timesWhileSending' as const,
        'mode' as const,
        'touch' as const,
        'reopen' as const,
        'wait' as const,
        'writeBack' as const,
        'writeBackSoon' as const,
        'refuse' as const,
        'remount' as const,
        'kill' as const,
      ),
    }),
  },
);

interface Setup {
  readonly actions: Action[];
  readonly delays: number[];
  readonly omitWcc: boolean;
  readonly coarseClock: boolean;
  readonly session: 'shared' | 'exclusive';
  readonly fsync: 'local' | 'server';
}

const setups: fc.Arbitrary<Setup> = fc.record({
  actions: fc.array(actions, { maxLength: 30, size: 'max' }),
  delays: fc.array(fc.nat(4), { minLength: 1, maxLength: 20 }),
  omitWcc: fc.boolean(),
  coarseClock: fc.boolean(),
  session: fc.constantFrom('shared' as const, 'exclusive' as const),
  fsync: fc.constantFrom('local' as const, 'server' as const),
});

/** What the model needs of a cache. */
interface Cache {
  readonly cache: ImageCache;
  /** Bytes of the file for one of the model. */
  readonly scale: number;
  taken(reply: ReadReply): Promise<Buffer>;
  /** The local disk takes no writes, or takes them again. */
  refuse(): void;
  end(): Promise<void>;
  /** The daemon is killed; false: this cache cannot be. */
  kill(): boolean;
  next(): Promise<void>;
  /** Time goes by for it, from now on; the way to stop it. */
  run(): () => void;
}

class FakeCache implements Cache {
  readonly cache: LocalImages;
  readonly scale = 1;

  constructor({ session }: Setup, wait: () => Promise<void>) {
    this.cache = new LocalImages({ exclusive: session === 'exclusive', clock: new ManualClock() });
    this.cache.delay = wait;
  }

  async taken(reply: ReadReply): Promise<Buffer> {
    assert(reply.kind === 'bytes');
    const bytes = Buffer.concat(reply.bytes);
    reply.release();
    return bytes;
  }

  refuse(): void {
    this.cache.refuses = !this.cache.refuses;
  }

  async end(): Promise<void> {
    await this.cache.end();
    assert.equal(this.cache.openImages, 0);
  }

  kill(): boolean {
    return false;
  }

  async next(): Promise<void> {
    this.cache.next();
  }

  run(): () => void {
    return () => undefined;
  }
}

class DiskOfPaper implements Cache {
  readonly scale: number;
  readonly #paper: PaperCache;

  constructor({ session }: Setup, server: MemoryServer) {
    this.#paper = new PaperCache(server, () => 0, { session, write: 'back' });
    this.scale = this.#paper.scale;
  }

  get cache(): ImageCache {
    return this.#paper.cache;
  }

  taken(reply: ReadReply): Promise<Buffer> {
    return this.#paper.taken(reply);
  }

  refuse(): void {}

  end(): Promise<void> {
    return this.#paper.end();
  }

  kill(): boolean {
    this.#paper.die('kill');
    return true;
  }

  next(): Promise<void> {
    return this.#paper.next();
  }

  run(): () => void {
    // What could not be sent is tried again, and what is old is sent.
    const timer = setInterval(() => this.#paper.pass(1_000), 1);
    return () => clearInterval(timer);
  }
}

class Run {
  readonly #setup: Setup;
  readonly #server = new MemoryServer();
  readonly #images: Cache;
  #mounted: Mounted;
  #model: Buffer = Buffer.alloc(0);
  /** The mtime that was set last, unless something has moved it since. */
  #mtimeNs: bigint | undefined;
  #ino = 0 as Ino;
  #handle = 0 as HandleId;
  #syncedHandle = 0 as HandleId;
  #callsToRestart = -1;
  #wasRefused = false;
  #lostReads = 0;
  #times = 0n;

  static async all(setup: Setup, cache: 'fake' | 'disk'): Promise<void> {
    const run = new Run(setup, cache);
    await run.#images.next();
    run.#mounted = run.#mount();
    const stop = run.#images.run();
    try {
      await run.#all();
    } finally {
      stop();
    }
  }

  private constructor(setup: Setup, cache: 'fake' | 'disk') {
    this.#setup = setup;
    const { delays } = setup;
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
    this.#images =
      cache === 'fake' ? new FakeCache(setup, wait) : new DiskOfPaper(setup, this.#server);
    this.#mounted = new Mounted();
  }

  async #all(): Promise<void> {
    const { ino, handle } = await this.#mounted.create('/image');
    [this.#ino, this.#handle] = [ino, handle];
    await this.#openSynced();
    for (const action of this.#setup.actions) await this.#do(scaled(action, this.#images.scale));
    await this.#check();
    const shown = await this.#attributes();
    this.#mounted.fs.release(this.#handle);
    this.#mounted.fs.release(this.#syncedHandle);
    await this.#mounted.fs.close();
    assert.deepEqual(this.#server.stableBytesOf('/image'), this.#model, 'durable at the server');
    const { mtimeNs } = this.#server.attributesAt('/image');
    // What went through has the server's, which moves when it is sent again.
    const wanted = this.#mtimeNs ?? (this.#wasRefused ? mtimeNs : shown.mtimeNs);
    assert.equal(mtimeNs, wanted, 'the mtime is as it was shown');
    this.#checkEnd();
    await this.#images.end();
  }

  #mount(): Mounted {
    const { session, fsync } = this.#setup;
    const options = { session, fsync, write: 'back', copyBelowBytes: 12 } as const;
    return new Mounted(options, {}, this.#server, { cache: this.#images.cache });
  }

  #checkEnd(): void {
    assert.equal(this.#mounted.payloads, 0);
    assert.equal(this.#server.unreleasedReads, this.#lostReads);
    assert.equal(this.#mounted.fs.figures().heldBytes, 0);
    assert.equal(this.#mounted.fs.figures().openImages, 0);
  }

  async #openSynced(): Promise<void> {
    const synced = await this.#mounted.fs.open(by(alice), this.#ino, O_RDWR | O_SYNC);
    this.#syncedHandle = value(synced).handle;
  }

  async #do(action: Action): Promise<void> {
    const { fs } = this.#mounted;
    switch (action.kind) {
      case 'write':
        return this.#write(this.#handle, action.offset, Buffer.alloc(action.length, action.fill));
      case 'writeSynced': {
        const bytes = Buffer.alloc(action.length, action.fill);
        await this.#write(this.#syncedHandle, action.offset, bytes);
        if (!this.#meansServer('fsync')) return;
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
        return this.#check();
      }
      case 'truncateWhileSending':
      case 'truncate': {
        if (action.kind === 'truncateWhileSending') void fs.settleUnsent();
        const changes = { size: action.size, mtime: 'now' } as const;
        const set = await fs.setattr(by(alice), this.#ino, changes, this.#handle);
        this.#model = resized(this.#model, action.size);
        this.#mtimeNs = undefined;
        assert.equal(value(set).attributes.size, action.size);
        return this.#check();
      }
      case 'read': {
        const end = action.offset + action.length;
        const bytes = await this.#read(action.offset, action.length);
        assert.deepEqual(bytes, this.#model.subarray(action.offset, end), 'read your writes');
        return;
      }
      case 'stat':
        return this.#check();
      case 'sync':
        value(await this.#mounted.fsync(this.#handle));
        if (this.#meansServer('fsync')) this.#checkServer();
        return;
      case 'restart':
        this.#server.restart();
        return;
      case 'timesWhileSending':
      case 'times': {
        if (action.kind === 'timesWhileSending') void fs.settleUnsent();
        this.#times += 1n;
        const mtime = 1_234_567_890_000_000_000n + this.#times;
        const set = value(await fs.setattr(by(alice), this.#ino, { mtime }));
        this.#mtimeNs = mtime;
        assert.equal(set.attributes.mtimeNs, mtime);
        return this.#check();
      }
      case 'mode':
        value(await fs.setattr(by(alice), this.#ino, { mode: 0o600 }));
        return this.#check();
      case 'touch':
        value(await fs.setattr(by(alice), this.#ino, { mtime: 'now' }));
        this.#mtimeNs = undefined;
        return this.#check();
      case 'reopen': {
        const handle = await this.#mounted.open('/image', O_RDWR);
        value(await fs.flush(by(alice), this.#handle));
        if (this.#meansServer('close')) this.#checkServer();
        fs.release(this.#handle);
        this.#handle = handle;
        return;
      }
      case 'writeBack':
        value(await fs.settleUnsent());
        this.#checkServer();
        return this.#check();
      case 'writeBackSoon':
        void fs.settleUnsent();
        return;
      case 'refuse':
        this.#images.refuse();
        this.#wasRefused = true;
        return;
      case 'remount':
        fs.release(this.#handle);
        fs.release(this.#syncedHandle);
        await fs.close({ keepUnsent: true });
        await this.#images.end();
        this.#checkEnd();
        return this.#mountAgain();
      case 'kill': {
        if (!this.#images.kill()) return;
        // What was on its way to the server comes there, and nothing else.
        for (let turn = 0; turn < 20; turn++) await settled();
        this.#lostReads = this.#server.unreleasedReads;
        return this.#mountAgain();
      }
    }
  }

  async #mountAgain(): Promise<void> {
    await this.#images.next();
    this.#mounted = this.#mount();
    await this.#mounted.fs.recall();
    this.#ino = (await this.#mounted.walk('/image')).ino;
    await this.#check();
    this.#handle = await this.#mounted.open('/image', O_RDWR);
    await this.#openSynced();
    return this.#check();
  }

  async #read(at: number, count: number): Promise<Buffer> {
    const reply = value(await this.#mounted.fs.read(by(alice), this.#handle, at, count));
    return this.#images.taken(reply);
  }

  #meansServer(what: 'fsync' | 'close'): boolean {
    const { session, fsync } = this.#setup;
    return session === 'shared' || (what === 'fsync' && fsync === 'server');
  }

  #checkServer(): void {
    assert.deepEqual(this.#server.stableBytesOf('/image'), this.#model);
  }

  async #write(handle: HandleId, at: number, bytes: Buffer): Promise<void> {
    // The writes of one action do not overlap: in the model they have no order.
    this.#model = resized(this.#model, Math.max(this.#model.length, at + bytes.length));
    bytes.copy(this.#model, at);
    this.#mtimeNs = undefined;
    assert.equal(value(await this.#mounted.write(handle, at, bytes)), bytes.length);
    const { size: shown } = await this.#attributes();
    assert(shown >= at + bytes.length, `size ${shown} after a write to ${at}`);
  }

  /** What a reader may see while the file grows: never less than there was. */
  async #looks(leastBytes: number): Promise<void> {
    const bytes = await this.#read(0, leastBytes);
    assert.equal(bytes.length, leastBytes);
    assert((await this.#attributes()).size >= leastBytes);
  }

  async #attributes() {
    return value(await this.#mounted.fs.getattr(by(alice), this.#ino)).attributes;
  }

  async #check(): Promise<void> {
    const shown = await this.#attributes();
    assert.equal(shown.size, this.#model.length);
    assert.equal((await this.#mounted.walk('/image')).attributes.size, this.#model.length);
    if (this.#mtimeNs !== undefined) assert.equal(shown.mtimeNs, this.#mtimeNs);
    if (shown.size > 0) assert(shown.used > 0, 'a file with bytes has blocks');
    const isUnsent = this.#mounted.fs.unsent().length > 0;
    if (isUnsent) assert(shown.ctimeNs >= shown.mtimeNs, 'the ctime is as new');
  }
}

function resized(bytes: Buffer, size: number): Buffer {
  const result = Buffer.alloc(size);
  bytes.copy(result, 0, 0, Math.min(size, bytes.length));
  return result;
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

describe('unsent writes', () => {
  it('are the file for programs, and in the end for the server', async () => {
    await fc.assert(
      fc.asyncProperty(setups, (setup) => Run.all(setup, 'fake')),
      { numRuns: 150, timeout: 30_000 },
    );
  });

  it('are so in the disk cache, whenever the daemon is killed', async () => {
    await fc.assert(
      fc.asyncProperty(setups, (setup) => Run.all(setup, 'disk')),
      { numRuns: 40, timeout: 30_000 },
    );
  });
});
