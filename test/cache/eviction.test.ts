import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ClosedImage,
  type Evictable,
  Eviction,
  type WaterMarks,
} from '../../src/cache/eviction.ts';
import { EXTENT_BYTES, ExtentUses } from '../../src/cache/extent-uses.ts';
import { ManualClock } from '../base/manual-clock.ts';

/** A cache of whole extents, so that bytes are easily counted. */
class Cache implements WaterMarks {
  readonly clock = new ManualClock();
  readonly images: TestImage[] = [];
  closed: ClosedImage[] = [];
  /** What went, in order. */
  readonly gone: string[] = [];
  readonly said: string[] = [];
  limitExtents: number;
  turns = 0;
  /** Looks at extents in this turn, and in the longest one. */
  looks = 0;
  mostLooks = 0;
  searches = 0;
  onTurn: () => void = () => undefined;
  readonly eviction: Eviction;

  constructor(limitExtents: number) {
    this.limitExtents = limitExtents;
    this.eviction = new Eviction({
      marks: this,
      clock: this.clock,
      images: {
        open: () => {
          this.searches++;
          return this.images;
        },
        closed: () => Promise.resolve(this.closed),
      },
      events: {
        evicted: (run) => this.said.push(`evicted ${run.extents} and ${run.images}`),
        nothingToEvict: (bytes) => this.said.push(`stuck with ${bytes / EXTENT_BYTES}`),
      },
      nextTurn: () => {
        this.turns++;
        this.looks = 0;
        this.onTurn();
        return Promise.resolve();
      },
    });
  }

  /** Extents in open images. */
  present(): number {
    return this.images.reduce((sum, image) => sum + image.present.size, 0);
  }

  get usedBytes(): number {
    return (this.present() + this.closed.length) * EXTENT_BYTES;
  }

  overHighBytes(): number {
    return Math.max(0, this.usedBytes - this.limitExtents * EXTENT_BYTES);
  }

  /** One extent lower. */
  overLowBytes(): number {
    return Math.max(0, this.usedBytes - (this.limitExtents - 1) * EXTENT_BYTES);
  }

  measure(): Promise<void> {
    return Promise.resolve();
  }

  removed(name: string): void {
    this.closed = this.closed.filter((image) => image.name !== name);
  }

  image(name: string, extents: number, present: Iterable<number> = range(extents)): TestImage {
    const image = new TestImage(this, name, extents, present);
    this.images.push(image);
    return image;
  }

  addClosed(name: string, lastUsedMs: number, pinned = false, frees = true): void {
    const remove = () => {
      this.gone.push(`try ${name}`);
      return Promise.resolve(frees ? EXTENT_BYTES : 0);
    };
    this.closed.push({ name, lastUsedMs, pinned, remove });
  }

  async run(): Promise<void> {
    this.eviction.poke();
    await this.eviction.idle();
  }
}

class TestImage implements Evictable {
  readonly name: string;
  pinned = false;
  held = false;
  readonly uses: ExtentUses;
  readonly present: Set<number>;
  /** Not clean: cannot go now. */
  readonly dirty = new Set<number>();
  readonly #cache: Cache;

  constructor(cache: Cache, name: string, extents: number, present: Iterable<number>) {
    this.#cache = cache;
    this.name = name;
    this.uses = new ExtentUses(cache.clock, 0, extents * EXTENT_BYTES);
    this.present = new Set(present);
  }

  hasPages(extent: number): boolean {
    this.#cache.looks++;
    this.#cache.mostLooks = Math.max(this.#cache.mostLooks, this.#cache.looks);
    return this.present.has(extent);
  }

  evictExtent(extent: number): Promise<number> {
    if (this.dirty.has(extent)) return Promise.resolve(0);
    assert.ok(this.present.delete(extent), 'evicted what is not present');
    this.#cache.gone.push(`${this.name}:${extent}`);
    return Promise.resolve(EXTENT_BYTES);
  }

