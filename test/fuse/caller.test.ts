import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Callers, readProcStatus } from '../../src/fuse/caller.ts';

const status = 'Name:\tx\nGroups:\t4 24 1000 \nSigPnd:\t0000000000000000\n';

function clockAt(now: { ms: number }) {
  return { monotonicMs: () => now.ms, wallNs: () => 0n, after: () => ({ cancel: () => {} }) };
}

it('groups are read when they are asked for, once a second', () => {
  const now = { ms: 5000 };
  let reads = 0;
  const callers = new Callers(clockAt(now), () => {
    reads++;
    return status;
  });
  const caller = callers.caller(1000, 24, 7);
  assert.equal(reads, 0);
  assert.deepEqual(caller.credentials, { uid: 1000, gid: 24, groups: [4, 1000] });
  callers.caller(1000, 24, 7).credentials.groups.length;
  assert.equal(reads, 1);
  callers.caller(1000, 1000, 7).credentials.groups.length; // another gid: another answer
  assert.equal(reads, 2);
  now.ms += 1000;
  callers.caller(1000, 24, 7).credentials.groups.length;
  assert.equal(reads, 3);
});

it('a process that cannot be seen has no groups', () => {
  const callers = new Callers(clockAt({ ms: 0 }), () => undefined);
  assert.deepEqual(callers.caller(1, 2, 3).credentials, { uid: 1, gid: 2, groups: [] });
  const kernel = new Callers(clockAt({ ms: 0 }), () => status);
  assert.deepEqual(kernel.caller(1, 2, 0).credentials, { uid: 1, gid: 2, groups: [] });
});

it('reads this very process', () => {
  const callers = new Callers(clockAt({ ms: 0 }));
  const expected = (process.getgroups?.() ?? []).filter((group) => group !== process.getgid?.());
  const { groups } = callers.caller(0, process.getgid?.() ?? 0, process.pid).credentials;
  assert.deepEqual([...groups].sort(), expected.sort());
  assert.equal(callers.isDying(process.pid), false);
  assert.equal(readProcStatus(2 ** 30), undefined);
});

it('who has a fatal signal pending or no memory any more is dying', () => {
  const dying = (text: string) => new Callers(clockAt({ ms: 0 }), () => text).isDying(7);
  assert.equal(dying('VmSize:\t4 kB\nSigPnd:\t0000000000004000\n'), false);
  assert.equal(dying('VmSize:\t4 kB\nSigPnd:\t0000000000004100\n'), true);
  assert.equal(dying('State:\tD (disk sleep)\nSigPnd:\t0000000000000000\n'), true);
});
