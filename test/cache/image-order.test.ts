/**
 * Orders of events that once went wrong: each a few steps of the server, the disk and the kernel
 * that seldom meet, and that the model would have to be lucky to find.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { fileIdOf } from '../../src/cache/file-id.ts';
import { PAGE_BYTES as page } from '../../src/cache/file-io.ts';
import type { PendingChange } from '../../src/vfs/ports.ts';
import { MemorySource, settled } from './memory-source.ts';
import { imageFile, World } from './memory-world.ts';

const MiB = 1024 * 1024;

async function whole(bytes: number): Promise<World> {
  const one = await World.open(new MemorySource(randomBytes(bytes)));
  for (let at = 0; at < bytes; at += MiB) await one.readNow(at, MiB);
  await one.run();
  return one;
}

/** The server's file is another one now; whose change it was the test says. */
function serverHas(one: World, bytes: Buffer): void {
  one.source.bytes = bytes;
  one.source.version++;
  one.changed();
}

/** The server's bytes with others in their place. */
function patched(one: World, at: number, bytes: Buffer): Buffer {
  const all = Buffer.alloc(Math.max(one.source.bytes.length, at + bytes.length));
  one.source.bytes.copy(all);
  bytes.copy(all, at);
  return all;
}

async function write(one: World, at: number, bytes: Buffer): Promise<void> {
  const change = await one.until(one.image.beginWrite(at, bytes.length));
  serverHas(one, patched(one, at, bytes));
  await one.until(change.done(bytes));
}

/** Opens gates that are not `what`, as long as `work` needs. false: it waits for one that is. */
async function goesOn(one: World, what: string, work: Promise<unknown>): Promise<boolean> {
  const ended = { yes: false };
  void work.then(() => {
    ended.yes = true;
  });
  for (let i = 0; i < 300 && !ended.yes; i++) {
    const index = one.gates.findIndex((gate) => !gate.what.startsWith(what));
    if (index >= 0) await one.step(index);
    else await settled();
    one.clock.advance(1);
  }
  return ended.yes;
}

