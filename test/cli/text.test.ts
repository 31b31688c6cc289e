/**
 * How the commands write amounts, tables, ranges, progress and pictures.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import { parseByteRange } from '../../src/cli/byte-range.ts';
import { mapPicture, partsWanted } from '../../src/cli/map-picture.ts';
import { ProgressLine } from '../../src/cli/progress-line.ts';
import {
  bytesText,
  durationText,
  percentText,
  percentTexts,
  shareText,
} from '../../src/cli/quantities.ts';
import { tableLines } from '../../src/cli/table.ts';

describe('amounts', () => {
  const bytes: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [102_348, '99.9 KiB'],
    [102_400, '100 KiB'],
    [1_048_575, '1.0 MiB'],
    [1 << 30, '1.0 GiB'],
    [2 ** 52, '4.0 PiB'],
    [Number.MAX_SAFE_INTEGER, '8.0 PiB'],
  ];
  for (const [value, text] of bytes) it(text, () => assert.equal(bytesText(value), text));

  const durations: [number, string][] = [
    [0, '0.00 ms'],
    [0.04, '0.04 ms'],
    [0.999, '1.0 ms'],
    [35.12, '35.1 ms'],
    [999.4, '999 ms'],
    [999.9, '1.0 s'],
    [3210, '3.2 s'],
    [119_400, '119 s'],
    [119_600, '2 min'],
    [7_200_000, '2 h'],
    [86_400_000 * 3, '3 d'],
  ];
  for (const [value, text] of durations) it(text, () => assert.equal(durationText(value), text));

  it('are short, whatever they are', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        assert.match(bytesText(value), /^(\d{1,4}|\d{1,2}\.\d) ([KMGTP]i)?B$/);
        assert.match(durationText(value / 1000), /^(\d+|\d{1,2}\.\d\d?) (ms|s|min|h|d)$/);
      }),
    );
  });

  it('are 0 % and 100 % only when they are', () => {
    assert.equal(percentText(0, 0), '-');
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (one, other) => {
        const [part, whole] = [Math.min(one, other), Math.max(one, other)];
        fc.pre(whole > 0);
        assert.equal(percentText(part, whole) === '0 %', part === 0);
        assert.equal(percentText(part, whole) === '100 %', part === whole);
      }),
    );
  });
});

describe('shares', () => {
  it('are in bytes where both would read alike', () => {
    assert.equal(shareText(4096, 32_768), '4.0 KiB of 32.0 KiB');
    assert.equal(shareText(32_768, 32_768), '32.0 KiB of 32.0 KiB');
    assert.equal(shareText(2 ** 30 - 4096, 2 ** 30), '1073737728 of 1073741824 B');
  });

  it('of more than the whole are the whole', () => assert.equal(percentText(4096, 6), '100 %'));

  it('are 100 % together, at most', () => {
    assert.deepEqual(percentTexts([2, 1, 0, 5]), ['25 %', '13 %', '0 %', '62 %']);
    assert.deepEqual(percentTexts([0, 0]), ['-', '-']);
    assert.deepEqual(percentTexts([1, 99_999]), ['<1 %', '99 %']);
    fc.assert(
      fc.property(fc.array(fc.nat(1 << 20), { minLength: 1, maxLength: 5 }), (parts) => {
        fc.pre(parts.some((part) => part > 0));
        const texts = percentTexts(parts);
        const sum = texts.reduce((total, text) => total + (Number.parseInt(text, 10) || 0), 0);
        assert.ok(sum <= 100, texts.join());
        for (const [at, text] of texts.entries()) assert.equal(text === '0 %', parts[at] === 0);
      }),
    );
  });
});

describe('a table', () => {
  it('lines up', () => {
    const lines = tableLines(
      [
        { title: 'n', align: 'right' },
        { title: 'name', align: 'left' },
        { title: 'x', align: 'right' },
      ],
      [
        ['1', 'ä', '1'],
        ['100', 'longer', '22'],
      ],
      ' ',
    );
    assert.deepEqual(lines, ['   n  name     x', '   1  ä        1', ' 100  longer  22']);
    assert.deepEqual(tableLines([{ title: 'n', align: 'left' }], []), []);
  });
});

describe('a range of bytes', () => {
  const good: [string, object][] = [
    ['0-64M', { start: 0, end: 64 << 20 }],
    ['1g-', { start: 2 ** 30 }],
    ['-4096', { end: 4096 }],
    ['1K-2T', { start: 1024, end: 2 ** 41 }],
  ];
  for (const [text, value] of good) {
    it(text, () => assert.deepEqual(parseByteRange(text), { ok: true, value }));
  }
  const bad = ['', '-', '1', '2-1', '1-1', '-0', '1-2-3', 'a-b', '1 -2', '0x1-2', '1-9e9', '-1P'];
  for (const text of bad) it(`not "${text}"`, () => assert.ok(!parseByteRange(text).ok));

  it('is decided about any text', () => {
    fc.assert(fc.property(fc.string(), (text) => typeof parseByteRange(text).ok === 'boolean'));
    assert.ok(!parseByteRange('0-999999999999999T').ok);
  });
});

describe('the progress line', () => {
  it('tells the rate and what is left, from where this call began', () => {
    const printed = progress({ isTerminal: true, columns: 100 }, [
      [0, 60 << 20, 100 << 20],
      [2000, 80 << 20, 100 << 20],
    ]);
    assert.match(
      printed,
      /\r\/mnt\/a \[=+ +\] {2}80 %, 80.0 MiB of 100 MiB, 10.0 MiB\/s, 2.0 s left/,
    );
  });

  it('is drawn at most ten times a second, and always at the end', () => {
    const steps = Array.from({ length: 1001 }, (_, ms): Step => [ms, ms, 1000]);
    const draws = progress({ isTerminal: true, columns: 80 }, steps).split('\r').length - 2;
    assert.equal(draws, 11);
  });

  it('fits into the terminal, however narrow', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.nat(), fc.nat(), (columns, one, other) => {
        const [done, total] = [Math.min(one, other), Math.max(one, other)];
        const printed = progress({ isTerminal: true, columns }, [[5000, done, total]]);
        for (const line of printed.split('\r')) {
          assert.ok(line.replaceAll('\u001b[K', '').length < Math.max(columns, 1), line);
        }
      }),
    );
  });

  it('is not there without a terminal', () => {
    const steps = Array.from({ length: 1001 }, (_, ms): Step => [ms, ms, 1000]);
    assert.equal(progress({ isTerminal: false, columns: 80 }, steps), '');
  });
});

describe('a picture of pages', () => {
  const part = fc
    .tuple(fc.nat(3), fc.nat(3), fc.nat(3), fc.nat(3))
    .filter((counts) => counts.some((count) => count > 0))
    .map(([absent, present, zero, dirty]) => ({ absent, present, zero, dirty }));

  it('has a cell for each part, and says the same with colours', () => {
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 200 }),
        fc.integer({ min: 1, max: 64 }),
        (parts, width) => {
          const pages = parts.reduce(
            (sum, { absent, present, zero, dirty }) => sum + absent + present + zero + dirty,
            0,
          );
          const map = { path: 'a', sizeBytes: pages * 4096, pageBytes: 4096, pages, parts };
          const plain = mapPicture(map, { width, unicode: false, colours: false });
          const cells = [...plain.matchAll(/^ *[\d.]+ \S+ \|(.*)\|$/gm)].map(
            ([, row]) => row ?? '',
          );
          assert.equal(cells.join('').length, parts.length);
          for (const row of cells) assert.ok(row.length <= width);
          const kinds = parts.map(({ absent, present, zero, dirty }) => {
            if (dirty > 0) return '*';
            if (absent > 0) return present + zero > 0 ? '+' : '.';
            return present > 0 ? '#' : '0';
          });
          assert.equal(cells.join(''), kinds.join(''));
          const coloured = mapPicture(map, { width, unicode: false, colours: true });
          assert.equal(stripVTControlCharacters(coloured), plain);
        },
      ),
    );
  });

  it('of an empty file has none', () => {
    const map = { path: 'a', sizeBytes: 0, pageBytes: 4096, pages: 0, parts: [] };
    const drawn = mapPicture(map, { width: 8, unicode: false, colours: true });
    assert.match(drawn, /^a: 0 B, 0 pages of 4.0 KiB\n- present/);
  });

  it('asks for no more parts than a daemon gives', () => {
    assert.equal(partsWanted(512), 512 * 16);
    assert.ok(partsWanted(10_000) <= 65_536);
  });
});

type Step = [atMs: number, doneBytes: number, totalBytes: number];

/** What is printed for calls at these times. */
function progress(
  { isTerminal, columns }: { isTerminal: boolean; columns: number },
  steps: Step[],
): string {
  let nowMs = 0;
  let printed = '';
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
  const write = (text: string) => {
    printed += text;
  };
  const line = new ProgressLine('/mnt/a', { isTerminal, columns, write }, clock);
  for (const [atMs, doneBytes, totalBytes] of steps) {
    nowMs = atMs;
    line.update(doneBytes, totalBytes);
  }
  line.end();
  return printed;
}
