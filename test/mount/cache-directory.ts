/** A directory for a mount's cache, on the disk that temporary files are on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface CacheDirectory {
  readonly path: string;
  remove(): void;
}

export function cacheDirectory(): CacheDirectory {
  const path = mkdtempSync(join(tmpdir(), 'gvfs-cache-'));
  const remove = () => rmSync(path, { recursive: true, force: true });
  process.once('exit', remove);
  return {
    path,
    remove: () => {
      process.off('exit', remove);
      remove();
    },
  };
}
