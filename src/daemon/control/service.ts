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
import type { Ino, Name } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import type { ErrnoName } from '../../errors/errno.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import { bytesOf, harmless } from '../../observe/printable.ts';
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
    const paths = new Map(openFiles.map(({ ino, path }) => [ino, harmless(path)]));
    const waiting = kernel.waiting().toSorted((one, other) => other.ageMs - one.ageMs);
    return {
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
      ...snapshot,
      hitRatio: hitRatio(snapshot.bytes),
      open: openFiles.map((file) => ({
        path: harmless(file.path),
        sizeBytes: file.sizeBytes,
        presentBytes: presentOf(cache?.find(file.file), file.sizeBytes),
        readers: file.readers,
        writers: file.writers,
        servedBy: file.servedBy,
        why: file.why ?? null,
      })),
      waiting: waiting.slice(0, WAITING_LISTED_MAX).map(({ operation, ino, ageMs }) => ({
        operation,
        path: paths.get(ino) ?? this.#pathOf(ino) ?? null,
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
    await this.#lookForPinned(cache, images, call.signal);
    return { cache: this.#cacheUse(), images };
  }

  /** Notes which of the pinned images the server does not have any more, as far as it says soon. */
  async #lookForPinned(
    cache: ControlledCache,
    images: ImageLine[],
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#controlled.snapshot().server.state !== 'up') return;
    const limit = new AbortController();
    const timer = this.#clock.after(NAME_LIMIT_MS, () => limit.abort());
    const until = AbortSignal.any([limit.signal, signal]);
    for (const [at, image] of images.entries()) {
      if (!image.pinned || image.open || image.path === '') continue;
      const located = await this.#locate(image.path, until);
      if (until.aborted) break;
      const isThere = !(located instanceof Failure) && cache.idOf(located.file) === image.id;
      const isKnown = !(located instanceof Failure) || located.error.errno === 'ENOENT';
      images[at] = { ...image, gone: isKnown ? !isThere : null };
    }
    timer.cancel();
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
      const message = `the range is not within the file, which has ${sizeBytes} bytes`;
      return new Failure({ code: ErrorCode.badParams, message });
    }
    const check = params.check ?? false;
    const { path } = params;
    const totalBytes = range.end - range.start;
    let presentBytes = 0;
    if (params.background === true) {
      const present = await this.#withImage(cache, located, call.signal, async (image) =>
        ok(image.presentBytes(range)),
      );
      if (present instanceof Failure) return present;
      presentBytes = Math.min(present, totalBytes);
    }
    const task = this.#tasks.begin('warm', path, totalBytes);
    const work = (watch: Watch) =>
      this.#withImage(cache, located, watch.signal, async (image) => {
        const warmed = await image.warm(range, { ...watch, as: this.#controlled.as, check });
        return warmed.ok
          ? ok({ ...warmed.value, presentBytes: image.presentBytes(range) })
          : warmed;
      });
    if (params.background === true) {
      const watch = { signal: this.#closing.signal, onProgress: task.progress };
      void work(watch).then((warmed) => {
        task.end(warmed instanceof Failure ? warmed.error.message : undefined);
      });
      const nothingYet = { fetchedBytes: 0, damagedBytes: 0 };
      return { path, totalBytes, presentBytes, ...nothingYet, task: task.id };
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
    presentBytes = Math.min(warmed.presentBytes, totalBytes);
    const { fetchedBytes, damagedBytes } = warmed;
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
    const setAside: { path: string; why: string }[] = [];
    try {
      for (const { id, path, state, why } of chosen) {
        if (state === 'damaged') {
          // Nothing says which bytes these are: there is nothing to compare.
          const dropped = await cache.evict(id);
          if (!dropped.ok) return diskFailure(dropped.error);
          setAside.push({ path: path === '' ? id : path, why: why ?? 'it is not whole' });
          continue;
        }
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
    return { images: chosen.length, checkedBytes, damagedBytes, damaged, setAside };
  }

  async #evict(params: ParamsOf<'evict'>, call: Call): Promise<Outcome<'evict'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const chosen = await this.#choose(cache, params.path, call);
    if (chosen instanceof Failure) return chosen;
    let images = 0;
    let freedBytes = 0;
    const kept: { path: string; why: string }[] = [];
    for (const { id, path: hint, pinned } of chosen) {
      if (call.signal.aborted) return cancelled;
      const path = hint === '' ? id : hint;
      if (pinned && params.force !== true) {
        kept.push({ path, why: 'it is pinned' });
        continue;
      }
      const unpinned = pinned ? await cache.setPinned(id, false) : ok(undefined);
      if (!unpinned.ok) return diskFailure(unpinned.error);
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
    const listed = await cache.list(call.signal);
    if (!listed.ok) return diskFailure(listed.error);
    const kept = listed.value;
    if (kept.some(({ id }) => id === path)) return setAll([path]);
    const located = await this.#image(path, call.signal);
    const ofName = kept.filter((image) => image.path === path);
    if (located instanceof Failure) {
      // Unknown to the server, or it is away: the cache itself may know the name.
      const cannot = ofName.length === 0 || located.error.code === ErrorCode.notAnImage;
      return cannot ? located : setAll(ofName.map(({ id }) => id));
    }
    // Opened, since an image that nobody has read yet is to be pinned, too.
    const current = cache.idOf(located.file);
    const done = await this.#withImage(cache, located, call.signal, () =>
      cache.setPinned(current, pinned),
    );
    if (done instanceof Failure || pinned) return done instanceof Failure ? done : { path, pinned };
    const before = ofName.filter((image) => image.pinned && image.id !== current);
    return setAll(before.map(({ id }) => id));

    async function setAll(ids: readonly string[]): Promise<ResultOf<'pin'> | Failure> {
      for (const id of ids) {
        const set = await cache?.setPinned(id, pinned);
        if (set?.ok === false) return diskFailure(set.error);
      }
      return { path, pinned };
    }
  }

  async #failWaiting({ path = '' }: ParamsOf<'failWaiting'>): Promise<Outcome<'failWaiting'>> {
    const { files, kernel } = this.#controlled;
    const fail = (inodes: ReadonlySet<Ino>): ResultOf<'failWaiting'> => {
      const failed = [...inodes].reduce((sum, ino) => sum + kernel.failWaiting(ino), 0);
      return { failed, waitElsewhere: kernel.waiting().length };
    };
    const waiting = new Set(kernel.waiting().map(({ ino }) => ino));
    if (path === '') return fail(waiting);
    // Who waits to open it has not opened it yet.
    const isMeant = (ino: Ino) => this.#pathOf(ino) === path;
    const open = files.openFiles().filter((file) => harmless(file.path) === path);
    const inodes = new Set([...open.map(({ ino }) => ino), ...[...waiting].filter(isMeant)]);
    if (inodes.size > 0) return fail(inodes);
    const limit = new AbortController();
    const timer = this.#clock.after(NAME_LIMIT_MS, () => limit.abort());
    const located = await this.#locate(path, limit.signal);
    timer.cancel();
    if (!(located instanceof Failure)) return fail(new Set([located.ino]));
    if (!limit.signal.aborted) return located;
    const message = 'it is not open, and the server does not say what it is';
    return new Failure({ code: ErrorCode.path, message, errno: 'ETIMEDOUT' });
  }

  /** Without asking the server. */
  #pathOf(ino: Ino): string | undefined {
    const path = this.#controlled.files.pathOf?.(ino);
    return path === undefined ? undefined : harmless(path);
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
    const named = all.value.filter(({ id }) => id === path);
    if (named.length > 0) return named;
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

function presentOf(image: ControlledImage | undefined, sizeBytes: number): number | null {
  return image === undefined ? null : Math.min(image.presentBytes(), sizeBytes);
}

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
