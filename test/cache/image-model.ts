/**
 * The model test of images: random reads, local changes, changes of others, eviction, new starts,
 * crashes and failures, in any order of what the server and the disk do, against a plain Buffer.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import fc from 'fast-check';
import type { HandleId } from '../../src/base/brand.ts';
import { BLOCK_BYTES, PAGE_BYTES } from '../../src/cache/file-io.ts';
import type { PendingChange } from '../../src/vfs/ports.ts';
import type { Work } from './memory-gated-io.ts';
import { MemorySource, settled } from './memory-source.ts';
import { nextBoot, thisBoot, World, type WorldOptions } from './memory-world.ts';

const { EIO, ENOSPC, EROFS } = constants.errno;
const maxBytes = 5 * BLOCK_BYTES;

/** A local change, from before it is sent. */
interface Change {
  readonly start: number;
  /** Exclusive; of a change of the size it is Infinity. */
  readonly end: number;
  readonly bytes: Buffer | undefined;
  readonly size: number;
  state: 'beginning' | 'begun' | 'applied';
  pending: PendingChange | undefined;
}

export class Model {
  world: World;
  changes: Change[] = [];
  /** Ended, as far as the file system is concerned; the cache may still be at it. */
  readonly ending = new Set<Promise<void>>();
  held: { fd: number; bytes: Buffer; release(): void } | undefined;
  boots = 0;

  constructor(world: World) {
    this.world = world;
    world.gate();
  }

  static async start(bytes: Buffer): Promise<Model> {
    return new Model(await World.open(new MemorySource(bytes)));
  }

  get source(): MemorySource {
    return this.world.source;
  }

  async rest(): Promise<void> {
    for (const change of this.changes.splice(0)) await this.end(change, 'done');
    await this.world.run();
    await this.world.until(Promise.all(this.ending));
    await this.world.finishReplies();
  }

  async end(change: Change, how: 'done' | 'failedApplied' | 'failed'): Promise<void> {
    const { world } = this;
    while (change.pending === undefined) await world.step();
    if (how !== 'failed') this.apply(change);
    const { pending } = change;
    this.changes = this.changes.filter((other) => other !== change);
    const ended = how === 'done' ? pending.done(change.bytes) : pending.failed();
    const noted = ended.then(() => {
      this.ending.delete(noted);
      this.source.unknown = this.changes.length + this.ending.size > 0;
    });
    this.ending.add(noted);
    await settled();
  }

  apply(change: Change): void {
    if (change.state === 'applied') return;
    change.state = 'applied';
    const { source } = this;
    if (change.bytes === undefined) source.bytes = resized(source.bytes, change.size);
    else {
      const bytes = resized(source.bytes, Math.max(source.bytes.length, change.end));
      change.bytes.copy(bytes, change.start);
      source.bytes = bytes;
    }
    this.world.changed();
  }

  /** The daemon is no more: what it had under way was done, or not. What the next one finds. */
  died(applied: boolean): MemorySource {
    for (const change of this.changes) {
      // What has not begun yet was not sent.
      if (applied && change.state === 'begun') this.apply(change);
    }
    this.changes = [];
    this.ending.clear();
    this.held = undefined;
    return this.source.copy();
  }

  async nextDaemon(source: MemorySource, options: WorldOptions): Promise<void> {
    this.world = await World.open(source, options);
    this.world.gate();
  }
}

/** The real system is in the model itself: the plain file is `source.bytes`. */
type Command = fc.AsyncCommand<Model, Model>;

class Step implements Command {
  readonly #name: string;
  readonly #allowed: (model: Model) => boolean;
  readonly #run: (model: Model) => Promise<void>;

  constructor(
    name: string,
    run: (model: Model) => Promise<void>,
    allowed: (model: Model) => boolean = () => true,
  ) {
    this.#name = name;
    this.#run = run;
    this.#allowed = allowed;
  }

  check(model: Readonly<Model>): boolean {
    return this.#allowed(model);
  }

  run(model: Model): Promise<void> {
    return this.#run(model);
  }

  toString(): string {
    return this.#name;
  }
}

