/**
 * Write-back of all images of a cache: which one when.
 *
 *   age       what was written `ageMs` ago is sent
 *   amount    when more than `maxDirtyBytes` are dirty, the oldest go first
 *   pressure  the cache needs clean pages: the oldest go first, as much as is needed
 *   command   an image, a range of one, or all
 *
 * With mode 'deferred' only pressure and command.
 */
import type { Clock } from '../../base/clock.ts';
import type { Result } from '../../base/result.ts';
import type { FsError } from '../../errors/fs-error.ts';
import type { PageRange } from '../page-range.ts';
import type { DirtyImage } from './dirty-image.ts';
import type { ReadsView } from './window.ts';

export interface WriteBackPolicy {
  readonly mode: 'back' | 'deferred';
  readonly ageMs: number;
  /** Of all images; when more are dirty the oldest are sent. */
  readonly maxDirtyBytes: number;
  /** Writers wait beyond it (`roomFor`). */
  readonly mostDirtyBytes?: number | undefined;
}

/** What happens, for logs and those who watch. All are optional; none may throw. */
export interface WriteBackEvents {
  /** So many bytes of the image have become durable at the server. */
  writtenBack?(path: string, bytes: number): void;
  /** `bytes` are still dirty. */
  failed?(path: string, bytes: number, error: FsError, willRetry: boolean): void;
  /** Another has changed the server's file (C6): nothing is sent. */
  conflict?(path: string): void;
  /** The server has all of it. */
  clean?(path: string): void;
}

export interface WriteBackOptions {
  readonly clock: Clock;
  /** Reads of the server, which go first: `FetchQueue.reads` as it is now. */
  readonly reads: () => ReadsView;
  readonly policy: WriteBackPolicy;
  readonly events: WriteBackEvents;
}

export interface SentBack {
  /** What of it became durable at the server. */
  readonly sentBytes: number;
}

export interface WriteBackProgress extends SentBack {
  /** Still dirty. */
  readonly leftBytes: number;
}

export interface WriteBackWatch {
  /** The caller does not wait any more (Err EINTR); what is sent only for it stops. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: WriteBackProgress) => void) | undefined;
}

export interface AllSentBack extends SentBack {
  /** Images of which not everything could be sent. */
  readonly failures: readonly WriteBackFailure[];
}

export interface WriteBackFailure {
  readonly fileId: string;
  readonly path: string;
  readonly dirtyBytes: number;
  readonly error: FsError;
  /** When it is tried again; undefined: only on command. */
  readonly retryInMs: number | undefined;
}

export interface WriteBackFigures {
  /** Of all images, those being sent included. */
  readonly dirtyBytes: number;
  readonly dirtyImages: number;
  /** Sent, not answered. */
  readonly inFlightBytes: number;
  /** Images that are being sent. */
  readonly sendingImages: number;
  /** Since the start: durable at the server; lost by a server that restarted. */
  readonly sentBytes: number;
  readonly lostBytes: number;
  readonly commits: number;
  /** Those that last failed, and are dirty still. */
  readonly failures: readonly WriteBackFailure[];
  /** What the link was seen to take. */
  readonly bytesPerSecond: number | undefined;
}

export class WriteBackEngine {
  readonly #options: WriteBackOptions;

  constructor(options: WriteBackOptions) {
    this.#options = options;
  }

  /**
   * The image has, or has more, or has other unsent writes than before; or its conflict was
   * resolved. Cheap: to be called after each write.
   */
  changed(_image: DirtyImage): void {}

  /**
   * Nothing of it is to be sent any more: its writes were discarded, or it is closed. The image is
   * not called any more. Resolves when no WRITE of it is on the wire.
   */
  gone(_image: DirtyImage): Promise<void> {
    return Promise.resolve();
  }

  /**
   * Resolves when no WRITE that touches `range` is on the wire; until the answer is called no WRITE
   * of the image is sent. For a change of size (C11): what is sent already may still be
   * uncommitted, and is settled or put back later.
   */
  holdBack(_image: DirtyImage, _range: PageRange): Promise<() => void> {
    return Promise.resolve(() => undefined);
  }

  /**
   * Everything that was dirty at the call is durable at the server when it resolves; of pages
   * written meanwhile, these bytes or newer ones. Size and mtime too.
   */
  writeBack(_image: DirtyImage, _watch: WriteBackWatch = {}): Promise<Result<SentBack, FsError>> {
    throw new Error('not yet');
  }

  /** The same for a range of pages, before all other work on the image; without size and mtime. */
  writeBackRange(_image: DirtyImage, _range: PageRange): Promise<Result<SentBack, FsError>> {
    throw new Error('not yet');
  }

  /** `writeBack` of all images; one that fails does not stop the others. */
  writeBackAll(_watch: WriteBackWatch = {}): Promise<AllSentBack> {
    throw new Error('not yet');
  }

  /** The cache needs room: makes at least so many bytes clean if it can. The bytes it made so. */
  makeClean(_bytes: number): Promise<number> {
    throw new Error('not yet');
  }

  /**
   * Before so many bytes become dirty: undefined, or what to wait for. Pressed by it images are
   * sent, in any mode. It resolves as well when nothing can be sent.
   */
  roomFor(_bytes: number): Promise<void> | undefined {
    throw new Error(`not yet: ${this.#options.policy.mode}`);
  }

  /**
   * Sends nothing new, waits at most `graceMs` for what is on the wire, and then touches no image
   * any more. What was not committed stays dirty. May be called twice.
   */
  stop(_graceMs: number): Promise<void> {
    throw new Error('not yet');
  }

  figures(): WriteBackFigures {
    throw new Error('not yet');
  }
}
