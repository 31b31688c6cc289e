/** Takes the figures of a list of experiments and prints them with their bars. */
import { parseArgs } from 'node:util';
import type { Experiment } from './cache/experiments.ts';
import { Ledger } from './cache/ledger.ts';
import { machine } from './machine.ts';
import { save } from './table.ts';

/**
 * Runs what the command line asks for, and leaves exit status 1 when a bar was not reached.
 *
 *   --runs N         how often each is taken; the median counts (default 5)
 *   --only TEXT      only experiments whose name contains TEXT
 *   --image-mib N    size of the image (default 2048)
 *
 * Ratios come from pairs taken one after the other in one run; absolute figures belong to the
 * machine that is named. The values are saved as `bench-results/NAME-TIME.json`.
 */
export async function runExperiments(
  title: string,
  name: string,
  experiments: readonly Experiment[],
): Promise<void> {
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
  for (const experiment of experiments.filter((each) => each.name.includes(options.only))) {
    const place = await experiment.open(imageBytes);
    try {
      for (let run = 0; run < runs; run++) {
        process.stderr.write(`\r${experiment.name}: run ${run + 1} of ${runs} `);
        await place.run(ledger);
      }
      process.stderr.write('\r\x1b[K');
    } finally {
      await place.close();
    }
  }
  const missed = ledger.print(title);
  const report = { machine: machine(), runs, imageBytes, values: ledger.all() };
  console.log(`written to ${save(name, report)}`);
  if (missed > 0) console.log(`${missed} bars not reached`);
  process.exitCode = missed > 0 ? 1 : 0;
}
