/**
 * An open file outlives its name: NFSv3 has no open files, so a file that is deleted or renamed
 * over while it is open here is renamed to `.nfs…` instead, and removed at its last close.
 *
 * The name is visible, as with every NFS client: a directory that holds one is not empty.
 */
import { randomBytes } from 'node:crypto';
import type { Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { ok } from '../base/result.ts';
import { keepingImage } from './file-images.ts';
import { type Inode, whileLeaving } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { nameKey } from './names.ts';
import type { Outcome } from './operations.ts';
import { takingName } from './unsent-files.ts';

/** Whether deleting this name of the inode must hide the file instead. */
export function mustHide(state: MountState, inode: Inode): boolean {
  const { known } = inode.attributes;
  if (inode.silly !== undefined || known?.type === 'directory') return false;
  return inode.opens > 0 || state.isExpected(inode);
}

/** Whether the name is the one that keeps a deleted open file alive. */
export function isHiddenName(inode: Inode, directory: Inode, name: Name): boolean {
  const { silly } = inode;
  return silly?.directory === directory && nameKey(silly.name) === nameKey(name);
}

/** Moves the open `inode` from its name out of the way. */
export async function hideOpenFile(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  inode: Inode,
): Outcome<void> {
  const hidden = newSillyName(inode);
  const moving = moveName(state, as, directory, name, hidden);
  // Said at once: another name of the file may be removed meanwhile, or its last handle closed.
  inode.silly = { directory, name: hidden, as, moved: moving.then(({ ok }) => ok) };
  state.inodes.pin(directory);
  state.attributes.ctimeMoves(inode.attributes);
  const moved = await moving;
  state.attributes.ctimeMoved(inode.attributes);
  if (!moved.ok) {
    forgetSillyName(state, inode);
    return moved;
  }
  state.names.set(directory, name, undefined, directory.attributes.contentVersion);
  inode.image?.changed();
  return ok(undefined);
}

/** Gives a hidden file its name back, when what it made room for has failed. */
export async function unhide(
  state: MountState,
  as: Credentials,
  inode: Inode,
  name: Name,
): Promise<void> {
  const { silly } = inode;
  if (silly === undefined) return;
  const moved = await moveName(state, as, silly.directory, silly.name, name);
  if (!moved.ok) return;
  state.names.delete(silly.directory, name);
  forgetSillyName(state, inode);
}

/** The file has been renamed on purpose: its name is no longer to be removed. */
export function forgetSillyName(state: MountState, inode: Inode): void {
  const { silly } = inode;
  if (silly === undefined) return;
  inode.silly = undefined;
  state.inodes.unpin(silly.directory);
}

/** Removes the hidden name, if nobody has come to need it: the file is gone for good. */
export async function removeHiddenName(
  state: MountState,
  inode: Inode,
  isNeeded: () => boolean,
): Promise<void> {
  const { silly } = inode;
  if (silly === undefined || !(await silly.moved) || inode.silly !== silly || isNeeded()) return;
  inode.silly = undefined;
  const isLast = await isLastName(state, silly.as, inode);
  inode.unlinked = isLast;
  const remove = () => removeHidden(state, inode, silly);
  await whileLeaving(
    inode,
    state.changing(() => (isLast ? remove() : keepingImage(state, silly.as, inode, remove))),
  );
  state.inodes.unpin(silly.directory);
}

/** Whether the file is gone with this name: if it was its only one, as far as is known. */
async function isLastName(state: MountState, as: Credentials, inode: Inode): Promise<boolean> {
  const { attributes } = state;
  const { known } = inode.attributes;
  // One name that is known of means one at least.
  if (known !== undefined && known.nlink > 1 && !attributes.isCertain(inode.attributes)) {
    await state.askOrKnow(as, inode);
  }
  return (inode.attributes.known?.nlink ?? 1) <= 1;
}

async function removeHidden(
  state: MountState,
  inode: Inode,
  hidden: { readonly directory: Inode; readonly name: Name; readonly as: Credentials },
): Promise<void> {
  const { directory, name, as } = hidden;
  state.attributes.ctimeMoves(inode.attributes);
  const change = state.beginChange(directory);
  const remove = () => state.server.remove(as, directory.file, name);
  const result = await takingName(as, inode, remove);
  state.attributes.ctimeMoved(inode.attributes);
  state.endChange(directory, change, result.ok ? result.value : result.error.wcc);
  if (!result.ok && result.error.errno !== 'ENOENT') {
    state.events.sillyNameLeft?.(directory.ino, name, result.error);
  }
}

async function moveName(
  state: MountState,
  as: Credentials,
  directory: Inode,
  from: Name,
  to: Name,
): Outcome<void> {
  const change = state.beginChange(directory);
  const result = await state.server.rename(
    as,
    { directory: directory.file, name: from },
    { directory: directory.file, name: to },
  );
  state.endChange(directory, change, result.ok ? result.value.to : result.error.wcc);
  if (result.ok) return ok(undefined);
  if (result.error.errno === 'ENOENT' && result.error.retransmitted === true) {
    // Sent twice, and the first may have done it: then the new name is there.
    const found = await state.server.lookup(as, directory.file, to);
    if (found.ok) return ok(undefined);
  }
  return state.failed(directory, result.error);
}

/** Unique among all clients: the file's number, and 64 bits of chance. */
function newSillyName(inode: Inode): Name {
  const fileid = inode.attributes.known?.fileid ?? 0n;
  const unique = randomBytes(8).toString('hex');
  return Buffer.from(`.nfs${fileid.toString(16).padStart(16, '0')}${unique}`) as Name;
}
