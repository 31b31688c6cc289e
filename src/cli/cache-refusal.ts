/**
 * What to do about a cache directory that is refused: the cache says in a clause what is wrong with
 * it, the command what its user can do.
 */

/** undefined where the clause is of something else. */
export function cacheRefusalAdvice(message: string): string | undefined {
  const open = /(?<path>\/.*) is open to others \(/s.exec(message)?.groups?.path;
  if (open !== undefined) return `chmod 700 ${open}`;
  if (isAnothers(message)) return 'run it as the user whose cache it is';
  return undefined;
}

/** Whether it is another user's cache, as far as that can be told. */
export function isAnothers(message: string): boolean {
  return / belongs to user \d+, not to |\bEACCES\b|ermission denied/.test(message);
}
