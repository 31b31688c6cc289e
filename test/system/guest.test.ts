import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { bootGuest } from '../../scripts/guest/boot.ts';
import { makeGuest } from '../../scripts/guest/make.ts';
import { onAMount } from '../mount/worlds.ts';

onAMount('a virtual machine', (place) => {
  it('boots from a disk on the mount, reads it right and leaves it clean', async () => {
    const { mount, children } = place;
    assert.ok(mount);
    const guest = await makeGuest(mount.serverDirectory, { contentMib: 8 });
    // QEMU alone touches the mount; the kernel and the RAM disk are read beside it.
    const boot = await bootGuest({
      kernel: guest.kernel,
      initrd: guest.initrd,
      disk: join(mount.mountpoint, 'disk.raw'),
      cache: 'none',
      limitMs: 110_000,
    });
    assert.equal(boot.sha256, guest.sha256);
    await children.run('e2fsck', ['-fn', guest.disk]);
  });
});
