import { it } from 'node:test';
import { runUnsentModel } from './unsent-model.ts';

it('unsent writes are read, survive, and arrive, whatever happens', async () => {
  await runUnsentModel(200, 60);
});
