/** C5: what a server that restarts has lost is sent again. */
import { describe, it } from 'node:test';
import { serverLosses } from './server-losses.ts';

describe('a server that loses its power while it is written back to', () => {
  it('has all that was written when the write-back says so (write=deferred)', async () => {
    await serverLosses({ rounds: 2, write: 'deferred', seed: 23 });
  });
});
