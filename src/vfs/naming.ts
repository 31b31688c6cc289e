/**
 * What changes directories: making, linking, renaming and removing names.
 *
 * N1  Every change goes to the server in the caller's own name before it is answered; the server
 *     alone decides who may.
 * N2  Names learned from our own changes stay known, unless the directory was also changed by
 *     another client.
 * N3  A call that was sent more than once may have done its work the first time: a REMOVE answered
 *     NOENT is a success, an EXIST is looked at.
 * N4  A name whose file is open here is never removed: the file is hidden first (silly-rename.ts).
 *     Who opens a file while its name is being removed waits for the outcome.
 */
import type { Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import { keepingImage } from './file-images.ts';
import { type Inode, whileLeaving } from './inodes.ts';
import { closeInode } from './last-close.ts';
import { ask, find, peek, takeIn } from './lookup.ts';
import { type MountState, SENT_BACK_MS } from './mount-state.ts';
import type { Entry, Outcome } from './operations.ts';
import type { Answer, Attributes, Created, ServerError } from './ports.ts';
import { forgetSillyName, hideOpenFile, isHiddenName, mustHide, unhide } from './silly-rename.ts';
import { takingName } from './unsent-files.ts';

/** A name in a directory. */
interface NameAt {
  readonly directory: Inode;
  readonly name: Name;
}

/** A new object and its attributes. */
export interface Made {
  readonly inode: Inode;
  readonly attributes: Attributes;
}

/** Linux, stat.h: the type bits of a mode. */
const S_IFMT = 0o170000;
const nodeTypes = {
  regular: 0o100000,
  fifo: 0o010000,
  socket: 0o140000,
  character: 0o020000,
  block: 0o060000,
} as const;

/** Linux, fs.h: renameat2's flags. */
const RENAME_NOREPLACE = 1;

export async function mknod(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  mode: number,
  rdev: number,
): Outcome<Entry> {
  const attributes = { mode: mode & 0o7777 };
  const type = mode & S_IFMT;
  const { server } = state;
  const make = (): Answer<Created> | undefined => {
    const at = [as, directory.file, name] as const;
    switch (type) {
      case 0:
      case nodeTypes.regular:
        return server.create(...at, { kind: 'guarded', attributes });
      case nodeTypes.fifo:
        return server.mknod(...at, { type: 'fifo', attributes });
      case nodeTypes.socket:
        return server.mknod(...at, { type: 'socket', attributes });
      case nodeTypes.character:
        return server.mknod(...at, { type: 'character', attributes, ...decodeRdev(rdev) });
      case nodeTypes.block:
        return server.mknod(...at, { type: 'block', attributes, ...decodeRdev(rdev) });
      default:
        return undefined;
    }
  };
  return makeEntry(state, as, directory, name, make);
}

export async function mkdir(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  mode: number,
): Outcome<Entry> {
  const make = () => state.server.mkdir(as, directory.file, name, { mode: mode & 0o7777 });
  return makeEntry(state, as, directory, name, make);
}

export async function symlink(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  target: Buffer,
): Outcome<Entry> {
  const make = () => state.server.symlink(as, directory.file, name, target, { mode: 0o777 });
  return makeEntry(state, as, directory, name, make);
}

/** Runs a call that makes an object, and learns what it made. */
export async function makeObject(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  make: () => Answer<Created> | undefined,
): Promise<Result<Made, ServerError>> {
  const parentCtimeNs = directory.attributes.known?.ctimeNs;
  const change = state.beginChange(directory);
  const making = make();
  if (making === undefined) {
    state.endChange(directory, change, { before: directory.attributes.known });
    return err(localError('EINVAL', 'mknod', 'mknod: no such type of file'));
  }
  const result = await making;
  state.endChange(directory, change, result.ok ? result.value.directory : result.error.wcc);
  if (!result.ok) {
    const { error } = result;
    if (error.errno !== 'EEXIST') return state.failed(directory, error);
    state.names.delete(directory, name);
    if (error.retransmitted !== true || parentCtimeNs === undefined) return result;
    return madeBefore(state, as, directory, name, parentCtimeNs, error);
  }
  const { file, attributes } = result.value;
  if (file === undefined) return lookUpMade(state, as, directory, name);
  const inode = state.inodes.intern(file);
  const shown = await takeIn(state, as, inode, attributes, change);
  if (!shown.ok) return shown;
  state.names.set(directory, name, inode, directory.attributes.contentVersion);
  return ok({ inode, attributes: shown.value });
}

export async function link(
  state: MountState,
  as: Credentials,
  inode: Inode,
  directory: Inode,
  name: Name,
): Outcome<Entry> {
  const linked = await linkName(state, as, inode, directory, name);
  if (!linked.ok) return linked;
  const attributes = await state.freshAttributes(as, inode);
  if (!attributes.ok) return attributes;
  return ok(state.entry(inode, attributes.value, state.nameValidMs(directory)));
}

export async function unlink(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<void> {
  const victim = await victimOf(state, as, directory, name);
  if (!victim.ok) return victim;
  const inode = victim.value;
  if (inode !== undefined && isHiddenName(inode, directory, name)) return err(busy('unlink'));
  if (inode !== undefined && mustHide(state, inode)) {
    keepForExpected(state, inode);
    return hideOpenFile(state, as, directory, name, inode);
  }
  const removal = removeName(state, as, directory, name, inode);
  return inode === undefined ? removal : whileLeaving(inode, removal);
}

export async function rmdir(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<void> {
  const removed = await removeDirectory(state, as, directory, name);
  const mayPass = !removed.ok && removed.error.errno === 'ENOTEMPTY' && state.background.size > 0;
  if (!mayPass) return removed;
  // Deleted files that were open in there, and have just been closed, are still on their way out.
  await Promise.all(state.background);
  return removeDirectory(state, as, directory, name);
}

export async function rename(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
  flags: number,
): Outcome<void> {
  // Nothing of NFSv3 swaps two names or leaves a whiteout.
  if ((flags & ~RENAME_NOREPLACE) !== 0) return err(localError('EINVAL', 'rename'));
  if ((flags & RENAME_NOREPLACE) !== 0) return renameWithoutReplacing(state, as, from, to);
  // The image first: nothing may come between the look at what is replaced and the RENAME.
  const moving = peek(state, from.directory, from.name);
  return keepingImage(state, as, moving, () => renameReplacing(state, as, from, to));
}

async function renameReplacing(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
): Outcome<void> {
  const target = await victimOf(state, as, to.directory, to.name);
  if (!target.ok) return target;
  const replaced = target.value;
  const source = peek(state, from.directory, from.name);
  if (replaced !== undefined && isHiddenName(replaced, to.directory, to.name)) {
    return err(busy('rename'));
  }
  if (replaced !== undefined && replaced !== source && mustHide(state, replaced)) {
    keepForExpected(state, replaced);
    return renameOverOpen(state, as, from, to, replaced);
  }
  if (replaced === undefined || replaced === source) return renameName(state, as, from, to);
  return whileLeaving(replaced, renameOver(state, as, from, to, replaced));
}

/** Who waits to open the replaced file finds it without its name. */
async function renameOver(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
  replaced: Inode,
): Outcome<void> {
  const renamed = await takingName(as, replaced, () => renameName(state, as, from, to));
  if (renamed.ok) nameRemoved(state, replaced);
  return renamed;
}

/** N4: the open file goes out of the way first, and comes back if the rename fails. */
async function renameOverOpen(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
  replaced: Inode,
): Outcome<void> {
  // Looked at first: what the server would refuse must not move the open file.
  const moving = await find(state, as, from.directory, from.name);
  if (!moving.ok) return moving;
  const { inode, attributes } = moving.value;
  if (inode === undefined) return err(localError('ENOENT', 'rename'));
  if (attributes?.type === 'directory') return err(localError('ENOTDIR', 'rename'));

  // Open until it is known whether it comes back: its last close would remove it.
  replaced.opens += 1;
  let renamed = await hideOpenFile(state, as, to.directory, to.name, replaced);
  if (renamed.ok) {
    renamed = await renameName(state, as, from, to);
    if (!renamed.ok) await unhide(state, as, replaced, to.name);
  }
  closeInode(state, replaced);
  return renamed;
}

/**
 * RENAME_NOREPLACE. LINK refuses an existing name by itself, so for all but directories it is
 * LINK and REMOVE; for directories, and servers without LINK, it is a look and a RENAME, and
 * another client may come in between.
 */
async function renameWithoutReplacing(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
): Outcome<void> {
  const source = await find(state, as, from.directory, from.name);
  if (!source.ok) return source;
  const { inode, attributes } = source.value;
  if (inode === undefined) return err(localError('ENOENT', 'rename'));
  if (attributes?.type !== 'directory') {
    const linked = await linkName(state, as, inode, to.directory, to.name);
    if (linked.ok) return removeName(state, as, from.directory, from.name, inode);
    if (!lacksLink(linked.error)) return linked;
  }
  const target = await ask(state, as, to.directory, to.name);
  if (!target.ok) return target;
  if (target.value.inode !== undefined) return err(localError('EEXIST', 'rename'));
  return renameName(state, as, from, to);
}

async function renameName(
  state: MountState,
  as: Credentials,
  from: NameAt,
  to: NameAt,
): Outcome<void> {
  const { server } = state;
  const moving = peek(state, from.directory, from.name);
  // RENAME changes the moved file's ctime.
  if (moving !== undefined) state.attributes.ctimeMoves(moving.attributes);
  const sameDirectory = from.directory === to.directory;
  const fromChange = state.beginChange(from.directory);
  const toChange = sameDirectory ? undefined : state.beginChange(to.directory);
  const result = await server.rename(
    as,
    { directory: from.directory.file, name: from.name },
    { directory: to.directory.file, name: to.name },
  );
  if (moving !== undefined) state.attributes.ctimeMoved(moving.attributes);
  const fromWcc = result.ok ? result.value.from : undefined;
  state.endChange(from.directory, fromChange, fromWcc);
  if (toChange !== undefined) {
    state.endChange(to.directory, toChange, result.ok ? result.value.to : undefined);
  }
  if (!result.ok) {
    const done = doneBefore(result.error) && moving !== undefined;
    if (!done || !(await leadsTo(state, as, to, moving))) {
      state.names.delete(from.directory, from.name);
      state.names.delete(to.directory, to.name);
      return state.failed(from.directory, result.error);
    }
  }
  const { contentVersion } = from.directory.attributes;
  state.names.set(from.directory, from.name, undefined, contentVersion);
  if (moving === undefined) {
    state.names.delete(to.directory, to.name);
    return ok(undefined);
  }
  state.names.set(to.directory, to.name, moving, to.directory.attributes.contentVersion);
  if (isHiddenName(moving, from.directory, from.name)) forgetSillyName(state, moving);
  return ok(undefined);
}

function linkName(
  state: MountState,
  as: Credentials,
  inode: Inode,
  directory: Inode,
  name: Name,
): Promise<Result<void, ServerError>> {
  return keepingImage(state, as, inode, () => sendLink(state, as, inode, directory, name));
}

async function sendLink(
  state: MountState,
  as: Credentials,
  inode: Inode,
  directory: Inode,
  name: Name,
): Promise<Result<void, ServerError>> {
  const change = state.beginChange(directory);
  const fileChange = state.beginChange(inode);
  const to = { directory: directory.file, name };
  const result = await state.server.link(as, inode.file, to);
  state.endChange(directory, change, result.ok ? result.value.directory : result.error.wcc);
  // LINK tells nothing of the file as it was before.
  const told = { after: result.ok ? result.value.attributes : undefined };
  state.endChange(inode, fileChange, told, { keeps: 'size and mtime' });
  if (!result.ok) {
    const done = result.error.errno === 'EEXIST' && result.error.retransmitted === true;
    if (!done || !(await leadsTo(state, as, { directory, name }, inode))) {
      state.names.delete(directory, name);
      return result;
    }
  }
  inode.unlinked = false;
  state.names.set(directory, name, inode, directory.attributes.contentVersion);
  return ok(undefined);
}

async function removeDirectory(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<void> {
  const change = state.beginChange(directory);
  const result = await state.server.rmdir(as, directory.file, name);
  state.endChange(directory, change, result.ok ? result.value : result.error.wcc);
  if (!result.ok && !doneBefore(result.error)) return state.failed(directory, result.error);
  state.names.set(directory, name, undefined, directory.attributes.contentVersion);
  return ok(undefined);
}

async function removeName(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  inode: Inode | undefined,
): Outcome<void> {
  const change = state.beginChange(directory);
  const remove = () => state.server.remove(as, directory.file, name);
  const result = await takingName(as, inode, remove);
  state.endChange(directory, change, result.ok ? result.value : result.error.wcc);
  if (!result.ok && !doneBefore(result.error)) {
    state.names.delete(directory, name);
    return state.failed(directory, result.error);
  }
  state.names.set(directory, name, undefined, directory.attributes.contentVersion);
  if (inode !== undefined) nameRemoved(state, inode);
  return ok(undefined);
}

/** A file that nobody has open, but somebody is about to: it is removed if nobody comes. */
function keepForExpected(state: MountState, inode: Inode): void {
  if (inode.opens > 0) return;
  inode.opens += 1;
  state.clock.after(SENT_BACK_MS, () => closeInode(state, inode));
}

/** One name less leads to the inode. */
function nameRemoved(state: MountState, inode: Inode): void {
  if (inode.opens === 0 && inode.attributes.known?.nlink === 1) inode.unlinked = true;
  state.attributes.ctimeMoved(inode.attributes);
  inode.image?.changed();
}

/**
 * The inode that a name is about to be taken from. It has to be known if any file is open here or
 * has unsent writes; otherwise what the cache knows will do.
 */
async function victimOf(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Promise<Result<Inode | undefined, FsError>> {
  const known = peek(state, directory, name);
  const isAnyOpen = state.handles.size > 0 || state.opensUnderWay > 0;
  if (known !== undefined || (!isAnyOpen && !state.unsentFiles.any)) return ok(known);
  const found = await find(state, as, directory, name);
  return found.ok ? ok(found.value.inode) : found;
}

async function makeEntry(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  make: () => Answer<Created> | undefined,
): Outcome<Entry> {
  const made = await makeObject(state, as, directory, name, make);
  if (!made.ok) return made;
  const { inode, attributes } = made.value;
  return ok(state.entry(inode, attributes, state.nameValidMs(directory)));
}

/** The server made the object and did not say which it is. */
async function lookUpMade(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Promise<Result<Made, ServerError>> {
  const found = await ask(state, as, directory, name);
  if (!found.ok) return found;
  const { inode, attributes } = found.value;
  if (inode === undefined || attributes === undefined) return err(localError('ENOENT', 'lookup'));
  return ok({ inode, attributes });
}

/**
 * N3: the answer to a repeated call is EXIST. The object is ours if it is the caller's and has
 * come to be since we last saw the directory, by the server's own clock.
 */
async function madeBefore(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  parentCtimeNs: bigint,
  error: ServerError,
): Promise<Result<Made, ServerError>> {
  const found = await lookUpMade(state, as, directory, name);
  if (!found.ok) return err(error);
  const { attributes } = found.value;
  const ours = attributes.uid === as.uid && attributes.ctimeNs > parentCtimeNs;
  return ours ? found : err(error);
}

function busy(operation: string): FsError {
  return localError('EBUSY', operation, `${operation}: a deleted file that is still open here`);
}

function doneBefore(error: ServerError): boolean {
  return error.errno === 'ENOENT' && error.retransmitted === true;
}

async function leadsTo(
  state: MountState,
  as: Credentials,
  at: NameAt,
  inode: Inode,
): Promise<boolean> {
  const found = await ask(state, as, at.directory, at.name);
  return found.ok && found.value.inode === inode;
}

function lacksLink(error: ServerError): boolean {
  return error.code === 'NFS3ERR_NOTSUPP' || error.errno === 'EMLINK' || error.errno === 'EPERM';
}

/** The kernel's new_encode_dev (linux/kdev_t.h). */
function decodeRdev(rdev: number): { major: number; minor: number } {
  return { major: (rdev & 0xfff00) >>> 8, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}
