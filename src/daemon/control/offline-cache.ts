/**
 * The cache without a daemon, in the words of the control socket: who asks need not know whether
 * one runs.
 */
import { join } from 'node:path';
import { err, ok, type Result } from '../../base/result.ts';
import type { CatalogueLine } from '../../cache/catalogue.ts';
import type { FileIo } from '../../cache/file-io.ts';
import { NativeFileIo } from '../../cache/native-file-io.ts';
import { type OfflineExport, openOffline } from '../../cache/offline.ts';
import type { Exported, UnsentKept } from '../../cache/offline-unsent.ts';
import { type FsError, localError } from '../../errors/fs-error.ts';
import { imageLine } from './cache-control.ts';
import { setPinnedOffline } from './offline-pins.ts';
import type { ImageLine, Progress, ResultOf } from './schema.ts';

/** One export of the cache, locked until `close` of the whole. */
export interface OfflineCache {
  /** As mounted, `server:port:/export`. */
  readonly source: string;
  images(choice: ImageChoice): Promise<Result<ResultOf<'images'>, FsError>>;
  verify(choice: ImageChoice, watch: OfflineWatch): Promise<Result<ResultOf<'verify'>, FsError>>;
  /** Pinned images only by `force`. */
  evict(
    choice: ImageChoice,
    watch: OfflineWatch,
    force: boolean,
  ): Promise<Result<ResultOf<'evict'>, FsError>>;
  setPinned(choice: ImageChoice, pinned: boolean): Promise<Result<void, FsError>>;
  unsent(): Promise<UnsentKept[]>;
  /** Copies what is known of a file into a new one. */
  exportUnsent(
    kept: UnsentKept,
    to: string,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): Promise<Result<Exported, FsError>>;
}

export type { Exported, UnsentKept };

export type ImageChoice = (image: ImageLine) => boolean;

export interface OfflineWatch {
  readonly signal: AbortSignal;
  onProgress(progress: Progress): void;
}

/** An export that a daemon, or another command, has. */
export interface CacheInUse {
  readonly source: string | undefined;
  /** Of the daemon that has it, where there is one. */
  readonly socket: string | undefined;
  readonly mountpoint: string | undefined;
  readonly message: string;
}

export interface OpenedCaches {
  readonly caches: readonly OfflineCache[];
  readonly inUse: readonly CacheInUse[];
  /** Gives the locks back. */
  close(): Promise<void>;
}

/** Opens all that is in a cache directory and that no daemon has. The error is one clause. */
export async function openOfflineCaches(cacheDir: string): Promise<Result<OpenedCaches, string>> {
  const io = NativeFileIo.open();
  if (!io.ok) return io;
  const opened = await openOffline({ cacheDir, io: io.value, pid: process.pid });
  if (!opened.ok) {
    await io.value.close();
    return err(opened.error.message);
  }
  const { exports, inUse } = opened.value;
  return ok({
    caches: exports.map((one) => offlineCache(one, io.value)),
    inUse: inUse.map(({ source, holder, message }) => ({
      source,
      socket: holder?.socket === '' ? undefined : holder?.socket,
      mountpoint: holder?.mountpoint === '' ? undefined : holder?.mountpoint,
      message,
    })),
    async close() {
      for (const one of exports) await one.close();
      await io.value.close();
    },
  });
}

function offlineCache(one: OfflineExport, io: FileIo): OfflineCache {
  const chosen = (choice: ImageChoice) => (line: CatalogueLine) => choice(imageLine(line));
  const interrupted = ({ signal }: OfflineWatch, operation: string) =>
    signal.aborted ? err(localError('EINTR', operation)) : undefined;
  return {
    source: one.source,
    async images(choice) {
      const [lines, allocated] = [await one.list(), await one.allocatedBytes()];
      if (!lines.ok) return lines;
      if (!allocated.ok) return allocated;
      const images = lines.value.map(imageLine).filter(choice);
      const cache = {
        directory: one.path,
        allocatedBytes: allocated.value,
        limitBytes: null,
      };
      return ok({ cache, images });
    },
    async verify(choice, watch) {
      const verified = await one.verify(chosen(choice), watch);
      if (!verified.ok) return verified;
      const { images, checkedBytes, damagedBytes, damaged, setAside } = verified.value;
      const result = { images, checkedBytes, damagedBytes, damaged, setAside };
      return interrupted(watch, 'verify') ?? ok(result);
    },
    async evict(choice, watch, force) {
      const evicted = await one.evict(chosen(choice), { ...watch, force });
      return evicted.ok ? (interrupted(watch, 'evict') ?? evicted) : evicted;
    },
    unsent: () => one.unsent(),
    exportUnsent: (kept, to, onProgress) => one.exportUnsent(kept, to, onProgress),
    async setPinned(choice, pinned) {
      const lines = await one.list();
      if (!lines.ok) return lines;
      const meant = lines.value.filter(chosen(choice));
      if (meant.length === 0) return err(localError('ENOENT', 'pin', 'there is no such image'));
      for (const { id } of meant) {
        const set = await setPinnedOffline(join(one.path, id), pinned, io);
        if (!set.ok) return set;
      }
      return ok(undefined);
    },
  };
}
