/**
 * Writes that an image keeps: what each invariant says, and what every operation does in every
 * state of the image.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { BLOCK_BYTES, PAGE_BYTES } from '../../src/cache/file-io.ts';
import { MemorySending, withBytes } from './memory-sending.ts';
import { MemorySource, settled } from './memory-source.ts';
import { imageFile, nextBoot, World, type WorldOptions } from './memory-world.ts';

const size = 4 * BLOCK_BYTES;

describe('a write that is kept', () => {
  it('is answered by the local disk alone, and read back', async () => {
    const world = await opened();
    await world.readNow(0, size);
    world.gate();
    const written = world.write(PAGE_BYTES, page(1));
    await world.untilExcept('WRITE', written);
    assert.equal(await written, 'kept');
    await world.readNow(0, BLOCK_BYTES);
    assert.equal(world.image.local?.unsent?.bytes, PAGE_BYTES);
    assert.deepEqual(sendingOf(world).writes, []);
    await ended(world);
  });

  it('of a whole page fetches nothing; of a part it fetches that page', async () => {
    const world = await opened();
    await world.writeNow(8 * PAGE_BYTES, page(1));
    assert.equal(world.source.fetches.length, 0);
    await world.writeNow(20 * PAGE_BYTES + 10, Buffer.alloc(100, 2));
    const { fetches } = world.source;
    assert.ok(fetches.every(({ offset }) => offset === 20 * PAGE_BYTES));
    await world.readNow(0, size);
    await ended(world);
  });

  it('equal to what is there dirties nothing', async () => {
    const world = await opened();
    await world.readNow(0, size);
    await world.writeNow(0, world.file.subarray(0, BLOCK_BYTES));
    assert.equal(world.content.map.dirtyPages, 0);
    const almost = Buffer.from(world.file.subarray(0, BLOCK_BYTES));
    almost.writeUInt8(255, 5 * PAGE_BYTES + 7);
    await world.writeNow(0, almost);
    assert.equal(world.content.map.dirtyPages, 1);
    await ended(world);
  });

  it('equal to what a killed daemon left half done is written again (C2)', async () => {
    const world = await opened();
    await world.readNow(0, size);
    await world.close();
    const disk = world.disk.afterKill();
    // The bytes of a write that was not acknowledged, without its mark.
    page(1).copy(disk.fileAt(world.imagePath('data')).bytes, PAGE_BYTES);
    const next = await successor(world, disk);
    await next.writeNow(PAGE_BYTES, page(1));
    assert.equal(next.content.map.dirtyMask(0), 2);
    await next.readNow(0, size);
    await next.writeBackNow();
    assert.ok(next.source.bytes.equals(next.file));
    await ended(next);
  });

  it('again to a dirty page writes no map', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    await world.writeNow(0, page(2));
    const { counts } = world.gated;
    const { write, overwrite } = counts;
    await world.writeNow(0, page(3));
    assert.equal(counts.overwrite, overwrite + 1);
    assert.equal(counts.write, write, 'a map was written');
    await ended(world);
  });

  it('of zeros behind the end of the server file sends only the size', async () => {
    const world = await opened();
    await world.writeNow(size + BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES));
    assert.equal(world.content.map.dirtyPages, 0);
    await world.writeBackNow();
    assert.deepEqual(sendingOf(world).writes, []);
    assert.equal(world.source.bytes.length, size + 2 * BLOCK_BYTES);
    await ended(world);
  });

  it('of zeros over what the server has is sent', async () => {
    const world = await opened();
    await world.writeNow(0, Buffer.alloc(PAGE_BYTES));
    await world.writeBackNow();
    assert.equal(sendingOf(world).writes.length, 1);
    await ended(world);
  });

  it('is there after a kill, with its size and mtime, and told (C3)', async () => {
    const world = await opened();
    await world.writeNow(size - 10, Buffer.alloc(100, 7));
    const { unsent } = world.image.local ?? {};
    const next = await successor(world, world.disk.afterKill());
    assert.equal(next.cache.recovered.length, 1);
    assert.equal(next.image.local?.unsent?.size, unsent?.size);
    assert.equal(next.image.local?.unsent?.mtimeNs, unsent?.mtimeNs);
    await next.readNow(0, next.file.length);
    await next.writeBackNow();
    assert.ok(next.source.bytes.equals(next.file));
    await ended(next);
  });

  it('that only makes the file longer is there after a kill, byte for byte (C3)', async () => {
    const world = await opened();
    const appends = async (bytes: Buffer, of: World) => {
      await of.writeNow(of.file.length, bytes);
      const next = await successor(of, of.disk.afterKill());
      assert.equal(next.image.local?.unsent?.size, of.file.length);
      await next.readNow(0, next.file.length);
      return next;
    };
    // A page becomes dirty; the same one again; zeros, of which nothing is to be sent but the size.
    const first = await appends(Buffer.alloc(10, 7), world);
    const second = await appends(Buffer.alloc(10, 8), first);
    const third = await appends(Buffer.alloc(PAGE_BYTES), second);
    await third.writeBackNow();
    assert.ok(third.source.bytes.equals(third.file));
    await ended(third);
  });

  it("is dropped unopened upon its owner's word, and not there for the next daemon", async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    const next = await successor(world, world.disk.afterKill(), { opens: false });
    assert.equal(next.cache.recovered.length, 1);
    assert.ok((await next.until(next.cache.discardLeft(imageFile))).ok);
    await next.close();
    const last = await successor(next, next.disk);
    assert.deepEqual(last.cache.recovered, []);
    assert.equal(last.image.local?.unsent, undefined);
    await last.close();
  });

  it('that was synced is there after a power loss (C3)', async () => {
    for (let chance = 0; chance < 10; chance++) {
      const world = await opened();
      await world.writeNow(3 * PAGE_BYTES, page(1));
      const synced = await world.until(world.image.local?.sync() ?? Promise.reject());
      assert.ok(synced.ok);
      const left = world.disk.afterPowerCut(() => chance / 10);
      const next = await successor(world, left, { bootId: nextBoot });
      await next.readNow(0, size);
      await ended(next);
    }
  });

  it('is not resent over what another wrote once all was sent, whatever the power does', async () => {
    for (let chance = 0; chance < 10; chance++) {
      const world = await opened();
      await world.writeNow(3 * PAGE_BYTES, page(1));
      assert.ok((await world.until(world.image.local?.sync() ?? Promise.reject())).ok);
      await world.writeBackNow();
      const { source } = world;
      sendingOf(world).through(3 * PAGE_BYTES, page(9));
      world.local = Buffer.from(source.bytes);
      const left = world.disk.afterPowerCut(() => chance / 10);
      const next = await successor(world, left, { bootId: nextBoot });
      assert.equal(next.image.local?.unsent, undefined);
      await next.readNow(0, size);
      assert.deepEqual(sendingOf(next).writes, []);
      await ended(next);
    }
  });

  it('goes with its page when the disk is damaged beside it (C4)', async () => {
    const world = await opened();
    await world.readNow(0, size);
    await world.writeNow(PAGE_BYTES, page(1));
    const { bytes } = world.disk.fileAt(world.imagePath('data'));
    bytes.writeUInt8((bytes[5 * PAGE_BYTES] ?? 0) ^ 1, 5 * PAGE_BYTES);
    await world.content.verification.checkAgain({ start: 0, end: 16 });
    assert.equal(world.content.map.mask(0), world.content.map.dirtyMask(0));
    assert.equal(world.content.map.dirtyMask(0), 2);
    await world.readNow(0, size);
    await ended(world);
  });

  it('stays when all that is clean is evicted (C4)', async () => {
    const world = await opened();
    await world.readNow(0, size);
    await world.writeNow(PAGE_BYTES, page(1));
    await world.image.evictClean();
    assert.equal(world.content.map.dirtyPages, 1);
    assert.equal(world.content.map.presentPages, BLOCK_BYTES / PAGE_BYTES);
    await world.readNow(0, size);
    await ended(world);
  });

  it('is not overwritten by a fill that was on its way (C4)', async () => {
    const world = await opened();
    world.source.snapshotAt = 'sent';
    world.gate();
    const read = world.read(0, BLOCK_BYTES);
    await settled();
    await world.untilExcept('fetch 0+65536', world.write(PAGE_BYTES, page(1)));
    await world.until(read);
    await world.run();
    await world.finishReplies();
    await world.readNow(0, BLOCK_BYTES);
    await ended(world);
  });

  it('keeps its closed image from being forgotten, or evicted', async () => {
    const world = await opened(size, { write: 'deferred' });
    await world.writeNow(0, page(1));
    const { fileId } = world.image;
    world.closeImage();
    world.clock.advance(100_000);
    await settled();
    const evicted = await world.cache.evict(fileId);
    assert.ok(!evicted.ok || evicted.value === 0);
    await world.openImage();
    assert.equal(world.image.local?.unsent?.bytes, PAGE_BYTES);
    await world.readNow(0, size);
    await ended(world);
  });
});

describe('what is being sent', () => {
  it('and written meanwhile stays dirty (C5)', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    world.gate();
    const sent = world.image.local?.writeBack();
    await stepUntil(world, /^WRITE/);
    await world.untilExcept('WRITE 0+4096', world.write(0, page(2)));
    sendingOf(world).appliedAt = 'answered';
    assert.ok((await world.until(sent ?? Promise.reject())).ok);
    await world.writeBackNow();
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });

  it('is sent again by a server that has lost it (C5)', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    world.gate();
    const sent = world.image.local?.writeBack();
    await stepUntil(world, /^COMMIT/);
    sendingOf(world).restart();
    assert.ok((await world.until(sent ?? Promise.reject())).ok);
    assert.ok(sendingOf(world).committed.equals(world.file));
    await ended(world);
  });

  it('behind a new end has come before the end is set, and is not sent again (C11)', async () => {
    const world = await opened();
    await world.writeNow(2 * BLOCK_BYTES, page(1));
    world.gate();
    const sent = world.image.local?.writeBack();
    await stepUntil(world, /^WRITE/);
    const begun = world.image.beginResize(BLOCK_BYTES);
    await stepBeside(world, /^WRITE/);
    assert.equal(await isDone(begun), false, 'the end is set before the WRITE has come');
    const change = await world.until(begun);
    cut(world, BLOCK_BYTES);
    await world.until(change.done());
    await world.until(sent ?? Promise.reject());
    await world.writeBackNow();
    assert.equal(world.source.bytes.length, BLOCK_BYTES);
    await ended(world);
  });

  it('is sent before a write of the same page goes through', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    const change = await world.until(world.image.beginWrite(10, 10));
    assert.equal(world.content.map.dirtyPages, 0);
    sendingOf(world).through(10, Buffer.alloc(10, 9));
    world.local = withBytes(world.file, 10, Buffer.alloc(10, 9));
    await world.until(change.done(Buffer.alloc(10, 9)));
    await world.readNow(0, size);
    await world.writeBackNow();
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });
});

describe('behind the end of the server file', () => {
  it('all is zeros, and nothing is fetched (C11)', async () => {
    const world = await opened(size - 100);
    await world.readNow(0, size - 100);
    await world.writeNow(size + BLOCK_BYTES + 10, Buffer.alloc(10, 1));
    world.source.fetches.length = 0;
    for (let at = 0; at < world.file.length; at += BLOCK_BYTES)
      await world.readNow(at, BLOCK_BYTES);
    assert.deepEqual(world.source.fetches, []);
    await ended(world);
  });

  it('what was cut off, and is written behind again, is zeros in between (C11)', async () => {
    const world = await opened();
    await world.readNow(0, size);
    const change = await world.until(world.image.beginResize(BLOCK_BYTES + 10));
    cut(world, BLOCK_BYTES + 10);
    await world.until(change.done());
    await world.writeNow(3 * BLOCK_BYTES, page(1));
    for (let at = 0; at < world.file.length; at += BLOCK_BYTES)
      await world.readNow(at, BLOCK_BYTES);
    await world.writeBackNow();
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });

  it('what is evicted after it was sent is fetched again', async () => {
    const world = await opened();
    await world.writeNow(size + BLOCK_BYTES, page(1));
    await world.writeBackNow();
    await world.image.evictClean();
    await world.readNow(size, 2 * BLOCK_BYTES);
    await ended(world);
  });

  it('a file does not get shorter by what the server says (C10)', async () => {
    const world = await opened(size, { session: 'shared' });
    await world.writeNow(size + PAGE_BYTES, page(1));
    await world.until(world.image.replace(world.source.attributesNow()));
    assert.equal(world.image.local?.unsent?.size, size + 2 * PAGE_BYTES);
    await ended(world);
  });
});

describe('where the disk is full (C7)', () => {
  it('a write goes through, after what is dirty of its pages', async () => {
    const world = await opened(size, { size: { bytes: 8 * PAGE_BYTES } });
    await world.writeNow(PAGE_BYTES, page(1));
    const outcome = await world.until(world.write(PAGE_BYTES, Buffer.alloc(BLOCK_BYTES, 2)));
    if (outcome === 'through') assert.equal(world.content.map.countDirty(1, 17), 0);
    else assert.equal(outcome, 'kept');
    await ended(world);
  });

  it('and says so, a write goes through', async () => {
    const world = await opened();
    world.gated.failing.set('overwrite', { errno: constants.errno.ENOSPC, times: 100 });
    assert.equal(await world.until(world.write(0, page(1))), 'through');
    world.gated.failing.clear();
    await ended(world);
  });

  it('a mark that cannot be written costs the write the way to the server', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    world.gated.failing.set('write', { errno: constants.errno.EIO, times: 1 });
    await world.writeNow(BLOCK_BYTES, page(2));
    assert.equal(sendingOf(world).writes.length, 2);
    assert.ok(sendingOf(world).committed.equals(world.file));
    await ended(world);
  });
});

describe('a conflict (C6)', () => {
  it('keeps what is ours, sends nothing, and is found again by the next daemon', async () => {
    const world = await inConflict();
    const sent = await world.until(world.image.local?.writeBack() ?? Promise.reject());
    assert.equal(sent.ok, false);
    assert.deepEqual(sendingOf(world).writes, []);
    const next = await successor(world, world.disk.afterKill());
    assert.equal(next.image.local?.unsent?.state, 'conflict');
    await next.close();
    await world.close();
  });

  it('decided for ours sends it, and keeps the rest of theirs', async () => {
    const world = await inConflict();
    assert.ok((await world.until(world.image.resolve('mine'))).ok);
    await world.writeBackNow();
    world.local = withBytes(Buffer.from(world.source.bytes), 0, page(1));
    await world.readNow(0, size);
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });

  it('decided for theirs drops ours', async () => {
    const world = await inConflict();
    assert.ok((await world.until(world.image.resolve('theirs'))).ok);
    assert.equal(world.image.local?.unsent, undefined);
    world.local = Buffer.from(world.source.bytes);
    await world.readNow(0, size);
    const next = await successor(world, world.disk.afterKill());
    assert.equal(next.image.local?.unsent, undefined);
    await next.close();
    await ended(world);
  });

  it('is none where the file has lost its last name: there is nothing to decide', async () => {
    const world = await opened();
    await world.writeNow(0, page(1));
    await world.until(
      world.image.replace({ ...world.source.attributesNow(), nlink: 0, ctimeNs: 9n }),
    );
    assert.equal(world.image.local?.unsent?.state, 'dirty');
    assert.equal(world.image.local?.unsent?.bytes, PAGE_BYTES);
    await world.close();
  });

  it('is none in a shared session: pages that are not dirty are theirs', async () => {
    const world = await opened(size, { session: 'shared' });
    await world.readNow(0, size);
    await world.writeNow(0, page(1));
    await othersChange(world);
    world.local = withBytes(Buffer.from(world.source.bytes), 0, page(1));
    await world.readNow(0, size);
    await world.writeBackNow();
    assert.ok(world.source.bytes.equals(world.file));
    await ended(world);
  });
});

// ---- Every operation in every state -----------------------------------------------------------------

const states = ['clean', 'dirty', 'sending', 'conflict', 'away', 'unmounting'] as const;
type State = (typeof states)[number];
type Operation = (world: World) => Promise<string>;

/** What is dirty in the table: page 1. The others of the first two blocks are present. */
const operations: Readonly<Record<string, Operation>> = {
  'read what is dirty': async (world) => {
    const before = world.source.fetches.length;
    if ((await world.read(PAGE_BYTES, PAGE_BYTES)) === 'failed') return 'failed';
    return world.source.fetches.length === before ? 'from the disk' : 'from the server';
  },
  'read what is absent': (world) => world.read(3 * BLOCK_BYTES, PAGE_BYTES),
  'write a page': (world) => world.write(PAGE_BYTES, page(5)),
  'write a part of a page': (world) => world.write(PAGE_BYTES + 10, Buffer.alloc(20, 6)),
  'write a part of an absent page': (world) => world.write(3 * BLOCK_BYTES + 10, page(6)),
  'write the same': (world) => world.write(2 * PAGE_BYTES, world.file.subarray(8192, 12288)),
  'write behind the end': (world) => world.write(size + BLOCK_BYTES, page(5)),
  sync: async ({ image }) => word(await image.local?.sync()),
  'write back': async ({ image }) => word(await image.local?.writeBack()),
  'let a write through': async ({ image }) => {
    await (await image.beginWrite(PAGE_BYTES, 10)).failed();
    return 'done';
  },
  cut: async ({ image }) => {
    await (await image.beginResize(0)).failed();
    return 'done';
  },
  evict: async ({ image }) => {
    await image.evictClean();
    return `${image.content?.map.dirtyPages ?? 0} dirty`;
  },
  'hold for the kernel': async ({ image }) => {
    const held = image.hold();
    if ('why' in held) return 'refused';
    held.release();
    return 'held';
  },
  'be told of another change': async ({ image, source }) => {
    await image.replace({ ...source.attributesNow(), mtimeNs: 5n });
    return image.local?.unsent?.state ?? 'replaced';
  },
  discard: async ({ image }) => {
    await image.local?.discard();
    return image.local?.unsent === undefined ? 'nothing unsent' : 'unsent';
  },
};

