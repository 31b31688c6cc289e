import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import type { FileHandle, HandleId } from '../../src/base/brand.ts';
import { BLOCK_BYTES, PAGE_BYTES } from '../../src/cache/file-io.ts';
import type { Image } from '../../src/cache/image.ts';
import { MAP_HEADER_BYTES, RECORD_BYTES } from '../../src/cache/map-file.ts';
import { MemorySource, settled } from './memory-source.ts';
import { firstReader, nextBoot, someone, World } from './memory-world.ts';

const { EIO, ENOSPC } = constants.errno;
const MiB = 1024 * 1024;
const secondReader = 2 as HandleId;

function fetchedBytes({ source }: World): number {
  return source.fetches.reduce((sum, { length }) => sum + length, 0);
}

async function world(sizeBytes: number): Promise<World> {
  return World.open(new MemorySource(randomBytes(sizeBytes)));
}

/** All of the file is in the cache and noted as that. */
async function whole(sizeBytes: number): Promise<World> {
  const made = await world(sizeBytes);
  for (let at = 0; at < sizeBytes; at += MiB) await made.readNow(at, MiB);
  await made.run();
  made.source.fetches.length = 0;
  return made;
}

/** The next daemon on the same disk. */
async function again(made: World, source = made.source): Promise<World> {
  await made.close();
  source.fetches.length = 0;
  return World.open(source, { disk: made.disk.afterKill() });
}

describe('a read', () => {
  it('fetches the pages that it asks for, and has them from the file the next time', async () => {
    const one = await world(MiB);
    await one.readNow(10 * PAGE_BYTES + 5, PAGE_BYTES);
    await one.readNow(10 * PAGE_BYTES, 2 * PAGE_BYTES);
    assert.deepEqual(one.source.fetches, [{ offset: 10 * PAGE_BYTES, length: 2 * PAGE_BYTES }]);
    assert.equal(one.cache.figures().counts.cacheBytes, 2 * PAGE_BYTES);
    await one.close();
  });

  it('of present pages is answered without a promise', async () => {
    const one = await whole(BLOCK_BYTES);
    const answer = one.image.read(someone, firstReader, 0, BLOCK_BYTES, BLOCK_BYTES);
    assert.ok(!(answer instanceof Promise) && answer.ok && answer.value.kind === 'file');
    answer.value.release();
    await one.close();
  });

  it('shares the fill that another has begun', async () => {
    const one = await world(MiB);
    one.gate();
    const reads = [1, 2, 3].map((reader) => one.read(0, BLOCK_BYTES, reader as HandleId));
    const inside = one.read(PAGE_BYTES, PAGE_BYTES, 4 as HandleId);
    await one.until(Promise.all([...reads, inside]));
    await one.run();
    assert.deepEqual(one.source.fetches, [{ offset: 0, length: BLOCK_BYTES }]);
    assert.equal(one.cache.figures().counts.waits, 3);
    await one.close();
  });

  it('is answered with what came before it is stored', async () => {
    const one = await world(MiB);
    one.gated.gates = one.gates;
    assert.equal(await one.read(0, BLOCK_BYTES), 'read');
    assert.deepEqual(
      one.gates.map(({ what }) => what),
      ['store'],
    );
    assert.equal(one.content.map.presentPages, 0);
    await one.run();
    assert.equal(one.content.map.presentPages, BLOCK_BYTES / PAGE_BYTES);
    await one.close();
  });

  it('has all gaps in flight at once, and is answered from the file', async () => {
    const one = await world(MiB);
    for (const page of [1, 4, 6]) await one.readNow(page * PAGE_BYTES, PAGE_BYTES);
    await one.run();
    one.source.fetches.length = 0;
    one.gate();
    const read = one.read(0, 8 * PAGE_BYTES);
    await settled();
    assert.deepEqual(
      one.source.fetches.map(({ offset, length }) => [offset / PAGE_BYTES, length / PAGE_BYTES]),
      [
        [0, 1],
        [2, 2],
        [5, 1],
        [7, 1],
      ],
    );
    await one.until(read);
    assert.equal(one.replies.length, 1);
    await one.close();
  });

  it('that fails tells its waiters, keeps nothing, and can be tried again', async () => {
    const one = await world(MiB);
    one.gate();
    one.source.failures = 1;
    const outcomes = [one.read(0, PAGE_BYTES), one.read(0, PAGE_BYTES, secondReader)];
    // The second did not ask itself: it does, and gets its bytes.
    assert.deepEqual(await one.until(Promise.all(outcomes)), ['failed', 'read']);
    await one.run();
    await one.until(one.read(0, PAGE_BYTES));
    assert.equal(one.content.map.presentPages, 1);
    await one.close();
  });

  it('of present pages needs no server (C8)', async () => {
    const one = await whole(2 * BLOCK_BYTES);
    const two = await again(one);
    two.source.failures = 1000;
    await two.readNow(0, 2 * BLOCK_BYTES);
    assert.equal(two.source.fetches.length, 0);
    await two.close();
  });

  it('beyond what the server has of the file is short, and marks only what came', async () => {
    const one = await world(MiB);
    one.gate();
    const read = one.read(0, BLOCK_BYTES);
    await settled();
    one.source.bytes = one.source.bytes.subarray(0, 2 * PAGE_BYTES + 100);
    one.changed();
    await one.until(read);
    await one.run();
    assert.equal(one.content.map.presentPages, 2);
    await one.close();
  });

  it('of a page that ends the file is of its bytes only', async () => {
    const one = await world(BLOCK_BYTES + 100);
    await one.readNow(BLOCK_BYTES, PAGE_BYTES);
    await one.run();
    await one.readNow(BLOCK_BYTES, PAGE_BYTES);
    assert.deepEqual(one.source.fetches, [{ offset: BLOCK_BYTES, length: 100 }]);
    await one.close();
  });
});

