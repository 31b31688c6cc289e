/**
 * In whose name a call is made (RFC 5531, appendix A: AUTH_SYS carries at most 16 groups).
 */

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, without `gid`; only the first 16 travel. */
  readonly groups: readonly number[];
}

/** One string for equal credentials: the key under which what the server allowed is kept. */
export function credentialsKey(credentials: Credentials): string {
  return `${credentials.uid}:${credentials.gid}:${credentials.groups.join(',')}`;
}
