/**
 * `gvfs/nfsc`: an NFSv3 client (RFC 1813) over TCP, usable without FUSE.
 *
 * @example
 * ```ts
 * import { type Name, Nfs3Client } from 'gvfs/nfsc';
 *
 * const mounted = await Nfs3Client.mount({ server: 'images.example.org', exportPath: '/vm' });
 * if (!mounted.ok) throw new Error(mounted.error.message);
 * const client = mounted.value;
 *
 * const as = { uid: 1000, gid: 1000, groups: [] };
 * const found = await client.lookup(as, client.root, Buffer.from('disk.img') as Name);
 * if (found.ok) {
 *   const answer = await client.read(as, found.value.file, 0, 4096);
 *   if (answer.ok) {
 *     process.stdout.write(answer.value.bytes);
 *     answer.value.release(); // the bytes are the client's again
 *   }
 * }
 * await client.unmount();
 * ```
 *
 * No call rejects: failures are values, with a Linux errno and a stable code. What happens below
 * (calls, retransmissions, connections, a server that stops answering) is published on
 * `rpcChannels`, for logs and metrics.
 */
export type { FileHandle, Name } from '../base/brand.ts';
export type { Credentials } from '../base/credentials.ts';
export type { Err, Ok, Result } from '../base/result.ts';
export { Errno, type ErrnoName } from '../errors/errno.ts';
export type { FsError, FsErrorCode } from '../errors/fs-error.ts';
export {
  type Answer,
  type CreateHow,
  type KnownExport,
  type Limits,
  Nfs3Client,
  type Nfs3Error,
} from './client.ts';
export type { MountError, MountFailure, Service } from './mount-error.ts';
export {
  listExports,
  listMounts,
  type MountOptions,
  type ServerOptions,
} from './mount-export.ts';
export type { ExportNode, MountBody, MountErrorName } from './mount3.ts';
export type * from './nfs3/types.ts';
export { hostAndPort } from './rpc/dial.ts';
export {
  type CallEvent,
  type ConnectionEvent,
  type RetransmitEvent,
  rpcChannels,
  type ServerEvent,
  type StrayEvent,
} from './rpc/events.ts';
export type { UnreachableReason } from './rpc/failure.ts';
export { majorTimeoutMs } from './rpc/transport.ts';
