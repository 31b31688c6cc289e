/**
 * What was used last is taken up before anybody asks for it: its first reader waits for nothing of
 * the disk's names, and whoever does not come has changed nothing by that.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import { DiskCache } from '../../src/cache/disk-cache.ts';
import { fileIdOf } from '../../src/cache/file-id.ts';
import type { PathIo } from '../../src/cache/path-io.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { MemorySource, settled } from './memory-source.ts';
import { firstReader, imageFile, someone, thisBoot } from './memory-world.ts';
import { PaperDisk } from './paper-disk.ts';

const sizeBytes = 64 * 65_536;
const otherFile = Buffer.from('a1a2a3a4', 'hex') as FileHandle;

class Cached {
  readonly disk: PaperDisk;
  readonly clock = new ManualClock();
  readonly source = new MemorySource(randomBytes(sizeBytes));
  readonly events: string[] = [];
  /** Files opened by name. */
  opened = 0;
  #cache: DiskCache | undefined;

  private constructor(disk: PaperDisk) {
    this.disk = disk;
  }

  get cache(): DiskCache {
    assert.ok(this.#cache !== undefined);
    return this.#cache;
  }

  static async open(disk: PaperDisk): Promise<Cached> {
    const cached = new Cached(disk);
    const paths: PathIo = {
      ...disk.paths,
      open: (path, how) => {
        cached.opened += 1;
        return disk.paths.open(path, how);
      },
    };
    const cache = await DiskCache.open(
      {
        ...{ cacheDir: '/cache', server: 'server:2049', exportPath: '/export' },
        ...{ mountpoint: '/mnt', socket: '', pid: 1, bootId: thisBoot },
        ...{ size: { bytes: 2 ** 40 }, freeFloor: { bytes: 0 } },
        ...{ clock: cached.clock, io: disk.io, paths },
        probe: () => Promise.resolve(0),
        sizes: {
          fileSystem: () => Promise.resolve({ totalBytes: 2 ** 40, availableBytes: 2 ** 40 }),
          names: () => Promise.resolve([]),
          image: () => Promise.resolve(0),
          rest: () => Promise.resolve(0),
        },
      },
      { setAside: (path, why) => cached.events.push(`${path} ${why}`) },
    );
    assert.ok(cache.ok);
    cached.#cache = cache.value;
    return cached;
  }

  openImage(file: FileHandle) {
    return this.cache.open(file, this.source.attributesNow(), this.source);
  }

  /** Opens the file, and has all of it kept. */
  async fill(file: FileHandle): Promise<void> {
    const image = await this.openImage(file);
    const found = this.cache.find(file);
    assert.ok(found !== undefined);
    const warmed = found.warm({ offset: 0, length: sizeBytes }, { as: someone });
    assert.ok((await this.until(warmed)).ok);
    image.close();
    await settled();
    this.clock.advance(1_000);
  }

  /** Lets time pass until `work` has ended. */
  async until<T>(work: Promise<T>): Promise<T> {
    let ended = false;
    const noted = work.finally(() => {
      ended = true;
    });
    for (let steps = 0; !ended; steps++) {
      assert.ok(steps < 1_000, 'it waits for ever');
      await this.pass();
    }
    return noted;
  }

  /** Lets whatever goes on in the background go on. */
  async pass(steps = 1): Promise<void> {
    for (let step = 0; step < steps; step++) {
      await settled();
      this.clock.advance(1);
    }
  }

  close(): Promise<void> {
    return this.until(this.cache.close());
  }

  async lastUsed(file: FileHandle): Promise<number | undefined> {
    const listed = await this.cache.list();
    assert.ok(listed.ok);
    return listed.value.find(({ id }) => id === fileIdOf(file))?.lastUsedMs;
  }
}

/** Another daemon, on the disk that an earlier one has left. */
async function next(one: Cached): Promise<Cached> {
  await one.close();
  const two = await Cached.open(one.disk);
  two.source.bytes = one.source.bytes;
  return two;
}

describe('the image that was used last', () => {
  it('is answered from without a file to open', async () => {
    const one = await Cached.open(new PaperDisk());
    await one.fill(otherFile);
    await one.fill(imageFile);
    const two = await next(one);
    await two.until(two.cache.takeUpLastUsed());
    const opened = two.opened;
    const image = await two.openImage(imageFile);
    const reply = image.read(someone, firstReader, 0, 4096, sizeBytes);
    assert.ok(!(reply instanceof Promise), 'its first block is checked already');
    assert.ok(reply.ok && reply.value.kind === 'file');
    reply.value.release();
    assert.equal(two.opened, opened);
    assert.equal(two.source.fetches.length, 0);
    await two.close();
  });

  it('counts as used only when it is opened', async () => {
    const one = await Cached.open(new PaperDisk());
    await one.fill(imageFile);
    const usedMs = await one.lastUsed(imageFile);
    const two = await next(one);
    two.clock.advance(3_600_000);
    await two.until(two.cache.takeUpLastUsed());
    assert.equal(await two.lastUsed(imageFile), usedMs);
    const three = await next(two);
    assert.equal(await three.lastUsed(imageFile), usedMs);
    await three.close();
  });

  it('is not read through before it is opened', async () => {
    const one = await Cached.open(new PaperDisk());
    await one.fill(imageFile);
    const two = await next(one);
    await two.until(two.cache.takeUpLastUsed());
    await two.pass(100);
    assert.equal(two.cache.figures().counts.verifiedBlocks, 1);
    const image = await two.openImage(imageFile);
    await two.pass(100);
    assert.equal(two.cache.figures().counts.verifiedBlocks, sizeBytes / 65_536);
    image.close();
    await two.close();
  });

  it('is dropped when it is opened as of another content', async () => {
    const one = await Cached.open(new PaperDisk());
    await one.fill(imageFile);
    const two = await next(one);
    await two.until(two.cache.takeUpLastUsed());
    two.source.bytes = randomBytes(sizeBytes);
    two.source.version += 1;
    const image = await two.openImage(imageFile);
    const answer = image.read(someone, firstReader, 0, 4096, sizeBytes);
    const result = await two.until(Promise.resolve(answer));
    assert.ok(result.ok && result.value.kind === 'bytes');
    assert.deepEqual(Buffer.concat(result.value.bytes), two.source.bytes.subarray(0, 4096));
    result.value.release();
    image.close();
    await two.close();
  });

  it('is left as it is when it was being written: the server is asked first', async () => {
    const one = await Cached.open(new PaperDisk());
    await one.fill(imageFile);
    const image = await one.openImage(imageFile);
    await (await image.beginWrite(0, 4096)).failed();
    image.close();
    const two = await next(one);
    await two.until(two.cache.takeUpLastUsed());
    assert.deepEqual(two.events, []);
    assert.equal(two.cache.figures().idleImages, 0);
    assert.equal(two.cache.figures().keptImages, 1);
    await two.close();
  });
});
