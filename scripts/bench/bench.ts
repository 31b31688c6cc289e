/**
 * `npm run bench`: the mount against the server's own directory, against peers and against the bare
 * link, all in one run, interleaved. Prints a table a link and writes the figures as JSON.
 *
 *   --links loopback,lan,wan   which links (default: all)
 *   --runs N                   how often each figure is taken; the median counts (default 5)
 *   --only TEXT                only cases whose name contains TEXT
 *   --without-second           leave the second transport out
 *
 * Ratios within one run can be believed; absolute figures belong to the machine that is named.
 * Exit status 1 when a bar was not reached, so that a release cannot miss it unseen.
 */
import { parseArgs } from 'node:util';
import { type CaseName, caseNames, type Effort, measure } from './cases.ts';
import { Figures, type Subject, subjects } from './figures.ts';
import { linkRate } from './link.ts';
import { machine } from './machine.ts';
import { print } from './report.ts';
import { type LinkShape, links, Site, type Transport } from './site.ts';
import { save } from './table.ts';
import { nfsCat, nfscRandom, nfscSequential } from './yardsticks.ts';

const { values: options } = parseArgs({
  options: {
    links: { type: 'string', default: links.map((link) => link.name).join() },
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    'without-second': { type: 'boolean', default: false },
  },
});
const runs = Number(options.runs);
const wanted = new Set(caseNames.filter((name) => name.includes(options.only)));
const measured = subjects.filter((name) => name !== 'fuse-native' || !options['without-second']);

console.log(`${machine()}; medians of ${runs}\n`);
const report: Record<string, unknown> = { machine: machine(), runs };
let missed = 0;
for (const link of links.filter(({ name }) => options.links.split(',').includes(name))) {
  const figures = await measureLink(link);
  report[link.name] = figures.all();
  missed += print(link, figures, wanted);
}
console.log(`written to ${save('bench', report)}`);
if (missed > 0) console.log(`${missed} bars not reached`);
process.exitCode = missed > 0 ? 1 : 0;

async function measureLink(link: LinkShape): Promise<Figures> {
  const figures = new Figures();
  const { effort, imageBytes } = work(link);
  if (link.mbit > 0 && [...wanted].some((name) => name.startsWith('sequential'))) {
    const rate = (await linkRate({ rttMs: link.rttMs, mbit: link.mbit })) / 1e6;
    for (const name of wanted) if (name.startsWith('sequential')) figures.add('link', name, rate);
  }
  const site = await Site.open(link, imageBytes);
  try {
    for (let run = 0; run < runs; run++) {
      process.stderr.write(`\r${link.name}: run ${run + 1} of ${runs} `);
      for (const subject of measured) await measureSubject(subject, site, effort, figures);
      await measureYardsticks(site, effort, figures);
    }
    process.stderr.write('\r\x1b[K');
  } finally {
    await site.close();
  }
  return figures;
}

function work(link: LinkShape): { effort: Effort; imageBytes: number } {
  switch (link.name) {
    case 'lan':
      return { imageBytes: 256 << 20, effort: { writeBytes: 128 << 20, seconds: 3, names: 200 } };
    case 'wan':
      return { imageBytes: 64 << 20, effort: { writeBytes: 32 << 20, seconds: 4, names: 30 } };
    default:
      return { imageBytes: 1 << 30, effort: { writeBytes: 512 << 20, seconds: 3, names: 1000 } };
  }
}

async function measureSubject(
  subject: Subject,
  site: Site,
  effort: Effort,
  figures: Figures,
): Promise<void> {
  if (subject === 'local') {
    if (site.link.mbit > 0) return; // the link does not change it: see the loopback table
    const directory = site.server.directory;
    const results = await measure({ directory, site, effort, fresh: false }, wanted);
    for (const [name, value] of results) figures.add(subject, name, value);
    return;
  }
  // The second transport has no bars, and crawls: its figures are worth one link only.
  if (subject === 'fuse-native' && site.link.mbit > 0) return;
  site.warmServer(); // measuring its own directory has dropped what it had in memory
  const mount = site.mount(subject satisfies Transport);
  try {
    figures.add(subject, 'mount', mount.mountMs);
    const target = { directory: mount.directory, site, effort, fresh: true };
    for (const [name, value] of await measure(target, wanted)) figures.add(subject, name, value);
    figures.add(subject, 'resident', mount.peakResidentBytes() / 1e6);
  } finally {
    mount.unmount();
  }
}

async function measureYardsticks(site: Site, effort: Effort, figures: Figures): Promise<void> {
  if (wanted.has('sequential read')) {
    figures.add('nfs-cat', 'sequential read', await nfsCat(site));
    figures.add('nfsc', 'sequential read', await nfscSequential(site));
  }
  for (const depth of [1, 16]) {
    const name = `random read, depth ${depth}` as CaseName;
    if (wanted.has(name)) figures.add('nfsc', name, await nfscRandom(site, depth, effort.seconds));
  }
}
