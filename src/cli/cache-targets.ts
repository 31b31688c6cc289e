/**
 * Which caches a `gvfs cache` command is about, whoever has them: daemons, reached by the paths of
 * files in their mounts, or the directory itself where none runs.
 *
 *   --cachedir DIR   what is in DIR; what a daemon has of it, by that daemon
 *   PATH...          the daemon of each; if it is gone, what it left in the default directory
 *   neither          every mount that is ours, and what else is in the default directory
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import { defaultCacheDirectory } from '../config/default-paths.ts';
import { connectTo } from '../daemon/control/client.ts';
import { findMount } from '../daemon/control/find.ts';
import {
  type CacheInUse,
  type ImageChoice,
  type OfflineCache,
  type OfflineWatch,
  type OpenedCaches,
  openOfflineCaches,
} from '../daemon/control/offline-cache.ts';
import { listMounts } from '../daemon/control/reach.ts';
import type { Progress, ResultOf } from '../daemon/control/schema.ts';
import type { FsError } from '../errors/fs-error.ts';
import { cacheRefusalAdvice, isAnothers } from './cache-refusal.ts';
import {
  call,
  type Daemon,
  daemonAt,
  daemonOf,
  detachedHere,
  endedMeanwhile,
} from './daemon-call.ts';
import type { GvfsError } from './gvfs-errors.ts';
import type { Shell } from './shell.ts';

type Answer<M extends 'images' | 'verify' | 'evict'> = Promise<Result<ResultOf<M>, GvfsError>>;

/** A cache, or one image of it. */
export interface CacheTarget {
  readonly source: string;
  /** null where it is not mounted, or nobody serves it. */
  readonly mountpoint: string | null;
  /** Whether the user named an image, and not a whole cache. */
  readonly isOneImage: boolean;
  /** What the user called it. */
  readonly typed: string;
  images(): Answer<'images'>;
  verify(onProgress: (progress: Progress) => void): Answer<'verify'>;
  evict(onProgress: (progress: Progress) => void, force: boolean): Answer<'evict'>;
  setPinned(pinned: boolean): Promise<Result<unknown, GvfsError>>;
}

export interface CacheTargets {
  readonly targets: readonly CacheTarget[];
  /** What could not be had; the rest goes on. */
  readonly problems: readonly GvfsError[];
  close(): Promise<void>;
}

export interface TargetRequest {
  readonly paths: readonly string[];
  readonly cachedir: string | undefined;
}

export async function openTargets(shell: Shell, request: TargetRequest): Promise<CacheTargets> {
  const opening = new Opening(shell);
  const { paths, cachedir } = request;
  if (cachedir !== undefined) {
    await opening.directory(resolve(shell.workingDirectory, cachedir), paths);
  } else if (paths.length > 0) {
    for (const path of paths) await opening.path(path);
  } else {
    await opening.everything();
  }
  return opening.done();
}

