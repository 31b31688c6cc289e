import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import { refusing } from './paper-server.ts';
import { assertSent, MiB, pagesOf, World } from './world.ts';

const someoneElse = { uid: 2000, gid: 2000, groups: [5] };

describe('write-back of an image', () => {
  it('is done when the server has pages, size and mtime durably', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 3, 1);
    world.write(image, 100, 300, 2);
    image.grow(500 * PAGE_BYTES + 17);
    const result = await world.writeBack(image);
    assert.deepEqual(result, { ok: true, value: { sentBytes: 303 * PAGE_BYTES } });
    assertSent(image);
    assert.equal(image.ends, 1);
    assert.deepEqual(world.told, [`image-1 written back ${303 * PAGE_BYTES}`, 'image-1 clean']);
    assert.equal(world.engine.figures().dirtyBytes, 0);
    assert.equal(world.engine.figures().dirtyImages, 0);
  });

  it('asks the server nothing when nothing is unsent', async () => {
    const world = new World();
    const image = world.image();
    assert.ok((await world.writeBack(image)).ok);
    assert.deepEqual(image.sending.calls, []);
  });

  it('clips the last page to the size, and sends runs of at most writeMax', async () => {
    const world = new World();
    const image = world.image(2 * PAGE_BYTES);
    image.write(PAGE_BYTES, Buffer.alloc(4 * PAGE_BYTES + 1, 7));
    assert.ok((await world.writeBack(image)).ok);
    const writes = image.sending.calls.filter(({ name }) => name === 'write');
    const lengths = writes.map(({ offset, length }) => [offset / PAGE_BYTES, length]);
    assert.deepEqual(lengths, [
      [1, 2 * PAGE_BYTES],
      [3, 2 * PAGE_BYTES],
      [5, 1],
    ]);
    assertSent(image);
  });

  it('goes on after a short WRITE where it ended', async () => {
    const world = new World();
    const image = world.image();
    image.sending.fate = ({ length }) => ({ shortBytes: Math.ceil(length / 3) });
    world.write(image, 0, 16, 1);
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('takes a count that cannot be for a failure', async () => {
    const world = new World();
    const image = world.image();
    image.sending.fate = () => ({ shortBytes: 0 });
    world.write(image, 0, 1, 1);
    const result = await world.writeBack(image);
    assert.ok(!result.ok && result.error.code === 'PROTOCOL');
    assert.equal(image.dirtyBytes, PAGE_BYTES);
    assert.equal(image.unknownEnds, 1);
  });

  it('needs no COMMIT for what was answered as stable', async () => {
    for (const committed of ['fileSync', 'dataSync'] as const) {
      const world = new World();
      const image = world.image();
      image.sending.fate = () => ({ committed });
      world.write(image, 0, 100, 1);
      assert.ok((await world.writeBack(image)).ok);
      assert.equal(image.sending.countOf('commit'), 0);
      assertSent(image);
    }
  });

  it('commits in batches while more goes out', async () => {
    const world = new World();
    const image = world.image();
    image.sending.delayMs = ({ name }) => (name === 'commit' ? 50 : 2);
    world.write(image, 0, (80 * MiB) / PAGE_BYTES, 1);
    let writesAtCommit = 0;
    let isBesideCommit = false;
    image.sending.fate = ({ name }) => {
      const writes = image.sending.countOf('write');
      if (name === 'commit') writesAtCommit = writes;
      else if (writesAtCommit > 0 && writes > writesAtCommit) isBesideCommit = true;
      return {};
    };
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
    assert.ok(isBesideCommit);
    assert.ok(world.engine.figures().commits > 2, `${world.engine.figures().commits} COMMITs`);
  });

  it('does not run far ahead of a server that is slow to commit', async () => {
    const world = new World();
    const image = world.image();
    image.sending.delayMs = ({ name }) => (name === 'commit' ? 10_000 : 2);
    world.write(image, 0, (320 * MiB) / PAGE_BYTES, 1);
    const sentAtCommits: number[] = [];
    image.sending.fate = ({ name }) => {
      if (name === 'commit') sentAtCommits.push(image.sending.countOf('write'));
      return {};
    };
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
    const [first, second] = sentAtCommits;
    assert.ok(first !== undefined && second !== undefined);
    // In WRITEs of at most 1 MiB.
    assert.ok(second - first < 200, `${second - first} WRITEs until the first COMMIT was answered`);
  });

  it('sends again what a restarted server has lost', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    world.write(image, 0, 50, 1);
    let restarts = 0;
    image.sending.fate = ({ name }) => {
      if (name === 'commit' && restarts++ === 0) image.sending.restart();
      return {};
    };
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
    assert.equal(world.engine.figures().lostBytes, 50 * PAGE_BYTES);
    assert.equal(image.sending.countOf('write'), 100);
  });

  it('sends again a run of which a restarted server has lost the first half', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 8, 1);
    let writes = 0;
    image.sending.fate = ({ name }) => {
      if (name !== 'write') return {};
      if (++writes === 2) image.sending.restart();
      return { shortBytes: 4 * PAGE_BYTES };
    };
    assert.ok((await world.writeBack(image)).ok);
    assert.equal(writes, 4);
    assertSent(image);
  });

  it('gives up on a server whose verifier changes with every answer', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 5, 1);
    image.sending.fate = () => {
      image.sending.restart();
      return {};
    };
    const result = await world.writeBack(image);
    assert.ok(!result.ok && result.error.errno === 'EIO');
    assert.equal(image.dirtyBytes, 5 * PAGE_BYTES);
    image.sending.fate = () => ({});
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('leaves dirty what is written while it is sent, and is done with what it was', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 10, 1);
    let writes = 0;
    image.sending.fate = ({ name }) => {
      // Again and again: it does not become endless.
      if (name === 'write' || name === 'commit') world.write(image, 3, 1, 100 + writes++);
      return {};
    };
    assert.ok((await world.writeBack(image)).ok);
    assert.equal(image.dirtyBytes, PAGE_BYTES);
    assert.ok(image.sending.durablePage(9).equals(pagesOf(10, 1).subarray(9 * PAGE_BYTES)));
    image.sending.fate = () => ({});
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('makes the file as long as it was at the call even if pages are dirty again', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 1, 1);
    image.grow(40 * PAGE_BYTES);
    image.sending.fate = ({ name }) => {
      if (name === 'write') world.write(image, 0, 1, 2);
      return {};
    };
    assert.ok((await world.writeBack(image)).ok);
    assert.equal(image.sending.durable().length, 40 * PAGE_BYTES);
  });

  it('answers a command that comes in the middle only after a sweep of its own', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 10;
    world.write(image, 0, 4000, 1);
    const first = world.engine.writeBack(image);
    await world.wait(40);
    assert.ok(image.sending.countOf('write') > 0);
    // Behind the sweep, and of a run that is on the wire.
    world.write(image, 0, 1, 2);
    const second = world.engine.writeBack(image);
    assert.ok((await world.clock.until(second)).ok);
    assert.ok((await first).ok);
    assertSent(image);
  });

  it('does a range first, without size and mtime', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 6000, 1);
    const all = world.engine.writeBack(image);
    await world.wait(60);
    const sentBefore = image.sending.countOf('write');
    assert.ok(sentBefore > 0);
    const range = await world.clock.until(
      world.engine.writeBackRange(image, { start: 5000, end: 5010 }),
    );
    assert.deepEqual(range, { ok: true, value: { sentBytes: 10 * PAGE_BYTES } });
    assert.ok(image.sending.durablePage(5009).readUInt32LE(0) === 1);
    assert.ok(image.sending.countOf('write') < 3000, 'it waited for the rest');
    assert.equal(image.sending.countOf('finish'), 0);
    assert.ok((await world.clock.until(all)).ok);
    assert.equal(image.sending.countOf('write'), 6000);
    assertSent(image);
  });

  it('tells how far it is', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, (100 * MiB) / PAGE_BYTES, 1);
    const sent: number[] = [];
    const onProgress = ({ sentBytes, leftBytes }: { sentBytes: number; leftBytes: number }) => {
      assert.equal(sentBytes + leftBytes, 100 * MiB);
      sent.push(sentBytes);
    };
    assert.ok((await world.clock.until(world.engine.writeBack(image, { onProgress }))).ok);
    assert.ok(sent.length > 2);
    assert.equal(sent.at(-1), 100 * MiB);
  });

  it('ends at once for a caller that waits no more, and in order for the image', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 6000, 1);
    const abort = new AbortController();
    const result = world.engine.writeBack(image, { signal: abort.signal });
    await world.wait(70);
    abort.abort();
    const answer = await world.clock.until(result);
    assert.ok(!answer.ok && answer.error.errno === 'EINTR');
    await world.wait(1_000);
    assert.equal(image.ends, 1);
    assert.equal(image.takenRuns, 0);
    assert.ok(image.sending.countOf('write') < 6000);
    assert.equal(image.dirtyBytes, (6000 - image.sending.countOf('write')) * PAGE_BYTES);
  });

  it('goes on for one caller when another waits no more', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 10, 1);
    const abort = new AbortController();
    const gone = world.engine.writeBack(image, { signal: abort.signal });
    const waiting = world.engine.writeBack(image);
    abort.abort();
    assert.ok(!(await world.clock.until(gone)).ok);
    assert.ok((await world.clock.until(waiting)).ok);
    assertSent(image);
    const late = world.engine.writeBack(image, { signal: abort.signal });
    assert.ok((await world.clock.until(late)).ok, 'nothing is unsent');
  });
});

