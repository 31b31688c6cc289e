/**
 * What the value of an option may be: its kind says how it is read, written and described. Nothing
 * here knows a particular option.
 *
 * Reading and writing are inverse: readValue(kind, writeValue(kind, v)) is v, for every v in range.
 */
import { unreachable } from '../base/assert.ts';
import { err, ok, type Result } from '../base/result.ts';

/** A whole number; `unit` is for the reader of the documentation. */
export interface IntegerKind {
  readonly kind: 'integer';
  readonly min: number;
  readonly max: number;
  readonly unit?: string;
}

/**
 * Bytes, with K, M, G or T for powers of 1024. As mount.nfs does, what is out of range is taken as
 * the nearest end of it, and rounded down to a multiple of `multiple`.
 */
export interface SizeKind {
  readonly kind: 'size';
  readonly min: number;
  readonly max: number;
  readonly multiple: number;
}

/** Part of a disk: bytes, with K, M, G or T for powers of 1024, or a percentage of the whole. */
export interface AmountKind {
  readonly kind: 'amount';
  readonly minPercent: number;
  /** The least bytes: what is below was meant otherwise. */
  readonly minBytes: number;
}

export type Percent = `${number}%`;

/** One of a few words; `otherwise` is what to do instead when another one is given. */
export interface ChoiceKind {
  readonly kind: 'choice';
  readonly choices: readonly string[];
  readonly otherwise?: string;
}

/** On by its name, off by its other name `off`, or one of `offAlso`; it takes no value. */
export interface SwitchKind {
  readonly kind: 'switch';
  readonly off?: string;
  readonly offAlso?: readonly string[];
}

/** The name of a file, or of a directory. */
export interface PathKind {
  readonly kind: 'path';
  readonly of?: 'directory';
}

export type ValueKind = IntegerKind | SizeKind | AmountKind | ChoiceKind | SwitchKind | PathKind;

/** The type of a value of the kind. */
export type ValueOf<K extends ValueKind> = K extends IntegerKind | SizeKind
  ? number
  : K extends AmountKind
    ? number | Percent
    : K extends ChoiceKind
      ? K['choices'][number]
      : K extends SwitchKind
        ? boolean
        : string;

/** A value of any kind. */
export type Value = number | string | boolean;

/** Reads the text after `=`. The error says what the value should have been. */
export function readValue(
  kind: Exclude<ValueKind, SwitchKind>,
  text: string,
): Result<number | string, string> {
  switch (kind.kind) {
    case 'integer': {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      return value >= kind.min && value <= kind.max ? ok(value) : err(describeKind(kind));
    }
    case 'size': {
      const bytes = readBytes(text);
      if (bytes === undefined) return err(describeKind(kind));
      const inRange = Math.min(Math.max(bytes, kind.min), kind.max);
      return ok(inRange - (inRange % kind.multiple));
    }
    case 'amount': {
      const percent = /^(\d{1,3})%$/.exec(text)?.[1];
      if (percent === undefined) {
        const bytes = readBytes(text);
        return bytes !== undefined && bytes >= kind.minBytes ? ok(bytes) : err(describeKind(kind));
      }
      const inRange = Number(percent) >= kind.minPercent && Number(percent) <= 100;
      return inRange ? ok(`${Number(percent)}%`) : err(describeKind(kind));
    }
    case 'choice':
      if (kind.choices.includes(text)) return ok(text);
      return err(kind.otherwise ?? describeKind(kind));
    case 'path':
      return text === '' || text.includes('\0') ? err(describeKind(kind)) : ok(text);
    default:
      return unreachable(kind);
  }
}

/** Whether the text after `=`, which can be read, names a size other than the one it is taken as. */
export function isAdjusted(kind: ValueKind, text: string, value: Value): boolean {
  return kind.kind === 'size' && readBytes(text) !== value;
}

/** The text after `=` for a value that readValue gave. */
export function writeValue(kind: Exclude<ValueKind, SwitchKind>, value: number | string): string {
  if (kind.kind === 'amount' && typeof value === 'number') return writeBytes(value);
  return kind.kind === 'size' ? writeBytes(Number(value)) : String(value);
}

/** The kind in words that go on after "use". */
export function describeKind(kind: ValueKind): string {
  switch (kind.kind) {
    case 'integer': {
      const unit = kind.unit === undefined ? '' : `, in ${kind.unit}`;
      return `a whole number from ${kind.min} to ${kind.max}${unit}`;
    }
    case 'size':
      return `a size from ${writeBytes(kind.min)} to ${writeBytes(kind.max)}, as 65536 or 64K`;
    case 'amount':
      return `${kind.minPercent}% to 100%, or a size of at least ${writeBytes(kind.minBytes)}`;
    case 'choice':
      return kind.choices.length === 1 ? `${kind.choices[0]}` : `one of ${kind.choices.join(', ')}`;
    case 'switch':
      return 'it without a value';
    case 'path':
      return kind.of === undefined ? "a file's name" : "a directory's name";
    default:
      return unreachable(kind);
  }
}

const unitShift = { '': 0, K: 10, M: 20, G: 30, T: 40 } as const;

function readBytes(text: string): number | undefined {
  const parts = /^(\d{1,15})([KMGT]?)$/i.exec(text);
  if (parts === null) return undefined;
  const unit = (parts[2] ?? '').toUpperCase() as keyof typeof unitShift;
  const bytes = Number(parts[1]) * 2 ** unitShift[unit];
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

function writeBytes(bytes: number): string {
  for (const unit of ['T', 'G', 'M', 'K'] as const) {
    const size = 2 ** unitShift[unit];
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}
