import assert from 'node:assert/strict';
import { it } from 'node:test';
import { inBothWorlds } from '../mount/worlds.ts';

const WRITERS = 2;
const ROWS = 30;

inBothWorlds('SQLite', (place) => {
  // A write-ahead log needs a shared mapping and byte-range locks.
  for (const journal of ['delete', 'truncate', 'wal']) {
    it(`keeps every row of two processes, with journal_mode=${journal}`, async () => {
      const { children, directory } = place;
      const database = `${directory}/${journal}.db`;
      const sqlite = (sql: string, options = {}) =>
        children.run('sqlite3', ['-bail', '-batch', '-cmd', '.timeout 50000', database], {
          input: sql,
          ...options,
        });
      const mode = await sqlite(
        `PRAGMA journal_mode=${journal};
         CREATE TABLE item (writer INTEGER, number INTEGER, content BLOB);
         CREATE INDEX by_number ON item (number);`,
      );
      assert.equal(mode.trim(), journal);
      const writer = (id: number) =>
        Array.from(
          { length: ROWS },
          (_, row) => `INSERT INTO item VALUES (${id}, ${row}, randomblob(3000));`,
        ).join('\n');
      await Promise.all(Array.from({ length: WRITERS }, (_, id) => sqlite(writer(id))));
      await sqlite('DELETE FROM item WHERE number % 10 = 7; VACUUM;');
      const found = await sqlite(
        `PRAGMA integrity_check;
         SELECT writer, count(*), sum(length(content)) FROM item GROUP BY 1;`,
      );
      const kept = ROWS - ROWS / 10;
      assert.deepEqual(found.trim().split('\n'), [
        'ok',
        ...Array.from({ length: WRITERS }, (_, id) => `${id}|${kept}|${kept * 3000}`),
      ]);
    });
  }

  it('recovers from a writer that was killed in a transaction', async () => {
    const { children, directory } = place;
    const database = `${directory}/killed.db`;
    const sqlite = (sql: string) =>
      children.run('sqlite3', ['-bail', '-batch', database], { input: sql });
    await sqlite('CREATE TABLE t (a); INSERT INTO t VALUES (1);');
    const doomed = await children.start('bash', [
      '-c',
      `{ echo 'PRAGMA cache_size=5; BEGIN;'
         for i in $(seq 200); do echo "INSERT INTO t VALUES (randomblob(5000));"; done
         echo ".print waiting"; sleep 1000; } | exec sqlite3 -batch "$1"`,
      'bash',
      database,
    ]);
    await doomed.says('waiting');
    doomed.killGroup();
    await doomed.ended;
    const found = await sqlite('PRAGMA integrity_check; SELECT count(*) FROM t;');
    assert.deepEqual(found.trim().split('\n'), ['ok', '1']);
  });
});
