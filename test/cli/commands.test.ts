/**
 * The commands that ask a daemon, through a real socket, and what they print.
 */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { createServer } from 'node:net';
import { before, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Ino } from '../../src/base/brand.ts';
import { methods } from '../../src/daemon/control/schema.ts';
import { checkAny } from '../../src/daemon/control/shape.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { PAGE, snapshot } from '../control/fake.ts';
import { fakeWorld } from './fake-shell.ts';

const image = '/mnt/vm/vm/disk.img';

// Times are printed as the reader's clock has them.
before(() => {
  process.env.TZ = 'UTC';
});

describe('gvfs status', () => {
  it('prints what one asks first, then tables', async () => {
    await using world = await fakeWorld();
    world.mount.waitingRequests = [
      { operation: 'READ', ino: 3 as Ino, ageMs: 3210 },
      { operation: 'GETATTR', ino: 8 as Ino, ageMs: 12 },
    ];
    const ran = await world.gvfs('status', '/mnt/vm/no/such/file');
    assert.equal(ran.out.replace(`pid ${process.pid}`, 'pid 99'), statusText);
    assert.deepEqual([ran.status, ran.err], [0, '']);
  });

  it('says what is wrong', async () => {
    await using world = await fakeWorld();
    world.mount.snapshot = () => ({
      ...snapshot,
      readOnly: true,
      server: {
        ...snapshot.server,
        state: 'notResponding',
        forMs: 65_000,
        roundTripMs: null,
        connections: 0,
        retransmissions: 3,
      },
      cache: null,
      bytes: { server: 0, cache: 0, zero: 0, passthrough: null },
      rpcs: [],
      operations: [],
    });
    const { out } = await world.gvfs('status');
    for (const line of [
      '  session  exclusive, read-only, serving',
      '  server   does not answer for 65.0 s, 0 connections,',
      ', 3 calls sent again\n',
      '  cache    none\n',
      '  reads    none yet\n',
      '  waiting  nothing\n',
    ]) {
      assert.ok(out.includes(line), `${line}\nin\n${out}`);
    }
    assert.doesNotMatch(out, /median {2}/);
  });

  it('is the whole object with --json', async () => {
    await using world = await fakeWorld();
    const ran = await world.gvfs('status', '--json', '/mnt/vm');
    const status: unknown = JSON.parse(ran.out);
    const checked = checkAny(methods.status.result, status, 'refuse');
    assert.deepEqual(checked, { ok: true, value: status });
    assert.equal(ran.status, 0);
  });

  it('finds the mount that one stands in, else the only one', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('status')).status, 0);
    world.shell.workingDirectory = '/mnt/vm/deep/below';
    assert.equal((await world.gvfs('status')).status, 0);
    assert.equal((await world.gvfs('status', '..')).status, 0);
    assert.equal((await world.gvfs('status', '../../../..')).status, 3);
  });

  it('says everything of every mount with --all', async () => {
    await using world = await fakeWorld(twoMounts);
    const several = await world.gvfs('status');
    assert.equal(
      several.err,
      'gvfs: there are several mounts: /mnt/vm, /mnt/other: name one, or say --all\n',
    );
    assert.equal(several.status, 1);
    const { sockets } = world.shell.mounts;
    world.shell.mounts = {
      ...world.shell.mounts,
      sockets: (mount) => (mount.mountpoint === '/mnt/vm' ? sockets(mount) : []),
    };
    const all = await world.gvfs('status', '--all');
    assert.match(all.out, /^images.example.org:\/vm on \/mnt\/vm\n {2}session/);
    assert.match(all.out, /\n\nb:\/b on \/mnt\/other\n {2}no daemon answers for \/mnt\/other: if/);
    assert.equal(all.status, 3);
    const json = await world.gvfs('status', '--all', '--json');
    const { mounts } = JSON.parse(json.out) as { mounts: Record<string, unknown>[] };
    assert.deepEqual(
      mounts.map(({ mountpoint, problem }) => [mountpoint, problem]),
      [
        ['/mnt/vm', null],
        ['/mnt/other', 'no daemon answers for /mnt/other'],
      ],
    );
  });
});

