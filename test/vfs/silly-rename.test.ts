import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { alice, by, errno, gate, Mounted, name, O_RDWR, settled, value } from './mounted.ts';

const hidden = /^\.nfs[0-9a-f]{32}$/;

describe('an open file', () => {
  it('outlives its name, until its last close', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { ino, handle } = await mounted.create('/file');
    const second = value(await fs.open(by(alice), ino, O_RDWR)).handle;
    await mounted.write(handle, 0, 'abc');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    assert.equal(value(await fs.lookup(by(alice), ROOT_INO, name('file'))).ino, 0);
    const [silly = ''] = server.namesIn('/');
    assert.match(silly, hidden);
    await mounted.write(handle, 3, 'def');
    value(await mounted.fsync(handle));
    assert.equal((await mounted.read(second, 0, 10)).toString(), 'abcdef');
  });

  it('may be about to be one: who was sent back by ESTALE finds what was looked up', async () => {
    for (const comes of [true, false]) {
      const mounted = new Mounted();
      const { fs, server } = mounted;
      server.putFile('/file', 'old', 0o666, alice);
      server.putFile('/next', 'newer', 0o666, alice);
      const { ino } = await mounted.walk('/file');
      await mounted.walk('/next');
      server.putFile('/file', 'other', 0o666, alice);
      assert.equal(errno(await fs.open(by(alice), ino, O_RDWR)), 'ESTALE');
      await mounted.walk('/file');
      value(await fs.rename(by(alice), ROOT_INO, name('next'), ROOT_INO, name('file'), 0));
      if (comes) {
        const { handle } = value(await fs.open(by(alice), ino, O_RDWR));
        mounted.clock.advance(2_000);
        assert.equal((await mounted.read(handle, 0, 10)).toString(), 'other');
        fs.release(handle);
      }
      mounted.clock.advance(2_000);
      await settled();
      assert.deepEqual(server.namesIn('/'), ['file']);
    }
  });

  it('is not listed any more once it is closed', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { handle } = await mounted.create('/file');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    const removing = gate();
    server.before = (call) => (call.procedure === 'remove' ? removing.opened : undefined);
    fs.release(handle);
    const directory = value(await fs.opendir(by(alice), ROOT_INO));
    const listing = mounted.list(directory);
    await settled();
    removing.open();
    assert.deepEqual((await listing).names, ['.', '..']);
  });

  it('is removed at its last close, and not before', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { ino, handle } = await mounted.create('/file');
    const second = value(await fs.open(by(alice), ino, O_RDWR)).handle;
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    fs.release(handle);
    await settled();
    assert.equal(server.namesIn('/').length, 1);
    fs.release(second);
    await settled();
    assert.deepEqual(server.namesIn('/'), []);
  });

  it('that comes to be opened while its last close removes it is not half there', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { ino, handle } = await mounted.create('/file');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    const removal = gate();
    server.before = ({ procedure }) => (procedure === 'remove' ? removal.opened : undefined);
    fs.release(handle);
    await settled();
    let answered = false;
    const opening = fs.open(by(alice), ino, O_RDWR);
    void opening.then(() => {
      answered = true;
    });
    await settled();
    assert.equal(answered, false, 'it waits for the outcome');
    removal.open();
    assert.equal(errno(await opening), 'ESTALE');
  });

  it('that is opened again just before it would be removed stays', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { ino, handle } = await mounted.create('/file');
    await mounted.write(handle, 0, 'abc');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    fs.release(handle);
    const again = value(await fs.open(by(alice), ino, O_RDWR)).handle;
    await settled();
    assert.equal((await mounted.read(again, 0, 10)).toString(), 'abc');
    assert.match(server.namesIn('/')[0] ?? '', hidden);
    fs.release(again);
    await settled();
    assert.deepEqual(server.namesIn('/'), []);
  });

  it('is not deleted by its hidden name, nor is that renamed over', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { handle } = await mounted.create('/file');
    server.putFile('/other', 'x');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    const silly = server.namesIn('/').find((it) => hidden.test(it)) ?? '';
    await mounted.walk(`/${silly}`);
    assert.equal(errno(await fs.unlink(by(alice), ROOT_INO, name(silly))), 'EBUSY');
    const over = await fs.rename(by(alice), ROOT_INO, name('other'), ROOT_INO, name(silly), 0);
    assert.equal(errno(over), 'EBUSY');
    value(await mounted.write(handle, 0, 'abc'));
  });

  it('that is renamed on purpose is not removed', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { handle } = await mounted.create('/file');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    const [silly = ''] = server.namesIn('/');
    await mounted.walk(`/${silly}`);
    value(await fs.rename(by(alice), ROOT_INO, name(silly), ROOT_INO, name('saved'), 0));
    fs.release(handle);
    await settled();
    assert.deepEqual(server.namesIn('/'), ['saved']);
  });

  it('outlives being renamed over', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putFile('/new', 'new');
    server.putFile('/file', 'old');
    const handle = await mounted.open('/file', O_RDWR);
    const { ino } = await mounted.walk('/new');
    value(await fs.rename(by(alice), ROOT_INO, name('new'), ROOT_INO, name('file'), 0));
    assert.equal((await mounted.read(handle, 0, 10)).toString(), 'old');
    assert.equal((await mounted.walk('/file')).ino, ino);
    assert.equal(server.bytesOf('/file').toString(), 'new');
    fs.release(handle);
    await settled();
    assert.deepEqual(server.namesIn('/'), ['file']);
  });

  it('has its name back when what renames over it fails', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putFile('/new', 'new');
    server.putFile('/file', 'old');
    const handle = await mounted.open('/file', O_RDWR);
    let renames = 0;
    server.fail = ({ procedure }) => {
      if (procedure !== 'rename') return undefined;
      renames += 1;
      return renames === 2 ? 'NFS3ERR_IO' : undefined;
    };
    const result = await fs.rename(by(alice), ROOT_INO, name('new'), ROOT_INO, name('file'), 0);
    assert.equal(errno(result), 'EIO');
    assert.deepEqual(server.namesIn('/'), ['file', 'new']);
    fs.release(handle);
    await settled();
    assert.deepEqual(server.namesIn('/'), ['file', 'new']);
  });

  it('that is closed while a rename over it fails keeps its name', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putFile('/new', 'new');
    server.putFile('/file', 'old');
    const handle = await mounted.open('/file', O_RDWR);
    let renames = 0;
    server.fail = ({ procedure }) => {
      if (procedure !== 'rename') return undefined;
      renames += 1;
      return renames === 2 ? 'NFS3ERR_IO' : undefined;
    };
    server.before = async () => {
      if (renames !== 1) return;
      renames = 1;
      fs.release(handle);
      await settled();
    };
    const result = await fs.rename(by(alice), ROOT_INO, name('new'), ROOT_INO, name('file'), 0);
    assert.equal(errno(result), 'EIO');
    await settled();
    assert.deepEqual(server.namesIn('/'), ['file', 'new']);
  });

  it('with two names that are deleted at once, and closed, leaves nothing', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    server.putDirectory('/other');
    const { ino, handle } = await mounted.create('/one');
    const other = (await mounted.walk('/other')).ino;
    value(await fs.link(by(alice), ino, other, name('two')));
    const hold = gate();
    server.before = ({ procedure }) => (procedure === 'rename' ? hold.opened : undefined);
    const deleted = [
      fs.unlink(by(alice), ROOT_INO, name('one')),
      fs.unlink(by(alice), other, name('two')),
    ];
    await settled();
    fs.release(handle);
    await settled();
    hold.open();
    for (const result of await Promise.all(deleted)) value(result);
    await settled();
    assert.deepEqual(server.namesIn('/'), ['other']);
    assert.deepEqual(server.namesIn('/other'), []);
  });

  for (const how of ['unlink', 'rename'] as const) {
    it(`is never one whose name is just leaving it by ${how}`, async () => {
      const mounted = new Mounted();
      const { fs, server } = mounted;
      server.putFile('/file', 'old');
      server.putFile('/next', 'new');
      const { ino } = await mounted.walk('/file');
      const hold = gate();
      server.before = (call) =>
        call.procedure === 'rename' || call.procedure === 'remove' ? hold.opened : undefined;
      const leaving =
        how === 'unlink'
          ? fs.unlink(by(alice), ROOT_INO, name('file'))
          : fs.rename(by(alice), ROOT_INO, name('next'), ROOT_INO, name('file'), 0);
      await settled();
      const opening = fs.open(by(alice), ino, O_RDWR);
      await settled();
      hold.open();
      value(await leaving);
      assert.equal(errno(await opening), 'ESTALE', 'the kernel looks the name up again');
    });
  }

  it('is found by its name though the name is not cached', async () => {
    const mounted = new Mounted({ nameCacheEntries: 1, lookupcache: 'none' });
    const { fs, server } = mounted;
    const { handle } = await mounted.create('/file');
    server.putFile('/other', 'x');
    await mounted.walk('/other');
    value(await fs.unlink(by(alice), ROOT_INO, name('file')));
    value(await mounted.write(handle, 0, 'abc'));
    assert.equal((await mounted.read(handle, 0, 10)).toString(), 'abc');
  });

  it('loses a further link without being hidden twice', async () => {
    const mounted = new Mounted();
    const { fs, server } = mounted;
    const { ino, handle } = await mounted.create('/one');
    value(await fs.link(by(alice), ino, ROOT_INO, name('two')));
    value(await fs.unlink(by(alice), ROOT_INO, name('one')));
    value(await fs.unlink(by(alice), ROOT_INO, name('two')));
    assert.equal(server.namesIn('/').length, 1);
    value(await mounted.write(handle, 0, 'abc'));
    fs.release(handle);
    await settled();
    assert.deepEqual(server.namesIn('/'), []);
  });

  it('is removed when the session ends', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/file');
    await mounted.write(handle, 0, 'abc');
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('file')));
    await mounted.fs.close();
    assert.deepEqual(mounted.server.namesIn('/'), []);
    mounted.fs.release(handle);
    assert.equal(mounted.fs.figures().openHandles, 0);
  });

  it('tells when its hidden name cannot be removed', async () => {
    const left: string[] = [];
    const mounted = new Mounted(
      {},
      { sillyNameLeft: (_ino, silly) => left.push(silly.toString()) },
    );
    const { handle } = await mounted.create('/file');
    value(await mounted.fs.unlink(by(alice), ROOT_INO, name('file')));
    mounted.server.fail = ({ procedure }) => (procedure === 'remove' ? 'NFS3ERR_ACCES' : undefined);
    mounted.fs.release(handle);
    await settled();
    assert.equal(left.length, 1);
    assert.match(left[0] ?? '', hidden);
  });
});