/** Offsets near the edges of pages and blocks, where things go wrong. */
const offset = fc.oneof(
  fc.nat(maxBytes),
  fc.nat(maxBytes / PAGE_BYTES).map((page) => page * PAGE_BYTES),
  fc.nat(5).map((block) => block * BLOCK_BYTES),
  fc
    .tuple(fc.nat(maxBytes / PAGE_BYTES), fc.integer({ min: -2, max: 2 }))
    .map(([page, by]) => Math.max(0, page * PAGE_BYTES + by)),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 * PAGE_BYTES }),
  fc.integer({ min: 1, max: 3 * BLOCK_BYTES }),
  fc.constantFrom(PAGE_BYTES, 4 * PAGE_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES),
);
const size = fc.oneof(offset, fc.constantFrom(0, 1, PAGE_BYTES, BLOCK_BYTES + 1));
const index = fc.nat(1000);
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

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
  fc.tuple(offset, length, seed).map(([at, count, of]) => {
    const end = Math.min(at + count, maxBytes + BLOCK_BYTES);
    return new Step(
      `write ${at}+${end - at} (${of})`,
      async (model) => {
        await begin(model, { start: at, end, bytes: pattern(end - at, of), size: 0 });
      },
      ({ changes }) => at < end && changes.every((other) => other.end <= at || end <= other.start),
    );
  }),
  size.map(
    (to) =>
      new Step(
        `resize ${to}`,
        (model) =>
          begin(model, { start: 0, end: Number.POSITIVE_INFINITY, bytes: undefined, size: to }),
        ({ changes }) => changes.length === 0,
      ),
  ),
  index.map(
    (which) =>
      new Step(
        `apply ${which}`,
        async (model) => {
          const change = model.changes[which % model.changes.length];
          if (change?.state === 'begun') model.apply(change);
          await settled();
        },
        ({ changes }) => changes.length > 0,
      ),
  ),
  fc.tuple(index, fc.constantFrom('done' as const, 'done', 'done', 'failed', 'failedApplied')).map(
    ([which, how]) =>
      new Step(
        `end ${which} ${how}`,
        async (model) => {
          const change = model.changes[which % model.changes.length];
          if (change !== undefined && change.state !== 'beginning') {
            await model.end(change, change.state === 'applied' && how === 'failed' ? 'done' : how);
          }
        },
        ({ changes }) => changes.length > 0,
      ),
  ),
  fc.tuple(size, seed).map(
    ([to, of]) =>
      new Step(`another changes it to ${to} (${of})`, async (model) => {
        const { source, world } = model;
        source.bytes = pattern(to, of);
        source.version++;
        world.changed();
        model.ending.add(world.image.replace(source.attributesNow()));
        await settled();
      }),
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
    new Step('settle', async (model) => {
      model.ending.add(model.world.image.settle());
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
  index.map(
    (which) =>
      new Step(`the kernel cannot read ${which}`, async ({ world }) => {
        void world.finishReply(which, EIO);
        await settled();
      }),
  ),
  fc
    .tuple(
      fc.constantFrom<Work>('store', 'write', 'read', 'sums', 'punch', 'truncate', 'sync'),
      fc.constantFrom(EIO, ENOSPC, EROFS),
      fc.integer({ min: 1, max: 4 }),
    )
    .map(
      ([work, errno, times]) =>
        new Step(`${work} fails ${times} times with ${errno}`, async ({ world }) => {
          world.gated.failing.set(work, { errno, times });
        }),
    ),
  fc.integer({ min: 1, max: 3 }).map(
    (times) =>
      new Step(`the server fails ${times} times`, async ({ source }) => {
        source.failures = times;
      }),
  ),
  fc.constantFrom('sent' as const, 'answered' as const).map(
    (when) =>
      new Step(`answers are of when they are ${when}`, async ({ source }) => {
        source.snapshotAt = when;
      }),
  ),
  fc.constantFrom(100, 1_000, 10_000, 70_000).map(
    (ms) =>
      new Step(`${ms} ms pass`, async ({ world }) => {
        world.clock.advance(ms);
        await settled();
      }),
  ),
  fc.integer({ min: 1, max: 3 }).map(
    (reader) =>
      new Step(`reader ${reader} closes`, async ({ world }) => {
        world.image.readerGone(reader as HandleId);
      }),
  ),
  fc.constant(
    new Step('hold', async (model) => {
      const { world } = model;
      if (model.held === undefined) {
        const held = world.image.hold();
        if ('why' in held) return;
        const bytes = await world.fileBytes(held.fd, 0, model.source.bytes.length);
        assert.ok(bytes.equals(model.source.bytes), 'a held file is not the image');
        model.held = { fd: held.fd, bytes, release: held.release };
      } else {
        model.held.release();
        model.held = undefined;
      }
      await settled();
    }),
  ),
  fc.constant(
    new Step('close and open', async (model) => {
      const { world } = model;
      await model.rest();
      model.held?.release();
      model.held = undefined;
      world.closeImage();
      await world.openImage();
    }),
  ),
  fc
    .record({ damage: fc.option(fc.tuple(fc.constantFrom('data', 'map', 'info'), index, index)) })
    .map(
      ({ damage }) =>
        new Step(`a new daemon${damage === null ? '' : `, ${damage} damaged`}`, async (model) => {
          await model.rest();
          await model.world.close();
          assert.equal(model.source.heldBytes, 0, 'memory of answers is held');
          if (damage !== null) flip(model.world, ...damage);
          const { disk } = model.world;
          await model.nextDaemon(model.died(false), { disk: disk.afterKill() });
        }),
    ),
  fc.boolean().map(
    (applied) =>
      new Step(`killed, what was under way ${applied ? 'is' : 'is not'} done`, async (model) => {
        const { disk } = model.world;
        await model.nextDaemon(model.died(applied), { disk: disk.afterKill() });
      }),
  ),
  fc.tuple(fc.boolean(), seed).map(
    ([applied, of]) =>
      new Step(`the power fails (${of}), ${applied ? 'done' : 'not done'}`, async (model) => {
        const { disk } = model.world;
        model.boots++;
        const bootId = model.boots % 2 === 0 ? thisBoot : nextBoot;
        const left = disk.afterPowerCut(chances(of));
        await model.nextDaemon(model.died(applied), { disk: left, bootId });
      }),
  ),
];

/** Runs the model: `runs` sequences of at most `steps` commands. */
export async function runModel(runs: number, steps: number, from?: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(size, seed),
      fc.commands<Model, Model, false>(commands, { maxCommands: steps, size: 'max' }),
      async ([bytes, of], sequence) => {
        const model = await Model.start(pattern(bytes, of));
        await fc.asyncModelRun(() => ({ model, real: model }), sequence);
        await finish(model);
      },
    ),
    { numRuns: runs, includeErrorInReport: true, ...(from === undefined ? {} : { seed: from }) },
  );
}

