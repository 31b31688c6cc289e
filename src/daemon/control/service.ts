/**
 * The methods of the control socket, over a running mount.
 *
 * Whatever may wait for the server is raced against the call's cancellation: a call never outlives
 * its client for long, nor the session. `status` and `failWaiting` ask the server nothing, since
 * they are for the time when it is away.
 *
 * Long calls are tasks, which `status` lists: those that run, and the last that ended in the
 * background.
 */
import type { Name } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import type { ErrnoName } from '../../errors/errno.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import { bytesOf } from '../../observe/printable.ts';
import { checkName } from '../../vfs/names.ts';
import type { Controlled, ControlledCache, ControlledImage, Located, Watch } from './controlled.ts';
import { type Call, Failure, type Handlers, type Outcome } from './protocol.ts';
import {
  ErrorCode,
  type ImageLine,
  type ParamsOf,
  PROTOCOL_VERSION,
  type ResultOf,
  type Status,
} from './schema.ts';
import { Tasks } from './tasks.ts';

const WAITING_LISTED_MAX = 100;
/** For how long failWaiting waits to learn which file a name is. */
const NAME_LIMIT_MS = 2000;

const PAGE_BYTES = 4096;

export class Service {
  readonly handlers: Handlers = {
    status: async () => this.#status(),
    images: (params, call) => this.#images(params, call),
    warm: (params, call) => this.#warm(params, call),
    verify: (params, call) => this.#verify(params, call),
    evict: (params, call) => this.#evict(params, call),
    pin: (params, call) => this.#setPinned(params, call, true),
    unpin: (params, call) => this.#setPinned(params, call, false),
    failWaiting: (params) => this.#failWaiting(params),
    map: (params, call) => this.#map(params, call),
  };

  readonly #controlled: Controlled;
  readonly #clock: Clock;
  readonly #tasks = new Tasks();
  /** Ends what runs in the background. */
  readonly #closing = new AbortController();

  constructor(controlled: Controlled, clock: Clock) {
    this.#controlled = controlled;
    this.#clock = clock;
  }

  close(): void {
    this.#closing.abort();
  }

