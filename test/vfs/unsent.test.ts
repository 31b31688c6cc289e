import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Ino } from '../../src/base/brand.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import { localError } from '../../src/errors/fs-error.ts';
import type { VfsEvents } from '../../src/vfs/events.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { LocalImages } from './local-images.ts';
import { MemoryServer } from './memory-server.ts';
import {
  alice,
  bob,
  by,
  errno,
  gate,
  Mounted,
  name,
  O_RDONLY,
  O_RDWR,
  settled,
  value,
} from './mounted.ts';

const O_SYNC = 0o4010000;
const O_TRUNC = 0o1000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const root: Credentials = { uid: 0, gid: 0, groups: [] };

interface World {
  readonly options?: Partial<VfsOptions>;
  readonly own?: Credentials;
  readonly bytes?: string;
}

function world({ options = {}, own, bytes = 'the old bytes of it' }: World = {}) {
  const server = new MemoryServer();
  server.putFile('/disk', bytes, 0o666, alice);
  const clock = new ManualClock();
  const exclusive = options.session !== 'shared';
  const images = new LocalImages({ exclusive, clock });
  const told: string[] = [];
  const events: VfsEvents = {
    dirty: () => told.push('dirty'),
    clean: () => told.push('clean'),
    conflict: () => told.push('conflict'),
    unsentDropped: (_ino, path, count) => told.push(`dropped ${path} ${count}`),
    recoveredGone: (path, _bytes, error) => told.push(`gone ${path} ${error.errno}`),
    fileOpened: (_ino, path, writable) => told.push(`opened ${path} ${writable}`),
    fileClosed: (_ino, path) => told.push(`closed ${path}`),
  };
  const all = { session: 'exclusive', write: 'back', ...options } as const;
  const mount = () => new Mounted(all, events, server, { cache: images, own });
  /** The daemon ends with unsent writes, and another takes the cache up. */
  const next = async (mounted: Mounted) => {
    await mounted.fs.close({ keepUnsent: true });
    await images.end();
    images.next();
    const again = mount();
    await again.fs.recall();
    return again;
  };
  return { server, images, mounted: mount(), told, mount, next };
}

/** A file with an unsent write of `bytes` at 0, open. */
async function dirtied(mounted: Mounted, bytes = 'NEW') {
  const handle = await mounted.open('/disk', O_RDWR);
  value(await mounted.write(handle, 0, bytes));
  return handle;
}

async function stat(mounted: Mounted, path = '/disk') {
  const { ino } = await mounted.walk(path);
  return value(await mounted.fs.getattr(by(alice), ino)).attributes;
}