describe('a command that finds no daemon', () => {
  const commands = [
    ['status', image],
    ['warm', image],
    ['map', image],
    ['fail-waiting', image],
    ['cache', 'ls', image],
    ['cache', 'pin', image],
  ];
  for (const command of commands) {
    it(`says so in a sentence: ${command.slice(0, -1).join(' ')}`, async () => {
      await using world = await fakeWorld();
      const elsewhere = await world.gvfs(...command.slice(0, -1), '/tmp/x');
      assert.equal(
        elsewhere.err,
        'gvfs: /tmp/x is in no gvfs mount: findmnt -t fuse.gvfs lists them\n',
      );
      assert.deepEqual([elsewhere.status, elsewhere.out], [3, '']);
      await world.die();
      const dead = await world.gvfs(...command);
      assert.equal(
        dead.err,
        'gvfs: no daemon answers for /mnt/vm: ' +
          'if it was killed, fusermount3 -u /mnt/vm and mount again\n',
      );
      assert.deepEqual([dead.status, dead.out], [3, '']);
    });
  }

  it('does not ask a socket that another user could have put there', async () => {
    await using world = await fakeWorld();
    const owner = process.geteuid?.() ?? 0;
    world.shell.mounts = {
      ...world.shell.mounts,
      sockets: () => [{ path: world.socket, owner: owner + 1 }],
    };
    assert.equal((await world.gvfs('status', '/mnt/vm')).status, 3);
    world.shell.mounts = { ...world.shell.mounts, uid: owner + 2 };
    const ran = await world.gvfs('status', '/mnt/vm');
    assert.match(ran.err, /^gvfs: \/mnt\/vm is another user's mount: run gvfs as/);
    assert.equal(ran.status, 1);
  });

  it("says that it is another user's", async () => {
    await using world = await fakeWorld();
    chmodSync(world.directory, 0o755);
    const nobody = 65_534;
    world.shell.mounts = { ...world.shell.mounts, uid: nobody };
    process.seteuid?.(nobody);
    try {
      const ran = await world.gvfs('status', '/mnt/vm');
      assert.equal(
        ran.err,
        "gvfs: /mnt/vm is another user's mount: run gvfs as that user, or as root\n",
      );
      assert.equal(ran.status, 1);
    } finally {
      process.seteuid?.(0);
    }
  });

  it('does not take for an answer what is none', async () => {
    await using world = await fakeWorld();
    await world.die();
    const answers = ['{"jsonrpc":"2.0","id":1,"result":{"pid":1}}\n', 'HTTP/1.1 400\n', ''];
    const strange = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end(answers.shift() ?? ''));
    });
    await new Promise<void>((done) => strange.listen(world.socket, () => done()));
    try {
      const other = await world.gvfs('status', '/mnt/vm');
      assert.match(other.err, /^gvfs: the daemon of \/mnt\/vm is of another version \(proto.*\n$/);
      assert.match((await world.gvfs('status', '/mnt/vm')).err, /another version \(.*JSON/);
      const gone = await world.gvfs('status', '/mnt/vm');
      assert.match(gone.err, /^gvfs: the daemon of \/mnt\/vm ended meanwhile: look/);
      assert.deepEqual([other.status, gone.status], [32, 32]);
    } finally {
      await new Promise((done) => strange.close(done));
    }
  });
});

