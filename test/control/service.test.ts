/**
 * What the methods do with a mount.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Ino } from '../../src/base/brand.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { type Call, Failure } from '../../src/daemon/control/protocol.ts';
import { ErrorCode, type EventLine, type Progress } from '../../src/daemon/control/schema.ts';
import { Service } from '../../src/daemon/control/service.ts';
import { FakeMount, PAGE, unsentFile } from './fake.ts';

const path = 'vm/disk.img';

describe('status', () => {
  it('adds what is open, what waits and what runs to what the session says', async () => {
    const { mount, handlers, call } = world();
    mount.waitingRequests = [
      { operation: 'LOOKUP', ino: 9 as Ino, ageMs: 5 },
      { operation: 'READ', ino: 3 as Ino, ageMs: 900 },
    ];
    const status = good(await handlers.status({}, call()));
    assert.deepEqual(status.waiting, [
      { operation: 'READ', path, ageMs: 900 },
      { operation: 'LOOKUP', path: null, ageMs: 5 },
    ]);
    assert.deepEqual(status.open, [
      {
        path,
        sizeBytes: 8 * PAGE,
        presentBytes: 3 * PAGE,
        readers: 1,
        writers: 1,
        servedBy: 'daemon',
        why: 'it is open for writing',
      },
    ]);
    assert.equal(status.hitRatio, 0.75);
    assert.equal(status.pid, process.pid);
  });

  it('lists at most 100 of those that wait, the oldest, and says how many there are', async () => {
    const { mount, handlers, call } = world();
    mount.waitingRequests = Array.from({ length: 1000 }, (_, ageMs) => ({
      operation: 'READ',
      ino: 3 as Ino,
      ageMs,
    }));
    const status = good(await handlers.status({}, call()));
    assert.equal(status.waitingCount, 1000);
    assert.equal(status.waiting.length, 100);
    assert.deepEqual([status.waiting[0]?.ageMs, status.waiting[99]?.ageMs], [999, 900]);
  });

  it('needs no server', async () => {
    const { mount, handlers, call } = world();
    mount.isAway = true;
    good(await handlers.status({}, call()));
    good(await handlers.failWaiting({ path }, call()));
    good(await handlers.failWaiting({}, call()));
  });
});

describe('warm', () => {
  it('fetches what is absent, and the second time nothing', async () => {
    const { handlers, call } = world();
    const first = good(await handlers.warm({ path }, call()));
    assert.deepEqual([first.fetchedBytes, first.presentBytes], [5 * PAGE, 8 * PAGE]);
    const second = good(await handlers.warm({ path }, call()));
    assert.deepEqual([second.fetchedBytes, second.presentBytes], [0, 8 * PAGE]);
  });

  it('keeps within its range, and the range within the file', async () => {
    const { handlers, call } = world();
    const some = good(await handlers.warm({ path, start: 6 * PAGE, end: 1e12 }, call()));
    assert.deepEqual([some.totalBytes, some.fetchedBytes], [2 * PAGE, 2 * PAGE]);
    for (const range of [
      { start: 2, end: 1 },
      { start: 5, end: 5 },
      { start: 1e9, end: 1e10 },
    ]) {
      assert.equal(code(await handlers.warm({ path, ...range }, call())), ErrorCode.badParams);
    }
  });

  it('only checks when told so', async () => {
    const { mount, handlers, call } = world();
    const checked = good(await handlers.warm({ path, check: true }, call()));
    assert.deepEqual([checked.fetchedBytes, checked.presentBytes], [0, 3 * PAGE]);
    assert.equal(mount.image.presentBytes(), 3 * PAGE);
  });

  it('in the background is answered at once, and shows in the status until it is old', async () => {
    const { mount, handlers, call } = world();
    mount.image.isFree = false;
    const { task } = good(await handlers.warm({ path, background: true }, call()));
    await until(() => mount.image.steps.length === 1);
    const during = good(await handlers.status({}, call())).tasks;
    assert.deepEqual(during, [
      {
        id: task,
        kind: 'warm',
        path,
        doneBytes: 3 * PAGE,
        totalBytes: 8 * PAGE,
        state: 'running',
        message: null,
      },
    ]);
    mount.image.isFree = true;
    mount.image.steps[0]?.();
    await until(() => mount.image.present.size === 7);
    await setImmediate();
    const [ended] = good(await handlers.status({}, call())).tasks;
    assert.deepEqual([ended?.state, ended?.doneBytes], ['done', 8 * PAGE]);
    for (let at = 0; at < 30; at += 1) await handlers.warm({ path, background: true }, call());
    await setImmediate();
    assert.equal(good(await handlers.status({}, call())).tasks.length, 16);
  });

  it('in the background ends with the mount', async () => {
    const { mount, service, handlers, call } = world();
    mount.image.isFree = false;
    await handlers.warm({ path, background: true }, call());
    await until(() => mount.image.steps.length === 1);
    service.ending();
    await until(() => mount.image.cancelled === 1);
    const [ended] = good(await handlers.status({}, call())).tasks;
    assert.deepEqual([ended?.state, ended?.message], ['failed', 'cancelled']);
  });

  it('is cancelled even while the server does not say where the file is', async () => {
    const { mount, handlers, call } = world();
    mount.isAway = true;
    const cancel = new AbortController();
    const warming = handlers.warm({ path }, call(cancel.signal));
    cancel.abort();
    assert.equal(code(await warming), ErrorCode.cancelled);
    assert.equal(code(await handlers.warm({ path }, call(cancel.signal))), ErrorCode.cancelled);
  });

  it('is for files', async () => {
    const { mount, handlers, call } = world();
    assert.equal(code(await handlers.warm({ path: 'vm' }, call())), ErrorCode.notAnImage);
    assert.equal(code(await handlers.warm({ path: '' }, call())), ErrorCode.notAnImage);
    const missing = await handlers.warm({ path: 'vm/none' }, call());
    assert.ok(missing instanceof Failure);
    assert.deepEqual(missing.error, {
      code: ErrorCode.path,
      message: 'vm/none: no such file',
      errno: 'ENOENT',
    });
    const without = { ...mount, cache: undefined, snapshot: () => mount.snapshot() };
    const service = new Service(without, systemClock);
    assert.equal(code(await service.handlers.warm({ path }, call())), ErrorCode.noCache);
  });
});

describe('the images in the cache', () => {
  it('are open where a program has them, not for what is unsent', async () => {
    const { mount, handlers, call } = world();
    mount.sending.files = [unsentFile('vm/disk.img', PAGE), unsentFile('vm/old.img', PAGE)];
    const { images } = good(await handlers.images({}, call()));
    assert.deepEqual(
      images.map(({ path, open, unsent }) => [path, open, unsent]),
      [
        ['vm/disk.img', true, true],
        ['vm/old.img', false, true],
      ],
    );
  });

  it('are listed by path, or the one of a file', async () => {
    const { handlers, call } = world();
    const all = good(await handlers.images({}, call()));
    assert.deepEqual(
      all.images.map((image) => image.path),
      ['vm/disk.img', 'vm/old.img'],
    );
    const one = good(await handlers.images({ path: 'vm/old.img' }, call()));
    assert.deepEqual(
      one.images.map(({ id }) => id),
      ['d2'],
    );
    assert.equal(code(await handlers.images({ path: 'none' }, call())), ErrorCode.path);
  });

  it('are evicted but for those in use or pinned', async () => {
    const { mount, handlers, call } = world();
    const all = good(await handlers.evict({}, call()));
    assert.deepEqual(all, {
      images: 1,
      freedBytes: 1 << 20,
      kept: [{ path, why: 'it is in use' }],
    });
    good(await handlers.pin({ path: 'vm/old.img' }, call()));
    assert.deepEqual([...mount.pinned], ['d2']);
    const pinned = good(await handlers.evict({ path: 'vm/old.img' }, call()));
    assert.deepEqual(pinned.kept, [{ path: 'vm/old.img', why: 'it is pinned' }]);
    good(await handlers.unpin({ path: 'vm/old.img' }, call()));
    assert.equal(good(await handlers.evict({ path: 'vm/old.img' }, call())).images, 1);
  });

  it('are verified, with progress over all of them', async () => {
    const { mount, handlers, progress, call } = world();
    mount.damagedBytes = PAGE;
    const verified = good(await handlers.verify({}, call()));
    assert.deepEqual(verified, {
      images: 2,
      checkedBytes: 4 * PAGE,
      damagedBytes: 2 * PAGE,
      damaged: [
        { path: 'vm/disk.img', damagedBytes: PAGE },
        { path: 'vm/old.img', damagedBytes: PAGE },
      ],
      setAside: [],
    });
    assert.deepEqual(
      progress.map(({ doneBytes, totalBytes }) => [doneBytes, totalBytes]),
      [
        [PAGE, 4 * PAGE],
        [3 * PAGE, 4 * PAGE],
      ],
    );
    assert.deepEqual(good(await handlers.status({}, call())).tasks, []);
  });
});

describe('failWaiting', () => {
  it('fails what waits of a file, or all', async () => {
    const { mount, handlers, call } = world();
    const waiting = [3, 3, 9].map((ino) => ({ operation: 'READ', ino: ino as Ino, ageMs: 1 }));
    mount.waitingRequests = waiting;
    assert.equal(good(await handlers.failWaiting({ path }, call())).failed, 2);
    mount.waitingRequests = waiting;
    assert.equal(good(await handlers.failWaiting({ path: '' }, call())).failed, 3);
    mount.waitingRequests = [{ operation: 'SETATTR', ino: 4 as Ino, ageMs: 1 }];
    assert.equal(good(await handlers.failWaiting({ path: 'vm/old.img' }, call())).failed, 1);
  });

  it('does not wait for the name of what is not open', async () => {
    const clock: Clock = { ...systemClock, after: (_, callback) => systemClock.after(0, callback) };
    const { mount, handlers, call } = world(clock);
    mount.isAway = true;
    const failed = await handlers.failWaiting({ path: 'vm/old.img' }, call());
    assert.ok(failed instanceof Failure);
    assert.deepEqual([failed.error.code, failed.error.errno], [ErrorCode.path, 'ETIMEDOUT']);
  });
});

describe('map', () => {
  it('counts the pages of each part', async () => {
    const { handlers, call } = world();
    const { parts, ...rest } = good(await handlers.map({ path, parts: 2 }, call()));
    assert.deepEqual(rest, { path, sizeBytes: 8 * PAGE, pageBytes: PAGE, pages: 8 });
    assert.deepEqual(parts, [
      { absent: 1, present: 2, zero: 1, dirty: 0 },
      { absent: 4, present: 0, zero: 0, dirty: 0 },
    ]);
  });
});

function world(clock = systemClock) {
  const mount = new FakeMount();
  const service = new Service(mount, clock);
  const progress: Progress[] = [];
  const events: EventLine[] = [];
  const call = (signal = new AbortController().signal): Call => ({
    signal,
    progress: (step) => void progress.push(step),
    event: (event) => void events.push(event),
  });
  return { mount, service, handlers: service.handlers, progress, events, call };
}

function good<T>(outcome: T): Exclude<T, Failure> {
  assert.ok(!(outcome instanceof Failure), JSON.stringify(outcome));
  return outcome as Exclude<T, Failure>;
}

function code(outcome: unknown): number | undefined {
  return outcome instanceof Failure ? outcome.error.code : undefined;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}
