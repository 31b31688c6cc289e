/** The checker itself: what a broken file system would leave is found, what an honest one may is not. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { cellsOf, FileModel, type Operation, parseJournal, untouched } from './journal.ts';
import { WRITER } from './writers.ts';

const TAG = 0x6a5b_4c3d;
const SIZE = 1 << 20;

/** A local file after a writer of `operations`, and its journal's text. */
function written(operations: number, more: object = {}): { bytes: Buffer; journal: string } {
  const home = mkdtempSync(join(tmpdir(), 'gvfs-journal-'));
  try {
    const [file, journal] = [join(home, 'file'), join(home, 'journal')];
    writeFileSync(file, untouched(TAG, SIZE));
    const plan = { seed: 7, tag: TAG, firstSequence: 1, operations, from: 0, end: SIZE, ...more };
    execFileSync(PYTHON, [WRITER, file, journal, JSON.stringify(plan)]);
    return { bytes: readFileSync(file), journal: readFileSync(journal, 'utf8') };
  } finally {
    rmSync(home, { recursive: true });
  }
}

const model = () => new FileModel(TAG, untouched(TAG, SIZE));

/** The same journal, but that how the operations from `from` on ended is not known. */
function forgetEnds(journal: string, from: number): Operation[] {
  return parseJournal(
    journal
      .split('\n')
      .filter((line) => !/^[+-]/.test(line) || Number(line.split(' ')[1]) < from)
      .join('\n'),
  );
}

describe('the checker of journalled writes', () => {
  for (const [name, plan] of [
    ['buffered', {}],
    ['with truncations', { truncates: true }],
    ['O_DIRECT', { direct: true }],
    ['with a durable journal', { durable: true }],
    ['in a part of the file', { from: 12_345, end: 500_001 }],
  ] as const) {
    it(`finds nothing wrong with a local file (${name})`, () => {
      const { bytes, journal } = written(400, plan);
      assert.deepEqual(model().findings(bytes, [parseJournal(journal)], 'acknowledged'), []);
      assert.deepEqual(model().findings(bytes, [parseJournal(journal)], 'synced'), []);
    });
  }

  it('allows what is not known to have happened, and only that', () => {
    const { bytes, journal } = written(300);
    const earlier = written(290).bytes;
    assert.notDeepEqual(earlier, bytes);
    const open = forgetEnds(journal, 291);
    assert.deepEqual(model().findings(bytes, [open], 'acknowledged'), []);
    assert.deepEqual(model().findings(earlier, [open], 'acknowledged'), []);
    const all = parseJournal(journal);
    assert.notDeepEqual(model().findings(earlier, [all], 'acknowledged'), []);
  });

  it('finds a lost write, and whose bytes are there instead', () => {
    const last = parseJournal(written(300).journal).findLast(
      (one) => one.kind === 'write' && one.content === one.sequence,
    );
    assert.ok(last?.kind === 'write');
    const { bytes, journal } = written(300);
    cellsOf(TAG, 0, last.offset, last.length).copy(bytes, last.offset);
    const [finding = ''] = model().findings(bytes, [parseJournal(journal)], 'acknowledged');
    assert.match(finding, /not of write \d+, but of write 0/);
  });

  it('finds zeros, foreign bytes, other files and a wrong size', () => {
    const { bytes, journal } = written(100);
    const breakages: [RegExp, (copy: Buffer) => Buffer][] = [
      [/but zero/, (copy) => copy.fill(0, 65_536, 69_632)],
      [/foreign/, (copy) => copy.fill(0xee, 70_000, 70_001)],
      [/foreign/, (copy) => copy.fill(cellsOf(TAG + 1, 3, 81_920, 64), 81_920, 81_984)],
      [/foreign/, (copy) => copy.fill(copy.subarray(94_208, 98_304), 90_112, 94_208)],
      [/bytes long/, (copy) => copy.subarray(0, SIZE - 1)],
      [/bytes long/, (copy) => Buffer.concat([copy, Buffer.alloc(1)])],
    ];
    for (const [what, broken] of breakages) {
      const findings = model().findings(
        broken(Buffer.from(bytes)),
        [parseJournal(journal)],
        'acknowledged',
      );
      assert.match(findings.join('\n'), what);
    }
  });

  it('after a power loss wants what was synced, and no more', () => {
    const unwritten = untouched(TAG, SIZE);
    const { bytes, journal } = written(200, { syncs: 0, syncAtEnd: true });
    const synced = parseJournal(journal);
    assert.deepEqual(model().findings(bytes, [synced], 'synced'), []);
    assert.notDeepEqual(model().findings(unwritten, [synced], 'synced'), []);
    const unsynced = synced.filter(({ kind }) => kind !== 'sync');
    assert.deepEqual(model().findings(bytes, [unsynced], 'synced'), []);
    assert.deepEqual(model().findings(unwritten, [unsynced], 'synced'), []);
    assert.notDeepEqual(model().findings(unwritten, [unsynced], 'acknowledged'), []);
  });

  it('goes on from what it has seen', () => {
    const { bytes, journal } = written(200, { syncs: 0 });
    const one = model();
    assert.deepEqual(one.take(bytes, [parseJournal(journal)], 'synced'), []);
    assert.deepEqual(one.findings(bytes, [], 'synced'), []);
    assert.notDeepEqual(one.findings(untouched(TAG, SIZE), [], 'synced'), []);
  });
});
