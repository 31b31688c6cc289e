/**
 * What the server allowed whom on an inode (ACCESS), caller by caller.
 *
 * An answer is believed while the inode's attributes are fresh and neither its mode nor its owner
 * has changed, nor its ctime by another's hand. Nothing that one caller was allowed ever answers
 * another: credentials are equal or they are strangers.
 */
import { type Credentials, credentialsKey } from '../base/credentials.ts';

/** Callers remembered for one inode; the oldest goes first. */
const maxCallers = 64;

export interface AccessState {
  /** The inode's `accessVersion` that `callers` belongs to. */
  version: number;
  readonly callers: Map<string, { asked: number; granted: number }>;
}

export function newAccessState(): AccessState {
  return { version: 0, callers: new Map() };
}

/** The granted bits of `wanted`, or undefined when some of them were never asked for. */
export function knownAccess(
  state: AccessState,
  version: number,
  as: Credentials,
  wanted: number,
): number | undefined {
  if (state.version !== version) return undefined;
  const answer = state.callers.get(credentialsKey(as));
  if (answer === undefined || (answer.asked & wanted) !== wanted) return undefined;
  return answer.granted & wanted;
}

/** Whether what is kept is of the inode's `version`. */
export function isForVersion(state: AccessState, version: number): boolean {
  return state.version === version;
}

/** Keeps an answer of the server's. */
export function learnAccess(
  state: AccessState,
  version: number,
  as: Credentials,
  asked: number,
  granted: number,
): void {
  learnAccessByKey(state, version, credentialsKey(as), asked, granted);
}

/** The same of a caller that is known by its `credentialsKey`. */
export function learnAccessByKey(
  state: AccessState,
  version: number,
  key: string,
  asked: number,
  granted: number,
): void {
  if (state.version !== version) {
    state.callers.clear();
    state.version = version;
  }
  const earlier = state.callers.get(key) ?? { asked: 0, granted: 0 };
  state.callers.delete(key);
  state.callers.set(key, {
    asked: earlier.asked | asked,
    granted: (earlier.granted & ~asked) | (granted & asked),
  });
  if (state.callers.size <= maxCallers) return;
  const [oldest] = state.callers.keys();
  if (oldest !== undefined) state.callers.delete(oldest);
}
