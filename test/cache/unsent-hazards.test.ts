/** Unsent writes where several things go wrong, or go on, at the same time. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { BlockMap } from '../../src/cache/block-map.ts';
import { fileIdOf } from '../../src/cache/file-id.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES } from '../../src/cache/file-io.ts';
import type { PathIo } from '../../src/cache/path-io.ts';
import { MemorySending, withBytes } from './memory-sending.ts';
import { MemorySource, settled } from './memory-source.ts';
import { imageFile, nextBoot, World, type WorldOptions } from './memory-world.ts';
import { PaperDisk } from './paper-disk.ts';

const { ENOSPC, EROFS } = constants.errno;
const size = 4 * BLOCK_BYTES;
const TIB = 2 ** 40;

describe('a disk that takes nothing more', () => {
  it('hides no unsent writes from the next daemon: the file fails until they can be read', async () => {
    const world = await opened();
    await world.writeNow(PAGE_BYTES, page(1));
    assert.ok((await world.until(world.image.local?.sync() ?? Promise.reject())).ok);
    const left = world.disk.afterPowerCut(() => 0.999);
    const full = refusing(left, /map\.new$/, ENOSPC);
    const next = await successor(world, left, { bootId: nextBoot });
    assert.equal(next.image.local?.unsent?.bytes, PAGE_BYTES);
    assert.equal(next.image.local?.unsent?.size, size);
    assert.equal(await next.until(next.read(PAGE_BYTES, PAGE_BYTES)), 'failed');
    assert.equal(await next.until(next.write(PAGE_BYTES, page(2))), 'failed');
    full.isOn = false;
    next.clock.advance(120_000);
    await next.run();
    await next.readNow(0, size);
    await next.writeBackNow();
    assert.ok(next.source.bytes.equals(next.file));
    await ended(next);
  });

  it('does not keep what is dirty from being sent, and it is noted later', async () => {
    const disk = new PaperDisk();
    const refused = refusing(disk, /info\.new$/, EROFS);
    refused.isOn = false;
    const world = await opened(size, { disk });
    await world.writeNow(PAGE_BYTES, page(1));
    refused.isOn = true;
    await world.until(world.image.local?.writeBack() ?? Promise.reject());
    assert.ok(sendingOf(world).committed.equals(world.file), 'it was not sent');
    assert.equal(world.image.local?.unsent?.bytes, 0);
    await world.readNow(0, size);
    refused.isOn = false;
    world.clock.advance(120_000);
    await world.run();
    await world.writeBackNow();
    assert.equal(world.image.local?.unsent, undefined);
    await ended(world);
  });
});

describe('success of a write-back', () => {
  it('means that no power loss and no kill resends it, beside other changes too (W11)', async () => {
    for (const how of ['power', 'kill'] as const) {
      const world = await opened(size, { session: 'shared' });
      await world.writeNow(3 * PAGE_BYTES, page(1));
      assert.ok((await world.until(world.image.local?.sync() ?? Promise.reject())).ok);
      const change = await world.until(world.image.beginWrite(3 * BLOCK_BYTES, PAGE_BYTES));
      await world.writeBackNow();
      const { source } = world;
      sendingOf(world).through(3 * PAGE_BYTES, page(9));
      world.local = Buffer.from(source.bytes);
      const left = how === 'power' ? world.disk.afterPowerCut(() => 0.999) : world.disk.afterKill();
      const bootId = how === 'power' ? { bootId: nextBoot } : {};
      const next = await successor(world, left, { session: 'shared', ...bootId });
      await next.writeBackNow();
      assert.deepEqual(sendingOf(next).writes, [], how);
      await next.readNow(0, size);
      await ended(next);
      await world.until(change.failed());
      await ended(world);
    }
  });
});

describe('a discard', () => {
  it('of what a killed daemon left before any sync drops it, and nothing else', async () => {
    const world = await opened();
    await world.writeNow(PAGE_BYTES, page(1));
    const next = await successor(world, world.disk.afterKill());
    await next.until(next.image.local?.discard() ?? Promise.reject());
    next.local = Buffer.from(next.source.bytes);
    assert.equal(next.cache.figures().disk.state, 'healthy');
    assert.deepEqual(
      next.events.filter((event) => /failure|disk|setAside/.test(event)),
      [],
    );
    const lost = await next.disk.paths.list(`${next.cache.directory}/.lost`);
    assert.deepEqual(lost.names, []);
    await next.readNow(0, size);
    await ended(next);
  });
});

describe('behind the end of the server file', () => {
  it('what was sent while another change was taken in is not taken for zeros', async () => {
    const world = await opened(size, { session: 'shared' });
    await world.writeNow(size + PAGE_BYTES, page(1));
    world.gate();
    const sent = world.image.local?.writeBack() ?? Promise.reject();
    await stepUntil(world, /^COMMIT/);
    // As it was before the WRITE was done, seen late.
    const before = { ...world.source.attributesNow(), size };
    const leave = await world.content.lane.enter({ start: 0, end: 1 });
    const told = Promise.all([world.image.replace(before), world.image.replace(before)]);
    await stepBeside(world, /^finish|^GETATTR/);
    leave();
    let isTold = false;
    void told.then(() => {
      isTold = true;
    });
    await stepBeside(world, /^finish|^GETATTR/);
    assert.ok(isTold);
    const read = world.read(size + PAGE_BYTES, PAGE_BYTES);
    await stepBeside(world, /^finish|^GETATTR/);
    assert.equal(await read, 'read');
    await world.until(sent);
    await world.readNow(size + PAGE_BYTES, PAGE_BYTES);
    await ended(world);
  });

  it('what a killed daemon had sent is not zeros, whoever takes the image up first', async () => {
    const world = await opened();
    await world.writeNow(size + PAGE_BYTES, page(1));
    world.gate();
    void world.image.local?.writeBack();
    await stepUntil(world, /^finish/);
    // Its marks reach the live map.
    world.clock.advance(200);
    await stepBeside(world, /^finish/);
    assert.equal(world.content.map.dirtyPages, 0);
    const next = await successor(world, world.disk.afterKill());
    next.closeImage();
    await next.until(next.cache.close());
    // Of a file that nobody has opened the disk tells the size, which is old.
    const third = await successor(next, next.disk.afterKill(), { opens: false });
    await third.until(third.cache.setPinned(fileIdOf(imageFile), true));
    await third.openImage();
    await third.readNow(size + PAGE_BYTES, PAGE_BYTES);
    await ended(third);
    await world.run();
    await ended(world);
  });

  it('zeros that a program writes in a shared session are sent over what another has put there', async () => {
    const world = await opened(size, { session: 'shared' });
    sendingOf(world).through(size, Buffer.alloc(2 * BLOCK_BYTES, 77));
    // Unseen yet by this host, which has the file open.
    const zeros = Buffer.alloc(PAGE_BYTES);
    await world.writeNow(size + PAGE_BYTES, zeros);
    await world.until(world.image.replace(world.source.attributesNow()));
    world.local = withBytes(world.source.bytes, size + PAGE_BYTES, zeros);
    await world.readNow(size, BLOCK_BYTES);
    await world.writeBackNow();
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });
});

describe('a very large image', () => {
  it('loses its clean pages without a walk over all that is absent', async () => {
    const disk = new PaperDisk();
    const { io } = disk;
    // Of its files what is far away is not made.
    const truncate: FileIo['truncate'] = (fd, bytes) => io.truncate(fd, Math.min(bytes, 1 << 24));
    Object.defineProperty(disk, 'io', { value: { ...io, truncate } });
    const world = await opened(size, { session: 'shared', disk });
    await world.writeNow(0, page(1));
    const { content } = world;
    await world.until(content.grow(2 * TIB));
    const before = performance.now();
    await world.until(content.dropClean());
    // Minutes, or no end at all, if each block were looked at.
    assert.ok(performance.now() - before < 60_000);
    assert.equal(content.map.dirtyPages, 1);
    await world.until(world.image.local?.discard() ?? Promise.reject());
    await ended(world);
  });

  it('counts all its pages without a walk', () => {
    const map = new BlockMap(TIB);
    map.makeDirty(2 ** 24 - 1, 0x8000, 0);
    map.makeDirty(0, 1, 0);
    const before = performance.now();
    for (let i = 0; i < 20_000; i++) assert.equal(map.dirtyBytes(), 2 * PAGE_BYTES);
    assert.ok(performance.now() - before < 2_000);
  });
});

// ---- Worlds -----------------------------------------------------------------------------------------

async function opened(bytes = size, options: WorldOptions = {}): Promise<World> {
  const source = new MemorySource(Buffer.alloc(bytes, 33));
  source.sending = new MemorySending(source);
  const local = Buffer.from(source.bytes);
  return World.open(source, { session: 'exclusive', write: 'back', ...options, local });
}

/** Another daemon, of the disk that the first one has left. */
async function successor(
  { source, file }: World,
  disk: PaperDisk,
  options: WorldOptions = {},
): Promise<World> {
  const copy = source.copy();
  copy.sending = new MemorySending(copy);
  const local = Buffer.from(file);
  return World.open(copy, { session: 'exclusive', write: 'back', ...options, disk, local });
}

