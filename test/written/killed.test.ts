/** C3: kill -9 of the daemon loses no acknowledged write. */
import { describe, it } from 'node:test';
import { killRounds } from './kills.ts';

describe('kill -9 of the daemon at any moment', () => {
  for (const [write, rounds] of [
    ['through', 1],
    ['back', 5],
    ['deferred', 1],
  ] as const) {
    it(`loses no acknowledged write, and shows no foreign byte (write=${write})`, async () => {
      await killRounds({ rounds, write, seed: 41 });
    });
  }
});
