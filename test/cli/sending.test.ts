/**
 * The commands about what only this host has: what they print, and the status that they end with.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Ino } from '../../src/base/brand.ts';
import { reasonText } from '../../src/cli/reason-text.ts';
import { localError, nfsError } from '../../src/errors/fs-error.ts';
import { PAGE, snapshot, unsentFile } from '../control/fake.ts';
import { fakeWorld } from './fake-shell.ts';

const image = '/mnt/vm/vm/disk.img';
const MIB = 1 << 20;

const bothMounts = `22 1 254:0 / / rw - ext4 /dev/vda1 rw
41 22 0:50 / /mnt/vm rw - fuse.gvfs images.example.org:/vm rw,user_id=0,group_id=0
42 22 0:51 / /mnt/other rw - fuse.gvfs images.example.org:/b rw,user_id=0,group_id=0
`;

describe('gvfs write-back', () => {
  it('sends one file, a mount, or everything, and ends with 0 when the server has it', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.files = [unsentFile('vm/disk.img', 12 * MIB), unsentFile('vm/old.img', PAGE)];
    const one = await world.gvfs('write-back', image);
    assert.deepEqual(one, { status: 0, out: `${image}: 12.0 MiB of 1 file sent\n`, err: '' });
    const mount = await world.gvfs('write-back', '/mnt/vm');
    assert.equal(mount.out, '/mnt/vm: 4.0 KiB of 1 file sent\n');
    const all = await world.gvfs('write-back');
    assert.deepEqual(all, { status: 0, out: '/mnt/vm: nothing was unsent\n', err: '' });
    assert.deepEqual(sending.asked, ['writeBack 3', 'writeBack all', 'writeBack all']);
  });

  it('ends with 75 when something stays here, and says what and why', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.files = [unsentFile('vm/disk.img', MIB), unsentFile('vm/old.img', PAGE)];
    sending.refused.add(3 as Ino);
    const ran = await world.gvfs('write-back', '/mnt/vm');
    assert.equal(ran.status, 75);
    assert.equal(ran.out, '/mnt/vm: 4.0 KiB of 1 file sent, 1.0 MiB unsent\n');
    assert.equal(
      ran.err,
      'gvfs: /mnt/vm/vm/disk.img: 1.0 MiB not at the server (the server has no room): ' +
        'it is kept, see gvfs status\n',
    );
    const json = await world.gvfs('write-back', '/mnt/vm', '--json');
    assert.deepEqual([json.status, JSON.parse(json.out)], [75, { done: [jsonOfRefused] }]);
  });

  it('waits no longer than --timeout', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.files = [unsentFile('vm/disk.img', MIB)];
    sending.isStuck = true;
    const ran = await world.gvfs('write-back', '--timeout', '0.01', '/mnt/vm');
    assert.equal(ran.status, 75);
    assert.match(ran.err, /^gvfs: \/mnt\/vm: the time was up with 1.0 MiB to send: /);
    const wrong = await world.gvfs('write-back', '--timeout', 'soon');
    assert.equal(wrong.status, 1);
    assert.match(wrong.err, /"--timeout soon" is not possible: use seconds/);
  });

  it('waits no longer than that for a server that is asked for the file', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.inConflict('vm/disk.img', MIB);
    world.mount.isAway = true;
    for (const args of [
      ['write-back', image],
      ['flush', image],
      ['resolve', '--theirs', image],
    ]) {
      const ran = await world.gvfs(...args, '--timeout', '0.01');
      assert.equal(ran.status, 75, ran.err);
      assert.match(ran.err, /the time was up/);
    }
    assert.deepEqual(sending.asked, []);
  });

  it('can be interrupted', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.isStuck = true;
    const running = world.gvfs('write-back', '/mnt/vm');
    while (sending.asked.length === 0) await new Promise((done) => setTimeout(done, 5));
    world.interrupt();
    assert.equal((await running).status, 8);
  });

  it('says that there is no mount', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('write-back', '/etc')).status, 3);
    world.shell.mounts = {
      ...world.shell.mounts,
      lines: async () => [],
      ownSockets: async () => [],
    };
    assert.equal((await world.gvfs('write-back')).status, 3);
  });

  it('reaches a daemon whose mount is gone, and once, though it has two names', async () => {
    await using world = await fakeWorld();
    world.shell.mounts = {
      ...world.shell.mounts,
      lines: async () => [],
      ownSockets: async () => [world.socket, world.socket],
    };
    const ran = await world.gvfs('write-back');
    assert.deepEqual([ran.status, ran.out], [0, '/mnt/vm: nothing was unsent\n']);
  });
});

describe('several mounts', () => {
  it('are asked at once: one whose server is away keeps no other from being sent', async () => {
    await using away = await fakeWorld(bothMounts);
    await using there = await fakeWorld(bothMounts);
    away.mount.sending.files = [unsentFile('vm/disk.img', MIB)];
    away.mount.sending.isStuck = true;
    there.mount.sending.files = [unsentFile('vm/old.img', PAGE)];
    const ofAway = away.shell.mounts.sockets;
    const ofThere = there.shell.mounts.sockets;
    away.shell.mounts = {
      ...away.shell.mounts,
      sockets: (mount) => (mount.mountpoint === '/mnt/vm' ? ofAway(mount) : ofThere(mount)),
      ownSockets: async () => [],
    };
    const running = away.gvfs('write-back', '--json');
    while (there.mount.sending.files.length > 0) await pause(5);
    while (away.mount.sending.asked.length === 0) await pause(5);
    away.interrupt();
    const ran = await running;
    assert.equal(ran.status, 8);
    const { done } = JSON.parse(ran.out) as { done: { path: string; sentBytes?: number }[] };
    // In the order in which they ended, which is the interrupt's to decide.
    const sentBytes = new Map(done.map((one) => [one.path, one.sentBytes]));
    assert.deepEqual([sentBytes.get('/mnt/other'), sentBytes.get('/mnt/vm')], [PAGE, undefined]);
    assert.equal(sentBytes.size, 2);
  });
});

describe('a daemon whose mount is gone', () => {
  it('still answers for its mountpoint', async () => {
    await using world = await fakeWorld();
    world.shell.mounts = { ...world.shell.mounts, lines: async () => [] };
    world.shell.workingDirectory = '/mnt';
    world.mount.sending.files = [unsentFile('vm/disk.img', PAGE)];
    const status = await world.gvfs('status', '/mnt/vm', '--json');
    assert.equal((JSON.parse(status.out) as { mountpoint: string }).mountpoint, '/mnt/vm');
    assert.equal((await world.gvfs('events', '/mnt/vm')).status, 0);
    const sent = await world.gvfs('write-back', 'vm');
    assert.deepEqual([sent.status, sent.out], [0, 'vm: 4.0 KiB of 1 file sent\n']);
    assert.equal((await world.gvfs('flush', '/mnt/vm')).status, 0);
    for (const verb of ['status', 'events', 'write-back', 'flush']) {
      assert.equal((await world.gvfs(verb, '/mnt/other')).status, 3);
    }
  });
});

describe('gvfs flush', () => {
  it('is for a file or a mount', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('flush', image)).status, 0);
    assert.equal((await world.gvfs('flush', '/mnt/vm')).status, 0);
    assert.deepEqual(world.mount.sending.asked, ['flush 3', 'flush all']);
  });
});

describe('gvfs resolve', () => {
  it('keeps ours, or drops it for theirs', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.inConflict('vm/disk.img', PAGE);
    const theirs = await world.gvfs('resolve', image, '--theirs');
    assert.deepEqual([theirs.status, theirs.out], [0, `${image}: 4.0 KiB of ours dropped\n`]);
    sending.inConflict('vm/disk.img', PAGE);
    const mine = await world.gvfs('resolve', '--mine', image);
    assert.deepEqual([mine.status, mine.out], [0, `${image}: 4.0 KiB of 1 file sent\n`]);
    assert.deepEqual(sending.asked, [
      ...['resolve 3 theirs', 'writeBack 3'],
      ...['resolve 3 mine', 'writeBack 3'],
    ]);
  });

  it('wants a conflict, and a word', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('resolve', image)).status, 1);
    assert.equal((await world.gvfs('resolve', image, '--mine', '--theirs')).status, 1);
    const none = await world.gvfs('resolve', image, '--mine');
    assert.equal(none.status, 32);
    assert.match(none.err, /is in no conflict/);
  });

  it('finds a file that the server does not have any more, by its name or its id', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.files = [unsentFile('vm/gone.img', PAGE, { state: 'conflict' })];
    assert.equal((await world.gvfs('resolve', '/mnt/vm/vm/gone.img', '--theirs')).status, 0);
    sending.files = [unsentFile('vm/gone.img', PAGE, { state: 'conflict' })];
    assert.equal((await world.gvfs('resolve', '/mnt/vm/d2', '--theirs')).status, 0);
  });
});

describe('gvfs umount', () => {
  it('sends and ends', async () => {
    await using world = await fakeWorld();
    world.mount.sending.files = [unsentFile('vm/disk.img', MIB)];
    const ran = await world.gvfs('umount', '/mnt/vm');
    assert.deepEqual(ran, { status: 0, out: '/mnt/vm: unmounted, 1.0 MiB sent\n', err: '' });
  });

  it('says what becomes of what is unsent', async () => {
    await using world = await fakeWorld();
    world.mount.unmounting = { keptBytes: MIB };
    const kept = await world.gvfs('umount', '--keep-dirty', '/mnt/vm');
    assert.equal(kept.out, '/mnt/vm: unmounted, 1.0 MiB stay in the cache, for the next mount\n');
    assert.equal(kept.status, 0);
    assert.equal((await world.gvfs('umount', '--force', '/mnt/vm')).status, 75);
    world.mount.unmounting = { droppedBytes: PAGE };
    const dropped = await world.gvfs('umount', '--discard', '/mnt/vm');
    assert.deepEqual([dropped.status, dropped.out], [0, '/mnt/vm: unmounted, 4.0 KiB dropped\n']);
    assert.deepEqual(
      world.mount.unmountedHow.map(({ unsent, force }) => [unsent, force]),
      [
        ['keep', false],
        ['send', true],
        ['discard', false],
      ],
    );
    assert.equal((await world.gvfs('umount', '--discard', '--keep-dirty', '/mnt/vm')).status, 1);
  });

  it('says why the mount stays: it is in use', async () => {
    await using world = await fakeWorld();
    const inUse = ['vm/a', 'vm/b', '', 'vm/d'];
    world.mount.unmounting = { unmounted: false, inUse, why: 'files are open there' };
    const ran = await world.gvfs('umount', '/mnt/vm');
    assert.equal(ran.status, 32);
    assert.equal(
      ran.err,
      'gvfs: /mnt/vm stays mounted, files are open there (vm/a, vm/b, (no name) and 1 more): ' +
        'end who uses it, or say --force\n',
    );
  });

  it('ends with 75 when not everything could be sent', async () => {
    await using world = await fakeWorld();
    const { sending } = world.mount;
    sending.files = [unsentFile('vm/disk.img', MIB)];
    sending.refused.add(3 as Ino);
    world.mount.unmounting = { unmounted: false, why: 'not everything could be sent' };
    const ran = await world.gvfs('umount', '/mnt/vm');
    assert.deepEqual([ran.status, ran.out], [75, '']);
    assert.match(ran.err, /1.0 MiB not at the server \(the server has no room\)/);
  });

  it('wants the mountpoint', async () => {
    await using world = await fakeWorld();
    const ran = await world.gvfs('umount', image);
    assert.equal(ran.status, 1);
    assert.match(ran.err, /is within the mount at \/mnt\/vm: say gvfs umount \/mnt\/vm\n$/);
    assert.equal((await world.gvfs('umount', '/mnt')).status, 3);
  });

  it('waits for a daemon whose mount is gone', async () => {
    await using world = await fakeWorld();
    world.shell.mounts = { ...world.shell.mounts, lines: async () => [] };
    world.shell.workingDirectory = '/mnt';
    const ran = await world.gvfs('umount', 'vm');
    assert.deepEqual([ran.status, ran.out], [0, 'vm: unmounted\n']);
  });
});

describe('gvfs events', () => {
  it('prints those that are kept, and with --follow those that come', async () => {
    await using world = await fakeWorld();
    const { events } = world.mount;
    events.tell('opened', { path: 'vm/disk.img' });
    events.tell('dirty', { path: 'vm/disk.img' });
    const kept = await world.gvfs('events');
    assert.equal(kept.status, 0);
    assert.deepEqual(
      kept.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { number: number; event: string })
        .map(({ number, event }) => [number, event]),
      [
        [1, 'opened'],
        [2, 'dirty'],
      ],
    );
    const following = world.gvfs('events', '--follow', '--since', '1', '/mnt/vm');
    setTimeout(() => events.tell('writtenBack', { path: 'vm/disk.img', bytes: PAGE }), 50);
    setTimeout(() => world.interrupt(), 150);
    const followed = await following;
    assert.equal(followed.status, 0);
    assert.deepEqual(
      followed.out
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { event: string }).event),
      ['dirty', 'writtenBack'],
    );
    assert.equal((await world.gvfs('events', '--since', 'now')).status, 1);
  });

  it('wants one of several mounts', async () => {
    await using world = await fakeWorld(bothMounts);
    const { status, err } = await world.gvfs('events');
    const all = '/mnt/vm, /mnt/other';
    assert.deepEqual([status, err], [1, `gvfs: there are several mounts: ${all}: name one\n`]);
  });

  it('ends with the daemon', async () => {
    await using world = await fakeWorld();
    const following = world.gvfs('events', '--follow');
    await new Promise((done) => setTimeout(done, 50));
    await world.die();
    assert.equal((await following).status, 0);
  });
});

describe('gvfs status', () => {
  it('says what is unsent, since when, and what keeps it', async () => {
    await using world = await fakeWorld();
    const sinceMs = Date.now() - 5 * 60_000;
    const at = (file: ReturnType<typeof unsentFile>) => ({
      ...file,
      unsent: { ...file.unsent, sinceMs },
    });
    const failure = localError('ENOSPC', 'write', 'no room');
    world.mount.sending.files = [
      at(unsentFile('vm/disk.img', MIB, { failure, recovered: true })),
      at(unsentFile('vm/old.img', PAGE, { state: 'conflict' })),
    ];
    const { out } = await world.gvfs('status');
    assert.ok(
      out.includes(
        '\n  writes   back, fsync is local, 1.0 MiB of 2 files unsent, the oldest for 5 min, ' +
          '1.0 MiB of an earlier mount, 1 could not be sent, 1 conflict\n',
      ),
      out,
    );
    assert.match(
      out,
      /vm\/disk\.img +1\.0 MiB +5 min +waits, of an earlier mount, not sent: no room/,
    );
    assert.match(out, /vm\/old\.img +4\.0 KiB +5 min +conflict: say gvfs resolve/);
  });

  it("says the server's reasons in words", async () => {
    await using world = await fakeWorld();
    const failure = nfsError('NFS3ERR_STALE', 'GETATTR');
    world.mount.sending.files = [unsentFile('vm/disk.img', MIB, { failure })];
    const { out } = await world.gvfs('status');
    assert.match(out, /not sent: the server has lost the file \(NFS3ERR_STALE\)\n/);
    assert.equal(reasonText('WRITE: NFS3ERR_BADTYPE'), 'WRITE: NFS3ERR_BADTYPE');
    assert.equal(reasonText('no room'), 'no room');
  });

  it('says nothing of it where everything goes through', async () => {
    await using world = await fakeWorld();
    world.mount.snapshot = () => ({ ...snapshot, write: 'through', fsync: 'server' });
    assert.doesNotMatch((await world.gvfs('status')).out, /writes|unsent/);
  });
});

const jsonOfRefused = {
  path: '/mnt/vm',
  mountpoint: '/mnt/vm',
  within: '',
  files: 1,
  sentFiles: 0,
  sentBytes: 0,
  unsentBytes: MIB,
  timedOut: false,
  failed: [
    {
      path: 'vm/disk.img',
      unsentBytes: MIB,
      state: 'failing',
      errno: 'ENOSPC',
      why: 'the server has no room',
    },
  ],
  error: null,
};
