/**
 * The model test of unsent writes: programs write, cut and read, write-back sends, the server fails
 * and restarts, another host changes the file, the disk fails, daemons end, are killed, and lose
 * their power, in any order of what the server and the disk do, against plain Buffers.
 *
 * What must hold: a read sees each byte as it was at some time while it was under way (C2, C4, C10,
 * C11); a kill loses nothing that was acknowledged, a power loss nothing that was synced, or sent
 * (C3); when all is quiet the server has what programs see, durably (C5).
 */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import fc from 'fast-check';
import type { HandleId } from '../../src/base/brand.ts';
import type { Session, WriteMode } from '../../src/cache/cache-parts.ts';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import type { Work } from './memory-gated-io.ts';
import { MemorySending, withBytes } from './memory-sending.ts';
import { MemorySource, settled } from './memory-source.ts';
import { World, type WorldOptions } from './memory-world.ts';

const { EIO, ENOSPC } = constants.errno;
const maxBytes = 4 * BLOCK_BYTES;

interface PendingWrite {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly bytes: Buffer;
}

interface Options {
  readonly session: Session;
  readonly write: WriteMode;
}

export class UnsentModel {
  world: World;
  sending: MemorySending;
  /** What a power loss may leave: each byte as in one of these. */
  history: Buffer[];
  readonly writes = new Set<PendingWrite>();
  /** Those that failed: each byte is old or new. They are written again in the end. */
  readonly doubtful = new Set<PendingWrite>();
  resizing: { readonly size: number; readonly before: Buffer } | undefined;
  readonly work = new Set<Promise<unknown>>();
  boots = 0;
  /** Those of a daemon that was killed are not waited for. */
  daemon = 0;
  readonly options: Options;

  private constructor(world: World, sending: MemorySending, options: Options) {
    this.world = world;
    this.sending = sending;
    this.options = options;
    this.history = [Buffer.from(world.file)];
    world.gate();
  }

  static async start(bytes: Buffer, options: Options): Promise<UnsentModel> {
    const source = new MemorySource(bytes);
    const sending = new MemorySending(source);
    source.sending = sending;
    const bootId = '0'.repeat(32);
    const world = await World.open(source, { ...options, bootId, local: Buffer.from(bytes) });
    return new UnsentModel(world, sending, options);
  }

  get source(): MemorySource {
    return this.world.source;
  }

  get isWriting(): boolean {
    return this.writes.size > 0 || this.doubtful.size > 0;
  }

  doing(work: Promise<unknown>): void {
    const noted = work.finally(() => this.work.delete(noted));
    this.work.add(noted);
  }

  /** The file is this now, for programs. */
  seen(): void {
    this.history.push(Buffer.from(this.world.file));
  }

  async write(start: number, bytes: Buffer): Promise<void> {
    const { world, daemon } = this;
    const pending = { start, end: start + bytes.length, bytes };
    this.writes.add(pending);
    this.history.push(withBytes(world.file, start, bytes));
    let outcome = await world.write(start, bytes);
    if (outcome === 'through') outcome = await this.through(pending);
    if (this.daemon !== daemon) return;
    this.writes.delete(pending);
    if (outcome === 'failed') this.doubtful.add(pending);
    this.seen();
  }

  /** As the file system sends a write that the cache does not take. */
  async through({ start, bytes }: PendingWrite): Promise<'kept'> {
    const { world, sending, daemon } = this;
    const change = await world.image.beginWrite(start, bytes.length);
    if (this.daemon !== daemon) return 'kept';
    sending.through(start, bytes);
    world.local = withBytes(world.file, start, bytes);
    world.changed();
    await change.done(bytes);
    return 'kept';
  }

  async resize(size: number): Promise<void> {
    const { world, source, sending, daemon } = this;
    this.resizing = { size, before: Buffer.from(world.file) };
    source.unknown = true;
    const change = await world.image.beginResize(size);
    if (this.daemon !== daemon) return;
    sending.resize(size);
    source.cutTo = size;
    world.local = resized(world.file, size);
    world.changed();
    this.seen();
    await change.done();
    source.cutTo = Number.POSITIVE_INFINITY;
    if (this.daemon !== daemon) return;
    source.unknown = false;
    this.resizing = undefined;
  }

  /** What was acknowledged before the call is safe when `safe` says so. */
  async safeAfter(safe: () => Promise<boolean>): Promise<void> {
    const from = this.history.length - 1;
    const before = Buffer.from(this.world.file);
    const { daemon } = this;
    const pending = [...this.writes].map((write) => withBytes(before, write.start, write.bytes));
    const isSafe = await safe();
    if (this.daemon !== daemon || !isSafe) return;
    this.history = [before, ...pending, ...this.history.slice(from)];
  }

