import assert from 'node:assert/strict';
import { it } from 'node:test';
import { mountAt, parseMounts } from '../../src/fuse/mountinfo.ts';

it('takes lines apart, with and without optional fields, and escapes', () => {
  const text =
    '36 35 98:0 /a\\040b /mnt\\0401 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n' +
    '37 36 0:48 / /mnt/\\134é rw,nosuid - fuse.gvfs images:/vm\\040s rw,user_id=1000,group_id=0\n' +
    'nonsense\n';
  assert.deepEqual(parseMounts(text), [
    {
      device: '98:0',
      root: '/a b',
      mountpoint: '/mnt 1',
      type: 'ext3',
      source: '/dev/root',
      userId: undefined,
    },
    {
      device: '0:48',
      root: '/',
      mountpoint: '/mnt/\\é',
      type: 'fuse.gvfs',
      source: 'images:/vm s',
      userId: 1000,
    },
  ]);
});

it('finds what is mounted here', async () => {
  assert.equal((await mountAt('/proc'))?.type, 'proc');
  assert.equal(await mountAt('/proc/self/no-such'), undefined);
});
