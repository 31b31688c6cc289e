/**
 * Every way a mount can fail, as one sentence and mount(8)'s exit status. The sentence says what
 * happened, then what to do about it.
 */
import { unreachable } from '../base/assert.ts';
import type { SourceError } from '../config/mount-source.ts';
import type { OptionError } from '../config/parse-options.ts';
import type { MountErrorCode, MountFailure, ServerRefusal } from '../daemon/mount-failure.ts';
import { harmless } from '../observe/printable.ts';
import { cacheRefusalAdvice } from './cache-refusal.ts';

/** Exit statuses, as mount(8) has them. */
export const ExitStatus = {
  success: 0,
  /** Incorrect invocation, or permissions. */
  usage: 1,
  /** The system lacks something. */
  system: 2,
  internal: 4,
  interrupted: 8,
  failed: 32,
  /** Of -f: the mount has ended, and writes stay in the cache (sysexits.h, EX_TEMPFAIL). */
  unsent: 75,
} as const;
export type ExitStatus = (typeof ExitStatus)[keyof typeof ExitStatus];

/** The command line itself cannot be understood. */
export interface UsageError {
  readonly kind: 'usage';
  readonly what: string;
  readonly toDo: string;
}

export type CommandError = UsageError | OptionError | SourceError | MountFailure;

export interface Report {
  readonly status: ExitStatus;
  readonly what: string;
  readonly toDo: string;
}

export function report(error: CommandError): Report {
  switch (error.kind) {
    case 'usage':
      return say('usage', error.what, error.toDo);
    case 'unknown-option':
      return say(
        'usage',
        `unknown option "${error.option}"`,
        error.nearest === undefined
          ? 'gvfs-mount --help lists them all'
          : `did you mean "${error.nearest}"?`,
      );
    case 'refused-option':
      return say('usage', `option "${error.option}" is not supported`, error.instead);
    case 'bad-value':
      return say(
        'usage',
        `option "${error.option}=${error.value}" is not possible`,
        `use ${error.expected}`,
      );
    case 'missing-value':
      return say('usage', `option "${error.option}" needs a value`, `use ${error.expected}`);
    case 'unwanted-value':
      return say('usage', `option "${error.option}" takes no value`, 'leave out the equals sign');
    case 'contradiction':
      return say('usage', `option "${error.option}" contradicts "${error.against}"`, error.toDo);
    case 'bad-source':
      return say('usage', `"${error.source}" cannot be mounted`, error.hint);
    case 'mountpoint':
      return mountpointReport(error);
    case 'server':
      return serverReport(error.detail, error);
    case 'root':
      return say(
        'failed',
        `the root of ${error.source} cannot be read (${error.message})`,
        "look at the server's log",
      );
    case 'kernel':
      return kernelReport(error);
    case 'log':
      return say(
        'usage',
        `the log cannot be opened (${error.reason})`,
        'name another file with -o log=FILE',
      );
    case 'logInside':
      return say(
        'usage',
        `the log ${error.file} lies beneath the mountpoint ${error.mountpoint}`,
        'name a file elsewhere with -o log=FILE',
      );
    case 'cache':
      return cacheReport(error);
    case 'died':
      return say(
        'internal',
        `the daemon ended ${error.how} before the mount answered`,
        'run it with -f to see why',
      );
    case 'interrupted':
      return say('interrupted', 'interrupted', 'nothing is mounted');
    case 'internal':
      return say('internal', `internal error (${error.message})`, 'please report it, with the log');
    default:
      return unreachable(error);
  }
}

/** The one line for standard error. */
export function sentence(command: string, { what, toDo }: Omit<Report, 'status'>): string {
  return harmless(`${command}: ${what}: ${toDo}`.replace(/\s*[\p{Cc}\p{Zl}\p{Zp}]+\s*/gu, ' '));
}

function say(status: keyof typeof ExitStatus, what: string, toDo: string): Report {
  return { status: ExitStatus[status], what, toDo };
}

function mountpointReport(failure: MountFailure & { kind: 'mountpoint' }): Report {
  const { mountpoint } = failure;
  switch (failure.fault) {
    case 'missing':
      return say('failed', `${mountpoint} does not exist`, `make it first, with mkdir`);
    case 'notDirectory':
      return say('failed', `${mountpoint} is not a directory`, 'mount on a directory');
    case 'inUse':
      return say(
        'failed',
        `${mountpoint} is in use, ${failure.occupant ?? 'a gvfs mount'} is mounted there`,
        `unmount it first, with fusermount3 -u ${mountpoint}`,
      );
    case 'stale':
      return say(
        'failed',
        `${mountpoint} is left over from a daemon that is gone ` +
          '(Transport endpoint is not connected)',
        `free it with fusermount3 -u ${mountpoint}`,
      );
    case 'hangs':
      return say(
        'failed',
        `${mountpoint} does not answer, what is mounted there hangs`,
        `unmount it first, with umount -l ${mountpoint}`,
      );
    case 'denied':
      return say('usage', `${mountpoint} may not be looked at`, 'mount on a directory of yours');
    default:
      return unreachable(failure.fault);
  }
}

