/**
 * All that a mount is told before it starts: made from the command line, checked, and passed to
 * the daemon's process as it is.
 */
import type { MountSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import type { OptionNote } from '../config/parse-options.ts';
import type { LogLevel } from '../observe/log.ts';

export interface MountPlan {
  readonly source: MountSource;
  /** The real path of an existing directory. */
  readonly mountpoint: string;
  readonly settings: Settings;
  /** An absolute path, made where it is missing; undefined: nothing is cached. */
  readonly cacheDirectory: string | undefined;
  /** Where the daemon listens for `gvfs`: an absolute path. */
  readonly socket: string;
  /** On options that do not do what they say: for the log. */
  readonly notes: readonly OptionNote[];
  readonly log: LogPlan;
}

export interface LogPlan {
  /** An absolute path; undefined is standard error. */
  readonly file: string | undefined;
  /** The file was asked for: without it there is no mount. */
  readonly required: boolean;
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
}
