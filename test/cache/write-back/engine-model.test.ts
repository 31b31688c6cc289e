/**
 * Whatever happens, in whatever order: what `writeBack` said is at the server is there, nothing
 * that was written is lost, and once the server works all of it arrives.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import type { PaperImage } from './paper-image.ts';
import type { Call, Fate } from './paper-server.ts';
import { assertSent, World } from './world.ts';

const PAGES = 40;

type Step =
  | { readonly kind: 'write'; readonly page: number; readonly pages: number }
  | { readonly kind: 'grow'; readonly bytes: number }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'restart' }
  | { readonly kind: 'trouble'; readonly fates: readonly Fate[] }
  | { readonly kind: 'writeBack'; readonly isCancelled: boolean }
  | { readonly kind: 'writeBackRange'; readonly page: number; readonly pages: number }
  | { readonly kind: 'makeClean'; readonly pages: number }
  | { readonly kind: 'holdBack'; readonly ms: number };

const fate: fc.Arbitrary<Fate> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Fate>({}) },
  fc.record<Fate>({ shortBytes: fc.integer({ min: 1, max: 3 * PAGE_BYTES }) }),
  fc.record<Fate>({ committed: fc.constantFrom('dataSync', 'fileSync') }),
  fc.record<Fate>({
    error: fc.constantFrom(
      'NFS3ERR_NOSPC',
      'NFS3ERR_IO',
      'NFS3ERR_ACCES',
      'NFS3ERR_STALE',
      'NFS3ERR_JUKEBOX',
      'RPC_TIMEOUT',
    ),
  }),
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      page: fc.nat(PAGES - 1),
      pages: fc.integer({ min: 1, max: 8 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(60) }) },
  fc.record({ kind: fc.constant('wait' as const), ms: fc.constant(20_000) }),
  fc.record({ kind: fc.constant('grow' as const), bytes: fc.nat(PAGES * PAGE_BYTES) }),
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  fc.record({
    kind: fc.constant('trouble' as const),
    fates: fc.array(fate, { maxLength: 12 }),
  }),
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('writeBack' as const), isCancelled: fc.boolean() }),
  },
  fc.record({
    kind: fc.constant('writeBackRange' as const),
    page: fc.nat(PAGES - 1),
    pages: fc.integer({ min: 1, max: 10 }),
  }),
  fc.record({ kind: fc.constant('makeClean' as const), pages: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ kind: fc.constant('holdBack' as const), ms: fc.nat(30) }),
);

/** Small numbers, always the same for one seed. */
function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Writes pages that tell how often they were written, and checks what has arrived. */
class Writer {
  readonly #world: World;
  readonly image: PaperImage;
  readonly #versions: number[] = [];
  #version = 0;
  readonly mistakes: string[] = [];

  constructor(world: World, image: PaperImage) {
    this.#world = world;
    this.image = image;
  }

  write(page: number, pages: number): void {
    const version = ++this.#version;
    for (let at = page; at < page + pages; at++) this.#versions[at] = version;
    this.#world.write(this.image, page, pages, version);
  }

  /** To be asked for before the call; to be called when it was answered with ok. */
  promise(first = 0, end = Number.POSITIVE_INFINITY): () => void {
    const versions = this.#versions.slice(first, end);
    const isAll = end === Number.POSITIVE_INFINITY;
    const { size } = this.image;
    return () => {
      for (const [index, version] of versions.entries()) {
        const found = this.image.sending.durablePage(first + index).readUInt32LE(0);
        if (version === undefined || found >= version) continue;
        this.mistakes.push(`page ${first + index}: version ${found} instead of ${version}`);
      }
      const durableBytes = this.image.sending.durable().length;
      if (isAll && durableBytes < size) this.mistakes.push(`${durableBytes} of ${size} bytes`);
    };
  }
}

