/** Mounts whose writes the local disk acknowledges, and what it takes to have them sent. */
import { cacheDirectory, gvfs, mountCached } from '../cache/cached-mount.ts';
import type { Mount, Site } from '../site.ts';

export interface WrittenMount {
  readonly directory: string;
  /** Seconds until the server has all of it. */
  writeBack(path?: string): Promise<number>;
  /** Unmounts, and removes the cache. */
  close(): Promise<void>;
}

/** A mount with a cache of its own, session=exclusive. */
export function writtenMount(site: Site, write: 'back' | 'deferred'): WrittenMount {
  const cache = cacheDirectory();
  const mount: Mount = mountCached(site, cache.path, 'exclusive', `write=${write}`);
  const writeBack = async (path = mount.directory) => {
    const began = performance.now();
    await gvfs('write-back', path);
    return (performance.now() - began) / 1000;
  };
  return {
    directory: mount.directory,
    writeBack,
    async close() {
      await writeBack(); // or the daemon would go on sending after the unmount
      mount.unmount();
      cache.remove();
    },
  };
}
