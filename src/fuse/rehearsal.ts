/**
 * What the first programs will ask, asked before they come, so that the first byte of an image takes
 * the time of its round trips and not several times that: by then every step of a lookup, an open
 * and a read has been compiled, and the connection to the server is warm.
 *
 * A session of its own plays it on a device without a kernel. The server sees names that are not
 * there and a READ of a directory, which it refuses; nothing is changed, nothing is kept.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../base/assert.ts';
import { systemClock } from '../base/clock.ts';
import { type FileSystem, ROOT_INO } from '../vfs/operations.ts';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION, Opcode, Size } from './abi.ts';
import { Callers } from './caller.ts';
import { BODY_START, type Device, type DeviceListener, HEAD_BODY_BYTES } from './device.ts';
import { Session } from './session.ts';
import { WireWriter } from './wire.ts';

/** After so many nothing gets faster. */
const ROUNDS = 40;
const PAGE_BYTES = 4096;

/** Resolves when it has been played, or after `limitMs`: a far server's time hides ours anyway. */
export async function rehearse(fs: FileSystem, limitMs: number): Promise<void> {
  const stage = new Stage();
  const clock = systemClock;
  const wishes = { autoInvalidate: false };
  const session = new Session({ device: stage, fs, callers: new Callers(clock), clock, wishes });
  stage.start(session);
  const enough = new AbortController();
  const late = sleep(limitMs, undefined, { signal: enough.signal }).catch(() => undefined);
  const endMs = clock.monotonicMs() + limitMs;
  await Promise.race([play(stage, () => clock.monotonicMs() > endMs), late]);
  enough.abort();
}

async function play(stage: Stage, isLate: () => boolean): Promise<void> {
  await stage.ask(Opcode.INIT, (args) => {
    for (const value of [FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION, 0, 0]) args.u32(value);
  });
  for (let round = 0; round < ROUNDS && !isLate(); round++) {
    await stage.ask(Opcode.LOOKUP, (args) => args.bytes(Buffer.from(`.gvfs-${round}\0`)));
    const opened = await stage.ask(Opcode.OPEN, (args) => args.zeros(8));
    if (opened === undefined) return;
    const handle = Number(opened.readBigUInt64LE(0));
    await stage.ask(Opcode.READ, (args) => {
      args.u64(handle);
      args.u64(0);
      args.u32(PAGE_BYTES);
      args.zeros(20);
    });
    await stage.ask(Opcode.RELEASE, (args) => {
      args.u64(handle);
      args.zeros(16);
    });
  }
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

  /** The body of the answer, undefined for an error. The request is about the root. */
  ask(opcode: number, writeArgs: (writer: WireWriter) => void): Promise<Buffer | undefined> {
    const writer = this.#writer;
    this.#unique += 2;
    writer.seek(Size.fuse_in_header);
    writeArgs(writer);
    const length = writer.at;
    writer.seek(0);
    writer.u32(length);
    writer.u32(opcode);
    writer.u64(this.#unique);
    writer.u64(ROOT_INO);
    writer.u32(process.getuid?.() ?? 0);
    writer.u32(process.getgid?.() ?? 0);
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

  replyFile(): void {
    assert(false, 'rehearsal: a reply from a file');
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
