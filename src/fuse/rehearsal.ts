/**
 * What the first programs will ask, asked before they come, so that the first byte of an image takes
 * the time of its round trips and not several times that: by then the root has been listed, every
 * step of a lookup, an open and a read has been compiled, and the connection to the server is warm.
 *
 * A session of its own plays it on a device without a kernel. The server sees a listing, names that
 * are not there, the permissions of one file asked for, and a READ of a directory, which it refuses.
 * No byte of a file is read, nothing is changed; what is kept is what the caches learned. Whatever
 * waits when the time is over is the last that is asked, and what it opened is closed then.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../base/assert.ts';
import type { Ino, Name } from '../base/brand.ts';
import { systemClock } from '../base/clock.ts';
import { Errno } from '../errors/errno.ts';
import { type Caller, type Entry, type FileSystem, ROOT_INO } from '../vfs/operations.ts';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION, Opcode, Size } from './abi.ts';
import { Callers } from './caller.ts';
import { BODY_START, type Device, type DeviceListener, HEAD_BODY_BYTES } from './device.ts';
import { Session } from './session.ts';
import { WireWriter } from './wire.ts';

/** After so many nothing gets faster. */
const ROUNDS = 40;
const PAGE_BYTES = 4096;
/** Where a READ finds nothing. */
const BEYOND_ANY_END = 2 ** 50;
/** Entries of the root that are looked at. */
const LISTED = 64;
const OWN_UID = process.getuid?.() ?? 0;
const OWN_GID = process.getgid?.() ?? 0;

/** Resolves when it has been played, or after `limitMs`: a far server's time hides ours anyway. */
export async function rehearse(fs: FileSystem, limitMs: number): Promise<void> {
  const stage = new Stage();
  const clock = systemClock;
  const callers = new Callers(clock);
  stage.start(
    new Session({
      device: stage,
      fs,
      callers,
      clock,
      wishes: { autoInvalidate: false, passthrough: false },
    }),
  );
  const enough = new AbortController();
  const late = sleep(limitMs, undefined, { signal: enough.signal }).catch(() => undefined);
  const endMs = clock.monotonicMs() + limitMs;
  const caller = callers.caller(OWN_UID, OWN_GID, process.pid);
  await Promise.race([play(stage, fs, caller, () => clock.monotonicMs() > endMs), late]);
  enough.abort();
}

async function play(
  stage: Stage,
  fs: FileSystem,
  caller: Caller,
  isLate: () => boolean,
): Promise<void> {
  await stage.ask(Opcode.INIT, (args) => {
    for (const value of [FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION, 0, 0]) args.u32(value);
  });
  const file = await aFileOfTheRoot(fs, caller);
  for (let round = 0; round < ROUNDS && !isLate(); round++) {
    await lookUp(stage, fs, Buffer.from(`.gvfs-${round}`));
    if (isLate()) return;
    const ino = file && (await lookUp(stage, fs, file));
    if (isLate()) return;
    if (ino !== undefined) await openAndRead(stage, ino, BEYOND_ANY_END, isLate);
    if (isLate()) return;
    await openAndRead(stage, ROOT_INO, 0, isLate);
  }
}

/** The first regular file of the root that the server tells all about. */
async function aFileOfTheRoot(fs: FileSystem, caller: Caller): Promise<Name | undefined> {
  const opened = await fs.opendir(caller, ROOT_INO);
  if (!opened.ok) return undefined;
  const taken: Entry[] = [];
  let file: Name | undefined;
  await fs.readdir(caller, opened.value, 0n, true, ({ name, type, entry }) => {
    if (entry === undefined) return true;
    taken.push(entry);
    if (type === 'regular') file ??= Buffer.from(name) as Name;
    return taken.length < LISTED;
  });
  fs.releasedir(opened.value);
  for (const { ino } of taken) fs.forget(ino, 1);
  return file;
}

/** The node id of a name in the root, given back at once; undefined where there is none. */
async function lookUp(stage: Stage, fs: FileSystem, name: Buffer): Promise<Ino | undefined> {
  const entry = await stage.ask(Opcode.LOOKUP, (args) => {
    args.bytes(name);
    args.zeros(1);
  });
  const ino = entry === undefined ? 0 : Number(entry.readBigUInt64LE(0));
  if (ino === 0) return undefined;
  fs.forget(ino as Ino, 1);
  return ino as Ino;
}

async function openAndRead(
  stage: Stage,
  ino: Ino,
  offset: number,
  isLate: () => boolean,
): Promise<void> {
  const opened = await stage.ask(Opcode.OPEN, (args) => args.zeros(8), ino);
  if (opened === undefined) return;
  const handle = Number(opened.readBigUInt64LE(0));
  if (!isLate()) {
    await stage.ask(Opcode.READ, (args) => {
      args.u64(handle);
      args.u64(offset);
      args.u32(PAGE_BYTES);
      args.zeros(20);
    });
  }
  await stage.ask(Opcode.RELEASE, (args) => {
    args.u64(handle);
    args.zeros(16);
  });
}

/** The device without a kernel: one request at a time, whose answer it hands back. */
class Stage implements Device {
  readonly head = Buffer.alloc(BODY_START + HEAD_BODY_BYTES);
  readonly #message = Buffer.alloc(PAGE_BYTES);
  readonly #writer = new WireWriter(this.#message);
  #listener: DeviceListener | undefined;
  #answer: (body: Buffer | undefined) => void = () => undefined;
  #unique = 2;

  start(listener: DeviceListener): void {
    this.#listener = listener;
  }

  /** The body of the answer; undefined for an error. */
  ask(
    opcode: number,
    writeArgs: (writer: WireWriter) => void,
    node: Ino = ROOT_INO,
  ): Promise<Buffer | undefined> {
    const writer = this.#writer;
    this.#unique += 2;
    writer.seek(Size.fuse_in_header);
    writeArgs(writer);
    const length = writer.at;
    writer.seek(0);
    writer.u32(length);
    writer.u32(opcode);
    writer.u64(this.#unique);
    writer.u64(node);
    writer.u32(OWN_UID);
    writer.u32(OWN_GID);
    writer.u32(process.pid);
    writer.u32(0);
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#listener?.onMessage(this.#message, 0, length, undefined);
    });
  }

  reply(_unique: number, errno: number, bodyLength: number): number {
    const body = this.head.subarray(BODY_START, BODY_START + bodyLength);
    this.#answer(errno === 0 ? Buffer.from(body) : undefined);
    return 0;
  }

  replyBytes(
    _unique: number,
    parts: readonly Buffer[],
    _length: number,
    done: (errno: number) => void,
  ): void {
    const body = Buffer.concat(parts);
    done(0); // the parts are given back
    this.#answer(body);
  }

  replyZeros(_unique: number, length: number, done: (errno: number) => void): void {
    done(0);
    this.#answer(Buffer.alloc(length));
  }

  replyFile(
    _unique: number,
    _fd: number,
    _offset: number,
    length: number,
    done: (errno: number) => void,
  ): void {
    assert(length === 0, 'rehearsal: bytes of a file');
    done(0);
    this.#answer(Buffer.alloc(0));
  }

  openBacking(): number {
    return -Errno.EPERM;
  }

  closeBacking(): number {
    return Errno.EPERM;
  }

  writeFile(): void {
    assert(false, 'rehearsal: a write');
  }

  notify(): Promise<number> {
    return Promise.resolve(0);
  }

  stop(): Promise<boolean> {
    return Promise.resolve(true);
  }
}
