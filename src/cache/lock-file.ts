/**
 * LOCK of an export's directory: an flock(2), which ends with its daemon however that ends, and
 * inside one line of JSON that says who has it. The line is rewritten in place, since a new file
 * would have no lock; blanks behind it cover a longer one.
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
  readonly state: 'serving' | 'draining';
}

/** Longer than any line: two paths of 4096 bytes, six bytes for one at worst. */
export const LOCK_BYTES = 65536;

/** Errno. */
export function writeLock(io: FileIo, fd: number, holder: LockHolder): Promise<number> {
  const { pid, socket, mountpoint, source, state } = holder;
  const line = Buffer.from(JSON.stringify({ pid, socket, mountpoint, source, state }));
  const length = Math.ceil((line.length + 1) / LINE_STEP) * LINE_STEP;
  const bytes = Buffer.alloc(length, ' ');
  line.copy(bytes);
  bytes.write('\n', length - 1);
  return io.write(fd, 0, bytes);
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

const LINE_STEP = 1024;

function isHolder(value: unknown): value is LockHolder {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, socket, mountpoint, source, state } = value as Record<string, unknown>;
  return (
    typeof pid === 'number' &&
    typeof socket === 'string' &&
    typeof mountpoint === 'string' &&
    typeof source === 'string' &&
    (state === 'serving' || state === 'draining')
  );
}
