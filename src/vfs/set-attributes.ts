/**
 * SETATTR, ordered against the writes of the same file: a size waits for the WRITEs in flight and
 * cuts what is kept; explicit times wait until nothing is left to send that would move them.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import { localError } from '../errors/fs-error.ts';
import { keepingImage } from './file-images.ts';
import type { OpenFile } from './handles.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome, SetattrChanges } from './operations.ts';
import { Access, type Attributes, type SetAttributes } from './ports.ts';
import { sendSetattr } from './server-changes.ts';

/**
 * `handle`: a size is set in its opener's name, who may write whatever the mode says now. Without
 * one it is truncate(2), for which the owner too needs write permission: a server lets owners pass
 * (RFC 1813, section 4.4), so it is asked first.
 */
export async function setAttributes(
  state: MountState,
  as: Credentials,
  inode: Inode,
  changes: SetattrChanges,
  handle: OpenFile | undefined,
): Outcome<Attributes> {
  const byHandle = changes.size !== undefined && handle?.writable === true;
  if (changes.size !== undefined && !byHandle) {
    const granted = await state.granted(as, inode, Access.MODIFY);
    if (!granted.ok) return granted;
    if (granted.value === 0) return err(localError('EACCES', 'setattr'));
  }
  const name = byHandle ? handle.as : as;
  return keepingImage(state, name, inode, () => applyChanges(state, name, inode, changes));
}

export async function applyChanges(
  state: MountState,
  as: Credentials,
  inode: Inode,
  changes: SetattrChanges,
): Outcome<Attributes> {
  const { size } = changes;
  if (size !== undefined && size > state.server.limits.maxFileSize) {
    return err(localError('EFBIG', 'setattr'));
  }
  if (size !== undefined && inode.recovered !== undefined) {
    const ready = await state.unsentFiles.ready(as, inode);
    if (!ready.ok) return ready;
  }
  const wanted = toWire(inode, changes);
  if (Object.values(wanted).every((value) => value === undefined)) {
    return state.freshAttributes(as, inode);
  }
  const send = () => sendSetattr(state, as, inode, wanted);
  const { mtime } = wanted;
  const explicitTimes = typeof changes.atime === 'bigint' || typeof changes.mtime === 'bigint';
  const isUnsent = inode.image?.local.unsent !== undefined;
  const isMoved = explicitTimes ? inode.writes !== undefined || isUnsent : isUnsent && mtime;
  const mtimeNs = typeof mtime === 'bigint' ? mtime : undefined;
  const set = isMoved
    ? await state.writes.whenDurable(inode, size, mtimeNs, send)
    : await (size === undefined ? send() : state.writes.truncate(inode, size, send));
  if (!set.ok) return set;
  // Shown only now: until the change was answered, bytes that it cut off were still kept.
  const shown = state.shown(inode);
  return set.value && shown !== undefined ? ok(shown) : state.askAttributes(as, inode);
}

function toWire(inode: Inode, changes: SetattrChanges): SetAttributes {
  const { mode, uid, gid, size } = changes;
  // A new size moves mtime by itself; to ask for it as well needs more than write permission.
  const moves = size !== undefined && size !== inode.attributes.known?.size;
  const now = (time: bigint | 'now' | undefined) => (time === 'now' ? 'server' : time);
  const mtime = moves && changes.mtime === 'now' ? undefined : now(changes.mtime);
  const permissions = mode === undefined ? undefined : mode & 0o7777;
  return { mode: permissions, uid, gid, size, atime: now(changes.atime), mtime };
}
