/** The table of one link: the mount beside its limits, and which bars it reached. */
import { type Bar, bars, barText, reached, type Yardstick } from './bars.ts';
import { type CaseName, units } from './cases.ts';
import type { Figures } from './figures.ts';
import type { Summary } from './median.ts';
import type { LinkShape } from './site.ts';
import { render } from './table.ts';

/** Prints the table of a link and gives the number of bars that were missed. */
export function print(link: LinkShape, figures: Figures, wanted: ReadonlySet<CaseName>): number {
  let missed = 0;
  const rows = [...wanted].map((name) => {
    const mount = figures.of('native', name);
    const yardsticks = new Map<Yardstick, number>();
    for (const yardstick of ['link', 'nfs-cat', 'nfsc'] as const) {
      const value = figures.of(yardstick, name)?.median;
      if (value !== undefined) yardsticks.set(yardstick, value);
    }
    const verdicts = (bars[link.name]?.[name] ?? []).map((bar) => {
      const verdict = mount && reached(bar, mount.median, yardsticks);
      if (verdict === false) missed++;
      return `${barText(bar)} ${verdictText(verdict, bar, mount, yardsticks)}`;
    });
    const local = figures.of('local', name)?.median;
    return [
      name,
      units[name],
      mount?.median,
      mount && `${(mount.spread * 100).toFixed(0)} %`,
      local,
      mount && local && (mount.median / local).toFixed(2),
      figures.of('fuse-native', name)?.median,
      yardsticks.get('nfsc'),
      yardsticks.get('nfs-cat'),
      yardsticks.get('link'),
      verdicts.join('; '),
    ];
  });
  const shape = link.mbit > 0 ? ` (${link.rttMs} ms, ${link.mbit} Mbit/s)` : '';
  console.log(
    render({
      title: `${link.name}${shape}`,
      columns: [
        'work',
        'unit',
        'mount',
        'spread',
        'local',
        'mount/local',
        'fuse-native',
        'nfsc alone',
        'nfs-cat',
        'link',
        'bar',
      ],
      rows,
    }),
  );
  const mounting = figures.of('native', 'mount');
  const resident = figures.of('native', 'resident');
  if (mounting && resident) {
    const [ms, mb] = [mounting.median.toFixed(0), resident.highest.toFixed(0)];
    console.log(`mounted in ${ms} ms; largest resident set of the daemon ${mb} MB\n`);
  }
  return missed;
}

function verdictText(
  verdict: boolean | undefined,
  bar: Bar,
  mount: Summary | undefined,
  yardsticks: ReadonlyMap<Yardstick, number>,
): string {
  if (verdict === undefined) return '(not measured)';
  const whole = bar.kind === 'share' ? yardsticks.get(bar.of) : undefined;
  const got = whole && mount ? ` (${(mount.median / whole).toFixed(2)})` : '';
  return `${verdict ? 'reached' : 'MISSED'}${got}`;
}