describe('gvfs warm', () => {
  it('fetches, says what it fetched, and goes on where it was', async () => {
    await using world = await fakeWorld();
    const part = await world.gvfs('warm', '--range', '12K-16K', image);
    assert.equal(part.out, `${image}: 4.0 KiB fetched, 4.0 KiB of 4.0 KiB present (100 %)\n`);
    const rest = await world.gvfs('warm', image);
    assert.equal(rest.out, `${image}: 16.0 KiB fetched, 32.0 KiB of 32.0 KiB present (100 %)\n`);
    const again = await world.gvfs('warm', image);
    assert.equal(again.out, `${image}: 0 B fetched, 32.0 KiB of 32.0 KiB present (100 %)\n`);
    assert.deepEqual([part.status, rest.status, again.status], [0, 0, 0]);
  });

  it('says with --check what is absent, and fetches nothing', async () => {
    await using world = await fakeWorld();
    const ran = await world.gvfs('warm', '--check', image);
    assert.equal(ran.out, `${image}: 12.0 KiB of 32.0 KiB present (38 %)\n`);
    assert.equal(ran.status, 5);
    assert.equal(world.mount.image.presentBytes(), 3 * PAGE);
    assert.equal((await world.gvfs('warm', image)).status, 0);
    assert.equal((await world.gvfs('warm', '--check', image)).status, 0);
  });

  it('goes on after a file that fails, and its status tells', async () => {
    await using world = await fakeWorld();
    const ran = await world.gvfs('warm', '/mnt/vm/none', '/mnt/vm/vm', image);
    assert.equal(
      ran.err.replace(/.* of 32.*\n/g, ''),
      'gvfs: /mnt/vm/none does not exist: look at its name\n' +
        'gvfs: /mnt/vm/vm is no regular file: name the files, one by one\n',
    );
    assert.match(ran.out, /20.0 KiB fetched/);
    assert.equal(ran.status, 32);
    const json = await world.gvfs('warm', '--json', '/mnt/vm/none', image);
    assert.deepEqual(JSON.parse(json.out), {
      files: [
        { file: '/mnt/vm/none', error: '/mnt/vm/none does not exist' },
        {
          file: image,
          path: 'vm/disk.img',
          totalBytes: 8 * PAGE,
          presentBytes: 8 * PAGE,
          fetchedBytes: 0,
          damagedBytes: 0,
          task: null,
          error: null,
        },
      ],
    });
    assert.equal(json.status, 32);
  });

  it('ends at an interrupt, and what was fetched stays', async () => {
    await using world = await fakeWorld();
    const { image: fake } = world.mount;
    fake.isFree = false;
    const warming = world.gvfs('warm', image, '/mnt/vm/vm/old.img');
    await until(() => fake.steps.length === 1);
    fake.steps[0]?.();
    await until(() => fake.steps.length === 2);
    world.interrupt();
    const ran = await warming;
    assert.match(ran.err, /gvfs: interrupted: what was done until then stays\n$/);
    assert.equal(ran.status, 8);
    assert.ok(!ran.out.includes('old.img'));
    await until(() => fake.cancelled === 1);
    assert.equal(fake.presentBytes(), 4 * PAGE);
  });

  it('returns at once with --background', async () => {
    await using world = await fakeWorld();
    world.mount.image.isFree = false;
    const ran = await world.gvfs('warm', '--background', image);
    assert.equal(ran.out, `${image}: is being fetched, gvfs status says how far it is\n`);
    assert.equal(ran.status, 0);
    const status = await world.gvfs('status');
    assert.match(status.out, /\n {2}task {2}done.*\n {2}warm {2}38 % {2}32.0 KiB {2}running {2}vm/);
  });

  it('draws a bar on a terminal, a line a tenth elsewhere', async () => {
    await using world = await fakeWorld();
    const lines = await world.gvfs('warm', image);
    assert.match(lines.err, /^\/mnt\/vm\/vm\/disk.img {2}13 %, 4.0 KiB of 32.0 KiB\n/);
    assert.equal(lines.err.split('\n').length - 1, 8);
    world.shell.errIsTerminal = true;
    const drawn = (await world.gvfs('warm', image)).err.split('\u001b[K');
    assert.match(drawn[0] ?? '', /^\r\/mnt.*disk.img \[=+ +\] {2}13 %, 4.0 KiB of 32.0 KiB$/);
    assert.match(drawn.at(-3) ?? '', /^\r\/mnt.*\[=+\] 100 %, 32.0 KiB of 32.0 KiB$/);
    assert.deepEqual(drawn.slice(-2), ['\r', '']);
    for (const line of drawn) assert.ok(line.length <= 80, line);
    world.shell.errIsTerminal = false;
    assert.equal((await world.gvfs('warm', '--json', image)).err, '');
  });

  it('keeps the word of the server and of the disk', async () => {
    await using world = await fakeWorld();
    const failing = (errno: 'EACCES' | 'EIO') => async () => ({
      ok: false as const,
      error: localError(errno, 'open', 'it is so'),
    });
    world.mount.files.withImage = failing('EACCES');
    const denied = await world.gvfs('warm', image);
    assert.match(denied.err, /the server does not let the daemon's user read/);
    world.mount.files.withImage = failing('EIO');
    const broken = await world.gvfs('warm', image);
    assert.match(broken.err, /disk.img: it is so: gvfs status says/);
    assert.deepEqual([denied.status, broken.status], [32, 32]);
  });
});

describe('gvfs cache', () => {
  it('ls lists images', async () => {
    await using world = await fakeWorld();
    world.mount.pinned.add('d2');
    const { out, status } = await world.gvfs('cache', 'ls');
    assert.equal(out, listText);
    assert.equal(status, 0);
    const one = await world.gvfs('cache', 'ls', '--json', '/mnt/vm/vm/old.img');
    const { caches } = JSON.parse(one.out) as { caches: { images: { path: string }[] }[] };
    assert.deepEqual(
      caches.map(({ images }) => images.map(({ path }) => path)),
      [['vm/old.img']],
    );
  });

  it('du adds them up', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('cache', 'du', '/mnt/vm')).out, usageText);
    const one = await world.gvfs('cache', 'du', '/mnt/vm/vm/old.img');
    assert.doesNotMatch(one.out, /all of/);
  });

  it('evict drops what it may, and tells what it left', async () => {
    await using world = await fakeWorld();
    const nothing = await world.gvfs('cache', 'evict');
    assert.match(nothing.err, /: say gvfs cache evict PATH, or --all\n/);
    assert.equal(nothing.status, 1);
    const all = await world.gvfs('cache', 'evict', '--all');
    assert.equal(
      all.out,
      '/mnt/vm: 1 image evicted, 1.0 MiB freed\n  vm/disk.img is kept: it is in use\n',
    );
    assert.equal(all.status, 0);
    assert.equal((await world.gvfs('cache', 'evict', image)).status, 5);
    assert.equal((await world.gvfs('cache', 'evict', '/mnt/vm/vm/old.img')).status, 0);
  });

  it('pin and unpin', async () => {
    await using world = await fakeWorld();
    const pinned = await world.gvfs('cache', 'pin', image, '/mnt/vm/vm/old.img');
    assert.equal(pinned.out, `${image}: pinned\n/mnt/vm/vm/old.img: pinned\n`);
    assert.deepEqual([...world.mount.pinned], ['d1', 'd2']);
    const unpinned = await world.gvfs('cache', 'unpin', '--json', image);
    assert.deepEqual(JSON.parse(unpinned.out), {
      files: [{ file: image, pinned: false, error: null }],
    });
    assert.deepEqual([...world.mount.pinned], ['d2']);
    assert.equal((await world.gvfs('cache', 'pin', '/mnt/vm/none')).status, 32);
  });

  it('verify finds damage, and its status tells', async () => {
    await using world = await fakeWorld();
    const good = await world.gvfs('cache', 'verify', '/mnt/vm');
    assert.equal(good.out, '/mnt/vm: 2 images, 16.0 KiB checked, nothing damaged\n');
    assert.equal(good.status, 0);
    world.mount.damagedBytes = PAGE;
    const bad = await world.gvfs('cache', 'verify', image);
    assert.equal(
      bad.out,
      `${image}: 1 image, 8.0 KiB checked, 4.0 KiB damaged\n  vm/disk.img: 4.0 KiB dropped\n`,
    );
    assert.equal(bad.status, 5);
  });

  it('does not blame a path for what the disk does', async () => {
    await using world = await fakeWorld();
    const error = localError('ENOENT', 'list', 'the directory is gone');
    Object.assign(world.mount.cache ?? {}, { list: async () => ({ ok: false, error }) });
    const ran = await world.gvfs('cache', 'ls', '/mnt/vm');
    assert.match(ran.err, /^gvfs: \/mnt\/vm: the cache: the directory is gone: gvfs status says/);
    assert.equal(ran.status, 32);
  });

  it('of a mount without a cache says so', async () => {
    await using world = await fakeWorld();
    Object.assign(world.mount, { cache: undefined });
    const ran = await world.gvfs('cache', 'ls', '/mnt/vm');
    assert.equal(ran.err, 'gvfs: the mount of /mnt/vm has no cache: mount it without nocache\n');
    assert.equal(ran.status, 32);
  });
});

