/**
 * The cases of posix/ and the truth tables, for any directory: a plain local one proves that they
 * expect what the kernel does, the mount has to pass the same.
 */
import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Children, PYTHON } from './children.ts';

export type World = 'local' | 'mount';

const SUITE = fileURLToPath(new URL('posix/suite.py', import.meta.url));
const TABLES = fileURLToPath(new URL('posix/tables.py', import.meta.url));

/** For Python programs that import `suite`. */
export const POSIX_ENVIRONMENT = { PYTHONPATH: dirname(SUITE) };

/** The cases' titles. */
export function posixCases(): string[] {
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '1' };
  return execFileSync(PYTHON, [SUITE, '--list'], { encoding: 'utf8', env }).trim().split('\n');
}

/** Runs one case in a fresh directory below `directory`; rejects with what it found. */
export async function runPosixCase(
  children: Children,
  title: string,
  directory: string,
  world: World,
): Promise<void> {
  await children.sh(
    'mkdir -m 755 "$1" && exec "$2" "$3" --run "$4" "$1" "$5"',
    [`${directory}/${title.replaceAll(/\W+/g, '-').slice(0, 60)}`, PYTHON, SUITE, title, world],
    { timeoutMs: 30_000 },
  );
}

/** What the calls of a table answered there, a line each (see posix/tables.py). */
export async function truthTable(
  children: Children,
  table: 'open' | 'permissions',
  directory: string,
): Promise<string[]> {
  const printed = await children.sh(
    'mkdir -m 755 "$1" && exec "$2" "$3" "$4" "$1"',
    [`${directory}/${table}-table`, PYTHON, TABLES, table],
    { timeoutMs: 100_000 },
  );
  return printed.trim().split('\n');
}