describe('sizes', () => {
  it('a page of a block that was cut is read as the zeros that it became', async () => {
    const one = await whole(16 * page);
    const change = await one.until(one.image.beginResize(10 * page));
    serverHas(one, one.source.bytes.subarray(0, 10 * page));
    await one.until(change.done());
    // Both halves, so that the page is never covered, and is fetched.
    for (const at of [3 * page, 3 * page + 2048]) await write(one, at, Buffer.alloc(2048));
    await one.readNow(0, 10 * page);
    await one.run();
    await one.readNow(0, 10 * page);
    await one.close();
  });

  /** A longer file than we know of: our write came through, and nobody told us. */
  async function unknownEnd(readBefore: boolean): Promise<World> {
    const one = await World.open(new MemorySource(randomBytes(6000)));
    const change = await one.until(one.image.beginWrite(6000, 2192));
    one.source.unknown = true;
    const grown = Buffer.concat([one.source.bytes, randomBytes(2192)]);
    if (!readBefore) serverHas(one, grown);
    await one.until(change.failed());
    one.source.unknown = false;
    await one.until(one.read(page, 6000 - page));
    await one.run();
    if (readBefore) serverHas(one, grown);
    return one;
  }

  for (const readBefore of [false, true]) {
    const when = readBefore ? 'before' : 'after';
    it(`the last page, read ${when} the file grew unseen, is fetched again when it is settled`, async () => {
      const one = await unknownEnd(readBefore);
      await one.until(one.image.settle());
      await one.readNow(page, page);
      await one.close();
    });
  }

  it('the last page of an unknown end is fetched again after a further write behind it', async () => {
    const one = await unknownEnd(true);
    await write(one, 40 * page, randomBytes(page));
    await one.readNow(page, page);
    await one.close();
  });

  it('settling a longer file keeps nothing of a fill that is on its way for the old end', async () => {
    const one = await World.open(new MemorySource(randomBytes(6000)));
    const change = await one.until(one.image.beginWrite(6000, 2192));
    await one.until(change.failed());
    one.source.snapshotAt = 'sent';
    one.gate();
    const read = one.read(page, 6000 - page);
    await settled();
    serverHas(one, Buffer.concat([one.source.bytes, randomBytes(2192)]));
    assert.ok(await goesOn(one, 'fetch', one.image.settle()));
    await one.until(read);
    await one.run();
    await one.readNow(page, page);
    await one.close();
  });

  it('settling a shorter file keeps nothing of a fill that is on its way for what was cut', async () => {
    const one = await World.open(new MemorySource(randomBytes(16 * page)));
    const change = await one.until(one.image.beginResize(4 * page));
    await one.until(change.failed());
    one.source.snapshotAt = 'sent';
    one.gate();
    const read = one.read(8 * page, page);
    serverHas(one, one.source.bytes.subarray(0, 4 * page));
    assert.ok(await goesOn(one, 'fetch', one.image.settle()));
    await one.until(read);
    await one.run();
    assert.equal(one.content.map.sizeBytes, 4 * page);
    await one.close();
  });

  it('nothing is settled while a change is pending that began during it', async () => {
    const one = await whole(10 * page);
    const change = await one.until(one.image.beginWrite(10 * page, page));
    await one.until(change.failed());
    serverHas(one, Buffer.concat([one.source.bytes, randomBytes(page)]));
    one.gate();
    const settling = one.image.settle();
    await settled();
    const pending = one.image.beginWrite(0, page);
    await one.until(settling);
    assert.equal(one.content.directory.state, 'writing');
    await one.until((await one.until(pending)).failed());
    await one.close();
  });

  it('a change that begins while the content is replaced covers the new last page', async () => {
    const one = await World.open(new MemorySource(randomBytes(40 * page)));
    one.gate();
    serverHas(one, randomBytes(40 * page));
    const first = one.image.replace(one.source.attributesNow());
    serverHas(one, randomBytes(16 * page + 1000));
    const second = one.image.replace(one.source.attributesNow());
    await settled();
    const change: PendingChange = await one.until(one.image.beginResize(30 * page));
    await one.until(Promise.all([first, second]));
    one.source.snapshotAt = 'sent';
    const before = one.read(16 * page, 1000);
    await settled();
    serverHas(one, patched(one, 30 * page - 1, Buffer.alloc(1)));
    assert.ok(await goesOn(one, 'fetch', change.done()));
    const after = one.read(16 * page, page);
    await one.run();
    assert.deepEqual([await before, await after], ['read', 'read']);
    await one.close();
  });

  it('an image that was cut, settled and filled on is taken up by the next daemon', async () => {
    const one = await World.open(new MemorySource(randomBytes(40 * MiB)));
    for (const at of [0, 36 * MiB]) await one.readNow(at, page);
    const change = await one.until(one.image.beginResize(MiB));
    serverHas(one, one.source.bytes.subarray(0, MiB));
    await one.until(change.done());
    one.clock.advance(200);
    await one.run();
    await one.until(one.image.settle());
    await one.readNow(20 * page, page);
    one.clock.advance(200);
    await one.run();
    const two = await World.open(one.source.copy(), { disk: one.disk.afterKill() });
    assert.deepEqual([two.content.directory.found, two.content.directory.why], ['kept', undefined]);
    assert.equal(two.content.map.presentPages, 2);
    await two.close();
    await one.close();
  });
});

describe('damage', () => {
  it('in the rest of a page is not blessed by a write to a part of it', async () => {
    const one = await World.open(new MemorySource(randomBytes(4 * page)));
    await one.readNow(2 * page, page);
    await one.run();
    await one.close();
    const disk = one.disk.afterKill();
    const { bytes } = disk.fileAt(one.imagePath('data'));
    bytes.writeUInt8((bytes[2 * page + 3000] ?? 0) ^ 0xff, 2 * page + 3000);
    const two = await World.open(one.source, { disk });
    await write(two, 2 * page, Buffer.alloc(10, 7));
    await two.readNow(2 * page, page);
    assert.equal(two.cache.figures().counts.damagedBlocks, 1);
    await two.close();
  });

  it('of a file that the kernel reads by itself is told, and its bytes are left alone', async () => {
    const one = await whole(32 * page);
    const held = one.image.hold();
    assert.ok('fd' in held);
    const { bytes } = one.disk.fileAt(one.imagePath('data'));
    bytes.writeUInt8((bytes[5] ?? 0) ^ 0xff, 5);
    const was = Buffer.from(bytes);
    const outcome = await one.until(one.image.verify({ offset: 0, length: 32 * page }, {}));
    assert.equal(outcome.damagedBytes, 16 * page);
    assert.ok(was.equals(bytes));
    await one.until(one.cache.close());
    assert.ok(was.equals(bytes));
    held.release();
  });
});