describe('what is marked and what is there', () => {
  it('a page is marked after its bytes are stored, and a killed daemon keeps it (C1)', async () => {
    const one = await world(4 * BLOCK_BYTES);
    one.gate();
    void one.read(0, BLOCK_BYTES);
    await settled();
    // At each step of the store the daemon may be killed.
    while (one.gates.length > 0) {
      await one.step();
      one.clock.advance(200);
      const next = await World.open(one.source.copy(), { disk: one.disk.afterKill() });
      await next.readNow(0, 4 * BLOCK_BYTES);
      assert.deepEqual(next.events, [], 'what was kept was damaged');
      await next.close();
    }
    assert.equal(one.content.map.presentPages, BLOCK_BYTES / PAGE_BYTES);
    await one.close();
  });

  it('marks are durably cleared before the bytes go, and at no time are holes believed (C1)', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    one.clock.advance(200);
    await one.content.sync();
    one.gate();
    const evicted = one.content.evictExtent(0);
    await settled();
    while (one.gates.length > 0) {
      for (const left of [
        { disk: one.disk.afterKill() },
        { disk: one.disk.afterPowerCut(() => 0.4), bootId: nextBoot },
      ]) {
        const next = await World.open(one.source.copy(), left);
        await next.readNow(0, 4 * BLOCK_BYTES);
        assert.deepEqual(next.events, [], 'what was kept was damaged');
        await next.close();
      }
      await one.step();
    }
    assert.equal(await evicted, 4 * BLOCK_BYTES);
    await one.close();
  });

  it('a flipped bit in data is seen at first use, told, and fetched again (C2)', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    await one.close();
    const disk = one.disk.afterKill();
    const { bytes } = disk.fileAt(one.imagePath('data'));
    const at = BLOCK_BYTES + 12_345;
    bytes.writeUInt8((bytes[at] ?? 0) ^ 4, at);
    one.source.fetches.length = 0;
    const two = await World.open(one.source, { disk });
    await two.readNow(0, 4 * BLOCK_BYTES);
    assert.deepEqual(two.events, [`damaged images/model.img ${BLOCK_BYTES} ${BLOCK_BYTES}`]);
    assert.equal(two.cache.figures().counts.damagedBlocks, 1);
    assert.equal(fetchedBytes(two), BLOCK_BYTES);
    await two.close();
  });

  it('a flipped bit in map is seen when it is read, and the block is fetched again (C2)', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    await one.close();
    const disk = one.disk.afterKill();
    const { bytes } = disk.fileAt(one.imagePath('map'));
    // The presence of pages of the second block.
    const at = MAP_HEADER_BYTES + RECORD_BYTES;
    bytes.writeUInt8((bytes[at] ?? 0) ^ 4, at);
    one.source.fetches.length = 0;
    const two = await World.open(one.source, { disk });
    await two.readNow(0, 4 * BLOCK_BYTES);
    assert.equal(fetchedBytes(two), BLOCK_BYTES);
    await two.close();
  });

  it('a block is checked once, not at each read', async () => {
    const one = await again(await whole(4 * BLOCK_BYTES));
    one.source.failures = 1;
    const { counts } = one.gated;
    for (let i = 0; i < 5; i++) await one.readNow(0, BLOCK_BYTES);
    assert.equal(counts.sums <= 2, true);
    await one.close();
  });

  it('a write into an unchecked block does not hide its damage (C2)', async () => {
    const one = await whole(2 * BLOCK_BYTES);
    await one.close();
    const disk = one.disk.afterKill();
    const { bytes } = disk.fileAt(one.imagePath('data'));
    bytes.writeUInt8((bytes[9 * PAGE_BYTES] ?? 0) ^ 1, 9 * PAGE_BYTES);
    const two = await World.open(one.source, { disk });
    await write(two, 3 * PAGE_BYTES, randomBytes(100));
    await two.readNow(0, 2 * BLOCK_BYTES);
    assert.equal(two.cache.figures().counts.damagedBlocks, 1);
    await two.close();
  });
});

