import assert from 'node:assert/strict';
import { it } from 'node:test';
import { onAMount } from '../mount/worlds.ts';

onAMount('fio', (place) => {
  for (const direct of [0, 1]) {
    it(`verifies 4 jobs of random I/O for a long time, direct=${direct}`, async () => {
      const printed = await place.children.run(
        'fio',
        [
          ...['--name=long', `--directory=${place.directory}`, '--size=256m', '--numjobs=4'],
          ...['--ioengine=io_uring', `--direct=${direct}`, '--rw=randrw', '--iodepth=32'],
          ...[
            '--bsrange=4k-256k',
            '--loops=2',
            '--verify=crc32c',
            '--verify_fatal=1',
            '--verify_state_save=0',
          ],
          ...['--do_verify=1', '--end_fsync=1', '--group_reporting', '--thread', '--unlink=1'],
        ],
        { timeoutMs: 1_200_000 },
      );
      assert.match(printed, /err= 0/);
    });
  }
});
