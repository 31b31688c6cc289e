/**
 * A mount that is interrupted before it answers, whatever its process is at just then.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseOptions } from '../../src/config/parse-options.ts';
import { mountInBackground } from '../../src/daemon/background.ts';
import type { MountPlan } from '../../src/daemon/mount-plan.ts';

describe('mountInBackground, interrupted', () => {
  const silent = createServer(); // accepts, and never says a word
  let directory: string;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-background-'));
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  });
  after(() => {
    silent.close();
    rmSync(directory, { recursive: true });
  });

  function plan(): MountPlan {
    const address = silent.address();
    assert.ok(address !== null && typeof address === 'object');
    const { port } = address;
    const parsed = parseOptions([`port=${port},mountport=${port},noresvport`]);
    assert.ok(parsed.ok);
    const { settings, notes } = parsed.value;
    const file = join(directory, 'log');
    return {
      source: { server: '127.0.0.1', path: '/export' },
      mountpoint: join(directory, 'mnt'),
      settings,
      cacheDirectory: undefined,
      socket: join(directory, 'socket'),
      notes,
      log: { file, required: true, level: 'info', format: 'json' },
    };
  }

  it('says so when its process had not begun', async () => {
    const interrupt = new AbortController();
    const mounting = mountInBackground(plan(), interrupt.signal);
    interrupt.abort();
    assert.deepEqual(await mounting, { ok: false, error: { kind: 'interrupted' } });
  });

  it('says so when it waits for the server', async () => {
    const interrupt = new AbortController();
    const connected = new Promise((done) => silent.once('connection', done));
    const mounting = mountInBackground(plan(), interrupt.signal);
    await Promise.race([connected, sleep(10_000, undefined, { ref: false })]);
    interrupt.abort();
    assert.deepEqual(await mounting, { ok: false, error: { kind: 'interrupted' } });
  });
});
