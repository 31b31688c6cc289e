/** info */
import type { ContentStamp } from '../vfs/ports.ts';

export type ImageState = 'settled' | 'writing';

export interface ImageInfo {
  /** The NFS file handle, in hex. */
  readonly handle: string;
  /** `server:/export` */
  readonly export: string;
  readonly fsid: bigint;
  readonly fileid: bigint;
  /** From the export's root, for people: a hint. */
  readonly path: string;
  readonly state: ImageState;
  readonly stamp: ContentStamp;
  readonly lastUsedMs: number;
  readonly pinned: boolean;
  /** When info was written last. */
  readonly allocatedBytes: number;
  /** When info was written last. */
  readonly presentPages: number;
}