describe('gvfs map', () => {
  it('draws in ASCII, in Unicode where the locale has it, in colours on a terminal', async () => {
    await using world = await fakeWorld();
    const ascii = await world.gvfs('map', '--width', '4', image);
    assert.equal(ascii.out, mapText);
    world.shell.surroundings = { uid: 0, env: { LANG: 'en_US.UTF-8' } };
    const unicode = await world.gvfs('map', '--width', '4', image);
    assert.match(unicode.out, /\n {5}0 B \|██░·\|\n16.0 KiB \|····\|\n/);
    assert.equal((await world.gvfs('map', '--ascii', '--width', '4', image)).out, mapText);
    world.shell.outIsTerminal = true;
    const coloured = await world.gvfs('map', '--ascii', '--width=4', image);
    const esc = '\u001b[0';
    assert.ok(coloured.out.includes(`|${esc};32m##${esc};34m0${esc};2m.${esc}m|`), coloured.out);
    world.shell.surroundings = { uid: 0, env: { NO_COLOR: '1' } };
    assert.equal((await world.gvfs('map', '--width', '4', image)).out, mapText);
  });

  it('gives the figures with --json', async () => {
    await using world = await fakeWorld();
    const { out } = await world.gvfs('map', '--json', image);
    const map: unknown = JSON.parse(out);
    assert.deepEqual(checkAny(methods.map.result, map, 'refuse'), { ok: true, value: map });
  });
});

