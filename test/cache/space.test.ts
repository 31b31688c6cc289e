import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Amount, bytesOf, type DiskSizes, diskSizes, Space } from '../../src/cache/space.ts';
import { ManualClock } from '../base/manual-clock.ts';

const isImage = (name: string) => /^[0-9a-f]{32}$/.test(name);
const MIB = 1024 * 1024;

/** A disk of which a test says the sizes. */
class Disk implements DiskSizes {
  total = 1_000_000;
  available = 1_000_000;
  restBytes = 0;
  readonly bytes = new Map<string, number>();
  asked = 0;
  atOnce = 0;
  mostAtOnce = 0;
  failing = false;
  /** Runs while an image is being measured. */
  meanwhile: (name: string) => void = () => undefined;

  async fileSystem() {
    await settled();
    if (this.failing) throw new Error('EIO');
    return { totalBytes: this.total, availableBytes: this.available };
  }

  names() {
    return Promise.resolve([...this.bytes.keys()]);
  }

  async image(name: string) {
    this.asked++;
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.atOnce);
    await settled();
    const bytes = this.bytes.get(name) ?? 0;
    this.meanwhile(name);
    await settled();
    this.atOnce--;
    return bytes;
  }

  rest() {
    return Promise.resolve(this.restBytes);
  }
}

class Watched {
  readonly disk = new Disk();
  readonly clock = new ManualClock();
  rounds = 0;
  readonly failures: unknown[] = [];

  open(limit: Amount, freeFloor: Amount = { bytes: 0 }): Promise<Space> {
    return Space.open({
      sizes: this.disk,
      limit,
      freeFloor,
      clock: this.clock,
      measured: () => this.rounds++,
      failed: (error) => this.failures.push(error),
    });
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('amounts are bytes, or percent of the file system', () => {
  const fileSystem = { totalBytes: 1000, availableBytes: 10 };
  assert.equal(bytesOf({ bytes: 7 }, fileSystem), 7);
  assert.equal(bytesOf({ percent: 12.5 }, fileSystem), 125);
});

test('high and low marks of the limit', async () => {
  const watched = new Watched();
  const space = await watched.open({ bytes: 10_000 });
  const sizes: [number, number, number][] = [
    [9_000, 0, 0],
    [9_500, 0, 500],
    [9_501, 1, 501],
    [12_000, 2_500, 3_000],
  ];
  for (const [bytes, high, low] of sizes) {
    watched.disk.bytes.set('a', bytes);
    await space.measure('a');
    assert.deepEqual([space.overHighBytes(), space.overLowBytes()], [high, low]);
  }
  await space.close();
});

test('high and low marks of the free-space floor, and never more than there is to free', async () => {
  const watched = new Watched();
  const space = await watched.open({ percent: 100 }, { percent: 10 });
  watched.disk.bytes.set('a', 50_000);
  const free: [number, number, number][] = [
    [110_000, 0, 0],
    [105_000, 0, 5_000],
    [104_000, 1_000, 6_000],
    [10_000, 50_000, 50_000],
  ];
  for (const [available, high, low] of free) {
    watched.disk.available = available;
    await space.measure('a');
    assert.deepEqual([space.overHighBytes(), space.overLowBytes()], [high, low]);
  }
  await space.close();
});

test('what is stored counts at once, and is put right by the next measurement', async () => {
  const watched = new Watched();
  const space = await watched.open({ bytes: 100_000 });
  space.grew('a', 600);
  assert.deepEqual([space.usedBytes, space.allocatedBytes('a')], [600, 600]);
  assert.equal(space.availableBytes, 999_400);
  watched.disk.bytes.set('a', 256);
  watched.clock.advance(999);
  assert.equal(watched.disk.asked, 0);
  watched.clock.advance(1);
  await space.refresh();
  assert.deepEqual([space.usedBytes, space.allocatedBytes('a')], [256, 256]);
  assert.deepEqual([watched.rounds, space.availableBytes], [1, 1_000_000]);
  // One percent of the limit is measured without a wait.
  space.grew('a', 1_000);
  await space.refresh();
  assert.equal(watched.rounds, 2);
  await space.close();
});

test('what is stored while the disk is asked stays counted', async () => {
  const watched = new Watched();
  const space = await watched.open({ bytes: 1_000_000 });
  space.grew('a', 500);
  watched.disk.bytes.set('a', 400);
  watched.disk.meanwhile = () => {
    space.grew('a', 50);
    watched.disk.meanwhile = () => undefined;
  };
  await Promise.all([space.measure('a'), space.measure('a'), space.measure('b')]);
  assert.equal(space.usedBytes, 400);
  assert.equal(watched.disk.mostAtOnce, 1);
  await space.close();
});

test('the figure is the sum of the accounts, and is not too low', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('store' as const), image: fc.nat(3), bytes: fc.nat(1_000) }),
    fc.record({ kind: fc.constant('measure' as const), image: fc.nat(3), bytes: fc.nat(0) }),
    fc.record({ kind: fc.constant('remove' as const), image: fc.nat(3), bytes: fc.nat(0) }),
    fc.record({ kind: fc.constant('wait' as const), image: fc.nat(3), bytes: fc.nat(0) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const watched = new Watched();
      const { disk } = watched;
      const space = await watched.open({ bytes: 1_000_000 });
      const onDisk = () => [...disk.bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
      const pending: Promise<void>[] = [];
      for (const { kind, image, bytes } of steps) {
        const name = `image ${image}`;
        if (kind === 'store') {
          space.grew(name, bytes);
          disk.bytes.set(name, (disk.bytes.get(name) ?? 0) + Math.floor(bytes / 2));
        } else if (kind === 'measure') pending.push(space.measure(name));
        else if (kind === 'wait') await settled();
        else {
          disk.bytes.delete(name);
          space.removed(name);
        }
        assert.ok(space.usedBytes >= onDisk(), `${space.usedBytes} of ${onDisk()}`);
      }
      await Promise.all(pending);
      await space.refresh();
      await space.refresh();
      assert.equal(space.usedBytes, onDisk());
      for (const [name, bytes] of disk.bytes) assert.equal(space.allocatedBytes(name), bytes);
      await space.close();
    }),
  );
});

