import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { MemoryServer } from './memory-server.ts';
import {
  alice,
  by,
  errno,
  gate,
  Mounted,
  name,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  settled,
  value,
} from './mounted.ts';

describe('lookup', () => {
  it('answers known names, existing or not, without the server while they are fresh', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'x');
    const first = await mounted.walk('/file');
    const missing = value(await mounted.fs.lookup(by(alice), ROOT_INO, name('missing')));
    assert.equal(missing.ino, 0);
    const before = mounted.server.calls.length;
    // The server is away, and a hundred reads wait for it.
    const handle = await mounted.open('/file', O_RDONLY);
    const hold = gate();
    mounted.server.before = () => hold.opened;
    const reads = Array.from({ length: 100 }, () => mounted.read(handle, 0, 1));
    assert.equal((await mounted.walk('/file')).ino, first.ino);
    value(await mounted.fs.lookup(by(alice), ROOT_INO, name('missing')));
    value(await mounted.fs.getattr(by(alice), first.ino));
    hold.open();
    await Promise.all(reads);
    assert.equal(mounted.server.calls.length, before + 1 + 100);
  });

  it('sees what another client did when the directory is checked again', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'old');
    const old = await mounted.walk('/file');
    value(await mounted.fs.lookup(by(alice), ROOT_INO, name('missing')));
    mounted.server.deletePath('/file');
    mounted.server.putFile('/file', 'newer');
    mounted.server.putFile('/missing', 'x');
    mounted.clock.advance(61_000);
    const found = await mounted.walk('/file');
    assert.notEqual(found.ino, old.ino);
    assert.equal(found.attributes.size, 5);
    await mounted.walk('/missing');
  });

  it('keeps names over a check that finds the directory unchanged', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'x');
    await mounted.walk('/file');
    mounted.clock.advance(61_000);
    const before = mounted.server.count('lookup');
    await mounted.walk('/file');
    assert.equal(mounted.server.count('lookup'), before);
  });

  it('does not keep a name whose lookup a removal overtook', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'x');
    const hold = gate();
    mounted.server.after = (call) => (call.procedure === 'lookup' ? hold.opened : undefined);
    const slow = mounted.fs.lookup(by(alice), ROOT_INO, name('file'));
    await settled();
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('file')));
    hold.open();
    value(await slow);
    const again = value(await mounted.fs.lookup(by(alice), ROOT_INO, name('file')));
    assert.equal(again.ino, 0);
  });

  it('goes to the server again for a handle that has become stale', async () => {
    const stale: number[] = [];
    const mounted = new Mounted({}, { stale: (ino) => stale.push(ino) });
    mounted.server.putFile('/file', 'old');
    const old = await mounted.walk('/file');
    mounted.server.deletePath('/file');
    mounted.server.putFile('/file', 'new');
    assert.equal(errno(await mounted.fs.open(by(alice), old.ino, O_RDONLY)), 'ESTALE');
    assert.deepEqual(stale, [old.ino]);
    const found = await mounted.walk('/file');
    assert.notEqual(found.ino, old.ino);
    value(await mounted.fs.open(by(alice), found.ino, O_RDONLY));
  });

  it('is not led to a directory that is gone a second time', async () => {
    const mounted = new Mounted();
    mounted.server.putDirectory('/dir');
    mounted.server.putFile('/dir/file', 'old');
    const old = await mounted.walk('/dir/file');
    mounted.server.deletePath('/dir/file');
    mounted.server.deletePath('/dir');
    mounted.server.putDirectory('/dir');
    mounted.server.putFile('/dir/file', 'new');
    // All names are fresh, as far as this side knows; the kernel walks again after ESTALE.
    assert.equal(errno(await mounted.fs.open(by(alice), old.ino, O_RDONLY)), 'ESTALE');
    const found = await mounted.walk('/dir/file');
    value(await mounted.fs.open(by(alice), found.ino, O_RDONLY));
  });

  it('does not take a file without a name for the one that the name means', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'old');
    const old = await mounted.walk('/file');
    // As servers do that have the file open: the handle lives on, without any link.
    const node = mounted.server.nodeAt('/file');
    node.nlink = 2;
    mounted.server.deletePath('/file');
    node.nlink = 0;
    mounted.server.putFile('/file', 'new');
    assert.equal(errno(await mounted.fs.open(by(alice), old.ino, O_RDONLY)), 'ESTALE');
    assert.notEqual((await mounted.walk('/file')).ino, old.ino);
  });

  it('takes names as bytes, and refuses what is none', async () => {
    const mounted = new Mounted();
    const odd = '\xff\xfe\n \x01'.padEnd(255, '\xe4');
    const { ino } = await mounted.create(`/${odd}`);
    assert.equal((await mounted.walk(`/${odd}`)).ino, ino);
    assert.deepEqual(mounted.server.namesIn('/'), [odd]);
    const lookup = async (text: string) =>
      errno(await mounted.fs.lookup(by(alice), ROOT_INO, name(text)));
    for (const bad of ['', '.', '..', 'a/b', 'a\0b']) assert.equal(await lookup(bad), 'EINVAL');
    assert.equal(await lookup('x'.repeat(256)), 'ENAMETOOLONG');
    assert.equal(await lookup('...'), 'ok');
  });

  it('obeys lookupcache=none and noac', async () => {
    for (const options of [{ lookupcache: 'none' as const }, { attributeCaching: false }]) {
      const mounted = new Mounted(options);
      mounted.server.putFile('/file', 'x');
      await mounted.walk('/file');
      const again = await mounted.walk('/file');
      assert.equal(mounted.server.count('lookup'), 2);
      assert.equal(again.entryValidMs, 0);
    }
    const positive = new Mounted({ lookupcache: 'positive' });
    for (const _ of [1, 2]) {
      assert.equal(errno(await positive.fs.lookup(by(alice), ROOT_INO, name('no'))), 'ENOENT');
    }
    assert.equal(positive.server.count('lookup'), 2);
  });
});

