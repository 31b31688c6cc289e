/**
 * Which mount a path lies in, from the kernel's list, without a mount.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findMount, gvfsMounts } from '../../src/daemon/control/find.ts';
import { possibleSocketPaths, socketPath } from '../../src/daemon/control/socket-path.ts';
import { parseMounts } from '../../src/fuse/mountinfo.ts';

const mounts = parseMounts(`22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:28 / /run rw,nosuid - tmpfs tmpfs rw,size=1g
41 22 0:50 / /mnt/vm rw,nosuid - fuse.gvfs images:/vm rw,user_id=0,group_id=0,allow_other
42 41 0:51 / /mnt/vm/scratch rw - tmpfs tmpfs rw
43 22 0:52 / /mnt/vm2 rw,nosuid - fuse.gvfs images:/vm2 rw,user_id=1000,group_id=1000
44 22 0:53 / /mnt/with\\040blank ro - fuse.gvfs images:/b ro,user_id=0
45 22 0:54 / /mnt/hidden rw - fuse.gvfs images:/h rw
46 45 0:55 / /mnt/hidden rw - ext4 /dev/vdb rw
47 41 0:56 / /mnt/vm/nested rw - fuse.gvfs images:/nested rw
48 22 0:57 / /mnt/w\u00f6rter rw - fuse.gvfs images:/w rw
49 22 0:50 /a /srv/bind rw - fuse.gvfs images:/vm rw,user_id=0,group_id=0,allow_other
50 22 0:50 / /srv/whole rw - fuse.gvfs images:/vm rw,user_id=0,group_id=0,allow_other
`);
const links: Readonly<Record<string, string>> = {
  '/home/u/vm': '/mnt/vm',
  '/home/u/disk': '../../mnt/vm/disk.img',
  '/home/u/loop': 'loop',
  '/home/u/up': '..',
};

describe('the mount of a path', () => {
  const cases: [path: string, mountpoint: string | undefined, within?: string][] = [
    ['/mnt/vm', '/mnt/vm', ''],
    ['/mnt/vm/', '/mnt/vm', ''],
    ['/mnt/vm/a/b.img', '/mnt/vm', 'a/b.img'],
    ['/mnt//vm/./a/../b.img', '/mnt/vm', 'b.img'],
    ['/mnt/vm/../vm2/x', '/mnt/vm2', 'x'],
    ['/mnt/vm2/x', '/mnt/vm2', 'x'],
    ['/mnt/vm3/x', undefined],
    ['/mnt', undefined],
    ['/', undefined],
    ['/mnt/with blank/x y', '/mnt/with blank', 'x y'],
    ['/mnt/hidden/x', undefined],
    ['/mnt/vm/scratch/x', undefined],
    ['/mnt/vm/nested/x', '/mnt/vm/nested', 'x'],
    ['/mnt/w\u00f6rter/\u00e4%', '/mnt/w\u00f6rter', '\u00e4%25'],
    ['/home/u/vm/a', '/mnt/vm', 'a'],
    ['/home/u/disk', '/mnt/vm', 'disk.img'],
    ['/home/u/up/u/vm/a', '/mnt/vm', 'a'],
    ['/home/u/loop/a', undefined],
    ['vm/a', '/mnt/vm', 'a'],
    ['../../mnt/vm/a', '/mnt/vm', 'a'],
  ];
  for (const [path, mountpoint, within] of cases) {
    it(path, () => {
      const found = findMount(Buffer.from(path), '/home/u', mounts, readLink([]));
      assert.deepEqual([found?.mount.mountpoint, found?.path], [mountpoint, within]);
    });
  }

  it('may be seen in other places, and in part', () => {
    const part = findMount(Buffer.from('/srv/bind/b.img'), '/', mounts, readLink([]));
    assert.deepEqual(part, {
      mount: {
        mountpoint: '/srv/bind',
        source: 'images:/vm',
        mountpoints: ['/mnt/vm', '/srv/whole'],
        userId: 0,
      },
      path: 'a/b.img',
    });
    const whole = findMount(Buffer.from('/srv/whole/b.img'), '/', mounts, readLink([]));
    assert.equal(whole?.path, 'b.img');
    assert.deepEqual(whole?.mount.mountpoints, ['/srv/whole', '/mnt/vm']);
    assert.equal(findMount(Buffer.from('/mnt/vm2'), '/', mounts, readLink([]))?.mount.userId, 1000);
  });

  it('keeps bytes that are no UTF-8', () => {
    const path = Buffer.concat([Buffer.from('/mnt/vm/a'), Buffer.from([0xff]), Buffer.from('%')]);
    assert.equal(findMount(path, '/', mounts, readLink([]))?.path, 'a%FF%25');
  });

  it('looks at nothing from the mountpoint on', () => {
    const seen: string[] = [];
    findMount(Buffer.from('/mnt/vm/scratch/../a/b'), '/', mounts, readLink(seen));
    findMount(Buffer.from('c'), '/mnt/vm/deep', mounts, readLink(seen));
    assert.deepEqual(seen, ['/mnt', '/mnt']);
  });

  it('lists what is visible', () => {
    assert.deepEqual(
      gvfsMounts(mounts).map(({ mountpoint }) => mountpoint),
      ['/mnt/vm', '/mnt/vm2', '/mnt/with blank', '/mnt/vm/nested', '/mnt/w\u00f6rter'],
    );
  });

  function readLink(seen: string[]) {
    return (path: Buffer) => {
      seen.push(path.toString());
      const target = links[path.toString()];
      return target === undefined ? undefined : Buffer.from(target);
    };
  }
});

describe('the path of the socket', () => {
  it('is made of the mountpoint', () => {
    // printf %s /mnt/vm | sha256sum
    const name = 'f7665d6e74b62de4.sock';
    const runtime = { XDG_RUNTIME_DIR: '/run/user/7' };
    assert.equal(socketPath('/mnt/vm', { uid: 0, env: runtime }), `/run/gvfs/${name}`);
    assert.equal(socketPath('/mnt/vm', { uid: 7, env: runtime }), `/run/user/7/gvfs/${name}`);
    assert.equal(socketPath('/mnt/vm', { uid: 7, env: {} }), `/tmp/gvfs-7/${name}`);
    const relative = { XDG_RUNTIME_DIR: 'run' };
    assert.equal(socketPath('/mnt/vm', { uid: 7, env: relative }), `/tmp/gvfs-7/${name}`);
  });

  it('is among those that are tried, in whatever surroundings the daemon was started', () => {
    for (const [daemon, client] of [
      [{}, { XDG_RUNTIME_DIR: '/run/user/7' }],
      [{ XDG_RUNTIME_DIR: '/run/user/7' }, {}],
      [{ XDG_RUNTIME_DIR: '/elsewhere' }, { XDG_RUNTIME_DIR: '/elsewhere' }],
    ]) {
      const socket = socketPath('/mnt/vm', { uid: 7, env: daemon ?? {} });
      const tried = possibleSocketPaths('/mnt/vm', 7, { uid: 7, env: client ?? {} });
      assert.ok(tried.includes(socket), socket);
    }
    const asRoot = possibleSocketPaths('/mnt/vm', 7, { uid: 0, env: {} });
    assert.equal(asRoot.length, 2);
    assert.equal(possibleSocketPaths('/mnt/vm', 0, { uid: 0, env: {} }).length, 1);
  });
});