function cacheReport({ fault, directory, message }: MountFailure & { kind: 'cache' }): Report {
  const other = 'name another directory with -o cachedir=DIR, or mount without a cache, -o nocache';
  switch (fault) {
    case 'nowhere':
      return say('usage', 'there is no home to keep the cache in', other);
    case 'inside':
      return say('usage', `the cache ${directory} lies beneath the mountpoint ${message}`, other);
    case 'locked':
      return say(
        'failed',
        `the cache is taken, ${message}`,
        `${lockedAdvice(message)}, or ${other}`,
      );
    case 'unusable': {
      const advice = cacheRefusalAdvice(message);
      const toDo = advice === undefined ? other : `${advice}, or ${other}`;
      return say('failed', `the cache in ${directory} cannot be used (${message})`, toDo);
    }
    default:
      return unreachable(fault);
  }
}

/** Its mount may have left the tree, and the daemon wait for the last file to be closed. */
function lockedAdvice(message: string): string {
  const found = /in use by the daemon (?<pid>\d+), which serves .* at (?<at>\/[^,]*)/s.exec(
    message,
  );
  const { pid, at } = found?.groups ?? {};
  if (pid === undefined || at === undefined) return 'unmount that first';
  return (
    `unmount ${at} first; if it is not mounted any more, ` +
    `the daemon waits for files that are open: end who has them, or kill ${pid}`
  );
}

/** What is at the server's side. */
function serverReport(
  detail: ServerRefusal,
  { server, exportPath, message, exports }: MountFailure & { kind: 'server' },
): Report {
  const log = "look at the server's log";
  switch (detail.kind) {
    case 'unreachable':
      return unreachableReport(detail, server);
    case 'timeout':
      return say(
        'failed',
        `${server} is connected on port ${detail.port} (${detail.service}) but does not answer`,
        'see whether the server hangs, or whether that port is its',
      );
    case 'notRegistered':
      return detail.service === 'nfs'
        ? say(
            'failed',
            `${server} has no NFS version 3 service over TCP`,
            'enable it there, or name its port with -o port=N',
          )
        : say(
            'failed',
            `${server} has no MOUNT version 3 service over TCP`,
            'enable it there, or name its port with -o mountport=N',
          );
    case 'refused':
      return refusedReport(detail, server, exportPath, exports);
    case 'denied':
      return detail.fromPrivilegedPort
        ? say(
            'failed',
            `${server} refuses our credentials (${detail.stat})`,
            `have it export ${exportPath} with sec=sys`,
          )
        : unprivileged(server, exportPath);
    case 'notDone':
      return say(
        'failed',
        `${server} has no ${detail.service} of version 3 there (${detail.stat})`,
        'enable NFS version 3 on the server, or name the right port',
      );
    case 'noFlavor':
      return say(
        'failed',
        `${server} wants an authentication that gvfs does not have`,
        `have it export ${exportPath} with sec=sys`,
      );
    case 'fsinfo':
      return detail.status === 'NFS3ERR_ACCES' || detail.status === 'NFS3ERR_PERM'
        ? denied(server, exportPath)
        : say('failed', `${server} cannot use its export ${exportPath} (${detail.status})`, log);
    case 'protocol':
      return say(
        'failed',
        `what answers on port ${detail.port} of ${server} is no ${detail.service}`,
        'check the port',
      );
    case 'options':
      return say('usage', message, 'gvfs-mount --help lists what is possible');
    default:
      return unreachable(detail);
  }
}

function unreachableReport(
  { reason, service, port }: ServerRefusal & { kind: 'unreachable' },
  server: string,
): Report {
  const options = { portmapper: 'port=N,mountport=N', mountd: 'mountport=N', nfs: 'port=N' };
  const there = `on port ${port} (${service})`;
  switch (reason) {
    case 'unknownHost':
      return say('failed', `there is no server called ${server}`, 'check its name');
    case 'refused':
      return say(
        'failed',
        `${server} accepts no connection ${there}`,
        `start the service there, or name its port with -o ${options[service]}`,
      );
    case 'noRoute':
      return say('failed', `${server} cannot be reached`, 'check its address and the network');
    case 'timeout':
      return say(
        'failed',
        `${server} does not answer ${there}`,
        'check its address, and the firewalls in between',
      );
    case 'localPort':
      return say(
        'usage',
        'no source port below 1024 is to be had',
        'run gvfs-mount as root, or try -o noresvport',
      );
    case 'lost':
      return say(
        'failed',
        `${server} closed the connection ${there} before it answered`,
        "look at the server's log",
      );
    default:
      return unreachable(reason);
  }
}

