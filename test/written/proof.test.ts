/** The tests of kills and power cuts fail where a daemon does not do what they are about. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { killRounds } from './kills.ts';
import { powerCuts } from './power-cuts.ts';

const LOSS = /byte \d+ \(page \d+\) is not/;

describe('a daemon that lies', () => {
  it('about fsync is found by a power cut', async () => {
    const program = lying('unsynced');
    await assert.rejects(powerCuts({ rounds: 6, write: 'back', seed: 3, program }), LOSS);
  });

  it('about the order of data, marks and acknowledgement is found by a kill', async () => {
    const program = lying('unmarked');
    await assert.rejects(killRounds({ rounds: 6, write: 'back', seed: 4, program }), LOSS);
  });
});

function lying(lie: string): readonly string[] {
  const daemon = fileURLToPath(new URL('lying-daemon.ts', import.meta.url));
  return ['--import', import.meta.resolve('tsx'), daemon, lie];
}
