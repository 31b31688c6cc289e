/**
 * The middleware's words on a real mount: each is believed by what the server's directory has.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CachedExport,
  type CachedExportOptions,
  statusOf,
  withCachedExport,
} from '../cached/cached-export.ts';
import { gvfs as program, runCommand } from '../cli/run.ts';
import { PYTHON } from '../mount/children.ts';
import type { Mount } from '../mount/mount-fixture.ts';

/** Writes 64 KiB at a MiB, and closes. */
const WRITER = `import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, sys.argv[2].encode() * 65536, 1 << 20)
os.close(fd)`;

/** Changes a mapped page, without a word, and waits. */
const MAPPER = `import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 1 << 20)
m[4096:4100] = b'mmap'
print('stored', flush=True)
sys.stdin.readline()`;

const HOLDER = `import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print('open', flush=True)
sys.stdin.readline()`;

const deferred = ['session=exclusive', 'write=deferred'];

describe("the middleware's words", () => {
  it('write back what is unsent, and until then the server has nothing of it', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'a');
      const before = await statusOf(mount);
      assert.equal(before.unsent.bytes, 65_536);
      assert.equal(before.unsent.list[0]?.path, 'disk.raw');
      assert.notEqual(atServer(place), 'a');
      const sent = await gvfs('write-back', image);
      assert.deepEqual([sent.status, sent.stdout], [0, `${image}: 64.0 KiB of 1 file sent\n`]);
      assert.equal(atServer(place), 'a');
      assert.equal((await statusOf(mount)).unsent.files, 0);
    });
  });

  it('are signals, too, whose end is an event', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'b');
      mount.signal('SIGUSR1');
      await until(() => /done, as asked by a signal/.test(mount.log()));
      assert.equal(atServer(place), 'b');
      const { stdout } = await gvfs('events', mount.mountpoint);
      const events = stdout.trim().split('\n');
      const kinds = events.map((line) => (JSON.parse(line) as { event: string }).event);
      assert.ok(kinds.includes('dirty') && kinds.includes('clean'), kinds.join());
      assert.equal(kinds.at(-1), 'completed');
      mount.signal('SIGUSR2');
      await until(() => /"asked":"flush"|asked=flush/.test(mount.log()));
    });
  });

  it('take along what a program has changed in mapped memory', async () => {
    await withImage(async ({ place, mount, image }) => {
      const mapper = await mount.children.start(PYTHON, ['-c', MAPPER, image], {
        interactive: true,
      });
      await mapper.says('stored');
      const sent = await gvfs('write-back', image);
      assert.equal(sent.status, 0, sent.stderr);
      assert.equal(fromServer(place).toString('latin1', 4096, 4100), 'mmap');
      mapper.kill();
      await mapper.ended;
    });
  });

  it('flush: what another host has written since is seen', async () => {
    await withImage(async ({ place, mount, image }) => {
      const first = await mount.children.run(PYTHON, ['-c', READER, image]);
      place.image('disk.raw', 2 << 20);
      const stale = await mount.children.run(PYTHON, ['-c', READER, image]);
      assert.equal(stale, first);
      const flushed = await gvfs('flush', image);
      assert.equal(flushed.status, 0, flushed.stderr);
      const fresh = await mount.children.run(PYTHON, ['-c', READER, image]);
      assert.equal(fresh.trim(), fromServer(place).toString('hex', 0, 16));
    });
  });

  it('umount: not while files are open; then everything is at the server', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'c');
      const holder = await mount.children.start(PYTHON, ['-c', HOLDER, image], {
        interactive: true,
      });
      await holder.says('open');
      const refused = await gvfs('umount', mount.mountpoint);
      assert.equal(refused.status, 32);
      assert.match(refused.stderr, /files are open there \(disk\.raw\)/);
      holder.kill();
      await holder.ended;
      // Opens are allowed again.
      await write(mount, image, 'd');
      const ended = await gvfs('umount', mount.mountpoint);
      assert.deepEqual(
        [ended.status, ended.stdout, ended.stderr],
        [0, `${mount.mountpoint}: unmounted, 64.0 KiB sent\n`, ''],
      );
      assert.equal(atServer(place), 'd');
      assert.equal(await mount.daemonExit(), 0);
    });
  });

  it('umount --keep-dirty: the next mount has it, and sends it', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'e');
      const ended = await gvfs('umount', '--keep-dirty', mount.mountpoint);
      assert.equal(ended.status, 0, ended.stderr);
      assert.match(ended.stdout, /64\.0 KiB stay in the cache/);
      assert.equal(await mount.daemonExit(), 75);
      await mount.crash(); // only clears away
      assert.notEqual(atServer(place), 'e');
      const listed = await gvfs('recover', '--list', '--cachedir', place.cache);
      assert.match(listed.stdout, /disk\.raw/);
      const next = await place.mount(...deferred);
      assert.match(next.log(), /unsent writes of an earlier mount were found/);
      const { unsent } = await statusOf(next);
      assert.deepEqual([unsent.foundBytes, unsent.recoveredBytes], [65_536, 65_536]);
      const sent = await gvfs('write-back', next.mountpoint);
      assert.equal(sent.status, 0, sent.stderr);
      assert.equal(atServer(place), 'e');
    });
  });

  it('recover --write-back sends it without a mount', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'f');
      assert.equal((await gvfs('umount', '--keep-dirty', mount.mountpoint)).status, 0);
      assert.equal(await mount.daemonExit(), 75);
      await mount.crash();
      const options = `mountport=${place.server.mountPort}`;
      const sent = await gvfs(
        ...['recover', '--write-back', '--cachedir', place.cache, '-o', options],
      );
      assert.equal(sent.status, 0, sent.stderr);
      assert.equal(atServer(place), 'f');
    });
  });
});

