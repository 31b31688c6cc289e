import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { MemoryImages } from './memory-images.ts';
import { MemoryServer } from './memory-server.ts';
import {
  alice,
  bob,
  by,
  bytesOf,
  errno,
  gate,
  Mounted,
  name,
  O_RDONLY,
  O_RDWR,
  settled,
  value,
} from './mounted.ts';

const O_TRUNC = 0o1000;

function world(options: Partial<VfsOptions> = {}) {
  const server = new MemoryServer();
  server.putDirectory('/deep');
  server.putFile('/deep/disk', 'the bytes', 0o666, alice);
  const images = new MemoryImages(server);
  const mount = (more: Partial<VfsOptions> = {}) =>
    new Mounted({ ...options, ...more }, {}, server, { cache: images });
  /** A mount that has recalled what there is. */
  const remount = async (more: Partial<VfsOptions> = {}) => {
    const mounted = mount(more);
    await mounted.fs.recall();
    return mounted;
  };
  return { server, images, mount, remount, mounted: mount() };
}

/** Calls that do not come back until the gate opens. */
function silence(server: MemoryServer) {
  const away = gate();
  server.before = () => away.opened;
  return {
    end: () => {
      server.before = () => undefined;
      away.open();
    },
  };
}

async function names(mounted: Mounted): Promise<string[]> {
  const directory = value(await mounted.fs.opendir(by(alice), ROOT_INO));
  const listed = await mounted.list(directory);
  mounted.fs.releasedir(directory);
  return listed.names;
}

describe('an exclusive session', () => {
  it('asks nothing twice, however much later', async () => {
    const { server, mounted } = world({ session: 'exclusive' });
    const use = async () => {
      const handle = await mounted.open('/deep/disk', O_RDWR);
      assert.equal((await mounted.read(handle, 0, 100)).toString(), 'the bytes');
      const missing = await mounted.fs.lookup(by(alice), ROOT_INO, name('missing'));
      assert.equal(missing.ok ? missing.value.ino : -1, 0);
      value(await mounted.fs.access(by(alice), (await mounted.walk('/deep')).ino, 4));
      assert.deepEqual(await names(mounted), ['.', '..', 'deep']);
      mounted.fs.release(handle);
      await settled();
    };
    await use();
    const { length } = server.calls;
    mounted.clock.advance(1e9);
    await use();
    assert.deepEqual(server.calls.slice(length), []);
  });

  it('asks for every caller of its own', async () => {
    const { server, mounted } = world({ session: 'exclusive' });
    server.setMode('/deep/disk', 0o600);
    mounted.fs.release(await mounted.open('/deep/disk', O_RDONLY));
    const { ino } = await mounted.walk('/deep/disk', bob);
    assert.equal(errno(await mounted.fs.open(by(bob), ino, O_RDONLY)), 'EACCES');
    assert.equal(errno(await mounted.fs.open(by(alice), ino, O_RDWR)), 'ok');
  });

  it('takes in what it is told all the same', async () => {
    const { server, images, mounted } = world({ session: 'exclusive' });
    const handle = await mounted.open('/deep/disk', O_RDWR);
    await mounted.read(handle, 0, 100);
    server.putFile('/deep/disk', 'OTHER BYTES');
    images.evict(1);
    await mounted.read(handle, 0, 4);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'OTHER BYTES');
  });

  it('sees its own changes at once', async () => {
    const { mounted } = world({ session: 'exclusive' });
    assert.deepEqual(await names(mounted), ['.', '..', 'deep']);
    const { handle, ino } = await mounted.create('/new');
    value(await mounted.write(handle, 0, 'hello'));
    assert.equal(await mounted.size(ino), 5);
    assert.deepEqual(await names(mounted), ['.', '..', 'deep', 'new']);
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('new')));
    mounted.fs.release(handle);
    await settled();
    assert.deepEqual(await names(mounted), ['.', '..', 'deep']);
  });
});

