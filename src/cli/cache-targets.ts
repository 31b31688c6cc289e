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
import { call, type Daemon, daemonAt, daemonOf } from './daemon-call.ts';
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
  evict(onProgress: (progress: Progress) => void): Answer<'evict'>;
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
    if (left === undefined) this.#problems.push(error);
    else this.#targets.push(left);
  }

  /** All that is in a cache directory, or the images of these names or ids in it. */
  async directory(directory: string, names: readonly string[]): Promise<void> {
    const opened = await this.#open(directory);
    if (!opened.ok) {
      const toDo = 'name a directory that gvfs-mount has used as cachedir';
      this.#problems.push({ kind: 'cache', what: `no cache in ${directory}`, toDo });
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
      if (this.#targets.length > before) continue;
      const what = `there is no image ${name} in ${directory}`;
      const used = inUse.length > 0 ? ', or ask its daemon, by its path in the mount' : '';
      this.#problems.push({ kind: 'cache', what, toDo: `gvfs cache ls names them${used}` });
    }
  }

  async everything(): Promise<void> {
    for (const mount of await listMounts(this.#shell.mounts)) {
      const daemon = await daemonAt(this.#shell, mount);
      if (daemon.ok) this.#daemon(daemon.value);
      else if (daemon.error.kind === 'reach' && daemon.error.error.kind !== 'notYours') {
        this.#problems.push(daemon.error);
      }
    }
    const opened = await this.#openDefault();
    for (const cache of opened?.caches ?? []) {
      this.#targets.push(this.#offline(cache, cache.source));
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
      evict: (onProgress) => call(shell, daemon, 'evict', { path }, onProgress),
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

  #offline(cache: OfflineCache, typed: string, choice?: ImageChoice): CacheTarget {
    const all = choice ?? (() => true);
    return {
      source: cache.source,
      mountpoint: null,
      isOneImage: choice !== undefined,
      typed,
      images: async () => translated(await cache.images(all)),
      verify: async (onProgress) => this.#watched(onProgress, (watch) => cache.verify(all, watch)),
      evict: async (onProgress) => this.#watched(onProgress, (watch) => cache.evict(all, watch)),
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
    return this.#default;
  }

  async #open(directory: string): Promise<Result<OpenedCaches, string>> {
    const opened = await openOfflineCaches(directory);
    if (opened.ok) this.#closers.push(() => opened.value.close());
    return opened;
  }
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
  const { message } = result.error;
  return err({ kind: 'cache', what: message, toDo: "look at the cache's disk" });
}