/** A whole write, as the file system makes it. */
async function write(one: World, offset: number, bytes: Buffer): Promise<void> {
  const { source, image } = one;
  source.unknown = true;
  const change = await one.until(image.beginWrite(offset, bytes.length));
  const length = Math.max(source.bytes.length, offset + bytes.length);
  const next = Buffer.alloc(length);
  source.bytes.copy(next);
  bytes.copy(next, offset);
  source.bytes = next;
  one.changed();
  await one.until(change.done(bytes));
  source.unknown = false;
}

describe('a local write', () => {
  it('is in the pages that it covers, and in those that were present', async () => {
    const one = await world(MiB);
    await one.readNow(0, 2 * PAGE_BYTES);
    await one.run();
    // From the middle of a present page to the middle of an absent one.
    await write(one, PAGE_BYTES + 10, randomBytes(4 * PAGE_BYTES));
    one.source.fetches.length = 0;
    await one.readNow(0, 5 * PAGE_BYTES);
    assert.equal(one.source.fetches.length, 0);
    await one.readNow(5 * PAGE_BYTES, PAGE_BYTES, secondReader);
    assert.equal(fetchedBytes(one), PAGE_BYTES);
    await one.close();
  });

  it('makes what is on its way for its pages too old to be kept (C11)', async () => {
    const one = await world(MiB);
    one.source.snapshotAt = 'sent';
    one.source.gates = one.gates;
    const read = one.read(0, 4 * PAGE_BYTES);
    await settled();
    const [answer] = one.gates.splice(0);
    one.source.gates = undefined;
    await write(one, PAGE_BYTES, randomBytes(100));
    answer?.open();
    assert.equal(await read, 'read', 'who asked before gets an answer all the same');
    await one.run();
    assert.equal(one.content.map.isPresent(1, 2), false);
    await one.readNow(0, 4 * PAGE_BYTES);
    await one.close();
  });

  it('makes what is being stored for its pages too old to be kept (C11)', async () => {
    const one = await world(MiB);
    one.gated.gates = one.gates;
    assert.equal(await one.read(0, 4 * PAGE_BYTES), 'read');
    const change = one.image.beginWrite(0, 4 * PAGE_BYTES);
    const bytes = randomBytes(4 * PAGE_BYTES);
    bytes.copy(one.source.bytes);
    one.changed();
    const pending = await one.untilExcept('store', change);
    const done = pending.done(bytes);
    await settled();
    // The old bytes reach the file last, unless the order is kept.
    await one.step(one.gates.length - 1);
    await one.until(done);
    await one.run();
    await one.readNow(0, 4 * PAGE_BYTES);
    assert.deepEqual(one.events, []);
    await one.close();
  });

  it('that failed leaves its pages absent', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    const change = await one.until(one.image.beginWrite(PAGE_BYTES, 10));
    await one.until(change.failed());
    await one.readNow(0, BLOCK_BYTES);
    assert.ok(fetchedBytes(one) >= PAGE_BYTES);
    await one.close();
  });

  it('is noted durably before it is sent: a killed daemon leaves nothing that is believed', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    await one.until(one.image.settle());
    one.source.unknown = true;
    one.gated.gates = one.gates;
    await one.untilExcept('nothing', one.image.beginWrite(0, PAGE_BYTES));
    for (const left of [
      { disk: one.disk.afterKill() },
      { disk: one.disk.afterPowerCut(() => 0.99), bootId: nextBoot },
    ]) {
      const source = new MemorySource(Buffer.from(one.source.bytes));
      source.bytes.fill(7, 0, PAGE_BYTES);
      const next = await World.open(source, left);
      await next.readNow(0, BLOCK_BYTES);
      assert.equal(fetchedBytes(next), BLOCK_BYTES);
      await next.close();
    }
  });

  it('is believed again once it is settled', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    await write(one, 10, randomBytes(BLOCK_BYTES));
    await one.until(one.image.settle());
    const two = await again(one);
    await two.readNow(0, 4 * BLOCK_BYTES);
    assert.equal(fetchedBytes(two), 0);
    await two.close();
  });

  it('that makes the file longer leaves zeros in between', async () => {
    const one = await whole(BLOCK_BYTES + 10);
    await write(one, 3 * BLOCK_BYTES + 5, randomBytes(100));
    await one.readNow(0, 4 * BLOCK_BYTES);
    await one.run();
    await one.readNow(0, 4 * BLOCK_BYTES);
    assert.deepEqual(one.events, []);
    await one.close();
  });
});