describe('a failure of the server', () => {
  const errors = ['NFS3ERR_NOSPC', 'NFS3ERR_DQUOT', 'NFS3ERR_ROFS', 'NFS3ERR_IO'] as const;
  for (const error of errors) {
    it(`${error} keeps the pages, is told, and is tried again by itself`, async () => {
      const world = new World({ mode: 'back' });
      const image = world.image();
      world.write(image, 0, 10, 1);
      image.sending.fate = ({ name }) => (name === 'write' ? { error } : {});
      const result = await world.writeBack(image);
      assert.ok(!result.ok && result.error.code === error);
      assert.equal(image.failures.length, 1);
      assert.equal(image.dirtyBytes, 10 * PAGE_BYTES);
      assert.equal(image.ends, 1);
      const [failure] = world.engine.figures().failures;
      assert.equal(failure?.error.code, error);
      assert.ok(failure?.retryInMs !== undefined && failure.retryInMs > 0);
      assert.deepEqual(world.told, [`image-1 failed ${10 * PAGE_BYTES} ${error}, again`]);
      await world.wait(60_000);
      const tries = image.failures.length;
      assert.ok(tries >= 3 && tries < 10, `${tries} tries in a minute`);
      image.sending.fate = () => ({});
      await world.wait(600_000);
      assertSent(image);
      assert.deepEqual(world.engine.figures().failures, []);
    });
  }

  it('with mode deferred nothing is tried again by itself', async () => {
    const world = new World({ mode: 'deferred' });
    const image = world.image();
    world.write(image, 0, 10, 1);
    image.sending.fate = ({ name }) => (name === 'write' ? { error: 'NFS3ERR_NOSPC' } : {});
    assert.ok(!(await world.writeBack(image)).ok);
    await world.wait(600_000);
    assert.equal(image.failures.length, 1);
    assert.deepEqual(world.told, [`image-1 failed ${10 * PAGE_BYTES} NFS3ERR_NOSPC`]);
  });

  it('ESTALE is not tried again before somebody says so', async () => {
    const world = new World({ mode: 'back' });
    const image = world.image();
    world.write(image, 0, 10, 1);
    image.sending.fate = () => ({ error: 'NFS3ERR_STALE' });
    assert.ok(!(await world.writeBack(image)).ok);
    world.write(image, 0, 10, 2);
    await world.wait(3_600_000);
    assert.equal(image.sending.calls.length, 1);
    image.sending.fate = () => ({});
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('EACCES: others who wrote to the file are asked', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.otherCallers = [image.as, someoneElse];
    image.sending.fate = refusing([someoneElse]);
    world.write(image, 0, 30, 1);
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('EACCES for everybody is a failure', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.otherCallers = [someoneElse];
    image.sending.fate = refusing([]);
    world.write(image, 0, 30, 1);
    const result = await world.writeBack(image);
    assert.ok(!result.ok && result.error.errno === 'EACCES');
    assert.equal(image.dirtyBytes, 30 * PAGE_BYTES);
  });

  it('of one spot of the file does not keep the rest from the server', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    world.write(image, 0, 100, 1);
    image.sending.fate = ({ name, offset }) =>
      name === 'write' && offset === 7 * PAGE_BYTES ? { error: 'NFS3ERR_IO' } : {};
    assert.ok(!(await world.writeBack(image)).ok);
    assert.equal(image.dirtyBytes, PAGE_BYTES);
    assert.equal(image.sending.countOf('write'), 100);
    assert.equal(image.unknownEnds, 0);
  });

  it('of COMMIT: all of it is sent again', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 100, 1);
    image.sending.fate = ({ name }) => (name === 'commit' ? { error: 'NFS3ERR_IO' } : {});
    assert.ok(!(await world.writeBack(image)).ok);
    assert.equal(image.dirtyBytes, 100 * PAGE_BYTES);
    image.sending.fate = () => ({});
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('of GETATTR or SETATTR: not done, and nothing is forgotten', async () => {
    for (const name of ['look', 'finish'] as const) {
      const world = new World();
      const image = world.image();
      world.write(image, 0, 2, 1);
      image.sending.fate = (call) => (call.name === name ? { error: 'NFS3ERR_ROFS' } : {});
      const result = await world.writeBack(image);
      assert.ok(!result.ok && result.error.errno === 'EROFS');
      assert.ok(image.hasUnsentAttributes);
      image.sending.fate = () => ({});
      assert.ok((await world.writeBack(image)).ok);
      assertSent(image);
    }
  });

  it('whose outcome nobody knows: what the server has is not taken for ours', async () => {
    const world = new World();
    const image = world.image();
    world.write(image, 0, 2, 1);
    image.sending.fate = ({ name }) => (name === 'write' ? { error: 'RPC_TIMEOUT' } : {});
    assert.ok(!(await world.writeBack(image)).ok);
    assert.equal(image.unknownEnds, 1);
    assert.equal(image.isResting, false);
    image.sending.fate = () => ({});
    assert.ok((await world.writeBack(image)).ok);
    assertSent(image);
  });

  it('of the cache disk: pages that cannot be read stay dirty, the others are sent', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    world.write(image, 0, 20, 1);
    image.unreadable = ({ range }) => range.start === 4;
    assert.ok(!(await world.writeBack(image)).ok);
    assert.equal(image.dirtyBytes, PAGE_BYTES);
  });
});

