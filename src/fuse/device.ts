/**
 * A connection to the kernel as the session needs it. The addon's is `native-device.ts`; tests have
 * one without a kernel.
 */
import type { Payload } from '../vfs/operations.ts';
import { Size } from './abi.ts';

export interface DeviceListener {
  /**
   * One message. Its bytes are [start, end) of `batch`, valid only during the call; `tail`, where
   * there is one, is the rest of it and the listener's until released.
   */
  onMessage(batch: Buffer, start: number, end: number, tail: Payload | undefined): void;
  /** Nothing more comes: `errno` is ENODEV when the mount is gone. */
  onEnd(errno: number): void;
}

/** The body of a reply begins here in `Device.head`; before it the device puts its header. */
export const BODY_START = Size.fuse_out_header;
/** The longest body that is encoded in `Device.head`. */
export const HEAD_BODY_BYTES = 8192;

/** Errors are errno numbers, 0 for none. ENOENT: the kernel does not wait for this reply. */
export interface Device {
  /** Where small bodies are encoded before `reply`. */
  readonly head: Buffer;
  start(listener: DeviceListener): void;
  /** Answers with an error (positive errno, no body) or with `bodyLength` bytes of `head`. */
  reply(unique: number, errno: number, bodyLength: number): number;
  /** `parts` must not change until `done`, which may be called at once. */
  replyBytes(
    unique: number,
    parts: readonly Buffer[],
    length: number,
    done: (errno: number) => void,
  ): void;
  replyZeros(unique: number, length: number, done: (errno: number) => void): void;
  /**
   * `fd` stays open until `done`. Below 0 is the errno of the file, which could not be read or is
   * too short (EIO): the kernel was told nothing, and still waits.
   */
  replyFile(
    unique: number,
    fd: number,
    offset: number,
    length: number,
    done: (errno: number) => void,
  ): void;
  /** Writes to a file without using the event loop or libuv's threads. */
  writeFile(bytes: Buffer, fd: number, offset: number, done: (errno: number) => void): void;
  /** Has the kernel read an open file by itself (passthrough): its id, or a negative errno. */
  openBacking(fd: number): number;
  closeBacking(id: number): number;
  /** Sends a notice; it may take as long as the requests it waits for. */
  notify(message: Buffer): Promise<number>;
  /** Ends it all; false when a thread hung in the kernel and was left behind. */
  stop(): Promise<boolean>;
}
