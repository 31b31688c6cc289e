/** What docs/SEMANTICS.md promises of writes, sentence by sentence. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  type CachedExport,
  type CachedExportOptions,
  gvfs,
  withCachedExport,
} from '../cached/cached-export.ts';
import { cacheDirectory } from '../mount/cache-directory.ts';
import { LoopDisk, withDisk } from '../mount/loop-disk.ts';
import type { Mount } from '../mount/mount-fixture.ts';
import { Actor } from './actor.ts';
import { Control } from './control.ts';

const NAME = 'disk.raw';
const BYTES = 1 << 20;
const PAGE = 4096;

interface Scene {
  readonly place: CachedExport;
  readonly mount: Mount;
  readonly actor: Actor;
  readonly control: Control;
  /** What the file was before. */
  readonly before: Buffer;
  atServer(): Buffer;
}

/** One file, one program that uses it, one middleware. */
async function onOneFile(
  mountOptions: readonly string[],
  body: (scene: Scene) => Promise<void>,
  options: CachedExportOptions = {},
): Promise<void> {
  await withCachedExport(async (place) => {
    const before = place.image(NAME, BYTES);
    const mount = await place.mount(...mountOptions);
    const actor = await Actor.on(mount, NAME);
    const control = await Control.of(mount);
    const atServer = () => readFileSync(join(place.server.directory, NAME));
    try {
      await body({ place, mount, actor, control, before, atServer });
    } finally {
      control.close();
    }
  }, options);
}

/** `bytes` with a piece of it replaced. */
function patched(bytes: Buffer, offset: number, piece: Buffer): Buffer {
  const all = Buffer.alloc(Math.max(bytes.length, offset + piece.length));
  bytes.copy(all);
  piece.copy(all, offset);
  return all;
}

const piece = randomBytes(3 * PAGE);
const DEFERRED = ['session=exclusive', 'write=deferred'];

describe('session=exclusive, write=back or deferred', () => {
  for (const write of ['back', 'deferred']) {
    it(`write, fsync and close wait for no server (write=${write})`, async () => {
      await onOneFile(['session=exclusive', `write=${write}`], async (scene) => {
        const { place, actor, control, before, atServer } = scene;
        assert.ok(await actor.sees(before));
        await place.relay.cut();
        assert.equal(await actor.hold(), 'done');
        assert.equal(await actor.write(PAGE, piece), 'done');
        assert.equal(await actor.sync(), 'done');
        assert.equal(await actor.leave(), 'done');
        const after = patched(before, PAGE, piece);
        assert.ok(await actor.sees(after));
        assert.ok(atServer().equals(before));
        await place.relay.restore();
        await control.writeBack();
        assert.ok(atServer().equals(after));
      });
    });
  }

  it('with fsync=server an fsync waits until the server has it', async () => {
    await onOneFile([...DEFERRED, 'fsync=server'], async ({ actor, before, atServer }) => {
      await actor.hold();
      assert.equal(await actor.write(10, piece), 'done');
      assert.equal(await actor.sync(), 'done');
      assert.ok(atServer().equals(patched(before, 10, piece)));
    });
  });

  it('names, sizes that are set and modes are at the server at once', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, before }) => {
      const { children, mountpoint } = mount;
      const path = (name: string) => join(place.server.directory, name);
      assert.equal(await actor.write(0, piece), 'done');
      assert.equal(await actor.cut(BYTES / 2), 'done');
      assert.equal(statSync(path(NAME)).size, BYTES / 2);
      const script = 'cd "$1"; echo new >new; chmod 600 disk.raw; mv disk.raw moved; ln moved link';
      await children.sh(script, [mountpoint]);
      assert.ok(existsSync(path('new')) && !existsSync(path(NAME)));
      assert.equal(statSync(path('moved')).mode & 0o777, 0o600);
      assert.equal(statSync(path('link')).nlink, 2);
      const read = await children.sh('sha256sum <"$1/link"', [mountpoint]);
      const whole = patched(before, 0, piece).subarray(0, BYTES / 2);
      const expected = execFileSync('sha256sum', { input: whole, encoding: 'utf8' });
      assert.equal(read, expected);
    });
  });

  it('what was written to a file that is deleted is not sent', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, control }) => {
      for (let at = 0; at < BYTES; at += piece.length) await actor.write(at, piece);
      await mount.children.run('rm', [join(mount.mountpoint, NAME)]);
      const before = (await place.relay.counters()).bytesToServer;
      await control.writeBack();
      const sent = (await place.relay.counters()).bytesToServer - before;
      assert.ok(sent < BYTES / 8, `${sent} bytes were sent`);
      assert.equal((await control.unsent()).bytes, 0);
    });
  });
});

describe('session=shared, write=back', () => {
  const SHARED = ['session=shared', 'write=back'];

  it('close returns when the server has it', async () => {
    await onOneFile(SHARED, async ({ actor, before, atServer }) => {
      await actor.hold();
      assert.equal(await actor.write(5000, piece), 'done');
      assert.equal(await actor.leave(), 'done');
      assert.ok(atServer().equals(patched(before, 5000, piece)));
    });
  });

  it('fsync returns when the server has it', async () => {
    await onOneFile(SHARED, async ({ actor, before, atServer }) => {
      await actor.hold();
      assert.equal(await actor.write(5000, piece), 'done');
      assert.equal(await actor.sync(), 'done');
      assert.ok(atServer().equals(patched(before, 5000, piece)));
    });
  });
});

