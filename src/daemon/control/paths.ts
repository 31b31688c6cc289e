/**
 * From the paths of calls to files and images. Whatever may wait for the server is raced against
 * the call's cancellation.
 */
import type { Ino, Name } from '../../base/brand.ts';
import { err, type Result } from '../../base/result.ts';
import type { ErrnoName } from '../../errors/errno.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import { bytesOf, harmless } from '../../observe/printable.ts';
import { checkName } from '../../vfs/names.ts';
import type { Controlled, ControlledCache, ControlledImage, Located } from './controlled.ts';
import { type Call, Failure } from './protocol.ts';
import { ErrorCode, type ImageLine } from './schema.ts';

export class Paths {
  readonly #controlled: Controlled;

  constructor(controlled: Controlled) {
    this.#controlled = controlled;
  }

  /** Without asking the server. */
  pathOf(ino: Ino): string | undefined {
    const path = this.#controlled.files.pathOf?.(ino);
    return path === undefined ? undefined : harmless(path);
  }

  /** The images that a path means: all, or the one of a file, which may be gone at the server. */
  async choose(
    cache: ControlledCache,
    path: string | undefined,
    { signal }: Call,
  ): Promise<readonly ImageLine[] | Failure> {
    const all = await cache.list(signal);
    if (!all.ok) return diskFailure(all.error);
    if (path === undefined || path === '') return all.value;
    const named = all.value.filter(({ id }) => id === path);
    if (named.length > 0) return named;
    // Where names can be told without the server they are not asked for.
    const located = await this.image(path, signal);
    const isMeant =
      located instanceof Failure
        ? (image: ImageLine) => image.path === path
        : ({ id }: ImageLine) => id === cache.idOf(located.file);
    const chosen = all.value.filter(isMeant);
    if (chosen.length > 0) return chosen;
    return located instanceof Failure ? located : [];
  }

  /** The regular file at a path. */
  async image(path: string, signal: AbortSignal): Promise<Located | Failure> {
    const located = await this.locate(path, signal);
    if (located instanceof Failure || located.attributes.type === 'regular') return located;
    const message = `${path === '' ? 'the mountpoint' : path} is no regular file`;
    return new Failure({ code: ErrorCode.notAnImage, message });
  }

  async locate(path: string, signal: AbortSignal): Promise<Located | Failure> {
    const names = namesOf(bytesOf(path));
    if (names === undefined) {
      const message = 'path: a path within the mount is wanted';
      return new Failure({ code: ErrorCode.badParams, message });
    }
    const { files, as } = this.#controlled;
    const located = await unlessAborted(files.locate(as, names), signal);
    if (located === undefined) return cancelled;
    return located.ok ? located.value : failureOf(located.error, signal, path);
  }

  /** Runs with the open image. What is cancelled ends by itself, and is not waited for. */
  async withImage<T>(
    cache: ControlledCache,
    { ino, file }: Located,
    signal: AbortSignal,
    run: (image: ControlledImage) => Promise<Result<T, FsError>>,
  ): Promise<T | Failure> {
    const { files, as } = this.#controlled;
    const opened = files.withImage(as, ino, async () => {
      const image = cache.find(file);
      return image === undefined ? notKept : run(image);
    });
    const ran = await unlessAborted(opened, signal);
    if (ran === undefined) return cancelled;
    if (!ran.ok) return failureOf(ran.error, signal);
    return ran.value.ok ? ran.value.value : failureOf(ran.value.error, signal);
  }
}

export const noCache = new Failure({ code: ErrorCode.noCache, message: 'the mount has no cache' });
export const cancelled = new Failure({ code: ErrorCode.cancelled, message: 'cancelled' });
const notKept = err(localError('EIO', 'open', 'the cache does not keep this file'));

/** A path's names, without the empty ones; undefined where one of them is none. */
function namesOf(path: Buffer): Name[] | undefined {
  const names: Name[] = [];
  for (const part of path.toString('latin1').split('/')) {
    if (part === '') continue;
    const name = checkName(Buffer.from(part, 'latin1'), 'lookup');
    if (!name.ok && name.error.errno === 'EINVAL') return undefined;
    names.push(Buffer.from(part, 'latin1') as Name);
  }
  return names;
}

/** undefined when the signal comes first; what the promise does then is its own affair. */
export async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  if (signal.aborted) return undefined;
  let stop = () => undefined as undefined;
  const aborted = new Promise<undefined>((done) => {
    stop = () => done(undefined) as undefined;
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** What a path is to blame for; all else is the server's or the disk's. */
const pathErrors: ReadonlySet<ErrnoName> = new Set([
  'ENOENT',
  'ENOTDIR',
  'EACCES',
  'EPERM',
  'ENAMETOOLONG',
  'ESTALE',
]);

/** Of the cache's own files: whatever it is, no path of the user's is to blame. */
export function diskFailure({ errno, message }: FsError): Failure {
  return new Failure({ code: ErrorCode.io, message: `the cache: ${message}`, errno });
}

export function failureOf(error: FsError, signal: AbortSignal, path?: string): Failure {
  if (signal.aborted) return cancelled;
  const { errno, message } = error;
  if (error.code === 'CLOSED') return new Failure({ code: ErrorCode.ending, message, errno });
  const code = pathErrors.has(errno) ? ErrorCode.path : ErrorCode.io;
  return new Failure({
    code,
    message: path === undefined ? message : `${path}: ${message}`,
    errno,
  });
}
