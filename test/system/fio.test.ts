import assert from 'node:assert/strict';
import { it } from 'node:test';
import { inBothWorlds } from '../mount/worlds.ts';

/** fio writes, reads back and compares checksums of every block. */
const runs = [
  { ioengine: 'psync', direct: 0, rw: 'randrw', bs: '4k', iodepth: 1 },
  { ioengine: 'psync', direct: 1, rw: 'randwrite', bs: '4k-64k', iodepth: 1 },
  { ioengine: 'libaio', direct: 1, rw: 'randrw', bs: '4k', iodepth: 16 },
  { ioengine: 'io_uring', direct: 1, rw: 'randwrite', bs: '512-128k', iodepth: 16 },
  { ioengine: 'io_uring', direct: 0, rw: 'randrw', bs: '4k', iodepth: 16 },
  { ioengine: 'mmap', direct: 0, rw: 'randwrite', bs: '4k', iodepth: 1 },
  { ioengine: 'psync', direct: 0, rw: 'write', bs: '1m', iodepth: 1 },
] as const;

inBothWorlds('fio', (place) => {
  for (const { ioengine, direct, rw, bs, iodepth } of runs) {
    const name = `${ioengine}-${direct === 1 ? 'direct' : 'buffered'}-${rw}-${bs}`;
    it(`verifies ${name}, depth ${iodepth}`, async () => {
      const printed = await place.children.run('fio', [
        ...[`--name=${name}`, `--directory=${place.directory}`, '--size=4m', '--numjobs=2'],
        ...[`--ioengine=${ioengine}`, `--direct=${direct}`, `--rw=${rw}`, `--iodepth=${iodepth}`],
        ...[bs.includes('-') ? `--bsrange=${bs}` : `--bs=${bs}`],
        ...[
          '--verify=crc32c',
          '--verify_fatal=1',
          '--verify_state_save=0',
          '--do_verify=1',
          '--end_fsync=1',
        ],
        ...['--group_reporting', '--thread', '--output-format=normal', '--unlink=1'],
      ]);
      assert.match(printed, /err= 0/);
      assert.match(printed, /read: IOPS/); // it did read back
    });
  }
});
