/**
 * The text after -o to settings, by the option table, and back.
 *
 * A comma separates options, and a backslash takes the next character as it is. Empty places
 * between commas are skipped. An option that is given again counts as it was given last, by whatever
 * name (ro,rw), as with mount(8); what different options mean together is combinations.ts's.
 */
import { err, ok, type Result } from '../base/result.ts';
import { agree, type Contradiction } from './combinations.ts';
import { nearestName } from './nearest-name.ts';
import {
  allSpellings,
  defaultSettings,
  forMount,
  ignoredOptions,
  ignoredPrefixes,
  knownElsewhere,
  type OptionName,
  type OptionSpec,
  offSpellings,
  optionTable,
  refusedOptions,
  type Settings,
  shorthands,
} from './options.ts';
import {
  describeKind,
  isAdjusted,
  readValue,
  type Value,
  type ValueKind,
  writeValue,
} from './value-kind.ts';

export type OptionError =
  | { readonly kind: 'unknown-option'; readonly option: string; readonly nearest?: string }
  | { readonly kind: 'refused-option'; readonly option: string; readonly instead: string }
  /** `expected` goes on after "use". */
  | {
      readonly kind: 'bad-value';
      readonly option: string;
      readonly value: string;
      readonly expected: string;
    }
  | { readonly kind: 'missing-value'; readonly option: string; readonly expected: string }
  | { readonly kind: 'unwanted-value'; readonly option: string }
  | Contradiction;

export interface ParsedOptions {
  readonly settings: Settings;
  /** The options that were given, whatever their value. */
  readonly given: ReadonlySet<OptionName>;
  /** For the log. */
  readonly notes: readonly OptionNote[];
}

/** An option that does not do what it says: it changes nothing, or was taken as another value. */
export interface OptionNote {
  readonly message: 'option without effect' | 'option taken as the nearest possible';
  readonly option: string;
  readonly reason?: string;
  readonly taken?: string;
}

/** Reads each text after -o, in their order. `sloppy` (mount -s) skips what is not known. */
export function parseOptions(
  texts: readonly string[],
  { sloppy = false } = {},
): Result<ParsedOptions, OptionError> {
  const values = new Map<OptionName, Value>();
  const notes: OptionNote[] = [];
  for (const option of texts.flatMap(splitAtCommas)) {
    const read = readOption(option);
    if (!read.ok) {
      if (!sloppy || read.error.kind !== 'unknown-option') return read;
      notes.push(withoutEffect(option, 'it is not known'));
      continue;
    }
    for (const [name, value] of read.value.sets) values.set(name, value);
    if (read.value.note !== undefined) notes.push(read.value.note);
  }
  const settings = { ...defaultSettings(), ...Object.fromEntries(values) } as Settings;
  const given = new Set(values.keys());
  const agreed = agree(settings, given);
  if (!agreed.ok) return agreed;
  notes.push(...agreed.value.idle.map(({ option, reason }) => withoutEffect(option, reason)));
  return ok({ settings: agreed.value.settings, given, notes });
}

/** What these settings ask for in vain where another user than root mounts. */
export function rootOnlyNotes(settings: Settings): OptionNote[] {
  return Object.entries<OptionSpec>(optionTable)
    .filter(([name, spec]) => spec.rootOnly && settings[name as OptionName] !== spec.default)
    .map(([name]) => withoutEffect(name, 'only root may have it'));
}

/** The text after -o that gives these settings; what equals its default is left out. */
export function formatOptions(settings: Settings): string {
  const options: string[] = [];
  for (const [name, spec] of Object.entries<OptionSpec>(optionTable)) {
    const value: Value | undefined = settings[name as OptionName];
    if (value === undefined || value === spec.default) continue;
    const text = formatOption(name, spec.value, value);
    if (text !== undefined) options.push(text.replace(/[\\,]/g, '\\$&'));
  }
  return options.join(',');
}

/** What one option does. */
interface Effect {
  readonly sets: readonly (readonly [OptionName, Value])[];
  readonly note?: OptionNote;
}