  use(extent: number): void {
    this.#cache.clock.advance(100);
    this.uses.touch(extent * EXTENT_BYTES, 1);
  }
}

function* range(end: number): Iterable<number> {
  for (let i = 0; i < end; i++) yield i;
}

test('below the high mark nothing goes; above it, all down to the low mark does', async () => {
  const cache = new Cache(4);
  cache.image('a', 4);
  await cache.run();
  assert.deepEqual([cache.gone, cache.searches], [[], 0]);
  cache.image('b', 1);
  await cache.run();
  assert.equal(cache.usedBytes, 3 * EXTENT_BYTES);
  assert.deepEqual(cache.said, ['evicted 2 and 0']);
  assert.deepEqual(cache.eviction.totals, {
    extents: 2,
    images: 0,
    freedBytes: 2 * EXTENT_BYTES,
  });
});

test('closed images go first, the longest unused first, not pinned ones', async () => {
  const cache = new Cache(2);
  cache.image('open', 1);
  cache.addClosed('young', 30);
  cache.addClosed('pinned', 1, true);
  cache.addClosed('stubborn', 5, false, false);
  cache.addClosed('old', 10);
  await cache.run();
  assert.deepEqual(cache.gone, ['try stubborn', 'try old', 'try young', 'open:0']);
  assert.deepEqual(cache.said, ['evicted 1 and 2', 'stuck with 1']);
});

test('extents that were unused for longest go first, over all open images', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(2), fc.nat(200)), { maxLength: 300 }),
      fc.integer({ min: 1, max: 400 }),
      async (uses, limit) => {
        const cache = new Cache(limit);
        const images = ['a', 'b', 'c'].map((name) => cache.image(name, 201));
        const lastUse = new Map<string, number>();
        for (const [at, [image, extent]] of uses.entries()) {
          images[image]?.use(extent);
          lastUse.set(`${images[image]?.name}:${extent}`, at);
        }
        await cache.run();
        const wanted = Math.max(0, 603 - limit);
        assert.equal(cache.gone.length, wanted === 0 ? 0 : wanted + 1);
        const order = cache.gone.map((name) => lastUse.get(name) ?? -1);
        // Several go at once, so the last few of a search may be a little out of order.
        assert.deepEqual(
          order,
          order.toSorted((a, b) => a - b),
        );
        const coldestLeft = images
          .flatMap(({ name, present }) => [...present].map((extent) => `${name}:${extent}`))
          .reduce((least, name) => Math.min(least, lastUse.get(name) ?? -1), uses.length);
        assert.ok((order.at(-1) ?? -1) <= coldestLeft);
      },
    ),
  );
});

test('the coldest of more extents than one search remembers', async () => {
  const cache = new Cache(2_900);
  const image = cache.image('a', 3_000);
  // 617 and 3,000 have no common factor: each extent once, in no order.
  const order = Array.from({ length: 3_000 }, (_, at) => (at * 617) % 3_000);
  for (const extent of order) image.use(extent);
  await cache.run();
  assert.deepEqual(
    cache.gone,
    order.slice(0, 101).map((extent) => `a:${extent}`),
  );
});

test('pinned and held images, and what is not clean, stay', async () => {
  const cache = new Cache(3);
  cache.image('pinned', 2).pinned = true;
  cache.image('held', 2).held = true;
  cache.image('dirty', 2).dirty.add(0);
  await cache.run();
  assert.deepEqual(cache.gone, ['dirty:1']);
  assert.deepEqual(cache.said, ['evicted 1 and 0', 'stuck with 3']);
});