/** Makes the disk refuse to make files of that name, as long as `isOn`; for a cache yet to open. */
function refusing(disk: PaperDisk, name: RegExp, errno: number): { isOn: boolean } {
  const { paths } = disk;
  const refusal = { isOn: true };
  const open: PathIo['open'] = (path, how) =>
    how === 'empty' && name.test(path) && refusal.isOn
      ? Promise.resolve({ errno, fd: -1 })
      : paths.open(path, how);
  Object.defineProperty(disk, 'paths', { value: { ...paths, open } });
  return refusal;
}

async function ended(world: World): Promise<void> {
  await world.run();
  await world.close();
  assert.equal(world.source.heldBytes, 0, 'memory of answers is held');
  assert.equal(world.disk.openFiles, 0, 'files are open');
}

function sendingOf(world: World): MemorySending {
  const { sending } = world.source;
  assert.ok(sending instanceof MemorySending);
  return sending;
}

/** Lets all go on until a gate of that name is there. */
async function stepUntil(world: World, what: RegExp): Promise<void> {
  for (let steps = 0; !world.gates.some((gate) => what.test(gate.what)); steps++) {
    assert.ok(steps < 1_000, `${what} does not come`);
    const other = world.gates.findIndex((gate) => !what.test(gate.what));
    await world.step(Math.max(0, other));
  }
}

/** Opens all gates that are not of that name, until none comes for a while. */
async function stepBeside(world: World, what: RegExp): Promise<void> {
  for (let quiet = 0; quiet < 20; ) {
    const index = world.gates.findIndex((gate) => !what.test(gate.what));
    quiet = index < 0 ? quiet + 1 : 0;
    if (index < 0) await settled();
    else await world.step(index);
  }
}

function page(of: number): Buffer {
  return Buffer.alloc(PAGE_BYTES, 200 + of);
}