describe('eviction', () => {
  it('of the last extent, behind a write that makes it longer, takes what it punches', async () => {
    const one = await whole(10 * page);
    const change = await one.until(one.image.beginWrite(10 * page, 6 * page));
    one.gate();
    const verifying = one.image.verify({ offset: 0, length: 10 * page }, {});
    await settled();
    const bytes = randomBytes(6 * page);
    serverHas(one, Buffer.concat([one.source.bytes, bytes]));
    const done = change.done(bytes);
    await settled();
    const evicted = one.content.evictExtent(0);
    await one.until(Promise.all([verifying, done, evicted]));
    const read = one.read(12 * page, page);
    await one.run();
    await read;
    await one.readNow(0, 16 * page);
    await one.close();
  });

  it('and all that waits for replies does not wait for those that come later', async () => {
    const one = await whole(64 * page);
    const change = await one.until(one.image.beginWrite(0, 100));
    await one.read(32 * page, page);
    const ended = { yes: false };
    const failed = change.failed().then(() => {
      ended.yes = true;
    });
    for (let i = 0; i < 100 && !ended.yes; i++) {
      await one.read(32 * page, page);
      await one.finishReply(0);
      await settled();
    }
    assert.ok(ended.yes, 'it starves');
    await failed;
    await one.finishReplies();
    await one.close();
  });

  it('is what limits local writes, too', async () => {
    const sizes = { of: (): number => 0 };
    const one = await World.open(new MemorySource(Buffer.alloc(16 * MiB)), {
      size: { bytes: 2 * MiB },
      imageBytes: () => sizes.of(),
    });
    sizes.of = () => (one.image.content?.map.presentPages ?? 0) * page;
    for (let at = 0; at < 8 * MiB; at += MiB) {
      await write(one, at, Buffer.alloc(MiB, 1 + at / MiB));
      one.clock.advance(2_000);
      await one.run();
    }
    assert.ok(one.content.map.presentPages * page <= 2 * MiB);
    await one.close();
  });
});

describe('leaving', () => {
  async function idle(): Promise<World> {
    const one = await whole(16 * page);
    one.closeImage();
    await settled();
    return one;
  }

  it('an image that is evicted while it is opened is opened after that', async () => {
    const one = await idle();
    const evicted = one.cache.evict(fileIdOf(imageFile));
    await one.openImage();
    assert.ok((await one.until(evicted)).ok);
    await one.readNow(0, page);
    await one.close();
  });

  it('an image that becomes too old while it is opened is taken up again', async () => {
    const one = await idle();
    one.gate();
    one.clock.advance(60_001);
    await one.openImage();
    await one.readNow(0, page);
    assert.equal(one.source.fetches.length, 1);
    await one.close();
  });

  it('a cache is closed after the images that are being written down', async () => {
    const one = await idle();
    one.gate();
    one.clock.advance(60_001);
    await one.until(one.cache.close());
    assert.equal(one.disk.openFiles, 0);
  });

  it('an image that is open may be written to behind our back: the next daemon drops it', async () => {
    const one = await whole(4 * page);
    await one.until(one.image.settle());
    await one.until(one.cache.close());
    const source = new MemorySource(randomBytes(4 * page));
    const two = await World.open(source, { disk: one.disk.afterKill() });
    await two.readNow(0, 4 * page);
    await two.close();
  });

  it('knowledge is saved before the lock is given back', async () => {
    const one = await whole(page);
    one.gate();
    const saved = { yes: false };
    const saving = one.cache.knowledge.save(Buffer.from('known')).then(() => {
      saved.yes = true;
    });
    one.closeImage();
    await one.until(one.cache.close());
    assert.ok(saved.yes);
    await saving;
  });

  it('a pin during a replace holds for the new content', async () => {
    const one = await whole(page);
    one.gate();
    const replaced = one.image.replace(one.source.attributesNow());
    await settled();
    assert.equal(await one.until(one.image.setPinned(true)), 0);
    await one.until(replaced);
    assert.ok(one.image.report().pinned);
    await one.close();
  });

  it('a long look at a closed image is not cut off by its age', async () => {
    const one = await whole(12 * MiB);
    one.closeImage();
    one.clock.advance(60_001);
    await one.run();
    const { bytes } = one.disk.fileAt(one.imagePath('data'));
    bytes.writeUInt8((bytes[12 * MiB - 5] ?? 0) ^ 1, 12 * MiB - 5);
    one.gate();
    const verifying = one.cache.verify(fileIdOf(imageFile));
    for (let i = 0; i < 4; i++) await one.step();
    one.clock.advance(60_001);
    const found = await one.until(verifying);
    assert.ok(found.ok && found.value.damagedBytes > 0, JSON.stringify(found));
    await one.close();
  });
});