describe('a conflict', () => {
  it('sends nothing until it is resolved', async () => {
    const world = new World({ mode: 'back' });
    const image = world.image();
    world.write(image, 0, 10, 1);
    image.conflicts = true;
    assert.ok(!(await world.writeBack(image)).ok);
    world.write(image, 0, 10, 2);
    await world.wait(3_600_000);
    assert.equal(image.sending.countOf('write'), 0);
    assert.deepEqual(world.told, ['image-1 conflict']);
    image.conflicts = false;
    image.inConflict = false;
    world.engine.changed(image);
    await world.wait(31_000);
    assertSent(image);
  });
});

describe('a conflict that is seen while the image is sent', () => {
  it('ends the sending', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 6000, 1);
    const all = world.engine.writeBack(image);
    await world.wait(60);
    image.conflicts = true;
    image.inConflict = true;
    const sent = image.sending.countOf('write');
    assert.ok(!(await world.clock.until(all)).ok);
    assert.equal(image.sending.countOf('write'), sent);
    assert.deepEqual(world.told.at(-1), 'image-1 conflict');
  });
});

describe('an image that gives out no page', () => {
  it('does not pass for one that is sent', async () => {
    const world = new World({ mode: 'back' });
    const image = world.image();
    world.write(image, 0, 10, 1);
    image.gives = false;
    const result = await world.writeBack(image);
    assert.ok(!result.ok && result.error.errno === 'EAGAIN');
    image.gives = true;
    await world.wait(2_000);
    assertSent(image);
  });
});