describe('gvfs fail-waiting', () => {
  it('fails what waits', async () => {
    await using world = await fakeWorld();
    const request = { operation: 'READ', ino: 3 as Ino, ageMs: 1 };
    world.mount.waitingRequests = [request, request];
    const ran = await world.gvfs('fail-waiting', image);
    assert.deepEqual([ran.out, ran.status], [`${image}: 2 requests failed\n`, 0]);
    assert.equal((await world.gvfs('fail-waiting', '/mnt/vm')).out, '/mnt/vm: nothing waits\n');
    assert.equal((await world.gvfs('fail-waiting', '--json', image)).out, '{"failed":0}\n');
  });
});

describe('a wrong use', () => {
  const cases: [args: string[], err: string][] = [
    [['warm'], 'the path is missing: say gvfs warm PATH'],
    [['map'], 'the path is missing: say gvfs map PATH'],
    [['cache', 'pin'], 'the path is missing: say gvfs cache pin PATH'],
    [['cache'], 'no command is given: gvfs cache --help lists them'],
    [['cache', 'verfy'], 'unknown command "verfy": did you mean "verify"?'],
    [['cahce', 'ls'], 'unknown command "cahce": did you mean "cache"?'],
    [['warm', '--range', '5', 'x'], '"--range 5" is not possible: use START-END, as 0-64M or 1G-'],
    [
      ['warm', '--range', '2-1', 'x'],
      '"--range 2-1" is not possible: the end comes after the start',
    ],
    [
      ['warm', '--check', '--background', 'x'],
      '--background and --check contradict: gvfs COMMAND --help says how',
    ],
    [['map', '--width', '0', 'x'], '"--width 0" is not possible: use a whole number from 1 to 512'],
    [['status', '--all', 'x'], 'a path and --all contradict: gvfs COMMAND --help says how'],
  ];
  for (const [args, err] of cases) {
    it(args.join(' '), async () => {
      await using world = await fakeWorld();
      const ran = await world.gvfs(...args);
      assert.equal(ran.err, `gvfs: ${err}\n`);
      assert.deepEqual([ran.status, ran.out], [1, '']);
    });
  }
});

