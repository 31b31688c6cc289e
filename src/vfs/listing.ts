/**
 * Listing directories. What READDIRPLUS tells of the entries feeds the caches, under the same
 * rules as any other answer.
 */
import type { HandleId, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import { localError } from '../errors/fs-error.ts';
import { DirectoryStream, type FoundEntry, type ListedEntry } from './directory-stream.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import { isDotOrDotDot } from './names.ts';
import type { Dirent, Entry, Outcome } from './operations.ts';
import { Access } from './ports.ts';

export async function opendir(state: MountState, as: Credentials, inode: Inode): Outcome<HandleId> {
  const granted = await state.granted(as, inode, Access.READ);
  if (!granted.ok) return granted;
  if (granted.value === 0) return err(localError('EACCES', 'opendir'));
  if (inode.attributes.known?.type !== 'directory') return err(localError('ENOTDIR', 'opendir'));
  inode.opens += 1;
  const stream = new DirectoryStream(state, inode, as);
  return ok(state.handles.add({ kind: 'directory', inode, as, stream }));
}

export async function readdir(
  state: MountState,
  handle: HandleId,
  offset: bigint,
  plus: boolean,
  take: (dirent: Dirent) => boolean,
): Outcome<void> {
  const directory = state.handles.directory(handle);
  if (directory === undefined) return err(localError('EBADF', 'readdir'));
  const { stream, inode } = directory;
  return stream.inTurn(async () => {
    if (offset === 0n) stream.rewind();
    for (let index = Number(offset); ; index++) {
      const listed = await stream.entryAt(index, plus);
      if (!listed.ok) return listed;
      const { value } = listed;
      if (value === undefined || !offer(state, inode, value, index, plus, take)) {
        return ok(undefined);
      }
    }
  });
}

export function releasedir(state: MountState, handle: HandleId): void {
  const directory = state.handles.directory(handle);
  if (directory === undefined) return;
  state.handles.delete(handle);
  directory.inode.opens -= 1;
  state.inodes.settle(directory.inode);
}

/** Offers one entry; true when it was taken. */
function offer(
  state: MountState,
  directory: Inode,
  listed: ListedEntry,
  index: number,
  plus: boolean,
  take: (dirent: Dirent) => boolean,
): boolean {
  const { name, fileid, type, found } = listed;
  const dirent = { name, ino: direntIno(fileid), type, nextOffset: BigInt(index + 1) };
  if (!plus || found === undefined || isDotOrDotDot(name)) return take(dirent);
  const entry = entryOf(state, directory, name as Name, found);
  if (take({ ...dirent, entry })) {
    // Seen a second time, it would be old.
    listed.found = undefined;
    return true;
  }
  const inode = state.inodes.get(entry.ino);
  if (inode !== undefined) inode.toldSize = undefined;
  state.inodes.forget(entry.ino, 1);
  return false;
}

/** The entry of a listed file, its lookup counted. */
function entryOf(state: MountState, directory: Inode, name: Name, found: FoundEntry): Entry {
  const { file, attributes, stamp, version } = found;
  let inode = state.inodes.intern(file);
  state.attributes.observe(inode.attributes, attributes, stamp);
  if (inode.superseded) {
    inode = state.inodes.intern(file);
    state.attributes.observe(inode.attributes, attributes, stamp);
  }
  const isTrue = version !== undefined && version === directory.attributes.contentVersion;
  const cached = isTrue && state.attributes.undisturbed(directory.attributes, stamp);
  if (cached) state.names.set(directory, name, inode, version);
  const entryValidMs = cached ? state.nameValidMs(directory) : 0;
  return state.entry(inode, state.shown(inode) ?? attributes, entryValidMs);
}

/** The inode number that programs see; theirs too has 53 bits at most here, and is never 0. */
function direntIno(fileid: bigint): number {
  const ino = Number(BigInt.asUintN(53, fileid));
  return ino === 0 ? 1 : ino;
}