/** MNT said no. Servers hide what a client may not see, so the list of exports decides. */
function refusedReport(
  { status, fromPrivilegedPort }: ServerRefusal & { kind: 'refused' },
  server: string,
  exportPath: string,
  exports: readonly string[] | undefined,
): Report {
  switch (status) {
    case 'MNT3ERR_ACCES':
    case 'MNT3ERR_PERM':
    case 'MNT3ERR_NOENT': {
      const within = exports?.filter((path) => covers(path, exportPath)) ?? [];
      if (exports !== undefined && within.length === 0) {
        return say('failed', `${server} has no export ${exportPath}`, offer(exports));
      }
      if (status === 'MNT3ERR_NOENT') {
        return say('failed', `${server} has no directory ${exportPath}`, offer(exports ?? []));
      }
      // Servers say the same of a directory that is not there.
      const nearest = within.reduce((longest, path) => longer(longest, path), '');
      if (nearest !== '' && nearest !== exportPath) {
        return notGiven(server, exportPath, nearest, fromPrivilegedPort);
      }
      return fromPrivilegedPort ? denied(server, exportPath) : unprivileged(server, exportPath);
    }
    case 'MNT3ERR_NOTDIR':
      return say(
        'failed',
        `${exportPath} is not a directory on ${server}`,
        'mount the directory that holds it',
      );
    case 'MNT3ERR_INVAL':
    case 'MNT3ERR_NAMETOOLONG':
      return say('failed', `${server} takes no export called ${exportPath}`, 'check its name');
    case 'MNT3ERR_IO':
    case 'MNT3ERR_NOTSUPP':
    case 'MNT3ERR_SERVERFAULT':
      return say(
        'failed',
        `${server} failed to open its export ${exportPath} (${status})`,
        "look at the server's log",
      );
    default:
      return unreachable(status);
  }
}

function covers(exported: string, path: string): boolean {
  return exported === path || path.startsWith(exported === '/' ? '/' : `${exported}/`);
}

function longer(one: string, other: string): string {
  return other.length > one.length ? other : one;
}

const OFFERED_MAX = 8;

function offer(exports: readonly string[]): string {
  if (exports.length === 0) return 'have the directory exported there';
  const more = exports.length > OFFERED_MAX ? ', and others' : '';
  return `it exports ${exports.slice(0, OFFERED_MAX).join(', ')}${more}`;
}

/** A path beneath an export, which may be no directory, or not be given to this host. */
function notGiven(
  server: string,
  path: string,
  exported: string,
  fromPrivilegedPort: boolean,
): Report {
  const insecure = fromPrivilegedPort ? '' : ', and whether it is exported with "insecure"';
  return say(
    'failed',
    `${server} does not give ${path}, which lies in its export ${exported}`,
    `check that it is a directory there, and the export's clients${insecure}`,
  );
}

function denied(server: string, exportPath: string): Report {
  return say(
    'failed',
    `${server} denies this host access to ${exportPath}`,
    "add the host to the export's clients there",
  );
}

function unprivileged(server: string, exportPath: string): Report {
  return say(
    'failed',
    `${server} refuses access to ${exportPath} from an unprivileged port`,
    'run gvfs-mount as root without noresvport, or have it exported with "insecure"',
  );
}

const kernelStatus: Record<MountErrorCode, keyof typeof ExitStatus> = {
  NO_ADDON: 'system',
  NO_FUSE_DEVICE: 'system',
  FUSE_DEVICE_DENIED: 'usage',
  NO_FUSERMOUNT: 'system',
  MOUNTPOINT_MISSING: 'failed',
  MOUNTPOINT_NOT_DIRECTORY: 'failed',
  MOUNTPOINT_STALE: 'failed',
  MOUNTPOINT_BUSY: 'failed',
  MOUNT_DENIED: 'usage',
  KERNEL_TOO_OLD: 'system',
  MOUNT_FAILED: 'failed',
};

/** The transport's own sentence is kept: it knows the reason best. */
function kernelReport({ code, message }: MountFailure & { kind: 'kernel' }): Report {
  const status = kernelStatus[code];
  const colon = message.indexOf(': ');
  return colon < 0
    ? say(status, message, 'nothing is mounted')
    : say(status, message.slice(0, colon), message.slice(colon + 2));
}
