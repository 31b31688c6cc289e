import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { err, ok } from '../../src/base/result.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { rehearse } from '../../src/fuse/rehearsal.ts';
import { type Dirent, ROOT_INO } from '../../src/vfs/operations.ts';
import { type Call, type Script, scriptedFs } from './scripted-fs.ts';

const answered = (value: unknown) => () => Promise.resolve(ok(value));
const refused = () => Promise.resolve(err(localError('EACCES', 'rehearsal')));
const released = () => undefined;
const noEntry = answered({ ino: 0, entryValidMs: 0 });

/** Opens with ever new handles; the root cannot be listed and reads fail. */
function emptyRoot(): Script {
  let handle = 0;
  return {
    opendir: refused,
    lookup: noEntry,
    open: () => Promise.resolve(ok({ handle: ++handle, keepCache: false })),
    read: refused,
    release: released,
  };
}

async function callsOf(script: Script, limitMs = 10_000): Promise<Call[]> {
  const calls: Call[] = [];
  await rehearse(scriptedFs(script, calls), limitMs);
  return calls;
}

const named = (calls: readonly Call[], name: string) => calls.filter(([method]) => method === name);

describe('The rehearsal before the mount', () => {
  it('looks up, opens and reads through the whole session, and gives back every handle', async () => {
    const calls = await callsOf(emptyRoot());
    const reads = named(calls, 'read').length;
    assert.ok(reads > 1);
    assert.equal(named(calls, 'lookup').length, reads);
    assert.deepEqual(
      named(calls, 'release').map(([, handle]) => handle),
      Array.from({ length: reads }, (_, at) => at + 1),
    );
  });

  it('lists the root, opens a file of it, reads none of its bytes, and forgets what it counted', async () => {
    const attributes = {
      ...{ type: 'regular', mode: 0o644, nlink: 1, uid: 0, gid: 0, size: 9, used: 9 },
      ...{ rdev: { major: 0, minor: 0 }, fsid: 1n, fileid: 5n },
      ...{ atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n },
    };
    const entry = { ino: 7, generation: 0, attributes, attributesValidMs: 0, entryValidMs: 0 };
    const lookups = new Map<number, number>();
    const count = (ino: number, by: number) => lookups.set(ino, (lookups.get(ino) ?? 0) + by);
    const found = Buffer.from('image');
    const calls = await callsOf({
      ...emptyRoot(),
      opendir: answered(3),
      releasedir: released,
      readdir: (
        _caller: unknown,
        _handle: unknown,
        _offset: unknown,
        plus: boolean,
        take: unknown,
      ) => {
        assert.ok(plus);
        count(7, 1);
        const dirent = { name: found, ino: 5, type: 'regular', nextOffset: 1n, entry };
        (take as (dirent: Dirent) => boolean)(dirent as unknown as Dirent);
        return Promise.resolve(ok(undefined));
      },
      lookup: (_caller: unknown, _parent: unknown, name: Buffer) => {
        if (!name.equals(found)) return noEntry();
        count(7, 1);
        return Promise.resolve(ok(entry));
      },
      forget: (ino: number, by: number) => count(ino, -by),
      read: answered({ kind: 'bytes', bytes: [], release: released }),
    });
    assert.deepEqual([...lookups], [[7, 0]]);
    assert.equal(named(calls, 'releasedir').length, 1);
    const opened = named(calls, 'open').map(([, , ino]) => ino);
    assert.ok(opened.includes(7) && opened.includes(ROOT_INO));
    assert.equal(named(calls, 'release').length, opened.length);
    for (const [at, [, , , offset]] of named(calls, 'read').entries()) {
      if (opened[at] === 7) assert.ok((offset as number) > 2 ** 40, 'beyond the end of any file');
    }
  });

  it('releases the bytes that a read brings all the same', async () => {
    let held = 0;
    const read = () => {
      held++;
      const release = () => held--;
      return Promise.resolve(ok({ kind: 'bytes', bytes: [Buffer.from('page')], release }));
    };
    await callsOf({ ...emptyRoot(), read });
    assert.equal(held, 0);
  });

  it('does not wait for a server that does not answer', async () => {
    const calls = await callsOf({ opendir: () => new Promise(() => {}) }, 10);
    assert.equal(calls.length, 1);
  });

  it('asks nothing more when its time is over, and closes what it has open', async () => {
    let answer: (value: unknown) => void = () => undefined;
    const calls: Call[] = [];
    const read = () => new Promise((done) => (answer = done));
    await rehearse(scriptedFs({ ...emptyRoot(), read }, calls), 10);
    assert.equal(named(calls, 'release').length, 0);
    answer(err(localError('EIO', 'rehearsal')));
    await new Promise((done) => setImmediate(done));
    assert.equal(named(calls, 'release').length, 1);
    assert.equal(calls.at(-1)?.[0], 'release');
  });

  it('goes on where the root can be neither listed nor opened', async () => {
    const calls = await callsOf({ ...emptyRoot(), open: refused });
    assert.ok(named(calls, 'lookup').length > 1);
    assert.equal(named(calls, 'release').length, 0);
  });
});
