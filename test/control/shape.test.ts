import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  check,
  choice,
  flag,
  integer,
  list,
  nullable,
  optional,
  record,
  text,
} from '../../src/daemon/control/shape.ts';

const shape = record('', {
  name: text('', 8),
  size: integer('', { max: 100 }),
  kind: choice('', ['a', 'b']),
  more: optional(list('', record('', { on: flag('') }))),
  note: nullable(text('')),
});
const good = { name: 'x', size: 3, kind: 'a', note: null };

describe('a shape', () => {
  it('lets its values through, and nothing more of them', () => {
    const checked = check(shape, { ...good, more: [{ on: true, off: 1 }], other: 1 }, 'drop');
    assert.deepEqual(checked, { ok: true, value: { ...good, more: [{ on: true }] } });
  });

  const wrong: [value: unknown, error: string][] = [
    [null, 'an object is wanted'],
    [[], 'an object is wanted'],
    [{ ...good, name: 'too long for it' }, 'name: text is wanted'],
    [{ ...good, size: -1 }, 'size: a whole number from 0 to 100 is wanted'],
    [{ ...good, size: 1.5 }, 'size: a whole number from 0 to 100 is wanted'],
    [{ ...good, size: '1' }, 'size: a whole number from 0 to 100 is wanted'],
    [{ ...good, kind: 'c' }, 'kind: "a", "b" is wanted'],
    [{ ...good, kind: undefined }, 'kind: "a", "b" is wanted'],
    [{ ...good, more: [{ on: 1 }] }, 'more[0].on: true or false is wanted'],
    [{ ...good, more: null }, 'more: a list is wanted'],
    [{ ...good, more: [{ on: true, extra: 1 }] }, 'more[0].extra: there is no such field'],
    [JSON.parse('{"__proto__": {"name": "x"}}'), '__proto__: there is no such field'],
  ];
  for (const [value, error] of wrong) {
    it(`says what is wrong: ${error}`, () => {
      assert.deepEqual(check(shape, value, 'refuse'), { ok: false, error });
    });
  }

  it('decides about every value, and takes its own ones back', () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true }), (value) => {
        const checked = check(shape, value, 'drop');
        if (!checked.ok) return assert.match(checked.error, / is wanted$/);
        assert.deepEqual(check(shape, checked.value, 'refuse'), checked);
      }),
    );
  });
});
