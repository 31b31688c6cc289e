/**
 * Whose change it was: another client's must drop what is kept of a file, also where calls of ours
 * overlap, or a server tells little of what it found; and ours must keep it.
 */
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
  errno,
  gate,
  Mounted,
  name,
  O_RDONLY,
  O_RDWR,
  settled,
  value,
} from './mounted.ts';

const HOUR_NS = 3_600_000_000_000n;
const old = 'old bytes, of some pages of eight each';
const changed = 'NEW BYTES, OF SOME PAGES OF EIGHT EACH';

/** A file that was last changed an hour ago: what is known of it is believed for a minute. */
function world(options: Partial<VfsOptions> = {}, events = {}) {
  const server = new MemoryServer();
  const images = new MemoryImages(server);
  const all = { smallFileBytes: 0, ...options };
  const mounted = new Mounted(all, events, server, { cache: images });
  server.nowNs = mounted.clock.wallNs() - HOUR_NS;
  server.putFile('/f', old, 0o666, alice);
  server.nowNs = mounted.clock.wallNs();
  const readAll = async (path = '/f') => {
    const handle = await mounted.open(path, O_RDONLY);
    const bytes = (await mounted.read(handle, 0, 1 << 22)).toString();
    mounted.fs.release(handle);
    await settled();
    return bytes;
  };
  return { server, images, mounted, readAll };
}

/** A server that leaves out what it found before a change. */
function tellNoBefore(server: MemoryServer): void {
  const setattr = server.setattr.bind(server);
  server.setattr = async (...args) => {
    const result = await setattr(...args);
    return result.ok ? { ok: true, value: { after: result.value.after } } : result;
  };
  const write = server.write.bind(server);
  server.write = async (...args) => {
    const result = await write(...args);
    if (!result.ok) return result;
    return { ok: true, value: { ...result.value, wcc: { after: result.value.wcc.after } } };
  };
}

describe('a change by another client that nobody has seen yet', () => {
  const acts = {
    link: ({ fs }: Mounted, ino: number) => fs.link(by(alice), ino as never, ROOT_INO, name('g')),
    'rename that replaces nothing': ({ fs }: Mounted) =>
      fs.rename(by(alice), ROOT_INO, name('f'), ROOT_INO, name('g'), 1),
    chmod: ({ fs }: Mounted, ino: number) =>
      fs.setattr(by(alice), ino as never, { mode: 0o644 }, undefined),
    utimes: ({ fs }: Mounted, ino: number) =>
      fs.setattr(by(alice), ino as never, { mtime: 'now', atime: 'now' }, undefined),
  };
  for (const before of ['told', 'not told'] as const) {
    for (const [what, act] of Object.entries(acts)) {
      it(`is not taken for ours by a ${what}; "before" is ${before}`, async () => {
        const { server, mounted, readAll } = world();
        if (before === 'not told') tellNoBefore(server);
        assert.equal(await readAll(), old);
        const { ino } = await mounted.walk('/f');
        mounted.clock.advance(1_000);
        server.putFile('/f', changed);
        const done = await act(mounted, ino);
        assert.equal(errno<unknown>(done), 'ok');
        mounted.clock.advance(100_000);
        await settled();
        assert.equal(await readAll(what.startsWith('rename') ? '/g' : '/f'), changed);
      });
    }

    it(`is not taken for ours by a write of several WRITEs; "before" is ${before}`, async () => {
      const { server, mounted, readAll } = world();
      if (before === 'not told') tellNoBefore(server);
      const size = 2 << 20;
      server.putFile('/f', Buffer.alloc(size, 'o'));
      const handle = await mounted.open('/f', O_RDWR);
      await mounted.read(handle, 0, size);
      // From its answer it is known what the server tells.
      value(await mounted.write(handle, 0, 'o'));
      mounted.clock.advance(2_000);
      server.putFile('/f', Buffer.alloc(size, 'N'));
      value(await mounted.write(handle, 0, Buffer.alloc(1 << 20, 'w')));
      value(await mounted.fsync(handle));
      mounted.fs.release(handle);
      await settled();
      assert.equal(await readAll(), 'w'.repeat(1 << 20) + 'N'.repeat(1 << 20));
    });
  }
});