const table: Readonly<Record<string, Readonly<Record<State, string>>>> = {
  // What the server has is old once unsent writes were left behind for the next daemon.
  'read what is dirty': all('from the disk', { unmounting: 'failed' }),
  'read what is absent': all('read', { away: 'waits', unmounting: 'failed' }),
  'write a page': all('kept', { unmounting: 'failed' }),
  'write a part of a page': all('kept', { unmounting: 'failed' }),
  'write a part of an absent page': all('kept', { away: 'waits', unmounting: 'failed' }),
  'write the same': all('kept', { unmounting: 'failed' }),
  'write behind the end': all('kept', { unmounting: 'failed' }),
  sync: all('ok'),
  'write back': all('ok', {
    sending: 'waits',
    conflict: 'failed',
    away: 'waits',
    unmounting: 'failed',
  }),
  'let a write through': all('done', { sending: 'waits', away: 'waits' }),
  cut: all('done', { sending: 'waits' }),
  evict: all('1 dirty', { clean: '0 dirty', unmounting: '0 dirty' }),
  'hold for the kernel': all('refused'),
  'be told of another change': {
    clean: 'replaced',
    dirty: 'conflict',
    // A server that has lost WRITEs looks the same.
    sending: 'sending',
    conflict: 'conflict',
    away: 'conflict',
    unmounting: 'dirty',
  },
  discard: all('nothing unsent', { sending: 'waits', unmounting: 'unsent' }),
};