describe('by itself', () => {
  it('sends what is old enough, once', async () => {
    const world = new World({ mode: 'back', ageMs: 30_000 });
    const image = world.image();
    world.write(image, 0, 10, 1);
    await world.wait(29_000);
    assert.equal(image.sending.calls.length, 0);
    await world.wait(2_000);
    assertSent(image);
    await world.wait(100_000);
    assert.equal(image.sending.countOf('write'), 1);
  });

  it('does not go on and on with a page that is written again and again', async () => {
    const world = new World({ mode: 'back', ageMs: 30_000 });
    const image = world.image();
    for (let second = 0; second < 300; second++) {
      world.write(image, 0, 1, second);
      await world.wait(1_000);
    }
    const writes = image.sending.countOf('write');
    assert.ok(writes >= 8 && writes <= 11, `${writes} WRITEs in 300 s`);
  });

  it('nor with one that is written whenever it is sent', async () => {
    const world = new World({ mode: 'back', ageMs: 30_000 });
    const image = world.image();
    let writes = 0;
    image.sending.fate = ({ name }) => {
      if (name === 'write') world.write(image, 0, 1, ++writes);
      return {};
    };
    world.write(image, 0, 1, 0);
    await world.wait(300_000);
    assert.ok(writes >= 8 && writes <= 11, `${writes} WRITEs in 300 s`);
  });

  it('sends the oldest when too much is dirty', async () => {
    const world = new World({ mode: 'back', maxDirtyBytes: 10 * MiB });
    const images = [world.image(), world.image(), world.image()];
    for (const image of images) {
      world.write(image, 0, (4 * MiB) / PAGE_BYTES, 1);
      await world.wait(1_000);
    }
    await world.wait(5_000);
    const [first, , third] = images;
    assert.equal(first?.dirtyBytes, 0);
    assert.equal(third?.sending.calls.length, 0);
    assert.ok(world.engine.figures().dirtyBytes <= 7.5 * MiB);
  });

  it('with mode deferred neither', async () => {
    const world = new World({ mode: 'deferred', maxDirtyBytes: MiB });
    const image = world.image();
    world.write(image, 0, (4 * MiB) / PAGE_BYTES, 1);
    await world.wait(3_600_000);
    assert.equal(image.sending.calls.length, 0);
  });
});