interface Spelling {
  readonly sets: readonly OptionName[];
  readonly value: ValueKind;
  /** For a switch: what this spelling sets it to. */
  readonly on: boolean;
}

const spellings: ReadonlyMap<string, Spelling> = new Map([
  ...Object.entries<OptionSpec>(optionTable).flatMap(([name, spec]) => {
    const spelling = { sets: [name as OptionName], value: spec.value, on: true };
    const off = { ...spelling, on: false };
    return [
      ...[name, ...(spec.also ?? [])].map((name): [string, Spelling] => [name, spelling]),
      ...offSpellings(spec.value).map((name): [string, Spelling] => [name, off]),
    ];
  }),
  ...Object.entries(shorthands).map(([name, { sets, value }]): [string, Spelling] => [
    name,
    { sets, value, on: true },
  ]),
]);

function readOption(text: string): Result<Effect, OptionError> {
  const equals = text.indexOf('=');
  const option = equals < 0 ? text : text.slice(0, equals);
  const value = equals < 0 ? undefined : text.slice(equals + 1);
  const spelling = spellings.get(option);
  if (spelling === undefined) return readOther(option, text);

  const kind = spelling.value;
  const setTo = (value: Value, note?: OptionNote) =>
    ok({
      sets: spelling.sets.map((name) => [name, value] as const),
      ...(note === undefined ? {} : { note }),
    });
  if (kind.kind === 'switch') {
    return value === undefined ? setTo(spelling.on) : err({ kind: 'unwanted-value', option });
  }
  if (value === undefined) {
    return err({ kind: 'missing-value', option, expected: describeKind(kind) });
  }
  const read = readValue(kind, value);
  if (read.ok) return setTo(read.value, noteOn(text, spelling, value, read.value));
  return err({ kind: 'bad-value', option, value, expected: read.error });
}

/** That a value, which was written as `written`, does not do what it says. */
function noteOn(
  option: string,
  { sets: [name], value: kind }: Spelling,
  written: string,
  value: number | string,
): OptionNote | undefined {
  if (kind.kind !== 'switch' && isAdjusted(kind, written, value)) {
    const taken = writeValue(kind, value);
    return { message: 'option taken as the nearest possible', option, taken };
  }
  const spec: OptionSpec | undefined = name === undefined ? undefined : optionTable[name];
  const reason = spec?.withoutEffect?.[written];
  return reason === undefined ? undefined : withoutEffect(option, reason);
}

function withoutEffect(option: string, reason: string): OptionNote {
  return { message: 'option without effect', option, reason };
}

const nothing: Effect = { sets: [] };

/** An option that is not in the table. */
function readOther(option: string, text: string): Result<Effect, OptionError> {
  if (Object.hasOwn(ignoredOptions, option)) {
    const reason = ignoredOptions[option];
    const silent = reason === undefined || reason === forMount;
    return ok(silent ? nothing : { sets: [], note: withoutEffect(text, reason) });
  }
  if (ignoredPrefixes.some((prefix) => option.startsWith(prefix))) return ok(nothing);
  if (Object.hasOwn(refusedOptions, option)) {
    return err({ kind: 'refused-option', option, instead: refusedOptions[option] ?? '' });
  }
  const nearest = Object.hasOwn(knownElsewhere, option)
    ? knownElsewhere[option]
    : nearestName(option, allSpellings());
  return err({ kind: 'unknown-option', option, ...(nearest === undefined ? {} : { nearest }) });
}

function splitAtCommas(text: string): string[] {
  const options: string[] = [];
  let option = '';
  for (let index = 0; index < text.length; index++) {
    const character = text[index] ?? '';
    if (character === ',') {
      options.push(option);
      option = '';
    } else if (character === '\\' && index + 1 < text.length) {
      option += text[++index] ?? '';
    } else {
      option += character;
    }
  }
  options.push(option);
  return options.filter((option) => option !== '');
}

function formatOption(name: string, kind: ValueKind, value: Value): string | undefined {
  if (kind.kind === 'switch') return value === true ? name : kind.off;
  return `${name}=${typeof value === 'boolean' ? value : writeValue(kind, value)}`;
}