  /** Everything that was begun has ended. */
  async rest(): Promise<void> {
    await this.world.until(this.ended());
    await this.world.run();
    await this.world.finishReplies();
    for (const write of [...this.doubtful]) {
      await this.world.until(this.write(write.start, write.bytes));
      if (!this.world.gated.failing.size) assert.ok(this.doubtful.size > 0);
      this.doubtful.delete(write);
    }
  }

  async ended(): Promise<void> {
    while (this.work.size > 0) await Promise.all(this.work);
  }

  heal(): void {
    this.world.gated.failing.clear();
    this.source.failures = 0;
    this.sending.failures = 0;
  }

  /** The daemon is no more; `states`: what may be left of the file. */
  async nextDaemon(
    states: readonly Buffer[],
    options: WorldOptions,
    isDurable = true,
  ): Promise<void> {
    this.daemon++;
    const source = this.source.copy();
    const sending = new MemorySending(source);
    sending.committed = this.sending.committed;
    sending.verifier = this.sending.verifier;
    source.sending = sending;
    this.sending = sending;
    this.writes.clear();
    this.doubtful.clear();
    this.work.clear();
    this.resizing = undefined;
    const bootId = this.boots.toString(16).padStart(32, '0');
    this.world = await World.open(source, { ...this.options, ...options, bootId });
    this.world.local = await this.found(states);
    // What a kill has left may not be durable.
    const before = isDurable ? [] : [...this.history, ...states];
    this.history = [...before, this.world.file];
    this.world.gate();
  }

  /** The file as the new daemon has it: what was there before, byte for byte. */
  async found(states: readonly Buffer[]): Promise<Buffer> {
    const { image, source } = this.world;
    const size = image.local?.unsent?.size ?? source.bytes.length;
    assert.ok(
      states.some((state) => state.length === size),
      `of a size that it never had: ${size}, not ${states.map(({ length }) => length)}`,
    );
    const found = Buffer.alloc(size);
    for (let at = 0; at < size; at += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, size - at);
      const bytes = await this.world.until(this.world.bytesOf(at, length, size));
      assert.equal(bytes.length, length, 'a short read');
      bytes.copy(found, at);
    }
    for (let i = 0; i < size; i++) {
      const isKnown = states.some((state) => (state[i] ?? 0) === found[i]);
      assert.ok(isKnown, `lost or foreign: byte ${found[i]} at ${i} (page ${i / PAGE_BYTES})`);
    }
    return found;
  }
}

/** The real system is in the model itself. */
class Step implements fc.AsyncCommand<UnsentModel, UnsentModel> {
  readonly #name: string;
  readonly #allowed: (model: UnsentModel) => boolean;
  readonly #run: (model: UnsentModel) => Promise<void>;

  constructor(
    name: string,
    run: (model: UnsentModel) => Promise<void>,
    allowed: (model: UnsentModel) => boolean = () => true,
  ) {
    this.#name = name;
    this.#run = run;
    this.#allowed = allowed;
  }

  check(model: Readonly<UnsentModel>): boolean {
    return this.#allowed(model);
  }

  run(model: UnsentModel): Promise<void> {
    return this.#run(model);
  }

  toString(): string {
    return this.#name;
  }
}

const offset = fc.oneof(
  fc.nat(maxBytes),
  fc.nat(maxBytes / PAGE_BYTES).map((page) => page * PAGE_BYTES),
  fc
    .tuple(fc.nat(maxBytes / PAGE_BYTES), fc.integer({ min: -2, max: 2 }))
    .map(([page, by]) => Math.max(0, page * PAGE_BYTES + by)),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 * PAGE_BYTES }),
  fc.integer({ min: 1, max: 2 * BLOCK_BYTES }),
  fc.constantFrom(PAGE_BYTES, 4 * PAGE_BYTES, BLOCK_BYTES),
);
const size = fc.oneof(offset, fc.constantFrom(0, 1, PAGE_BYTES, BLOCK_BYTES + 1));
const index = fc.nat(1000);
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

function free(model: UnsentModel, start: number, end: number): boolean {
  if (model.resizing !== undefined || start >= end) return false;
  const others = [...model.writes, ...model.doubtful];
  return others.every((other) => other.end <= start || end <= other.start);
}

