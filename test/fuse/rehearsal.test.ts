import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { err, ok } from '../../src/base/result.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { rehearse } from '../../src/fuse/rehearsal.ts';
import { type Call, scriptedFs } from './scripted-fs.ts';

const noEntry = () => Promise.resolve(ok({ ino: 0, entryValidMs: 0 }));

describe('The rehearsal before the mount', () => {
  it('looks up, opens and reads through the whole session, and gives back every handle', async () => {
    const calls: Call[] = [];
    let handle = 0;
    const fs = scriptedFs(
      {
        lookup: noEntry,
        open: () => Promise.resolve(ok({ handle: ++handle, keepCache: false })),
        read: () => Promise.resolve(err(localError('EISDIR', 'read'))),
        release: () => undefined,
      },
      calls,
    );
    await rehearse(fs, 10_000);
    const count = (name: string) => calls.filter(([method]) => method === name).length;
    assert.ok(count('read') > 1);
    for (const method of ['lookup', 'open', 'release']) assert.equal(count(method), count('read'));
    const released = calls.filter(([method]) => method === 'release').map(([, id]) => id);
    assert.deepEqual(
      released,
      Array.from({ length: handle }, (_, at) => at + 1),
    );
  });

  it('reads bytes as well, and releases them', async () => {
    let held = 0;
    const read = () => {
      held++;
      return Promise.resolve(
        ok({ kind: 'bytes', bytes: [Buffer.from('page')], release: () => held-- }),
      );
    };
    const open = () => Promise.resolve(ok({ handle: 1, keepCache: false }));
    await rehearse(
      scriptedFs({ lookup: noEntry, open, read, release: () => undefined }, []),
      10_000,
    );
    assert.equal(held, 0);
  });

  it('does not wait for a server that does not answer', async () => {
    const calls: Call[] = [];
    await rehearse(scriptedFs({ lookup: () => new Promise(() => {}) }, calls), 10);
    assert.equal(calls.length, 1);
  });

  it('ends where the root cannot be opened', async () => {
    const calls: Call[] = [];
    const open = () => Promise.resolve(err(localError('EACCES', 'open')));
    await rehearse(scriptedFs({ lookup: noEntry, open }, calls), 10_000);
    assert.deepEqual(
      calls.map(([method]) => method),
      ['lookup', 'open'],
    );
  });
});
