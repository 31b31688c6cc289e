/**
 * What is mounted where, from /proc/self/mountinfo (proc(5)): the one way to ask about our own
 * mount without touching it, which from inside the daemon would wait for itself.
 */
import { readFile, writeFile } from 'node:fs/promises';

export interface MountLine {
  /** `major:minor` of st_dev. */
  readonly device: string;
  /** Which directory of the file system is mounted there: not '/' of a bind mount of a part. */
  readonly root: string;
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
  /** Of a FUSE mount: who has made it. */
  readonly userId: number | undefined;
}

/** All mounts of this mount namespace, in order: a later line hides earlier ones. */
export async function readMounts(): Promise<MountLine[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** What is visible at this real path, or undefined when nothing is mounted right there. */
export async function mountAt(mountpoint: string): Promise<MountLine | undefined> {
  return (await readMounts()).findLast((line) => line.mountpoint === mountpoint);
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` */
export function parseMounts(text: string): MountLine[] {
  const lines: MountLine[] = [];
  for (const line of text.split('\n')) {
    const [before = '', after] = line.split(' - ');
    if (after === undefined) continue;
    const [, , device = '', root = '', mountpoint = ''] = before.split(' ');
    const [type = '', source = '', options = ''] = after.split(' ');
    const userId = /(?:^|,)user_id=([0-9]+)/.exec(options)?.[1];
    lines.push({
      device,
      root: plain(root),
      mountpoint: plain(mountpoint),
      type,
      source: plain(source),
      userId: userId === undefined ? undefined : Number(userId),
    });
  }
  return lines;
}

/** The kernel's read-ahead of a mounted device, in KiB; undefined where it is not told. */
export async function readReadAhead(device: string): Promise<number | undefined> {
  try {
    return Number(await readFile(readAheadPath(device), 'utf8'));
  } catch {
    return undefined;
  }
}

/** Root may set it. False when it could not be. */
export async function writeReadAhead(device: string, kib: number): Promise<boolean> {
  try {
    await writeFile(readAheadPath(device), String(kib));
    return true;
  } catch {
    return false;
  }
}

function readAheadPath(device: string): string {
  return `/sys/class/bdi/${device}/read_ahead_kb`;
}

/** Blank, tab, newline and backslash stand as three octal digits. */
function plain(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
