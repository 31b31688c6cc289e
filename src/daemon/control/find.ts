/**
 * Which mount a path lies in, without touching the mount: from what the kernel lists as mounted
 * (proc(5), mountinfo), and from links that lie outside of it.
 *
 * A path is walked name by name, as the kernel does, but below a gvfs mountpoint nothing is looked
 * at: a mount whose server is away would hang us. Paths are bytes, held as Latin-1 strings here,
 * one character a byte.
 */
import { readlinkSync } from 'node:fs';
import type { MountLine } from '../../fuse/mountinfo.ts';
import { printable } from '../../observe/printable.ts';

/** The type under which our mounts show. */
const TYPE = 'fuse.gvfs';

export interface FoundMount {
  readonly mountpoint: string;
  readonly source: string;
  readonly device: string;
}

export interface FoundPath {
  readonly mount: FoundMount;
  /** Relative to the mountpoint, as the schema has paths. */
  readonly path: string;
}

/** Reads a link outside of our mounts; undefined where there is none. */
export type ReadLink = (path: Buffer) => Buffer | undefined;

/** Our mounts that are visible: a later line at the same place hides an earlier one. */
export function gvfsMounts(mounts: readonly MountLine[]): FoundMount[] {
  const last = new Map(mounts.map((line) => [line.mountpoint, line]));
  return [...last.values()].filter(({ type }) => type === TYPE).map(mountOf);
}

/** As Linux: more links than these are a loop. */
const LINKS_MAX = 40;

/**
 * The mount that `path` lies in and where; undefined when it lies in none of ours. `path` and
 * `workingDirectory` are bytes; the latter is absolute and has no links.
 */
export function findMount(
  path: Buffer,
  workingDirectory: string,
  mounts: readonly MountLine[],
  readLink: ReadLink = readLinkOnDisk,
): FoundPath | undefined {
  const visible = new Map(mounts.map((line) => [latin1(line.mountpoint), line]));
  const typed = path.toString('latin1');
  const start = typed.startsWith('/') ? '' : latin1(workingDirectory);
  const todo = `${start}/${typed}`.split('/').reverse();
  const names: string[] = [];
  let links = 0;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      names.pop();
      continue;
    }
    names.push(name);
    if (isWithin(names, visible)) continue;
    const target = readLink(Buffer.from(`/${names.join('/')}`, 'latin1'))?.toString('latin1');
    if (target === undefined) continue;
    links += 1;
    if (links > LINKS_MAX) return undefined;
    names.pop();
    if (target.startsWith('/')) names.length = 0;
    todo.push(...target.split('/').reverse());
  }
  return ofMount(names, visible);
}

type Visible = ReadonlyMap<string, MountLine>;

/** Whether one of our mounts is on the way. */
function isWithin(names: readonly string[], visible: Visible): boolean {
  return names.some((_, index) => visible.get(pathOf(names, index + 1))?.type === TYPE);
}

/** What the longest mountpoint says, if it is ours: another's may lie within. */
function ofMount(names: readonly string[], visible: Visible): FoundPath | undefined {
  for (let length = names.length; length >= 0; length -= 1) {
    const line = visible.get(pathOf(names, length));
    if (line === undefined) continue;
    if (line.type !== TYPE) return undefined;
    const path = printable(Buffer.from(names.slice(length).join('/'), 'latin1'));
    return { mount: mountOf(line), path };
  }
  return undefined;
}

function mountOf({ mountpoint, source, device }: MountLine): FoundMount {
  return { mountpoint, source, device };
}

function pathOf(names: readonly string[], length: number): string {
  return `/${names.slice(0, length).join('/')}`;
}

function latin1(path: string): string {
  return Buffer.from(path, 'utf8').toString('latin1');
}

function readLinkOnDisk(path: Buffer): Buffer | undefined {
  try {
    return readlinkSync(path, 'buffer');
  } catch {
    return undefined; // no link, or nothing there
  }
}
