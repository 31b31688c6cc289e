/**
 * A file system over a memory server, with a clock that a test moves, and the calls of a kernel
 * in few words.
 */
import assert from 'node:assert/strict';
import type { HandleId, Ino, Name } from '../../src/base/brand.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import type { Result } from '../../src/base/result.ts';
import type { FsError } from '../../src/errors/fs-error.ts';
import type { VfsEvents } from '../../src/vfs/events.ts';
import {
  createFileSystem,
  type MountParts,
  type NfsFileSystem,
} from '../../src/vfs/file-system.ts';
import {
  type Caller,
  type Entry,
  type NegativeEntry,
  type Outcome,
  type Payload,
  ROOT_INO,
} from '../../src/vfs/operations.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { MemoryServer } from './memory-server.ts';

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_EXCL = 0o200;

export const alice: Credentials = { uid: 1000, gid: 1000, groups: [] };
export const bob: Credentials = { uid: 1001, gid: 1001, groups: [] };

export class Mounted {
  readonly server: MemoryServer;
  readonly clock = new ManualClock();
  readonly fs: NfsFileSystem;
  /** Payloads handed over and not given back. */
  payloads = 0;

  constructor(
    options: Partial<VfsOptions> = {},
    events: VfsEvents = {},
    server: MemoryServer = new MemoryServer(),
    parts: MountParts = {},
  ) {
    this.server = server;
    this.fs = createFileSystem(server, options, this.clock, events, parts);
  }

  /** Looks a path up name by name, as a kernel without any cache would. */
  async walk(path: string, as = alice): Promise<Entry> {
    let ino: Ino = ROOT_INO;
    let entry: Entry | NegativeEntry | undefined;
    for (const part of path.split('/').filter((name) => name !== '')) {
      entry = value(await this.fs.lookup(by(as), ino, name(part)));
      assert.notEqual(entry.ino, 0, `${path} does not exist`);
      ino = entry.ino as Ino;
    }
    assert(entry !== undefined && 'attributes' in entry);
    return entry;
  }

  /** As a kernel opens: upon ESTALE it looks the path up again, once. */
  async open(path: string, flags: number, as = alice): Promise<HandleId> {
    const opened = await this.fs.open(by(as), (await this.walk(path, as)).ino, flags);
    if (errno(opened) !== 'ESTALE') return value(opened).handle;
    return value(await this.fs.open(by(as), (await this.walk(path, as)).ino, flags)).handle;
  }

  async create(
    path: string,
    flags = O_RDWR,
    as = alice,
    mode = 0o644,
  ): Promise<{ ino: Ino; handle: HandleId }> {
    const slash = path.lastIndexOf('/');
    const parent = slash <= 0 ? ROOT_INO : (await this.walk(path.slice(0, slash), as)).ino;
    const made = await this.fs.create(by(as), parent, name(path.slice(slash + 1)), mode, flags);
    const { entry, opened } = value(made);
    return { ino: entry.ino, handle: opened.handle };
  }

  payload(bytes: Buffer): Payload {
    this.payloads += 1;
    let released = false;
    const own = Buffer.from(bytes);
    return {
      bytes: own,
      release: () => {
        assert(!released, 'payload given back twice');
        released = true;
        this.payloads -= 1;
        own.fill(0xee);
      },
    };
  }

  write(handle: HandleId, offset: number, bytes: Buffer | string): Outcome<number> {
    return this.fs.write(by(alice), handle, offset, this.payload(Buffer.from(bytes)));
  }

  async read(handle: HandleId, offset: number, length: number): Promise<Buffer> {
    return bytesOf(await this.fs.read(by(alice), handle, offset, length));
  }

  fsync(handle: HandleId): Outcome<void> {
    return this.fs.fsync(by(alice), handle, false);
  }

  async size(ino: Ino, as = alice): Promise<number> {
    return value(await this.fs.getattr(by(as), ino)).attributes.size;
  }

  async list(
    handle: HandleId,
    plus = false,
    from = 0n,
    max = Number.POSITIVE_INFINITY,
  ): Promise<{ names: string[]; next: bigint; inos: Ino[] }> {
    const names: string[] = [];
    const inos: Ino[] = [];
    let next = from;
    const result = await this.fs.readdir(by(alice), handle, from, plus, (dirent) => {
      if (names.length >= max) return false;
      names.push(dirent.name.toString('latin1'));
      if (dirent.entry !== undefined) inos.push(dirent.entry.ino);
      next = dirent.nextOffset;
      return true;
    });
    value(result);
    return { names, next, inos };
  }
}

export function by(credentials: Credentials): Caller {
  return { credentials, pid: 4711 };
}

export function name(text: string): Name {
  return Buffer.from(text, 'latin1') as Name;
}

export function value<T>(result: Result<T, FsError>): T {
  assert(result.ok, result.ok ? '' : `${result.error.errno}: ${result.error.message}`);
  return result.value;
}

export function errno<T>(result: Result<T, FsError>): string {
  return result.ok ? 'ok' : result.error.errno;
}

/** A copy of a read's bytes, given back. */
export function bytesOf(result: Awaited<ReturnType<NfsFileSystem['read']>>): Buffer {
  const reply = value(result);
  assert(reply.kind === 'bytes');
  const bytes = Buffer.concat(reply.bytes);
  reply.release();
  return bytes;
}

/** A promise and the way to settle it. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** Lets all that can go on without outside events go on. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
