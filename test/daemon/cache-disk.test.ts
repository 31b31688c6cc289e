import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { notLocal } from '../../src/daemon/cache-disk.ts';

const NFS = 0x6969;
const FUSE = 0x65735546;
const CIFS_AS_SIGNED = 0xff534d42 | 0;
const EXT4 = 0xef53;

describe('the place of a cache', () => {
  it('may be any local directory, there or not', async () => {
    assert.equal(await notLocal(tmpdir()), undefined);
    assert.equal(await notLocal(join(tmpdir(), 'not', 'there', 'yet')), undefined);
    assert.equal(await notLocal('/cache', async () => EXT4), undefined);
  });

  for (const [name, type] of Object.entries({ NFS, FUSE, CIFS: CIFS_AS_SIGNED })) {
    it(`may not be on ${name}`, async () => {
      assert.match((await notLocal('/cache', async () => type)) ?? '', new RegExp(`on ${name}`));
    });
  }

  it('is judged by its nearest parent while it is missing', async () => {
    const asked: string[] = [];
    const why = await notLocal('/mnt/a/b', async (path) => {
      asked.push(path);
      if (path === '/mnt') return NFS;
      throw Object.assign(new Error('missing'), { code: 'ENOENT' });
    });
    assert.match(why ?? '', /over the network/);
    assert.deepEqual(asked, ['/mnt/a/b', '/mnt/a', '/mnt']);
  });

  it('is not refused for what cannot be asked', async () => {
    const denied = Object.assign(new Error('denied'), { code: 'EACCES' });
    assert.equal(await notLocal('/cache', () => Promise.reject(denied)), undefined);
  });
});
