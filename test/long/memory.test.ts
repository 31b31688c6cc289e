import assert from 'node:assert/strict';
import { it } from 'node:test';
import { onAMount } from '../mount/worlds.ts';
import { copyInAndOut, residentPeakMiB } from '../system/resident-memory.ts';

onAMount('memory', (place) => {
  it('the daemon stays below 200 MiB while 4 GiB are copied in and out', async (test) => {
    await copyInAndOut(place, 4096);
    const { mount } = place;
    assert.ok(mount);
    const peak = residentPeakMiB(mount.daemonPid);
    test.diagnostic(`${peak} MiB at the peak`);
    assert.ok(peak < 200, `${peak} MiB at the peak`);
  });
});
