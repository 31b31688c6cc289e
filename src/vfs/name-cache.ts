/**
 * Names that are known to be an inode, or known not to exist.
 *
 * A name is believed only under the content version of its directory that it was learned with: a
 * change by another client moves the version and so drops all names of the directory at once; a
 * change of ours leaves it, and tells the cache of the name. Whether the version itself is up to
 * date is the attribute cache's business: look there first.
 *
 * After a handle has turned out to be stale no name is believed that was learned before: one of
 * them led there, and the kernel, which now looks the whole path up again, must not be led there
 * a second time.
 */
import { LRUCache } from 'lru-cache';
import type { Ino, Name } from '../base/brand.ts';
import type { Inode } from './inodes.ts';
import { nameKey } from './names.ts';

/** `inode` undefined: the name does not exist. */
export interface CachedName {
  readonly inode: Inode | undefined;
  readonly version: number;
  readonly era: number;
}

export interface NameCachePins {
  pin(inode: Inode): void;
  unpin(inode: Inode): void;
}

export class NameCache {
  readonly #names: LRUCache<string, CachedName>;
  readonly #pins: NameCachePins;
  readonly #learned: () => void;
  #era = 0;

  constructor(maxEntries: number, pins: NameCachePins, learned: () => void = () => undefined) {
    this.#pins = pins;
    this.#learned = learned;
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
    const { version, era, inode } = cached;
    const isTrue = version === directory.attributes.contentVersion && era === this.#era;
    if (isTrue && inode?.superseded !== true) return cached;
    this.#names.delete(key);
    return undefined;
  }

  /** `version`: the directory's content version that the name is true of. */
  set(directory: Inode, name: Name, inode: Inode | undefined, version: number): void {
    if (inode !== undefined) {
      this.#pins.pin(inode);
      inode.place = { directory, name: Buffer.from(name) as Name };
    }
    this.#learned();
    this.#names.set(cacheKey(directory, name), { inode, version, era: this.#era });
  }

  delete(directory: Inode, name: Name): void {
    this.#names.delete(cacheKey(directory, name));
  }

  /** No name that was learned before is believed any more. */
  distrustAll(): void {
    this.#era += 1;
  }

  /** The names of a directory that are kept, existing or not. It looks at every name there is. */
  namesIn(directory: Ino): Name[] {
    const prefix = `${directory}/`;
    const names: Name[] = [];
    for (const key of this.#names.keys()) {
      if (key.startsWith(prefix)) {
        names.push(Buffer.from(key.slice(prefix.length), 'latin1') as Name);
      }
    }
    return names;
  }

  /** All names, the last used first. */
  *all(): IterableIterator<{ directory: Ino; name: Name; cached: CachedName }> {
    for (const [key, cached] of this.#names.entries()) {
      if (cached.era !== this.#era || cached.inode?.superseded === true) continue;
      const slash = key.indexOf('/');
      const name = Buffer.from(key.slice(slash + 1), 'latin1') as Name;
      yield { directory: Number(key.slice(0, slash)) as Ino, name, cached };
    }
  }

  clear(): void {
    this.#names.clear();
  }
}

function cacheKey(directory: Inode, name: Name): string {
  return `${directory.ino}/${nameKey(name)}`;
}
