/** The losses of test/written, in the numbers that are worth a claim; each run has its own seed. */
import { randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import { handOvers } from '../written/hand-overs.ts';
import { killRounds } from '../written/kills.ts';
import { powerCuts } from '../written/power-cuts.ts';
import { serverLosses } from '../written/server-losses.ts';

const seed = randomInt(2 ** 30);

describe(`what is written is not lost (seed ${seed})`, () => {
  it('by 200 kills of the daemon', () => killRounds({ rounds: 200, write: 'back', seed }));
  it('by 50 kills, deferred', () => killRounds({ rounds: 50, write: 'deferred', seed }));
  it('by 100 power losses', () => powerCuts({ rounds: 100, write: 'back', seed }));
  it('by 50 losses of the server', () => serverLosses({ rounds: 50, write: 'deferred', seed }));
  it('by 2000 hand-overs between two hosts', () => handOvers(2000, seed, 'back'));
});
