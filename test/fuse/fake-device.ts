/** A `Device` without a kernel: what is fed goes to the session, what it answers is kept. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  BODY_START,
  type Device,
  type DeviceListener,
  HEAD_BODY_BYTES,
} from '../../src/fuse/device.ts';
import type { Payload } from '../../src/vfs/operations.ts';
import { request, u32 } from './bytes.ts';

const EPERM = 1;

export interface Reply {
  readonly unique: number;
  readonly errno: number;
  readonly body: Buffer;
}

export class FakeDevice implements Device {
  readonly head = Buffer.alloc(BODY_START + HEAD_BODY_BYTES);
  readonly replies: Reply[] = [];
  /** What the kernel says to the next replies, in order; then 0. */
  readonly refusals: number[] = [];
  /** What the kernel says to a file that it is to read by itself. */
  backing: (fd: number) => number = () => -EPERM;
  readonly closedBackings: number[] = [];
  /** What reading the files of the next replies comes to: errno numbers, in order; then 0. */
  readonly unreadable: number[] = [];
  /** While true, bodies wait in `later`. */
  defer = false;
  readonly later: (() => void)[] = [];
  #listener: DeviceListener | undefined;

  start(listener: DeviceListener): void {
    this.#listener = listener;
  }

  /** Hands one message over, and waits until what it led to has settled. */
  async feed(message: Buffer, tail?: Payload): Promise<void> {
    // Between other bytes, as in a batch: nothing may look at a neighbour's.
    const batch = Buffer.concat([Buffer.alloc(8, 0xee), message, Buffer.alloc(8, 0xee)]);
    this.#listener?.onMessage(batch, 8, 8 + message.length, tail);
    batch.fill(0xdd); // the batch's memory is used again
    await nextTurn();
  }

  async init(minor = 45): Promise<void> {
    await this.feed(request(26, u32(7, minor, 131072, 0xffffffff, 0xffffffff), { unique: 2 }));
    this.replies.length = 0;
  }

  end(errno: number): void {
    this.#listener?.onEnd(errno);
  }

  reply(unique: number, errno: number, bodyLength: number): number {
    const body = Buffer.from(this.head.subarray(BODY_START, BODY_START + bodyLength));
    return this.#take({ unique, errno, body });
  }

  replyBytes(
    unique: number,
    parts: readonly Buffer[],
    _length: number,
    done: (errno: number) => void,
  ): void {
    this.#takeLater(() => done(this.#take({ unique, errno: 0, body: Buffer.concat(parts) })));
  }

  replyZeros(unique: number, length: number, done: (errno: number) => void): void {
    this.#takeLater(() => done(this.#take({ unique, errno: 0, body: Buffer.alloc(length) })));
  }

  replyFile(
    unique: number,
    fd: number,
    offset: number,
    length: number,
    done: (errno: number) => void,
  ): void {
    const body = Buffer.from(`file ${fd} ${offset} ${length}`);
    this.#takeLater(() => {
      const failed = this.unreadable.shift() ?? 0;
      done(failed === 0 ? this.#take({ unique, errno: 0, body }) : -failed);
    });
  }

  writeFile(_bytes: Buffer, _fd: number, _offset: number, done: (errno: number) => void): void {
    done(0);
  }

  openBacking(fd: number): number {
    return this.backing(fd);
  }

  closeBacking(id: number): number {
    this.closedBackings.push(id);
    return 0;
  }

  async notify(): Promise<number> {
    return 0;
  }

  async stop(): Promise<boolean> {
    return true;
  }

  #take(reply: Reply): number {
    const refusal = this.refusals.shift() ?? 0;
    if (refusal === 0) this.replies.push(reply);
    return refusal;
  }

  #takeLater(take: () => void): void {
    if (this.defer) this.later.push(take);
    else take();
  }
}
