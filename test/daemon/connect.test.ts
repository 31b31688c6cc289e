import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { parseOptions } from '../../src/config/parse-options.ts';
import { connect } from '../../src/daemon/connect.ts';
import type { MountFailure } from '../../src/daemon/mount-failure.ts';
import type { MountPlan } from '../../src/daemon/mount-plan.ts';
import type { Log } from '../../src/observe/log.ts';

describe('a server that does not answer', () => {
  it('is tried again in the foreground with retry: the caller is not let go', async () => {
    const { failures, result } = await tried('retry=5');
    assert.deepEqual(failures, []);
    assert.deepEqual(result, { ok: false, error: { kind: 'interrupted' } });
  });

  it('is tried again in the background with bg: the caller is told, once', async () => {
    const { failures, result } = await tried('bg,retry=5');
    assert.deepEqual(
      failures.map(({ kind }) => kind),
      ['server'],
    );
    assert.deepEqual(result, { ok: false, error: { kind: 'interrupted' } });
  });
});

/** Asks a port where nobody listens, and gives up as soon as the log says that it is tried again. */
async function tried(options: string) {
  const failures: MountFailure[] = [];
  const enough = new AbortController();
  const port = await closedPort();
  const parsed = parseOptions([`port=${port},mountport=${port},noresvport,${options}`]);
  assert.ok(parsed.ok);
  const plan: MountPlan = {
    source: { server: '127.0.0.1', path: '/export' },
    mountpoint: '/nowhere',
    settings: parsed.value.settings,
    cacheDirectory: undefined,
    socket: '/nowhere/socket',
    notes: [],
    log: { file: undefined, required: false, level: 'info', format: 'json' },
  };
  const giveUp = () => void setTimeout(() => enough.abort(), 1);
  const log: Log = { error: giveUp, warn: giveUp, info: () => {}, debug: () => {} };
  const retrying = (failure: MountFailure) => void failures.push(failure);
  const result = await connect(plan, log, { retrying }, enough.signal);
  return { failures, result };
}

/** A port of the loopback that was free just now. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  await new Promise((done) => server.close(done));
  return address.port;
}