class Opening {
  readonly #shell: Shell;
  readonly #targets: CacheTarget[] = [];
  readonly #problems: GvfsError[] = [];
  readonly #closers: (() => unknown)[] = [];
  /** The default cache directory, once it was opened. */
  #default: OpenedCaches | undefined;
  /** Why it could not be, if it is there. */
  #refused: GvfsError | undefined;

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  /** A path in a mount. */
  async path(typed: string): Promise<void> {
    const daemon = await daemonOf(this.#shell, typed);
    if (daemon.ok) {
      this.#daemon(daemon.value);
      return;
    }
    const { error } = daemon;
    const isLeft = error.kind === 'reach' && error.error.kind === 'noDaemon';
    const left = isLeft ? await this.#leftBehind(typed) : undefined;
    if (left !== undefined) this.#targets.push(left);
    else if (!(await this.#byId(typed))) this.#problems.push(error);
  }

  /** An image that is named by its id, whoever has it. */
  async #byId(typed: string): Promise<boolean> {
    if (!/^[\da-f]{32}$/.test(typed)) return false;
    const all = new Opening(this.#shell);
    await all.everything(typed);
    const { targets, close } = all.done();
    this.#closers.push(close);
    for (const target of targets) {
      const found = await target.images();
      if (found.ok && found.value.images.length > 0) this.#targets.push(target);
    }
    return this.#targets.length > 0;
  }

  /** All that is in a cache directory, or the images of these names or ids in it. */
  async directory(directory: string, names: readonly string[]): Promise<void> {
    const opened = await this.#open(directory);
    if (!opened.ok) {
      this.#problems.push(refusal(directory, opened.error));
      return;
    }
    const { caches, inUse } = opened.value;
    if (names.length === 0) {
      for (const cache of caches) this.#targets.push(this.#offline(cache, cache.source));
      for (const used of inUse) await this.#inUse(used);
      return;
    }
    for (const name of names) {
      const choice = called(name);
      const before = this.#targets.length;
      for (const cache of caches) {
        const found = await cache.images(choice);
        if (found.ok && found.value.images.length === 0) continue;
        this.#targets.push(this.#offline(cache, name, choice));
      }
      for (const used of inUse) await this.#inUseWith(used, name);
      if (this.#targets.length > before) continue;
      const what = `there is no image ${name} in ${directory}`;
      this.#problems.push({ kind: 'cache', what, toDo: 'gvfs cache ls names them' });
    }
  }

  /** All images, or the one of an id. */
  async everything(id?: string): Promise<void> {
    const as = (daemon: Daemon) => (id === undefined ? daemon : { ...daemon, path: id, typed: id });
    for (const mount of await listMounts(this.#shell.mounts)) {
      const daemon = await daemonAt(this.#shell, mount);
      if (daemon.ok) this.#daemon(as(daemon.value));
      else if (daemon.error.kind === 'reach' && daemon.error.error.kind !== 'notYours') {
        const isOver = await endedMeanwhile(this.#shell, mount.mountpoint, daemon.error);
        if (!isOver) this.#problems.push(daemon.error);
      }
    }
    for (const daemon of await detachedHere(this.#shell)) {
      if (daemon.status.cache === null) daemon.client.close();
      else this.#daemon(as(daemon));
    }
    const opened = await this.#openDefault();
    if (opened === undefined && this.#refused !== undefined) this.#problems.push(this.#refused);
    const choice = id === undefined ? undefined : called(id);
    for (const cache of opened?.caches ?? []) {
      this.#targets.push(this.#offline(cache, id ?? cache.source, choice));
    }
  }

  done(): CacheTargets {
    const [targets, problems, closers] = [this.#targets, this.#problems, this.#closers];
    return {
      targets,
      problems,
      async close() {
        for (const close of closers) await close();
      },
    };
  }

  #daemon(daemon: Daemon): void {
    const { client, mount, path, typed } = daemon;
    const shell = this.#shell;
    this.#closers.push(() => client.close());
    this.#targets.push({
      source: mount.source,
      mountpoint: mount.mountpoint,
      isOneImage: path !== '',
      typed,
      images: () => call(shell, daemon, 'images', { path }),
      verify: (onProgress) => call(shell, daemon, 'verify', { path }, onProgress),
      evict: (onProgress, force) => call(shell, daemon, 'evict', { path, force }, onProgress),
      setPinned: (pinned) => call(shell, daemon, pinned ? 'pin' : 'unpin', { path }),
    });
  }

  /** Of a mount whose daemon is gone. */
  async #leftBehind(typed: string): Promise<CacheTarget | undefined> {
    const { mounts, workingDirectory } = this.#shell;
    const lines = await mounts.lines();
    const found = findMount(this.#shell.bytesOf(typed), workingDirectory, lines);
    const opened = await this.#openDefault();
    if (found === undefined || opened === undefined) return undefined;
    const { path, mount } = found;
    const cache = opened.caches.find(({ source }) => withoutPort(source) === mount.source);
    if (cache === undefined) return undefined;
    const choice = path === '' ? undefined : (image: { path: string }) => image.path === path;
    return this.#offline(cache, typed, choice);
  }

  async #inUse({ source, socket, mountpoint, message }: CacheInUse): Promise<void> {
    const client = socket === undefined ? undefined : await connectTo(socket);
    if (client?.ok !== true) {
      const toDo = 'ask whoever has it, or try again';
      this.#problems.push({ kind: 'cache', what: message, toDo });
      return;
    }
    const at = mountpoint ?? '';
    const mount = { mountpoint: at, mountpoints: [at], source: source ?? '', userId: undefined };
    this.#daemon({ client: client.value, mount, path: '', typed: mount.mountpoint });
  }

  /** If its daemon keeps an image of that name or id. */
  async #inUseWith({ source, socket, mountpoint }: CacheInUse, name: string): Promise<void> {
    const client = socket === undefined ? undefined : await connectTo(socket);
    if (client?.ok !== true) return;
    const listed = await client.value.call('images', {});
    const image = listed.ok ? listed.value.images.find(called(name)) : undefined;
    if (image === undefined) {
      client.value.close();
      return;
    }
    const at = mountpoint ?? '';
    const mount = { mountpoint: at, mountpoints: [at], source: source ?? '', userId: undefined };
    this.#daemon({ client: client.value, mount, path: image.id, typed: name });
  }

  #offline(cache: OfflineCache, typed: string, choice?: ImageChoice): CacheTarget {
    const all = choice ?? (() => true);
    return {
      source: cache.source,
      mountpoint: null,
      isOneImage: choice !== undefined,
      typed,
      images: async () => translated(await cache.images(all)),
      verify: async (onProgress) => this.#watched(onProgress, (watch) => cache.verify(all, watch)),
      evict: async (onProgress, force) =>
        this.#watched(onProgress, (watch) => cache.evict(all, watch, force)),
      setPinned: async (pinned) => translated(await cache.setPinned(all, pinned)),
    };
  }

  async #watched<T>(
    onProgress: (progress: Progress) => void,
    run: (watch: OfflineWatch) => Promise<Result<T, FsError>>,
  ): Promise<Result<T, GvfsError>> {
    const interrupted = new AbortController();
    const release = this.#shell.onInterrupt(() => interrupted.abort());
    const ran = await run({ signal: interrupted.signal, onProgress });
    release();
    return interrupted.signal.aborted ? err({ kind: 'interrupted' }) : translated(ran);
  }

  async #openDefault(): Promise<OpenedCaches | undefined> {
    const directory = defaultCacheDirectory(this.#shell.surroundings);
    if (this.#default !== undefined || directory === undefined || !existsSync(directory)) {
      return this.#default;
    }
    const opened = await this.#open(directory);
    this.#default = opened.ok ? opened.value : undefined;
    this.#refused = opened.ok ? undefined : refusal(directory, opened.error);
    return this.#default;
  }

  async #open(directory: string): Promise<Result<OpenedCaches, string>> {
    const opened = await openOfflineCaches(directory);
    if (opened.ok) this.#closers.push(() => opened.value.close());
    return opened;
  }
}

/** Why a directory is no cache to look into. */
export function refusal(directory: string, why: string): GvfsError {
  const toDo = cacheRefusalAdvice(why);
  if (isAnothers(why)) {
    const what = `${directory} is another user's cache (${why})`;
    return { kind: 'cache', what, toDo: "run gvfs as that user, or as root for root's" };
  }
  if (toDo !== undefined) return { kind: 'cache', what: `the cache is refused, ${why}`, toDo };
  const reason = why.includes('ENOENT') ? '' : ` (${why})`;
  return {
    kind: 'cache',
    what: `no cache in ${directory}${reason}`,
    toDo: 'name a directory that gvfs-mount has used as cachedir',
  };
}

/** Without a mount an image is named by its path in the export, or by its id. */
function called(name: string): ImageChoice {
  const path = name.replace(/^\/+/, '');
  return (image) => image.path === path || image.id === name;
}

/** `server:2049:/export` as it shows when it is mounted. */
function withoutPort(source: string): string {
  return source.replace(/:\d+:\//, ':/');
}

function translated<T>(result: Result<T, FsError>): Result<T, GvfsError> {
  if (result.ok) return ok(result.value);
  const { message, errno } = result.error;
  const toDo = errno === 'ENOENT' ? 'gvfs cache ls names them' : "look at the cache's disk";
  return err({ kind: 'cache', what: message, toDo });
}
