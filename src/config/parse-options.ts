/**
 * The text after -o to settings, by the option table, and back.
 *
 * A comma separates options, and a backslash takes the next character as it is. Empty places
 * between commas are skipped, and of contradicting options the last one counts, as with mount(8).
 */
import { err, ok, type Result } from '../base/result.ts';
import { nearestName } from './nearest-name.ts';
import {
  allSpellings,
  defaultSettings,
  forMount,
  ignoredOptions,
  ignoredPrefixes,
  type OptionName,
  type OptionSpec,
  optionTable,
  refusedOptions,
  type Settings,
  shorthands,
} from './options.ts';
import { describeKind, readValue, type Value, type ValueKind, writeValue } from './value-kind.ts';

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
  | { readonly kind: 'unwanted-value'; readonly option: string };

export interface ParsedOptions {
  readonly settings: Settings;
  /** The options that were given, whatever their value. */
  readonly given: ReadonlySet<OptionName>;
  /** What was given and changes nothing, with the reason: for the log. */
  readonly ignored: readonly { readonly option: string; readonly reason: string }[];
}

/** Reads each text after -o, in their order. `sloppy` (mount -s) skips what is not known. */
export function parseOptions(
  texts: readonly string[],
  { sloppy = false } = {},
): Result<ParsedOptions, OptionError> {
  const values = new Map<OptionName, Value>();
  const ignored: { option: string; reason: string }[] = [];
  for (const option of texts.flatMap(splitAtCommas)) {
    const read = readOption(option);
    if (!read.ok) {
      if (!sloppy || read.error.kind !== 'unknown-option') return read;
      ignored.push({ option, reason: 'it is not known' });
      continue;
    }
    for (const [name, value] of read.value.sets) values.set(name, value);
    if (read.value.ignored !== undefined) ignored.push({ option, reason: read.value.ignored });
  }
  const settings = { ...defaultSettings(), ...Object.fromEntries(values) } as Settings;
  return ok({ settings, given: new Set(values.keys()), ignored });
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
  readonly ignored?: string;
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
    const { value } = spec;
    const off = value.kind === 'switch' ? value.off : undefined;
    return [
      ...[name, ...(spec.also ?? [])].map((name): [string, Spelling] => [name, spelling]),
      ...(off === undefined
        ? []
        : [[off, { ...spelling, on: false }] satisfies [string, Spelling]]),
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
  if (spelling === undefined) return readOther(option);

  const kind = spelling.value;
  const setTo = (value: Value) => ok({ sets: spelling.sets.map((name) => [name, value] as const) });
  if (kind.kind === 'switch') {
    return value === undefined ? setTo(spelling.on) : err({ kind: 'unwanted-value', option });
  }
  if (value === undefined) {
    return err({ kind: 'missing-value', option, expected: describeKind(kind) });
  }
  const read = readValue(kind, value);
  if (read.ok) return setTo(read.value);
  return err({ kind: 'bad-value', option, value, expected: read.error });
}

const nothing: Effect = { sets: [] };

/** An option that is not in the table. */
function readOther(option: string): Result<Effect, OptionError> {
  if (Object.hasOwn(ignoredOptions, option)) {
    const reason = ignoredOptions[option];
    return ok(
      reason === undefined || reason === forMount ? nothing : { sets: [], ignored: reason },
    );
  }
  if (ignoredPrefixes.some((prefix) => option.startsWith(prefix))) return ok(nothing);
  if (Object.hasOwn(refusedOptions, option)) {
    return err({ kind: 'refused-option', option, instead: refusedOptions[option] ?? '' });
  }
  const nearest = nearestName(option, allSpellings());
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
