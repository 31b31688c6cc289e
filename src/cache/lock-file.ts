/**
 * LOCK of an export's directory: an flock(2), which ends with its daemon however that ends, and
 * inside one line of JSON that says who has it. The line is rewritten in place, since a new file
 * would have no lock: what follows the first line is of a longer one, and means nothing.
 */
import type { FileIo } from './file-io.ts';

/** What a daemon says of itself. */
export interface LockHolder {
  readonly pid: number;
  /** Of its control socket; empty when it has none. */
  readonly socket: string;
  readonly mountpoint: string;
  /** `host:port:/export` */
  readonly source: string;
  /** It may change files of the export. */
  readonly changes: boolean;
  /** 'ended': in order, all of it written down. */
  readonly state: 'serving' | 'draining' | 'ended';
}

/** Longer than any line: two paths of 4096 bytes, six bytes for one at worst. */
export const LOCK_BYTES = 65536;

/** Errno. */
export async function writeLock(io: FileIo, fd: number, holder: LockHolder): Promise<number> {
  const { pid, socket, mountpoint, source, changes, state } = holder;
  const fields = { pid, socket, mountpoint, source, changes, state };
  const line = Buffer.from(`${JSON.stringify(fields)}\n`);
  const errno = await io.write(fd, 0, line);
  return errno === 0 ? io.truncate(fd, line.length) : errno;
}

/** Undefined when the line is none of ours, or half written. */
export function parseLock(bytes: Buffer): LockHolder | undefined {
  const [line = ''] = bytes.toString().split('\n');
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return isHolder(value) ? value : undefined;
}

function isHolder(value: unknown): value is LockHolder {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, socket, mountpoint, source, changes, state } = value as Record<string, unknown>;
  return (
    typeof pid === 'number' &&
    typeof socket === 'string' &&
    typeof mountpoint === 'string' &&
    typeof source === 'string' &&
    typeof changes === 'boolean' &&
    (state === 'serving' || state === 'draining' || state === 'ended')
  );
}
