/**
 * `knowledge`, format 1: one blob of the file system's, whole or not at all.
 *
 *    0  8  magic "GVFSKNOW"      28  4  CRC-32 of the blob
 *    8  4  version, 1            32  4  CRC-32 of the 32 bytes before
 *   12 16  export id             36     the blob, to the end of the file
 *
 * All numbers are little endian. C2: what is damaged, of another version or of another export is
 * removed and said, never given out.
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { err, ok, type Result } from '../base/result.ts';
import { Errno } from '../errors/errno.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { KnowledgeStore } from '../vfs/ports.ts';
import { Lane } from './lane.ts';
import { localFailure } from './local-failure.ts';
import type { PathIo } from './path-io.ts';

export const KNOWLEDGE_VERSION = 1;
export const KNOWLEDGE_HEADER_BYTES = 36;

/** Where the file lies, and how whole files are written there. */
export interface KnowledgePlace {
  readonly path: string;
  /** The export id, 32 hex digits. */
  readonly id: string;
  readonly paths: PathIo;
  writeWhole(directory: string, name: string, bytes: Buffer, durable: boolean): Promise<number>;
}

export function encodeKnowledge(exportId: string, blob: Buffer): Buffer {
  const header = Buffer.alloc(KNOWLEDGE_HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(KNOWLEDGE_VERSION, 8);
  header.write(exportId, 12, 16, 'hex');
  header.writeUInt32LE(crc32(blob), 28);
  header.writeUInt32LE(crc32(header.subarray(0, 32)), 32);
  return Buffer.concat([header, blob]);
}

/** The blob (a view), or a clause that says why it is none to believe. */
export function decodeKnowledge(exportId: string, bytes: Buffer): Result<Buffer, string> {
  if (bytes.length < KNOWLEDGE_HEADER_BYTES) return err('is cut short');
  if (!bytes.subarray(0, 8).equals(MAGIC)) return err('is not of ours');
  const version = bytes.readUInt32LE(8);
  if (version !== KNOWLEDGE_VERSION) return err(`is of version ${version}`);
  if (bytes.readUInt32LE(32) !== crc32(bytes.subarray(0, 32))) return err('is damaged');
  if (bytes.toString('hex', 12, 28) !== exportId) return err('is of another export');
  const blob = bytes.subarray(KNOWLEDGE_HEADER_BYTES);
  return bytes.readUInt32LE(28) === crc32(blob) ? ok(blob) : err('is damaged');
}

export class KnowledgeFile implements KnowledgeStore {
  readonly #place: KnowledgePlace;
  readonly #onFailure: (error: FsError) => void;
  readonly #lane = new Lane();
  /** Nothing is there, and nothing comes back after a power loss. */
  #gone = false;
  #mustGo = false;

  constructor(place: KnowledgePlace, onFailure: (error: FsError) => void) {
    this.#place = place;
    this.#onFailure = onFailure;
  }

  /** False: what is there should be gone, and the disk did not let it. */
  get isTrue(): boolean {
    return !this.#mustGo || this.#gone;
  }

  load(): Promise<Buffer | undefined> {
    return this.#lane.run(async () => {
      const { errno, bytes } = await this.#place.paths.read(this.#path, MOST_BYTES);
      if (errno === Errno.ENOENT) return undefined;
      const blob = errno === 0 ? decodeKnowledge(this.#place.id, bytes) : undefined;
      if (blob?.ok === true) return blob.value;
      const failure = localFailure(errno, 'read', this.#path);
      const message = `${this.#path} ${blob?.error ?? 'cannot be read'}: it is not used`;
      this.#onFailure(blob === undefined ? failure : localError('EIO', 'load', message));
      await this.#remove();
      return undefined;
    });
  }

  save(bytes: Buffer): Promise<void> {
    return this.#lane.run(async () => {
      this.#gone = false;
      const whole = encodeKnowledge(this.#place.id, bytes);
      const errno = await this.#place.writeWhole(this.#place.path, NAME, whole, true);
      if (errno === 0) this.#mustGo = false;
      else this.#onFailure(localFailure(errno, 'write', this.#path));
    });
  }

  forget(): Promise<void> {
    this.#mustGo = true;
    return this.#lane.run(() => this.#remove());
  }

  get #path(): string {
    return join(this.#place.path, NAME);
  }

  async #remove(): Promise<void> {
    if (this.#gone) return;
    const { paths, path } = this.#place;
    const removed = await paths.remove(this.#path);
    // One that is not there may come back where its removal was never synced.
    const errno = removed === 0 || removed === Errno.ENOENT ? await paths.sync(path) : removed;
    if (errno === 0) this.#gone = true;
    else this.#onFailure(localFailure(errno, 'remove', this.#path));
  }
}

const NAME = 'knowledge';
const MAGIC = Buffer.from('GVFSKNOW', 'latin1');
const MOST_BYTES = 1024 ** 3;