describe('a local change of the size', () => {
  it('cuts no bytes that a reply still reads (C9)', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    assert.equal(await one.read(0, 4 * BLOCK_BYTES), 'read');
    const change = await one.until(one.image.beginResize(10));
    one.source.bytes = one.source.bytes.subarray(0, 10);
    one.changed();
    const done = change.done();
    await one.run();
    await one.finishReply(0);
    await one.until(done);
    assert.equal(one.content.map.sizeBytes, 10);
    await one.readNow(0, 10);
    await one.close();
  });
});

describe('replaced content', () => {
  it('is what reads get from then on; replies of the old one are what they were (C9)', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    assert.equal(await one.read(0, BLOCK_BYTES), 'read');
    const [reply] = one.replies;
    const old = Buffer.from(one.source.bytes.subarray(0, BLOCK_BYTES));
    one.source.bytes = randomBytes(3 * BLOCK_BYTES);
    one.source.version++;
    await one.until(one.image.replace(one.source.attributesNow()));
    await one.readNowBeside(0, 3 * BLOCK_BYTES);
    assert.ok(reply !== undefined);
    assert.ok(old.equals(await one.fileBytes(reply.fd, 0, BLOCK_BYTES)));
    await one.finishReplies();
    await one.close();
  });

  it('found at the next open of a file that nobody had open is begun anew', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    one.closeImage();
    one.source.bytes = randomBytes(4 * BLOCK_BYTES);
    one.source.version++;
    await one.openImage();
    await one.readNow(0, BLOCK_BYTES);
    assert.equal(fetchedBytes(one), BLOCK_BYTES);
    await one.close();
  });
});

