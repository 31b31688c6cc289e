/**
 * Why something could not be sent, for people: in plain words, with the server's own name of it
 * behind them, by which one finds it in the documentation.
 */

const words: Readonly<Record<string, string>> = {
  NFS3ERR_STALE: 'the server has lost the file',
  NFS3ERR_NOENT: 'the server has no such file',
  NFS3ERR_NOSPC: 'the server has no space left',
  NFS3ERR_DQUOT: 'the quota at the server is used up',
  NFS3ERR_FBIG: 'the file is too large for the server',
  NFS3ERR_ACCES: 'the server does not allow it',
  NFS3ERR_PERM: 'the server does not allow it',
  NFS3ERR_ROFS: 'the export is read-only',
  NFS3ERR_IO: "the server's disk has failed",
};

/** `GETATTR: NFS3ERR_STALE` as `the server has lost the file (NFS3ERR_STALE)`; others as they are. */
export function reasonText(reason: string): string {
  const name = /^[A-Z]+: (?<name>NFS3ERR_[A-Z0-9_]+)$/.exec(reason)?.groups?.name;
  const plain = name === undefined ? undefined : words[name];
  return plain === undefined ? reason : `${plain} (${name})`;
}