describe('a readonly session', () => {
  it('refuses every change', async () => {
    const { server, mounted } = world({ session: 'readonly' });
    const { fs } = mounted;
    const { ino } = await mounted.walk('/deep/disk');
    const at = [by(alice), ROOT_INO, name('x')] as const;
    const outcomes = [
      await fs.create(...at, 0o644, O_RDWR),
      await fs.mkdir(...at, 0o755),
      await fs.mknod(...at, 0o100644, 0),
      await fs.symlink(...at, name('y')),
      await fs.link(by(alice), ino, ROOT_INO, name('x')),
      await fs.unlink(by(alice), (await mounted.walk('/deep')).ino, name('disk')),
      await fs.rmdir(by(alice), ROOT_INO, name('deep')),
      await fs.rename(by(alice), ROOT_INO, name('deep'), ROOT_INO, name('x'), 0),
      await fs.setattr(by(alice), ino, { mode: 0o600 }),
      await fs.open(by(alice), ino, O_RDWR),
      await fs.open(by(alice), ino, O_RDONLY | O_TRUNC),
      await fs.access(by(alice), ino, 2),
    ];
    for (const outcome of outcomes) assert.equal(errno<unknown>(outcome), 'EROFS');
    assert.equal(server.bytesOf('/deep/disk').toString(), 'the bytes');
  });
});

describe('a server that is away', () => {
  async function used(options: Partial<VfsOptions> = {}) {
    const all = world(options);
    const { mounted } = all;
    mounted.fs.release(await mounted.open('/deep/disk', O_RDWR));
    const handle = await mounted.open('/deep/disk', O_RDWR);
    await mounted.read(handle, 0, 100);
    await names(mounted);
    value(await mounted.fs.statfs(by(alice), ROOT_INO));
    mounted.clock.advance(61_000);
    const silent = silence(all.server);
    return { ...all, handle, silent };
  }

  it('leaves what is known and present, to those who wait too', async () => {
    const { server, mounted, handle, silent } = await used();
    const { ino } = mounted.fs.openFiles()[0] ?? { ino: ROOT_INO };
    const calls = [
      mounted.fs.getattr(by(alice), ino),
      mounted.fs.open(by(alice), ino, O_RDONLY),
      mounted.fs.lookup(by(alice), ROOT_INO, name('deep')),
      mounted.fs.statfs(by(alice), ROOT_INO),
    ];
    const read = mounted.fs.read(by(alice), handle, 0, 100);
    await settled();
    mounted.fs.serverState('away');
    for (const call of calls) assert.equal(errno<unknown>(await call), 'ok');
    assert.equal(bytesOf(await read).toString(), 'the bytes');
    const { length } = server.calls;
    const again = await mounted.open('/deep/disk', O_RDONLY);
    assert.equal((await mounted.read(again, 4, 5)).toString(), 'bytes');
    assert.deepEqual(await names(mounted), ['.', '..', 'deep']);
    assert.deepEqual(
      server.calls.slice(length).map(({ procedure }) => procedure),
      [],
    );
    silent.end();
  });

  it('is asked for what is not known, and by whom nothing is known', async () => {
    const { mounted, silent } = await used();
    mounted.fs.serverState('away');
    let answered = 0;
    const count = () => {
      answered += 1;
    };
    const strange = mounted.fs.lookup(by(alice), ROOT_INO, name('unknown')).then(count);
    const { ino } = mounted.fs.openFiles()[0] ?? { ino: ROOT_INO };
    const stranger = mounted.fs.open(by(bob), ino, O_RDONLY).then(count);
    await settled();
    assert.equal(answered, 0);
    silent.end();
    mounted.fs.serverState('back');
    await Promise.all([strange, stranger]);
  });

  it('is asked again when it is back, and what others did meanwhile is seen', async () => {
    const { server, mounted, handle, silent } = await used();
    mounted.fs.serverState('away');
    server.putFile('/deep/disk', 'OTHER BYTES');
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'the bytes');
    silent.end();
    mounted.fs.serverState('back');
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'OTHER BYTES');
  });

  it('does not change what is believed without a cache', async () => {
    const { server } = world();
    const mounted = new Mounted({}, {}, server);
    const { ino } = await mounted.walk('/deep/disk');
    mounted.clock.advance(61_000);
    const silent = silence(server);
    mounted.fs.serverState('away');
    let answered = false;
    const call = mounted.fs.getattr(by(alice), ino).then(() => {
      answered = true;
    });
    await settled();
    assert(!answered);
    silent.end();
    await call;
  });

  it('tells the kernel to ask again soon', async () => {
    const { mounted, silent } = await used();
    mounted.fs.serverState('away');
    const { ino } = mounted.fs.openFiles()[0] ?? { ino: ROOT_INO };
    const attr = value(await mounted.fs.getattr(by(alice), ino));
    assert(attr.attributesValidMs > 0 && attr.attributesValidMs <= 1000);
    silent.end();
  });
});

