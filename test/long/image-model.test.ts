import { it } from 'node:test';
import { runModel } from '../cache/image-model.ts';

it('an image answers what the file is or was during the read, for thousands of lives', async () => {
  await runModel(20_000, 200);
});