describe('inodes', () => {
  it('are one a file, and live until the kernel forgets them and they are closed', async () => {
    const mounted = new Mounted({ nameCacheEntries: 1 });
    const { fs, server } = mounted;
    server.putFile('/a', 'x');
    server.putFile('/b', 'x');
    const one = await mounted.walk('/a');
    const two = await mounted.walk('/a');
    assert.equal(one.ino, two.ino);
    const { handle } = value(await fs.open(by(alice), one.ino, O_RDONLY));
    await mounted.walk('/b');
    fs.forget(one.ino, 2);
    value(await fs.getattr(by(alice), one.ino));
    fs.release(handle);
    assert.equal(errno(await fs.getattr(by(alice), one.ino)), 'ESTALE');
    const three = await mounted.walk('/a');
    assert.notEqual(three.ino, one.ino, 'never used again');
  });

  it('of cached names keep their number', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/a', 'x');
    const one = await mounted.walk('/a');
    mounted.fs.forget(one.ino, 1);
    const two = await mounted.walk('/a');
    assert.equal(two.ino, one.ino);
  });

  it('survive a forget while their name is looked up', async () => {
    const mounted = new Mounted({ nameCacheEntries: 1 });
    mounted.server.putFile('/a', 'x');
    mounted.server.putFile('/b', 'x');
    const one = await mounted.walk('/a');
    mounted.server.omitAttributes = true;
    const hold = gate();
    mounted.clock.advance(61_000);
    mounted.server.after = (call) => (call.procedure === 'getattr' ? hold.opened : undefined);
    const again = mounted.fs.lookup(by(alice), ROOT_INO, name('a'));
    await settled();
    mounted.fs.forget(one.ino, 1);
    hold.open();
    const found = value(await again);
    assert(found.ino !== 0);
    value(await mounted.fs.getattr(by(alice), found.ino));
  });
});

