/**
 * Every way a command of gvfs can fail, as one sentence and an exit status. The sentence says what
 * happened, then what to do about it.
 */
import { unreachable } from '../base/assert.ts';
import type { CallFailure } from '../daemon/control/client.ts';
import type { ReachError } from '../daemon/control/reach.ts';
import { ErrorCode } from '../daemon/control/schema.ts';
import { sentence, type UsageError } from './mount-errors.ts';
import type { Shell } from './shell.ts';

/** Exit statuses of all commands; those that mount(8) has mean the same. */
export const GvfsStatus = {
  done: 0,
  /** Incorrect invocation, or permissions. */
  usage: 1,
  /** No mount of ours is there, or no daemon answers for it. */
  noMount: 3,
  /** A fault of ours. */
  internal: 4,
  /** It was done, and the answer is no: damage was found, pages are absent, an image was kept. */
  no: 5,
  interrupted: 8,
  /** It could not be done: the path, the server or the disk failed. */
  failed: 32,
  /** Something stays unsent (sysexits.h, EX_TEMPFAIL): it is kept in the cache, and tried again. */
  unsent: 75,
} as const;
export type GvfsStatus = (typeof GvfsStatus)[keyof typeof GvfsStatus];

export type GvfsError =
  | UsageError
  /** Of a path; without one, nothing was named. */
  | { readonly kind: 'reach'; readonly path: string | undefined; readonly error: ReachError }
  | { readonly kind: 'call'; readonly path: string; readonly error: CallFailure }
  | { readonly kind: 'interrupted' }
  /** The cache itself, without a daemon. */
  | { readonly kind: 'cache'; readonly what: string; readonly toDo: string };

export interface GvfsReport {
  readonly status: GvfsStatus;
  readonly what: string;
  readonly toDo: string;
}

export function usage(what: string, toDo: string): UsageError {
  return { kind: 'usage', what, toDo };
}

/** Says it on standard error; returns the exit status. */
export function complain(shell: Shell, error: GvfsError): GvfsStatus {
  const reported = reportOf(error);
  shell.err(`${sentence('gvfs', reported)}\n`);
  return reported.status;
}

export function reportOf(error: GvfsError): GvfsReport {
  switch (error.kind) {
    case 'usage':
      return say('usage', error.what, error.toDo);
    case 'reach':
      return reachReport(error.path, error.error);
    case 'call':
      return callReport(error.path, error.error);
    case 'interrupted':
      return say('interrupted', 'interrupted', 'what was done until then stays');
    case 'cache':
      return say('failed', error.what, error.toDo);
    default:
      return unreachable(error);
  }
}

function say(status: keyof typeof GvfsStatus, what: string, toDo: string): GvfsReport {
  return { status: GvfsStatus[status], what, toDo };
}

function reachReport(path: string | undefined, error: ReachError): GvfsReport {
  switch (error.kind) {
    case 'notMounted':
      return say(
        'noMount',
        path === undefined ? 'there is no gvfs mount here' : `${path} is in no gvfs mount`,
        // Those whose mount has left the tree are not there for findmnt.
        path === undefined ? 'findmnt -t fuse.gvfs lists them' : 'gvfs status --all lists them',
      );
    case 'noDaemon':
      return say(
        'noMount',
        `no daemon answers for ${error.mountpoint}`,
        `if it was killed, fusermount3 -u ${error.mountpoint} and mount again`,
      );
    case 'notYours':
      return say(
        'usage',
        `${error.mountpoint} is another user's mount`,
        'run gvfs as that user, or as root',
      );
    case 'unreachable':
      return say(
        'noMount',
        `the daemon of ${error.mountpoint} cannot be reached (${error.message})`,
        "look at the daemon's log",
      );
    default:
      return unreachable(error);
  }
}

const seeLog = "look at the daemon's log";

function callReport(path: string, error: CallFailure): GvfsReport {
  switch (error.kind) {
    case 'refused':
      return refusedReport(path, error);
    case 'gone':
      return say('failed', `the daemon of ${path} ended meanwhile`, seeLog);
    case 'silent':
      return say('noMount', `the daemon of ${path} does not answer`, seeLog);
    case 'strange':
      return say(
        'failed',
        `the daemon of ${path} is of another version (${error.message})`,
        'mount again, so that both are of one',
      );
    default:
      return unreachable(error);
  }
}

function refusedReport(
  path: string,
  { code, message, errno }: CallFailure & { kind: 'refused' },
): GvfsReport {
  switch (code) {
    case ErrorCode.path:
      return pathReport(path, message, errno);
    case ErrorCode.notAnImage:
      return say('failed', `${path} is no regular file`, 'name the files, one by one');
    case ErrorCode.noCache:
      return say('failed', `the mount of ${path} has no cache`, 'mount it without nocache');
    case ErrorCode.io:
      return say('failed', `${path}: ${message}`, 'gvfs status says how server and cache are');
    case ErrorCode.ending:
      return say('failed', `the mount of ${path} is ending`, 'mount again');
    case ErrorCode.held:
      return say('failed', `${path}: ${message}`, 'try again when nobody uses it');
    case ErrorCode.nothingUnsent:
      return say('failed', `${path} is in no conflict (${message})`, 'gvfs status lists those');
    case ErrorCode.busy:
      return say('failed', `the daemon of ${path} has too much to do`, 'try again');
    case ErrorCode.cancelled:
      return say('failed', `${path}: cancelled, since the daemon is ending`, 'mount again');
    case ErrorCode.badParams:
      return say('usage', `${path}: ${message}`, 'see what the command wants, with --help');
    case ErrorCode.parse:
    case ErrorCode.invalidRequest:
    case ErrorCode.unknownMethod:
      return say(
        'failed',
        `the daemon of ${path} does not know this (${message})`,
        'mount again, so that both are of one version',
      );
    case ErrorCode.internal:
      return say('internal', `internal error of the daemon of ${path}`, seeLog);
    default:
      return unreachable(code);
  }
}

/** The errno says it better than a message. */
function pathReport(path: string, message: string, errno = ''): GvfsReport {
  if (errno === 'ENOENT') return say('failed', `${path} does not exist`, lookAtName);
  if (errno === 'ENOTDIR') {
    return say('failed', `${path} goes through what is no directory`, lookAtName);
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return say(
      'failed',
      `the server does not let the daemon's user read ${path}`,
      'mount as a user who may, or allow it on the server',
    );
  }
  if (errno === 'ETIMEDOUT') {
    return say('failed', `${path}: ${message}`, 'name the mountpoint: that fails all that waits');
  }
  return say('failed', `${path}: ${message}`, lookAtName);
}

const lookAtName = 'look at its name';
