/**
 * The methods about images in the cache. Long ones are tasks, which `status` lists: those that run,
 * and the last that ended in the background. They end with the mount, before its last writes are
 * settled: an image that is being warmed would be waited for.
 */
import type { Clock } from '../../base/clock.ts';
import { ok } from '../../base/result.ts';
import type { Controlled, ControlledCache, Watch } from './controlled.ts';
import { cancelled, diskFailure, noCache, type Paths } from './paths.ts';
import { type Call, Failure, type Handlers, type Outcome } from './protocol.ts';
import { ErrorCode, type ImageLine, type ParamsOf, type ResultOf } from './schema.ts';
import type { Tasks } from './tasks.ts';

/** For how long the server is asked which of the pinned images it still has. */
const NAME_LIMIT_MS = 2000;

const PAGE_BYTES = 4096;

type Served = 'images' | 'warm' | 'verify' | 'evict' | 'pin' | 'unpin' | 'map';

export class ImageMethods {
  readonly handlers: Pick<Handlers, Served> = {
    images: (params, call) => this.#images(params, call),
    warm: (params, call) => this.#warm(params, this.#untilTheEnd(call)),
    verify: (params, call) => this.#verify(params, this.#untilTheEnd(call)),
    evict: (params, call) => this.#evict(params, call),
    pin: (params, call) => this.#setPinned(params, call, true),
    unpin: (params, call) => this.#setPinned(params, call, false),
    map: (params, call) => this.#map(params, call),
  };

  readonly #controlled: Controlled;
  readonly #clock: Clock;
  readonly #paths: Paths;
  readonly #tasks: Tasks;
  /** The mount ends. */
  readonly #ending: AbortSignal;

  constructor(
    controlled: Controlled,
    clock: Clock,
    paths: Paths,
    tasks: Tasks,
    ending: AbortSignal,
  ) {
    this.#controlled = controlled;
    this.#clock = clock;
    this.#paths = paths;
    this.#tasks = tasks;
    this.#ending = ending;
  }

  async #images(params: ParamsOf<'images'>, call: Call): Promise<Outcome<'images'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const chosen = await this.#paths.choose(cache, params.path, call);
    if (chosen instanceof Failure) return chosen;
    const inUse = new Set(this.#controlled.files.openFiles().map(({ file }) => cache.idOf(file)));
    // One that is closed stays open for what is unsent of it.
    const images = chosen
      .map((image) => (image.unsent ? { ...image, open: inUse.has(image.id) } : image))
      .toSorted((one, other) => (one.path < other.path ? -1 : 1));
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
      const located = await this.#paths.locate(image.path, until);
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
    const located = await this.#paths.image(params.path, call.signal);
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
      const present = await this.#paths.withImage(cache, located, call.signal, async (image) =>
        ok(image.presentBytes(range)),
      );
      if (present instanceof Failure) return present;
      presentBytes = Math.min(present, totalBytes);
    }
    const task = this.#tasks.begin('warm', path, totalBytes);
    const work = (watch: Watch) =>
      this.#paths.withImage(cache, located, watch.signal, async (image) => {
        const warmed = await image.warm(range, { ...watch, as: this.#controlled.as, check });
        return warmed.ok
          ? ok({ ...warmed.value, presentBytes: image.presentBytes(range) })
          : warmed;
      });
    if (params.background === true) {
      const watch = { signal: this.#ending, onProgress: task.progress };
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
    const chosen = await this.#paths.choose(cache, params.path, call);
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
    const chosen = await this.#paths.choose(cache, params.path, call);
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
    const located = await this.#paths.image(path, call.signal);
    const ofName = kept.filter((image) => image.path === path);
    if (located instanceof Failure) {
      // Unknown to the server, or it is away: the cache itself may know the name.
      const cannot = ofName.length === 0 || located.error.code === ErrorCode.notAnImage;
      return cannot ? located : setAll(ofName.map(({ id }) => id));
    }
    // Opened, since an image that nobody has read yet is to be pinned, too.
    const current = cache.idOf(located.file);
    const done = await this.#paths.withImage(cache, located, call.signal, () =>
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

  async #map({ path, parts }: ParamsOf<'map'>, call: Call): Promise<Outcome<'map'>> {
    const { cache } = this.#controlled;
    if (cache === undefined) return noCache;
    const located = await this.#paths.image(path, call.signal);
    if (located instanceof Failure) return located;
    const counts = await this.#paths.withImage(cache, located, call.signal, async (image) =>
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

  #untilTheEnd(call: Call): Call {
    return { ...call, signal: AbortSignal.any([call.signal, this.#ending]) };
  }
}
