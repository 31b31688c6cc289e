/**
 * From a name to an inode.
 *
 * Whatever is known, a caller is answered only if the server lets this caller search the
 * directory: the kernel does not check, and a LOOKUP in the caller's own name is the check.
 */
import type { Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { Stamp } from './attribute-cache.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Entry, NegativeEntry, Outcome } from './operations.ts';
import { Access, type Attributes } from './ports.ts';

/** What a name turned out to be. `inode` undefined: nothing; `cached`: believed for some time. */
export interface Found {
  readonly inode: Inode | undefined;
  readonly attributes: Attributes | undefined;
  readonly cached: boolean;
}

export async function lookup(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<Entry | NegativeEntry> {
  const found = await find(state, as, directory, name);
  if (!found.ok) return found;
  const { inode, attributes, cached } = found.value;
  const entryValidMs = cached ? state.nameValidMs(directory) : 0;
  if (inode === undefined || attributes === undefined) {
    const mayBelieve = cached && state.options.lookupcache === 'all';
    return mayBelieve ? ok({ ino: 0, entryValidMs }) : err(localError('ENOENT', 'lookup'));
  }
  return ok(state.entry(inode, attributes, entryValidMs));
}

/** Looks the name up where it is known, else at the server. */
export async function find(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<Found> {
  const known = await findCached(state, as, directory, name);
  if (!known.ok) return known;
  return known.value === undefined ? ask(state, as, directory, name) : ok(known.value);
}

/** Asks the server. */
export async function ask(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Outcome<Found> {
  const { contentVersion: version, accessVersion } = directory.attributes;
  const stamp = state.attributes.stamp();
  const learnSearch = (agreed: boolean): void => {
    if (!agreed && accessVersion !== directory.attributes.accessVersion) return;
    state.learnAccess(directory, as, stamp, Access.LOOKUP, Access.LOOKUP);
  };
  const result = await state.server.lookup(as, directory.file, name);
  if (!result.ok) {
    const { error } = result;
    const agreed = state.attributes.observe(directory.attributes, error.attributes, stamp);
    if (error.errno !== 'ENOENT') return state.failed(directory, error);
    learnSearch(agreed);
    const cached = remember(state, directory, name, undefined, stamp, version, agreed);
    return ok({ inode: undefined, attributes: undefined, cached });
  }
  const { file, attributes, directory: directoryAttributes } = result.value;
  const agreed = state.attributes.observe(directory.attributes, directoryAttributes, stamp);
  learnSearch(agreed);
  let inode = state.inodes.intern(file);
  let shown = await takeIn(state, as, inode, attributes, stamp);
  if (inode.superseded) {
    inode = state.inodes.intern(file);
    shown = await takeIn(state, as, inode, attributes, stamp);
  }
  if (!shown.ok) return shown;
  const cached = remember(state, directory, name, inode, stamp, version, agreed);
  return ok({ inode, attributes: shown.value, cached });
}

/** The inode of a handle that an answer gave, with its attributes: asked for if they are missing. */
export async function takeIn(
  state: MountState,
  as: Credentials,
  inode: Inode,
  attributes: Attributes | undefined,
  stamp: Stamp,
): Outcome<Attributes> {
  if (attributes !== undefined) {
    state.attributes.observe(inode.attributes, attributes, stamp);
    return ok(state.shown(inode) ?? attributes);
  }
  state.inodes.pin(inode);
  const asked = await state.freshAttributes(as, inode);
  state.inodes.unpin(inode);
  return asked;
}

/** The inode that a name is known to be, without asking: to decide what must not be lost. */
export function peek(state: MountState, directory: Inode, name: Name): Inode | undefined {
  return state.names.get(directory, name)?.inode;
}

async function findCached(
  state: MountState,
  as: Credentials,
  directory: Inode,
  name: Name,
): Promise<Result<Found | undefined, FsError>> {
  if (!mayHold(state, directory, name)) return ok(undefined);
  const allowed = await state.mayUseNames(as, directory, 'lookup');
  if (!allowed.ok) return allowed;
  const fresh = await state.freshAttributes(as, directory);
  if (!fresh.ok) return fresh;
  // Looked at only now: the answers may have told that the directory has changed.
  if (!mayHold(state, directory, name)) return ok(undefined);
  const cached = state.names.get(directory, name);
  if (cached === undefined) return ok(undefined);
  const { inode } = cached;
  if (inode === undefined) return ok({ inode, attributes: undefined, cached: true });
  const attributes = await state.freshAttributes(as, inode);
  // Deleted, though the server still has it open: the name may lead to another file by now.
  if (attributes.ok && attributes.value.nlink === 0) return ok(undefined);
  if (inode.superseded) return ok(undefined);
  if (attributes.ok) return ok({ inode, attributes: attributes.value, cached: true });
  return attributes.error.errno === 'ESTALE' ? ok(undefined) : attributes;
}

function mayHold(state: MountState, directory: Inode, name: Name): boolean {
  const { lookupcache, attributeCaching } = state.options;
  if (lookupcache === 'none' || !attributeCaching) return false;
  const cached = state.names.get(directory, name);
  if (cached === undefined) return false;
  return cached.inode !== undefined || lookupcache === 'all';
}

/** Keeps what a LOOKUP said, if it is true of the directory as it is known now. */
function remember(
  state: MountState,
  directory: Inode,
  name: Name,
  inode: Inode | undefined,
  stamp: Stamp,
  versionBefore: number,
  agreed: boolean,
): boolean {
  const { attributes } = directory;
  const version = attributes.contentVersion;
  if (!state.attributes.undisturbed(attributes, stamp)) return false;
  if (!agreed && version !== versionBefore) return false;
  state.names.set(directory, name, inode, version);
  return true;
}
