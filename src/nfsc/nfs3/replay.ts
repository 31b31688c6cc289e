/**
 * What the failure of a call means that the server may have carried out before.
 *
 * A call that is sent again after a lost connection may find its own work done: REMOVE answers
 * NOENT because the first REMOVE removed. Servers keep a cache of replies against that, but lose
 * it when they restart, and many do not find the call in it when it comes from another port. So a
 * failure of a call that went out more than once is judged:
 *
 * | call           | failure | is a success if                                                |
 * |----------------|---------|----------------------------------------------------------------|
 * | REMOVE, RMDIR  | NOENT   | always: the name is gone, as was asked for                      |
 * | RENAME         | NOENT   | the old name is not there and the new one is                    |
 * | MKDIR          | EXIST   | the name is a directory of the caller's with the mode asked for |
 * | SYMLINK        | EXIST   | the name is a link to the same target                           |
 * | LINK           | EXIST   | the name is the same file                                       |
 *
 * What is left as a failure, marked `retransmitted`: a guarded CREATE and MKNOD that answer EXIST,
 * because their callers want to know that it was they who made the file; who needs an answer
 * that holds takes the EXCLUSIVE CREATE, whose verifier tells the server that it is the same call.
 * MKDIR is used as a lock, too: if another client made the directory between our first and our
 * second call, with the same owner and mode, we are mistaken. The kernel's client never judges,
 * and is mistaken the other way round each time.
 */
import type { FileHandle } from '../../base/brand.ts';
import type { Credentials } from '../../base/credentials.ts';
import type { CreateOk3, Diropargs3, Fattr3, LookupOk3, Sattr3 } from './types.ts';

/** What a judgement may ask the server; undefined: it does not say. */
export interface Witness {
  lookup(at: Diropargs3): Promise<LookupOk3 | 'absent' | undefined>;
  readlink(file: FileHandle): Promise<Buffer | undefined>;
  getattr(file: FileHandle): Promise<Fattr3 | undefined>;
}

export async function wasRenamed(
  witness: Witness,
  from: Diropargs3,
  to: Diropargs3,
): Promise<boolean> {
  if ((await witness.lookup(from)) !== 'absent') return false;
  const there = await witness.lookup(to);
  return there !== undefined && there !== 'absent';
}

/** The directory that an earlier MKDIR of ours made, unless there is a doubt. */
export async function madeDirectory(
  witness: Witness,
  as: Credentials,
  at: Diropargs3,
  asked: Sattr3,
): Promise<Pick<CreateOk3, 'file' | 'attributes'> | undefined> {
  const found = await described(witness, at);
  if (found?.attributes.type !== 'directory') return undefined;
  const { uid, mode } = found.attributes;
  if (uid !== (asked.uid ?? as.uid)) return undefined;
  // Directories inherit the set-group-ID bit; the rest is as it was asked for.
  if (asked.mode !== undefined && (mode & 0o777) !== (asked.mode & 0o777)) return undefined;
  return found;
}

/** The link that an earlier SYMLINK of ours made. */
export async function madeSymlink(
  witness: Witness,
  at: Diropargs3,
  target: Buffer,
): Promise<Pick<CreateOk3, 'file' | 'attributes'> | undefined> {
  const found = await described(witness, at);
  if (found?.attributes.type !== 'symlink') return undefined;
  const there = await witness.readlink(found.file);
  return there?.equals(target) === true ? found : undefined;
}

/** The attributes of `file`, if an earlier LINK of ours gave it the name. */
export async function madeLink(
  witness: Witness,
  file: FileHandle,
  to: Diropargs3,
): Promise<Fattr3 | undefined> {
  const found = await described(witness, to);
  const own = await witness.getattr(file);
  if (found === undefined || own === undefined) return undefined;
  const { fsid, fileid } = found.attributes;
  return fsid === own.fsid && fileid === own.fileid ? own : undefined;
}

async function described(
  witness: Witness,
  at: Diropargs3,
): Promise<{ file: FileHandle; attributes: Fattr3 } | undefined> {
  const found = await witness.lookup(at);
  if (found === undefined || found === 'absent') return undefined;
  const attributes = found.attributes ?? (await witness.getattr(found.file));
  return attributes === undefined ? undefined : { file: found.file, attributes };
}
