/**
 * What the kernel is told to forget, and how long one waits for it.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Ino, Name } from '../../src/base/brand.ts';
import { KernelNotices } from '../../src/daemon/kernel-notices.ts';
import { ManualClock } from '../base/manual-clock.ts';

const never = new AbortController().signal;

/** A kernel that does what it is told when the test lets it. */
function world() {
  const told: [ino: number, done: () => void][] = [];
  const names: string[] = [];
  const clock = new ManualClock();
  const kernel = new KernelNotices(clock);
  let writes = 0;
  const attach = () =>
    kernel.attach(
      {
        invalidateInode: (ino, offset, length) =>
          new Promise((done) => {
            assert.deepEqual([offset, length], [0, 0]);
            told.push([ino, done]);
          }),
        invalidateAttributes: () => Promise.resolve(),
        async invalidateEntry(parent, name) {
          names.push(`${parent} ${name}`);
        },
      },
      () => writes,
    );
  return {
    ...{ kernel, clock, told, names, attach },
    inodes: () => told.map(([ino]) => ino),
    answer() {
      for (const [, done] of told.splice(0)) done();
    },
    write() {
      writes += 1;
    },
  };
}

describe('what the kernel is told', () => {
  it('is one thing at a time for each file, and the last one always', async () => {
    const { kernel, told, inodes, answer, attach } = world();
    await kernel.forget(1 as Ino); // not mounted yet: the kernel knows nothing
    attach();
    for (const ino of [7, 7, 8, 7]) void kernel.forget(ino as Ino);
    assert.deepEqual(inodes(), [7, 8]);
    answer();
    await settle();
    assert.deepEqual(inodes(), [7]);
    answer();
    await settle();
    assert.equal(told.length, 0);
    void kernel.forget(7 as Ino);
    assert.deepEqual(inodes(), [7]);
  });

  it('is done for those who came meanwhile only when it was told again', async () => {
    const { kernel, attach, answer } = world();
    attach();
    const done: string[] = [];
    void kernel.forget(7 as Ino).then(() => done.push('first'));
    void kernel.forget(7 as Ino).then(() => done.push('second'));
    answer();
    await settle();
    assert.deepEqual(done, ['first']);
    answer();
    await settle();
    assert.deepEqual(done, ['first', 'second']);
  });

  it('are names, too', () => {
    const { kernel, attach, names } = world();
    kernel.revoke(7 as Ino, [Buffer.from('before') as Name]); // not mounted yet
    attach();
    kernel.revoke(7 as Ino, [Buffer.from('a') as Name, Buffer.from('b') as Name]);
    assert.deepEqual(names, ['7 a', '7 b']);
  });
});

describe('pages that programs have changed in memory', () => {
  it('are ours when the kernel says so', async () => {
    const { kernel, attach, answer } = world();
    attach();
    const pulled = kernel.pull([7, 8] as Ino[], never);
    answer();
    assert.deepEqual(await pulled, []);
  });

  it('are waited for as long as they come, and not when they do not', async () => {
    const { kernel, attach, clock, told, write } = world();
    attach();
    const pulled = kernel.pull([7, 8] as Ino[], never);
    told.find(([ino]) => ino === 8)?.[1]();
    await settle();
    let isOver = false;
    void pulled.then(() => {
      isOver = true;
    });
    for (let second = 0; second < 100; second++) {
      clock.advance(1000);
      write();
      await settle();
    }
    assert.ok(!isOver);
    for (let second = 0; second < 12; second++) clock.advance(1000);
    assert.deepEqual(await pulled, [7]);
  });

  it('are not waited for by who has gone', async () => {
    const { kernel, attach } = world();
    attach();
    const cancel = new AbortController();
    const pulled = kernel.pull([7] as Ino[], cancel.signal);
    cancel.abort();
    assert.deepEqual(await pulled, [7]);
    assert.equal(await kernel.settled(cancel.signal), false);
  });
});

function settle(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}
