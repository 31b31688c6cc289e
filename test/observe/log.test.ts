import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type LogOptions, openLog } from '../../src/observe/log.ts';

describe('a log', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-log-'));
    file = join(directory, 'deep', 'down', 'gvfs.log');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const open = (options: Partial<LogOptions> = {}) =>
    openLog({ level: 'info', format: 'json', to: { file }, ...options });
  const lines = (path = file) => readFileSync(path, 'utf8').trimEnd().split('\n');

  it('writes JSON lines, makes its directory, and appends', async () => {
    const first = open({ common: { mount: '/mnt' } });
    first.info('mounted', { bytes: 1n, name: Buffer.from([0xff]), none: undefined, ok: true });
    await first.close();
    const second = open();
    second.warn('again');
    await second.close();
    const [mounted, again] = lines().map((line) => JSON.parse(line));
    assert.match(mounted.time, /^\d{4}-\d\d-\d\dT.*Z$/);
    delete mounted.time;
    const expected = { mount: '/mnt', bytes: '1', name: '%FF', ok: true };
    assert.deepEqual(mounted, { level: 'info', message: 'mounted', ...expected });
    assert.equal(again.level, 'warn');
  });

  it('writes text for people', async () => {
    const log = open({ format: 'text' });
    log.error('broken', { a: 1, b: 'two words', c: 'x="y"' });
    log.info('plain');
    await log.close();
    const [broken, plain] = lines();
    assert.match(broken ?? '', /Z error broken: a=1 b="two words" c="x=\\"y\\""$/);
    assert.match(plain ?? '', /Z info {2}plain$/);
  });

  it('leaves out what weighs less than its level', async () => {
    const log = open({ level: 'warn' });
    log.debug('no');
    log.info('no');
    log.warn('yes');
    log.error('yes');
    await log.close();
    assert.equal(lines().length, 2);
  });

  it('goes on in a new file after reopen, and loses nothing', async () => {
    const log = open();
    for (let line = 0; line < 100; line++) {
      if (line === 50) {
        renameSync(file, `${file}.1`);
        log.reopen();
      }
      log.info('line', { line });
    }
    await log.close();
    const all = [...lines(`${file}.1`), ...lines()].map((line) => JSON.parse(line).line);
    assert.deepEqual(
      all,
      Array.from({ length: 100 }, (_, line) => line),
    );
    assert.ok(lines().length > 0);
  });

  it('says why it cannot be reopened, and goes on', async () => {
    const log = open();
    log.info('before');
    rmSync(join(directory, 'deep'), { recursive: true });
    const blocked = openLog({
      level: 'info',
      format: 'json',
      to: { file: join(directory, 'deep') },
    });
    log.reopen(); // its directory is a file now
    await log.close();
    await blocked.close();
    assert.throws(() => open(), { code: 'ENOTDIR' });
  });

  it('drops lines that a stuck writer does not take, and says how many', async () => {
    let text = '';
    let release: (() => void) | undefined;
    const stuck = new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        if (release === undefined) release = done;
        else done();
      },
    });
    const log = open({ to: stuck });
    const long = 'x'.repeat(100_000);
    for (let line = 0; line < 30; line++) log.info('line', { long });
    release?.();
    await log.close();
    log.info('after');
    await log.close();
    const messages = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const dropped = messages.find(({ message }) => message === 'log lines were dropped');
    const kept = messages.filter(({ message }) => message === 'line').length;
    assert.equal(dropped.lines + kept, 30);
    assert.ok(kept < 15);
    assert.equal(messages.at(-1).message, 'after');
  });

  it('throws when it cannot be opened', () => {
    assert.throws(() => open({ to: { file: '/proc/none/gvfs.log' } }), { code: 'ENOENT' });
  });
});