const commands = [
  fc.tuple(offset, length, fc.integer({ min: 1, max: 3 })).map(
    ([at, count, reader]) =>
      new Step(`read ${at}+${count} by ${reader}`, async ({ world }) => {
        void world.read(at, count, reader as HandleId);
        await settled();
      }),
  ),
  fc.tuple(fc.integer({ min: 1, max: 8 }), index).map(
    ([times, which]) =>
      new Step(`step ${times} (${which})`, async ({ world }) => {
        for (let i = 0; i < times; i++) await world.step(which + i);
      }),
  ),
  fc
    .tuple(offset, length, seed, fc.constantFrom('new', 'new', 'new', 'zeros', 'same'))
    .map(([at, count, of, what]) => {
      const end = Math.min(at + count, maxBytes + BLOCK_BYTES);
      return new Step(
        `write ${what} ${at}+${end - at} (${of})`,
        async (model) => {
          const bytes = what === 'new' ? pattern(end - at, of) : Buffer.alloc(end - at);
          if (what === 'same') model.world.file.subarray(at, end).copy(bytes);
          model.doing(model.write(at, bytes));
          await settled();
        },
        (model) => free(model, at, end),
      );
    }),
  size.map(
    (to) =>
      new Step(
        `resize ${to}`,
        async (model) => {
          model.doing(model.resize(to));
          await settled();
        },
        // A disk that fails to cut, and a kill before the rest is sent, brings back what was cut off.
        (model) =>
          !model.isWriting && model.resizing === undefined && model.world.gated.failing.size === 0,
      ),
  ),
  fc.constant(
    new Step('write back', async (model) => {
      const { local } = model.world.image;
      if (local === undefined) return;
      model.doing(model.safeAfter(async () => (await local.writeBack()).ok));
      await settled();
    }),
  ),
  fc.constant(
    new Step('sync', async (model) => {
      const { local } = model.world.image;
      if (local?.unsent === undefined) return;
      model.doing(model.safeAfter(async () => (await local.sync()).ok));
      await settled();
    }),
  ),
  fc.constant(
    new Step('the server restarts', async ({ sending }) => {
      sending.restart();
      await settled();
    }),
  ),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean()).map(
    ([times, late]) =>
      new Step(`${times} WRITEs fail${late ? ', though they are done' : ''}`, async (model) => {
        model.sending.failures = times;
        model.sending.failsLate = late;
      }),
  ),
  fc.constantFrom('sent' as const, 'answered' as const).map(
    (when) =>
      new Step(`WRITEs are done when they are ${when}`, async ({ sending, source }) => {
        sending.appliedAt = when;
        source.snapshotAt = when;
      }),
  ),
  fc.tuple(index, seed).map(
    ([which, of]) =>
      new Step(
        `another changes a block (${which}, ${of})`,
        async (model) => {
          const { world, source, sending } = model;
          const block = which % Math.ceil(Math.max(source.bytes.length, 1) / BLOCK_BYTES);
          const start = block * BLOCK_BYTES;
          const { content } = world.image;
          const count = Math.min(
            BLOCK_BYTES,
            source.bytes.length - start,
            world.file.length - start,
          );
          if (count <= 0 || (content?.map.countDirty(...pagesOfBlock(block)) ?? 0) > 0) return;
          const bytes = pattern(count, of);
          sending.through(start, bytes);
          world.local = withBytes(world.file, start, bytes);
          world.changed();
          model.seen();
          model.doing(world.image.replace(source.attributesNow()));
          await settled();
        },
        (model) =>
          model.options.session === 'shared' && !model.isWriting && model.resizing === undefined,
      ),
  ),
  fc.constant(
    new Step('evict', async ({ world }) => {
      const { content } = world.image;
      for (let extent = 0; extent < (content?.uses.count ?? 0); extent++) {
        void content?.evictExtent(extent);
      }
      await settled();
    }),
  ),
  fc.constant(
    new Step('verify', async ({ world }) => {
      const { content } = world.image;
      void content?.verification.checkAgain({ start: 0, end: content.map.pageCount });
      await settled();
    }),
  ),
  index.map(
    (which) =>
      new Step(`the kernel has read ${which}`, async ({ world }) => {
        await world.finishReply(which);
        await settled();
      }),
  ),
  fc
    .tuple(
      fc.constantFrom<Work>('store', 'overwrite', 'write', 'sums', 'punch', 'truncate', 'sync'),
      fc.constantFrom(EIO, ENOSPC),
      fc.integer({ min: 1, max: 3 }),
    )
    .map(
      ([work, errno, times]) =>
        new Step(
          `${work} fails ${times} times with ${errno}`,
          async ({ world }) => {
            world.gated.failing.set(work, { errno, times });
          },
          (model) => model.resizing === undefined,
        ),
    ),
  fc.integer({ min: 1, max: 3 }).map(
    (times) =>
      new Step(`the server's READs fail ${times} times`, async ({ source }) => {
        source.failures = times;
      }),
  ),
  fc.constantFrom(100, 1_000, 10_000, 70_000).map(
    (ms) =>
      new Step(`${ms} ms pass`, async ({ world }) => {
        world.clock.advance(ms);
        await settled();
      }),
  ),
  fc.constant(
    new Step('close and open', async (model) => {
      model.heal();
      await model.rest();
      model.world.closeImage();
      await model.world.openImage();
    }),
  ),
  fc.constant(
    new Step('a new daemon', async (model) => {
      model.heal();
      await model.rest();
      const { world } = model;
      await world.close();
      assert.equal(model.source.heldBytes, 0, 'memory of answers is held');
      await model.nextDaemon([world.file], { disk: world.disk.afterKill() });
    }),
  ),
  fc.constant(
    new Step('killed', async (model) => {
      const { disk } = model.world;
      const states = possible(model, [model.world.file]);
      await model.nextDaemon(states, { disk: disk.afterKill() }, false);
    }),
  ),
  seed.map(
    (of) =>
      new Step(`the power fails (${of})`, async (model) => {
        const { disk } = model.world;
        model.boots++;
        const left = disk.afterPowerCut(chances(of));
        // What nobody was promised, and that the server has, stays there.
        model.sending.committed = Buffer.from(model.source.bytes);
        // What was not synced may be lost here, and a part of it be at the server.
        const states = [...model.history, model.world.file, model.source.bytes];
        await model.nextDaemon(possible(model, states), { disk: left });
      }),
  ),
];

