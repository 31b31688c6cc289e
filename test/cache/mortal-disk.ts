/** The local disk, for a daemon that is killed when it goes for one change too many. */
import { closeSync } from 'node:fs';
import type { FileIo } from '../../src/cache/file-io.ts';
import { nodePathIo, type PathIo } from '../../src/cache/path-io.ts';
import { Killed } from './paper-disk.ts';

export interface MortalDisk {
  readonly io: FileIo;
  readonly paths: PathIo;
  /** Closes what the daemon had open, as its end does. */
  bury(): void;
}

export function mortalDisk(under: FileIo, killAfter: number): MortalDisk {
  const fds = new Set<number>();
  let changes = 0;
  const change = <T>(work: () => Promise<T>): Promise<T> => {
    if (changes >= killAfter) return Promise.reject(new Killed());
    changes += 1;
    return work();
  };
  const io: FileIo = {
    store: (...args) => change(() => under.store(...args)),
    overwrite: (...args) => change(() => under.overwrite(...args)),
    write: (...args) => change(() => under.write(...args)),
    read: (...args) => under.read(...args),
    sums: (...args) => under.sums(...args),
    punch: (...args) => change(() => under.punch(...args)),
    truncate: (...args) => change(() => under.truncate(...args)),
    sync: (...args) => change(() => under.sync(...args)),
    size: (...args) => under.size(...args),
    lock: (fd) => under.lock(fd),
    close: () => Promise.resolve(),
  };
  const paths: PathIo = {
    ...nodePathIo,
    async open(path, how) {
      const opened = await (how === 'existing'
        ? nodePathIo.open(path, how)
        : change(() => nodePathIo.open(path, how)));
      if (opened.errno === 0) fds.add(opened.fd);
      return opened;
    },
    close: (fd) => {
      fds.delete(fd);
      return nodePathIo.close(fd);
    },
    makeDirectory: (path) => change(() => nodePathIo.makeDirectory(path)),
    rename: (...args) => change(() => nodePathIo.rename(...args)),
    remove: (path) => change(() => nodePathIo.remove(path)),
    removeDirectory: (path) => change(() => nodePathIo.removeDirectory(path)),
    sync: (path) => change(() => nodePathIo.sync(path)),
  };
  return {
    io,
    paths,
    bury() {
      for (const fd of fds) closeSync(fd);
      fds.clear();
    },
  };
}
