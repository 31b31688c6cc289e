/**
 * Open files: opening and creating, reading and writing, syncing and closing.
 *
 * - In a shared session every open asks the server for this caller's permission and the file's present attributes in
 *   one ACCESS: that is close-to-open consistency. Where nobody else writes, and while the server is
 *   away, what is known of the file and this caller answers. The kernel keeps its pages only if
 *   nobody else has changed the file since the last open.
 * - An open does not tell the kernel of the size, and a write in append mode goes where the kernel
 *   takes the end to be. So an open of a file whose size the kernel does not know is sent back once:
 *   upon ESTALE the kernel looks the name up again, and learns it.
 * - A created file's handle is not checked: who made a file may write it, whatever its mode.
 */
import type { HandleId, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { FileImage } from './file-images.ts';
import { readFile } from './file-reads.ts';
import type { FileUnsent } from './file-unsent.ts';
import { type OpenFile, SyncPattern } from './handles.ts';
import type { Inode } from './inodes.ts';
import { closeInode } from './last-close.ts';
import { ask } from './lookup.ts';
import type { MountState } from './mount-state.ts';
import { type Made, makeObject } from './naming.ts';
import type { Caller, Entry, Opened, Outcome, Payload, ReadReply } from './operations.ts';
import { durability, keepsWrites } from './options.ts';
import { Access, type Stability } from './ports.ts';
import { applyChanges } from './set-attributes.ts';

/** Linux, asm-generic/fcntl.h; FMODE_EXEC as the kernel passes it on for exec(2). */
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_DIRECT = 0o40000;
const O_DSYNC = 0o10000;
const O_SYNC = 0o4010000;
const FMODE_EXEC = 0x20;

/** Linux, unistd.h. */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export async function open(
  state: MountState,
  { credentials: as, pid }: Caller,
  inode: Inode,
  flags: number,
): Outcome<Opened> {
  const again = state.comesBack(pid, inode);
  const wasSuperseded = inode.superseded;
  // By a path it is the new file; but not by what an open file is opened from (/proc/self/fd).
  if (inode.superseded && !(again && inode.image?.isHeld === true)) {
    if (!again) state.sendBack(pid, inode);
    return err(localError('ESTALE', 'open', 'open: it is another file now'));
  }
  const opened = await openFound(state, as, inode, flags, () =>
    // What was told in between is believed, but it must be of this file.
    again && inode.superseded === wasSuperseded ? ok(undefined) : sizeIsKnown(state, inode, flags),
  );
  if (!opened.ok && opened.error.errno === 'ESTALE' && !again) {
    state.sendBack(pid, inode);
  }
  return opened;
}

/** `mayGoOn`: asked when the server has said yes, and before anything is changed. */
async function openFound(
  state: MountState,
  as: Credentials,
  inode: Inode,
  flags: number,
  mayGoOn: () => Result<void, FsError>,
): Outcome<Opened> {
  if (state.refusesOpens) return err(localError('EBUSY', 'open', 'open: the mount is about to go'));
  if (isReadOnlyRefused(state, flags)) return err(localError('EROFS', 'open'));
  // Counted from now on: a file that is being opened must not be removed under its opener.
  inode.opens += 1;
  state.opensUnderWay += 1;
  await inode.leaving;
  inode.openChecks += 1;
  const checked = await checkOpen(state, as, inode, flags, mayGoOn);
  inode.openChecks -= 1;
  state.opensUnderWay -= 1;
  if (inode.changeUntold && inode.openChecks === 0) {
    inode.changeUntold = false;
    state.events.changedByOthers?.(inode.ino);
  }
  if (!checked.ok) {
    closeInode(state, inode);
    return checked;
  }
  return ok(await openHandle(state, as, inode, flags));
}

export async function create(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  mode: number,
  flags: number,
): Outcome<{ entry: Entry; opened: Opened }> {
  if (state.refusesOpens) {
    return err(localError('EBUSY', 'create', 'create: the mount is about to go'));
  }
  const exclusive = (flags & O_EXCL) !== 0;
  const made = exclusive
    ? await createExclusive(state, as, directory, name, mode)
    : await createGuarded(state, as, directory, name, mode);
  if (made.ok) {
    const { inode, attributes } = made.value;
    inode.opens += 1;
    const entry = state.entry(inode, attributes, state.nameValidMs(directory));
    return ok({ entry, opened: await openHandle(state, as, inode, flags, true) });
  }
  if (exclusive || made.error.errno !== 'EEXIST') return made;
  return openExisting(state, as, directory, name, flags);
}

/** Without a promise where the cache has the bytes at hand. */
export function read(
  state: MountState,
  handle: HandleId,
  offset: number,
  length: number,
): Result<ReadReply, FsError> | Outcome<ReadReply> {
  const file = state.handles.file(handle);
  if (file === undefined || !file.readable) return err(localError('EBADF', 'read'));
  const { as, inode, image } = file;
  if (image !== undefined) return image.read(as, handle, offset, length);
  if (state.images === undefined) return readFile(state, as, inode, offset, length);
  return readFirst(state, file, offset, length);
}

async function readFirst(
  state: MountState,
  file: OpenFile,
  offset: number,
  length: number,
): Outcome<ReadReply> {
  const { as, inode } = file;
  // Nothing to keep of a file that is empty.
  const isEmpty = state.shown(inode)?.size === 0 && state.attributes.isFresh(inode.attributes);
  const image = isEmpty ? undefined : await imageOf(state, file);
  if (image === undefined) return readFile(state, as, inode, offset, length);
  return image.read(as, file.id, offset, length);
}

/** The file's image, entered by the handle's first need of it. */
async function imageOf(state: MountState, file: OpenFile): Promise<FileImage | undefined> {
  if (file.image !== undefined) return file.image;
  const enter = async () => {
    const image = await state.images?.enter(file.as, file.inode);
    file.entering = undefined;
    // Released meanwhile: what is under way needs it no longer than it takes.
    if (state.handles.file(file.id) === file) file.image = image;
    else image?.leave();
    file.failureSeen ??= image?.local.failure?.serial;
    return image;
  };
  file.entering ??= enter();
  return file.entering;
}

/**
 * Whether a write up to `end` needs the file's image: of what is kept it must be told; but a file
 * that is small and new costs more to keep than to fetch, should anybody read it.
 */
function needsImage(state: MountState, file: OpenFile, end: number): boolean | 'if kept' {
  if (state.images === undefined || file.image !== undefined) return false;
  if (file.inode.image !== undefined || end > state.options.smallFileBytes) return true;
  // It is what makes the write local.
  if (keepsWrites(state.options)) return true;
  return file.isUnkept ? false : 'if kept';
}

export async function write(
  state: MountState,
  handle: HandleId,
  offset: number,
  payload: Payload,
): Outcome<number> {
  const file = state.handles.file(handle);
  if (file === undefined || !file.writable) {
    payload.release();
    return err(localError('EBADF', 'write'));
  }
  const { length } = payload.bytes;
  if (offset + length > Math.min(state.server.limits.maxFileSize, Number.MAX_SAFE_INTEGER)) {
    payload.release();
    return err(localError('EFBIG', 'write'));
  }
  const need = needsImage(state, file, offset + length);
  if (need === 'if kept') file.isUnkept = (await state.images?.isKept(file.inode)) === false;
  if (need === true || (need === 'if kept' && !file.isUnkept)) await imageOf(state, file);
  const soon = file.syncs.expectsSync(length);
  const durably = { asked: file.stability, sent: soon ? 'fileSync' : file.stability } as const;
  const written = await state.writes.write(file.inode, file.as, offset, payload, durably);
  if (!written.ok) {
    return written.error.errno === 'ESTALE' ? state.failed(file.inode, written.error) : written;
  }
  const { toldSize } = file.inode;
  if (toldSize !== undefined) file.inode.toldSize = Math.max(toldSize, offset + written.value);
  return written;
}

/** Everything written before is durable, or the caller is told why not. */
export async function sync(state: MountState, handle: HandleId): Outcome<void> {
  const file = state.handles.file(handle);
  if (file === undefined) return err(localError('EBADF', 'fsync'));
  file.syncs.synced();
  return settleHandle(state, file, durability(state.options).fsync);
}

/** close(2) of one descriptor. */
export async function flush(state: MountState, handle: HandleId): Outcome<void> {
  const file = state.handles.file(handle);
  if (file === undefined) return err(localError('EBADF', 'flush'));
  if (!file.writable) return ok(undefined);
  // Nobody else can look at a file that has lost its name.
  const isHidden = file.inode.silly !== undefined;
  return settleHandle(state, file, isHidden ? 'nothing' : durability(state.options).close);
}

export function release(state: MountState, handle: HandleId): void {
  const file = state.handles.file(handle);
  if (file === undefined) return;
  state.handles.delete(handle);
  const { image, way, inode } = file;
  inode.programs -= 1;
  if (inode.programs === 0) state.events.fileClosed?.(inode.ino, state.pathText(inode));
  if (image !== undefined) {
    if (way !== undefined) image.released(way);
    image.readerGone(handle);
    image.leave();
  }
  closeInode(state, inode);
}

/** NFSv3 knows no holes: all is data up to the file's end, as programs see it. */
export async function lseek(
  state: MountState,
  as: Credentials,
  handle: HandleId,
  offset: number,
  whence: number,
): Outcome<number> {
  const file = state.handles.file(handle);
  if (file === undefined) return err(localError('EBADF', 'lseek'));
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return err(localError('EINVAL', 'lseek'));
  const attributes = await state.freshAttributes(as, file.inode);
  if (!attributes.ok) return attributes;
  const { size } = attributes.value;
  if (offset < 0 || offset >= size) return err(localError('ENXIO', 'lseek'));
  return ok(whence === SEEK_DATA ? offset : size);
}

/** Whether an open with these flags changes the file. */
export function truncates(flags: number): boolean {
  return (flags & O_TRUNC) !== 0;
}

function isReadOnlyRefused(state: MountState, flags: number): boolean {
  return state.options.readOnly && ((flags & O_ACCMODE) !== 0 || (flags & O_TRUNC) !== 0);
}

/** ACCESS in the caller's name, and what O_TRUNC asks for. */
async function checkOpen(
  state: MountState,
  as: Credentials,
  inode: Inode,
  flags: number,
  mayGoOn: () => Result<void, FsError>,
): Outcome<void> {
  const wanted = accessWanted(flags);
  const isBelieved = state.options.session !== 'shared' || state.isAway || inode.superseded;
  const granted = await (isBelieved
    ? state.granted(as, inode, wanted)
    : state.askedAccess(as, inode, wanted));
  if (!granted.ok) return granted;
  state.attributes.resolveDoubt(inode.attributes);
  if (inode.superseded && inode.image?.isHeld !== true) return err(localError('ESTALE', 'open'));
  // Deleted by another client: upon ESTALE the kernel looks the name up again.
  if (inode.attributes.known?.nlink === 0) return err(localError('ESTALE', 'open'));
  const named = state.refuseNameless(inode, 'open');
  if (!named.ok) return named;
  if ((granted.value & wanted) !== wanted) return err(localError('EACCES', 'open'));
  const going = mayGoOn();
  if (!going.ok || (flags & O_TRUNC) === 0) return going;
  const truncated = await applyChanges(state, as, inode, { size: 0 });
  return truncated.ok ? ok(undefined) : truncated;
}

/** ESTALE, unless the kernel knows the size or sets it, and the file is the one it means. */
function sizeIsKnown(state: MountState, inode: Inode, flags: number): Result<void, FsError> {
  if (inode.superseded) return err(localError('ESTALE', 'open', 'open: it is another file now'));
  const isTold = !inode.sizeInDoubt && inode.toldSize === state.shown(inode)?.size;
  if (isTold || (flags & O_TRUNC) !== 0) return ok(undefined);
  inode.sizeInDoubt = false;
  // No notice, which would make the kernel drop what the lookup is about to tell; and it drops its
  // pages when the open comes again.
  inode.changeUntold = false;
  return err(localError('ESTALE', 'open', 'open: the size has changed, it is to be looked up'));
}

function accessWanted(flags: number): number {
  if ((flags & FMODE_EXEC) !== 0) return Access.EXECUTE;
  const mode = flags & O_ACCMODE;
  const reads = mode === O_WRONLY ? 0 : Access.READ;
  const writes = mode === O_WRONLY || mode === O_RDWR || (flags & O_TRUNC) !== 0;
  return reads | (writes ? Access.MODIFY | Access.EXTEND : 0);
}

/** A handle on an inode whose `opens` counts it already. */
async function openHandle(
  state: MountState,
  as: Credentials,
  inode: Inode,
  flags: number,
  isUnkept = false,
): Promise<Opened> {
  const { readOnly } = state.options;
  const isFile = inode.attributes.known?.type === 'regular';
  // Where the kernel may read it by itself that is decided now.
  const image = isFile && readOnly ? await state.images?.enter(as, inode) : undefined;
  const isDirect = (flags & O_DIRECT) !== 0;
  const way = image?.opened(isDirect ? 'opened with O_DIRECT' : undefined);
  const mode = flags & O_ACCMODE;
  const { contentVersion } = inode.attributes;
  const keepCache = inode.openedVersion === contentVersion;
  inode.openedVersion = contentVersion;
  const handle = state.handles.add({
    kind: 'file',
    inode,
    as,
    readable: mode !== O_WRONLY,
    writable: mode === O_WRONLY || mode === O_RDWR,
    stability: stabilityOf(flags),
    syncs: new SyncPattern(),
    image,
    entering: undefined,
    way,
    isUnkept,
    lossSeen: state.writes.now(),
    failureSeen: inode.image?.local.failure?.serial,
  });
  inode.programs += 1;
  if (inode.programs === 1) {
    state.events.fileOpened?.(inode.ino, state.pathText(inode), mode !== O_RDONLY);
  }
  return way !== undefined && 'backingId' in way
    ? { handle, keepCache, backingId: way.backingId }
    : { handle, keepCache };
}

function stabilityOf(flags: number): Stability {
  if ((flags & O_SYNC) === O_SYNC) return 'fileSync';
  return (flags & O_DSYNC) !== 0 ? 'dataSync' : 'unstable';
}

/** GUARDED, and not UNCHECKED, which may change the mode and size of a file that exists. */
function createGuarded(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  mode: number,
): Promise<Result<Made, FsError>> {
  const how = { kind: 'guarded', attributes: { mode: mode & 0o7777 } } as const;
  const make = () => state.server.create(as, directory.file, name, how);
  return makeObject(state, as, directory, name, make);
}

/**
 * EXCLUSIVE (RFC 1813, section 3.3.8): exact even when the call is sent again, for the price of
 * the SETATTR that gives the file its mode, and back its times, where the verifier was kept.
 */
async function createExclusive(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  mode: number,
): Promise<Result<Made, FsError>> {
  const make = () => state.server.create(as, directory.file, name, { kind: 'exclusive' });
  const made = await makeObject(state, as, directory, name, make);
  if (!made.ok) {
    const missing = made.error.code === 'NFS3ERR_NOTSUPP';
    return missing ? createGuarded(state, as, directory, name, mode) : made;
  }
  const { inode } = made.value;
  const changes = { mode: mode & 0o7777, atime: 'now', mtime: 'now' } as const;
  const set = await applyChanges(state, as, inode, changes);
  if (set.ok) return ok({ inode, attributes: set.value });
  const change = state.beginChange(directory);
  const removed = await state.server.remove(as, directory.file, name);
  state.endChange(directory, change, removed.ok ? removed.value : removed.error.wcc);
  state.names.delete(directory, name);
  return set;
}

/** O_CREAT of what is there already is an open. */
async function openExisting(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
  flags: number,
): Outcome<{ entry: Entry; opened: Opened }> {
  const found = await ask(state, as, directory, name);
  if (!found.ok) return found;
  const { inode, attributes } = found.value;
  if (inode === undefined || attributes === undefined) return err(localError('ENOENT', 'create'));
  // The kernel follows a symbolic link, and refuses what is no file, once it knows of it.
  if (attributes.type !== 'regular') return err(localError('ESTALE', 'create'));
  // The size goes to the kernel with the answer.
  const opened = await openFound(state, as, inode, flags, () => ok(undefined));
  if (!opened.ok) return opened;
  const shown = state.shown(inode) ?? attributes;
  const entry = state.entry(inode, shown, state.nameValidMs(directory));
  return ok({ entry, opened: opened.value });
}

/** Makes what was written durable; tells the handle once of bytes that were given up, or not sent. */
async function settleHandle(
  state: MountState,
  file: OpenFile,
  unsent: 'nothing' | 'local' | 'server',
): Outcome<void> {
  const { inode } = file;
  const committed = await state.writes.commit(inode);
  const loss = inode.writes?.loss;
  const untold = loss !== undefined && loss.serial > file.lossSeen ? loss.error : undefined;
  file.lossSeen = state.writes.now();
  // What an earlier daemon left of it counts, too.
  if (inode.recovered !== undefined && unsent !== 'nothing') await imageOf(state, file);
  const local = inode.image?.local;
  const settled = (await settleUnsent(local, unsent)) ?? ok(undefined);
  const failure = local?.unsent === undefined ? undefined : local.failure;
  const isNew = failure !== undefined && failure.serial > (file.failureSeen ?? 0);
  file.failureSeen = local?.failure?.serial ?? file.failureSeen;
  if (!committed.ok) return committed;
  if (untold !== undefined) return err(untold);
  if (!settled.ok) return settled;
  return isNew ? err(failure.error) : ok(undefined);
}

async function settleUnsent(
  local: FileUnsent | undefined,
  where: 'nothing' | 'local' | 'server',
): Promise<Result<void, FsError> | undefined> {
  if (where === 'nothing') return undefined;
  return where === 'local' ? local?.sync() : local?.writeBack();
}