const heldBack: Partial<Record<State, RegExp>> = {
  sending: /^WRITE/,
  away: /^(WRITE|COMMIT|GETATTR|finish|fetch)/,
};

describe('what an operation does', () => {
  for (const [name, expected] of Object.entries(table)) {
    for (const state of states) {
      it(`${name}: ${state}`, async () => {
        const operation = operations[name];
        assert.ok(operation !== undefined);
        const world = await inState(state);
        const work = operation(world);
        await stepBeside(world, heldBack[state]);
        assert.equal((await isDone(work)) ? await work : 'waits', expected[state]);
        // Nothing hangs, and what was acknowledged is there.
        await world.until(work);
        await world.run();
        await world.finishReplies();
        if (state !== 'unmounting') await world.close();
        assert.equal(world.source.heldBytes, 0, 'memory of answers is held');
        assert.equal(world.disk.openFiles, 0, 'files are open');
      });
    }
  }
});

async function inState(state: State): Promise<World> {
  const world = await opened();
  await world.readNow(0, 2 * BLOCK_BYTES);
  if (state !== 'clean') await world.writeNow(PAGE_BYTES, page(1));
  if (state === 'conflict') await othersChange(world);
  world.gate();
  if (state === 'sending') {
    void world.image.local?.writeBack();
    await stepUntil(world, /^WRITE/);
  }
  if (state === 'unmounting') {
    await world.until(world.cache.close());
    await world.run();
  }
  return world;
}

