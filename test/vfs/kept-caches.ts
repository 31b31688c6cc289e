/**
 * Caches for the model of a file: the strict one in memory, and the disk cache on a disk of paper,
 * which a daemon's death or a power cut leaves as a real one is left.
 */
import assert from 'node:assert/strict';
import { DiskCache, type DiskCacheOptions } from '../../src/cache/disk-cache.ts';
import { fileIdOf } from '../../src/cache/file-id.ts';
import type { DiskSizes } from '../../src/cache/space.ts';
import type { ImageCache, ReadReply } from '../../src/vfs/ports.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { PaperDisk } from '../cache/paper-disk.ts';
import { MemoryImages } from './memory-images.ts';
import type { MemoryServer } from './memory-server.ts';

export interface KeptCache {
  readonly cache: ImageCache;
  /** A model's byte in bytes of the file: pages of the cache are some of them. */
  readonly scale: number;
  /** The bytes of a reply, which is given back. */
  taken(reply: ReadReply): Promise<Buffer>;
  evict(path: string, nth: number): Promise<void>;
  /** Ends in order; what it has kept is there for the next. */
  end(): Promise<void>;
  /** The daemon dies, or the host with it: nothing that is under way has any more effect. */
  die(of: 'kill' | 'power'): void;
  /** Opened by the next daemon. */
  next(): Promise<void>;
  check(): void;
}

export class StrictCache implements KeptCache {
  readonly cache: MemoryImages;
  readonly scale = 1;

  constructor(server: MemoryServer, wait: () => Promise<void>) {
    this.cache = new MemoryImages(server);
    this.cache.delay = wait;
  }

  async taken(reply: ReadReply): Promise<Buffer> {
    assert(reply.kind === 'bytes');
    const bytes = Buffer.concat(reply.bytes);
    reply.release();
    return bytes;
  }

  async evict(_path: string, nth: number): Promise<void> {
    this.cache.evict(nth);
  }

  async end(): Promise<void> {
    assert.equal(this.cache.openImages, 0);
  }

  die(): void {
    this.cache.crash();
  }

  async next(): Promise<void> {}

  check(): void {
    assert.deepEqual(this.cache.faults, []);
  }
}

const unlimited: DiskSizes = {
  fileSystem: () => Promise.resolve({ totalBytes: 2 ** 40, availableBytes: 2 ** 40 }),
  names: () => Promise.resolve([]),
  image: () => Promise.resolve(0),
  rest: () => Promise.resolve(0),
};

export class PaperCache implements KeptCache {
  readonly scale = 2048;
  readonly #server: MemoryServer;
  readonly #chance: () => number;
  #disk = new PaperDisk();
  #clock = new ManualClock();
  #boots = 0;
  #cache: DiskCache | undefined;

  readonly #policy: Pick<DiskCacheOptions, 'session' | 'write'>;

  constructor(
    server: MemoryServer,
    chance: () => number,
    policy: Pick<DiskCacheOptions, 'session' | 'write'> = {},
  ) {
    this.#server = server;
    this.#chance = chance;
    this.#policy = policy;
  }

  get cache(): DiskCache {
    assert(this.#cache !== undefined);
    return this.#cache;
  }

  async taken(reply: ReadReply): Promise<Buffer> {
    if (reply.kind === 'zeros') return Buffer.alloc(reply.length);
    let bytes: Buffer;
    if (reply.kind === 'bytes') bytes = Buffer.concat(reply.bytes);
    else {
      bytes = Buffer.alloc(reply.length);
      const { errno, got } = await this.#disk.io.read(reply.fd, reply.offset, bytes);
      assert.equal(errno, 0);
      assert.equal(got, reply.length, 'the local file is too short for the reply');
    }
    reply.release();
    return bytes;
  }

  /** What a descriptor of a kept file reads now. */
  async fileBytes(fd: number, length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    const { errno, got } = await this.#disk.io.read(fd, 0, bytes);
    assert.equal(errno, 0, 'a file that is held was closed');
    return bytes.subarray(0, got);
  }

  async evict(path: string): Promise<void> {
    await this.cache.evict(fileIdOf(this.#server.handleAt(path)));
  }

  async end(): Promise<void> {
    let isClosed = false;
    const closing = this.cache.close().then(() => {
      isClosed = true;
    });
    // What goes on in the background pauses now and then.
    while (!isClosed) {
      this.#clock.advance(1);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closing;
  }

  die(of: 'kill' | 'power'): void {
    if (of === 'power') this.#boots += 1;
    this.#disk = of === 'kill' ? this.#disk.afterKill() : this.#disk.afterPowerCut(this.#chance);
  }

  async next(): Promise<void> {
    this.#clock = new ManualClock();
    const opened = await DiskCache.open({
      cacheDir: '/cache',
      server: 'server:2049',
      exportPath: '/export',
      mountpoint: '/mnt',
      socket: '',
      pid: 1,
      size: { bytes: 2 ** 40 },
      freeFloor: { bytes: 0 },
      clock: this.#clock,
      io: this.#disk.io,
      paths: this.#disk.paths,
      bootId: `b${this.#boots}`.padStart(32, '0'),
      probe: () => Promise.resolve(0),
      sizes: unlimited,
      ...this.#policy,
    });
    assert(opened.ok, opened.ok ? '' : opened.error.message);
    this.#cache = opened.value;
  }

  check(): void {
    this.pass(1);
  }

  /** Time goes by. */
  pass(byMs: number): void {
    this.#clock.advance(byMs);
  }
}
