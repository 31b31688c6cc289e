/**
 * What a file's last close leaves to do: committing what is still kept, removing a hidden name.
 * It goes on in the background, because a close of a kernel's never waits for the network here.
 */
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { removeHiddenName } from './silly-rename.ts';

/** One open less. */
export function closeInode(state: MountState, inode: Inode): void {
  inode.opens -= 1;
  if (inode.opens > 0) return;
  const { writes, silly } = inode;
  if (writes?.kept.isEmpty === false || silly !== undefined) {
    const finishing = finish(state, inode);
    state.inBackground(finishing);
    if (silly !== undefined) {
      const { removals } = silly.directory;
      removals.add(finishing);
      void finishing.finally(() => removals.delete(finishing));
    }
  }
  state.inodes.settle(inode);
}

async function finish(state: MountState, inode: Inode): Promise<void> {
  state.inodes.pin(inode);
  await state.writes.settle(inode);
  await removeHiddenName(state, inode, () => inode.opens > 0);
  state.inodes.unpin(inode);
}