function all(outcome: string, but: Partial<Record<State, string>> = {}): Record<State, string> {
  const same = Object.fromEntries(states.map((state) => [state, outcome]));
  return { ...(same as Record<State, string>), ...but };
}

function word(result: { readonly ok: boolean } | undefined): string {
  return result === undefined || result.ok ? 'ok' : 'failed';
}

// ---- Worlds -----------------------------------------------------------------------------------------

async function opened(bytes = size, options: WorldOptions = {}): Promise<World> {
  const source = new MemorySource(pattern(bytes));
  source.sending = new MemorySending(source);
  const local = Buffer.from(source.bytes);
  return World.open(source, { session: 'exclusive', write: 'back', ...options, local });
}

/** Another daemon, of the disk that the first one has left. */
async function successor(
  { source, file }: World,
  disk: NonNullable<WorldOptions['disk']>,
  options: WorldOptions = {},
): Promise<World> {
  const copy = source.copy();
  copy.sending = new MemorySending(copy);
  const local = Buffer.from(file);
  return World.open(copy, { session: 'exclusive', write: 'back', ...options, disk, local });
}

async function inConflict(): Promise<World> {
  const world = await opened();
  await world.readNow(0, size);
  await world.writeNow(0, page(1));
  await othersChange(world);
  assert.equal(world.image.local?.unsent?.state, 'conflict');
  return world;
}