describe('a write in an exclusive session', () => {
  it('is acknowledged by the local disk, and so are fsync and close', async () => {
    const { server, images, mounted } = world();
    const handle = await dirtied(mounted);
    const { length } = server.calls;
    server.before = () => new Promise(() => undefined);
    value(await mounted.write(handle, 8, 'more than one page'));
    value(await mounted.fsync(handle));
    value(await mounted.fs.flush(by(alice), handle));
    assert.equal(images.syncs, 1);
    assert.deepEqual(server.calls.slice(length), []);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'NEW old more than one page');
  });

  it('is durable at the server after fsync, where that is wanted', async () => {
    const { server, mounted } = world({ options: { fsync: 'server' } });
    const handle = await dirtied(mounted);
    value(await mounted.fs.flush(by(alice), handle));
    assert.equal(server.count('write'), 0);
    value(await mounted.fsync(handle));
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('goes through as ever where the option says so', async () => {
    const { server, mounted, told } = world({ options: { write: 'through' } });
    const handle = await dirtied(mounted);
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old bytes of it');
    assert.deepEqual(mounted.fs.unsent(), []);
    mounted.fs.release(handle);
    assert.deepEqual(told, ['opened disk true', 'closed disk']);
  });

  it('goes through where the local disk cannot take it', async () => {
    const { server, images, mounted } = world();
    images.refuses = true;
    await dirtied(mounted);
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old bytes of it');
    assert.deepEqual(mounted.fs.unsent(), []);
  });

  it('goes through where the server may have to take the set-user-id bit away', async () => {
    const { server, mounted } = world();
    const { ino } = await mounted.walk('/disk');
    value(await mounted.fs.setattr(by(alice), ino, { mode: 0o4666 }));
    const handle = await mounted.open('/disk', O_RDWR, bob);
    value(await mounted.write(handle, 0, 'NEW'));
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('is not undone by an older one that went through and is sent again', async () => {
    const { server, images, mounted } = world();
    images.refuses = true;
    const handle = await dirtied(mounted, 'through');
    images.refuses = false;
    value(await mounted.write(handle, 0, 'locally'));
    value(await images.image(server.handleAt('/disk')).writeBack());
    server.restart();
    value(await mounted.fsync(handle));
    value(await mounted.fs.settleUnsent());
    assert.equal(server.stableBytesOf('/disk').toString(), 'locally bytes of it');
  });

  it('with O_SYNC is durable on the local disk', async () => {
    const { server, images, mounted } = world();
    const handle = await mounted.open('/disk', O_RDWR | O_SYNC);
    value(await mounted.write(handle, 0, 'NEW'));
    assert.equal(images.syncs, 1);
    assert.equal(server.count('write'), 0);
  });

  it('makes an image of a new file at once', async () => {
    const { server, mounted } = world();
    const { handle, ino } = await mounted.create('/small');
    value(await mounted.write(handle, 0, 'few bytes'));
    assert.equal(server.count('write'), 0);
    assert.equal(await mounted.size(ino), 9);
  });

  it('tells what has become of it', async () => {
    const { mounted, told } = world();
    const handle = await dirtied(mounted);
    const [line] = mounted.fs.unsent();
    assert.equal(line?.path, 'disk');
    assert.equal(line?.unsent.state, 'dirty');
    assert.equal(mounted.fs.figures().unsentFiles, 1);
    mounted.fs.release(handle);
    value(await mounted.fs.settleUnsent());
    assert.deepEqual(told, ['opened disk true', 'dirty', 'closed disk', 'clean']);
    await settled();
    assert.equal(mounted.fs.figures().openImages, 0);
    assert.equal(mounted.fs.figures().unsentBytes, 0);
  });
});

describe('a write in a shared session', () => {
  const options = { session: 'shared' } as const;

  it('is acknowledged by the local disk, and at the server after close', async () => {
    const { server, mounted } = world({ options });
    const handle = await dirtied(mounted);
    assert.equal(server.count('write'), 0);
    value(await mounted.fs.flush(by(alice), handle));
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('is at the server after fsync, and with O_SYNC at once', async () => {
    const { server, mounted } = world({ options });
    value(await mounted.fsync(await dirtied(mounted)));
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
    const synced = await mounted.open('/disk', O_RDWR | O_SYNC);
    value(await mounted.write(synced, 0, 'newer'));
    assert.equal(server.stableBytesOf('/disk').toString(), 'newerld bytes of it');
  });

  it('is sent after the last release at the latest, which waits for nothing', async () => {
    const { server, mounted } = world({ options });
    const handle = await dirtied(mounted);
    mounted.fs.release(handle);
    assert.equal(server.count('write'), 0);
    await settled();
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it("stays when another's change is seen, and is written over it page by page", async () => {
    const { server, mounted, told } = world({ options });
    const handle = await dirtied(mounted);
    server.putFile('/disk', 'THEIRS, and longer than it was');
    mounted.fs.release(await mounted.open('/disk', O_RDONLY));
    assert.equal((await mounted.read(handle, 0, 99)).toString(), 'NEW old and longer than it was');
    value(await mounted.fsync(handle));
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old and longer than it was');
    assert(!told.includes('conflict'));
  });
});

describe('attributes of a file with unsent writes', () => {
  const longer = 'longer than the old bytes of it';

  it('are ours, whoever asks in whatever way, also when it is closed', async () => {
    const { server, mounted } = world();
    const before = await stat(mounted);
    mounted.fs.release(await dirtied(mounted, longer));
    await settled();
    const handle = value(await mounted.fs.opendir(by(alice), ROOT_INO));
    const sizes: number[] = [];
    await mounted.fs.readdir(by(alice), handle, 0n, true, ({ entry }) => {
      if (entry !== undefined) sizes.push(entry.attributes.size);
      return true;
    });
    const { ino, attributes } = await mounted.walk('/disk');
    const mode = value(await mounted.fs.setattr(by(alice), ino, { mode: 0o600 })).attributes;
    const { entry } = value(
      await mounted.fs.create(by(alice), ROOT_INO, name('disk'), 0o644, O_RDWR),
    );
    for (const shown of [attributes, mode, entry.attributes, await stat(mounted)]) {
      assert.equal(shown.size, longer.length);
      assert(shown.mtimeNs > before.mtimeNs);
      assert(shown.ctimeNs >= shown.mtimeNs);
      assert(shown.used > 0);
    }
    assert.deepEqual(sizes, [longer.length]);
    assert.equal(server.count('write'), 0);
  });

  it('are not believed by the kernel for long', async () => {
    const { mounted } = world();
    await dirtied(mounted);
    assert((await mounted.walk('/disk')).attributesValidMs <= 1000);
    value(await mounted.fs.settleUnsent());
    assert((await mounted.walk('/disk')).attributesValidMs > 1000);
  });

  it('are not undone by an answer that was on its way', async () => {
    const { server, mounted } = world({ options: { session: 'shared' } });
    const handle = await mounted.open('/disk', O_RDWR);
    const { ino } = await mounted.walk('/disk');
    mounted.clock.advance(61_000);
    const late = gate();
    server.after = ({ procedure }) => (procedure === 'getattr' ? late.opened : undefined);
    const asking = mounted.fs.getattr(by(alice), ino);
    await settled();
    server.after = () => undefined;
    value(await mounted.write(handle, 0, longer));
    late.open();
    assert.equal(value(await asking).attributes.size, longer.length);
    assert.equal(await mounted.size(ino), longer.length);
    // Nor by one that was asked before the last of it was sent.
    const older = gate();
    mounted.clock.advance(61_000);
    server.after = ({ procedure }) => (procedure === 'getattr' ? older.opened : undefined);
    const asked = mounted.fs.getattr(by(alice), ino);
    await settled();
    server.after = () => undefined;
    value(await mounted.fsync(handle));
    older.open();
    const { attributes } = value(await asked);
    assert.equal(attributes.size, longer.length);
    assert.equal(attributes.mtimeNs, server.attributesAt('/disk').mtimeNs);
    assert.deepEqual(await stat(mounted), attributes);
  });

  it('end where programs see the end, for those who look for holes', async () => {
    const { mounted } = world();
    const handle = await dirtied(mounted, longer);
    const seek = async (at: number, whence: number) => {
      const found = await mounted.fs.lseek(by(alice), handle, at, whence);
      return found.ok ? found.value : found.error.errno;
    };
    assert.equal(await seek(0, SEEK_HOLE), longer.length);
    assert.equal(await seek(longer.length - 1, SEEK_DATA), longer.length - 1);
    assert.equal(await seek(longer.length, SEEK_DATA), 'ENXIO');
  });

  it('stay as rsync has set them, and are so at the server', async () => {
    const { server, mounted } = world();
    const { handle, ino } = await mounted.create('/.copy.tmp');
    const mtime = 1_234_567_890_123_456_789n;
    value(await mounted.write(handle, 0, 'the copy'));
    value(await mounted.fs.flush(by(alice), handle));
    mounted.fs.release(handle);
    value(await mounted.fs.setattr(by(alice), ino, { atime: 'now', mtime }));
    value(await mounted.fs.setattr(by(alice), ino, { mode: 0o640 }));
    const at = [by(alice), ROOT_INO, name('.copy.tmp'), ROOT_INO, name('copy'), 0] as const;
    value(await mounted.fs.rename(...at));
    assert.equal((await stat(mounted, '/copy')).mtimeNs, mtime);
    value(await mounted.fs.settleUnsent());
    assert.equal(server.stableBytesOf('/copy').toString(), 'the copy');
    assert.equal(server.attributesAt('/copy').mtimeNs, mtime);
    assert.equal((await stat(mounted, '/copy')).mtimeNs, mtime);
  });

  it('that a shared session sets are set when all is sent', async () => {
    const { server, mounted } = world({ options: { session: 'shared' } });
    await dirtied(mounted);
    const { ino } = await mounted.walk('/disk');
    value(await mounted.fs.setattr(by(alice), ino, { mtime: 5n }));
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
    assert.equal(server.attributesAt('/disk').mtimeNs, 5n);
  });
});

describe('a file that cannot be sent', () => {
  it('fails the next fsync or close of each handle, once for each failure', async () => {
    const { images, mounted } = world();
    const first = await dirtied(mounted);
    const second = await mounted.open('/disk', O_RDWR);
    images.failure = localError('ENOSPC', 'WRITE');
    assert.equal(errno(await mounted.fs.settleUnsent()), 'ENOSPC');
    assert.equal(mounted.fs.unsent()[0]?.failure?.errno, 'ENOSPC');
    assert.equal(errno(await mounted.fsync(first)), 'ENOSPC');
    assert.equal(errno(await mounted.fsync(first)), 'ok');
    assert.equal(errno(await mounted.fs.flush(by(alice), second)), 'ENOSPC');
    assert.equal(errno(await mounted.fs.flush(by(alice), second)), 'ok');
    // One that was opened after it has nothing to do with it.
    const third = await mounted.open('/disk', O_RDWR);
    assert.equal(errno(await mounted.fsync(third)), 'ok');
    await mounted.fs.settleUnsent();
    assert.equal(errno(await mounted.fsync(first)), 'ENOSPC');
    images.failure = undefined;
    value(await mounted.fs.settleUnsent());
    assert.equal(errno(await mounted.fsync(second)), 'ok');
  });

  it('fails each fsync that tries in vain, where fsync means the server', async () => {
    const { images, mounted } = world({ options: { session: 'shared' } });
    const handle = await dirtied(mounted);
    images.failure = localError('EDQUOT', 'WRITE');
    assert.equal(errno(await mounted.fsync(handle)), 'EDQUOT');
    assert.equal(errno(await mounted.fs.flush(by(alice), handle)), 'EDQUOT');
    images.failure = undefined;
    assert.equal(errno(await mounted.fs.flush(by(alice), handle)), 'ok');
  });

  it('may be sent as its owner or as root, by a daemon of root', async () => {
    for (const own of [undefined, root]) {
      const { server, images, mounted } = world(own === undefined ? {} : { own });
      const handle = await mounted.open('/disk', O_RDWR, bob);
      value(await mounted.fs.write(by(bob), handle, 0, mounted.payload(Buffer.from('NEW'))));
      const image = images.image(server.handleAt('/disk'));
      const others = image.sending.others();
      assert.deepEqual(others, own === undefined ? [] : [{ ...alice, groups: [] }, root]);
      // Who does not own the file cannot set its times: the owner can, else it is the server's.
      value(await mounted.fs.settleUnsent());
      const shown = server.attributesAt('/disk').mtimeNs;
      assert.equal(shown === mounted.clock.wallNs(), own !== undefined);
    }
  });
});

describe('a file that the server has lost, though it still knows its handle', () => {
  /** Deleted in the server's own directory, before the `count`th call of the procedure. */
  function deletedBefore(server: MemoryServer, procedure: string, count = 1): void {
    let calls = 0;
    server.before = (call) => {
      if (call.procedure === procedure) calls += 1;
      if (call.procedure !== procedure || calls !== count) return undefined;
      deleted(server);
      return undefined;
    };
  }

  function deleted(server: MemoryServer): void {
    const node = server.nodeAt('/disk');
    Object.assign(node, { nlink: 0, ctimeNs: node.ctimeNs + 1n });
  }

  it('is gone, and not in conflict: nothing is called sent, and nothing is dropped', async () => {
    const { server, images, mounted, told } = world();
    mounted.fs.release(await dirtied(mounted));
    const { ino } = await mounted.walk('/disk');
    deleted(server);
    assert.equal(errno(await mounted.fs.settleUnsent()), 'ESTALE');
    assert.equal(mounted.fs.unsent()[0]?.failure?.errno, 'ESTALE');
    value(await mounted.fs.resolve(alice, ino, 'mine'));
    assert.equal(errno(await mounted.fs.settleUnsent()), 'ESTALE');
    assert.equal(server.count('write'), 0);
    assert.equal(mounted.fs.unsent()[0]?.unsent.bytes, 8);
    assert(!told.includes('conflict') && !told.includes('clean'), told.join());
    assert.equal(images.discards, 0);
    await mounted.fs.close();
  });

  for (const procedure of ['write', 'commit', 'setattr']) {
    it(`is not called sent when it goes before a ${procedure}`, async () => {
      const { server, mounted, told } = world();
      mounted.fs.release(await dirtied(mounted));
      deletedBefore(server, procedure);
      assert.equal(errno(await mounted.fs.settleUnsent()), 'ESTALE');
      assert(!told.includes('clean'), told.join());
      if (procedure !== 'setattr') assert.equal(mounted.fs.unsent()[0]?.unsent.bytes, 8);
      await mounted.fs.close();
    });
  }

  it('is neither sent nor dropped by the next daemon', async () => {
    const { server, images, mounted, told, next } = world();
    mounted.fs.release(await dirtied(mounted));
    deleted(server);
    const again = await next(mounted);
    assert.equal(errno(await again.fs.settleUnsent()), 'ESTALE');
    assert(told.includes('gone image ESTALE'), told.join());
    assert.equal(server.count('write'), 0);
    assert.equal(images.discards, 0);
    await again.fs.close();
  });
});

describe('a file that loses its name', () => {
  const O_CREATED = [ROOT_INO, name('disk')] as const;

  it('takes its unsent writes with it when the server says so, and not before', async () => {
    const { server, images, mounted, told } = world();
    mounted.fs.release(await dirtied(mounted));
    const late = gate();
    server.before = ({ procedure }) => (procedure === 'remove' ? late.opened : undefined);
    const removing = mounted.fs.unlink(by(alice), ...O_CREATED);
    await settled();
    // Nothing is sent while it may be gone, and nothing is dropped.
    const sending = mounted.fs.settleUnsent();
    await settled();
    assert.equal(images.discards, 0);
    assert.equal(server.count('write'), 0);
    late.open();
    value(await removing);
    await sending;
    assert.equal(server.count('write'), 0);
    assert.equal(images.discards, 1);
    assert(told.includes('dropped disk 8'), told.join());
    await settled();
    assert.equal(mounted.fs.figures().openImages, 0);
  });

  it('keeps them when the server refuses', async () => {
    const { server, images, mounted } = world();
    mounted.fs.release(await dirtied(mounted));
    server.fail = ({ procedure }) => (procedure === 'remove' ? 'NFS3ERR_ACCES' : undefined);
    assert.equal(errno(await mounted.fs.unlink(by(alice), ...O_CREATED)), 'EACCES');
    assert.equal(images.discards, 0);
    value(await mounted.fs.settleUnsent());
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('keeps them while it has another, which this host may not even know', async () => {
    const { server, images, mounted } = world();
    const handle = await dirtied(mounted);
    value(await mounted.fs.link(by(alice), (await mounted.walk('/disk')).ino, ROOT_INO, name('x')));
    mounted.fs.release(handle);
    value(await mounted.fs.unlink(by(alice), ...O_CREATED));
    assert.equal(images.discards, 0);
    assert.equal((await stat(mounted, '/x')).mtimeNs, mounted.clock.wallNs());
    value(await mounted.fs.settleUnsent());
    assert.equal(server.bytesOf('/x').toString(), 'NEW old bytes of it');
  });

  it('takes them with it when another is renamed over it', async () => {
    const { server, images, mounted } = world();
    server.putFile('/other', 'the other one', 0o666, alice);
    mounted.fs.release(await dirtied(mounted));
    const at = [by(alice), ROOT_INO, name('other'), ...O_CREATED, 0] as const;
    value(await mounted.fs.rename(...at));
    assert.equal(images.discards, 1);
    value(await mounted.fs.settleUnsent());
    assert.equal(server.bytesOf('/disk').toString(), 'the other one');
  });

  it('is found by its inode, though its name is not known any more', async () => {
    const { server, images, mounted } = world({ options: { nameCacheEntries: 1 } });
    server.putFile('/other', '');
    mounted.fs.release(await dirtied(mounted));
    await mounted.walk('/other');
    value(await mounted.fs.unlink(by(alice), ...O_CREATED));
    assert.equal(images.discards, 1);
  });

  it('goes on while it is open, and takes them with it at its last close', async () => {
    const { server, images, mounted } = world({ options: { session: 'shared' } });
    const handle = await dirtied(mounted);
    value(await mounted.fs.unlink(by(alice), ...O_CREATED));
    value(await mounted.write(handle, 3, '-NEWER'));
    assert.equal((await mounted.read(handle, 0, 99)).toString(), 'NEW-NEWERytes of it');
    assert.equal(images.discards, 0);
    value(await mounted.fs.flush(by(alice), handle));
    mounted.fs.release(handle);
    await settled();
    assert.deepEqual(server.namesIn('/'), []);
    assert.equal(server.count('write'), 0);
    assert.equal(images.discards, 1);
  });
});

describe('what another daemon left behind', () => {
  it('is shown at once, and sent', async () => {
    const { server, mounted, next } = world();
    mounted.fs.release(await dirtied(mounted, 'longer than the old bytes of it'));
    const away = gate();
    const { mtimeNs } = await stat(mounted);
    let looks = 0;
    server.before = ({ procedure }) => {
      if (procedure === 'getattr') looks += 1;
      return procedure === 'getattr' && looks === 1 ? away.opened : undefined;
    };
    const again = await next(mounted);
    assert.equal(again.fs.unsent()[0]?.recovered, true);
    assert.equal((await again.walk('/disk')).attributes.size, 31);
    assert.equal((await again.walk('/disk')).attributes.mtimeNs, mtimeNs);
    away.open();
    value(await again.fs.settleUnsent());
    assert.equal(server.stableBytesOf('/disk').toString(), 'longer than the old bytes of it');
    assert.deepEqual(again.fs.unsent(), []);
  });

  it('is sent where all writes go through now, and fsync waits for it', async () => {
    const { server, images, mounted, next } = world();
    mounted.fs.release(await dirtied(mounted));
    await (await next(mounted)).fs.close({ keepUnsent: true });
    images.next();
    const through = new Mounted({ write: 'through' }, {}, server, { cache: images });
    await through.fs.recall();
    const handle = await through.open('/disk', O_RDWR);
    value(await through.write(handle, 1, 'n'));
    value(await through.fsync(handle));
    assert.equal(server.stableBytesOf('/disk').toString(), 'NnW old bytes of it');
  });

  it('is neither sent nor dropped nor shown when its file is gone', async () => {
    const { server, images, mounted, told, next } = world();
    mounted.fs.release(await dirtied(mounted));
    server.deletePath('/disk');
    const again = await next(mounted);
    await settled();
    assert(told.includes('gone image ESTALE'));
    assert.equal(errno(await again.fs.settleUnsent()), 'ESTALE');
    assert.equal(again.fs.unsent()[0]?.failure?.errno, 'ESTALE');
    assert.equal(images.discards, 0);
    await again.fs.close();
  });

  it("is dropped upon its owner's word when its file is gone, or not at all", async () => {
    const { server, images, mounted, told, next } = world();
    mounted.fs.release(await dirtied(mounted));
    server.deletePath('/disk');
    const again = await next(mounted);
    const [left] = again.fs.unsent();
    images.failure = localError('EIO', 'drop');
    assert.equal(errno(await again.fs.discardUnsent(left?.ino as Ino)), 'EIO');
    assert.equal(again.fs.unsent()[0]?.unsent.bytes, 8);
    images.failure = undefined;
    value(await again.fs.discardUnsent(left?.ino as Ino));
    assert.deepEqual([again.fs.unsent(), images.discards], [[], 1]);
    assert(told.includes('dropped image 8'), told.join());
    value(await again.fs.settleUnsent());
    await again.fs.close();
    images.next();
    assert.deepEqual(images.recovered, []);
  });

  it('keeps its name until it is looked up', async () => {
    const { server, images, mounted, next } = world({ options: { session: 'shared' } });
    images.failure = localError('ENOSPC', 'WRITE');
    mounted.fs.release(await dirtied(mounted));
    const again = await next(mounted);
    assert.equal(errno(await again.fs.settleUnsent()), 'ENOSPC');
    assert.equal(again.fs.unsent()[0]?.path, 'image');
    assert.equal(images.image(server.handleAt('/disk')).path, 'image');
    await again.walk('/disk');
    assert.equal(again.fs.unsent()[0]?.path, 'disk');
  });

  it('does not travel to another file under the same handle', async () => {
    const { server, images, mounted, told, next } = world();
    mounted.fs.release(await dirtied(mounted, 'longer than the old bytes of it'));
    await (await next(mounted)).fs.close({ keepUnsent: true });
    images.next();
    images.recovered = images.recovered.map((left) => ({ ...left, fileid: 77n }));
    const again = new Mounted(
      { session: 'exclusive', write: 'back' },
      { recoveredGone: (path) => told.push(`another than ${path}`) },
      server,
      { cache: images },
    );
    await again.fs.recall();
    assert.equal((await again.walk('/disk')).attributes.size, 19);
    const handle = await again.open('/disk', O_RDWR);
    assert.equal((await again.read(handle, 0, 99)).toString(), 'the old bytes of it');
    value(await again.write(handle, 0, 'through'));
    value(await again.fsync(handle));
    assert.equal(server.stableBytesOf('/disk').toString(), 'through bytes of it');
    assert(told.includes('another than image'));
    again.fs.release(handle);
    await again.fs.close();
  });

  it('does not travel to what is no file, and nobody waits for it', async () => {
    const { server, images, mounted, told, next } = world();
    mounted.fs.release(await dirtied(mounted));
    server.before = ({ procedure }) => {
      if (procedure === 'getattr') Object.assign(server.nodeAt('/disk'), { type: 'directory' });
      return undefined;
    };
    const again = await next(mounted);
    await settled();
    assert(told.includes('gone image ESTALE'));
    assert.equal(errno(await again.fs.settleUnsent()), 'ESTALE');
    assert.equal(images.discards, 0);
    await again.fs.close();
  });

  it('fails a write-back with what the server says of it, one file or another', async () => {
    const { server, mounted, next } = world();
    server.putFile('/other', 'other bytes', 0o666, alice);
    mounted.fs.release(await dirtied(mounted));
    const other = await mounted.open('/other', O_RDWR);
    value(await mounted.write(other, 0, 'OTHER'));
    mounted.fs.release(other);
    const refused = server.handleAt('/disk');
    server.fail = ({ procedure, file }) =>
      procedure === 'getattr' && file?.equals(refused) === true ? 'NFS3ERR_SERVERFAULT' : undefined;
    const again = await next(mounted);
    assert.equal(errno(await again.fs.settleUnsent()), 'EREMOTEIO');
    assert.equal(server.stableBytesOf('/other').toString(), 'OTHER bytes');
    const [left, ...others] = again.fs.unsent();
    assert.deepEqual([left?.failure?.errno, others], ['EREMOTEIO', []]);
    // Nor is it said to be dropped, or resolved, while its image is not open.
    assert.equal(errno(await again.fs.discardUnsent(left?.ino as Ino)), 'EREMOTEIO');
    assert.equal(errno(await again.fs.resolve(alice, left?.ino as Ino, 'theirs')), 'EREMOTEIO');
    server.fail = () => undefined;
    again.clock.advance(10_000);
    await settled();
    value(await again.fs.settleUnsent());
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('is cut by an open that truncates, though its image was not open yet', async () => {
    for (const session of ['exclusive', 'shared'] as const) {
      const { server, images, mounted, told, next } = world({ options: { session } });
      images.failure = localError('ENOSPC', 'WRITE');
      mounted.fs.release(await dirtied(mounted));
      await settled();
      server.fail = ({ procedure }) => (procedure === 'getattr' ? 'NFS3ERR_IO' : undefined);
      const again = await next(mounted);
      images.failure = undefined;
      const handle = await again.open('/disk', O_RDWR | O_TRUNC);
      server.fail = () => undefined;
      value(await again.write(handle, 4, 'ER'));
      assert.equal((await again.read(handle, 0, 99)).toString(), '\0\0\0\0ER');
      value(await again.fs.settleUnsent());
      assert.equal(server.stableBytesOf('/disk').toString(), '\0\0\0\0ER');
      assert(!told.includes('conflict'), told.join());
    }
  });

  it('waits for a server that does not answer', async () => {
    const { server, mounted, next } = world();
    mounted.fs.release(await dirtied(mounted));
    server.fail = ({ procedure }) => (procedure === 'getattr' ? 'NFS3ERR_IO' : undefined);
    const again = await next(mounted);
    await settled();
    server.fail = () => undefined;
    again.clock.advance(10_000);
    await settled();
    value(await again.fs.settleUnsent());
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });
});

describe('the end of a session', () => {
  it('sends everything', async () => {
    const { server, mounted } = world();
    await dirtied(mounted);
    await mounted.fs.close();
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
    assert.equal(mounted.fs.figures().openImages, 0);
  });

  it('tries again until it can, but for what waits for a decision', async () => {
    const { server, images, mounted } = world();
    mounted.fs.release(await dirtied(mounted));
    images.failure = localError('ENOSPC', 'WRITE');
    let isClosed = false;
    const closing = mounted.fs.close().then(() => {
      isClosed = true;
    });
    await settled();
    mounted.clock.advance(10_000);
    await settled();
    assert.equal(isClosed, false);
    images.failure = undefined;
    mounted.clock.advance(10_000);
    await closing;
    assert.equal(server.stableBytesOf('/disk').toString(), 'NEW old bytes of it');
  });

  it('keeps all, where it is told to', async () => {
    const { server, images, mounted } = world();
    await dirtied(mounted);
    await mounted.fs.close({ keepUnsent: true });
    assert.equal(server.count('write'), 0);
    images.next();
    assert.equal(images.recovered.length, 1);
  });

  it('refuses opens before, and lets what is open go on', async () => {
    const { mounted } = world();
    const handle = await dirtied(mounted);
    mounted.fs.setOpens('refused');
    const { ino } = await mounted.walk('/disk');
    assert.equal(errno(await mounted.fs.open(by(alice), ino, O_RDONLY)), 'EBUSY');
    const at = [by(alice), ROOT_INO, name('new'), 0o644, O_RDWR] as const;
    assert.equal(errno(await mounted.fs.create(...at)), 'EBUSY');
    value(await mounted.write(handle, 0, 'goes on'));
    mounted.fs.setOpens('allowed');
    assert.equal(errno(await mounted.fs.open(by(alice), ino, O_RDONLY)), 'ok');
  });
});

describe('doubt', () => {
  it('has everything asked for again, in an exclusive session too', async () => {
    const { server, mounted } = world();
    const handle = await mounted.open('/disk', O_RDWR);
    server.putFile('/disk', 'what another host has made of it');
    assert.equal((await stat(mounted)).size, 19);
    mounted.fs.doubt();
    assert.equal((await stat(mounted)).size, 32);
    const read = await mounted.read(handle, 0, 99);
    assert.equal(read.toString(), 'what another host has made of it');
  });

  it('drops in a shared session what was written here while others may have written, too', async () => {
    const { server, mounted } = world({ options: { session: 'shared' } });
    const handle = await dirtied(mounted);
    value(await mounted.fsync(handle));
    const { ino } = await mounted.walk('/disk');
    const keeps = async () => value(await mounted.fs.open(by(alice), ino, O_RDONLY)).keepCache;
    await keeps();
    assert.equal(await keeps(), true);
    mounted.fs.doubt(ino);
    assert.equal(await keeps(), false);
    mounted.fs.doubt(ino);
    assert.equal(await keeps(), true);
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old bytes of it');
  });
});

describe('a conflict', () => {
  /** Another has changed the file under unsent writes of an exclusive session. */
  async function conflict() {
    const made = world();
    const handle = await dirtied(made.mounted);
    made.server.putFile('/disk', 'THEIR bytes, which are more');
    made.mounted.fs.doubt();
    await stat(made.mounted);
    await settled();
    const { ino } = await made.mounted.walk('/disk');
    return { ...made, handle, ino };
  }

  it('is told of at once; nothing is sent, and reads go on', async () => {
    const { server, mounted, told, handle } = await conflict();
    assert(told.includes('conflict'));
    assert.equal(errno(await mounted.fs.settleUnsent()), 'EBUSY');
    assert.equal(server.count('write'), 0);
    assert.equal((await mounted.read(handle, 0, 8)).toString(), 'NEW old ');
    await mounted.fs.close();
    assert.equal(server.count('write'), 0);
    // The daemon says what stays.
    assert.deepEqual(
      mounted.fs.unsent().map(({ path, unsent }) => [path, unsent.bytes]),
      [['disk', 8]],
    );
  });

  it('is decided for ours', async () => {
    const { server, mounted, ino } = await conflict();
    value(await mounted.fs.resolve(alice, ino, 'mine'));
    value(await mounted.fs.settleUnsent());
    assert.equal(server.bytesOf('/disk').toString(), 'NEW old tes, which are more');
  });

  it('is not decided once nobody waits for it any more', async () => {
    const { server, images, mounted, told, ino } = await conflict();
    const away = gate();
    server.before = ({ procedure }) => (procedure === 'getattr' ? away.opened : undefined);
    const patience = new AbortController();
    const resolving = mounted.fs.resolve(alice, ino, 'theirs', patience.signal);
    await settled();
    patience.abort();
    away.open();
    assert.equal(errno(await resolving), 'EINTR');
    assert.equal(images.discards, 0);
    assert(told.includes('conflict'));
  });

  it('is decided for theirs', async () => {
    const { server, images, mounted, ino, handle } = await conflict();
    value(await mounted.fs.resolve(alice, ino, 'theirs'));
    assert.equal(images.discards, 1);
    assert.equal(server.count('write'), 0);
    assert.equal((await mounted.read(handle, 0, 99)).toString(), 'THEIR bytes, which are more');
    assert.equal((await stat(mounted)).size, 27);
  });

  it('ends with the unsent writes when they are given up', async () => {
    const { mounted, ino } = await conflict();
    value(await mounted.fs.discardUnsent(ino));
    assert.deepEqual(mounted.fs.unsent(), []);
    assert.equal((await stat(mounted)).size, 27);
  });
});
