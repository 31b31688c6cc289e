/**
 * `npm run bench:cache`: what the disk cache has to show, each figure with its bar.
 *
 *   --runs N         how often each is taken; the median counts (default 5)
 *   --only TEXT      only experiments whose name contains TEXT
 *   --image-mib N    size of the image (default 2048)
 *
 * Ratios come from pairs taken one after the other in one run; absolute figures belong to the
 * machine that is named. Exit status 1 when a bar was not reached.
 */
import { parseArgs } from 'node:util';
import { onLan, onLoopback, onWan } from './cache/absent.ts';
import { booting } from './cache/boot.ts';
import { passthrough, throughTheDaemon } from './cache/complete.ts';
import { crowd } from './cache/crowd.ts';
import type { Experiment } from './cache/experiments.ts';
import { Ledger } from './cache/ledger.ts';
import { underLoad } from './cache/load.ts';
import { remounts } from './cache/remount.ts';
import { machine } from './machine.ts';
import { save } from './table.ts';

const experiments: readonly Experiment[] = [
  passthrough,
  throughTheDaemon,
  underLoad,
  onLoopback,
  onLan,
  onWan,
  ...remounts,
  booting,
  crowd,
];

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    'image-mib': { type: 'string', default: '2048' },
  },
});
const runs = Number(options.runs);
const imageBytes = Number(options['image-mib']) * 2 ** 20;

console.log(`${machine()}; medians of ${runs}\n`);
const ledger = new Ledger();
for (const { name, open } of experiments.filter((each) => each.name.includes(options.only))) {
  const place = await open(imageBytes);
  try {
    for (let run = 0; run < runs; run++) {
      process.stderr.write(`\r${name}: run ${run + 1} of ${runs} `);
      await place.run(ledger);
    }
    process.stderr.write('\r\x1b[K');
  } finally {
    await place.close();
  }
}
const missed = ledger.print('disk cache');
const report = { machine: machine(), runs, imageBytes, values: ledger.all() };
console.log(`written to ${save('bench-cache', report)}`);
if (missed > 0) console.log(`${missed} bars not reached`);
process.exitCode = missed > 0 ? 1 : 0;
