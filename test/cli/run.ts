/**
 * The built commands as child processes, with a time limit.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const gvfsMount = built('gvfs-mount.js');
export const gvfs = built('gvfs.js');

/** Runs a built command with this Node. */
export function runCommand(script: string, args: readonly string[]): Promise<Ran> {
  return run(process.execPath, [script, ...args]);
}

export function run(program: string, args: readonly string[]): Promise<Ran> {
  return new Promise((done, fail) => {
    const options = { timeout: 60_000, env: { ...process.env, NODE_OPTIONS: '' } };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error?.killed) fail(new Error(`${program} ${args.join(' ')} does not end: ${stderr}`));
      else done({ status: child.exitCode, stdout, stderr });
    });
  });
}

function built(name: string): string {
  const path = fileURLToPath(new URL(`../../dist/cli/${name}`, import.meta.url));
  if (!existsSync(path)) throw new Error('not built: npm run build');
  return path;
}