describe('a failing disk', () => {
  it('costs a reader nothing but the way to the server, and recovers', async () => {
    const one = await world(MiB);
    one.gated.failing.set('store', { errno: EIO, times: 1 });
    await one.readNow(0, BLOCK_BYTES);
    await one.run();
    await one.readNow(0, BLOCK_BYTES);
    assert.equal(one.content.map.presentPages, 0);
    assert.deepEqual(one.events, ['disk healthy failing']);
    one.clock.advance(2_000);
    await settled();
    assert.deepEqual(one.events.at(-1), 'disk failing healthy');
    await one.readNow(0, BLOCK_BYTES);
    await one.run();
    assert.equal(one.content.map.presentPages, BLOCK_BYTES / PAGE_BYTES);
    await one.close();
  });

  it('that is slow costs a bounded amount of memory, and is waited for', async () => {
    const one = await World.open(new MemorySource(randomBytes(2 * MiB)), {
      maxBacklogBytes: 4 * BLOCK_BYTES,
    });
    one.gated.gates = one.gates;
    const late: Promise<unknown>[] = [];
    for (let at = 0; at < MiB; at += BLOCK_BYTES) {
      late.push(one.read(at, BLOCK_BYTES, (at + 1) as HandleId));
      await settled();
      assert.ok(one.source.heldBytes <= 5 * BLOCK_BYTES, `${one.source.heldBytes}`);
    }
    assert.equal(fetchedBytes(one), 4 * BLOCK_BYTES);
    for (let steps = 0; fetchedBytes(one) < MiB; steps++) {
      assert.ok(steps < 10_000, 'it does not go on');
      await one.step();
    }
    await Promise.all(late);
    await one.run();
    assert.equal(one.content.map.presentPages, MiB / PAGE_BYTES);
    await one.close();
  });

  it('that does not move at all is not waited for, and what is read then is not kept', async () => {
    const one = await World.open(new MemorySource(randomBytes(2 * MiB)), {
      maxBacklogBytes: 4 * BLOCK_BYTES,
    });
    one.gated.gates = one.gates;
    for (let at = 0; at < 4 * BLOCK_BYTES; at += BLOCK_BYTES) {
      await one.read(at, BLOCK_BYTES, (at + 1) as HandleId);
    }
    const waiting = one.read(MiB, BLOCK_BYTES);
    await settled();
    assert.equal(fetchedBytes(one), 4 * BLOCK_BYTES);
    one.clock.advance(2_000);
    assert.equal(await waiting, 'read');
    assert.equal(await one.read(MiB + BLOCK_BYTES, BLOCK_BYTES), 'read', 'at once, it is known');
    await one.run();
    assert.equal(one.content.map.presentPages, (4 * BLOCK_BYTES) / PAGE_BYTES);
    await one.close();
  });

  it('that is full keeps what it has', async () => {
    const one = await whole(2 * BLOCK_BYTES);
    const two = await again(one, new MemorySource(one.source.bytes));
    two.gated.failing.set('store', { errno: ENOSPC, times: 1 });
    await two.readNow(0, 2 * BLOCK_BYTES);
    assert.equal(fetchedBytes(two), 0);
    await two.close();
  });

  it('that cannot be read is answered for by the server', async () => {
    const one = await whole(2 * BLOCK_BYTES);
    assert.equal(await one.read(0, BLOCK_BYTES), 'read');
    await one.finishReply(0, EIO);
    await one.run();
    assert.equal(fetchedBytes(one), BLOCK_BYTES);
    assert.equal(one.content.map.isPresent(0, 16), false);
    await one.close();
  });
});

describe('hold', () => {
  it('gives out what is complete, checked and settled, and says why not else', async () => {
    const one = await world(4 * BLOCK_BYTES);
    assert.deepEqual(one.image.hold(), { why: 'not complete in the cache' });
    await one.readNow(0, 4 * BLOCK_BYTES);
    await one.run();
    const held = one.image.hold();
    assert.ok('fd' in held);
    assert.equal(await one.content.evictExtent(0), 0, 'a held image was evicted');
    held.release();
    const change = await one.until(one.image.beginWrite(0, 10));
    assert.deepEqual(one.image.hold(), { why: 'being written' });
    await one.until(change.failed());
    await one.close();
  });

  it('waits until all of a found image was checked, which goes on by itself', async () => {
    const one = await whole(40 * BLOCK_BYTES);
    const two = await again(one);
    assert.deepEqual(two.image.hold(), { why: 'not verified yet' });
    for (let i = 0; i < 20; i++) {
      two.clock.advance(1_000);
      await settled();
    }
    const held = two.image.hold();
    assert.ok('fd' in held, JSON.stringify(held));
    held.release();
    await two.close();
  });
});

