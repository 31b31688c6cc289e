import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { spawnOwned } from '../../scripts/peers/owned-process.ts';

const MODULE = pathToFileURL('scripts/peers/owned-process.ts').href;

describe('an owned process', () => {
  it('is the program itself and ends with what it said', async () => {
    const owned = await spawnOwned('sh', ['-c', 'echo $$; exit 3'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { stdout } = owned.child;
    assert.ok(stdout);
    const [said] = (await once(stdout, 'data')) as [Buffer];
    assert.equal(Number(said), owned.pid);
    assert.deepEqual(await owned.ended, { code: 3, signal: null });
    assert.equal(owned.alive(), false);
  });

  it('is ended by end(), though it is stopped or ignores the signal', async () => {
    const stopped = await spawnOwned('sleep', ['60'], { stdio: 'ignore' });
    process.kill(stopped.pid, 'SIGSTOP');
    assert.deepEqual(await stopped.end(), { code: null, signal: 'SIGTERM' });

    const stubborn = await spawnOwned(
      'sh',
      ['-c', 'trap "" TERM; echo; while :; do sleep 1; done'],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    assert.ok(stubborn.child.stdout);
    await once(stubborn.child.stdout, 'data');
    assert.deepEqual(await stubborn.end('SIGTERM', 50), { code: null, signal: 'SIGKILL' });
    await stubborn.end(); // again, to no effect
  });

  it('does not outlive us, even when we are killed', async () => {
    const program = `
      const { spawnOwned } = await import('${MODULE}');
      console.log((await spawnOwned('sleep', ['60'], { stdio: 'ignore' })).pid);
    `;
    const parent = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', program],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const [said] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(said);
    assert.equal(state(pid), 'running');
    parent.kill('SIGKILL');
    while (state(pid) === 'running') await sleep(10);
  });
});

/** A process that nobody has waited for yet (Z) has ended. */
function state(pid: number): 'running' | 'ended' {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
      ? 'ended'
      : 'running';
  } catch {
    return 'ended';
  }
}
