/**
 * gvfs cache ls|du|evict|pin|unpin|verify: what is kept on the local disk, with a daemon or without.
 */
import type { Result } from '../base/result.ts';
import type { Progress } from '../daemon/control/schema.ts';
import { harmless } from '../observe/printable.ts';
import { type CacheTarget, openTargets, type TargetRequest } from './cache-targets.ts';
import { evictedText, listText, usageText, verifiedText } from './cache-text.ts';
import { endedMeanwhile } from './daemon-call.ts';
import { complain, type GvfsError, GvfsStatus, reportOf, usage } from './gvfs-errors.ts';
import { ProgressLine } from './progress-line.ts';
import { jsonLine, progressOutput, type Shell } from './shell.ts';

export interface CacheRequest extends TargetRequest {
  readonly json: boolean;
}

const where = `
PATH is a file in a mount, or the mountpoint for all of its images. Without PATH it is every mount
of yours, and what else is in your cache directory. With --cachedir it is that directory, and PATH
is the path of an image in its export, or the image's id; no daemon is needed.`;

const exitStatus = `
Exit status: 0 done, 1 wrong usage or another user's mount, 3 no gvfs mount there`;

export const listHelp = `${where}

Examples:
  gvfs cache ls
  gvfs cache ls /mnt/vm --json
  gvfs cache ls --cachedir /var/cache/gvfs
${exitStatus}, 32 it failed.
`;

export const usageHelp = `${where}

Examples:
  gvfs cache du /mnt/vm
  gvfs cache du --cachedir /var/cache/gvfs
${exitStatus}, 32 it failed.
`;

export const evictHelp = `${where}
Without PATH it wants --all. Pinned images are left, but for --force, and those that the kernel
reads by itself.

Examples:
  gvfs cache evict /mnt/vm/old.img
  gvfs cache evict --all
${exitStatus},
5 an image that was named is kept, 8 interrupted, 32 it failed.
`;

export const pinHelp = `
A pinned image is never evicted, whatever its age; what is absent of it is not fetched: see gvfs
warm. PATH is a file in a mount, or the id of an image, which gvfs cache ls --json tells: the file
may be gone at the server. With --cachedir it is the path of an image in its export, or its id; no
daemon is needed.

Examples:
  gvfs cache pin /mnt/vm/base.img && gvfs warm /mnt/vm/base.img
  gvfs cache unpin /mnt/vm/base.img
  gvfs cache unpin --cachedir /var/cache/gvfs images/old.img
${exitStatus}, 32 it failed.
`;

export const verifyHelp = `${where}
What is damaged is dropped, and fetched again when it is needed.

Examples:
  gvfs cache verify /mnt/vm
  gvfs cache verify --cachedir /var/cache/gvfs
${exitStatus},
5 damage was found, 8 interrupted, 32 it failed.
`;

export function listImages(shell: Shell, request: CacheRequest): Promise<GvfsStatus> {
  return eachTarget(
    shell,
    request,
    (target) => target.images(),
    listText,
    () => GvfsStatus.done,
  );
}

export function showUsage(shell: Shell, request: CacheRequest): Promise<GvfsStatus> {
  return eachTarget(
    shell,
    request,
    (target) => target.images(),
    usageText,
    () => GvfsStatus.done,
  );
}

export function verify(shell: Shell, request: CacheRequest): Promise<GvfsStatus> {
  return eachTarget(
    shell,
    request,
    (target) => withProgress(shell, target, (told) => target.verify(told)),
    verifiedText,
    (_, { damagedBytes, setAside }) =>
      damagedBytes === 0 && setAside.length === 0 ? GvfsStatus.done : GvfsStatus.no,
  );
}

export async function evict(
  shell: Shell,
  { all, force, ...request }: CacheRequest & { readonly all: boolean; readonly force: boolean },
): Promise<GvfsStatus> {
  if (request.paths.length === 0 && !all) {
    return complain(shell, usage('nothing is named', 'say gvfs cache evict PATH, or --all'));
  }
  return eachTarget(
    shell,
    request,
    (target) => withProgress(shell, target, (told) => target.evict(told, force)),
    evictedText,
    ({ isOneImage }, { kept }) => (isOneImage && kept.length > 0 ? GvfsStatus.no : GvfsStatus.done),
  );
}

export async function setPinned(
  shell: Shell,
  { paths, json, cachedir }: CacheRequest,
  method: 'pin' | 'unpin',
): Promise<GvfsStatus> {
  const outcome = new Outcome(shell);
  const files: object[] = [];
  for (const path of paths) {
    const { targets, problems, close } = await openTargets(shell, { paths: [path], cachedir });
    const errors = [...problems];
    const pinned = method === 'pin';
    for (const target of targets) {
      const done = await target.setPinned(pinned);
      if (!done.ok) errors.push(done.error);
    }
    await close();
    for (const error of errors) {
      files.push({ file: path, error: reportOf(error).what });
      outcome.failed(error);
    }
    if (errors.length > 0) continue;
    files.push({ file: path, pinned, error: null });
    if (!json) shell.out(`${harmless(path)}: ${pinned ? 'pinned' : 'not pinned'}\n`);
  }
  if (json) shell.out(jsonLine({ files }));
  return outcome.status;
}

/** Does it with every cache that is meant; what fails does not keep the others from it. */
async function eachTarget<T extends object>(
  shell: Shell,
  request: CacheRequest,
  run: (target: CacheTarget) => Promise<Result<T, GvfsError>>,
  text: (target: CacheTarget, result: T) => string,
  verdict: (target: CacheTarget, result: T) => GvfsStatus,
): Promise<GvfsStatus> {
  const outcome = new Outcome(shell);
  const texts: string[] = [];
  const objects: object[] = [];
  const { targets, problems, close } = await openTargets(shell, request);
  try {
    for (const problem of problems) outcome.failed(problem);
    for (const target of targets) {
      const { source, mountpoint, typed } = target;
      const done = await run(target);
      if (!done.ok) {
        const isNamed = request.paths.length > 0 || mountpoint === null;
        if (!isNamed && (await endedMeanwhile(shell, mountpoint, done.error))) continue;
        outcome.failed(done.error);
        objects.push({ source, mountpoint, error: reportOf(done.error).what });
        if (done.error.kind === 'interrupted') break;
        continue;
      }
      outcome.add(verdict(target, done.value));
      texts.push(text(target, done.value));
      objects.push({ source, mountpoint, named: typed, ...done.value, error: null });
    }
  } finally {
    await close();
  }
  if (request.json) shell.out(jsonLine({ caches: objects }));
  else if (texts.length > 0) shell.out(texts.join(''));
  else if (outcome.status === GvfsStatus.done) shell.out('no cache of yours here\n');
  return outcome.status;
}

async function withProgress<T>(
  shell: Shell,
  { typed }: CacheTarget,
  run: (told: (progress: Progress) => void) => Promise<T>,
): Promise<T> {
  const line = new ProgressLine(typed, progressOutput(shell), shell.clock);
  try {
    return await run(({ doneBytes, totalBytes }) => line.update(doneBytes, totalBytes));
  } finally {
    line.end();
  }
}

/** The exit status is that of the first thing that went wrong. */
class Outcome {
  readonly #shell: Shell;
  status: GvfsStatus = GvfsStatus.done;

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  failed(error: GvfsError): void {
    this.add(complain(this.#shell, error));
  }

  add(status: GvfsStatus): void {
    if (this.status === GvfsStatus.done) this.status = status;
  }
}
