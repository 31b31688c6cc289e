import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  concernsBytesOnly,
  hasUnknownOutcome,
  isRefusal,
  pauseBeforeRetryMs,
  remedyOf,
} from '../../../src/cache/write-back/failures.ts';
import { type FsError, localError, nfsError } from '../../../src/errors/fs-error.ts';

const noAnswer: FsError = { errno: 'EIO', code: 'RPC_TIMEOUT', operation: 'WRITE', message: '' };
const ending: FsError = { ...noAnswer, code: 'CLOSED' };

describe('what a failure calls for', () => {
  it('a full or forbidding server is tried again later, ever more seldom', () => {
    for (const status of [
      'NFS3ERR_NOSPC',
      'NFS3ERR_DQUOT',
      'NFS3ERR_ROFS',
      'NFS3ERR_IO',
    ] as const) {
      const error = nfsError(status, 'WRITE');
      assert.equal(remedyOf(error), 'later');
      const pauses = [1, 2, 3, 50, 5_000].map((attempts) => pauseBeforeRetryMs(error, attempts));
      assert.deepEqual(pauses, [5_000, 10_000, 20_000, 300_000, 300_000]);
    }
  });

  it('a busy server and a silent one are tried again soon', () => {
    for (const error of [nfsError('NFS3ERR_JUKEBOX', 'WRITE'), noAnswer]) {
      assert.equal(remedyOf(error), 'again');
      assert.equal(pauseBeforeRetryMs(error, 1), 1_000);
    }
  });

  it('a file that is gone, and a session that ends, wait for a command', () => {
    for (const error of [
      nfsError('NFS3ERR_STALE', 'WRITE'),
      localError('EFBIG', 'WRITE'),
      ending,
    ]) {
      assert.equal(remedyOf(error), 'command');
      assert.equal(pauseBeforeRetryMs(error, 1), undefined);
    }
  });

  it('tells refusals, bytes that do not go, and calls whose end nobody knows', () => {
    assert.ok(isRefusal(nfsError('NFS3ERR_ACCES', 'WRITE')));
    assert.ok(isRefusal(nfsError('NFS3ERR_PERM', 'WRITE')));
    assert.ok(concernsBytesOnly(nfsError('NFS3ERR_NOSPC', 'WRITE')));
    assert.ok(!concernsBytesOnly(nfsError('NFS3ERR_ROFS', 'WRITE')));
    assert.ok(!concernsBytesOnly(noAnswer));
    assert.ok(hasUnknownOutcome(noAnswer) && !hasUnknownOutcome(nfsError('NFS3ERR_IO', 'WRITE')));
  });
});
