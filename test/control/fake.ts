/**
 * A running mount as the control socket sees it, without a mount: a few files, an image that can be
 * warmed by hand, and requests that wait.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileHandle, Ino, Name } from '../../src/base/brand.ts';
import { systemClock } from '../../src/base/clock.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import type {
  Controlled,
  ControlledImage,
  ControlledSending,
  Located,
  OpenFile,
  PageCounts,
  SessionSnapshot,
  UnmountHow,
  Unmounting,
  Warmed,
} from '../../src/daemon/control/controlled.ts';
import type { ImageLine } from '../../src/daemon/control/schema.ts';
import { EventHub } from '../../src/daemon/event-hub.ts';
import type { SendingHow, SentReport } from '../../src/daemon/sending.ts';
import type { UnsentFile } from '../../src/daemon/unsent-files.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';

/** A directory for one test's sockets, gone after it. */
export function temporary(): { path: string; socket: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'gvfs-control-'));
  return {
    path,
    socket: join(path, 'run', 'test.sock'),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

export const PAGE = 4096;

/** An image of eight pages: two of bytes, one zero, the rest absent. */
export class FakeImage implements ControlledImage {
  sizeBytes: number = 8 * PAGE;
  present = new Set([0, 1]);
  readonly zeros = new Set([2]);
  /** Lets a warm go on by a page; until then it waits. */
  readonly steps: (() => void)[] = [];
  isFree = true;
  cancelled = 0;

  presentBytes({ start, end } = { start: 0, end: this.sizeBytes }): number {
    const pages = [...this.present, ...this.zeros].map((page) => page * PAGE);
    const within = pages.map(
      (at) => Math.min(at + PAGE, end, this.sizeBytes) - Math.max(at, start),
    );
    return within.reduce((sum, bytes) => sum + Math.max(bytes, 0), 0);
  }

  async warm(
    range: { start: number; end: number },
    how: Parameters<ControlledImage['warm']>[1],
  ): Promise<Result<Warmed, FsError>> {
    let fetchedBytes = 0;
    let presentBytes = 0;
    const total = range.end - range.start;
    for (let page = Math.floor(range.start / PAGE); page * PAGE < range.end; page += 1) {
      if (!this.present.has(page) && !this.zeros.has(page)) {
        if (how.check) continue;
        if (!this.isFree) await this.#step(how.signal);
        if (how.signal.aborted) {
          this.cancelled += 1;
          return err(localError('EINTR', 'warm'));
        }
        this.present.add(page);
        fetchedBytes += PAGE;
      }
      presentBytes += PAGE;
      how.onProgress(presentBytes, total);
    }
    return ok({ presentBytes, fetchedBytes, damagedBytes: 0 });
  }

  pageStates(parts: number): readonly PageCounts[] {
    const pages = Math.ceil(this.sizeBytes / PAGE);
    const count = Math.min(parts, pages);
    return Array.from({ length: count }, (_, part) => {
      const [from, to] = [
        Math.floor((part * pages) / count),
        Math.floor(((part + 1) * pages) / count),
      ];
      let [present, zero] = [0, 0];
      for (let page = from; page < to; page += 1) {
        if (this.zeros.has(page)) zero += 1;
        else if (this.present.has(page)) present += 1;
      }
      return { absent: to - from - present - zero, present, zero, dirty: 0 };
    });
  }

  #step(signal: AbortSignal): Promise<void> {
    return new Promise((done) => {
      this.steps.push(done);
      signal.addEventListener('abort', () => done(), { once: true });
    });
  }
}

/** What of a file is unsent, as the file system says it. */
export function unsentFile(
  path: string,
  bytes: number,
  more: Partial<UnsentFile> & { state?: UnsentFile['unsent']['state'] } = {},
): UnsentFile {
  const { state = 'dirty', ...rest } = more;
  const ino = path === 'vm/disk.img' ? 3 : 4;
  const unsent = { bytes, size: 8 * PAGE, mtimeNs: 1n, state, sinceMs: 0 };
  const file = Buffer.from([ino]) as FileHandle;
  return { ino: ino as Ino, file, path, unsent, failure: undefined, recovered: false, ...rest };
}