describe('warming', () => {
  it('fetches what is absent once, and tells how far it is', async () => {
    const one = await world(3 * MiB + 5);
    await one.readNow(BLOCK_BYTES, BLOCK_BYTES);
    await one.run();
    const told: number[] = [];
    const outcome = await one.until(
      one.image.warm(
        { offset: 0, length: Number.MAX_SAFE_INTEGER },
        { as: someone, onProgress: (done) => told.push(done) },
      ),
    );
    assert.ok(outcome.ok);
    assert.equal(outcome.value.absentBytes, 0);
    assert.ok(one.content.map.complete);
    assert.equal(fetchedBytes(one), 3 * MiB + 5);
    assert.deepEqual(
      told,
      [...told].sort((a, b) => a - b),
    );
    await one.readNow(0, 3 * MiB + 5);
    await one.close();
  });

  it('stops when it is told to, and goes on where it was', async () => {
    const one = await world(8 * MiB);
    one.gate();
    const stop = new AbortController();
    const warming = one.image.warm(
      { offset: 0, length: 8 * MiB },
      { as: someone, signal: stop.signal },
    );
    await one.step();
    stop.abort();
    const outcome = await one.until(warming);
    assert.ok(!outcome.ok && outcome.error.errno === 'EINTR');
    await one.run();
    const more = one.image.warm({ offset: 0, length: 8 * MiB }, { as: someone });
    assert.ok((await one.until(more)).ok);
    assert.equal(fetchedBytes(one), 8 * MiB);
    await one.close();
  });
});

describe('warming near the limit', () => {
  const otherFile = Buffer.from('0f0f', 'hex') as FileHandle;

  /** A cache of `limitBytes` in which another file of 4 MiB is kept, closed or open. */
  async function crowded(sizeBytes: number, limitBytes: number, pinned = false): Promise<World> {
    const sizes = new Map<string, () => number>();
    const one = await World.open(new MemorySource(randomBytes(sizeBytes)), {
      size: { bytes: limitBytes },
      imageBytes: (id) => sizes.get(id)?.() ?? 0,
    });
    const { image } = one;
    sizes.set(image.fileId, () => image.report().presentBytes);
    const source = new MemorySource(randomBytes(4 * MiB));
    const content = { ...source.attributesNow(), fileid: 77n };
    const other = (await one.until(one.cache.open(otherFile, content, source))) as Image;
    sizes.set(other.fileId, () => other.report().presentBytes);
    const all = { offset: 0, length: 4 * MiB };
    const outcome = await one.until(other.warm(all, { as: someone }));
    assert.ok(outcome.ok, JSON.stringify(outcome));
    if (pinned) await one.until(other.setPinned(true));
    one.clock.advance(5_000);
    return one;
  }

  it('waits until colder ones are evicted, and has all in the end', async () => {
    const one = await crowded(6 * MiB, 8 * MiB);
    const all = { offset: 0, length: 6 * MiB };
    const outcome = await one.until(one.image.warm(all, { as: someone }));
    assert.ok(outcome.ok, JSON.stringify(outcome));
    assert.deepEqual([outcome.value.presentBytes, outcome.value.absentBytes], [6 * MiB, 0]);
    assert.ok(one.cache.figures().evicted.freedBytes > 0);
    await one.close();
  });

  it('fails with the numbers when nothing may go', async () => {
    const one = await crowded(6 * MiB, 8 * MiB, true);
    const all = { offset: 0, length: 6 * MiB };
    const outcome = await one.until(one.image.warm(all, { as: someone }));
    assert.ok(!outcome.ok && outcome.error.errno === 'ENOSPC', JSON.stringify(outcome));
    assert.match(
      outcome.error.message,
      /6 MiB wanted, the limit is 8 MiB, .* 4 MiB of them pinned/,
    );
    await one.close();
  });

  it('fails when the range is larger than the cache, soon after it is full', async () => {
    const one = await crowded(64 * MiB, 12 * MiB);
    const all = { offset: 0, length: 64 * MiB };
    const outcome = await one.until(one.image.warm(all, { as: someone }));
    assert.ok(!outcome.ok && outcome.error.errno === 'ENOSPC', JSON.stringify(outcome));
    assert.ok(fetchedBytes(one) < 40 * MiB, `${fetchedBytes(one)}`);
    await one.close();
  });
});

