/**
 * Whether a directory is a place for the cache: on a file system of this host. Over the network it
 * would fetch from one server what it had from another, and in a FUSE mount a daemon could come to
 * wait for itself, or for another one.
 */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

/** f_type of statfs(2), from linux/magic.h and the file systems' own sources. */
const elsewhere: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS, the cache would go over the network'],
  [0x517b, 'SMB, the cache would go over the network'],
  [0xff534d42, 'CIFS, the cache would go over the network'],
  [0xfe534d42, 'SMB, the cache would go over the network'],
  [0x5346414f, 'AFS, the cache would go over the network'],
  [0x00c36400, 'Ceph, the cache would go over the network'],
  [0x65735546, 'FUSE, the cache would wait for the daemon of another mount'],
]);

/**
 * Why there can be no cache in `directory`, in one clause; undefined where there can, and where
 * nothing is known. What is not there yet will be where its nearest parent is.
 */
export async function notLocal(
  directory: string,
  typeOf: (path: string) => Promise<number> = fileSystemType,
): Promise<string | undefined> {
  for (let path = directory; ; path = dirname(path)) {
    try {
      const type = await typeOf(path);
      const what = elsewhere.get(type >>> 0);
      return what === undefined ? undefined : `it is on ${what}`;
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isMissing || dirname(path) === path) return undefined;
    }
  }
}

async function fileSystemType(path: string): Promise<number> {
  return (await statfs(path)).type;
}
