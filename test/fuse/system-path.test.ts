/**
 * A process that spawns waits until the program was found. Were one looked for in /usr/local first,
 * a daemon whose mount lies there would wait for itself: for good, killed or not.
 */
import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { SYSTEM_PATH } from '../../src/fuse/attach.ts';

for (const program of ['umount', 'fusermount3']) {
  it(`${program} is found without a look into /usr/local`, () => {
    const found = SYSTEM_PATH.split(':').find((directory) => {
      try {
        accessSync(join(directory, program), constants.X_OK);
        return true;
      } catch {
        return directory.startsWith('/usr/local');
      }
    });
    assert.match(found ?? '', /^(\/usr)?\/s?bin$/);
  });
}
