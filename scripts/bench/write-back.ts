/**
 * `npm run bench:write-back`: what writes that the local disk acknowledges have to show, each figure
 * with its bar. The options are those of experiments-run.ts.
 */
import { runExperiments } from './experiments-run.ts';
import { draining, readingMeanwhile } from './write-back/drain.ts';
import { latency } from './write-back/latency.ts';
import { memoryImage } from './write-back/memory-image.ts';
import { randomWrites } from './write-back/random.ts';
import { sequentialWrites } from './write-back/sequential.ts';

await runExperiments('write-back', 'bench-write-back', [
  randomWrites,
  sequentialWrites,
  latency,
  draining,
  readingMeanwhile,
  memoryImage,
]);