async function take(world: World, writer: Writer, todo: Step): Promise<void> {
  const { engine } = world;
  const { image } = writer;
  switch (todo.kind) {
    case 'write':
      return writer.write(todo.page, todo.pages);
    case 'grow':
      image.grow(todo.bytes);
      return engine.changed(image);
    case 'wait':
      return world.wait(todo.ms);
    case 'restart':
      return image.sending.restart();
    case 'trouble': {
      const fates = [...todo.fates];
      image.sending.fate = (_call: Call) => fates.shift() ?? {};
      return;
    }
    case 'writeBack': {
      const kept = writer.promise();
      const abort = new AbortController();
      void engine.writeBack(image, { signal: abort.signal }).then((result) => {
        if (result.ok) kept();
      });
      if (todo.isCancelled) world.clock.after(7, () => abort.abort());
      return;
    }
    case 'writeBackRange': {
      const range = { start: todo.page, end: todo.page + todo.pages };
      const kept = writer.promise(range.start, range.end);
      void engine.writeBackRange(image, range).then((result) => {
        if (result.ok) kept();
      });
      return;
    }
    case 'makeClean':
      void engine.makeClean(todo.pages * PAGE_BYTES);
      return;
    case 'holdBack':
      void engine.holdBack(image, { start: 0, end: PAGES }).then((release) => {
        assert.equal(image.sending.inFlightWrites, 0);
        world.clock.after(todo.ms, release);
      });
      return;
  }
}

function start(seed: number, mode: 'back' | 'deferred'): { world: World; writers: Writer[] } {
  const random = chance(seed);
  const world = new World({ mode, ageMs: 10_000, maxDirtyBytes: 30 * PAGE_BYTES });
  const writers = [world.image(3 * PAGE_BYTES), world.image(1024 * 1024)].map((image) => {
    image.sending.delayMs = () => 1 + 20 * random();
    image.sending.survives = () => random() < 0.3;
    image.sending.otherCallers = [{ uid: 7, gid: 7, groups: [] }];
    return new Writer(world, image);
  });
  return { world, writers };
}

const story = fc.array(fc.tuple(fc.nat(1), step), { minLength: 5, maxLength: 60 });
const mode = fc.constantFrom('back' as const, 'deferred' as const);

describe('write-back, whatever happens', () => {
  it('keeps what it promised, and sends all of it in the end', async () => {
    await fc.assert(
      fc.asyncProperty(story, fc.nat(), mode, async (steps, seed, mode) => {
        const { world, writers } = start(seed, mode);
        for (const [index, todo] of steps) {
          const writer = writers[index];
          assert.ok(writer !== undefined);
          await take(world, writer, todo);
        }
        for (const { image } of writers) image.sending.fate = () => ({});
        const result = await world.clock.until(world.engine.writeBackAll());
        // Somebody may still hold an image back, or its last bout be one that had failed.
        await world.wait(1_000);
        const last = await world.clock.until(world.engine.writeBackAll());
        assert.deepEqual(last.failures, []);
        for (const { image, mistakes } of writers) {
          assert.deepEqual(mistakes, []);
          assertSent(image);
        }
        assert.ok(result.sentBytes >= 0);
        const { dirtyBytes, dirtyImages, inFlightBytes } = world.engine.figures();
        assert.deepEqual([dirtyBytes, dirtyImages, inFlightBytes], [0, 0, 0]);
      }),
      { numRuns: 250 },
    );
  });

  it('may be stopped at any moment', async () => {
    await fc.assert(
      fc.asyncProperty(story, fc.nat(), mode, fc.nat(50), async (steps, seed, mode, graceMs) => {
        const { world, writers } = start(seed, mode);
        for (const [index, todo] of steps) {
          const writer = writers[index];
          assert.ok(writer !== undefined);
          await take(world, writer, todo);
        }
        const waiting = writers.map(({ image }) => world.engine.writeBack(image));
        const beganMs = world.clock.monotonicMs();
        await world.clock.until(world.engine.stop(graceMs));
        assert.ok(world.clock.monotonicMs() - beganMs <= graceMs + 1e-6);
        for (const { image } of writers) image.isGone = true;
        await world.clock.until(Promise.all(waiting));
        const calls = writers.map(({ image }) => image.sending.countOf('write'));
        await world.wait(100_000);
        for (const [index, { image, mistakes }] of writers.entries()) {
          assert.deepEqual(mistakes, []);
          // What is not dirty is there.
          const lost = lostPages(image);
          assert.deepEqual(lost, []);
          // A run that was begun may need another WRITE after a short one, or for other callers.
          const late = image.sending.countOf('write') - (calls[index] ?? 0);
          assert.equal(late, 0, 'WRITEs after the end');
        }
      }),
      { numRuns: 150 },
    );
  });
});

/** Pages that the image takes for sent and the server does not have. */
function lostPages(image: PaperImage): number[] {
  const content = image.content();
  const lost: number[] = [];
  for (let page = 0; page * PAGE_BYTES < content.length; page++) {
    if (!image.isClean(page)) continue;
    const bytes = content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    const found = image.sending.durablePage(page).subarray(0, bytes.length);
    if (!bytes.equals(found)) lost.push(page);
  }
  return lost;
}
