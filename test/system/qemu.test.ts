import assert from 'node:assert/strict';
import { it } from 'node:test';
import { inBothWorlds } from '../mount/worlds.ts';

inBothWorlds('QEMU', (place) => {
  it('creates, converts, checks and compares images', async () => {
    await place.children.sh(
      `cd "$1"
       qemu-img create -f raw disk.raw 64M
       qemu-io -f raw -c 'write -P 0x11 0 1M' -c 'write -P 0x22 9M 3M' -c 'write -P 0x33 63M 1M' \
         disk.raw
       qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
       qemu-img check disk.qcow2
       qemu-img compare -f raw -F qcow2 disk.raw disk.qcow2
       qemu-img convert -f qcow2 -O raw -t none -T none disk.qcow2 again.raw
       cmp disk.raw again.raw
       qemu-img convert -c -f raw -O qcow2 disk.raw small.qcow2
       qemu-img compare -f raw -F qcow2 disk.raw small.qcow2
       qemu-img resize -f raw again.raw 80M
       test "$(stat -c %s again.raw)" = 83886080
       qemu-img info disk.qcow2`,
      [place.directory],
    );
  });

  it('keeps a chain of a base and an overlay', async () => {
    await place.children.sh(
      `cd "$1"
       qemu-img create -f raw base.raw 16M
       qemu-io -f raw -c 'write -P 0x44 0 16M' base.raw
       qemu-img create -f qcow2 -b base.raw -F raw overlay.qcow2
       qemu-io -f qcow2 -c 'write -P 0x55 4M 1M' -c 'read -P 0x44 0 4M' -c 'read -P 0x55 4M 1M' \
         overlay.qcow2
       qemu-img check overlay.qcow2
       qemu-img commit overlay.qcow2
       qemu-io -f raw -r -c 'read -P 0x55 4M 1M' -c 'read -P 0x44 5M 11M' base.raw |
         tee out >&2
       if grep -q 'Pattern verification failed' out; then exit 1; fi`,
      [place.directory],
    );
  });

  const modes = [
    ['none', 'threads'],
    ['none', 'native'],
    ['none', 'io_uring'],
    ['writeback', 'threads'],
    ['writeback', 'io_uring'],
    ['writethrough', 'threads'],
    ['directsync', 'native'],
  ] as const;
  for (const [cache, aio] of modes) {
    it(`reads what it wrote with cache=${cache} and aio=${aio}`, async () => {
      const patterns = [1, 2, 3, 4, 5, 6, 7, 8].map((byte) => ({
        byte,
        offset: byte * 1_310_720 + 512 * byte,
        length: 65_536 * byte + 512,
      }));
      const commands = (verb: string) =>
        patterns.flatMap(({ byte, offset, length }) => [
          '-c',
          `${verb} -P ${byte} ${offset} ${length}`,
        ]);
      const image = `${place.directory}/io-${cache}-${aio}.raw`;
      const qemuIo = (...more: string[]) =>
        place.children.run('qemu-io', ['-f', 'raw', '-t', cache, '-i', aio, ...more, image]);
      await place.children.run('qemu-img', ['create', '-q', '-f', 'raw', image, '16M']);
      await qemuIo(...commands('write'), '-c', 'flush');
      const zeroed = ['-c', 'write -z 1M 256k', '-c', 'discard 14M 1M', '-c', 'flush'];
      const printed = [
        await qemuIo(...commands('read')),
        await qemuIo(...zeroed, '-c', 'read -P 0 1M 256k'),
        await qemuIo(
          '-c',
          'aio_write -P 9 2M 1M',
          '-c',
          'aio_write -P 8 12M 1M',
          '-c',
          'aio_flush',
        ),
        await qemuIo('-c', 'read -P 9 2M 1M', '-c', 'read -P 8 12M 1M', '-c', 'read -P 0 0 64k'),
      ].join('');
      assert.doesNotMatch(printed, /failed|error/i);
      assert.match(printed, /read 1048576\/1048576 bytes at offset 12582912/);
    });
  }

  it('takes many requests at once', async () => {
    const image = `${place.directory}/bench.raw`;
    const { children } = place;
    await children.run('qemu-img', ['create', '-q', '-f', 'raw', image, '32M']);
    for (const more of [['-w'], [], ['-w', '--flush-interval=64']]) {
      await children.run('qemu-img', [
        ...['bench', '-q', '-f', 'raw', '-t', 'none', '-n', '-c', '2000', '-d', '32', '-s', '4096'],
        ...more,
        image,
      ]);
    }
  });

  it('refuses a second writer of an image until the first has ended', async () => {
    const image = `${place.directory}/locked.qcow2`;
    const { children } = place;
    await children.run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
    const first = await children.start('stdbuf', [
      ...['-oL', 'qemu-io', '-f', 'qcow2', '-c', 'read 0 512', '-c', 'sleep 100000', image],
    ]);
    await first.says('read 512');
    const second = () => children.finish('qemu-io', ['-f', 'qcow2', '-c', 'read 0 512', image]);
    assert.match((await second()).stderr, /Failed to get "write" lock/);
    first.kill();
    await first.ended;
    const { code, stderr } = await second();
    assert.equal(code, 0, stderr);
  });

  it('refuses a second virtual machine on one disk', async () => {
    const image = `${place.directory}/machine.raw`;
    const { children } = place;
    await children.run('qemu-img', ['create', '-q', '-f', 'raw', image, '1M']);
    const machine = [
      ...['-S', '-accel', 'tcg', '-m', '32', '-nodefaults', '-display', 'none'],
      ...['-monitor', 'stdio', '-drive', `if=virtio,format=raw,cache=none,file=${image}`],
    ];
    const first = await children.start('qemu-system-x86_64', machine);
    await first.says('QEMU'); // the monitor greets when the devices are there
    const { code, stderr } = await children.finish('qemu-system-x86_64', machine);
    assert.equal(code, 1);
    assert.match(stderr, /Failed to get "write" lock/);
    first.kill();
    await first.ended;
  });
});
