import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type MountFailure, reasonOf } from '../../src/daemon/mount-failure.ts';

describe('the reason for the log that there is no mount', () => {
  const cache = { kind: 'cache', directory: '/mnt/c', message: '/mnt' } as const;
  const reasons: [MountFailure, string][] = [
    [{ ...cache, fault: 'inside' }, 'the cache /mnt/c lies beneath the mountpoint /mnt'],
    [{ ...cache, fault: 'unusable' }, 'the cache in /mnt/c cannot be used (/mnt)'],
    [{ ...cache, fault: 'nowhere' }, 'there is no home to keep the cache in'],
    [{ kind: 'mountpoint', fault: 'inUse', mountpoint: '/mnt' }, 'the mountpoint /mnt is in use'],
    [
      { kind: 'logInside', file: '/m/l', mountpoint: '/m' },
      'the log /m/l lies beneath the mountpoint',
    ],
    [{ kind: 'died', how: 'by SIGKILL' }, 'the daemon ended by SIGKILL'],
    [{ kind: 'root', source: 's:/e', message: 'EIO' }, 'the root of s:/e cannot be read (EIO)'],
    [{ kind: 'interrupted' }, 'interrupted'],
  ];
  for (const [failure, reason] of reasons) {
    it(`is "${reason}"`, () => assert.equal(reasonOf(failure), reason));
  }
});
