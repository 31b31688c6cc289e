/**
 * Attaching a connection to a directory and taking it off again: mount(2) and umount2(2) where we
 * are root, else fusermount3, which passes /dev/fuse back through a socket (_FUSE_COMMFD).
 *
 * Nothing here touches the mounted directory once it is mounted.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { realpath, stat, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { err, ok, type Result } from '../base/result.ts';
import type { Binding } from './binding.ts';
import { mountAt, readMounts } from './mountinfo.ts';
import { READ_MAX_BYTES } from './operations.ts';
import type { MountError, MountErrorCode, MountSettings, UnmountError } from './transport.ts';

/** The type under which the mount shows: `fuse.gvfs`. */
export const SUBTYPE = 'gvfs';
const FUSE_DEVICE = '/dev/fuse';

/** sys/mount.h */
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** errno-base.h; Node's names come with errors that Node made, these with the addon's. */
const EPERM = 1;
const EBUSY = 16;
const EINVAL = 22;

/**
 * One mount among those that may be stacked at a directory, or follow each other there: it is never
 * taken for another one.
 */
export interface Place {
  readonly mountpoint: string;
  /** `major:minor`, of this mount alone as long as it lives; undefined: it was gone at once. */
  readonly device: string | undefined;
}

export interface Attached {
  /** The connection: /dev/fuse. The caller's to close. */
  readonly fd: number;
  readonly place: Place;
}

/** Mounts. The kernel's INIT then waits on the connection. */
export async function attach(
  binding: Binding,
  settings: MountSettings,
): Promise<Result<Attached, MountError>> {
  const checked = await checkMountpoint(settings.mountpoint);
  if (!checked.ok) return checked;
  const mountpoint = checked.value;
  const mounted = isRoot()
    ? await mountAsRoot(binding, settings, mountpoint)
    : await mountByFusermount(binding, settings, mountpoint);
  if (!mounted.ok) return mounted;
  return ok({ fd: mounted.value, place: await placeAt(mountpoint) });
}

/** What was just mounted there. */
export async function placeAt(mountpoint: string): Promise<Place> {
  return { mountpoint, device: (await mountAt(mountpoint))?.device };
}

/** Whether the mount is what unmounting its directory would take away. */
export async function isOnTop({ mountpoint, device }: Place): Promise<boolean> {
  return device !== undefined && (await mountAt(mountpoint))?.device === device;
}

/** Whether the mount is in the tree, be it beneath others. */
export async function isInTree({ device }: Place): Promise<boolean> {
  return (await readMounts()).some((line) => line.device === device);
}

/** Asks for an orderly unmount: refused while the mount is in use. */
export async function detach(binding: Binding, place: Place): Promise<Result<void, UnmountError>> {
  const { mountpoint } = place;
  if (!(await isOnTop(place))) return err(unmountError(mountpoint, EINVAL));
  if (isRoot()) {
    const errno = await binding.unmount(mountpoint, UMOUNT_NOFOLLOW);
    return errno === 0 ? ok(undefined) : err(unmountError(mountpoint, errno));
  }
  return detachByFusermount(mountpoint, false);
}

/** The same, by fusermount3. `lazy`: out of the tree at once, though it be in use. */
export async function detachByFusermount(
  mountpoint: string,
  lazy: boolean,
): Promise<Result<void, UnmountError>> {
  const ended = await runFusermount([lazy ? '-uz' : '-u', '--', mountpoint], undefined);
  if (ended.status === 0) return ok(undefined);
  if (/busy/i.test(ended.text)) return err(unmountError(mountpoint, EBUSY));
  if (/not mounted|not found|invalid/i.test(ended.text)) {
    return err(unmountError(mountpoint, EINVAL));
  }
  return err({ code: 'FAILED', message: `cannot unmount ${mountpoint}: ${ended.text}` });
}

