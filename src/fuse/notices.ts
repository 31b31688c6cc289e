/**
 * Notices to the kernel, encoded (linux/fuse.h, enum fuse_notify_code). They leave from a thread of
 * their own, in order: the kernel makes the sender wait for requests that are still to be answered.
 */
import type { Ino, Name } from '../base/brand.ts';
import { NotifyCode, Size } from './abi.ts';
import type { Device } from './device.ts';
import type { Notices } from './transport.ts';
import { WireWriter } from './wire.ts';

/** ENOENT (the kernel knows no such inode or name) is as good as done: errors are not told. */
export function noticesTo(device: Device): Notices {
  return {
    async invalidateInode(ino, offset, length) {
      await device.notify(invalInode(ino, BigInt(offset), BigInt(length)));
    },
    async invalidateAttributes(ino) {
      await device.notify(invalInode(ino, -1n, 0n));
    },
    async invalidateEntry(parent, name) {
      await device.notify(invalEntry(parent, name));
    },
  };
}

/** fuse_notify_inval_inode_out; offset -1: only the attributes. */
export function invalInode(ino: Ino, offset: bigint, length: bigint): Buffer {
  return message(NotifyCode.FUSE_NOTIFY_INVAL_INODE, 24, (writer) => {
    writer.u64(ino);
    writer.bigU64(BigInt.asUintN(64, offset));
    writer.bigU64(BigInt.asUintN(64, length));
  });
}

/** fuse_notify_inval_entry_out, then the name and a NUL that namelen does not count. */
export function invalEntry(parent: Ino, name: Name): Buffer {
  return message(NotifyCode.FUSE_NOTIFY_INVAL_ENTRY, 16 + name.length + 1, (writer) => {
    writer.u64(parent);
    writer.u32(name.length);
    writer.u32(0); // flags
    writer.bytes(name);
    writer.zeros(1);
  });
}

/** A fuse_out_header whose unique is 0 and whose error is the code. */
function message(code: number, bodyBytes: number, body: (writer: WireWriter) => void): Buffer {
  const buffer = Buffer.alloc(Size.fuse_out_header + bodyBytes);
  const writer = new WireWriter(buffer);
  writer.u32(buffer.length);
  writer.u32(code);
  writer.u64(0);
  body(writer);
  return buffer;
}
