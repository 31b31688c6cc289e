/**
 * What a JSON value must look like, as a value of its own: from one shape come the TypeScript type,
 * the check of what another process sent, and the documentation. Nothing here knows a method.
 *
 * A value that passed the check is a copy with the shape's own fields and nothing else: what came
 * over the socket is never looked at again.
 */
import { unreachable } from '../../base/assert.ts';
import { err, ok, type Result } from '../../base/result.ts';

/** A string of at most `max` UTF-16 units. */
export interface TextShape {
  readonly kind: 'text';
  readonly max: number;
  readonly doc: string;
}

/** A whole number from 0, or `min`, to 2^53-1, or `max`. */
export interface IntegerShape {
  readonly kind: 'integer';
  readonly min: number;
  readonly max: number;
  readonly doc: string;
}

/** A finite number, not negative. */
export interface NumberShape {
  readonly kind: 'number';
  readonly doc: string;
}

export interface FlagShape {
  readonly kind: 'flag';
  readonly doc: string;
}

export interface ChoiceShape<C extends string = string> {
  readonly kind: 'choice';
  readonly choices: readonly C[];
  readonly doc: string;
}

export interface ListShape<S extends Shape = Shape> {
  readonly kind: 'list';
  readonly of: S;
  readonly doc: string;
}

export interface RecordShape<F extends Fields = Fields> {
  readonly kind: 'record';
  readonly fields: F;
  readonly doc: string;
}

/** null where the value is not known, or there is none. */
export interface NullableShape<S extends Shape = Shape> {
  readonly kind: 'nullable';
  readonly of: S;
  readonly doc: string;
}

/** May be left out of its record. */
export interface OptionalShape<S extends Shape = Shape> {
  readonly kind: 'optional';
  readonly of: S;
  readonly doc: string;
}

export type Shape =
  | TextShape
  | IntegerShape
  | NumberShape
  | FlagShape
  | ChoiceShape
  | ListShape
  | RecordShape
  | NullableShape
  | OptionalShape;

export type Fields = Readonly<Record<string, Shape>>;

/** The type of the values of a shape. */
export type TypeOf<S extends Shape> = S extends TextShape
  ? string
  : S extends IntegerShape | NumberShape
    ? number
    : S extends FlagShape
      ? boolean
      : S extends ChoiceShape<infer C>
        ? C
        : S extends ListShape<infer E>
          ? readonly TypeOf<E>[]
          : S extends RecordShape<infer F>
            ? RecordOf<F>
            : S extends NullableShape<infer E>
              ? TypeOf<E> | null
              : S extends OptionalShape<infer E>
                ? TypeOf<E> | undefined
                : never;

type RecordOf<F extends Fields> = {
  readonly [K in keyof F as F[K] extends OptionalShape ? never : K]: TypeOf<F[K]>;
} & {
  readonly [K in keyof F as F[K] extends OptionalShape ? K : never]?: TypeOf<F[K]>;
};

const TEXT_MAX = 64 * 1024;

export const text = (doc: string, max = TEXT_MAX): TextShape => ({ kind: 'text', max, doc });
export const integer = (
  doc: string,
  { min = 0, max = Number.MAX_SAFE_INTEGER } = {},
): IntegerShape => ({ kind: 'integer', min, max, doc });
export const number = (doc: string): NumberShape => ({ kind: 'number', doc });
export const flag = (doc: string): FlagShape => ({ kind: 'flag', doc });
export const choice = <const C extends string>(
  doc: string,
  choices: readonly C[],
): ChoiceShape<C> => ({ kind: 'choice', choices, doc });
export const list = <S extends Shape>(doc: string, of: S): ListShape<S> => ({
  kind: 'list',
  of,
  doc,
});
export const record = <F extends Fields>(doc: string, fields: F): RecordShape<F> => ({
  kind: 'record',
  fields,
  doc,
});
export const nullable = <S extends Shape>(of: S): NullableShape<S> => ({
  kind: 'nullable',
  of,
  doc: of.doc,
});
export const optional = <S extends Shape>(of: S): OptionalShape<S> => ({
  kind: 'optional',
  of,
  doc: of.doc,
});

