/**
 * The file system as the daemon itself looks at it: paths and images without a kernel, and what
 * programs have open now.
 */
import type { FileHandle, Ino, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import { localError } from '../errors/fs-error.ts';
import type { FileImage } from './file-images.ts';
import type { Inode } from './inodes.ts';
import { closeInode } from './last-close.ts';
import { find } from './lookup.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import { Access, type Attributes, type CachedImage } from './ports.ts';

export interface Located {
  /** Good for `withImage` that follows at once; the kernel need not know it. */
  readonly ino: Ino;
  readonly file: FileHandle;
  readonly attributes: Attributes;
}

/** A file that programs have open. */
export interface OpenFileLine {
  readonly ino: Ino;
  readonly file: FileHandle;
  /** From the export's root, without a slash in front; a hint. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly readers: number;
  readonly writers: number;
  readonly servedBy: 'passthrough' | 'daemon' | 'server';
  /** Why not passthrough, in one clause; undefined where it is. */
  readonly why: string | undefined;
}

/** Walks from the root; symbolic links are not followed. */
export async function locate(
  state: MountState,
  as: Credentials,
  path: readonly Name[],
): Outcome<Located> {
  let { root: inode } = state.inodes;
  const start = await state.freshAttributes(as, inode);
  if (!start.ok) return start;
  let attributes = start.value;
  for (const name of path) {
    const found = await find(state, as, inode, name);
    if (!found.ok) return found;
    if (found.value.inode === undefined || found.value.attributes === undefined) {
      return err(localError('ENOENT', 'locate'));
    }
    ({ inode, attributes } = { inode: found.value.inode, attributes: found.value.attributes });
  }
  return ok({ ino: inode.ino, file: inode.file, attributes });
}

/** Runs `use` with the file's image open, if `as` may read the file. */
export async function withImage<T>(
  state: MountState,
  as: Credentials,
  inode: Inode,
  use: (image: CachedImage) => Promise<T>,
): Outcome<T> {
  const { images } = state;
  if (images === undefined) return err(localError('EOPNOTSUPP', 'image', 'nothing is cached'));
  // Open meanwhile: a file that is deleted is only hidden.
  inode.opens += 1;
  try {
    await inode.leaving;
    const granted = await state.granted(as, inode, Access.READ);
    if (!granted.ok) return granted;
    if (granted.value === 0) return err(localError('EACCES', 'image'));
    const { known } = inode.attributes;
    if (known?.type === 'directory') return err(localError('EISDIR', 'image'));
    if (known?.type !== 'regular') return err(localError('EINVAL', 'image', 'not a regular file'));
    const image = await images.enter(as, inode);
    if (image === undefined) return err(localError('ESTALE', 'image'));
    try {
      return ok(await use(await image.current()));
    } finally {
      image.leave();
    }
  } finally {
    closeInode(state, inode);
  }
}

/** The kernel opens no directory as a file; what is asked before the mount (the rehearsal) does. */
export function openFiles(state: MountState): OpenFileLine[] {
  const counts = new Map<Inode, { readers: number; writers: number }>();
  for (const { inode, writable } of state.handles.files()) {
    if (inode.attributes.known?.type === 'directory') continue;
    const count = counts.get(inode) ?? { readers: 0, writers: 0 };
    if (writable) count.writers += 1;
    else count.readers += 1;
    counts.set(inode, count);
  }
  return [...counts].map(([inode, count]) => {
    const { image, ino, file } = inode;
    const isCached = state.images !== undefined;
    const by = image?.isHeld === true ? 'passthrough' : isCached ? 'daemon' : 'server';
    const why = whyNot(state, image);
    return {
      ino,
      file,
      path: state.pathText(inode),
      sizeBytes: state.shown(inode)?.size ?? 0,
      ...count,
      servedBy: by,
      why: by === 'passthrough' ? undefined : why,
    };
  });
}

/** Passthrough is only where no writer can come: what the kernel writes by itself nobody sends. */
function whyNot(state: MountState, image: FileImage | undefined): string {
  if (state.images === undefined) return 'nothing is cached';
  if (!state.options.readOnly) return 'it can be written here';
  return image?.why ?? 'nothing of it is cached';
}
