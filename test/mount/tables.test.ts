import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { localDirectory } from './local-directory.ts';
import { withMount } from './mount-fixture.ts';
import { truthTable } from './posix-suite.ts';

/** A table of fewer lines was cut short, and proves nothing. */
const leastLines = { open: 1100, permissions: 1000 } as const;

describe('the mount answers as a local file system does', () => {
  for (const [table, least] of Object.entries(leastLines) as ['open' | 'permissions', number][]) {
    it(`to every call of the ${table} table`, async () => {
      const local = localDirectory();
      try {
        const truth = await truthTable(local.children, table, local.path);
        assert.ok(truth.length >= least, `only ${truth.length} lines`);
        await withMount({}, async ({ children, mountpoint }) => {
          const answers = await truthTable(children, table, mountpoint);
          assert.deepEqual(differences(truth, answers), []);
        });
      } finally {
        local.remove();
      }
    });
  }
});

/** The lines that differ, the first twenty of them. */
function differences(truth: readonly string[], answers: readonly string[]): string[] {
  return truth
    .map((line, index) => (line === answers[index] ? '' : `${line}\n  mount: ${answers[index]}`))
    .filter((line) => line !== '')
    .slice(0, 20);
}