/** What is done with fields that a record does not know. */
export type Unknown = 'refuse' | 'drop';

/**
 * The value, if it is of the shape. The error says where it is not, and what should be there:
 * `range.start: a whole number from 0 to 9007199254740991`.
 */
export function check<S extends Shape>(
  shape: S,
  value: unknown,
  unknown: Unknown,
): Result<TypeOf<S>, string> {
  return checkAny(shape, value, unknown) as Result<TypeOf<S>, string>;
}

/** The same where the shape is not known when this is compiled. */
export function checkAny(shape: Shape, value: unknown, unknown: Unknown): Result<unknown, string> {
  return checkAt(shape, value, unknown, '');
}

/** The shape in words: what a value of it is. */
export function describeShape(shape: Shape): string {
  switch (shape.kind) {
    case 'text':
      return 'text';
    case 'integer':
      return shape.max === Number.MAX_SAFE_INTEGER
        ? `a whole number${shape.min === 0 ? '' : ` from ${shape.min}`}`
        : `a whole number from ${shape.min} to ${shape.max}`;
    case 'number':
      return 'a number';
    case 'flag':
      return 'true or false';
    case 'choice':
      return shape.choices.map((word) => `"${word}"`).join(', ');
    case 'list':
      return 'a list';
    case 'record':
      return 'an object';
    case 'nullable':
      return `${describeShape(shape.of)} or null`;
    case 'optional':
      return `${describeShape(shape.of)}, optional`;
    default:
      return unreachable(shape);
  }
}

function checkAt(
  shape: Shape,
  value: unknown,
  unknown: Unknown,
  at: string,
): Result<unknown, string> {
  const wrong = () => err(`${at === '' ? '' : `${at}: `}${describeShape(shape)} is wanted`);
  switch (shape.kind) {
    case 'text':
      return typeof value === 'string' && value.length <= shape.max ? ok(value) : wrong();
    case 'integer':
      return Number.isSafeInteger(value) &&
        (value as number) >= shape.min &&
        (value as number) <= shape.max
        ? ok(value)
        : wrong();
    case 'number':
      return Number.isFinite(value) && (value as number) >= 0 ? ok(value) : wrong();
    case 'flag':
      return typeof value === 'boolean' ? ok(value) : wrong();
    case 'choice':
      return shape.choices.includes(value as string) ? ok(value) : wrong();
    case 'nullable':
      return value === null ? ok(null) : checkAt(shape.of, value, unknown, at);
    case 'optional':
      return value === undefined ? ok(undefined) : checkAt(shape.of, value, unknown, at);
    case 'list': {
      if (!Array.isArray(value)) return wrong();
      const items: unknown[] = [];
      for (const [index, item] of value.entries()) {
        const checked = checkAt(shape.of, item, unknown, `${at}[${index}]`);
        if (!checked.ok) return checked;
        items.push(checked.value);
      }
      return ok(items);
    }
    case 'record':
      return isRecord(value) ? checkRecord(shape, value, unknown, at) : wrong();
    default:
      return unreachable(shape);
  }
}

function checkRecord(
  { fields }: RecordShape,
  value: object,
  unknown: Unknown,
  at: string,
): Result<unknown, string> {
  const prefix = at === '' ? '' : `${at}.`;
  if (unknown === 'refuse') {
    const extra = Object.keys(value).find((key) => !Object.hasOwn(fields, key));
    if (extra !== undefined) return err(`${prefix}${extra.slice(0, 80)}: there is no such field`);
  }
  const copy: Record<string, unknown> = {};
  for (const [key, shape] of Object.entries(fields)) {
    const given: unknown = Object.hasOwn(value, key)
      ? (value as Record<string, unknown>)[key]
      : undefined;
    const checked = checkAt(shape, given, unknown, `${prefix}${key}`);
    if (!checked.ok) return checked;
    if (checked.value !== undefined) copy[key] = checked.value;
  }
  return ok(copy);
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
