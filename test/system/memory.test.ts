import assert from 'node:assert/strict';
import { it } from 'node:test';
import { onAMount } from '../mount/worlds.ts';
import { copyInAndOut, residentPeakMiB } from './resident-memory.ts';

onAMount('memory', (place) => {
  it('the daemon stays below 200 MiB while 512 MiB are copied in and out', async () => {
    await copyInAndOut(place, 512);
    const { mount } = place;
    assert.ok(mount);
    const peak = residentPeakMiB(mount.daemonPid);
    assert.ok(peak < 200, `${peak} MiB at the peak`);
  });
});