describe('what the server refuses', () => {
  it('stays here, is told once to each open file, and is sent when the server can', async () => {
    await withDisk(LoopDisk.ext4(32), async (disk) => {
      const exportDir = join(disk.path, 'export');
      mkdirSync(exportDir);
      await onOneFile(
        DEFERRED,
        async ({ place, mount, control, atServer }) => {
          const actor = await Actor.on(mount, 'new.raw');
          await actor.hold();
          const hog = join(place.server.directory, 'hog');
          execFileSync('sh', ['-c', `dd if=/dev/zero of=${hog} bs=64k 2>/dev/null || sync`]);
          const content = randomBytes(BYTES);
          for (let at = 0; at < BYTES; at += 1 << 17) {
            assert.equal(await actor.write(at, content.subarray(at, at + (1 << 17))), 'done');
          }
          assert.equal(await control.writeBackInVain('new.raw'), 'ENOSPC');
          assert.equal((await control.unsent()).list[0]?.path, 'new.raw');
          assert.equal(await actor.sync(), 'ENOSPC');
          assert.equal(await actor.sync(), 'done', 'it is told once');
          assert.ok(await actor.sees(content));
          rmSync(hog);
          await control.writeBack();
          assert.ok(readFileSync(join(place.server.directory, 'new.raw')).equals(content));
          assert.equal((await control.unsent()).files, 0);
          assert.equal(atServer().length, BYTES);
        },
        { exportDir },
      );
    });
  });
});

describe('another changed the file while writes of ours wait, session=exclusive', () => {
  for (const keep of ['mine', 'theirs'] as const) {
    it(`nothing is sent or dropped until it is resolved (${keep})`, async () => {
      await onOneFile(DEFERRED, async ({ place, actor, control, before, atServer }) => {
        assert.ok(await actor.sees(before));
        assert.equal(await actor.write(0, piece), 'done');
        const theirs = patched(before, 8 * PAGE, randomBytes(PAGE));
        const path = join(place.server.directory, NAME);
        writeFileSync(path, theirs);
        utimesSync(path, 1_700_000_000, 1_700_000_000);
        await control.writeBackInVain(NAME);
        assert.equal((await control.unsent()).list[0]?.state, 'conflict');
        assert.ok(atServer().equals(theirs));
        await control.resolve(NAME, keep);
        const resolved = keep === 'mine' ? patched(theirs, 0, piece) : theirs;
        await control.flush();
        assert.ok(await actor.sees(resolved));
        assert.ok(atServer().equals(resolved));
      });
    });
  }
});

describe('the end of a mount with unsent writes', () => {
  it('a plain unmount sends them before the daemon ends', async () => {
    await onOneFile(
      DEFERRED,
      async ({ mount, actor, before, atServer }) => {
        for (let at = 0; at < BYTES; at += piece.length) await actor.write(at, piece);
        await actor.end();
        assert.equal(await mount.unmount(), 0);
        let after = before;
        for (let at = 0; at < BYTES; at += piece.length) after = patched(after, at, piece);
        assert.ok(atServer().equals(after));
      },
      { link: { mbit: 20 } },
    );
  });

  it('a new mount has them while the old daemon is still sending', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, before, atServer }) => {
      assert.equal(await actor.write(100, piece), 'done');
      await actor.end();
      await place.relay.cut();
      await mount.children.run('fusermount3', ['-u', mount.mountpoint]);
      await place.relay.restore();
      const next = await place.mount(...DEFERRED);
      const again = await Actor.on(next, NAME);
      assert.ok(await again.sees(patched(before, 100, piece)));
      await again.end();
      assert.equal(await mount.daemonExit(), 0);
      const control = await Control.of(next);
      await control.writeBack();
      control.close();
      assert.ok(atServer().equals(patched(before, 100, piece)));
    });
  });

  it('a second SIGTERM ends the daemon at once, with 75, and the next mount has them', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, before, atServer }) => {
      assert.equal(await actor.write(100, piece), 'done');
      await actor.end();
      await place.relay.cut();
      mount.signal('SIGTERM');
      await mount.children.sh('until grep -q SIGTERM "$1"; do sleep 0.05; done', [mount.logFile]);
      mount.signal('SIGTERM');
      assert.equal(await mount.daemonExit(), 75, mount.log());
      await mount.crash();
      await place.relay.restore();
      const next = await place.mount(...DEFERRED);
      const again = await Actor.on(next, NAME);
      assert.ok(await again.sees(patched(before, 100, piece)));
      await again.end();
      await next.close();
      assert.ok(atServer().equals(patched(before, 100, piece)));
    });
  });
});

describe('what a killed daemon has left unsent', () => {
  it('is sent by gvfs recover --write-back, without a mount', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, before, atServer }) => {
      assert.equal(await actor.write(100, piece), 'done');
      await mount.crash();
      const listed = await gvfs(mount, 'recover', '--list', '--cachedir', place.cache);
      assert.match(listed, /disk\.raw/);
      const way = `mountport=${place.server.mountPort}`;
      const cache = ['--cachedir', place.cache, '-o', way];
      const sent = await gvfs(mount, 'recover', '--write-back', ...cache);
      assert.ok(atServer().equals(patched(before, 100, piece)), sent);
    });
  });

  it('is copied out by gvfs recover --export, even where the server has lost the file', async () => {
    await onOneFile(DEFERRED, async ({ place, mount, actor, before }) => {
      assert.ok(await actor.sees(before));
      assert.equal(await actor.write(100, piece), 'done');
      await mount.crash();
      rmSync(join(place.server.directory, NAME));
      const rescue = cacheDirectory();
      try {
        await gvfs(mount, 'recover', '--export', rescue.path, '--cachedir', place.cache);
        const copy = readFileSync(join(rescue.path, NAME));
        assert.ok(copy.equals(patched(before, 100, piece)));
      } finally {
        rescue.remove();
      }
    });
  });
});
