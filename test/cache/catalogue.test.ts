import assert from 'node:assert/strict';
import { test } from 'node:test';
import { err, ok, type Result } from '../../src/base/result.ts';
import { Catalogue, type OpenImageLine } from '../../src/cache/catalogue.ts';
import { PAGE_BYTES } from '../../src/cache/file-io.ts';
import type { ImageInfo } from '../../src/cache/info-file.ts';
import { Errno } from '../../src/errors/errno.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';

/** An export's directory of which a test says what is in it. */
class Kept {
  readonly infos = new Map<string, ImageInfo | undefined>();
  readonly opened = new Map<string, OpenImageLine>();
  readonly counts = new Map<string, number>();
  readonly calls: string[] = [];
  unreadable = false;
  readonly catalogue = new Catalogue({
    kept: this,
    opened: (id) => this.opened.get(id),
    allocated: (id) =>
      id === 'away' ? Promise.reject(new Error('ENOENT')) : Promise.resolve(8192),
    countPages: (id) => {
      this.calls.push(`count ${id}`);
      return Promise.resolve(this.counts.get(id));
    },
  });

  images(): Promise<Result<string[], FsError>> {
    if (this.unreadable) return Promise.resolve(err(localError('EIO', 'list')));
    return Promise.resolve(ok([...this.infos.keys()]));
  }

  describe(id: string): Promise<Result<ImageInfo, FsError>> {
    this.calls.push(`describe ${id}`);
    const info = this.infos.get(id);
    return Promise.resolve(
      info === undefined ? err(localError('EIO', 'describe', 'info is damaged')) : ok(info),
    );
  }

  isOpen(id: string): boolean {
    return this.opened.has(id);
  }

  drop(id: string): Promise<number> {
    if (this.isOpen(id)) return Promise.resolve(Errno.EBUSY);
    this.calls.push(`drop ${id}`);
    this.infos.delete(id);
    return Promise.resolve(0);
  }

  sweepGone(): Promise<number> {
    this.calls.push('sweep');
    return Promise.resolve(1);
  }
}

function info(path: string, of: Partial<ImageInfo> = {}): ImageInfo {
  return {
    handle: '01',
    export: 'server:2049:/export',
    fsid: 1n,
    fileid: 2n,
    path,
    state: 'settled',
    stamp: { size: 2 * PAGE_BYTES - 1, mtimeNs: 3n, ctimeNs: 4n },
    lastUsedMs: 50,
    pinned: false,
    allocatedBytes: 0,
    presentPages: 1,
    ...of,
  };
}

const openLine: OpenImageLine = {
  path: 'open',
  sizeBytes: 10,
  presentBytes: 10,
  pinned: true,
  lastUsedMs: 9,
  state: 'writing',
  unsent: true,
};

test('open, idle, closed and damaged images, by path', async () => {
  const kept = new Kept();
  kept.infos
    .set('c', info('z.img'))
    .set('o', info('old path'))
    .set('i', info(''))
    .set('d', undefined);
  kept.infos.set('away', info('a.img', { presentPages: 2, pinned: true }));
  kept.opened.set('o', openLine).set('i', { ...openLine, path: 'idle', idle: true });
  const listed = await kept.catalogue.list();
  assert.ok(listed.ok);
  const shown = listed.value.map((line) => [
    line.path,
    line.id,
    line.open,
    line.pinned,
    line.state,
  ]);
  assert.deepEqual(shown, [
    ['', 'd', false, false, 'damaged'],
    ['a.img', 'away', false, true, 'settled'],
    ['idle', 'i', false, true, 'writing'],
    ['open', 'o', true, true, 'writing'],
    ['z.img', 'c', false, false, 'settled'],
  ]);
  const sizes = listed.value.map((line) => [line.presentBytes, line.complete, line.allocatedBytes]);
  assert.deepEqual(sizes, [
    [0, false, 8192],
    [2 * PAGE_BYTES - 1, true, 0],
    [10, true, 8192],
    [10, true, 8192],
    [PAGE_BYTES, false, 8192],
  ]);
  assert.equal(listed.value[0]?.why, 'info is damaged');
});

test('what was read is kept until it is told to be old; what could not be read is not', async () => {
  const kept = new Kept();
  kept.infos.set('a', info('a')).set('d', undefined);
  kept.counts.set('a', 2);
  for (let i = 0; i < 3; i++) await kept.catalogue.list();
  await kept.catalogue.closed();
  assert.equal(kept.calls.filter((call) => call.endsWith(' a')).length, 2);
  assert.equal(kept.calls.filter((call) => call.endsWith(' d')).length, 4);
  kept.infos.set('a', info('renamed'));
  kept.catalogue.changed('a');
  const listed = await kept.catalogue.list();
  assert.ok(listed.ok);
  assert.deepEqual(
    listed.value.map(({ path }) => path),
    ['', 'renamed'],
  );
  assert.equal(listed.value[1]?.presentBytes, 2 * PAGE_BYTES - 1);
});

test('eviction gets the closed ones; a damaged one is the oldest, an open one stays', async () => {
  const kept = new Kept();
  kept.infos
    .set('a', info('a', { pinned: true }))
    .set('d', undefined)
    .set('o', info('o'));
  kept.opened.set('o', openLine);
  const closed = await kept.catalogue.closed();
  assert.deepEqual(
    closed.map(({ name, pinned, lastUsedMs }) => [name, pinned, lastUsedMs]),
    [
      ['a', true, 50],
      ['d', false, 0],
    ],
  );
  kept.calls.length = 0;
  assert.equal(await closed[1]?.remove(), 8192);
  assert.deepEqual(kept.calls, ['drop d', 'sweep']);
  // Opened since.
  kept.opened.set('a', openLine);
  assert.equal(await closed[0]?.remove(), 0);
});

test('a list ends when it is aborted; a directory that cannot be read is an error', async () => {
  const kept = new Kept();
  for (let i = 0; i < 10; i++) kept.infos.set(`image ${i}`, info('a'));
  const aborted = await kept.catalogue.list(AbortSignal.abort());
  assert.deepEqual(aborted, ok([]));
  kept.unreadable = true;
  assert.equal((await kept.catalogue.list()).ok, false);
  assert.deepEqual(await kept.catalogue.closed(), []);
});
