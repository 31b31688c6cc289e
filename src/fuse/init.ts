/**
 * The first exchange on a connection: what the kernel offers, and what we take of it.
 *
 * Not taken, and why: the writeback cache (excludes passthrough, gains nothing), splice (slower
 * than a copy at 1 MiB), atomic O_TRUNC (a SETATTR of the size does the same with less to go
 * wrong), locks (kept by the kernel, local to this host), POSIX ACLs (NFSv3 has none), export
 * support (needs lookups of '..' by node), the no-open shortcuts (we want every open).
 */
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  InitFlag,
  InitFlag2,
  OLDEST_MINOR_VERSION,
  Size,
} from './abi.ts';
import type { WireReader, WireWriter } from './wire.ts';

/** fuse_init_in */
export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadaheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
}

export interface InitWishes {
  /** FUSE_AUTO_INVAL_DATA: cached pages are dropped when a GETATTR shows another mtime or size. */
  readonly autoInvalidate: boolean;
  /** FUSE_PASSTHROUGH: the kernel may be given local files that it reads by itself. */
  readonly passthrough: boolean;
}

/** What both sides have agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxReadaheadBytes: number;
  readonly maxWriteBytes: number;
}

/** One WRITE's payload at most: 256 pages; more was measured to gain nothing. */
export const MAX_WRITE_BYTES = 1 << 20;
const MAX_PAGES = 256;
const MAX_BACKGROUND = 1024;
const CONGESTION_THRESHOLD = 768;
/**
 * How deep file systems may be stacked, ours included: what we pass through to stands on no other,
 * and an overlay may still stand upon us.
 */
const MAX_STACK_DEPTH = 1;

/** Throws WireError when it is too short. Kernels before 7.36 send no second flags. */
export function readInit(args: WireReader): InitRequest {
  const major = args.u32();
  const minor = args.u32();
  const maxReadaheadBytes = args.u32();
  const flags = args.u32();
  const extended = (flags & InitFlag.FUSE_INIT_EXT) !== 0 && args.remaining >= 4;
  return { major, minor, maxReadaheadBytes, flags, flags2: extended ? args.u32() : 0 };
}

/** undefined: the kernel is older than what we can speak. */
export function agree(request: InitRequest, wishes: InitWishes): Agreement | undefined {
  if (request.major !== FUSE_KERNEL_VERSION || request.minor < OLDEST_MINOR_VERSION) {
    return undefined;
  }
  const wanted =
    InitFlag.FUSE_ASYNC_READ |
    InitFlag.FUSE_BIG_WRITES |
    InitFlag.FUSE_DO_READDIRPLUS |
    InitFlag.FUSE_ASYNC_DIO |
    InitFlag.FUSE_PARALLEL_DIROPS |
    // The server drops set-user-id bits when another user writes; the kernel's SETATTR in that
    // user's name would be refused, and the write with it.
    InitFlag.FUSE_HANDLE_KILLPRIV |
    InitFlag.FUSE_MAX_PAGES |
    InitFlag.FUSE_INIT_EXT |
    (wishes.autoInvalidate ? InitFlag.FUSE_AUTO_INVAL_DATA : 0);
  const wanted2 =
    InitFlag2.FUSE_DIRECT_IO_ALLOW_MMAP | (wishes.passthrough ? InitFlag2.FUSE_PASSTHROUGH : 0);
  return {
    minor: Math.min(request.minor, FUSE_KERNEL_MINOR_VERSION),
    flags: request.flags & wanted,
    flags2: request.flags2 & wanted2,
    maxReadaheadBytes: request.maxReadaheadBytes, // it can only be lowered here
    maxWriteBytes: MAX_WRITE_BYTES,
  };
}

/** Whether the kernel can be given local files to read by itself. */
export function isPassthrough(agreement: Agreement): boolean {
  return (agreement.flags2 & InitFlag2.FUSE_PASSTHROUGH) !== 0;
}

/** fuse_init_out */
export function writeInit(writer: WireWriter, agreement: Agreement): void {
  const start = writer.at;
  writer.u32(FUSE_KERNEL_VERSION);
  writer.u32(agreement.minor);
  writer.u32(agreement.maxReadaheadBytes);
  writer.u32(agreement.flags);
  writer.u16(MAX_BACKGROUND);
  writer.u16(CONGESTION_THRESHOLD);
  writer.u32(agreement.maxWriteBytes);
  writer.u32(1); // time_gran, ns
  writer.u16(MAX_PAGES);
  writer.u16(0); // map_alignment
  writer.u32(agreement.flags2);
  writer.u32(isPassthrough(agreement) ? MAX_STACK_DEPTH : 0);
  writer.zeros(Size.fuse_init_out - (writer.at - start));
}

/** The answer to a newer major version: ours, upon which the kernel asks again in it. */
export function writeOurVersion(writer: WireWriter): void {
  const start = writer.at;
  writer.u32(FUSE_KERNEL_VERSION);
  writer.u32(FUSE_KERNEL_MINOR_VERSION);
  writer.zeros(Size.fuse_init_out - (writer.at - start));
}
