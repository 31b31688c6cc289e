/**
 * Local files through the addon, against a plain array of bytes and a sum that is computed one bit
 * after the other.
 *
 * On a small tmpfs, which allocates just the pages that are written, and can be full.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK } from '../../src/cache/file-io.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';

const run = promisify(execFile);
const { EBADF, ECANCELED, EINVAL, EISDIR, ENOSPC, EWOULDBLOCK } = constants.errno;
const POLYNOMIAL = 0x82f63b78;
const SMALL_DISK_BYTES = 2 << 20;
const projectRoot = fileURLToPath(new URL('../../', import.meta.url));

const table = Uint32Array.from({ length: 256 }, (_, value) => {
  let crc = value;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
  return crc >>> 0;
});

/** The register of a CRC-32C after `bytes`. */
function registerAfter(crc: number, bytes: Buffer): number {
  let register = crc;
  for (const byte of bytes) register = (register >>> 8) ^ (table[(register ^ byte) & 255] ?? 0);
  return register >>> 0;
}

/** The sums of the blocks from offset 0 on, of the pages for which `present` says so. */
function sumsOf(bytes: Buffer, present: (page: number) => boolean): number[] {
  const sums: number[] = [];
  for (let block = 0; block * BLOCK_BYTES < bytes.length; block++) {
    const whole = Buffer.alloc(BLOCK_BYTES);
    for (let i = 0; i < PAGES_PER_BLOCK; i++) {
      const page = block * PAGES_PER_BLOCK + i;
      if (present(page))
        bytes.subarray(page * PAGE_BYTES, pageEnd(page)).copy(whole, i * PAGE_BYTES);
    }
    sums.push(registerAfter(0, whole));
  }
  return sums;
}

/** What an overwrite has to answer; `old` is longer than what is written. */
function expectedOf(old: Buffer, offset: number, bytes: Buffer, masks: Uint16Array) {
  const first = Math.floor(offset / BLOCK_BYTES);
  const end = offset + bytes.length;
  const changed = Array.from(masks, () => 0);
  const zeros = Array.from(masks, () => 0);
  const oldSums = Array.from(masks, () => 0);
  let writtenEnd = 0;
  for (let at = offset; at < end; ) {
    const page = Math.floor(at / PAGE_BYTES);
    const next = Math.min(pageEnd(page), end);
    const piece = bytes.subarray(at - offset, next - offset);
    const index = Math.floor(page / PAGES_PER_BLOCK) - first;
    const bit = 1 << (page % PAGES_PER_BLOCK);
    const compared = ((masks[index] ?? 0) & bit) !== 0;
    if (!compared || !piece.equals(old.subarray(at, next))) {
      const isZeros = piece.length === PAGE_BYTES && piece.every((byte) => byte === 0);
      changed[index] = (changed[index] ?? 0) | bit;
      if (isZeros) zeros[index] = (zeros[index] ?? 0) | bit;
      else writtenEnd = next;
      if (compared) {
        const block = Math.floor(page / PAGES_PER_BLOCK);
        const [sum = 0] = sumsOf(
          old.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES),
          (p) => p === page % PAGES_PER_BLOCK,
        );
        oldSums[index] = ((oldSums[index] ?? 0) ^ sum) >>> 0;
      }
    }
    at = next;
  }
  return { changed, zeros, oldSums, writtenEnd };
}

function pageEnd(page: number): number {
  return (page + 1) * PAGE_BYTES;
}

function opened(): NativeFileIo {
  const io = NativeFileIo.open();
  assert(io.ok, io.ok ? '' : io.error);
  return io.value;
}

async function mountOver(folder: string, type: string, options: string): Promise<void> {
  await run('mount', ['-t', type, '-o', options, 'gvfs-test', folder]);
}

function cleaned(folder: string, use: (path: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const made = mkdtempSync(join(tmpdir(), folder));
    try {
      await use(made);
    } finally {
      rmSync(made, { recursive: true, force: true });
    }
  };
}