async function othersChange(world: World): Promise<void> {
  sendingOf(world).through(2 * BLOCK_BYTES, page(99));
  await world.until(world.image.replace(world.source.attributesNow()));
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

function cut(world: World, to: number): void {
  sendingOf(world).resize(to);
  world.local = Buffer.from(world.file.subarray(0, to));
  world.changed();
}

/** Lets all go on until a gate of that name is there. */
async function stepUntil(world: World, what: RegExp): Promise<void> {
  for (let steps = 0; !world.gates.some((gate) => what.test(gate.what)); steps++) {
    assert.ok(steps < 1_000, `${what} does not come`);
    await world.step(
      Math.max(
        0,
        world.gates.findIndex((gate) => !what.test(gate.what)),
      ),
    );
  }
}

/** Opens all gates that are not of that name, until none comes for a while. */
async function stepBeside(world: World, what: RegExp | undefined): Promise<void> {
  for (let quiet = 0; quiet < 20; ) {
    const index = world.gates.findIndex((gate) => what?.test(gate.what) !== true);
    quiet = index < 0 ? quiet + 1 : 0;
    if (index < 0) await settled();
    else await world.step(index);
  }
}

async function isDone(work: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending');
  await settled();
  return (await Promise.race([work, Promise.resolve(pending)])) !== pending;
}

function page(of: number): Buffer {
  return Buffer.alloc(PAGE_BYTES, 200 + of);
}

/** Pages of the bytes 0 to 63. */
function pattern(count: number): Buffer {
  const bytes = Buffer.alloc(count);
  for (let at = 0; at < count; at += PAGE_BYTES) {
    bytes.fill((at / PAGE_BYTES) % 64, at, Math.min(at + PAGE_BYTES, count));
  }
  return bytes;
}
