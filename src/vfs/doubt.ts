/**
 * Doubt in everything that is known: the middleware says that another host may have changed the
 * export. In any session the next use of a file or directory asks the server, and what has changed
 * is then dropped as usual; what has not stays, the bytes in the cache above all. Of a file that
 * was written here in a shared session that cannot be told, and nothing stays.
 */
import type { Ino } from '../base/brand.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { ROOT_INO } from './operations.ts';

/** Of a file and the name that it was last seen under; without one of everything. */
export function doubt(state: MountState, ino?: Ino): void {
  state.knowledge?.doubt();
  if (ino === undefined) {
    state.images?.distrustWritten(undefined);
    for (const inode of [...state.inodes.all()]) doubtOne(state, inode);
    return;
  }
  const inode = state.inodes.get(ino);
  if (inode === undefined) return;
  doubtOne(state, inode);
  if (inode.place !== undefined) doubtOne(state, inode.place.directory);
}

function doubtOne(state: MountState, inode: Inode): void {
  const { attributes, ino } = inode;
  state.images?.distrustWritten(inode);
  state.attributes.doubt(attributes);
  const isKnown = inode.lookups > 0 || ino === ROOT_INO;
  if (!isKnown) return;
  if (attributes.known?.type === 'directory') {
    const names = state.names.namesIn(ino);
    if (names.length > 0) state.events.namesRevoked?.(ino, names);
  } else {
    state.events.changedByOthers?.(ino);
  }
}