describe('open', () => {
  it('lets the kernel keep its pages unless another client changed the file', async () => {
    const changed: number[] = [];
    const mounted = new Mounted({}, { changedByOthers: (ino) => changed.push(ino) });
    mounted.server.putFile('/file', 'one');
    const { ino } = await mounted.walk('/file');
    const open = async () => value(await mounted.fs.open(by(alice), ino, O_RDWR));
    const { handle } = await open();
    assert.equal((await open()).keepCache, true);
    await mounted.write(handle, 0, 'own');
    assert.equal((await open()).keepCache, true, 'our own writes are in the pages');
    mounted.server.putFile('/file', 'new');
    assert.equal((await open()).keepCache, false);
    mounted.server.putFile('/file', 'other');
    const unaware = await mounted.fs.open(by(alice), ino, O_RDWR);
    assert.equal(errno(unaware), 'ESTALE', 'the kernel is to look the size up first');
    assert.equal((await mounted.walk('/file')).attributes.size, 5);
    assert.equal((await open()).keepCache, false);
    assert.deepEqual(changed, [ino], 'no notice that the lookup would race with');
    assert.equal(await mounted.size(ino), 5, 'close-to-open');
    assert.equal((await open()).keepCache, true);
  });

  it('sends a thread back for the size once, and not for ever', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'one');
    const { ino } = await mounted.walk('/file');
    const open = () => mounted.fs.open(by(alice), ino, O_RDWR);
    mounted.server.putFile('/file', 'longer');
    assert.equal(errno(await open()), 'ESTALE');
    mounted.server.putFile('/file', 'still longer');
    const { handle } = value(await open());
    mounted.fs.release(handle);
    assert.equal(errno(await open()), 'ESTALE');
    await mounted.walk('/file');
    await mounted.write(value(await open()).handle, 12, ', by us');
    value(await open());
  });

  it('truncates when asked', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'contents');
    const O_TRUNC = 0o1000;
    await mounted.open('/file', O_RDWR | O_TRUNC);
    assert.equal(mounted.server.bytesOf('/file').length, 0);
  });
});

describe('create', () => {
  it('is one call, and the name is known then', async () => {
    const mounted = new Mounted();
    value(await mounted.fs.lookup(by(alice), ROOT_INO, name('file')));
    const before = mounted.server.calls.length;
    const { ino, handle } = await mounted.create('/file');
    value(await mounted.fs.flush(by(alice), handle));
    assert.equal((await mounted.walk('/file')).ino, ino);
    assert.equal(mounted.server.calls.length, before + 1);
    assert.equal(mounted.server.attributesAt('/file').mode, 0o644);
  });

  it('opens a file that exists and changes nothing of it', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/file', 'contents', 0o600, alice);
    const { handle } = await mounted.create('/file', O_RDWR, alice, 0o777);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'contents');
    assert.equal(mounted.server.attributesAt('/file').mode, 0o600);
    const other = await mounted.fs.create(
      by({ uid: 5, gid: 5, groups: [] }),
      ROOT_INO,
      name('file'),
      0o777,
      O_RDWR,
    );
    assert.equal(errno(other), 'EACCES');
  });

  it('with O_EXCL refuses what exists, and sets mode and times', async () => {
    for (const hasExclusive of [true, false]) {
      const mounted = new Mounted();
      mounted.server.hasExclusive = hasExclusive;
      await mounted.create('/file', O_RDWR | O_EXCL, alice, 0o640);
      const attributes = mounted.server.attributesAt('/file');
      assert.equal(attributes.mode, 0o640);
      assert.equal(attributes.uid, alice.uid);
      const again = await mounted.fs.create(
        by(alice),
        ROOT_INO,
        name('file'),
        0o640,
        O_RDWR | O_EXCL,
      );
      assert.equal(errno(again), 'EEXIST');
    }
  });

  it('finds what it made where the server does not say', async () => {
    const server = new MemoryServer();
    server.omitAttributes = true;
    server.omitWcc = true;
    const mounted = new Mounted({}, {}, server);
    const { ino, handle } = await mounted.create('/file');
    value(await mounted.write(handle, 0, 'abc'));
    value(await mounted.fsync(handle));
    assert.equal(await mounted.size(ino), 3);
    const made = value(await mounted.fs.mkdir(by(alice), ROOT_INO, name('dir'), 0o755));
    assert.equal(made.attributes.type, 'directory');
    assert.equal((await mounted.walk('/dir')).ino, made.ino);
    assert.equal((await mounted.read(handle, 0, 9)).toString(), 'abc');
  });

  it('makes all kinds of files', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const root = ROOT_INO;
    value(await fs.mknod(by(alice), root, name('fifo'), 0o010644, 0));
    value(await fs.mknod(by(alice), root, name('socket'), 0o140644, 0));
    value(await fs.mknod(by(alice), root, name('plain'), 0o100600, 0));
    value(await fs.mknod(by(alice), root, name('disk'), 0o060600, 0x12345678));
    assert.equal(errno(await fs.mknod(by(alice), root, name('odd'), 0o170000, 0)), 'EINVAL');
    const link = value(await fs.symlink(by(alice), root, name('link'), Buffer.from('to\xff')));
    assert.deepEqual(value(await fs.readlink(by(alice), link.ino)), Buffer.from('to\xff'));
    assert.equal(server.attributesAt('/fifo').type, 'fifo');
    assert.equal(server.attributesAt('/socket').type, 'socket');
    assert.equal(server.attributesAt('/plain').type, 'regular');
    // linux/kdev_t.h: minor bits 0-7 and 20-31, major bits 8-19.
    assert.deepEqual(server.attributesAt('/disk').rdev, { major: 0x456, minor: 0x12378 });
  });
});

