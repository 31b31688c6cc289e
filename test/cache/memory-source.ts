/**
 * A server's file in memory, for tests of the cache: answers can be held back, come in any order,
 * and fail; what an answer holds is the file at the time that `snapshotAt` says.
 */
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import type { Credentials } from '../../src/base/credentials.ts';
import { err, ok, type Result } from '../../src/base/result.ts';
import { type FsError, localError } from '../../src/errors/fs-error.ts';
import type { Attributes, Fetched, ImageSending, ImageSource } from '../../src/vfs/ports.ts';

/** Something that happens when the test says so. */
export interface Gate {
  readonly what: string;
  open(): void;
}

export interface FetchSeen {
  readonly offset: number;
  readonly length: number;
}

export class MemorySource implements ImageSource {
  bytes: Buffer;
  /** How unsent writes reach it; undefined: they do not. */
  sending: ImageSending | undefined;
  /** What was set; undefined: the time of the last change. */
  mtimeNs: bigint | undefined;
  /** Told by the stamp: another client's change. */
  version = 1;
  /** A change of ours is under way, or its outcome is not known. */
  unknown = false;
  failures = 0;
  /** Where programs see the end, while some of it is unsent: up to there fetches are of zeros. */
  shownSize: (() => number) | undefined;
  /** A truncation that the image does not know of yet: nothing is behind it. */
  cutTo = Number.POSITIVE_INFINITY;
  snapshotAt: 'sent' | 'answered' = 'answered';
  readonly fetches: FetchSeen[] = [];
  /** Memory handed out and not given back. */
  heldBytes = 0;
  /** Where answers wait; undefined: they come at once. */
  gates: Gate[] | undefined;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  async fetch(_as: Credentials, offset: number, length: number): Promise<Result<Fetched, FsError>> {
    this.fetches.push({ offset, length });
    const sizeBefore = this.bytes.length;
    const sent = this.#slice(offset, length, sizeBefore);
    const { gates } = this;
    if (gates !== undefined) {
      await new Promise<void>((resolve) => {
        gates.push({ what: `fetch ${offset}+${length}`, open: resolve });
      });
    }
    if (this.failures > 0) {
      this.failures--;
      return err(localError('EIO', 'fetch'));
    }
    const bytes = this.snapshotAt === 'sent' ? sent : this.#slice(offset, length, sizeBefore);
    this.heldBytes += bytes.length;
    let given = false;
    return ok({
      bytes,
      release: () => {
        assert.ok(!given, 'released twice');
        given = true;
        this.heldBytes -= bytes.length;
        // Who looks at it now looks at something else.
        bytes.fill(0xee);
      },
    });
  }

  attributes(): Attributes | undefined {
    return this.unknown ? undefined : this.attributesNow();
  }

  path(): string {
    return 'images/model.img';
  }

  attributesNow(): Attributes {
    const timeNs = 1_700_000_000_000_000_000n + BigInt(this.version);
    return {
      type: 'regular',
      mode: 0o644,
      nlink: 1,
      uid: 0,
      gid: 0,
      size: this.bytes.length,
      used: this.bytes.length,
      rdev: { major: 0, minor: 0 },
      fsid: 7n,
      fileid: 42n,
      atimeNs: timeNs,
      mtimeNs: this.mtimeNs ?? timeNs,
      ctimeNs: timeNs,
    };
  }

  /** The same file, for a daemon that knows nothing of what the first one has under way. */
  copy(): MemorySource {
    const source = new MemorySource(this.bytes);
    source.version = this.version;
    source.snapshotAt = this.snapshotAt;
    source.mtimeNs = this.mtimeNs;
    return source;
  }

  /** What was cut off meanwhile is no zeros. */
  #slice(offset: number, length: number, sizeBefore: number): Buffer {
    const known = this.bytes.length < sizeBefore ? 0 : (this.shownSize?.() ?? 0);
    const shown = Math.min(known, this.cutTo);
    const end = Math.max(this.bytes.length, shown);
    const slice = Buffer.alloc(Math.max(Math.min(length, end - offset), 0));
    this.bytes.subarray(offset, offset + length).copy(slice);
    return slice;
  }
}

/** Lets everything go on that waits for no gate and no clock. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 3; i++) await setImmediate();
}