test('when nothing can go it says so once, and looks again only when something changed', async () => {
  const cache = new Cache(1);
  const image = cache.image('a', 3);
  image.pinned = true;
  await cache.run();
  const { searches } = cache;
  for (let i = 0; i < 100; i++) await cache.run();
  assert.equal(cache.searches, searches);
  cache.clock.advance(10_000);
  await cache.run();
  assert.equal(cache.searches, searches + 1);
  assert.deepEqual(cache.said, ['stuck with 3']);
  image.pinned = false;
  cache.eviction.mayGoAgain();
  await cache.eviction.idle();
  assert.deepEqual(cache.said, ['stuck with 3', 'evicted 3 and 0']);
  image.present.add(0).add(1);
  image.use(0);
  image.use(1);
  image.pinned = true;
  await cache.run();
  assert.equal(cache.said.at(-1), 'stuck with 2');
});

test('what was used while the search paused is not the coldest any more', async () => {
  const cache = new Cache(200_000);
  const image = cache.image('large', 200_001);
  image.use(5);
  cache.onTurn = () => {
    if (cache.turns === 1) image.use(0);
  };
  await cache.run();
  assert.ok(cache.turns > 0);
  assert.deepEqual(cache.gone, ['large:1', 'large:2']);
});

test('a turn looks at few extents, however large the images', async () => {
  const tera = 1024 * 1024 * 1024 * 1024;
  const cache = new Cache(1_000_000);
  const extents = tera / EXTENT_BYTES;
  // The worst order: each is colder than all before it.
  const large = cache.image('1 TB', extents, []);
  for (let extent = extents - 1; extent >= 0; extent--) {
    if (extent % 64 === 0) cache.clock.advance(64);
    large.uses.touch(extent * EXTENT_BYTES, 1);
    large.present.add(extent);
  }
  for (let i = 0; i < 1000; i++) cache.image(`small ${i}`, 8);
  assert.equal(await cache.eviction.makeRoom(EXTENT_BYTES), EXTENT_BYTES);
  assert.deepEqual(cache.gone, ['small 0:0']);
  // Each is a look at the masks of 64 blocks: 16 thousand of them in a turn.
  assert.ok(cache.mostLooks <= 257, `${cache.mostLooks} looks in one turn`);
  assert.ok(cache.turns > extents / (16 * 1024));
});

test('extents that hold nothing are looked at once', async () => {
  const cache = new Cache(1);
  const image = cache.image('sparse', 10_000, [1, 9_999]);
  image.dirty.add(1).add(9_999);
  await cache.run();
  cache.looks = 0;
  cache.eviction.mayGoAgain();
  await cache.eviction.idle();
  assert.equal(cache.looks, 2);
});

test('room is made below the marks when the disk is full', async () => {
  const cache = new Cache(100);
  cache.image('a', 10);
  assert.equal(await cache.eviction.makeRoom(3 * EXTENT_BYTES), 3 * EXTENT_BYTES);
  await cache.run();
  assert.equal(cache.gone.length, 3);
});

test('after close nothing goes', async () => {
  const cache = new Cache(1);
  cache.image('a', 100_000);
  cache.onTurn = () => void cache.eviction.close();
  await cache.run();
  await cache.run();
  assert.deepEqual([cache.gone, cache.said], [[], []]);
});

test('uses: extents of a range, cut with the image; what is new holds nothing', () => {
  const clock = new ManualClock();
  const uses = new ExtentUses(clock, clock.monotonicMs(), 3 * EXTENT_BYTES + 1);
  assert.equal(uses.count, 4);
  clock.advance(640);
  uses.touch(EXTENT_BYTES - 1, 2);
  uses.touch(0, 0);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((extent) => uses.at(extent)),
    [12, 12, 1, 1, 0],
  );
  uses.resize(EXTENT_BYTES);
  uses.resize(3 * EXTENT_BYTES);
  assert.deepEqual(
    [0, 1, 2].map((extent) => uses.at(extent)),
    [12, 0, 0],
  );
  uses.touch(2 * EXTENT_BYTES, 100 * EXTENT_BYTES);
  assert.deepEqual([uses.count, uses.at(2), uses.at(3)], [3, 12, 0]);
  uses.empty(0);
  assert.equal(uses.at(0), 0);
});