describe('calls that were sent twice', () => {
  it('are a success when the first did the work', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const root = ROOT_INO;
    server.putFile('/file', 'x');
    server.putFile('/second', 'x');
    server.putDirectory('/empty');
    await mounted.walk('/empty');
    const file = await mounted.walk('/file');
    server.repeated = ({ procedure }) =>
      ['remove', 'rmdir', 'rename', 'mkdir', 'link', 'symlink'].includes(procedure);
    value(await fs.rename(by(alice), root, name('file'), root, name('moved'), 0));
    assert.equal((await mounted.walk('/moved')).ino, file.ino);
    value(await fs.link(by(alice), file.ino, root, name('link')));
    value(await fs.unlink(by(alice), root, name('link')));
    value(await fs.rmdir(by(alice), root, name('empty')));
    value(await fs.mkdir(by(alice), root, name('made'), 0o755));
    value(await fs.symlink(by(alice), root, name('sym'), Buffer.from('x')));
    assert.deepEqual(server.namesIn('/'), ['made', 'moved', 'second', 'sym']);
  });

  it('are the failure they say when they never did it', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putDirectory('/dir', 0o777, { uid: 7, gid: 7, groups: [] });
    await mounted.walk('/dir');
    server.repeated = ({ procedure }) => procedure === 'mkdir';
    assert.equal(errno(await fs.mkdir(by(alice), ROOT_INO, name('dir'), 0o755)), 'EEXIST');
    assert.equal(errno(await fs.unlink(by(alice), ROOT_INO, name('none'))), 'ENOENT');
  });
});

describe('rename', () => {
  it('keeps the inode, and both names are known', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putDirectory('/from');
    server.putDirectory('/to');
    server.putFile('/from/file', 'x');
    const { ino } = await mounted.walk('/from/file');
    const [from, to] = [(await mounted.walk('/from')).ino, (await mounted.walk('/to')).ino];
    value(await fs.rename(by(alice), from, name('file'), to, name('moved'), 0));
    const before = server.count('lookup');
    assert.equal((await mounted.walk('/to/moved')).ino, ino);
    assert.equal(value(await fs.lookup(by(alice), from, name('file'))).ino, 0);
    assert.equal(server.count('lookup'), before);
  });

  it('does not replace with NOREPLACE, and refuses what NFS cannot do', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const root = ROOT_INO;
    server.putFile('/a', 'a');
    server.putFile('/b', 'b');
    server.putDirectory('/d');
    server.putDirectory('/e');
    const move = async (from: string, to: string, flags: number) =>
      errno(await fs.rename(by(alice), root, name(from), root, name(to), flags));
    assert.equal(await move('a', 'b', 1), 'EEXIST');
    assert.equal(await move('d', 'e', 1), 'EEXIST');
    assert.equal(await move('a', 'c', 1), 'ok');
    assert.equal(await move('d', 'f', 1), 'ok');
    assert.equal(await move('none', 'g', 1), 'ENOENT');
    assert.equal(await move('b', 'c', 2), 'EINVAL');
    assert.equal(await move('b', 'c', 4), 'EINVAL');
    assert.deepEqual(server.namesIn('/'), ['b', 'c', 'e', 'f']);
    assert.equal(server.bytesOf('/c').toString(), 'a');
    server.fail = ({ procedure }) => (procedure === 'link' ? 'NFS3ERR_NOTSUPP' : undefined);
    assert.equal(await move('c', 'b', 1), 'EEXIST');
    assert.equal(await move('c', 'h', 1), 'ok');
    assert.deepEqual(server.namesIn('/'), ['b', 'e', 'f', 'h']);
  });
});
