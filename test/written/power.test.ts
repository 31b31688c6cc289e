/** C3: a power loss loses no write that an fsync acknowledged. */
import { describe, it } from 'node:test';
import { powerCuts } from './power-cuts.ts';

describe('a power loss at any moment', () => {
  for (const [write, rounds] of [
    ['through', 1],
    ['back', 3],
  ] as const) {
    it(`loses no fsynced write, and shows no foreign byte (write=${write})`, async () => {
      await powerCuts({ rounds, write, seed: 17 });
    });
  }
});
