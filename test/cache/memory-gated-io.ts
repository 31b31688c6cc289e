/**
 * Local files whose work is done, or fails, when a test says so.
 */
import type { FileIo } from '../../src/cache/file-io.ts';
import type { Gate } from './memory-source.ts';

export type Work =
  | 'store'
  | 'overwrite'
  | 'write'
  | 'read'
  | 'sums'
  | 'punch'
  | 'truncate'
  | 'sync';

export class GatedIo {
  /** Where work waits; undefined: it is done at once. */
  gates: Gate[] | undefined;
  /** Work that fails, with which errno, and how often still. */
  readonly failing = new Map<Work, { errno: number; times: number }>();
  readonly counts: Record<Work, number> = {
    store: 0,
    overwrite: 0,
    write: 0,
    read: 0,
    sums: 0,
    punch: 0,
    truncate: 0,
    sync: 0,
  };
  readonly io: FileIo;

  constructor(inner: FileIo) {
    const failed = (errno: number) => ({ errno, sums: new Uint32Array() });
    this.io = {
      store: (...given) => this.#work('store', () => inner.store(...given), failed),
      overwrite: (fd, offset, bytes, compare) =>
        this.#work(
          'overwrite',
          () => inner.overwrite(fd, offset, bytes, compare),
          (errno) => {
            const nothing = new Uint16Array(compare.length);
            const oldSums = new Uint32Array(compare.length);
            return { errno, changed: nothing, zeros: nothing, oldSums };
          },
        ),
      write: (...given) => this.#work('write', () => inner.write(...given), asIs),
      read: (...given) =>
        this.#work(
          'read',
          () => inner.read(...given),
          (errno) => ({ errno, got: 0 }),
        ),
      sums: (...given) => this.#work('sums', () => inner.sums(...given), failed),
      punch: (...given) => this.#work('punch', () => inner.punch(...given), asIs),
      truncate: (...given) => this.#work('truncate', () => inner.truncate(...given), asIs),
      sync: (...given) => this.#work('sync', () => inner.sync(...given), asIs),
      size: (...given) => inner.size(...given),
      lock: (...given) => inner.lock(...given),
      close: () => inner.close(),
    };
  }

  async #work<T>(work: Work, run: () => Promise<T>, failed: (errno: number) => T): Promise<T> {
    this.counts[work]++;
    const { gates } = this;
    if (gates !== undefined) {
      await new Promise<void>((resolve) => {
        gates.push({ what: work, open: resolve });
      });
    }
    const failure = this.failing.get(work);
    if (failure === undefined || failure.times === 0) return run();
    failure.times--;
    return failed(failure.errno);
  }
}

function asIs(errno: number): number {
  return errno;
}
