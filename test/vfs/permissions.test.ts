import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { MemoryServer, rootUser } from './memory-server.ts';
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

function withPrivateDirectory(): Mounted {
  const mounted = new Mounted();
  mounted.server.putDirectory('/private', 0o700, alice);
  mounted.server.putFile('/private/secret', 'secret', 0o600, alice);
  return mounted;
}

describe('permissions', () => {
  it('to search are asked of the server for each caller, also for names that are known', async () => {
    const mounted = withPrivateDirectory();
    await mounted.walk('/private/secret', alice);
    const { ino } = await mounted.walk('/private', bob);
    const found = await mounted.fs.lookup(by(bob), ino, name('secret'));
    assert.equal(errno(found), 'EACCES');
    const missing = await mounted.fs.lookup(by(bob), ino, name('missing'));
    assert.equal(errno(missing), 'EACCES');
    value(await mounted.fs.lookup(by(alice), ino, name('missing')));
    const known = await mounted.fs.lookup(by(bob), ino, name('missing'));
    assert.equal(errno(known), 'EACCES', 'not even that a name does not exist');
  });

  it('are remembered, but never for another', async () => {
    const mounted = withPrivateDirectory();
    await mounted.walk('/private/secret', alice);
    const before = mounted.server.calls.length;
    await mounted.walk('/private/secret', alice);
    assert.equal(mounted.server.calls.length, before, 'all known');
    const inGroup = { uid: 1000, gid: 1000, groups: [27] };
    await mounted.walk('/private/secret', inGroup);
    assert.notEqual(mounted.server.calls.length, before, 'other groups are another caller');
  });

  it('let the kernel keep a name only where everybody may search', async () => {
    const mounted = withPrivateDirectory();
    mounted.server.putDirectory('/public', 0o755, alice);
    mounted.server.putFile('/public/file', 'x');
    assert.equal((await mounted.walk('/private/secret')).entryValidMs, 0);
    assert((await mounted.walk('/public/file')).entryValidMs > 0);
    const single = new Mounted({ allowOther: false }, {}, mounted.server);
    assert((await single.walk('/private/secret')).entryValidMs > 0);
  });

  it('to search that are taken from somebody revoke the names that the kernel has', async () => {
    const revoked: [number, string[]][] = [];
    const events = {
      namesRevoked: (directory: number, names: readonly Buffer[]) => {
        revoked.push([directory, names.map(String).sort()]);
      },
    };
    const mounted = new Mounted({}, events);
    mounted.server.putDirectory('/directory', 0o755, alice);
    mounted.server.putFile('/directory/file', 'x');
    mounted.server.putFile('/outside', 'x');
    await mounted.walk('/outside');
    await mounted.walk('/directory/file');
    const { ino } = await mounted.walk('/directory');
    value(await mounted.fs.lookup(by(alice), ino, name('missing')));
    value(await mounted.fs.setattr(by(alice), ino, { mode: 0o700 }));
    assert.deepEqual(revoked, [[ino, ['file', 'missing']]]);
  });

  it('to open are asked of the server for each caller', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/secret', 'secret', 0o600, alice);
    mounted.server.putFile('/shared', 'shared', 0o644, alice);
    value(await mounted.fs.open(by(alice), (await mounted.walk('/secret')).ino, O_RDWR));
    const { ino } = await mounted.walk('/secret', bob);
    assert.equal(errno(await mounted.fs.open(by(bob), ino, O_RDONLY)), 'EACCES');
    const shared = (await mounted.walk('/shared', bob)).ino;
    assert.equal(errno(await mounted.fs.open(by(bob), shared, O_RDONLY)), 'ok');
    assert.equal(errno(await mounted.fs.open(by(bob), shared, O_RDWR)), 'EACCES');
    assert.equal(errno(await mounted.fs.access(by(bob), shared, 4)), 'ok');
    assert.equal(errno(await mounted.fs.access(by(bob), shared, 2)), 'EACCES');
    assert.equal(errno(await mounted.fs.access(by(bob), shared, 1)), 'EACCES');
    assert.equal(errno(await mounted.fs.access(by(bob), ino, 0)), 'ok');
  });

  it('of a squashed root are those of nobody', async () => {
    const server = new MemoryServer();
    server.squashRoot = true;
    server.putFile('/secret', 'secret', 0o600, alice);
    const mounted = new Mounted({}, {}, server);
    await mounted.open('/secret', O_RDONLY, alice);
    const { ino } = await mounted.walk('/secret', rootUser);
    assert.equal(errno(await mounted.fs.open(by(rootUser), ino, O_RDONLY)), 'EACCES');
  });

  it('taken away are noticed at the next open, and for names when attributes expire', async () => {
    const mounted = new Mounted();
    mounted.server.putDirectory('/directory', 0o755, alice);
    mounted.server.putFile('/directory/file', 'x', 0o644, alice);
    const { ino } = await mounted.walk('/directory/file', bob);
    mounted.server.setMode('/directory/file', 0o600);
    assert.equal(errno(await mounted.fs.open(by(bob), ino, O_RDONLY)), 'EACCES');
    mounted.server.setMode('/directory', 0o700);
    mounted.clock.advance(61_000);
    const parent = (await mounted.walk('/directory', bob)).ino;
    const found = await mounted.fs.lookup(by(bob), parent, name('file'));
    assert.equal(errno(found), 'EACCES');
  });

  it('of the caller decide changes', async () => {
    const mounted = withPrivateDirectory();
    mounted.server.putDirectory('/alices', 0o755, alice);
    mounted.server.putFile('/alices/file', 'x', 0o644, alice);
    const { fs } = mounted;
    const parent = (await mounted.walk('/alices', bob)).ino;
    const { ino } = await mounted.walk('/alices/file', bob);
    const to = ROOT_INO;
    const results = [
      await fs.unlink(by(bob), parent, name('file')),
      await fs.rename(by(bob), parent, name('file'), to, name('mine'), 0),
      await fs.mkdir(by(bob), parent, name('sub'), 0o755),
      await fs.create(by(bob), parent, name('new'), 0o644, O_RDWR),
      await fs.link(by(bob), ino, parent, name('other')),
      await fs.setattr(by(bob), ino, { size: 0 }),
    ];
    assert.deepEqual(
      results.map((result) => errno<unknown>(result)),
      Array.from(results, () => 'EACCES'),
    );
    assert.equal(errno(await fs.setattr(by(bob), ino, { mode: 0o666 })), 'EPERM');
    assert.equal(mounted.server.bytesOf('/alices/file').toString(), 'x');
  });

  for (const procedure of ['access', 'lookup'] as const) {
    it(`that were taken back while a slow ${procedure} told of them are not remembered`, async () => {
      const mounted = new Mounted();
      const { server, fs } = mounted;
      server.putDirectory('/open', 0o777);
      server.putFile('/open/file', 'x');
      const { ino } = await mounted.walk('/open', alice);
      const hold = gate();
      server.after = (call) =>
        call.procedure === procedure && call.as === bob ? hold.opened : undefined;
      const asked =
        procedure === 'access' ? fs.access(by(bob), ino, 1) : fs.lookup(by(bob), ino, name('file'));
      await settled();
      server.setMode('/open', 0o700);
      mounted.clock.advance(120_000);
      value(await fs.getattr(by(rootUser), ino));
      hold.open();
      await asked;
      assert.equal(errno(await fs.access(by(bob), ino, 1)), 'EACCES');
    });
  }

  it('of READDIR are asked at opendir', async () => {
    const mounted = withPrivateDirectory();
    const { ino } = await mounted.walk('/private', bob);
    assert.equal(errno(await mounted.fs.opendir(by(bob), ino)), 'EACCES');
    value(await mounted.fs.opendir(by(alice), ino));
  });

  it('do not matter on a read-only mount: every change is EROFS', async () => {
    const mounted = new Mounted({ readOnly: true });
    mounted.server.putFile('/file', 'x');
    const { ino } = await mounted.walk('/file');
    const { fs } = mounted;
    assert.equal(errno(await fs.open(by(alice), ino, O_RDWR)), 'EROFS');
    assert.equal(errno(await fs.unlink(by(alice), ROOT_INO, name('file'))), 'EROFS');
    assert.equal(errno(await fs.setattr(by(alice), ino, { mode: 0 })), 'EROFS');
    assert.equal(errno(await fs.access(by(alice), ino, 2)), 'EROFS');
    value(await fs.open(by(alice), ino, O_RDONLY));
  });
});