/** The server takes everything at once, but for what is told otherwise. */
export class FakeSending implements ControlledSending {
  files: UnsentFile[] = [];
  foundBytes = 0;
  /** Files whose bytes the server refuses. */
  readonly refused = new Set<Ino>();
  /** Nothing is answered before the time is up, or the caller has gone. */
  isStuck = false;
  readonly asked: string[] = [];

  /** Another has changed a file with so many unsent bytes. */
  inConflict(path: string, bytes: number): void {
    this.files = [unsentFile(path, bytes, { state: 'conflict' })];
  }

  unsent(): readonly UnsentFile[] {
    return this.files;
  }

  async resolve(_: unknown, ino: Ino, which: 'mine' | 'theirs'): Promise<Result<void, FsError>> {
    this.asked.push(`resolve ${ino} ${which}`);
    this.files = this.files.flatMap((file) => {
      if (file.ino !== ino) return [file];
      const unsent = { ...file.unsent, state: 'dirty' as const };
      return which === 'mine' ? [{ ...file, unsent }] : [];
    });
    return ok(undefined);
  }

  writeBack(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    this.asked.push(`writeBack ${ino ?? 'all'}`);
    return this.#send(ino, how);
  }

  flush(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    this.asked.push(`flush ${ino ?? 'all'}`);
    return this.#send(ino, how);
  }

  async #send(ino: Ino | undefined, how: SendingHow): Promise<SentReport> {
    const meant = this.files.filter((file) => ino === undefined || file.ino === ino);
    const totalBytes = meant.reduce((sum, { unsent }) => sum + unsent.bytes, 0);
    how.onProgress?.(0, totalBytes);
    if (this.isStuck) {
      const ended = await new Promise<SentReport['ended']>((done) => {
        how.signal.addEventListener('abort', () => done('cancelled'), { once: true });
        if (how.timeoutMs !== undefined) setTimeout(done, how.timeoutMs, 'timedOut');
      });
      const files = meant.length;
      return { files, sentFiles: 0, sentBytes: 0, unsentBytes: totalBytes, failed: [], ended };
    }
    const left = meant.filter((file) => this.refused.has(file.ino));
    const unsentBytes = left.reduce((sum, { unsent }) => sum + unsent.bytes, 0);
    this.files = this.files.filter((file) => !meant.includes(file) || left.includes(file));
    const error = localError('ENOSPC', 'write', 'the server has no room');
    return {
      files: meant.length,
      sentFiles: meant.length - left.length,
      sentBytes: totalBytes - unsentBytes,
      unsentBytes,
      failed: left.map(({ path, unsent }) => {
        return { path, unsentBytes: unsent.bytes, state: 'failing', error };
      }),
      ended: 'done',
    };
  }
}