/** Takes the mount out of the tree, busy or not: what a failed session does at its end. */
export async function abandon(binding: Binding, place: Place): Promise<void> {
  const { mountpoint } = place;
  if (!(await isOnTop(place))) return;
  if (isRoot()) {
    // Force fails all that waits, and then says whether the mount is still in use.
    if ((await binding.unmount(mountpoint, UMOUNT_NOFOLLOW | MNT_FORCE)) === 0) return;
    await binding.unmount(mountpoint, UMOUNT_NOFOLLOW | MNT_DETACH);
  } else {
    await detachByFusermount(mountpoint, true);
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

function mountError(code: MountErrorCode, message: string): Result<never, MountError> {
  return err({ code, message });
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** How long someone else's FUSE mount may take to show that it lives. */
const STALE_CHECK_MS = 2000;

/** The real path of a directory that can be mounted upon. */
export async function checkMountpoint(path: string): Promise<Result<string, MountError>> {
  const absolute = resolve(path);
  const present = await mountAt(absolute);
  if (present?.type.startsWith('fuse')) {
    // A dead connection answers at once; a live one may hang, and is in use either way. Attributes
    // may be cached from when it lived, statistics are not.
    const timeout = new Promise<undefined>((done) => {
      setTimeout(done, STALE_CHECK_MS, undefined).unref();
    });
    const failure = await Promise.race([
      statfs(absolute).then(() => undefined, errorCode),
      timeout,
    ]);
    return failure === 'ENOTCONN'
      ? stale(absolute)
      : mountError('MOUNTPOINT_BUSY', `${absolute} is in use: ${present.source} is mounted there`);
  }
  try {
    const real = await realpath(absolute);
    if (!(await stat(real)).isDirectory()) {
      return mountError('MOUNTPOINT_NOT_DIRECTORY', `${absolute} is not a directory`);
    }
    return ok(real);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOTCONN') return stale(absolute);
    if (code === 'ENOTDIR') {
      return mountError('MOUNTPOINT_NOT_DIRECTORY', `${absolute} is not a directory`);
    }
    if (code === 'ENOENT') {
      return mountError('MOUNTPOINT_MISSING', `${absolute} does not exist: create it first`);
    }
    return mountError('MOUNT_DENIED', `${absolute} cannot be used as a mountpoint: ${code}`);
  }
}

function stale(path: string): Result<never, MountError> {
  return mountError(
    'MOUNTPOINT_STALE',
    `${path} is the mountpoint of a daemon that is gone ("Transport endpoint is not connected"): ` +
      `free it with: fusermount3 -u ${path}`,
  );
}

async function mountAsRoot(
  binding: Binding,
  settings: MountSettings,
  mountpoint: string,
): Promise<Result<number, MountError>> {
  let fd: number;
  try {
    fd = openSync(FUSE_DEVICE, 'r+');
  } catch (error) {
    return noDevice(errorCode(error));
  }
  const flags =
    (settings.readOnly ? MS_RDONLY : 0) |
    (settings.suid ? 0 : MS_NOSUID) |
    (settings.dev ? 0 : MS_NODEV) |
    (settings.exec === false ? MS_NOEXEC : 0);
  const options = [`fd=${fd}`, 'rootmode=40000', 'user_id=0', 'group_id=0', ...common(settings)];
  const type = `fuse.${SUBTYPE}`;
  const errno = await binding.mount(settings.source, mountpoint, type, flags, options.join(','));
  if (errno === 0) return ok(fd);
  closeSync(fd);
  return errno === EPERM
    ? mountError(
        'MOUNT_DENIED',
        `mounting on ${mountpoint} is not permitted: CAP_SYS_ADMIN is needed`,
      )
    : mountError('MOUNT_FAILED', `mounting on ${mountpoint} failed with errno ${errno}`);
}

async function mountByFusermount(
  binding: Binding,
  settings: MountSettings,
  mountpoint: string,
): Promise<Result<number, MountError>> {
  const missing = await missingDevice();
  if (missing !== undefined) return missing;
  const pair = binding.socketPair();
  if (typeof pair === 'number') {
    return mountError('MOUNT_FAILED', `no socket for fusermount3: errno ${-pair}`);
  }
  const [ours, theirs] = pair;
  try {
    const options = [
      settings.readOnly ? 'ro' : 'rw',
      'nosuid',
      'nodev',
      ...(settings.exec === false ? ['noexec'] : []),
      `fsname=${escapeOption(settings.source)}`,
      `subtype=${SUBTYPE}`,
      ...common(settings),
    ];
    const ended = await runFusermount(['-o', options.join(','), '--', mountpoint], theirs);
    if (ended.missing) {
      return mountError('NO_FUSERMOUNT', 'fusermount3 is not installed: install the package fuse3');
    }
    if (ended.status !== 0) return fusermountError(mountpoint, ended.text);
    const fd = binding.receiveFd(ours);
    return fd >= 0
      ? ok(fd)
      : mountError('MOUNT_FAILED', `fusermount3 did not hand over ${FUSE_DEVICE}: errno ${-fd}`);
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

function common(settings: MountSettings): string[] {
  return [
    `max_read=${READ_MAX_BYTES}`,
    ...(settings.allowOther ? ['allow_other'] : []),
    ...(settings.defaultPermissions ? ['default_permissions'] : []),
  ];
}

function noDevice(code: string): Result<never, MountError> {
  if (code === 'EACCES' || code === 'EPERM') {
    return mountError(
      'FUSE_DEVICE_DENIED',
      `${FUSE_DEVICE} may not be opened by this user: its mode has to be 0666, as udev sets it`,
    );
  }
  return mountError(
    'NO_FUSE_DEVICE',
    `${FUSE_DEVICE} is not there (${code}): load it with: modprobe fuse`,
  );
}

/** fusermount3 would tell the same, less clearly. */
async function missingDevice(): Promise<Result<never, MountError> | undefined> {
  try {
    closeSync(openSync(FUSE_DEVICE, 'r+'));
    return undefined;
  } catch (error) {
    return noDevice(errorCode(error));
  }
}

function fusermountError(mountpoint: string, text: string): Result<never, MountError> {
  if (/user_allow_other/.test(text)) {
    return mountError(
      'MOUNT_DENIED',
      'allow_other is not permitted to this user: write user_allow_other into /etc/fuse.conf',
    );
  }
  if (/no write access|permission denied|not permitted/i.test(text)) {
    return mountError('MOUNT_DENIED', `mounting on ${mountpoint} is not permitted: ${text}`);
  }
  return mountError('MOUNT_FAILED', `mounting on ${mountpoint} failed: ${text}`);
}

interface FusermountEnd {
  readonly missing: boolean;
  readonly status: number;
  /** What it had to say, on one line. */
  readonly text: string;
}

/**
 * Where programs of the system are looked for. Spawning waits until the program was found, so that
 * a look into our own mount would never end: /usr/local, which sites do mount, comes last.
 */
export const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin';

/** `commFd` is the socket into which a mount's /dev/fuse is put. */
function runFusermount(
  args: readonly string[],
  commFd: number | undefined,
): Promise<FusermountEnd> {
  return new Promise((done) => {
    const child = spawn('fusermount3', args, {
      stdio: ['ignore', 'ignore', 'pipe', commFd ?? 'ignore'],
      env: {
        PATH: SYSTEM_PATH,
        LC_ALL: 'C',
        _FUSE_COMMFD: '3',
      },
    });
    let text = '';
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    child.on('error', (error) => {
      const missing = ['ENOENT', 'EACCES'].includes(errorCode(error));
      done({ missing, status: 1, text: error.message });
    });
    child.on('close', (status) => {
      const line = text.trim().replace(/\s*\n\s*/g, '; ');
      done({ missing: false, status: status ?? 1, text: line });
    });
  });
}

/** fusermount3 takes a backslash before a comma or a backslash. */
export function escapeOption(text: string): string {
  return text.replace(/[\\,]/g, '\\$&');
}

function unmountError(mountpoint: string, errno: number): UnmountError {
  if (errno === EBUSY) {
    return { code: 'BUSY', message: `${mountpoint} is in use: a process has something open there` };
  }
  if (errno === EINVAL) return { code: 'NOT_MOUNTED', message: `${mountpoint} is not mounted` };
  return { code: 'FAILED', message: `unmounting ${mountpoint} failed with errno ${errno}` };
}