describe('figures', () => {
  it('are of bytes of the file, not of whole pages', async () => {
    const one = await world(6);
    await one.readNow(0, 6);
    await one.run();
    const all = { offset: 0, length: 6 };
    const warmed = await one.until(one.image.warm(all, { as: someone }));
    assert.ok(warmed.ok);
    const { presentBytes, absentBytes } = warmed.value;
    assert.deepEqual([presentBytes, absentBytes, one.image.report().presentBytes], [6, 0, 6]);
    const { fileId } = one.image;
    const verified = await one.until(one.cache.verify(fileId));
    assert.deepEqual(verified, { ok: true, value: { checkedBytes: 6, damagedBytes: 0 } });
    const listed = await one.until(one.cache.list());
    assert.ok(listed.ok);
    assert.deepEqual(
      listed.value.map((line) => [line.presentBytes, line.complete]),
      [[6, true]],
    );
    await one.close();
  });

  it('of the last page alone are of what lies in it', async () => {
    const one = await world(2 * PAGE_BYTES + 6);
    await one.readNow(2 * PAGE_BYTES, 6);
    await one.run();
    assert.equal(one.image.report().presentBytes, 6);
    const first = one.image.warm({ offset: 0, length: 1 }, { as: someone });
    const warmed = await one.until(first);
    assert.ok(warmed.ok);
    assert.deepEqual([warmed.value.presentBytes, warmed.value.absentBytes], [PAGE_BYTES, 0]);
    assert.equal(one.image.report().presentBytes, PAGE_BYTES + 6);
    await one.close();
  });
});

describe('reading ahead', () => {
  it('leaves random reads alone', async () => {
    const one = await world(8 * MiB);
    for (let i = 0; i < 200; i++) {
      await one.readNow(((i * 7919) % 2048) * PAGE_BYTES, PAGE_BYTES);
    }
    const { fetches } = one.source;
    assert.ok(fetches.every(({ length }) => length <= 4 * PAGE_BYTES));
    await one.close();
  });

  it('wastes at most a quarter on many short runs', async () => {
    const one = await world(16 * MiB);
    let read = 0;
    for (let run = 0; run < 32; run++) {
      const start = ((run * 5) % 32) * (MiB / 2);
      const length = (1 + (run % 10)) * 8 * PAGE_BYTES;
      for (let at = 0; at < length; at += 2 * PAGE_BYTES) {
        await one.readNow(start + at, 2 * PAGE_BYTES);
      }
      read += length;
    }
    await one.run();
    const waste = fetchedBytes(one) / read - 1;
    assert.ok(waste <= 0.25, `${waste} of what was read`);
    await one.close();
  });

  it('is forgotten when the reader goes away', async () => {
    const one = await world(16 * MiB);
    for (let at = 0; at < 4 * MiB; at += 128 * 1024) await one.readNow(at, 128 * 1024);
    await one.run();
    one.image.readerGone(firstReader);
    const before = fetchedBytes(one);
    await one.readNow(12 * MiB, PAGE_BYTES, secondReader);
    await one.run();
    assert.equal(fetchedBytes(one), before + PAGE_BYTES);
    const { counts } = one.cache.figures();
    assert.ok(counts.readAheadUnusedBytes > 0);
    await one.close();
  });

  it('follows many streams of one reader at once', async () => {
    const one = await world(32 * MiB);
    const chunk = 64 * 1024;
    for (let at = 0; at < MiB; at += chunk) {
      for (let stream = 0; stream < 16; stream++) await one.readNow(stream * 2 * MiB + at, chunk);
    }
    const { counts } = one.cache.figures();
    assert.ok(counts.readAheadUsedBytes > 16 * 0.3 * MiB, `${counts.readAheadUsedBytes}`);
    await one.close();
  });
});

describe('a closed cache', () => {
  it('answers every call, and leaves the disk alone', async () => {
    const one = await whole(4 * BLOCK_BYTES);
    const { image, cache, disk } = one;
    const change = await one.until(image.beginWrite(0, 10));
    await one.until(cache.close());
    const before = disk.effects;
    await change.done(Buffer.alloc(10));
    await (await image.beginWrite(0, 10)).failed();
    await image.replace(one.source.attributesNow());
    await image.settle();
    await one.readNow(0, BLOCK_BYTES);
    await cache.knowledge.save(Buffer.from('x'));
    await cache.open(image.file, one.source.attributesNow(), one.source);
    await cache.close();
    assert.equal(disk.effects, before);
    assert.equal(disk.openFiles, 0);
  });
});
