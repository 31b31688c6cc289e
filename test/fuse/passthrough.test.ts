/**
 * Files that the kernel reads by itself, on the real kernel. Needs root, Linux 6.9, fuse3, python3
 * and overlayfs.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { SPECIAL_BYTES } from './memory-fs.ts';
import { MemoryMount, run, temporaryFolder } from './memory-mount.ts';

const READ_ALL = `
import mmap, os
want = open(os.environ['LOCAL'], 'rb').read()
def check(fd):
    room = mmap.mmap(-1, len(want)) # aligned: O_DIRECT is the local file's own
    assert os.preadv(fd, [room], 0) == len(want) and room[:] == want
    view = mmap.mmap(fd, len(want), prot=mmap.PROT_READ); assert view[:] == want; view.close()
`;

describe('passthrough', () => {
  let folder: string;
  let local: string;
  let mount: MemoryMount;
  beforeEach(async () => {
    folder = await temporaryFolder();
    local = join(folder, 'local');
    await writeFile(local, randomBytes(SPECIAL_BYTES));
    await mkdir(join(folder, 'mnt'));
  });
  afterEach(async () => {
    await mount.destroy();
    await run('umount', ['-l', join(folder, 'stacked')]);
    await rm(folder, { recursive: true });
  });

  const serve = async (settings: object) => {
    mount = new MemoryMount(join(folder, 'mnt'), { localPath: local, ...settings });
    const line = await mount.line();
    assert.equal(line.error, undefined);
  };
  const python = (script: string) =>
    mount.python(`import os\nos.environ['LOCAL'] = ${JSON.stringify(local)}\n${READ_ALL}${script}`);

  it('serves reads and mappings, and no READ comes; opens share an id, the last release ends it', async () => {
    await serve({ passthrough: true });
    assert.equal((await mount.status()).passthrough, 'no file was passed to the kernel yet');
    // A second id for the file while the first is in use would be EIO; so would a kept one after it.
    await python(`
a = os.open('local', os.O_RDONLY); b = os.open('local', os.O_RDONLY)
check(a); os.close(a)
check(b); c = os.open('local', os.O_RDONLY | os.O_DIRECT); check(c)
os.close(b); os.close(c)`);
    await python(`
fd = os.open('local', os.O_RDONLY); check(fd); os.close(fd)`);
    const { passthrough, localReads } = await mount.status();
    assert.deepEqual([passthrough, localReads], ['yes', 0]);
    assert.deepEqual((await mount.finish()).last.held?.handles, 0);
  });

  it('keeps no page of what was read through the server before', async () => {
    await serve({ passthrough: true, keepCache: true, validMs: 3_600_000 });
    await mount.sh(`cat local | cmp - ${local}`);
    await writeFile(local, randomBytes(SPECIAL_BYTES));
    await mount.sh(`cat local | cmp - ${local}`);
    assert.equal((await mount.status()).localReads, 0);
  });

  it('that was not wished is not used', async () => {
    await serve({});
    await mount.sh(`cat local | cmp - ${local}`);
    const { passthrough, localReads } = await mount.status();
    assert.equal(passthrough, 'not asked for');
    assert.notEqual(localReads, 0);
  });

  it('refused for what lies on stacked file systems: the server answers, and says why', async () => {
    const layers = ['lower', 'upper', 'work', 'stacked'].map((name) => join(folder, name));
    for (const layer of layers) await mkdir(layer);
    const [lower, upper, work, stacked = ''] = layers;
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    assert.equal(
      (await run('mount', ['-t', 'overlay', 'overlay', '-o', options, stacked])).status,
      0,
    );
    local = join(stacked, 'local');
    await writeFile(local, randomBytes(SPECIAL_BYTES));
    await serve({ passthrough: true });
    await mount.sh(`cat local | cmp - ${local}; cat local | cmp - ${local}`);
    const { passthrough, localReads } = await mount.status();
    assert.match(passthrough, /stacked/);
    assert.notEqual(localReads, 0);
  });
});