/** Files: `vm/disk.img` (open, an image), `vm/old.img` (cached, not open), `vm` a directory. */
export class FakeMount implements Controlled {
  readonly as = { uid: 0, gid: 0, groups: [] };
  readonly image = new FakeImage();
  readonly pinned = new Set<string>();
  readonly failedInodes: number[] = [];
  readonly sending = new FakeSending();
  readonly events = new EventHub(systemClock);
  /** What `umount` answers; undefined: it is unmounted, with everything sent. */
  unmounting: Partial<Unmounting> = {};
  readonly unmountedHow: UnmountHow[] = [];
  /** The server does not answer. */
  isAway = false;
  damagedBytes = 0;
  waitingRequests: { operation: string; ino: Ino; ageMs: number }[] = [];
  readonly #images = new Map([
    ['vm/disk.img', { ino: 3, id: 'd1' }],
    ['vm/old.img', { ino: 4, id: 'd2' }],
  ]);

  readonly files = {
    locate: async (_: unknown, names: readonly Name[]): Promise<Result<Located, FsError>> => {
      const path = names.map((name) => name.toString('latin1')).join('/');
      if (this.isAway) return new Promise(() => undefined);
      const found = this.#images.get(path);
      if (found === undefined && path !== 'vm' && path !== '') {
        return err(localError('ENOENT', 'lookup', 'no such file'));
      }
      return ok(located(found?.ino ?? 2, found === undefined ? 'directory' : 'regular'));
    },
    withImage: async <T>(_: unknown, __: Ino, run: () => Promise<T>): Promise<Result<T, FsError>> =>
      ok(await run()),
    openFiles: (): readonly OpenFile[] => [
      {
        ...located(3, 'regular'),
        path: 'vm/disk.img',
        sizeBytes: this.image.sizeBytes,
        readers: 1,
        writers: 1,
        servedBy: 'daemon',
        why: 'it is open for writing',
      },
    ],
  };

  readonly cache: Controlled['cache'] = {
    idOf: (file) => `d${(file[0] ?? 0) - 2}`,
    list: async () => ok([...this.#images].map(([path, { id }]) => this.#line(path, id))),
    find: () => this.image,
    setPinned: async (id, pinned) => {
      if (pinned) this.pinned.add(id);
      else this.pinned.delete(id);
      return ok(undefined);
    },
    evict: async (id) =>
      ok(id === 'd1' ? { freedBytes: 0, why: 'it is in use' } : { freedBytes: 1 << 20 }),
    verify: async (_, { onProgress }) => {
      onProgress(PAGE, 2 * PAGE);
      return ok({ checkedBytes: 2 * PAGE, damagedBytes: this.damagedBytes });
    },
  };

  readonly kernel = {
    waiting: () => this.waitingRequests,
    failWaiting: (ino: Ino) => {
      this.failedInodes.push(ino);
      const before = this.waitingRequests.length;
      this.waitingRequests = this.waitingRequests.filter((request) => request.ino !== ino);
      return before - this.waitingRequests.length;
    },
  };

  readonly life = {
    unmount: async (how: UnmountHow): Promise<Unmounting> => {
      this.unmountedHow.push(how);
      const report = await this.sending.writeBack(undefined, how);
      const ended = { unmounted: true, inUse: [], why: undefined, droppedBytes: 0, keptBytes: 0 };
      return { ...ended, report, ...this.unmounting };
    },
  };

  snapshot(): SessionSnapshot {
    return snapshot;
  }

  /** What is unsent keeps the files of its image open. */
  #line(path: string, id: string): ImageLine {
    const unsent = this.sending.files.some((file) => file.path === path);
    return {
      path,
      id,
      sizeBytes: 8 * PAGE,
      presentBytes: 2 * PAGE,
      allocatedBytes: 2 * PAGE,
      open: id === 'd1' || unsent,
      unsent,
      pinned: this.pinned.has(id),
      lastUsedMs: Date.UTC(2026, 0, 2, 3, 4, 5),
      state: 'settled',
      why: null,
      gone: null,
    };
  }
}

function located(ino: number, type: 'regular' | 'directory'): Located {
  const attributes = {
    type,
    mode: 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    size: 8 * PAGE,
    used: 8 * PAGE,
    rdev: { major: 0, minor: 0 },
    fsid: 1n,
    fileid: BigInt(ino),
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
  };
  return { ino: ino as Ino, file: Buffer.from([ino]) as FileHandle, attributes };
}

export const snapshot: SessionSnapshot = {
  version: '1.2.3',
  startedAtMs: Date.UTC(2026, 0, 2, 3, 4, 5),
  source: 'images.example.org:/vm',
  mountpoint: '/mnt/vm',
  session: 'exclusive',
  write: 'back',
  fsync: 'local',
  readOnly: false,
  state: 'serving',
  server: {
    state: 'up',
    forMs: null,
    roundTripMs: 35.12,
    connections: 2,
    readBytes: 512 << 20,
    writtenBytes: 12 << 20,
    retransmissions: 0,
  },
  cache: {
    directory: '/var/cache/gvfs/0123',
    state: 'good',
    allocatedBytes: 3 * 2 ** 30,
    limitBytes: 100 * 2 ** 30,
    freeBytes: 200 * 2 ** 30,
    freeFloorBytes: 20 * 2 ** 30,
    images: 2,
    evictedBytes: 0,
    damagedBytes: 0,
  },
  bytes: { server: 512 << 20, cache: 1 << 30, zero: 512 << 20, passthrough: null },
  rpcs: [
    { procedure: 'READ', calls: 1024, medianMs: 35.4, p99Ms: 71, failures: 0 },
    { procedure: 'GETATTR', calls: 17, medianMs: 35.1, p99Ms: null, failures: 1 },
  ],
  operations: [{ operation: 'READ', calls: 5000, medianMs: 0.04, p99Ms: 40 }],
  eventLoop: { medianMs: 0.01, p99Ms: 2.5, maxMs: 14 },
};
