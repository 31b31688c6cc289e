/**
 * The addon, typed. It checks nothing: what is passed here has been checked.
 *
 * Errors are errno numbers, 0 for none. A `ticket` is a number above 0 of the caller's choice that
 * comes back among the completions of a batch, with the errno of what it stood for.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../base/result.ts';

export interface Binding {
  readonly Channel: new (
    /** /dev/fuse; it belongs to the channel from here on. */
    fd: number,
    maxWriteBytes: number,
    /** Where each batch is put, of `batchBytes` bytes. */
    batch: Buffer,
    /** Where heads of messages are taken from. */
    head: Buffer,
    listener: BatchListener,
  ) => BindingChannel;
  readonly batchBytes: number;
  /** Detaches the memory of a tail: its Buffer has length 0 from here on. */
  release(tail: ArrayBufferLike): void;
  /** mount(2) */
  mount(
    source: string,
    target: string,
    type: string,
    flags: number,
    options: string,
  ): Promise<number>;
  /** umount2(2) */
  unmount(target: string, flags: number): Promise<number>;
  /** Two connected sockets, close-on-exec; or a negative errno. */
  socketPair(): [number, number] | number;
  /** The file descriptor that lies in the socket (SCM_RIGHTS); or a negative errno. */
  receiveFd(socket: number): number;
}

/**
 * `length` bytes of records lie in the batch. A record: u32 length, u32 1 when the next of `tails`
 * is the rest of it, the bytes, padded to 8.
 * `completions` are pairs of ticket and errno. `end` is the errno that ended the connection, or 0.
 */
export type BatchListener = (
  length: number,
  tails: Buffer[] | undefined,
  completions: number[] | undefined,
  end: number,
) => void;

export interface BindingChannel {
  /** From here on the event loop reads requests and delivers batches. */
  start(copyThreads: number, fileThreads: number): void;
  /** Sends the first `headLength` bytes of the head. */
  send(headLength: number): number;
  sendParts(headLength: number, parts: readonly Buffer[]): number;
  /** From a copy thread; the parts must stay as they are until the ticket completes. */
  sendPartsLater(headLength: number, parts: readonly Buffer[], ticket: number): void;
  /**
   * How it went, or `LATER` when the ticket will complete: the same then. Below 0 is the errno of
   * the file, which could not be read or ended too early (EIO): nothing was sent.
   */
  sendFile(fd: number, offset: number, length: number, ticket: number): number;
  /** Ticket 0: at once. */
  sendZeros(length: number, ticket: number): number;
  writeFile(bytes: Buffer, fd: number, offset: number, ticket: number): void;
  notify(message: Buffer, ticket: number): void;
  /** FUSE_DEV_IOC_BACKING_OPEN: an id, or a negative errno. */
  openBacking(fd: number): number;
  /** FUSE_DEV_IOC_BACKING_CLOSE */
  closeBacking(id: number): number;
  /** False when a thread hung in the kernel and was left behind. */
  stop(): Promise<boolean>;
}

/** What `sendFile` answers when the ticket will complete. */
export const LATER = 1 << 16;

/** Node-API version that the addon is built for. */
const NODE_API_VERSION = 9;

let loaded: Result<Binding, string> | undefined;

/** The addon, or a sentence that says why there is none and what to do. */
export function loadBinding(): Result<Binding, string> {
  loaded ??= load();
  return loaded;
}

function load(): Result<Binding, string> {
  const offered = Number(process.versions.napi ?? 0);
  if (offered < NODE_API_VERSION) {
    return err(
      `this Node has Node-API ${offered} and gvfs needs ${NODE_API_VERSION}: use Node 20.15 or newer`,
    );
  }
  const require = createRequire(import.meta.url);
  // The same from src/fuse/ and from dist/fuse/.
  const folder = fileURLToPath(new URL('../../native-bindings', import.meta.url));
  try {
    const nodeGypBuild = require('node-gyp-build') as (folder: string) => Binding;
    return ok(nodeGypBuild(folder));
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    return err(
      `the gvfs addon cannot be loaded (${reason}); ` +
        `build it with npm run setup in a checkout, or else with: ` +
        `cd ${folder} && npx node-gyp rebuild`,
    );
  }
}
