/**
 * What surrounds a command: its output, the terminal, who runs it and where. The only part of the
 * commands that reads the process; a test is another shell.
 */
import { readFileSync } from 'node:fs';
import { type Clock, systemClock } from '../base/clock.ts';
import type { Surroundings } from '../config/default-paths.ts';
import { type Mounts, systemMounts } from '../daemon/control/reach.ts';
import type { ProgressOutput } from './progress-line.ts';

export interface Shell {
  /** Standard output. */
  out(text: string): void;
  /** Standard error. */
  err(text: string): void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** Of the terminal; 80 without one. */
  readonly columns: number;
  readonly surroundings: Surroundings;
  readonly workingDirectory: string;
  readonly mounts: Mounts;
  readonly clock: Clock;
  /** An argument as the bytes that it was given as: a path need not be UTF-8. */
  bytesOf(argument: string): Buffer;
  /** Runs `interrupt` at the first SIGINT or SIGTERM; the second ends the process. */
  onInterrupt(interrupt: () => void): () => void;
}

export function systemShell(): Shell {
  const surroundings = { uid: process.geteuid?.() ?? 0, env: process.env };
  // Whoever reads us may have enough: head(1).
  process.stdout.on('error', () => process.exit());
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    outIsTerminal: process.stdout.isTTY,
    errIsTerminal: process.stderr.isTTY,
    columns: process.stdout.columns || process.stderr.columns || 80,
    surroundings,
    workingDirectory: process.cwd(),
    mounts: systemMounts(surroundings),
    clock: systemClock,
    bytesOf: givenBytes,
    onInterrupt(interrupt) {
      process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
      return () => {
        process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
      };
    },
  };
}

/** Progress is for people: only a terminal shows it. */
export function progressOutput(shell: Shell): ProgressOutput {
  const { errIsTerminal: isTerminal, columns } = shell;
  return { isTerminal, columns, write: (text) => shell.err(text) };
}

/** One line of JSON: a terminal that shows it shows what is meant, as \uXXXX where it must. */
export function jsonLine(value: unknown): string {
  const text = JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from({ length: character.length }, (_, at) => {
      return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`;
    }).join(''),
  );
  return `${text}\n`;
}

/** Node decodes arguments as UTF-8, and replaces what is none. */
function givenBytes(argument: string): Buffer {
  if (!argument.includes('\ufffd')) return Buffer.from(argument);
  const given = readFileSync('/proc/self/cmdline').toString('latin1').split('\0');
  const bytes = given.map((text) => Buffer.from(text, 'latin1'));
  return bytes.find((text) => text.toString('utf8') === argument) ?? Buffer.from(argument);
}