  #status(): Status {
    const { files, cache, kernel } = this.#controlled;
    const snapshot = this.#controlled.snapshot();
    const openFiles = files.openFiles();
    const paths = new Map(openFiles.map(({ ino, path }) => [ino, path]));
    const waiting = kernel.waiting().toSorted((one, other) => other.ageMs - one.ageMs);
    return {
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
      ...snapshot,
      hitRatio: hitRatio(snapshot.bytes),
      open: openFiles.map((file) => ({
        path: file.path,
        sizeBytes: file.sizeBytes,
        presentBytes: cache?.find(file.file)?.presentBytes() ?? null,
        readers: file.readers,
        writers: file.writers,
        servedBy: file.servedBy,
        why: file.why ?? null,
      })),
      waiting: waiting.slice(0, WAITING_LISTED_MAX).map(({ operation, ino, ageMs }) => ({
        operation,
        path: paths.get(ino) ?? null,
        ageMs,
      })),
      waitingCount: waiting.length,
      tasks: this.#tasks.lines(),
    };
  }

  async #images(params: ParamsOf<'images'>, call: Call): Promise<Outcome<'images'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const chosen = await this.#choose(cache, params.path, call);
    if (chosen instanceof Failure) return chosen;
    const images = chosen.toSorted((one, other) => (one.path < other.path ? -1 : 1));
    return { cache: this.#cacheUse(), images };
  }

  #cacheUse(): ResultOf<'images'>['cache'] {
    const use = this.#controlled.snapshot().cache;
    return {
      directory: use?.directory ?? '',
      allocatedBytes: use?.allocatedBytes ?? 0,
      limitBytes: use?.limitBytes ?? null,
    };
  }

  async #warm(params: ParamsOf<'warm'>, call: Call): Promise<Outcome<'warm'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const located = await this.#image(params.path, call.signal);
    if (located instanceof Failure) return located;
    const sizeBytes = located.attributes.size;
    const range = { start: params.start ?? 0, end: Math.min(params.end ?? sizeBytes, sizeBytes) };
    if (range.start > range.end || (range.start === range.end && sizeBytes > 0)) {
      const message = `start, end: a range within the ${sizeBytes} bytes of the file is wanted`;
      return new Failure({ code: ErrorCode.badParams, message });
    }
    const check = params.check ?? false;
    const { path } = params;
    const totalBytes = range.end - range.start;
    const task = this.#tasks.begin('warm', path, totalBytes);
    const work = (watch: Watch) =>
      this.#withImage(cache, located, watch.signal, (image) =>
        image.warm(range, { ...watch, as: this.#controlled.as, check }),
      );
    if (params.background === true) {
      const watch = { signal: this.#closing.signal, onProgress: task.progress };
      void work(watch).then((warmed) => {
        task.end(warmed instanceof Failure ? warmed.error.message : undefined);
      });
      const nothingYet = { presentBytes: 0, fetchedBytes: 0, damagedBytes: 0 };
      return { path, totalBytes, ...nothingYet, task: task.id };
    }
    const warmed = await work({
      signal: call.signal,
      onProgress(doneBytes, total) {
        task.progress(doneBytes, total);
        call.progress({ path, doneBytes, totalBytes: total });
      },
    });
    task.forget();
    if (warmed instanceof Failure) return warmed;
    const { presentBytes, fetchedBytes, damagedBytes } = warmed;
    return { path, totalBytes, presentBytes, fetchedBytes, damagedBytes, task: null };
  }

  async #verify(params: ParamsOf<'verify'>, call: Call): Promise<Outcome<'verify'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const chosen = await this.#choose(cache, params.path, call);
    if (chosen instanceof Failure) return chosen;
    const totalBytes = chosen.reduce((sum, { presentBytes }) => sum + presentBytes, 0);
    const task = this.#tasks.begin('verify', params.path ?? '', totalBytes);
    let checkedBytes = 0;
    let damagedBytes = 0;
    const damaged: { path: string; damagedBytes: number }[] = [];
    try {
      for (const { id, path } of chosen) {
        const before = checkedBytes;
        const verified = await cache.verify(id, {
          signal: call.signal,
          onProgress(doneBytes) {
            task.progress(before + doneBytes, totalBytes);
            call.progress({ path, doneBytes: before + doneBytes, totalBytes });
          },
        });
        if (call.signal.aborted) return cancelled;
        if (!verified.ok) return diskFailure(verified.error);
        checkedBytes += verified.value.checkedBytes;
        damagedBytes += verified.value.damagedBytes;
        if (verified.value.damagedBytes > 0) {
          damaged.push({ path, damagedBytes: verified.value.damagedBytes });
        }
      }
    } finally {
      task.forget();
    }
    return { images: chosen.length, checkedBytes, damagedBytes, damaged, setAside: [] };
  }

  async #evict(params: ParamsOf<'evict'>, call: Call): Promise<Outcome<'evict'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const chosen = await this.#choose(cache, params.path, call);
    if (chosen instanceof Failure) return chosen;
    let images = 0;
    let freedBytes = 0;
    const kept: { path: string; why: string }[] = [];
    for (const { id, path, pinned } of chosen) {
      if (call.signal.aborted) return cancelled;
      if (pinned) {
        kept.push({ path, why: 'it is pinned' });
        continue;
      }
      const evicted = await cache.evict(id);
      if (!evicted.ok) return diskFailure(evicted.error);
      const { freedBytes: freed, why } = evicted.value;
      if (why !== undefined) kept.push({ path, why });
      if (freed > 0) images += 1;
      freedBytes += freed;
    }
    return { images, freedBytes, kept };
  }

  async #setPinned(
    { path }: ParamsOf<'pin'>,
    call: Call,
    pinned: boolean,
  ): Promise<ResultOf<'pin'> | Failure> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const located = await this.#image(path, call.signal);
    if (located instanceof Failure) {
      // Unknown to the server, or it is away: the cache itself may know the name.
      const listed = await cache.list(call.signal);
      const kept = listed.ok ? listed.value.find((image) => image.path === path) : undefined;
      if (kept === undefined || located.error.code === ErrorCode.notAnImage) return located;
      const done = await cache.setPinned(kept.id, pinned);
      return done.ok ? { path, pinned } : diskFailure(done.error);
    }
    // Opened, since an image that nobody has read yet is to be pinned, too.
    const done = await this.#withImage(cache, located, call.signal, () =>
      cache.setPinned(cache.idOf(located.file), pinned),
    );
    return done instanceof Failure ? done : { path, pinned };
  }

  async #failWaiting({ path = '' }: ParamsOf<'failWaiting'>): Promise<Outcome<'failWaiting'>> {
    const { files, kernel } = this.#controlled;
    if (path === '') {
      const inodes = new Set(kernel.waiting().map(({ ino }) => ino));
      return { failed: [...inodes].reduce((sum, ino) => sum + kernel.failWaiting(ino), 0) };
    }
    const open = files.openFiles().filter((file) => file.path === path);
    if (open.length > 0) {
      return { failed: open.reduce((sum, { ino }) => sum + kernel.failWaiting(ino), 0) };
    }
    const limit = new AbortController();
    const timer = this.#clock.after(NAME_LIMIT_MS, () => limit.abort());
    const located = await this.#locate(path, limit.signal);
    timer.cancel();
    if (!(located instanceof Failure)) return { failed: kernel.failWaiting(located.ino) };
    if (!limit.signal.aborted) return located;
    const message = `${path} is not open, and the server does not say what it is`;
    return new Failure({ code: ErrorCode.path, message, errno: 'ETIMEDOUT' });
  }

  async #map({ path, parts }: ParamsOf<'map'>, call: Call): Promise<Outcome<'map'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const located = await this.#image(path, call.signal);
    if (located instanceof Failure) return located;
    const counts = await this.#withImage(cache, located, call.signal, async (image) =>
      ok(image.pageStates(parts)),
    );
    if (counts instanceof Failure) return counts;
    const sizeBytes = located.attributes.size;
    return {
      path,
      sizeBytes,
      pageBytes: PAGE_BYTES,
      pages: Math.ceil(sizeBytes / PAGE_BYTES),
      parts: counts,
    };
  }

  /** The images that a path means: all, or the one of a file, which may be gone at the server. */
  async #choose(
    cache: ControlledCache,
    path: string | undefined,
    { signal }: Call,
  ): Promise<readonly ImageLine[] | Failure> {
    const all = await cache.list(signal);
    if (!all.ok) return diskFailure(all.error);
    if (path === undefined || path === '') return all.value;
    // Where names can be told without the server they are not asked for.
    const located = await this.#image(path, signal);
    const isMeant =
      located instanceof Failure
        ? (image: ImageLine) => image.path === path
        : ({ id }: ImageLine) => id === cache.idOf(located.file);
    const chosen = all.value.filter(isMeant);
    if (chosen.length > 0) return chosen;
    return located instanceof Failure ? located : [];
  }

  /** The regular file at a path. */
  async #image(path: string, signal: AbortSignal): Promise<Located | Failure> {
    const located = await this.#locate(path, signal);
    if (located instanceof Failure || located.attributes.type === 'regular') return located;
    const message = `${path === '' ? 'the mountpoint' : path} is no regular file`;
    return new Failure({ code: ErrorCode.notAnImage, message });
  }

  async #locate(path: string, signal: AbortSignal): Promise<Located | Failure> {
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
  async #withImage<T>(
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

const noCache = new Failure({ code: ErrorCode.noCache, message: 'the mount has no cache' });
const cancelled = new Failure({ code: ErrorCode.cancelled, message: 'cancelled' });
const notKept = err(localError('EIO', 'open', 'the cache does not keep this file'));

function hitRatio({ server, cache, zero, passthrough }: Status['bytes']): number | null {
  const here = cache + zero + (passthrough ?? 0);
  return here + server === 0 ? null : here / (here + server);
}

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
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
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
function diskFailure({ errno, message }: FsError): Failure {
  return new Failure({ code: ErrorCode.io, message: `the cache: ${message}`, errno });
}

function failureOf(error: FsError, signal: AbortSignal, path?: string): Failure {
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
