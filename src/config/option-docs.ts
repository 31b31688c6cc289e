/**
 * The option table as people read it: the part of --help that lists the options, and
 * docs/OPTIONS.md. `node --import tsx src/config/option-docs.ts > docs/OPTIONS.md` writes it.
 */
import { fileURLToPath } from 'node:url';
import { unreachable } from '../base/assert.ts';
import {
  ignoredOptions,
  ignoredPrefixes,
  type OptionGroup,
  type OptionSpec,
  offSpellings,
  optionTable,
  refusedOptions,
  shorthands,
} from './options.ts';
import { type ValueKind, writeValue } from './value-kind.ts';

const groupTitles: Record<OptionGroup, string> = {
  server: 'The server and the way to it',
  cache: 'The cache on the local disk, and who else writes',
  attributes: 'What is believed, and for how long',
  mount: 'The mount on this host',
  log: 'The log',
};

/** The options, a line each in groups, `columns` wide at most. */
export function optionHelp(columns = 80): string {
  const rows = Object.keys(groupTitles).flatMap((group) => [
    '',
    `${groupTitles[group as OptionGroup]}:`,
    ...rowsOf(group as OptionGroup).flatMap((row) =>
      helpLines(row.option, `${row.doc} [${row.default}]`, columns),
    ),
  ]);
  return rows.slice(1).join('\n');
}

/** The text of docs/OPTIONS.md. */
export function optionsPage(): string {
  const tables = Object.entries(groupTitles).flatMap(([group, title]) => [
    `## ${title}`,
    '',
    '| option | values | default | meaning |',
    '|---|---|---|---|',
    ...rowsOf(group as OptionGroup).map(
      ({ spellings, values, default: initial, doc }) =>
        `| ${spellings.map(code).join(', ')} | ${cell(values)} | ${cell(initial)} | ${cell(doc)} |`,
    ),
    '',
  ]);
  return [
    '# Mount options',
    '',
    'Given to `gvfs-mount` with `-o`, separated by commas (`\\,` is a comma inside a value), or in',
    "the options column of fstab. Names, units and defaults are mount.nfs's where it has the",
    'option.',
    '',
    'An option that is given again counts as it was given last, by whatever name: `rw,ro` is `ro`.',
    'Different options that cannot both be meant are refused, with a sentence that names the two:',
    '`nocache` beside `cachedir`, `cachesize`, `cachefree` or `passthrough`; those and `cache` beside',
    '`transport=fuse-native`; `passthrough` without `ro` or `session=readonly`; `noac` beside a',
    '`session` other than `shared`; `write=back` and `write=deferred` beside `nocache`, `ro`,',
    '`session=readonly` or `transport=fuse-native`; `write=deferred` beside `session=shared`;',
    '`fsync=local` where writes do not wait on the local disk, or beside `session=shared`.',
    '`session=readonly` implies `ro`, whether `rw` is there or not: mount(8) adds an `rw` of its own',
    'to whatever fstab says. So in fstab:',
    '',
    '```',
    'server:/images  /srv/images  gvfs  session=readonly,cachedir=/var/cache/gvfs,_netdev,nofail  0 0',
    'server:/vm      /srv/vm      gvfs  session=exclusive,bg,_netdev,nofail                       0 0',
    '```',
    '',
    'This page is generated from `src/config/options.ts`: change it there, then run',
    '`node --import tsx src/config/option-docs.ts > docs/OPTIONS.md`.',
    '',
    ...tables,
    '## Accepted without effect',
    '',
    'So that an fstab line for NFS keeps working.',
    '',
    '| option | why nothing changes |',
    '|---|---|',
    ...byReason().map(([reason, names]) => `| ${names.map(code).join(', ')} | ${cell(reason)} |`),
    '',
    '## Refused',
    '',
    'Any other option is refused too, with the nearest known name.',
    '',
    '| option | what to do |',
    '|---|---|',
    ...Object.entries(refusedOptions).map(([name, instead]) => `| ${code(name)} | ${instead} |`),
    '',
  ].join('\n');
}

