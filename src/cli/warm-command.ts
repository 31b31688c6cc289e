/**
 * gvfs warm PATH...: fetches what is absent of files, one after the other, and says so.
 *
 * A file that fails does not keep the others from being warmed; an interrupt ends it all. The exit
 * status is that of the first failure, so that 0 means that everything is there.
 */
import type { Result } from '../base/result.ts';
import type { ResultOf } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import type { ByteRange } from './byte-range.ts';
import { call, daemonOf } from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, reportOf } from './gvfs-errors.ts';
import { ProgressLine } from './progress-line.ts';
import { bytesText, percentText, shareText } from './quantities.ts';
import { jsonLine, progressOutput, type Shell } from './shell.ts';

export interface WarmRequest {
  readonly paths: readonly string[];
  readonly range: ByteRange;
  readonly check: boolean;
  readonly background: boolean;
  readonly json: boolean;
}

type Warmed = ResultOf<'warm'>;

export const warmHelp = `
What is present is not fetched again: a warm that was interrupted goes on where it was. Programs
that read come first. With --check nothing is fetched: what is present is compared with its
checksums, and what is absent is said.

Examples:
  gvfs warm /mnt/vm/base.img /mnt/vm/win.img
  gvfs warm --range 0-64M /mnt/vm/base.img
  gvfs warm --background /mnt/vm/base.img && gvfs status /mnt/vm
  gvfs warm --check /mnt/vm/base.img && echo complete

Exit status: 0 all of it is present (or, with --background, being fetched), 1 wrong usage, 3 no
gvfs mount there, 5 --check found pages absent or damaged, 8 interrupted, 32 it failed.
`;

export async function warm(shell: Shell, request: WarmRequest): Promise<GvfsStatus> {
  let status: GvfsStatus = GvfsStatus.done;
  const files: object[] = [];
  for (const path of request.paths) {
    const warmed = await warmOne(shell, path, request);
    const failed = warmed.ok ? verdict(warmed.value, request) : reportOf(warmed.error).status;
    if (status === GvfsStatus.done) status = failed;
    if (warmed.ok) {
      files.push({ file: path, ...warmed.value, error: null });
      if (!request.json) shell.out(`${harmless(path)}: ${text(warmed.value, request)}\n`);
    } else {
      files.push({ file: path, error: reportOf(warmed.error).what });
      complain(shell, warmed.error);
      if (warmed.error.kind === 'interrupted') break;
    }
  }
  if (request.json) shell.out(jsonLine({ files }));
  return status;
}

async function warmOne(
  shell: Shell,
  typed: string,
  { range, check, background }: WarmRequest,
): Promise<Result<Warmed, GvfsError>> {
  const daemon = await daemonOf(shell, typed);
  if (!daemon.ok) return daemon;
  const progress = new ProgressLine(typed, progressOutput(shell), shell.clock);
  const params = { path: daemon.value.path, ...range, check, background };
  try {
    return await call(shell, daemon.value, 'warm', params, ({ doneBytes, totalBytes }) =>
      progress.update(doneBytes, totalBytes),
    );
  } finally {
    progress.end();
    daemon.value.client.close();
  }
}

function verdict(warmed: Warmed, { check, background }: WarmRequest): GvfsStatus {
  if (background) return GvfsStatus.done;
  const { presentBytes, totalBytes, damagedBytes } = warmed;
  if (presentBytes >= totalBytes && damagedBytes === 0) return GvfsStatus.done;
  // Who asked for it to be fetched does not have it: evicted meanwhile, or not kept.
  return check ? GvfsStatus.no : GvfsStatus.failed;
}

function text(warmed: Warmed, { check, background }: WarmRequest): string {
  const { presentBytes, totalBytes, fetchedBytes, damagedBytes } = warmed;
  if (background && presentBytes >= totalBytes) return 'is present already';
  if (background) return 'is being fetched, gvfs status says how far it is';
  // An empty file, or the rest of one.
  const share = totalBytes === 0 ? '100 %' : percentText(presentBytes, totalBytes);
  const present = `${shareText(presentBytes, totalBytes)} present (${share})`;
  const damaged = damagedBytes === 0 ? '' : `, ${bytesText(damagedBytes)} found damaged`;
  return check ? present + damaged : `${bytesText(fetchedBytes)} fetched, ${present}${damaged}`;
}