describe('every command', () => {
  const commands = [
    'status',
    'warm',
    'map',
    'fail-waiting',
    'exports',
    ...['ls', 'du', 'evict', 'pin', 'unpin', 'verify'].map((name) => `cache ${name}`),
  ];
  for (const command of commands) {
    it(`has help with an example and its exit status: ${command}`, async () => {
      await using world = await fakeWorld();
      const { out, status } = await world.gvfs(...command.split(' '), '--help');
      assert.match(out, new RegExp(`Examples?:\n  gvfs ${command.split(' ')[0]}[ \n]`));
      assert.match(out, /\nExit status: 0 .*/);
      assert.match(out, /--json/);
      for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
      assert.equal(status, 0);
    });
  }
});

const twoMounts = `41 22 0:50 / /mnt/vm rw - fuse.gvfs images.example.org:/vm rw
42 22 0:51 / /mnt/other rw - fuse.gvfs b:/b rw
`;

const statusText = `images.example.org:/vm on /mnt/vm
  session  exclusive, read-write, serving since 2026-01-02 03:04:05, pid 99, gvfs 1.2.3
  server   up, round trip 35.1 ms, 2 connections, 512 MiB read, 12.0 MiB written
  cache    3.0 GiB of 100 GiB, 2 images, 200 GiB free, leaves 20.0 GiB free
           in /var/cache/gvfs/0123, good
  reads    75 % from here: 1.0 GiB cache, 512 MiB zero; server 512 MiB
  waiting  2 requests, the oldest for 3.2 s
  loop     late by 0.01 ms (median), 2.5 ms (99 %), 14.0 ms (worst)

  open             size  cached  readers  writers  served by
  vm/disk.img  32.0 KiB    38 %        1        1  cache via daemon, not passthrough: WHY

  waiting      for  file
  READ       3.2 s  vm/disk.img
  GETATTR  12.0 ms  -

  call     count  failed   median     99 %
  READ      1024       0  35.4 ms  71.0 ms
  GETATTR     17       1  35.1 ms        -

  request  count   median     99 %
  READ      5000  0.04 ms  40.0 ms
`.replace('WHY', 'it is open for writing');

const listText = `images.example.org:/vm on /mnt/vm
  cached      size  on disk  last used            image
    25 %  32.0 KiB  8.0 KiB  2026-01-02 03:04:05  vm/disk.img  (open)
    25 %  32.0 KiB  8.0 KiB  2026-01-02 03:04:05  vm/old.img  (pinned)
`;

const usageText = `images.example.org:/vm on /mnt/vm
  on disk  image
  8.0 KiB  vm/disk.img
  8.0 KiB  vm/old.img
  3.0 GiB  all of 100 GiB, in /var/cache/gvfs/0123
`;

const mapText = `vm/disk.img: 32.0 KiB, 8 pages of 4.0 KiB
25 % present, 13 % zero, 0 % dirty, 63 % absent

     0 B |##0.|
16.0 KiB |....|

. absent  + partly present  # present  0 zero  * dirty  (a cell is 1 page)
`;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}
