/**
 * `npm run bench:cache`: what the disk cache has to show, each figure with its bar. The options are
 * those of experiments-run.ts.
 */
import { onLan, onLoopback, onWan } from './cache/absent.ts';
import { booting } from './cache/boot.ts';
import { passthrough, throughTheDaemon } from './cache/complete.ts';
import { crowd } from './cache/crowd.ts';
import { underLoad } from './cache/load.ts';
import { remounts } from './cache/remount.ts';
import { runExperiments } from './experiments-run.ts';

await runExperiments('disk cache', 'bench-cache', [
  passthrough,
  throughTheDaemon,
  underLoad,
  onLoopback,
  onLan,
  onWan,
  ...remounts,
  booting,
  crowd,
]);
