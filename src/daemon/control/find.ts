/**
 * Which mount a path lies in, without touching the mount: from what the kernel lists as mounted
 * (proc(5), mountinfo), and from links that lie outside of it.
 *
 * A path is walked name by name, as the kernel does, but below a gvfs mountpoint nothing is looked
 * at: a mount whose server is away would hang us. Paths are bytes, held as Latin-1 strings here,
 * one character a byte.
 *
 * A mount may be seen in several places (mount --bind), and in part: the same device tells, and
 * the daemon knows one of the places.
 */
import { readlinkSync } from 'node:fs';
import type { MountLine } from '../../fuse/mountinfo.ts';
import { printable } from '../../observe/printable.ts';

/** The type under which our mounts show. */
const TYPE = 'fuse.gvfs';

export interface FoundMount {
  /** Where the path found it. */
  readonly mountpoint: string;
  readonly source: string;
  /** Where the daemon may have mounted it: the same place, if it is in one place only. */
  readonly mountpoints: readonly string[];
  /** Whose daemon serves it; undefined where the kernel does not tell. */
  readonly userId: number | undefined;
}

export interface FoundPath {
  readonly mount: FoundMount;
  /** Relative to the root of the mount, as the schema has paths. */
  readonly path: string;
}

/** Reads a link outside of our mounts; undefined where there is none. */
export type ReadLink = (path: Buffer) => Buffer | undefined;

/** Our mounts, each once: a later line at the same place hides an earlier one. */
export function gvfsMounts(mounts: readonly MountLine[]): FoundMount[] {
  const visible = new Map(mounts.map((line) => [line.mountpoint, line]));
  const ours = new Map<string, MountLine>();
  for (const line of visible.values()) {
    if (line.type === TYPE && !ours.has(line.device)) ours.set(line.device, line);
  }
  return [...ours.values()].map((line) => mountOf(line, mounts));
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
  return ofMount(names, visible, mounts);
}

type Visible = ReadonlyMap<string, MountLine>;

/** Whether one of our mounts is on the way. */
function isWithin(names: readonly string[], visible: Visible): boolean {
  return names.some((_, index) => visible.get(pathOf(names, index + 1))?.type === TYPE);
}

/** What the longest mountpoint says, if it is ours: another's may lie within. */
function ofMount(
  names: readonly string[],
  visible: Visible,
  mounts: readonly MountLine[],
): FoundPath | undefined {
  for (let length = names.length; length >= 0; length -= 1) {
    const line = visible.get(pathOf(names, length));
    if (line === undefined) continue;
    if (line.type !== TYPE) return undefined;
    const within = [...latin1(line.root).split('/'), ...names.slice(length)];
    const path = within.filter((name) => name !== '').join('/');
    return { mount: mountOf(line, mounts), path: printable(Buffer.from(path, 'latin1')) };
  }
  return undefined;
}

function mountOf(found: MountLine, mounts: readonly MountLine[]): FoundMount {
  const { mountpoint, source, userId } = found;
  const whole = mounts.filter((line) => line.device === found.device && line.root === '/');
  const others = whole.map((line) => line.mountpoint).filter((at) => at !== mountpoint);
  const own = found.root === '/' ? [mountpoint] : [];
  return { mountpoint, source, mountpoints: [...own, ...new Set(others)], userId };
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
