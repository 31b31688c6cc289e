import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { editDistance, nearestName } from '../../src/config/nearest-name.ts';

describe('editDistance', () => {
  const distances: [from: string, to: string, edits: number][] = [
    ['', '', 0],
    ['', 'abc', 3],
    ['abc', 'abc', 0],
    ['abc', 'abd', 1],
    ['abc', 'acb', 1],
    ['kitten', 'sitting', 3],
  ];
  for (const [from, to, edits] of distances) {
    it(`from "${from}" to "${to}" is ${edits}`, () => {
      assert.equal(editDistance(from, to), edits);
      assert.equal(editDistance(to, from), edits);
    });
  }

  it('is 0 for equal words only, and never more than the longer one', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (from, to) => {
        const edits = editDistance(from, to);
        assert.equal(edits === 0, from === to);
        assert.ok(edits <= Math.max(from.length, to.length));
      }),
    );
  });
});

describe('nearestName', () => {
  it('finds what was meant, or nothing', () => {
    const names = ['rsize', 'wsize', 'hard', 'ro'];
    assert.equal(nearestName('rsze', names), 'rsize');
    assert.equal(nearestName('hrad', names), 'hard');
    assert.equal(nearestName('unlike', names), undefined);
    assert.equal(nearestName('xy', names), undefined);
    assert.equal(nearestName('rsize', []), undefined);
    assert.equal(nearestName('or', names), 'ro');
    for (const short of ['r', 'uid', 'har', 'rox'])
      assert.equal(nearestName(short, names), undefined);
  });
});
