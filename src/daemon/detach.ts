/**
 * Takes a mount out of the tree although it is in use: those who have something open in it keep it
 * until they close. By umount(8) and fusermount3, which need not look into the mount for it.
 */
import { spawn } from 'node:child_process';
import { err, ok, type Result } from '../base/result.ts';
import { SYSTEM_PATH } from '../fuse/attach.ts';

/** The error is what the last program said. */
export async function detachLazily(mountpoint: string): Promise<Result<void, string>> {
  const ways =
    process.geteuid?.() === 0
      ? [['umount', '--lazy', '--no-canonicalize', '--internal-only', '--', mountpoint] as const]
      : [];
  let said = '';
  for (const [program, ...args] of [
    ...ways,
    ['fusermount3', '-u', '-z', '--', mountpoint] as const,
  ]) {
    const failure = await run(program, args);
    if (failure === undefined) return ok(undefined);
    said = failure;
  }
  return err(said);
}

/** Undefined when it succeeded, else what it said. */
function run(program: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((done) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
    });
    let text = '';
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk;
    });
    child.on('error', (error) => done(error.message));
    child.on('close', (status) => {
      done(status === 0 ? undefined : text.trim().replace(/\s*\n\s*/g, '; '));
    });
  });
}
