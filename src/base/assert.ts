/**
 * Assertions guard against bugs, never against input: a failed one means that this program
 * is wrong, and it throws, so that the session ends in order instead of going on.
 */

export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** @throws InvariantError when `condition` is false. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For the branch that the types say is never taken. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable: ${String(value)}`);
}