describe('pressure', () => {
  it('makes as much clean as is asked for, not everything', async () => {
    const world = new World();
    const image = world.image(64 * 1024);
    world.write(image, 0, (64 * MiB) / PAGE_BYTES, 1);
    const cleaned = await world.clock.until(world.engine.makeClean(8 * MiB));
    assert.ok(cleaned >= 8 * MiB && cleaned < 16 * MiB, `${cleaned}`);
    await world.wait(10_000);
    assert.ok(image.dirtyBytes >= 40 * MiB);
  });

  it('says so when nothing can be made clean', async () => {
    const world = new World();
    const image = world.image();
    assert.equal(await world.clock.until(world.engine.makeClean(MiB)), 0);
    world.write(image, 0, 10, 1);
    image.sending.fate = () => ({ error: 'NFS3ERR_ROFS' });
    assert.equal(await world.clock.until(world.engine.makeClean(MiB)), 0);
  });

  it('writers wait for room beyond the most that may be dirty', async () => {
    const world = new World({ mostDirtyBytes: 2 * MiB });
    const image = world.image();
    world.write(image, 0, (2 * MiB) / PAGE_BYTES, 1);
    const room = world.engine.roomFor(4096);
    assert.ok(room !== undefined);
    await world.clock.until(room);
    assert.ok(image.dirtyBytes < 2 * MiB);
    assert.equal(world.engine.roomFor(4096), undefined);
  });
});

describe('all images', () => {
  it('are sent side by side, and one that fails does not stop the others', async () => {
    const world = new World();
    const images = Array.from({ length: 100 }, () => world.image());
    for (const image of images) {
      image.sending.delayMs = () => 100;
      world.write(image, 0, 10, 1);
    }
    const [bad, ...good] = images;
    assert.ok(bad !== undefined);
    bad.sending.fate = ({ name }) => (name === 'write' ? { error: 'NFS3ERR_DQUOT' } : {});
    const beganMs = world.clock.monotonicMs();
    const result = await world.clock.until(world.engine.writeBackAll());
    assert.equal(result.failures.length, 1);
    assert.equal(result.failures[0]?.error.errno, 'EDQUOT');
    assert.equal(result.sentBytes, 99 * 10 * PAGE_BYTES);
    for (const image of good) assertSent(image);
    const tookMs = world.clock.monotonicMs() - beganMs;
    assert.ok(tookMs < 5_000, `${tookMs} ms: one after the other`);
  });

  it('of very different size: a small one does not wait for a large one', async () => {
    const world = new World();
    const large = world.image(64 * 1024);
    const small = world.image(64 * 1024);
    for (const image of [large, small]) image.sending.delayMs = () => 20;
    world.write(large, 0, (200 * MiB) / PAGE_BYTES, 1);
    const first = world.engine.writeBack(large);
    await world.wait(100);
    world.write(small, 0, 100, 1);
    assert.ok((await world.clock.until(world.engine.writeBack(small))).ok);
    assert.ok(large.dirtyBytes > 100 * MiB);
    assert.ok((await world.clock.until(first)).ok);
  });
});