/** Whatever has happened: in the end all is there, nothing hangs, and no memory is kept. */
async function finish(model: Model): Promise<void> {
  model.world.gated.failing.clear();
  model.source.failures = 0;
  await model.rest();
  const { world, source } = model;
  for (let at = 0; at < source.bytes.length; at += BLOCK_BYTES)
    await world.readNow(at, BLOCK_BYTES);
  if (model.held !== undefined) {
    const bytes = await world.fileBytes(model.held.fd, 0, model.held.bytes.length);
    assert.ok(bytes.equals(model.held.bytes), 'a held file has changed');
    model.held.release();
  }
  await world.close();
  assert.equal(source.heldBytes, 0, 'memory of answers is held');
  assert.equal(world.disk.openFiles, 0, 'files are open');
}

async function begin(
  model: Model,
  change: Pick<Change, 'start' | 'end' | 'bytes' | 'size'>,
): Promise<void> {
  const { image } = model.world;
  const begun: Change = { ...change, state: 'beginning', pending: undefined };
  model.changes.push(begun);
  model.source.unknown = true;
  const { start, end, bytes, size: to } = change;
  const pending =
    bytes === undefined ? image.beginResize(to) : image.beginWrite(start, end - start);
  void pending.then((given) => {
    begun.pending = given;
    if (begun.state === 'beginning') begun.state = 'begun';
  });
  await settled();
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

function resized(bytes: Buffer, to: number): Buffer {
  const other = Buffer.alloc(to);
  bytes.copy(other);
  return other;
}

function chances(of: number): () => number {
  let state = of;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** One bit of one of the image's files. */
function flip(world: World, name: string, at: number, bit: number): void {
  const path = world.imagePath(name);
  if (!world.disk.has(path)) return;
  const { bytes } = world.disk.fileAt(path);
  if (bytes.length === 0) return;
  // Spread over the file; of a map the header and the first records matter.
  const place = name === 'map' ? [at % 96, 4096 + (at % 48)][at % 2] : (at * 7919) % bytes.length;
  const byte = (place ?? 0) % bytes.length;
  bytes.writeUInt8((bytes[byte] ?? 0) ^ (1 << (bit % 8)), byte);
}