test('a full cache has no room, and neither has one on a full disk', async () => {
  const watched = new Watched();
  const space = await watched.open({ bytes: 10_000 }, { bytes: 100_000 });
  space.grew('a', 9_000);
  assert.deepEqual([space.hasRoom(1_000), space.hasRoom(1_001)], [true, false]);
  watched.disk.available = 100_500;
  watched.disk.bytes.set('a', 9_000);
  await space.measure('a');
  assert.deepEqual([space.hasRoom(500), space.hasRoom(501)], [true, false]);
  await space.close();
});

test('the scan measures two images at once, leaves those that are known, and runs once', async () => {
  const watched = new Watched();
  const { disk } = watched;
  for (let i = 0; i < 1000; i++) disk.bytes.set(`image ${i}`, 10);
  disk.restBytes = 7;
  const space = await watched.open({ bytes: MIB });
  assert.equal(disk.asked, 0);
  // Opened, and measured, before its turn has come.
  disk.bytes.set('image 0', 30);
  await space.measure('image 0');
  const scans = [space.scan(), space.scan()];
  assert.equal(space.report().scanned, false);
  await Promise.all(scans);
  assert.deepEqual([disk.asked, disk.mostAtOnce], [1000, 2]);
  assert.equal(space.usedBytes, 999 * 10 + 30 + 7);
  assert.deepEqual([space.report().scanned, watched.rounds], [true, 1]);
  space.removed('image 1');
  assert.equal(space.usedBytes, 998 * 10 + 30 + 7);
  await space.close();
});

test('close ends a scan, and what cannot be asked is said and leaves the figures', async () => {
  const watched = new Watched();
  const { disk } = watched;
  for (let i = 0; i < 1000; i++) disk.bytes.set(`image ${i}`, 10);
  const space = await watched.open({ bytes: MIB });
  void space.scan();
  disk.failing = true;
  await space.measure('image 5');
  assert.deepEqual([watched.failures.length, space.availableBytes], [1, 1_000_000]);
  await space.close();
  assert.ok(disk.asked < 50);
  assert.equal(watched.rounds, 0);
});

test('agrees with du, holes and directories and what waits to be removed included', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gvfs-space-'));
  try {
    writeFileSync(join(directory, 'LOCK'), 'x');
    writeFileSync(join(directory, 'knowledge'), Buffer.alloc(70_000, 1));
    for (let i = 0; i < 20; i++) image(join(directory, i.toString(16).padStart(32, '0')), i);
    mkdirSync(join(directory, '.gone'));
    image(join(directory, '.gone', '0'), 3);
    const space = await Space.open({
      sizes: diskSizes(directory, isImage),
      limit: { percent: 10 },
      freeFloor: { percent: 10 },
      clock: new ManualClock(),
      measured: () => undefined,
      failed: (error) => assert.fail(String(error)),
    });
    await space.scan();
    assert.equal(space.usedBytes, du(directory));
    assert.equal(space.allocatedBytes('0'.repeat(32)), du(join(directory, '0'.repeat(32))));
    assert.ok(space.limitBytes > 0 && space.availableBytes > 0);
    rmSync(join(directory, '0'.repeat(32)), { recursive: true });
    space.removed('0'.repeat(32));
    await space.refresh();
    assert.equal(space.usedBytes, du(directory));
    await space.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

function image(path: string, index: number): void {
  mkdirSync(path);
  const fd = openSync(join(path, 'data'), 'w');
  for (let at = 0; at <= index; at++) {
    writeSync(fd, Buffer.alloc(MIB / 2, 1), 0, MIB / 2, (at * index + at) * MIB);
  }
  closeSync(fd);
  writeFileSync(join(path, 'map'), Buffer.alloc(4096 * (1 + index), 1));
  writeFileSync(join(path, 'info'), '{}');
}

function du(path: string): number {
  const text = execFileSync('du', ['-s', '--block-size=1', path], { encoding: 'utf8' });
  return Number(text.split('\t')[0]);
}