describe('holding back', () => {
  it('waits for WRITEs of the range, and lets none begin', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 3000, 1);
    const all = world.engine.writeBack(image);
    await world.wait(50);
    assert.ok(image.sending.inFlightWrites > 0);
    const release = await world.clock.until(
      world.engine.holdBack(image, { start: 0, end: Number.POSITIVE_INFINITY }),
    );
    assert.equal(image.sending.inFlightWrites, 0);
    const sent = image.sending.countOf('write');
    await world.wait(1_000);
    assert.equal(image.sending.countOf('write'), sent);
    release();
    assert.ok((await world.clock.until(all)).ok);
    assertSent(image);
  });

  it('of a clean image leaves nothing behind', async () => {
    const world = new World();
    const image = world.image();
    const release = await world.engine.holdBack(image, { start: 0, end: 5 });
    world.write(image, 0, 2, 1);
    const all = world.engine.writeBack(image);
    await world.wait(1_000);
    assert.equal(image.sending.countOf('write'), 0);
    release();
    assert.ok((await world.clock.until(all)).ok);
    assertSent(image);
  });
});

describe('the end', () => {
  it('stop() waits for what is on the wire, commits it, and sends no more', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 6000, 1);
    const all = world.engine.writeBack(image);
    await world.wait(70);
    const stopped = world.engine.stop(1_000);
    await world.clock.until(stopped);
    const answer = await world.clock.until(all);
    assert.ok(!answer.ok && answer.error.code === 'CLOSED');
    image.isGone = true;
    const sent = image.sending.countOf('write');
    assert.ok(sent < 6000);
    assert.equal(image.takenRuns, 0);
    assert.equal(image.ends, 1);
    assert.equal(image.dirtyBytes, (6000 - sent) * PAGE_BYTES);
    await world.wait(60_000);
    assert.equal(image.sending.countOf('write'), sent);
    assert.ok(!(await world.writeBack(image)).ok);
    assert.equal(world.engine.stop(1_000), stopped);
  });

  it('stop() does not wait longer than it may for a server that is away', async () => {
    const world = new World();
    const image = world.image(PAGE_BYTES);
    world.write(image, 0, 100, 1);
    image.sending.setDown(true);
    const all = world.engine.writeBack(image);
    await world.wait(100);
    const beganMs = world.clock.monotonicMs();
    await world.clock.until(world.engine.stop(1_000));
    assert.ok(world.clock.monotonicMs() - beganMs <= 1_000);
    assert.ok(!(await all).ok);
    image.isGone = true;
    image.sending.setDown(false);
    await world.wait(10_000);
    assert.equal(image.ends, 0);
  });

  it('images that are gone leave their places, wherever their calls hang', async () => {
    const world = new World();
    for (let count = 0; count < 100; count++) {
      const image = world.image();
      world.write(image, 0, 10, 1);
      image.sending.setDown(true);
      void world.engine.writeBack(image);
      await world.wait(1);
      void world.engine.gone(image);
    }
    const other = world.image();
    world.write(other, 0, 10, 1);
    assert.ok((await world.writeBack(other)).ok);
  });

  it('an image that is gone is not touched any more', async () => {
    const world = new World({ mode: 'back' });
    const image = world.image(PAGE_BYTES);
    image.sending.delayMs = () => 20;
    world.write(image, 0, 3000, 1);
    const all = world.engine.writeBack(image);
    await world.wait(50);
    const gone = world.engine.gone(image);
    image.isGone = true;
    const answer = await world.clock.until(all);
    assert.ok(!answer.ok && answer.error.errno === 'ESTALE');
    await world.clock.until(gone);
    assert.equal(image.sending.inFlightWrites, 0);
    assert.equal(world.engine.figures().dirtyBytes, 0);
    await world.wait(100_000);
    const other = world.image();
    world.write(other, 0, 3000, 1);
    assert.ok((await world.writeBack(other)).ok, 'its place and its window are free again');
  });
});