/** With what was under way. */
function possible(model: UnsentModel, states: readonly Buffer[]): Buffer[] {
  const all = [...states];
  if (model.resizing !== undefined) {
    // Done at the server, or not, or of the old size again, since nobody was told.
    const { size: to, before } = model.resizing;
    all.push(before);
    for (const state of states) {
      const cut = resized(state.subarray(0, to), to);
      all.push(cut, resized(cut, before.length));
    }
  }
  for (const { start, bytes } of [...model.writes, ...model.doubtful]) {
    for (const state of [...all]) all.push(withBytes(state, start, bytes));
    if (all.length > 64) break;
  }
  return all;
}

/** As a failure tells them: what is run again is only that. */
export interface Replay {
  readonly seed: number;
  readonly path: string;
  readonly replayPath: string;
}

/** Runs the model: `runs` sequences of at most `steps` commands. */
export async function runUnsentModel(runs: number, steps: number, replay?: Replay): Promise<void> {
  const options = fc.record({
    session: fc.constantFrom('shared' as const, 'exclusive' as const),
    write: fc.constantFrom('back' as const, 'back' as const, 'deferred' as const),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(size, seed),
      options,
      fc.commands<UnsentModel, UnsentModel, false>(commands, {
        maxCommands: steps,
        size: 'max',
        ...(replay === undefined ? {} : { replayPath: replay.replayPath }),
      }),
      async ([bytes, of], given, sequence) => {
        const model = await UnsentModel.start(pattern(bytes, of), given);
        await fc.asyncModelRun(() => ({ model, real: model }), sequence);
        await finish(model);
      },
    ),
    {
      numRuns: runs,
      includeErrorInReport: true,
      ...(replay === undefined ? {} : { seed: replay.seed, path: replay.path, endOnFailure: true }),
    },
  );
}

/** Whatever has happened: in the end the server has all of it, durably, and nothing hangs. */
async function finish(model: UnsentModel): Promise<void> {
  model.heal();
  await model.rest();
  const { world, source } = model;
  for (let at = 0; at < world.file.length; at += BLOCK_BYTES) await world.readNow(at, BLOCK_BYTES);
  // A disk that has failed is tried again in a while.
  await world.run();
  world.clock.advance(120_000);
  await world.run();
  // Whoever rests as long as its work took has rested then.
  world.clock.advance(240_000);
  await world.writeBackNow();
  await world.run();
  assert.equal(world.image.local?.unsent, undefined, 'something is unsent still');
  assert.equal(source.bytes.length, world.file.length, 'the size at the server');
  assert.equal(source.bytes.compare(world.file), 0, 'the server has other bytes');
  for (let at = 0; at < world.file.length; at += BLOCK_BYTES) await world.readNow(at, BLOCK_BYTES);
  await world.close();
  assert.equal(source.heldBytes, 0, 'memory of answers is held');
  assert.equal(world.disk.openFiles, 0, 'files are open');
}

function pagesOfBlock(block: number): [start: number, end: number] {
  return [block * PAGES_PER_BLOCK, (block + 1) * PAGES_PER_BLOCK];
}

function resized(bytes: Buffer, to: number): Buffer {
  const other = Buffer.alloc(to);
  bytes.copy(other);
  return other;
}

/** Bytes of which every page is another, and some are zeros. */
function pattern(count: number, of: number): Buffer {
  const bytes = Buffer.alloc(count);
  let state = of;
  for (let at = 0; at < count; at += PAGE_BYTES) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    if (state % 4 === 0) continue;
    bytes.fill(((state >>> 8) % 255) + 1, at, Math.min(at + PAGE_BYTES, count));
    bytes.writeUInt8((at / PAGE_BYTES) % 256, at);
  }
  return bytes;
}

function chances(of: number): () => number {
  let state = of;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
