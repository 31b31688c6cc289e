import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import { ok } from '../../src/base/result.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { alice, by, errno, Mounted, name, settled, value } from './mounted.ts';

/** Ten entries a page of the memory server. */
const smallPages = { directoryPageBytes: 2_000 };

function mountedWith(files: number, options: Partial<VfsOptions> = smallPages): Mounted {
  const mounted = new Mounted(options);
  for (let index = 0; index < files; index++) mounted.server.putFile(`/file${index}`, 'x');
  return mounted;
}

async function openRoot(mounted: Mounted): Promise<HandleId> {
  return value(await mounted.fs.opendir(by(alice), ROOT_INO));
}

function expected(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `file${from + index}`);
}

describe('a listing', () => {
  it('has 10,000 entries, each once, whatever is taken at a time', async () => {
    const mounted = mountedWith(10_000, { directoryPageBytes: 128 * 1024 });
    const handle = await openRoot(mounted);
    const names: string[] = [];
    for (let from = 0n; ; ) {
      const { names: more, next } = await mounted.list(handle, false, from, 37);
      if (more.length === 0) break;
      names.push(...more);
      from = next;
    }
    assert.deepEqual(names, ['.', '..', ...expected(0, 10_000)]);
  });

  it('goes on from any earlier offset as it was', async () => {
    const mounted = mountedWith(50);
    const handle = await openRoot(mounted);
    const { next } = await mounted.list(handle, false, 0n, 20);
    const { names: first } = await mounted.list(handle, false, next, 15);
    for (let index = 0; index < 50; index += 2) mounted.server.deletePath(`/file${index}`);
    const { names: again } = await mounted.list(handle, false, next, 15);
    assert.deepEqual(again, first);
  });

  it('lists each entry that stayed exactly once while the directory changes', async () => {
    const mounted = mountedWith(60);
    const handle = await openRoot(mounted);
    const { names, next } = await mounted.list(handle, false, 0n, 25);
    mounted.server.deletePath('/file3');
    mounted.server.deletePath('/file50');
    mounted.server.putFile('/new', 'x');
    const { names: rest } = await mounted.list(handle, false, next);
    const all = [...names, ...rest];
    assert.equal(new Set(all).size, all.length);
    for (const stayed of expected(0, 60).filter((it) => it !== 'file3' && it !== 'file50')) {
      assert(all.includes(stayed), stayed);
    }
  });

  it('is read anew from offset 0', async () => {
    const mounted = mountedWith(3);
    const handle = await openRoot(mounted);
    await mounted.list(handle);
    mounted.server.deletePath('/file1');
    mounted.server.putFile('/new', 'x');
    const { names } = await mounted.list(handle);
    assert.deepEqual(names, ['.', '..', 'file0', 'file2', 'new']);
  });

  it('fails where the server gives the same page for ever, or none', async () => {
    for (const stuck of ['same', 'none'] as const) {
      const mounted = mountedWith(30);
      const handle = await openRoot(mounted);
      const { server } = mounted;
      const honest = server.readdir.bind(server);
      server.hasReaddirplus = false;
      server.readdir = async (as, directory, _cookie, verifier, countBytes) => {
        const page = await honest(as, directory, 0n, verifier, countBytes);
        if (!page.ok) return page;
        const entries = stuck === 'same' ? page.value.entries : [];
        return ok({ ...page.value, entries, eof: false });
      };
      const listed = await mounted.fs.readdir(by(alice), handle, 0n, false, () => true);
      assert.equal(errno(listed), 'EIO', stuck);
    }
  });

  it('goes on when the server no longer knows its cookie, without saying a name twice', async () => {
    const mounted = mountedWith(60);
    const handle = await openRoot(mounted);
    const { names, next } = await mounted.list(handle, false, 0n, 25);
    let failures = 1;
    await settled();
    mounted.server.fail = ({ procedure }) => {
      if (procedure !== 'readdir' || failures === 0) return undefined;
      failures -= 1;
      return 'NFS3ERR_BAD_COOKIE';
    };
    const { names: rest } = await mounted.list(handle, false, next);
    assert.equal(failures, 0);
    assert.deepEqual([...names, ...rest], ['.', '..', ...expected(0, 60)]);
  });

  it('fails in the end of a server that forgets every cookie', async () => {
    const mounted = mountedWith(60);
    const handle = await openRoot(mounted);
    let calls = 0;
    mounted.server.fail = ({ procedure }) => {
      if (procedure !== 'readdir') return undefined;
      calls += 1;
      return calls % 2 === 0 ? 'NFS3ERR_BAD_COOKIE' : undefined;
    };
    const result = await mounted.fs.readdir(by(alice), handle, 0n, false, () => true);
    assert.equal(errno(result), 'EIO');
  });

  it('with attributes makes the names and the files known', async () => {
    const mounted = mountedWith(25);
    const handle = await openRoot(mounted);
    const { inos } = await mounted.list(handle, true);
    assert.equal(inos.length, 25);
    const before = mounted.server.calls.length;
    for (let index = 0; index < 25; index++) {
      const entry = await mounted.walk(`/file${index}`);
      assert.equal(entry.ino, inos[index]);
      value(await mounted.fs.getattr(by(alice), entry.ino));
    }
    assert.equal(mounted.server.calls.length, before);
  });

  it('counts a lookup only of what was taken', async () => {
    const mounted = new Mounted({ ...smallPages, nameCacheEntries: 1 });
    for (const it of ['a', 'b', 'c']) mounted.server.putFile(`/${it}`, 'x');
    const handle = await openRoot(mounted);
    const offered: Ino[] = [];
    value(
      await mounted.fs.readdir(by(alice), handle, 0n, true, ({ entry }) => {
        if (entry !== undefined) offered.push(entry.ino);
        return offered.length < 2;
      }),
    );
    const [taken, refused] = offered;
    assert(taken !== undefined && refused !== undefined);
    mounted.fs.forget(taken, 1);
    const { inos } = await mounted.list(handle, true, 3n);
    assert.equal(inos.length, 2, 'the refused entry comes again, as an entry');
    for (const ino of inos) mounted.fs.forget(ino, 1);
    await mounted.walk('/a');
    mounted.fs.releasedir(handle);
    assert.equal(mounted.fs.figures().inodes, 2, 'the root, and what is looked up');
  });

  it('does not make a name known that was removed meanwhile', async () => {
    const mounted = mountedWith(25);
    const handle = await openRoot(mounted);
    const { next } = await mounted.list(handle, true, 0n, 5);
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('file5')));
    await mounted.list(handle, true, next, 5);
    assert.equal(value(await mounted.fs.lookup(by(alice), ROOT_INO, name('file5'))).ino, 0);
  });

  it('does without READDIRPLUS where the server or the option says so', async () => {
    const missing: number[] = [];
    const mounted = new Mounted(smallPages, { readdirplusMissing: () => missing.push(1) });
    for (let index = 0; index < 30; index++) mounted.server.putFile(`/file${index}`, 'x');
    mounted.server.hasReaddirplus = false;
    const handle = await openRoot(mounted);
    const { names, inos } = await mounted.list(handle, true);
    assert.equal(names.length, 32);
    assert.deepEqual(inos, []);
    await mounted.list(handle, true);
    assert.deepEqual(missing, [1]);
    assert.equal(mounted.server.count('readdirplus'), 1);
    const without = new Mounted({ readdirplus: false }, {}, mounted.server);
    await without.list(await openRoot(without), true);
    assert.equal(mounted.server.count('readdirplus'), 1);
  });

  it('reads the next page while the present one is taken', async () => {
    const mounted = mountedWith(50);
    const handle = await openRoot(mounted);
    await mounted.list(handle, false, 0n, 1);
    await settled();
    assert.equal(mounted.server.count('readdir'), 2);
  });

  it('is refused of what is no directory, and of a closed handle', async () => {
    const mounted = mountedWith(1);
    const { ino } = await mounted.walk('/file0');
    assert.equal(errno(await mounted.fs.opendir(by(alice), ino)), 'ENOTDIR');
    const handle = await openRoot(mounted);
    mounted.fs.releasedir(handle);
    const closed = await mounted.fs.readdir(by(alice), handle, 0n, false, () => true);
    assert.equal(errno(closed), 'EBADF');
  });
});
