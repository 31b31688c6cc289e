/**
 * The file system's policy, with mount.nfs's names and defaults where nfs(5) has them.
 */

export interface VfsOptions {
  /** Attributes of files are believed for at least, at most this long (nfs(5): 3 s, 60 s). */
  readonly acregminMs: number;
  readonly acregmaxMs: number;
  /** The same for directories, and so for the names in them (nfs(5): 30 s, 60 s). */
  readonly acdirminMs: number;
  readonly acdirmaxMs: number;
  /** False: no attribute and no name is believed longer than the call that asked (noac). */
  readonly attributeCaching: boolean;
  /** Which names are believed without asking: all, only those that exist, or none. */
  readonly lookupcache: 'all' | 'positive' | 'none';
  /** False: never READDIRPLUS. */
  readonly readdirplus: boolean;
  /** EROFS for every change; `session: 'readonly'` says it too. */
  readonly readOnly: boolean;
  /**
   * Who else changes the export while it is mounted: anybody ('shared'), nobody ('exclusive'), not
   * even this mount ('readonly'). What is known is asked for again only in 'shared'.
   */
  readonly session: 'shared' | 'exclusive' | 'readonly';
  /**
   * Where writes are acknowledged: by the server ('through'), or by the local disk, which sends
   * them by its policy ('back') or only when told to ('deferred'). Without a cache: 'through'.
   */
  readonly write: 'through' | 'back' | 'deferred';
  /**
   * What fsync(2) of a file with unsent writes waits for where nobody else looks at the file
   * (exclusive): the local disk, or the server. In other sessions it is the server.
   */
  readonly fsync: 'local' | 'server';
  /**
   * Other users than the mounting one reach this mount. The kernel's cached names serve every
   * user unasked, so then they are given out only where everybody may search.
   */
  readonly allowOther: boolean;
  /** Names kept, existing and not. */
  readonly nameCacheEntries: number;
  /** Uncommitted bytes of one file at which a COMMIT starts in the background. */
  readonly commitFileBytes: number;
  /** Uncommitted bytes of all files at which that happens. */
  readonly commitTotalBytes: number;
  /** Uncommitted bytes of all files at which writers wait for a COMMIT. */
  readonly uncommittedMaxBytes: number;
  /** Payloads shorter than this are copied when kept, so that they do not pin a large buffer. */
  readonly copyBelowBytes: number;
  /**
   * What is written up to here, of a file of which the cache keeps nothing, is not kept either:
   * small files that are written and closed are as quick as without a cache.
   */
  readonly smallFileBytes: number;
  /** Bytes of one READDIR or READDIRPLUS answer. */
  readonly directoryPageBytes: number;
}

export const defaultVfsOptions: VfsOptions = {
  acregminMs: 3_000,
  acregmaxMs: 60_000,
  acdirminMs: 30_000,
  acdirmaxMs: 60_000,
  attributeCaching: true,
  lookupcache: 'all',
  readdirplus: true,
  readOnly: false,
  session: 'shared',
  write: 'through',
  fsync: 'local',
  allowOther: true,
  nameCacheEntries: 50_000,
  commitFileBytes: 4 * 1024 * 1024,
  commitTotalBytes: 48 * 1024 * 1024,
  uncommittedMaxBytes: 80 * 1024 * 1024,
  copyBelowBytes: 512 * 1024,
  smallFileBytes: 1024 * 1024,
  directoryPageBytes: 128 * 1024,
};

/** Whether the local disk may acknowledge writes. */
export function keepsWrites({ write, readOnly }: VfsOptions): boolean {
  return write !== 'through' && !readOnly;
}

/** What close(2) and fsync(2) make of unsent writes. */
export function durability(options: VfsOptions): {
  readonly close: 'nothing' | 'server';
  readonly fsync: 'local' | 'server';
} {
  if (options.session !== 'exclusive' || !keepsWrites(options)) {
    return { close: 'server', fsync: 'server' };
  }
  return { close: 'nothing', fsync: options.fsync };
}
