import { it } from 'node:test';
import { runModel } from './image-model.ts';

it('an image answers what the file is or was during the read, whatever happens', async () => {
  await runModel(250, 80);
});