describe('changes of ours', () => {
  it('keep what is kept: a link, a write of several WRITEs', async () => {
    const { server, images, mounted, readAll } = world();
    const size = 2 << 20;
    server.putFile('/f', Buffer.alloc(size, 'o'));
    const handle = await mounted.open('/f', O_RDWR);
    await mounted.read(handle, 0, size);
    value(await mounted.write(handle, 0, Buffer.alloc(1 << 20, 'w')));
    value(await mounted.fsync(handle));
    const { ino } = await mounted.walk('/f');
    value(await mounted.fs.link(by(alice), ino, ROOT_INO, name('g')));
    mounted.fs.release(handle);
    await settled();
    const { fetchedBytes } = images;
    assert.equal(await readAll(), 'w'.repeat(1 << 20) + 'o'.repeat(1 << 20));
    assert.equal(images.fetchedBytes, fetchedBytes);
    assert.equal(images.replaced + images.setAside, 0);
  });

  it('keep what is kept where the server tells no "before": it is asked after a pause', async () => {
    const { server, images, mounted, readAll } = world();
    tellNoBefore(server);
    const handle = await mounted.open('/f', O_RDWR);
    await mounted.read(handle, 0, 100);
    const asked = server.count('getattr');
    for (const [pauseMs, bytes] of [
      [5_000, 'one'],
      [10, 'two'],
      [10, 'xxx'],
      [5_000, 'old'],
    ] as const) {
      mounted.clock.advance(pauseMs);
      value(await mounted.write(handle, 0, bytes));
      value(await mounted.fsync(handle));
    }
    assert.equal(server.count('getattr') - asked, 2);
    mounted.fs.release(handle);
    await settled();
    const { fetchedBytes } = images;
    assert.equal(await readAll(), old);
    assert.equal(images.fetchedBytes, fetchedBytes);
  });

  it('of the mode are believed though they overlap a WRITE within a tick', async () => {
    const { server, mounted } = world({ session: 'exclusive' });
    const { ino } = await mounted.walk('/f', bob);
    mounted.fs.release(await mounted.open('/f', O_RDONLY, bob));
    const handle = await mounted.open('/f', O_RDWR);
    server.tickNs = 0n;
    server.nowNs += 4_000_000n;
    const [write, chmod] = [gate(), gate()];
    server.after = ({ procedure }) => {
      if (procedure === 'write') return write.opened;
      return procedure === 'setattr' ? chmod.opened : undefined;
    };
    const writing = mounted.write(handle, 0, 'y');
    await settled();
    const setting = mounted.fs.setattr(by(alice), ino, { mode: 0o600 }, undefined);
    await settled();
    write.open();
    await settled();
    chmod.open();
    value(await writing);
    assert.equal(value(await setting).attributes.mode, 0o600);
    mounted.clock.advance(3_600_000);
    const found = await mounted.walk('/f', bob);
    assert.equal(errno(await mounted.fs.open(by(bob), found.ino, O_RDONLY)), 'EACCES');
  });

  it('of the size are believed though they overlap a change of the mode', async () => {
    const { server, mounted, readAll } = world({ session: 'exclusive' });
    await readAll();
    const { ino } = await mounted.walk('/f');
    const chmod = gate();
    server.after = (call) => {
      if (call.procedure !== 'setattr') return undefined;
      server.after = () => undefined;
      return chmod.opened;
    };
    const setting = mounted.fs.setattr(by(alice), ino, { mode: 0o600 }, undefined);
    await settled();
    value(await mounted.fs.setattr(by(alice), ino, { size: 3 }, undefined));
    chmod.open();
    value(await setting);
    assert.equal(await mounted.size(ino), 3);
    assert.equal(await readAll(), old.slice(0, 3));
  });
});

describe('a file with two names, one removed while it is open', () => {
  async function removeOneName(session: 'shared' | 'exclusive', events = {}) {
    const there = world({ session }, events);
    const { mounted } = there;
    const { ino } = await mounted.walk('/f');
    value(await mounted.fs.link(by(alice), ino, ROOT_INO, name('g')));
    const handle = await mounted.open('/f', O_RDWR);
    await mounted.read(handle, 0, 100);
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('f')));
    mounted.fs.release(handle);
    await settled();
    return there;
  }

  it('is known with the attributes that it has then', async () => {
    const { server, mounted } = await removeOneName('exclusive');
    const { attributes } = await mounted.walk('/g');
    const { nlink, ctimeNs } = server.attributesAt('/g');
    assert.deepEqual([attributes.nlink, attributes.ctimeNs], [nlink, ctimeNs]);
  });

  it('keeps what is kept of it', async () => {
    const { images, mounted, readAll } = await removeOneName('shared');
    mounted.clock.advance(100_000);
    await settled();
    const { fetchedBytes } = images;
    assert.equal(await readAll('/g'), old);
    assert.equal(images.fetchedBytes, fetchedBytes);
  });

  it('tells of what is lost of it later', async () => {
    let lost = 0;
    const writesLost = () => {
      lost += 1;
    };
    const { server, mounted } = await removeOneName('shared', { writesLost });
    const handle = await mounted.open('/g', O_RDWR);
    value(await mounted.write(handle, 0, 'precious'));
    server.fail = ({ procedure }) => (procedure === 'commit' ? 'NFS3ERR_IO' : undefined);
    await mounted.fs.close();
    assert.equal(lost, 1);
  });
});

describe('an open that was sent back', () => {
  const O_WRONLY_APPEND = 0o2001;

  it('and never came again does not let the next one of its thread pass', async () => {
    const { server, mounted } = world();
    server.putFile('/other', 'bbbb', 0o666, alice);
    const [gone, other] = [await mounted.walk('/f'), await mounted.walk('/other')];
    server.deletePath('/f');
    assert.equal(errno(await mounted.fs.open(by(alice), gone.ino, O_RDONLY)), 'ESTALE');
    server.putFile('/other', 'bbbbBBBB');
    const opened = await mounted.fs.open(by(alice), other.ino, O_WRONLY_APPEND);
    assert.equal(errno(opened), 'ESTALE', 'the kernel takes it to be shorter');
  });

  it('passes once, of the same file and soon', async () => {
    const { server, mounted } = world();
    const { ino } = await mounted.walk('/f');
    const open = () => mounted.fs.open(by(alice), ino, O_WRONLY_APPEND);
    server.putFile('/f', `${old}${old}`);
    assert.equal(errno(await open()), 'ESTALE');
    assert.equal(errno(await open()), 'ok');
    server.putFile('/f', `${old}${old}${old}`);
    assert.equal(errno(await open()), 'ESTALE');
    mounted.clock.advance(60_000);
    server.putFile('/f', `${old}${old}`);
    assert.equal(errno(await open()), 'ESTALE');
  });
});
