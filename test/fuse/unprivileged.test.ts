/**
 * A user who is not root mounts through fusermount3; and what one is told where the machine lacks
 * something. Each server has a mount namespace of its own, in which /dev is what the test wants:
 * the machine's own stays as it is. Needs root (to make the namespaces), fuse3 and util-linux.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { SPECIAL_BYTES } from './memory-fs.ts';
import { MemoryMount, run, temporaryFolder } from './memory-mount.ts';

const NOBODY = 65534;
/** Nobody, but able to read this checkout wherever it lies. */
const AS_NOBODY = `setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups`;
const READS_ALL = '--inh-caps +dac_read_search --ambient-caps +dac_read_search';

describe('a user', () => {
  let folder: string;
  let mountpoint: string;
  before(async () => {
    folder = await temporaryFolder();
    mountpoint = join(folder, 'mnt, with a comma');
    await chmod(folder, 0o755);
    await mkdir(mountpoint);
    await chown(mountpoint, NOBODY, NOBODY);
  });
  after(() => rm(folder, { recursive: true }));

  const serve = (setUp: string, as = `${AS_NOBODY} ${READS_ALL}`, settings = {}) =>
    new MemoryMount(mountpoint, { source: 'a,b:/c\\d', ...settings }, [
      'unshare',
      '-m',
      'sh',
      '-ec',
      `${setUp}\nexec ${as} "$@"`,
      'sh',
    ]);
  const device = (mode: string) => `
    rm -f ${folder}/fuse; mknod -m ${mode} ${folder}/fuse c 10 229
    mount --bind ${folder}/fuse /dev/fuse`;
  const inside = ({ server }: MemoryMount, script: string) => {
    const args = ['-t', String(server.pid), '-m', ...AS_NOBODY.split(' '), 'sh', '-ec'];
    return run('nsenter', [...args, `cd "${mountpoint}"; ${script}`]);
  };
  const refusal = async (mount: MemoryMount) => {
    try {
      const { error } = await mount.line();
      assert.equal(await mount.exited, 32);
      return error?.code;
    } finally {
      if (mount.server.exitCode === null) mount.server.kill('SIGKILL');
    }
  };

  it('mounts through fusermount3, uses it, and unmounts', async () => {
    const mount = serve(device('666'));
    try {
      const line = await mount.line();
      assert.equal(line.error, undefined);
      const used = await inside(
        mount,
        `dd if=/dev/urandom of=a bs=1M count=4 oflag=direct status=none
         dd if=a of=b bs=1M iflag=direct status=none
         cmp a b; stat -c %u a; grep -F 'fuse.gvfs a,b:/c' /proc/self/mountinfo`,
      );
      assert.equal(used.stderr, '');
      assert.match(used.stdout, /^65534\n.*fuse\.gvfs a,b:\/c\\134d .*user_id=65534/);
      mount.order('unmount');
      const { status, last } = await mount.last();
      assert.deepEqual([status, last.end], [0, { reason: 'unmounted' }]);
    } finally {
      if (mount.server.exitCode === null) mount.server.kill('SIGKILL');
    }
  });

  it('is refused passthrough: the server answers reads, and says why', async () => {
    const localPath = join(folder, 'local');
    await writeFile(localPath, randomBytes(SPECIAL_BYTES));
    const mount = serve(device('666'), undefined, { passthrough: true, localPath });
    try {
      assert.equal((await mount.line()).error, undefined);
      assert.equal(
        (await inside(mount, `cmp local ${localPath}; cmp local ${localPath}`)).status,
        0,
      );
      const { passthrough, localReads } = await mount.status();
      assert.match(passthrough, /CAP_SYS_ADMIN/);
      assert.notEqual(localReads, 0);
      mount.order('unmount');
      assert.equal((await mount.last()).status, 0);
    } finally {
      if (mount.server.exitCode === null) mount.server.kill('SIGKILL');
    }
  });

  it('is told when /dev/fuse is not for all', async () => {
    assert.equal(await refusal(serve(device('600'))), 'FUSE_DEVICE_DENIED');
  });

  it('is told when /dev/fuse is not there', async () => {
    const noDevice = `
      mkdir -p ${folder}/dev; mount -t tmpfs tmpfs ${folder}/dev
      for n in null zero urandom random; do
        touch ${folder}/dev/$n; mount --bind /dev/$n ${folder}/dev/$n
      done
      mount --rbind ${folder}/dev /dev`;
    assert.equal(await refusal(serve(noDevice)), 'NO_FUSE_DEVICE');
    assert.equal(await refusal(serve(noDevice, '')), 'NO_FUSE_DEVICE', 'root, too');
  });

  it('is told when fusermount3 is not there', async () => {
    const setUp = `${device('666')}; mount --bind /dev/null "$(command -v fusermount3)"`;
    assert.equal(await refusal(serve(setUp)), 'NO_FUSERMOUNT');
  });

  it('is told when allow_other is not permitted', async () => {
    const setUp = `${device('666')}; mount --bind /dev/null /etc/fuse.conf`;
    assert.equal(await refusal(serve(setUp, undefined, { allowOther: true })), 'MOUNT_DENIED');
  });

  it('is told when the mountpoint is not theirs', async () => {
    await chown(mountpoint, 0, 0);
    try {
      assert.equal(await refusal(serve(device('666'))), 'MOUNT_DENIED');
    } finally {
      await chown(mountpoint, NOBODY, NOBODY);
    }
  });

  it('who is root without CAP_SYS_ADMIN is told so', async () => {
    const as = 'setpriv --bounding-set -sys_admin --inh-caps -sys_admin';
    assert.equal(await refusal(serve(':', as)), 'MOUNT_DENIED');
  });
});