describe('local files', () => {
  let io: NativeFileIo;
  let disk: string;
  let fd: number;
  let path: string;

  before(async () => {
    io = opened();
    disk = await mkdtemp(join(tmpdir(), 'gvfs-files-'));
    await mountOver(disk, 'tmpfs', `size=${SMALL_DISK_BYTES},huge=never`);
  });

  after(async () => {
    await io.close();
    await run('umount', ['-l', disk]);
    await rm(disk, { recursive: true });
  });

  beforeEach((context) => {
    path = join(disk, 'file');
    fd = openSync(path, 'w+');
    assert('after' in context);
    context.after(() => {
      closeSync(fd);
      rmSync(path, { force: true });
    });
  });

  async function allocated(): Promise<number> {
    const { errno, allocatedBytes } = await io.size(fd);
    assert.equal(errno, 0);
    return allocatedBytes;
  }

  it('knows what a CRC-32C is', () => {
    assert.equal(~registerAfter(0xffffffff, Buffer.from('123456789')) >>> 0, 0xe3069283);
  });

  it('stores any pages: the bytes, the sums and the holes are right', async () => {
    const pages = 44;
    const page = fc.oneof(
      fc.constant('zero' as const),
      fc.constant('random' as const),
      fc.record({ at: fc.nat(PAGE_BYTES - 1), value: fc.integer({ min: 1, max: 255 }) }),
    );
    const plan = fc.record({
      sizeBytes: fc.integer({ min: 1, max: pages * PAGE_BYTES }),
      contents: fc.array(page, { minLength: pages, maxLength: pages, size: 'max' }),
      /** Lengths of parts; every third is not stored. */
      parts: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 12 }),
      skip: fc.nat(2),
      stale: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(plan, async ({ sizeBytes, contents, parts, skip, stale }) => {
        const bytes = Buffer.alloc(sizeBytes);
        contents.forEach((content, index) => {
          const view = bytes.subarray(index * PAGE_BYTES, pageEnd(index));
          if (content === 'random') randomBytes(view.length).copy(view);
          else if (content !== 'zero' && content.at < view.length) view[content.at] = content.value;
        });
        const pageCount = Math.ceil(sizeBytes / PAGE_BYTES);
        writeFileSync(path, stale ? randomBytes(sizeBytes) : '');
        await io.truncate(fd, sizeBytes);

        const present = new Set<number>();
        const masks = new Uint16Array(Math.ceil(pageCount / PAGES_PER_BLOCK));
        const sums = new Uint32Array(masks.length);
        const stores: Promise<void>[] = [];
        const store = async (start: number, end: number): Promise<void> => {
          const part = bytes.subarray(start * PAGE_BYTES, end * PAGE_BYTES);
          const stored = await io.store(fd, start * PAGE_BYTES, part, stale ? 'punch' : 'trusted');
          assert.equal(stored.errno, 0);
          const firstBlock = Math.floor(start / PAGES_PER_BLOCK);
          const lastBlock = Math.floor((end - 1) / PAGES_PER_BLOCK);
          assert.equal(stored.sums.length, lastBlock - firstBlock + 1);
          stored.sums.forEach((sum, i) => {
            sums[firstBlock + i] = (sums[firstBlock + i] ?? 0) ^ sum;
          });
        };
        let start = 0;
        for (let i = 0; start < pageCount; i++) {
          const end = Math.min(start + (parts[i % parts.length] ?? 1), pageCount);
          if (i % 3 !== skip) {
            for (let p = start; p < end; p++) {
              present.add(p);
              const block = Math.floor(p / PAGES_PER_BLOCK);
              masks[block] = (masks[block] ?? 0) | (1 << (p % PAGES_PER_BLOCK));
            }
            stores.push(store(start, end));
          }
          start = end;
        }
        await Promise.all(stores);

        const expected = sumsOf(bytes, (p) => present.has(p));
        assert.deepEqual([...sums], expected);
        const computed = await io.sums(fd, 0, masks);
        assert.equal(computed.errno, 0);
        assert.deepEqual([...computed.sums], expected);
        const last = await io.sums(fd, masks.length - 1, masks.slice(-1));
        assert.deepEqual([...last.sums], expected.slice(-1));

        const kept = readFileSync(path);
        assert.equal(kept.length, sizeBytes);
        let written = 0;
        for (let p = 0; p < pageCount; p++) {
          const isPresent = present.has(p);
          const wanted = bytes.subarray(p * PAGE_BYTES, pageEnd(p));
          if (isPresent) assert(kept.subarray(p * PAGE_BYTES, pageEnd(p)).equals(wanted), `${p}`);
          if (isPresent ? wanted.some((byte) => byte !== 0) : stale) written++;
        }
        assert.equal(await allocated(), written * PAGE_BYTES);
      }),
      { numRuns: 60 },
    );
  });

  it('overwrites any bytes: what is equal stays, what is changed is told', async () => {
    const pages = 40;
    const page = fc.oneof(
      fc.constant('zero' as const),
      fc.constant('random' as const),
      fc.constant('same' as const),
      fc.constant('one byte' as const),
    );
    const write = fc.record({
      offset: fc.oneof(
        fc.nat(pages * PAGE_BYTES - 1),
        fc.nat(pages - 1).map((p) => pageEnd(p)),
      ),
      length: fc.oneof(fc.constant(PAGE_BYTES), fc.nat(20 * PAGE_BYTES), fc.nat(5000)),
      contents: fc.array(page, { minLength: 6, maxLength: 6 }),
      compare: fc.array(fc.nat(0xffff), { minLength: 4, maxLength: 4 }),
    });
    const plan = fc.record({
      sizeBytes: fc.integer({ min: 1, max: pages * PAGE_BYTES }),
      holes: fc.nat(3),
      writes: fc.array(write, { minLength: 1, maxLength: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(plan, async ({ sizeBytes, holes, writes }) => {
        let model = randomBytes(sizeBytes);
        for (let p = 0; p < pages; p++) {
          if (p % 4 < holes) model.subarray(p * PAGE_BYTES, pageEnd(p)).fill(0);
        }
        writeFileSync(path, model);
        for (const { offset, length, contents, compare } of writes) {
          const old = Buffer.alloc(Math.max(model.length, offset + length, pageEnd(pages + 20)));
          model.copy(old);
          const bytes = Buffer.from(old.subarray(offset, offset + length));
          contents.forEach((content, index) => {
            // Of every sixth page: the rest is the same.
            for (let p = index; pageEnd(p) - PAGE_BYTES < offset + length; p += 6) {
              const start = Math.max(p * PAGE_BYTES - offset, 0);
              const end = Math.min(pageEnd(p) - offset, length);
              if (end <= start) continue;
              const view = bytes.subarray(start, end);
              if (content === 'zero') view.fill(0);
              else if (content === 'random') randomBytes(view.length).copy(view);
              else if (content === 'one byte')
                view.writeUInt8(view.readUInt8(view.length - 1) ^ 0x10, view.length - 1);
            }
          });
          const first = Math.floor(offset / BLOCK_BYTES);
          const count = length === 0 ? 0 : Math.ceil((offset + length) / BLOCK_BYTES) - first;
          const masks = Uint16Array.from({ length: count }, (_, i) => compare[i % 4] ?? 0);
          const expected = expectedOf(old, offset, bytes, masks);
          const done = await io.overwrite(fd, offset, bytes, masks);
          assert.equal(done.errno, 0);
          assert.deepEqual([...done.changed], expected.changed);
          assert.deepEqual([...done.zeros], expected.zeros);
          assert.deepEqual([...done.oldSums], expected.oldSums);
          const grown = Buffer.alloc(Math.max(model.length, expected.writtenEnd));
          model.copy(grown);
          bytes.copy(grown, offset);
          model = grown;
          const kept = readFileSync(path);
          assert.equal(kept.length, model.length);
          assert.ok(kept.equals(model));
        }
        // What was made zeros is not kept.
        const pagesWithBytes = Array.from({ length: pages + 20 }, (_, p) =>
          model.subarray(p * PAGE_BYTES, pageEnd(p)).some((byte) => byte !== 0),
        ).filter(Boolean).length;
        assert.ok((await allocated()) >= pagesWithBytes * PAGE_BYTES);
      }),
      { numRuns: 150 },
    );
  });

  it('makes holes of whole pages of zeros alone, and leaves equal ones alone', async () => {
    const bytes = randomBytes(4 * PAGE_BYTES);
    await io.write(fd, 0, bytes);
    const zeros = Buffer.alloc(2 * PAGE_BYTES + 100);
    const done = await io.overwrite(fd, PAGE_BYTES, zeros, Uint16Array.of(0b0010));
    const oldSum = sumsOf(bytes, (page) => page === 1)[0] ?? 0;
    assert.deepEqual(done, {
      errno: 0,
      changed: Uint16Array.of(0b1110),
      zeros: Uint16Array.of(0b0110),
      oldSums: Uint32Array.of(oldSum),
    });
    assert.equal(await allocated(), 2 * PAGE_BYTES);
    const again = await io.overwrite(fd, PAGE_BYTES, zeros, Uint16Array.of(0xffff));
    assert.deepEqual([...again.changed, ...again.zeros, ...again.oldSums], [0, 0, 0]);
    const nothing = await io.overwrite(fd, 77, Buffer.alloc(0), new Uint16Array());
    assert.deepEqual([nothing.errno, nothing.changed.length], [0, 0]);
  });

  it('keeps the order of what is stored in one file, and files apart', async () => {
    const other = openSync(join(disk, 'other'), 'w+');
    try {
      const works: Promise<unknown>[] = [];
      for (let i = 1; i <= 200; i++) {
        const bytes = Buffer.alloc(PAGE_BYTES, i);
        for (const file of [fd, other]) {
          works.push(
            i % 2 === 0
              ? io.overwrite(file, 0, bytes, Uint16Array.of(i % 4 === 0 ? 1 : 0))
              : io.store(file, 0, bytes, 'punch'),
          );
        }
      }
      await Promise.all(works);
      assert.ok(readFileSync(path).equals(Buffer.alloc(PAGE_BYTES, 200)));
      assert.ok(readFileSync(join(disk, 'other')).equals(Buffer.alloc(PAGE_BYTES, 200)));
    } finally {
      closeSync(other);
      rmSync(join(disk, 'other'));
    }
  });

  it('says which pages are in doubt when the disk is full in the middle', async () => {
    const old = randomBytes(4 * PAGE_BYTES);
    await io.write(fd, 0, old);
    const bytes = Buffer.concat([old.subarray(0, 2 * PAGE_BYTES), randomBytes(SMALL_DISK_BYTES)]);
    const masks = new Uint16Array(Math.ceil(bytes.length / BLOCK_BYTES)).fill(0xffff);
    const done = await io.overwrite(fd, 0, bytes, masks);
    assert.equal(done.errno, ENOSPC);
    assert.equal(done.changed[0], 0xfffc);
    assert.equal(done.oldSums[0], sumsOf(old, (page) => page >= 2)[0]);
    const kept = readFileSync(path);
    assert.ok(kept.subarray(0, 2 * PAGE_BYTES).equals(old.subarray(0, 2 * PAGE_BYTES)));
    const unreadable = await io.overwrite(-1, 0, bytes.subarray(0, 100), Uint16Array.of(1));
    assert.deepEqual([unreadable.errno, ...unreadable.changed], [EBADF, 0]);
    const unwritable = await io.overwrite(-1, 0, bytes.subarray(0, 100), Uint16Array.of(0));
    assert.deepEqual([unwritable.errno, ...unwritable.changed], [EBADF, 1]);
  });

  it('finds a single bit that is wrong, or on a wrong page', async () => {
    const block = Buffer.alloc(BLOCK_BYTES);
    block[5 * PAGE_BYTES + 4095] = 1;
    const sums = new Set<number | undefined>();
    for (let p = 0; p < PAGES_PER_BLOCK; p++) {
      const bytes = block.subarray(5 * PAGE_BYTES, 6 * PAGE_BYTES);
      sums.add((await io.store(fd, p * PAGE_BYTES, bytes, 'punch')).sums[0]);
    }
    assert.equal(sums.size, PAGES_PER_BLOCK);
    const masks = Uint16Array.of(1 << 5);
    const [right] = (await io.sums(fd, 0, masks)).sums;
    assert(sums.has(right));
    await io.write(fd, 5 * PAGE_BYTES + 17, Buffer.of(0x40));
    assert.notEqual((await io.sums(fd, 0, masks)).sums[0], right);
  });

  it('stores nothing at all, and zeros without growing the file', async () => {
    assert.deepEqual(await io.store(fd, 0, Buffer.alloc(0), 'punch'), {
      errno: 0,
      sums: new Uint32Array(0),
    });
    const stored = await io.store(fd, PAGE_BYTES, Buffer.alloc(BLOCK_BYTES), 'trusted');
    assert.deepEqual(stored, { errno: 0, sums: Uint32Array.of(0, 0) });
    assert.deepEqual(await io.size(fd), { errno: 0, allocatedBytes: 0, sizeBytes: 0 });
  });

  it('sums zeros where the file has ended', async () => {
    const bytes = randomBytes(PAGE_BYTES + 100);
    await io.write(fd, 0, bytes);
    const { errno, sums } = await io.sums(fd, 0, Uint16Array.of(0xffff, 0xffff));
    assert.equal(errno, 0);
    assert.deepEqual([...sums], [...sumsOf(bytes, () => true), 0]);
  });

  it('reads up to the end, writes anywhere, cuts and punches', async () => {
    const bytes = randomBytes(3 * PAGE_BYTES);
    assert.equal(await io.write(fd, 10, bytes), 0);
    const into = Buffer.alloc(4 * PAGE_BYTES, 7);
    assert.deepEqual(await io.read(fd, 10, into), { errno: 0, got: bytes.length });
    assert(into.subarray(0, bytes.length).equals(bytes));
    assert(into.subarray(bytes.length).every((byte) => byte === 7));
    assert.deepEqual(await io.read(fd, 1 << 30, into), { errno: 0, got: 0 });

    const before = await allocated();
    assert.equal(await io.punch(fd, PAGE_BYTES, PAGE_BYTES), 0);
    assert.equal(await allocated(), before - PAGE_BYTES);
    assert.equal(await io.punch(fd, 0, 0), EINVAL);
    assert.equal(await io.truncate(fd, 100), 0);
    assert.deepEqual(await io.size(fd), {
      errno: 0,
      allocatedBytes: PAGE_BYTES,
      sizeBytes: 100,
    });
    assert.equal(await io.sync(fd), 0);
  });

  it('says what the kernel says', async () => {
    const bytes = Buffer.alloc(PAGE_BYTES, 1);
    assert.equal((await io.store(-1, 0, bytes, 'trusted')).errno, EBADF);
    assert.equal((await io.store(-1, 0, Buffer.alloc(PAGE_BYTES), 'punch')).errno, EBADF);
    assert.equal((await io.sums(-1, 0, Uint16Array.of(1))).errno, EBADF);
    assert.equal(await io.write(-1, 0, bytes), EBADF);
    assert.equal((await io.read(-1, 0, bytes)).errno, EBADF);
    assert.equal(await io.punch(-1, 0, 1), EBADF);
    assert.equal(await io.truncate(-1, 0), EBADF);
    assert.equal(await io.sync(-1), EBADF);
    assert.equal((await io.size(-1)).errno, EBADF);
    assert.equal(io.lock(-1), EBADF);
    const folder = openSync(disk, 'r');
    assert.equal((await io.read(folder, 0, bytes)).errno, EISDIR);
    assert.equal((await io.sums(folder, 0, Uint16Array.of(1))).errno, EISDIR);
    closeSync(folder);
  });

  it('gives the space back when the disk is full in the middle of a store', async () => {
    const bytes = randomBytes(SMALL_DISK_BYTES + BLOCK_BYTES);
    assert.equal((await io.store(fd, 0, bytes, 'trusted')).errno, ENOSPC);
    assert.equal(await allocated(), 0);
    assert.equal(await io.write(fd, 0, bytes), ENOSPC);
    await io.truncate(fd, 0);
    assert.equal((await io.store(fd, 0, bytes.subarray(0, BLOCK_BYTES), 'trusted')).errno, 0);
  });

  it('locks once', () => {
    const other = openSync(path, 'r');
    assert.equal(io.lock(fd), 0);
    assert.equal(io.lock(fd), 0);
    assert.equal(io.lock(other), EWOULDBLOCK);
    closeSync(other);
  });

  it('refuses offsets that are none', async () => {
    const bytes = Buffer.alloc(PAGE_BYTES);
    await assert.rejects(io.store(fd, 1, bytes, 'trusted'), /begins within a page/);
    await assert.rejects(io.write(fd, -1, bytes), /not an offset/);
    await assert.rejects(io.read(fd, 0.5, bytes), /not an offset/);
  });

  it(
    'writes zeros where the file system has no holes to punch',
    cleaned('gvfs-ramfs-', async (folder) => {
      await mountOver(folder, 'ramfs', 'mode=700');
      try {
        const name = join(folder, 'file');
        const bytes = Buffer.alloc(40 * PAGE_BYTES);
        bytes.fill(1, 3 * PAGE_BYTES, 5 * PAGE_BYTES);
        writeFileSync(name, randomBytes(bytes.length));
        const file = openSync(name, 'r+');
        const stored = await io.store(file, 0, bytes, 'punch');
        assert.equal(stored.errno, 0);
        assert.deepEqual(
          [...stored.sums],
          sumsOf(bytes, () => true),
        );
        assert(readFileSync(name).equals(bytes));
        closeSync(file);
      } finally {
        await run('umount', ['-l', folder]);
      }
    }),
  );
});

it(
  'leaves holes on the disk of temporary files too',
  cleaned('gvfs-files-', async (folder) => {
    const io = opened();
    const fd = openSync(join(folder, 'file'), 'w+');
    const stride = 4 * BLOCK_BYTES;
    const bytes = Buffer.alloc(64 * BLOCK_BYTES);
    for (let at = 0; at < bytes.length; at += stride) randomBytes(BLOCK_BYTES).copy(bytes, at);
    await io.truncate(fd, bytes.length);
    const stored = await io.store(fd, 0, bytes, 'trusted');
    const masks = new Uint16Array(64).fill(0xffff);
    assert.deepEqual(await io.sums(fd, 0, masks), stored);
    assert.deepEqual(
      [...stored.sums],
      sumsOf(bytes, () => true),
    );
    assert.equal(await io.sync(fd), 0);
    assert((await io.size(fd)).allocatedBytes < bytes.length / 2);
    closeSync(fd);
    await io.close();
  }),
);

it(
  'ends: what has begun is finished, and all else is cancelled',
  cleaned('gvfs-files-', async (folder) => {
    const io = opened();
    const fd = openSync(join(folder, 'file'), 'w+');
    const masks = new Uint16Array(2048).fill(0xffff);
    await io.truncate(fd, masks.length * BLOCK_BYTES);
    const asked = Array.from({ length: 64 }, () => io.sums(fd, 0, masks));
    const closing = io.close();
    assert.equal(io.close(), closing);
    assert.equal(await io.write(fd, 0, Buffer.of(1)), ECANCELED);
    assert.equal(io.lock(fd), ECANCELED);
    const outcomes = await Promise.all(asked);
    await closing;
    const errors = new Set(outcomes.map(({ errno }) => errno));
    errors.delete(0);
    assert.deepEqual([...errors], [ECANCELED]);
    closeSync(fd);
  }),
);

/** Runs a module of its own beside `root`'s sources; gives what it printed. */
async function printedBy(root: string, lines: string[]): Promise<string> {
  const module = join(root, 'src', 'cache', 'native-file-io.ts');
  const source = [`import { NativeFileIo } from ${JSON.stringify(module)};`, ...lines].join('\n');
  const { stdout } = await run(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', source],
    { cwd: root, timeout: 60_000 },
  );
  return stdout;
}

it(
  'keeps a process alive for what is under way, and no longer',
  cleaned('gvfs-files-', async (folder) => {
    const file = JSON.stringify(join(folder, 'file'));
    const printed = await printedBy(projectRoot, [
      `import { openSync } from 'node:fs';`,
      `const { value: io } = NativeFileIo.open();`,
      `const fd = openSync(${file}, 'w+');`,
      `io.store(fd, 0, Buffer.alloc(1 << 20, 1), 'trusted').then(({ errno }) => {`,
      `  console.log('stored', errno);`,
      `  setTimeout(() => io.sync(fd).then((errno) => console.log('synced', errno)), 10);`,
      `});`,
    ]);
    assert.equal(printed, 'stored 0\nsynced 0\n');
  }),
);

it(
  'lets a process exit in the middle of its work',
  cleaned('gvfs-files-', async (folder) => {
    const file = JSON.stringify(join(folder, 'file'));
    const printed = await printedBy(projectRoot, [
      `import { openSync } from 'node:fs';`,
      `const { value: io } = NativeFileIo.open();`,
      `const fd = openSync(${file}, 'w+');`,
      `for (let i = 0; i < 64; i++) io.store(fd, 0, Buffer.alloc(1 << 20, 1), 'trusted');`,
      `console.log('exits');`,
      `process.exit(0);`,
    ]);
    assert.equal(printed, 'exits\n');
  }),
);

it(
  'says what to do when there is no addon',
  cleaned('gvfs-no-addon-', async (folder) => {
    for (const part of ['base', 'cache']) {
      await cp(join(projectRoot, 'src', part), join(folder, 'src', part), { recursive: true });
    }
    await mkdir(join(folder, 'native-bindings'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await symlink(join(projectRoot, 'node_modules'), join(folder, 'node_modules'));
    const printed = await printedBy(folder, ['console.log(NativeFileIo.open().error);']);
    assert.match(printed, /^the gvfs addon cannot be loaded \(.+\); build it with npm run setup/);
  }),
);
