import assert from 'node:assert/strict';
import { constants } from 'node:os';
import test from 'node:test';
import { Errno } from '../../src/errors/errno.ts';
import { errnoNumber, localError, nfsError } from '../../src/errors/fs-error.ts';
import { errnoOfNfsStatus, NfsStatus } from '../../src/errors/nfs-status.ts';

test('our errno numbers are the ones of the system', () => {
  const system = constants.errno as Record<string, number>;
  const known = Object.entries(Errno).filter(([name]) => name in system);
  assert.ok(known.length > 30, 'the system knows nearly all of them');
  for (const [name, number] of known) assert.equal(number, system[name], name);
});

test('every status but OK has an errno, and JUKEBOX is never told as EAGAIN', () => {
  const errors = Object.keys(NfsStatus).filter((name) => name !== 'NFS3_OK');
  assert.deepEqual(Object.keys(errnoOfNfsStatus).sort(), errors.sort());
  assert.equal(errnoOfNfsStatus.NFS3ERR_JUKEBOX, 'EIO');
});

test('statuses that share a number with an errno mean that errno', () => {
  for (const [name, status] of Object.entries(NfsStatus)) {
    if (name === 'NFS3_OK' || status > 34) continue; // from 63 on the RFC's numbers are its own
    const errno = errnoOfNfsStatus[name as keyof typeof errnoOfNfsStatus];
    assert.equal(Errno[errno], status, name);
  }
});

test('an error tells its operation and gives the kernel a positive number', () => {
  assert.equal(errnoNumber(nfsError('NFS3ERR_STALE', 'GETATTR')), 116);
  assert.equal(nfsError('NFS3ERR_STALE', 'GETATTR').message, 'GETATTR: NFS3ERR_STALE');
  assert.equal(errnoNumber(localError('EROFS', 'unlink')), 30);
});
