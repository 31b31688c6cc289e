/**
 * The addon's channel as a `Device`: headers of replies, tickets, and batches taken apart.
 *
 * A small reply is written to the kernel at once, by the event loop: handing it to a thread would
 * take longer. A large one is copied by a thread, since the copy takes longer than that.
 */
import { assert } from '../base/assert.ts';
import { Errno } from '../errors/errno.ts';
import type { Payload } from '../vfs/operations.ts';
import { type Binding, type BindingChannel, LATER } from './binding.ts';
import { BODY_START, type Device, type DeviceListener, HEAD_BODY_BYTES } from './device.ts';
import { MAX_WRITE_BYTES } from './init.ts';

const COPY_THREADS = 2;
const FILE_THREADS = 4;
/** Replies from here on are copied to the kernel by a copy thread. */
const LATER_BYTES = 128 << 10;
const RECORD_HEAD_BYTES = 8;
const HIGH_WORD = 2 ** 32;

type Done = (errno: number) => void;

/** Something that a native thread is at. */
interface Ticket {
  readonly done: Done;
  /** Memory that the thread reads: it must not be collected meanwhile. */
  readonly held: unknown;
}

export class NativeDevice implements Device {
  readonly head = Buffer.alloc(BODY_START + HEAD_BODY_BYTES);
  readonly #headView = new DataView(this.head.buffer, this.head.byteOffset, this.head.length);
  readonly #binding: Binding;
  readonly #channel: BindingChannel;
  readonly #batch: Buffer;
  readonly #batchView: DataView;
  readonly #tickets = new Map<number, Ticket>();
  #nextTicket = 1;
  #listener: DeviceListener | undefined;

  /** `fd` is /dev/fuse, mounted; it belongs to the device from here on. */
  constructor(binding: Binding, fd: number) {
    this.#binding = binding;
    this.#batch = Buffer.alloc(binding.batchBytes);
    this.#batchView = new DataView(this.#batch.buffer, this.#batch.byteOffset, this.#batch.length);
    this.#channel = new binding.Channel(
      fd,
      MAX_WRITE_BYTES,
      this.#batch,
      this.head,
      (length, tails, completions, end) => this.#deliver(length, tails, completions, end),
    );
  }

  start(listener: DeviceListener): void {
    assert(this.#listener === undefined, 'device: started twice');
    this.#listener = listener;
    this.#channel.start(COPY_THREADS, FILE_THREADS);
  }

  reply(unique: number, errno: number, bodyLength: number): number {
    const length = BODY_START + bodyLength;
    this.#writeHead(unique, errno, length);
    return this.#channel.send(length);
  }

  replyBytes(unique: number, parts: readonly Buffer[], length: number, done: Done): void {
    this.#writeHead(unique, 0, BODY_START + length);
    if (length < LATER_BYTES) done(this.#channel.sendParts(BODY_START, parts));
    else this.#channel.sendPartsLater(BODY_START, parts, this.#ticket(done, parts));
  }

  replyZeros(unique: number, length: number, done: Done): void {
    this.#writeHead(unique, 0, BODY_START + length);
    if (length < LATER_BYTES) done(this.#channel.sendZeros(length, 0));
    else this.#channel.sendZeros(length, this.#ticket(done));
  }

  replyFile(unique: number, fd: number, offset: number, length: number, done: Done): void {
    this.#writeHead(unique, 0, BODY_START + length);
    const ticket = this.#ticket(done);
    const errno = this.#channel.sendFile(fd, offset, length, ticket);
    if (errno !== LATER) this.#complete(ticket, errno);
  }

  writeFile(bytes: Buffer, fd: number, offset: number, done: Done): void {
    this.#channel.writeFile(bytes, fd, offset, this.#ticket(done, bytes));
  }

  openBacking(fd: number): number {
    return this.#channel.openBacking(fd);
  }

  closeBacking(id: number): number {
    return this.#channel.closeBacking(id);
  }

  notify(message: Buffer): Promise<number> {
    return new Promise((resolve) => {
      this.#channel.notify(message, this.#ticket(resolve));
    });
  }

  async stop(): Promise<boolean> {
    const clean = await this.#channel.stop();
    // What was on its way is over, one way or the other: the kernel takes nothing any more.
    for (const ticket of [...this.#tickets.keys()]) this.#complete(ticket, Errno.ENODEV);
    return clean;
  }

  /** fuse_out_header */
  #writeHead(unique: number, errno: number, length: number): void {
    const view = this.#headView;
    const high = Math.floor(unique / HIGH_WORD);
    view.setUint32(0, length, true);
    view.setInt32(4, -errno, true);
    view.setUint32(8, unique - high * HIGH_WORD, true);
    view.setUint32(12, high, true);
  }

  #ticket(done: Done, held?: unknown): number {
    const ticket = this.#nextTicket++;
    this.#tickets.set(ticket, { done, held });
    return ticket;
  }

  #complete(number: number, errno: number): void {
    const ticket = this.#tickets.get(number);
    assert(ticket !== undefined, 'device: a ticket that completes twice');
    this.#tickets.delete(number);
    ticket.done(errno);
  }

  #deliver(
    length: number,
    tails: Buffer[] | undefined,
    completions: number[] | undefined,
    end: number,
  ): void {
    const listener = this.#listener;
    assert(listener !== undefined, 'device: a batch before the start');
    if (completions !== undefined) {
      for (let i = 0; i + 1 < completions.length; i += 2) {
        const [ticket = 0, errno = 0] = [completions[i], completions[i + 1]];
        this.#complete(ticket, errno);
      }
    }
    let tailIndex = 0;
    let at = 0;
    while (at < length) {
      const inlineLength = this.#batchView.getUint32(at, true);
      const hasTail = this.#batchView.getUint32(at + 4, true) === 1;
      const start = at + RECORD_HEAD_BYTES;
      const bytes = hasTail ? tails?.[tailIndex++] : undefined;
      const tail = bytes === undefined ? undefined : new TailPayload(this.#binding, bytes);
      listener.onMessage(this.#batch, start, start + inlineLength, tail);
      at = start + Math.ceil(inlineLength / 8) * 8;
    }
    if (end !== 0) listener.onEnd(end);
  }
}

/** A large payload, in the buffer into which the kernel wrote it. */
class TailPayload implements Payload {
  readonly bytes: Buffer;
  readonly #binding: Binding;
  #released = false;

  constructor(binding: Binding, bytes: Buffer) {
    this.#binding = binding;
    this.bytes = bytes;
  }

  release(): void {
    assert(!this.#released, 'payload: released twice');
    this.#released = true;
    this.#binding.release(this.bytes.buffer);
  }
}
