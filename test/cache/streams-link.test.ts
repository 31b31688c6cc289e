import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FileHandle, HandleId } from '../../src/base/brand.ts';
import { DiskCache } from '../../src/cache/disk-cache.ts';
import type { CachedImage } from '../../src/vfs/ports.ts';
import { EventClock } from './memory-clock.ts';
import { forgetful, LinkedSource } from './memory-link.ts';
import { someone } from './memory-world.ts';
import { PaperDisk } from './paper-disk.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface Link {
  readonly bitsPerSecond: number;
  readonly roundTripMs: number;
}

const links: Record<string, Link> = {
  '1 Gbit/s, 1 ms': { bitsPerSecond: 1e9, roundTripMs: 1 },
  '100 Mbit/s, 35 ms': { bitsPerSecond: 1e8, roundTripMs: 35 },
  '100 Mbit/s, 100 ms': { bitsPerSecond: 1e8, roundTripMs: 100 },
  '1 Gbit/s, 100 ms': { bitsPerSecond: 1e9, roundTripMs: 100 },
};

class Reading {
  readonly clock = new EventClock();
  readonly source: LinkedSource;
  readonly #size: number;
  #cache: DiskCache | undefined;
  #image: CachedImage | undefined;

  constructor(link: Link, size: number) {
    this.source = new LinkedSource(size, { ...link, clock: this.clock });
    this.#size = size;
  }

  async open(): Promise<void> {
    const disk = new PaperDisk();
    const opened = await DiskCache.open({
      cacheDir: '/cache',
      server: 'server:2049',
      exportPath: '/export',
      mountpoint: '/mnt',
      socket: '',
      pid: 1,
      size: { bytes: 2 ** 42 },
      freeFloor: { bytes: 0 },
      clock: this.clock,
      io: forgetful(disk.io),
      paths: disk.paths,
      bootId: 'b0'.repeat(16),
      probe: () => Promise.resolve(0),
      sizes: {
        fileSystem: () => Promise.resolve({ totalBytes: 2 ** 43, availableBytes: 2 ** 43 }),
        names: () => Promise.resolve([]),
        image: () => Promise.resolve(0),
        rest: () => Promise.resolve(0),
      },
    });
    assert.ok(opened.ok);
    this.#cache = opened.value;
    const file = Buffer.from('01', 'hex') as FileHandle;
    this.#image = await this.#cache.open(file, this.source.attributesNow(), this.source);
  }

  get cache(): DiskCache {
    assert.ok(this.#cache !== undefined);
    return this.#cache;
  }

  get image(): CachedImage {
    assert.ok(this.#image !== undefined);
    return this.#image;
  }

  async read(offset: number, length: number, reader: number): Promise<void> {
    const answer = await this.image.read(someone, reader as HandleId, offset, length, this.#size);
    assert.ok(answer.ok);
    if (answer.value.kind !== 'zeros') answer.value.release();
  }

  /** Reads from `from` to `to` with `depth` requests under way. */
  async stream(from: number, to: number, chunk: number, depth: number, reader = 1): Promise<void> {
    let next = from;
    const worker = async (): Promise<void> => {
      while (next < to) {
        const at = next;
        next += chunk;
        await this.read(at, Math.min(chunk, to - at), reader);
      }
    };
    await Promise.all(Array.from({ length: depth }, worker));
  }
}

for (const [name, link] of Object.entries(links)) {
  describe(`over ${name}`, () => {
    const size = Math.max(64 * MiB, (link.bitsPerSecond / 8 / 1000) * link.roundTripMs * 40);
    for (const [chunk, depth] of [
      [128 * KiB, 1],
      [MiB, 1],
      [128 * KiB, 16],
      [16 * KiB, 1],
    ] as const) {
      it(`a stream of ${chunk / KiB} KiB reads, ${depth} at a time, fills it`, async (test) => {
        const reading = new Reading(link, size);
        await reading.open();
        await reading.clock.until(reading.stream(0, size / 4, chunk, depth));
        const beganMs = reading.clock.monotonicMs();
        await reading.clock.until(reading.stream(size / 4, size, chunk, depth));
        const tookMs = reading.clock.monotonicMs() - beganMs;
        const share = (size * 0.75) / reading.source.bytesPerMs / tookMs;
        test.diagnostic(`${share.toFixed(3)} of the link; start ${beganMs.toFixed(0)} ms`);
        assert.ok(share >= 0.95, `${share.toFixed(3)} of the link`);
        const fetched = reading.source.fetches.reduce((sum, { length }) => sum + length, 0);
        assert.equal(fetched, size, 'bytes crossed the link twice');
        await reading.clock.until(reading.cache.close());
      });
    }

    it('a random read beside a stream does not wait long behind what is read ahead', async (test) => {
      const reading = new Reading(link, 2 * size);
      await reading.open();
      const streaming = reading.stream(0, size, MiB, 1);
      await reading.clock.until(reading.stream(0, size / 2, MiB, 1, 1));
      const waits: number[] = [];
      for (let i = 1; i <= 20; i++) {
        const beganMs = reading.clock.monotonicMs();
        await reading.clock.until(reading.read(size + ((i * 12_345 * 4096) % (size / 2)), 4096, 2));
        waits.push(reading.clock.monotonicMs() - beganMs);
      }
      const longest = Math.max(...waits) - link.roundTripMs;
      test.diagnostic(`${longest.toFixed(1)} ms beyond the round trip`);
      assert.ok(longest <= 20 + 1.5 * link.roundTripMs, `waited ${longest} ms`);
      await reading.clock.until(streaming);
      await reading.clock.until(reading.cache.close());
    });
  });
}
