import assert from 'node:assert/strict';
import { it } from 'node:test';
import { errnoText } from '../../src/observe/errno-text.ts';

it('says what an error of the kernel means', () => {
  assert.equal(errnoText(28), 'ENOSPC, no space left on device');
  assert.equal(errnoText(30), 'EROFS, read-only file system');
  assert.equal(errnoText(4000), 'errno 4000');
});
