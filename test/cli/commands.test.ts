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

  it('has the times of calls and requests with --verbose', async () => {
    await using world = await fakeWorld();
    const { out } = await world.gvfs('status', '-v');
    assert.ok(out.endsWith(timesText), out);
    assert.doesNotMatch((await world.gvfs('status')).out, /median {2}/);
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
    assert.equal(
      all.out.replace(String(process.pid), '99').replace(/ +pid/, '  pid').replace(/ +99/, '  99'),
      allText,
    );
    assert.match(all.err, /^gvfs: no daemon answers for \/mnt\/other: if .*\n$/);
    assert.equal(all.status, 3);
    const full = await world.gvfs('status', '--all', '-v');
    assert.match(
      full.out,
      /^images.example.org:\/vm on \/mnt\/vm\n {2}session[\s\S]*\n {2}request /,
    );
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

describe('a mount that ends', () => {
  it('is seen while its daemon waits for open files', async () => {
    await using world = await fakeWorld('22 1 254:0 / / rw - ext4 /dev/vda1 rw\n');
    world.mount.snapshot = () => ({ ...snapshot, state: 'leaving' });
    const all = await world.gvfs('status', '--all');
    assert.match(all.out, /\n\/mnt\/vm {2,}images.* +not in the tree, waits for open files +up/);
    assert.equal(all.status, 0);
    assert.match((await world.gvfs('cache', 'ls')).out, /on \/mnt\/vm\n[\s\S]*vm\/old.img/);
    // It serves, and what it serves is elsewhere.
    world.mount.snapshot = () => snapshot;
    assert.match((await world.gvfs('status', '--all')).out, / +not in the tree, waits/);
    await world.die();
    const none = await world.gvfs('status', '--all');
    assert.equal(none.err, 'gvfs: there is no gvfs mount here: findmnt -t fuse.gvfs lists them\n');
    assert.equal(none.status, 3);
  });

  it('is left out when it ends meanwhile', async () => {
    await using world = await fakeWorld();
    const { mounts } = world.shell;
    const there = await mounts.lines();
    for (const command of [
      ['status', '--all', '--json'],
      ['cache', 'ls', '--json'],
      ['cache', 'du', '--json'],
    ]) {
      let asked = 0;
      // Listed once, and gone before it was asked.
      world.shell.mounts = {
        ...mounts,
        ownSockets: async () => [],
        sockets: () => [],
        lines: async () => (asked++ === 0 ? there : []),
      };
      const ran = await world.gvfs(...command);
      assert.match(ran.out, /^\{"(mounts|caches)":\[\]\}\n$/);
      assert.deepEqual([ran.err, ran.status], ['', 0], command.join(' '));
    }
  });

  it('is told of when it is still in the tree', async () => {
    await using world = await fakeWorld();
    await world.die();
    assert.equal((await world.gvfs('status', '--all')).status, 3);
    assert.match((await world.gvfs('cache', 'ls')).err, /no daemon answers/);
  });
});

describe('names that would move the cursor', () => {
  const evil = 'a\n\u001b[2J\u009b1m\u202e';
  const shown = 'a%0A%1B[2J%C2%9B1m%E2%80%AE';

  it('are shown as %XX, and break no table', async () => {
    await using world = await fakeWorld();
    const { files, cache } = world.mount;
    const { openFiles } = files;
    files.openFiles = () => openFiles().map((file) => ({ ...file, path: evil, why: evil }));
    const list = cache?.list;
    Object.assign(cache ?? {}, {
      list: async (signal: AbortSignal) => {
        const listed = await list?.(signal);
        if (listed?.ok !== true) return listed;
        return { ok: true, value: listed.value.map((line) => ({ ...line, path: evil })) };
      },
    });
    const path = `/mnt/vm/${evil}`;
    const commands = [
      ['status'],
      ['status', '--all'],
      ['cache', 'ls'],
      ['cache', 'du'],
      ['cache', 'evict', '--all'],
      ['cache', 'verify'],
      ['cache', 'pin', path],
      ['warm', path],
      ['map', path],
      ['fail-waiting', path],
      ['status', '--json'],
      ['cache', 'ls', '--json'],
    ];
    for (const command of commands) {
      const { out, err } = await world.gvfs(...command);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
      assert.doesNotMatch(out + err, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/, command[0]);
      for (const line of out.split('\n')) assert.doesNotMatch(line, /^(1m|\[2J)/);
    }
    assert.ok((await world.gvfs('status')).out.includes(shown));
    assert.ok((await world.gvfs('cache', 'du')).out.includes(shown));
    const json = JSON.parse((await world.gvfs('status', '--json')).out) as {
      open: { path: string }[];
    };
    assert.equal(json.open[0]?.path, shown);
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
        'gvfs: /tmp/x is in no gvfs mount: gvfs status --all lists them\n',
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
      ran.err,
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

  it('of a file that ends within a page counts what the file has', async () => {
    await using world = await fakeWorld();
    const { image: fake, files } = world.mount;
    fake.sizeBytes = 6;
    const { locate } = files;
    files.locate = async (as, names) => {
      const found = await locate(as, names);
      if (!found.ok) return found;
      return {
        ok: true,
        value: { ...found.value, attributes: { ...found.value.attributes, size: 6 } },
      };
    };
    fake.present = new Set();
    fake.zeros.clear();
    assert.equal((await world.gvfs('warm', '--check', image)).status, 5);
    fake.present.add(0);
    const ran = await world.gvfs('warm', '--check', image);
    assert.deepEqual([ran.out, ran.status], [`${image}: 6 B of 6 B present (100 %)\n`, 0]);
    const beyond = await world.gvfs('warm', '--range', '6-9', image);
    assert.equal(
      beyond.err,
      `gvfs: ${image}: the range is not within the file, which has 6 bytes: ` +
        'see what the command wants, with --help\n',
    );
    assert.match((await world.gvfs('status')).out, / {2}6 B {3}100 % {2}/);
  });

  it('tells with --background what is present already', async () => {
    await using world = await fakeWorld();
    world.mount.image.isFree = false;
    const ran = await world.gvfs('warm', '--background', '--json', '--range', '2K-14K', image);
    const { files } = JSON.parse(ran.out) as {
      files: { presentBytes: number; totalBytes: number }[];
    };
    assert.deepEqual([files[0]?.presentBytes, files[0]?.totalBytes], [10 << 10, 12 << 10]);
    const there = await world.gvfs('warm', '--background', '--range', '0-12K', image);
    assert.equal(there.out, `${image}: is present already\n`);
  });

  it('draws a bar on a terminal, and nothing elsewhere', async () => {
    await using world = await fakeWorld();
    assert.equal((await world.gvfs('warm', image)).err, '');
    world.shell.errIsTerminal = true;
    const drawn = (await world.gvfs('warm', image)).err.split('\u001b[K');
    assert.match(drawn[0] ?? '', /^\r\/mnt.*disk.img \[=+ +\] {2}13 %, 4.0 KiB of 32.0 KiB$/);
    assert.match(drawn.at(-3) ?? '', /^\r\/mnt.*\[=+\] 100 %, 32.0 KiB of 32.0 KiB$/);
    assert.deepEqual(drawn.slice(-2), ['\r', '']);
    for (const line of drawn) assert.ok(line.length <= 80, line);
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
    assert.doesNotMatch(one.out, /total/);
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

  it('pinned images that are gone at the server are marked, and can go', async () => {
    await using world = await fakeWorld();
    world.mount.pinned.add('d2');
    const { locate } = world.mount.files;
    assert.doesNotMatch((await world.gvfs('cache', 'ls')).out, /gone/);
    world.mount.files.locate = async (as, names) =>
      names.at(-1)?.toString() === 'old.img'
        ? { ok: false, error: localError('ENOENT', 'lookup') }
        : locate(as, names);
    assert.match(
      (await world.gvfs('cache', 'ls')).out,
      /old.img {2}\(pinned, gone at the server\)/,
    );
    const kept = await world.gvfs('cache', 'evict', '/mnt/vm/vm/old.img');
    assert.match(kept.out, /old.img is kept: it is pinned/);
    const unpinned = await world.gvfs('cache', 'unpin', '/mnt/vm/d2');
    assert.deepEqual([unpinned.out, unpinned.status], ['/mnt/vm/d2: not pinned\n', 0]);
    assert.equal(world.mount.pinned.size, 0);
    world.mount.pinned.add('d2');
    const forced = await world.gvfs('cache', 'evict', '--force', '/mnt/vm/vm/old.img');
    assert.match(forced.out, /1 image evicted/);
    assert.equal(world.mount.pinned.size, 0);
  });

  it('an image that was replaced at the server is unpinned by its name', async () => {
    await using world = await fakeWorld();
    world.mount.pinned.add('d1').add('d2');
    Object.assign(world.mount.cache ?? {}, { idOf: () => 'new' });
    assert.match(
      (await world.gvfs('cache', 'ls')).out,
      /old.img {2}\(pinned, gone at the server\)/,
    );
    assert.equal((await world.gvfs('cache', 'unpin', '/mnt/vm/vm/old.img')).status, 0);
    assert.deepEqual([...world.mount.pinned], ['d1']);
  });

  it('verify of an image of which nothing can be believed does not call it good', async () => {
    await using world = await fakeWorld();
    const [id, why] = ['d9', 'info is damaged'];
    const line = {
      id,
      why,
      path: '',
      sizeBytes: 0,
      presentBytes: 0,
      state: 'damaged',
      pinned: false,
    };
    Object.assign(world.mount.cache ?? {}, { list: async () => ({ ok: true, value: [line] }) });
    const ran = await world.gvfs('cache', 'verify', '/mnt/vm');
    assert.equal(
      ran.out,
      '/mnt/vm: 1 image, 0 B checked, 1 image unbelievable\n  d9: all of it dropped, info is damaged\n',
    );
    assert.equal(ran.status, 5);
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
    assert.equal(
      (await world.gvfs('fail-waiting', '--json', image)).out,
      '{"failed":0,"waitElsewhere":0}\n',
    );
  });

  it('says when it is elsewhere that they wait', async () => {
    await using world = await fakeWorld();
    world.mount.waitingRequests = [{ operation: 'LOOKUP', ino: 2 as Ino, ageMs: 5000 }];
    const ran = await world.gvfs('fail-waiting', image);
    assert.equal(
      ran.out,
      `${image}: nothing waits for it, but 1 request waits elsewhere: ` +
        'gvfs status says where, gvfs fail-waiting /mnt/vm fails them all\n',
    );
    assert.equal(ran.status, 5);
    Object.assign(world.mount.files, { pathOf: (ino: Ino) => (ino === 2 ? 'vm' : undefined) });
    assert.match((await world.gvfs('status')).out, /LOOKUP +5.0 s {2}vm\n/);
    world.mount.isAway = true;
    const failed = await world.gvfs('fail-waiting', '/mnt/vm/vm');
    assert.deepEqual([failed.out, failed.status], ['/mnt/vm/vm: 1 request failed\n', 0]);
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
      '--background and --check contradict: gvfs warm --help says how',
    ],
    [['map', '--width', '0', 'x'], '"--width 0" is not possible: use a whole number from 1 to 512'],
    [['status', '--all', 'x'], 'a path and --all contradict: gvfs status --help says how'],
    [['status', 'x', 'y'], 'too many arguments for "status": gvfs status --help says how'],
    [['cache', 'ls', '--x'], 'unknown option "--x": gvfs cache ls --help says how'],
    [['exports', 'host:/vm'], '"host:/vm" is an export, not a server: say gvfs exports host'],
    [['exports', '[::1]:/vm'], '"[::1]:/vm" is an export, not a server: say gvfs exports [::1]'],
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

describe('help', () => {
  it('is printed by gvfs alone, gvfs help, and of each command', async () => {
    await using world = await fakeWorld();
    const alone = await world.gvfs();
    assert.match(alone.out, /^Usage: gvfs /);
    assert.deepEqual([alone.status, alone.err], [0, '']);
    assert.deepEqual(await world.gvfs('help'), alone);
    assert.deepEqual(await world.gvfs('help', 'warm'), await world.gvfs('warm', '--help'));
    const verify = await world.gvfs('help', 'cache', 'verify');
    assert.deepEqual(verify, await world.gvfs('cache', 'verify', '--help'));
    assert.equal((await world.gvfs('help', 'warn')).status, 1);
  });
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
  writes   back, fsync is local, nothing unsent
  waiting  2 requests, the oldest for 3.2 s
  loop     late by 0.01 ms (median), 2.5 ms (99 %), 14.0 ms (worst)

  open             size  cached  readers  writers  served by
  vm/disk.img  32.0 KiB    38 %        1        1  cache via daemon, not passthrough: WHY

  waiting      for  file or directory
  READ       3.2 s  vm/disk.img
  GETATTR  12.0 ms  -
`.replace('WHY', 'it is open for writing');

const timesText = `
  call     count  failed   median     99 %
  READ      1024       0  35.4 ms  71.0 ms
  GETATTR     17       1  35.1 ms        -

  request  count   median     99 %
  READ      5000  0.04 ms  40.0 ms
`;

const allText = `mountpoint  source                  state            server   cached  open  unsent  waiting  pid
/mnt/vm     images.example.org:/vm  serving          up      3.0 GiB     1       -        0  99
/mnt/other  b:/b                    does not answer
`;

const listText = `images.example.org:/vm on /mnt/vm
  cached      size  on disk  last used            image
    25 %  32.0 KiB  8.0 KiB  2026-01-02 03:04:05  vm/disk.img  (open)
    25 %  32.0 KiB  8.0 KiB  2026-01-02 03:04:05  vm/old.img  (pinned)
`;

const usageText = `images.example.org:/vm on /mnt/vm
  on disk  image
  8.0 KiB  vm/disk.img
  8.0 KiB  vm/old.img
  3.0 GiB  total, may be 100 GiB, in /var/cache/gvfs/0123
`;

const mapText = `vm/disk.img: 32.0 KiB, 8 pages of 4.0 KiB
25 % present, 13 % zero, 0 % dirty, 62 % absent

     0 B |##0.|
16.0 KiB |....|

. absent  + partly present  # present  0 zero  * dirty  (a cell is 1 page)
`;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}