describe('knowledge', () => {
  const session = 'readonly';

  async function look(mounted: Mounted): Promise<void> {
    const handle = await mounted.open('/deep/disk', O_RDONLY);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'the bytes');
    mounted.fs.release(handle);
    const missing = await mounted.fs.lookup(by(alice), ROOT_INO, name('missing'));
    assert.equal(missing.ok ? missing.value.ino : -1, 0);
    const link = (await mounted.walk('/link')).ino;
    assert.equal(value(await mounted.fs.readlink(by(alice), link)).toString(), 'deep/disk');
    assert.deepEqual(await names(mounted), ['.', '..', 'deep', 'link']);
  }

  it('mounts, names, opens, lists and reads with the server away', async () => {
    const { server, mounted, remount } = world({ session });
    const maker = new Mounted({}, {}, server);
    value(await maker.fs.symlink(by(alice), ROOT_INO, name('link'), name('deep/disk')));
    await look(mounted);
    await mounted.fs.close();
    const { length } = server.calls;
    const silent = silence(server);
    const offline = new Mounted({ session }, {}, server, { cache: (await world()).images });
    offline.fs.serverState('away');
    await offline.fs.recall();
    assert.equal(errno(await offline.fs.getattr(by(alice), ROOT_INO)), 'EIO', 'nothing is known');
    const again = await remount();
    again.fs.serverState('away');
    value(await again.fs.getattr(by(bob), ROOT_INO));
    await look(again);
    assert.deepEqual(server.calls.slice(length), []);
    silent.end();
  });

  it('leaves nothing to ask before the first byte after a remount; without it one call', async () => {
    const { server, mounted, remount } = world({ session: 'exclusive' });
    const first = await mounted.open('/deep/disk', O_RDONLY);
    await mounted.read(first, 0, 100);
    mounted.fs.release(first);
    await mounted.fs.close();
    const asked = async (of: VfsOptions['session']): Promise<string[]> => {
      const again = await remount({ session: of });
      if (of === 'shared') await again.walk('/deep/disk'); // names are asked for, too
      const { length } = server.calls;
      const handle = await again.open('/deep/disk', O_RDONLY);
      assert.equal((await again.read(handle, 0, 3)).toString(), 'the');
      again.fs.release(handle);
      await again.fs.close();
      return server.calls.slice(length).map(({ procedure }) => procedure);
    };
    assert.deepEqual(await asked('exclusive'), []);
    assert.deepEqual(await asked('readonly'), []);
    assert.deepEqual(await asked('shared'), ['access']);
  });

  it('is saved at quiet', async () => {
    const { images, mounted } = world({ session });
    mounted.fs.release(await mounted.open('/deep/disk', O_RDONLY));
    await settled();
    assert.equal(images.knowledge.saves, 0);
    mounted.clock.advance(6_000);
    await settled();
    assert.equal(images.knowledge.saves, 1);
    mounted.clock.advance(6_000);
    await settled();
    await mounted.fs.close();
    assert.equal(images.knowledge.saves, 1, 'nothing new');
  });

  it('is gone before the first change goes out, and is not saved before it is durable', async () => {
    const { server, images, mounted, remount } = world({ session: 'exclusive' });
    mounted.fs.release(await mounted.open('/deep/disk', O_RDWR));
    await mounted.fs.close();
    for (const change of ['write', 'truncate', 'create', 'chmod', 'unlink'] as const) {
      server.putFile('/deep/disk', 'the bytes', 0o666, alice);
      const again = await remount();
      again.fs.release(await again.open('/deep/disk', O_RDWR));
      await again.fs.close();
      const next = await remount();
      const handle = await next.open('/deep/disk', O_RDWR);
      assert(images.knowledge.blob !== undefined);
      let wasThere = false;
      server.before = (call) => {
        const changes = ['write', 'setattr', 'create', 'rename', 'remove'].includes(call.procedure);
        if (changes) wasThere ||= images.knowledge.blob !== undefined;
        return undefined;
      };
      const { ino } = await next.walk('/deep/disk');
      const deep = (await next.walk('/deep')).ino;
      if (change === 'write') value(await next.write(handle, 0, 'THE'));
      if (change === 'truncate') value(await next.fs.open(by(alice), ino, O_RDWR | O_TRUNC));
      if (change === 'create') await next.create('/new');
      if (change === 'chmod') value(await next.fs.setattr(by(alice), ino, { mode: 0o660 }));
      if (change === 'unlink') value(await next.fs.unlink(by(alice), deep, name('disk')));
      assert.equal(images.knowledge.blob, undefined, change);
      assert(!wasThere, change);
      next.clock.advance(6_000);
      await settled();
      const mayBe = change !== 'write';
      assert.equal(images.knowledge.blob !== undefined, mayBe, change);
      if (change === 'write') value(await next.fsync(handle));
      next.clock.advance(6_000);
      await settled();
      assert(images.knowledge.blob !== undefined, change);
      server.before = () => undefined;
      next.fs.release(handle);
      await next.fs.close();
      assert(images.knowledge.blob !== undefined, change);
      images.knowledge.blob = undefined;
    }
  });

  it('of a shared session is none, and what there was goes away as it begins', async () => {
    const { server, images, mounted, remount } = world({ session: 'exclusive' });
    await mounted.open('/deep/disk', O_RDONLY);
    await mounted.fs.close();
    const shared = await remount({ session: 'shared' });
    const { length } = server.calls;
    await shared.open('/deep/disk', O_RDONLY);
    assert(server.calls.length > length, 'nothing was recalled');
    assert.equal(images.knowledge.blob, undefined);
    await shared.fs.close();
    assert.equal(images.knowledge.blob, undefined);
  });

  it('that is damaged, of another version or of another export is ignored', async () => {
    const { server, images, mounted, remount } = world({ session });
    mounted.fs.release(await mounted.open('/deep/disk', O_RDONLY));
    await mounted.fs.close();
    const blob = images.knowledge.blob ?? Buffer.alloc(0);
    const other = Buffer.from(blob);
    other[7] = 0x39;
    for (const bad of [
      ...Array.from({ length: blob.length }, (_, end) => blob.subarray(0, end)),
      Buffer.concat([blob, Buffer.of(0)]),
      other,
    ]) {
      images.knowledge.blob = bad;
      const again = await remount();
      assert.equal(again.fs.figures().inodes, 1);
    }
    images.knowledge.blob = blob;
    const { images: elsewhere } = world();
    elsewhere.knowledge.blob = blob;
    const strange = new MemoryServer();
    for (let i = 0; i < 3; i++) strange.putFile(`/f${i}`, '');
    const root = strange.handleAt('/f2');
    Object.assign(strange, { root });
    const there = new Mounted({ session }, {}, strange, { cache: elsewhere });
    await there.fs.recall();
    assert.equal(there.fs.figures().inodes, 1);
    assert(server.exists('/deep'));
  });

  it('keeps the permissions of each caller apart', async () => {
    const { server, mounted, remount } = world({ session });
    server.setMode('/deep/disk', 0o600);
    mounted.fs.release(await mounted.open('/deep/disk', O_RDONLY));
    await mounted.fs.close();
    const again = await remount();
    const { length } = server.calls;
    const found = await again.walk('/deep/disk');
    assert.equal(server.calls.length, length);
    assert.equal(errno(await again.fs.open(by(bob), found.ino, O_RDONLY)), 'EACCES');
    assert(server.calls.length > length, 'bob was never asked for');
  });
});