describe('a daemon whose mount is gone', () => {
  it('goes on sending, and is seen meanwhile', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'g');
      await place.relay.cut();
      assert.equal(await mount.unmount(500), undefined);
      const all = await gvfs('status', '--all', '--json');
      // Other tests have mounts, too, and some of these are just ending.
      const { mounts } = JSON.parse(all.stdout) as { mounts: { status: Line | null }[] };
      const draining = mounts.find(({ status }) => status?.pid === mount.daemonPid)?.status;
      assert.equal(draining?.state, 'draining');
      assert.equal(draining?.unsent.bytes, 65_536);
      await place.relay.restore();
      assert.equal(await mount.daemonExit(60_000), 0);
      assert.equal(atServer(place), 'g');
    });
  });

  it('gives the cache to a new mount, with what it has not sent', async () => {
    const slow = { link: { mbit: 4 } };
    await withImage(async ({ place, mount, image }) => {
      await mount.children.run(PYTHON, ['-c', FILLER, image]);
      assert.equal(await mount.unmount(200), undefined);
      const next = await place.mount(...deferred);
      assert.match(mount.log(), /the cache is given to the next mount/);
      assert.equal(await mount.daemonExit(10_000), 0);
      const { unsent } = await statusOf(next);
      assert.ok(unsent.foundBytes > 0 && unsent.foundBytes <= 2 << 20, `${unsent.foundBytes}`);
      const sent = await gvfs('write-back', next.mountpoint);
      assert.equal(sent.status, 0, sent.stderr);
      assert.ok(fromServer(place).every((byte) => byte === 0x77));
    }, slow);
  });

  it('ends at the second SIGTERM, with what is unsent kept', async () => {
    await withImage(async ({ place, mount, image }) => {
      await write(mount, image, 'h');
      await place.relay.cut();
      mount.signal('SIGTERM');
      await until(() => /unsent writes are written back/.test(mount.log()));
      mount.signal('SIGTERM');
      assert.equal(await mount.daemonExit(10_000), 75);
      assert.equal(mount.log().match(/unsent writes stay in the cache/g)?.length, 1, mount.log());
      await mount.crash();
      await place.relay.restore();
      const next = await place.mount('session=exclusive,write=back,writeback_age=1');
      await until(async () => (await statusOf(next)).unsent.files === 0);
      assert.equal(atServer(place), 'h');
    });
  });
});

interface Line {
  readonly pid: number;
  readonly state: string;
  readonly unsent: { readonly bytes: number };
}

/** Writes all of it. */
const FILLER = `import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b'w' * (2 << 20), 0)
os.close(fd)`;

const READER = `import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(os.pread(fd, 16, 0).hex())`;

/** A mount that sends only when it is told, and an image of 2 MiB in it. */
async function withImage(
  body: (world: { place: CachedExport; mount: Mount; image: string }) => Promise<void>,
  options: CachedExportOptions = {},
): Promise<void> {
  await withCachedExport(async (place) => {
    place.image('disk.raw', 2 << 20);
    const mount = await place.mount(...deferred);
    await body({ place, mount, image: join(mount.mountpoint, 'disk.raw') });
  }, options);
}

function gvfs(...args: string[]) {
  return runCommand(program, args);
}

async function write(mount: Mount, image: string, letter: string): Promise<void> {
  await mount.children.run(PYTHON, ['-c', WRITER, image, letter]);
}

/** The letter that was written, as the server has it; undefined when it is not one letter. */
function atServer(place: CachedExport): string | undefined {
  const letters = fromServer(place).toString('latin1', 1 << 20, (1 << 20) + 65_536);
  return letters === letters.charAt(0).repeat(65_536) ? letters.charAt(0) : undefined;
}

function fromServer({ server }: CachedExport): Buffer {
  return readFileSync(join(server.directory, 'disk.raw'));
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(50);
}
