import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import { countKeptPages } from '../../src/cache/catalogue.ts';
import type { ExportDirectory } from '../../src/cache/export-directory.ts';
import { fileIdOf } from '../../src/cache/file-id.ts';
import { BLOCK_BYTES, type FileIo, PAGE_BYTES } from '../../src/cache/file-io.ts';
import { ImageDirectory } from '../../src/cache/image-directory.ts';
import { MAP_HEADER_BYTES, RECORD_BYTES } from '../../src/cache/map-file.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import { type OfflineExport, openOffline } from '../../src/cache/offline.ts';
import { type Content, content, fill, got, nextBoot, openExport } from './image-worlds.ts';

const PAGES = 100;
const BYTES = PAGES * PAGE_BYTES - 1000;
const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim().replaceAll('-', '');

describe('the cache while no daemon runs', () => {
  let io: FileIo;
  let root: string;
  let cacheDir: string;
  let worlds = 0;

  before(async () => {
    io = got(NativeFileIo.open());
    root = await mkdtemp(join(tmpdir(), 'gvfs-offline-'));
  });
  after(async () => {
    await io.close();
    await rm(root, { recursive: true, force: true });
  });
  beforeEach(() => {
    cacheDir = join(root, `cache ${worlds++}`);
  });

  /** As a daemon leaves it: images closed in order, the lock given back. */
  async function keep(
    names: readonly string[],
    how: { pinned?: string; pages?: number; clean?: boolean; boot?: string } = {},
  ): Promise<void> {
    const directory = await openExport(cacheDir, io, { bootId: how.boot ?? bootId });
    for (const name of names) {
      const image = await openNamed(directory, name);
      await fill(image, io, contentOf(name), 0, how.pages ?? PAGES);
      if (name === how.pinned) assert.equal(await image.setPinned(true), 0);
      if (how.clean === false) assert.equal(await image.persistMarks(), 0);
      await image.close(how.clean ?? true);
    }
    await directory.close();
  }

  async function offline<T>(run: (kept: OfflineExport) => Promise<T>): Promise<T> {
    const { exports, inUse } = got(await openOffline({ cacheDir, io, pid: process.pid }));
    assert.deepEqual(inUse, []);
    const [kept, ...others] = exports;
    assert.ok(kept !== undefined && others.length === 0);
    try {
      return await run(kept);
    } finally {
      await kept.close();
    }
  }

  function fileOf(name: string, kept: { path: string }, file: string): string {
    return join(kept.path, fileIdOf(handleOf(name)), file);
  }

  it('lists images, and measures as du does', async () => {
    await keep(['a', 'b'], { pinned: 'b', pages: 20 });
    await offline(async (kept) => {
      assert.equal(kept.source, 'server:2049:/export');
      const lines = got(await kept.list());
      assert.deepEqual(
        lines.map((line) => [line.path, line.sizeBytes, line.presentBytes, line.pinned, line.open]),
        [
          ['a', BYTES, 20 * PAGE_BYTES, false, false],
          ['b', BYTES, 20 * PAGE_BYTES, true, false],
        ],
      );
      assert.deepEqual(
        lines.map(({ allocatedBytes }) => allocatedBytes),
        lines.map(({ id }) => du(join(kept.path, id))),
      );
      assert.equal(got(await kept.allocatedBytes()), du(kept.path));
    });
  });

  it('counts the pages of an image whose daemon was killed', async () => {
    await keep(['a'], { pages: 33, clean: false });
    await offline(async (kept) => {
      assert.equal(got(await kept.list())[0]?.presentBytes, 33 * PAGE_BYTES);
    });
  });

  it('of another boot counts what was synced, and nothing else', async () => {
    await keep(['unsynced'], { pages: 33, clean: false, boot: nextBoot });
    await keep(['synced'], { pages: 34, boot: nextBoot });
    const directory = await openExport(cacheDir, io, { bootId });
    for (const [name, pages] of [
      ['unsynced', 0],
      ['synced', 34],
    ] as const) {
      const info = got(await directory.describe(fileIdOf(handleOf(name))));
      assert.equal(await countKeptPages(directory, io, fileIdOf(handleOf(name)), info), pages);
    }
    await directory.close();
  });

  it('verifies: all is well, last use and pin stay, and progress reaches the end', async () => {
    await keep(['a', 'b'], { pinned: 'a' });
    await offline(async (kept) => {
      const before = got(await kept.list());
      const seen: number[] = [];
      let total = 0;
      const onProgress = (at: { doneBytes: number; totalBytes: number }) => {
        seen.push(at.doneBytes);
        total = at.totalBytes;
      };
      const report = got(await kept.verify(undefined, { onProgress }));
      assert.deepEqual(
        { ...report, checkedBytes: 0 },
        { images: 2, checkedBytes: 0, damagedBytes: 0, damaged: [], setAside: [] },
      );
      assert.equal(report.checkedBytes, 2 * BYTES);
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      );
      assert.ok(total > 0 && (seen.at(-1) ?? 0) >= total);
      assert.deepEqual(got(await kept.list()), before);
    });
  });

  it('clears a damaged block, and only that one, for good', async () => {
    await keep(['a', 'b']);
    await offline(async (kept) => {
      await flip(fileOf('a', kept, 'data'), 2 * BLOCK_BYTES + 77);
      const report = got(await kept.verify());
      assert.deepEqual(report.damaged, [{ path: 'a', damagedBytes: BLOCK_BYTES }]);
      assert.equal(report.damagedBytes, BLOCK_BYTES);
      assert.equal(got(await kept.verify()).damagedBytes, 0);
    });
    // As after a power loss: what is durable says the same.
    const directory = await openExport(cacheDir, io, { bootId: nextBoot });
    const image = await openNamed(directory, 'a');
    assert.equal(image.map.presentPages, PAGES - 16);
    assert.equal(image.map.mask(2), 0);
    await image.close(true);
    await directory.close();
  });

  it('punches a damaged block only when both maps on the disk say that it is absent (C1)', async () => {
    await keep(['a']);
    const records: string[] = [];
    let path = '';
    const punch = (fd: number, offset: number, length: number) => {
      for (const name of ['map', 'map.synced']) {
        const at = MAP_HEADER_BYTES + (offset / BLOCK_BYTES) * RECORD_BYTES;
        records.push(readFileSync(join(path, name)).toString('hex', at, at + RECORD_BYTES));
      }
      return io.punch(fd, offset, length);
    };
    const watched = new Proxy(io, {
      get(target, key) {
        const value: unknown = key === 'punch' ? punch : Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const { exports } = got(await openOffline({ cacheDir, io: watched, pid: 1 }));
    const [kept] = exports;
    assert.ok(kept !== undefined);
    path = fileOf('a', kept, '');
    await flip(fileOf('a', kept, 'data'), BLOCK_BYTES);
    await kept.verify();
    await kept.close();
    assert.deepEqual(records, ['00'.repeat(RECORD_BYTES), '00'.repeat(RECORD_BYTES)]);
  });

  it('sets aside what cannot be believed: damaged info, data cut short, swapped directories', async () => {
    await keep(['bad info', 'short', 'x', 'y', 'good']);
    await offline(async (kept) => {
      await flip(fileOf('bad info', kept, 'info'), 20);
      await writeFile(fileOf('short', kept, 'data'), 'short');
      const [x, y] = ['x', 'y'].map((name) => join(kept.path, fileIdOf(handleOf(name))));
      assert.ok(x !== undefined && y !== undefined);
      await rename(x, `${x}-`);
      await rename(y, x);
      await rename(`${x}-`, y);
      const report = got(await kept.verify());
      assert.deepEqual(
        report.setAside.map(({ path }) => path).toSorted(),
        [fileIdOf(handleOf('bad info')), 'short', 'x', 'y'].toSorted(),
      );
      assert.deepEqual([report.images, report.damaged], [5, []]);
      assert.equal(existsSync(fileOf('bad info', kept, 'info')), false);
      assert.equal(got(await kept.verify()).setAside.length, 0);
    });
  });

  it('verifies what is chosen, and ends when it is aborted', async () => {
    await keep(['a', 'b']);
    await offline(async (kept) => {
      assert.equal(got(await kept.verify((line) => line.path === 'b')).images, 1);
      const abort = new AbortController();
      const { signal } = abort;
      assert.equal(got(await kept.verify(undefined, { signal })).images, 2);
      const onProgress = () => abort.abort();
      assert.equal(got(await kept.verify(undefined, { signal, onProgress })).images, 1);
      assert.equal(got(await kept.verify(undefined, { signal: AbortSignal.abort() })).images, 0);
    });
  });

  it('evicts what is chosen, not what is pinned, unless it is forced to', async () => {
    await keep(['a', 'b', 'pinned'], { pinned: 'pinned' });
    await offline(async (kept) => {
      const size = du(fileOf('a', kept, '.'));
      const one = got(await kept.evict((line) => line.path === 'a'));
      assert.deepEqual(one, { images: 1, freedBytes: size, kept: [] });
      assert.equal(existsSync(fileOf('a', kept, '.')), false);
      const rest = got(await kept.evict());
      assert.deepEqual(rest.kept, [{ path: 'pinned', why: 'it is pinned' }]);
      assert.equal(got(await kept.evict(undefined, { force: true })).images, 1);
      assert.deepEqual(got(await kept.list()), []);
      // Removed, not only renamed.
      assert.ok(got(await kept.allocatedBytes()) < size);
    });
  });

  it('says who has an export, and leaves it alone', async () => {
    await keep(['a']);
    const daemon = await openExport(cacheDir, io, { bootId });
    const { exports, inUse } = got(await openOffline({ cacheDir, io, pid: 1 }));
    await daemon.close();
    assert.deepEqual(exports, []);
    const [held, ...others] = inUse;
    assert.ok(held !== undefined && others.length === 0);
    assert.equal(held.source, 'server:2049:/export');
    assert.deepEqual([held.holder?.pid, held.holder?.mountpoint], [4711, '/mnt']);
    assert.match(held.message, /4711.*\/mnt/);
  });

  it('knows the export by its images when LOCK is lost, and says when nothing tells', async () => {
    await keep(['a']);
    await offline((kept) => {
      rmSync(join(kept.path, 'LOCK'));
      return Promise.resolve();
    });
    await offline((kept) => {
      assert.equal(kept.source, 'server:2049:/export');
      rmSync(join(kept.path, 'LOCK'));
      rmSync(fileOf('a', kept, 'info'));
      return Promise.resolve();
    });
    const { exports, inUse } = got(await openOffline({ cacheDir, io, pid: 1 }));
    assert.deepEqual([exports, inUse[0]?.source, inUse[0]?.holder], [[], undefined, undefined]);
    assert.match(inUse[0]?.message ?? '', /does not say of which export/);
  });

  it('a directory that is no cache is refused', async () => {
    assert.equal((await openOffline({ cacheDir, io, pid: 1 })).ok, false);
    assert.equal(existsSync(cacheDir), false);
  });
});

function handleOf(name: string): FileHandle {
  return Buffer.from(name) as FileHandle;
}

function contentOf(name: string): Content {
  return content(Buffer.alloc(BYTES, `bytes of ${name} `), 1);
}

async function openNamed(directory: ExportDirectory, name: string): Promise<ImageDirectory> {
  const { attributes } = contentOf(name);
  const about = { path: name, nowMs: 1_700_000_000_000 };
  return got(await ImageDirectory.open(directory, handleOf(name), attributes, about, directory.io));
}

async function flip(path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0] = (byte[0] ?? 0) ^ 4;
  await file.write(byte, 0, 1, offset);
  await file.close();
}

function du(path: string): number {
  const text = execFileSync('du', ['-s', '--block-size=1', path], { encoding: 'utf8' });
  return Number(text.split('\t')[0]);
}
