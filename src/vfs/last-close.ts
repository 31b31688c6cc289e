/**
 * What a file's last close leaves to do: committing what is still kept, removing a hidden name.
 * It goes on in the background, because a close of a kernel's never waits for the network here.
 */
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { durability } from './options.ts';
import { removeHiddenName } from './silly-rename.ts';

/** One open less. */
export function closeInode(state: MountState, inode: Inode): void {
  inode.opens -= 1;
  if (inode.opens > 0) return;
  const { writes, silly, image } = inode;
  const isUnsent = image?.local.unsent !== undefined && silly === undefined;
  const mustSend = isUnsent && durability(state.options).close === 'server';
  if (writes?.kept.isEmpty === false || silly !== undefined || mustSend) {
    const finishing = finish(state, inode);
    // Mostly done by the close; what a mapping has changed since comes later. A failure is told to
    // whoever opens the file next, and by the events.
    if (mustSend) void image.local.writeBack();
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
