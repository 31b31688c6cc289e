/**
 * Names that are known to be an inode, or known not to exist.
 *
 * A name is believed only under the content version of its directory that it was learned with: a
 * change by another client moves the version and so drops all names of the directory at once; a
 * change of ours leaves it, and tells the cache of the name. Whether the version itself is up to
 * date is the attribute cache's business: look there first.
 */
import { LRUCache } from 'lru-cache';
import type { Name } from '../base/brand.ts';
import type { Inode } from './inodes.ts';
import { nameKey } from './names.ts';

/** `inode` undefined: the name does not exist. */
export interface CachedName {
  readonly inode: Inode | undefined;
  readonly version: number;
}

export interface NameCachePins {
  pin(inode: Inode): void;
  unpin(inode: Inode): void;
}

export class NameCache {
  readonly #names: LRUCache<string, CachedName>;
  readonly #pins: NameCachePins;

  constructor(maxEntries: number, pins: NameCachePins) {
    this.#pins = pins;
    this.#names = new LRUCache<string, CachedName>({
      max: maxEntries,
      dispose: ({ inode }) => {
        if (inode !== undefined) pins.unpin(inode);
      },
    });
  }

  get(directory: Inode, name: Name): CachedName | undefined {
    const key = cacheKey(directory, name);
    const cached = this.#names.get(key);
    if (cached === undefined) return undefined;
    const outdated = cached.version !== directory.attributes.contentVersion;
    if (!outdated && cached.inode?.stale !== true) return cached;
    this.#names.delete(key);
    return undefined;
  }

  /** `version`: the directory's content version that the name is true of. */
  set(directory: Inode, name: Name, inode: Inode | undefined, version: number): void {
    if (inode !== undefined) this.#pins.pin(inode);
    this.#names.set(cacheKey(directory, name), { inode, version });
  }

  delete(directory: Inode, name: Name): void {
    this.#names.delete(cacheKey(directory, name));
  }

  clear(): void {
    this.#names.clear();
  }
}

function cacheKey(directory: Inode, name: Name): string {
  return `${directory.ino}/${nameKey(name)}`;
}
