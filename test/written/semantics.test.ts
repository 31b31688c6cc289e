/** docs/SEMANTICS.md: every promise about writes names a test that there is. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';

const root = new URL('../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');

it('each promise about writes has a test, and each test named is there', () => {
  const [text = '', table = ''] = read('docs/SEMANTICS.md').split(/^## The tests of the promises/m);
  const promised = new Set([...text.matchAll(/\[(W\d+)\]/g)].map(([, number]) => number));
  const lines = [...table.matchAll(/^\| (W\d+) \| (.*) \|$/gm)];
  assert.deepEqual([...promised].sort(), lines.map(([, number]) => number).sort());
  for (const [, number, tests = ''] of lines) {
    const named = [...tests.matchAll(/`([^`]+\.test\.ts)`(?:: ([^;]+))?/g)];
    assert.ok(named.length > 0, `${number} names no test`);
    for (const [, path = '', name] of named) {
      const source = read(path);
      assert.ok(name === undefined || source.includes(name), `${number}: no "${name}" in ${path}`);
    }
  }
});