interface Row {
  /** As --help shows it: the first spelling with its value, and the other name of a switch. */
  readonly option: string;
  readonly spellings: readonly string[];
  readonly values: string;
  readonly default: string;
  readonly doc: string;
}

function rowsOf(group: OptionGroup): Row[] {
  const own = Object.entries<OptionSpec>(optionTable)
    .filter(([, spec]) => spec.group === group)
    .map(([name, spec]) => rowOf(name, spec));
  const short = Object.entries(shorthands)
    .filter(([, { sets }]) => optionTable[sets[0]].group === group)
    .map(([name, { value, doc }]) => ({
      option: `${name}=${placeholder(value)}`,
      spellings: [name],
      values: valuesOf(value),
      default: 'none',
      doc,
    }));
  return [...own, ...short];
}

function rowOf(name: string, spec: OptionSpec): Row {
  const { value, flag } = spec;
  const off = offSpellings(value);
  const initial = spec.defaultWords ?? defaultText(name, spec);
  return {
    option:
      value.kind === 'switch'
        ? [name, ...off.slice(0, 1)].join(', ')
        : `${name}=${placeholder(value)}`,
    spellings: [name, ...off, ...(spec.also ?? []), ...(flag === undefined ? [] : [flag])],
    values: valuesOf(value),
    default: initial,
    doc: spec.doc,
  };
}

function defaultText(name: string, spec: OptionSpec): string {
  const { value, default: initial } = spec;
  if (initial === undefined) return 'none';
  if (value.kind !== 'switch') return writeValue(value, initial as number | string);
  return initial === true ? name : (value.off ?? 'off');
}

function placeholder(kind: ValueKind): string {
  switch (kind.kind) {
    case 'integer':
    case 'size':
      return 'N';
    case 'amount':
      return 'N|N%';
    case 'choice':
      return kind.choices.join('|');
    case 'switch':
      return '';
    case 'path':
      return kind.of === undefined ? 'FILE' : 'DIR';
    default:
      return unreachable(kind);
  }
}

function valuesOf(kind: ValueKind): string {
  switch (kind.kind) {
    case 'integer':
      return `${kind.min} to ${kind.max}${kind.unit === undefined ? '' : `, ${kind.unit}`}`;
    case 'size':
      return `${writeValue(kind, kind.min)} to ${writeValue(kind, kind.max)}, bytes`;
    case 'amount':
      return `bytes from ${writeValue(kind, kind.minBytes)}, or ${kind.minPercent}% to 100%`;
    case 'choice':
      return kind.choices.map(code).join(', ');
    case 'switch':
      return 'none';
    case 'path':
      return kind.of === undefined ? 'a file' : 'a directory';
    default:
      return unreachable(kind);
  }
}

const HELP_INDENT = 26;

/** One option of --help: its text is folded into the right-hand column. */
function helpLines(option: string, text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = `  ${option}`.padEnd(HELP_INDENT);
  if (line.length > HELP_INDENT) {
    lines.push(line);
    line = ' '.repeat(HELP_INDENT);
  }
  for (const word of text.split(' ')) {
    const empty = line.trim() === '' || line.length === HELP_INDENT;
    if (!empty && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = ' '.repeat(HELP_INDENT) + word;
    } else {
      line += empty ? word : ` ${word}`;
    }
  }
  return [...lines, line];
}

/** Ignored options under their common reason. */
function byReason(): [string, string[]][] {
  const reasons = new Map<string, string[]>();
  for (const [name, reason] of Object.entries(ignoredOptions)) {
    reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
  }
  for (const prefix of ignoredPrefixes)
    reasons.get(ignoredOptions.defaults ?? '')?.push(`${prefix}*`);
  return [...reasons];
}

function code(text: string): string {
  return `\`${text}\``;
}

/** A table's cell cannot hold a bar. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(optionsPage());
