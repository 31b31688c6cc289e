/**
 * Changes of an image that go to the server, from before they are sent until their outcome is known
 * and the image is what the server has.
 *
 *   begin --> suspended --> what is dirty there is sent --> noted 'writing' --> the caller sends it
 *                                                                                   |
 *             ended <-- the pages are what the server has, or absent <-- done, failed
 *
 * The note 'writing' is on the disk before the first change is sent.
 *
 * W1  No byte goes through to the server while an overlapping page is dirty: else the older bytes
 *     of the page, sent later, would overwrite it. Where write-back fails, the page stays dirty and
 *     takes the new bytes, too (`LocalChanges`, L4).
 * C11 What is on its way behind a new end has come before the change of size is sent, and nothing
 *     more is sent of it until that has ended.
 */
import type { PendingChange } from '../vfs/ports.ts';
import type { WriteBack } from './cache-parts.ts';
import { PAGE_BYTES } from './file-io.ts';
import type { ImageContent } from './image-content.ts';
import { applyResize, applyUnknown, applyWrite, type LocalChanges } from './local-changes.ts';
import { PageLane } from './page-lane.ts';
import { type PageRange, pagesOf } from './page-range.ts';
import type { DirtyImage } from './write-back/dirty-image.ts';

/** What changes need to know of their image. */
export interface ChangeHost {
  readonly content: ImageContent | undefined;
  /** Of what is kept, or was last known. */
  readonly sizeBytes: number;
  readonly changes: LocalChanges;
  readonly dirty: DirtyImage;
  /** Resolves when no other content is being made. */
  renewed(): Promise<void>;
  leaveToHolders(): Promise<void>;
  /** The disk has failed: what is kept is not to be trusted. */
  lose(content: ImageContent): Promise<void>;
}

type Apply = (content: ImageContent, bytes: Buffer | undefined) => Promise<'applied' | 'lost'>;

interface Kind {
  rangeOf(known: number): PageRange;
  apply: Apply;
  /** The server's file may be longer now, or is of another size. */
  ended(content: ImageContent, how: 'done' | 'failed'): void;
  /** Resolves when it may be sent; the answer is called when it has ended. */
  wait(range: PageRange): Promise<() => void>;
}

export class PendingChanges {
  readonly #host: ChangeHost;
  readonly #writeBack: WriteBack;
  readonly #endings = new PageLane();

  constructor(host: ChangeHost, writeBack: WriteBack) {
    this.#host = host;
    this.#writeBack = writeBack;
  }

  beginWrite(offset: number, length: number): Promise<PendingChange> {
    const touched = pagesOf(offset, length);
    return this.#begin({
      rangeOf(known) {
        // What is the last page grows with the file: not served before the local file is as long.
        const start = Math.min(touched.start, Math.floor(known / PAGE_BYTES));
        return offset + length > known ? { start, end: touched.end } : touched;
      },
      async apply(content, bytes) {
        if (bytes === undefined) {
          content.sizeIsDoubtful = true;
          await applyUnknown(content, touched);
          return 'applied';
        }
        const applied = await applyWrite(content, offset, bytes);
        // What was not written of it is as it was, or not: a part of its last page may be.
        if (bytes.length < length) {
          await applyUnknown(content, pagesOf(offset + bytes.length, length - bytes.length));
        }
        return applied;
      },
      ended: (content) => content.zeros.raise(offset + length),
      wait: (range) => this.#sent(range),
    });
  }

  beginResize(size: number): Promise<PendingChange> {
    return this.#begin({
      rangeOf: (known) => fromPageOf(Math.min(size, known)),
      apply: (content) => applyResize(content, size),
      ended(content, how) {
        if (how === 'done') content.zeros.set(size);
      },
      wait: (range) => this.#heldBack(range),
    });
  }

  /** A change whose outcome nobody knew: the server has told since. true: may be settled. */
  async sizeTold(content: ImageContent, size: number): Promise<boolean> {
    const { changes } = this.#host;
    const range = fromPageOf(Math.min(size, content.map.sizeBytes));
    const change = changes.begin(range);
    content.fills.cut(range);
    content.sizeIsDoubtful = true;
    try {
      if ((await applyResize(content, size)) === 'lost') await this.#host.lose(content);
      content.zeros.set(size);
    } finally {
      changes.end(change);
    }
    // What has begun meanwhile is settled with its own end.
    return this.#host.content === content && !content.retired && !changes.any;
  }

  async #begin({ rangeOf, apply, ended, wait }: Kind): Promise<PendingChange> {
    const host = this.#host;
    const early = this.#suspend(rangeOf);
    await this.#noteWriting();
    // Another content may have been made meanwhile, of another size.
    const { range, change } = this.#suspend(rangeOf);
    host.changes.end(early.change);
    const begunOn = host.content;
    const release = await wait(range);
    const end = async (
      how: 'done' | 'failed',
      work: (content: ImageContent) => ReturnType<Apply>,
    ) => {
      // In the order in which they ended at the server.
      const leave = await this.#endings.enter(range);
      try {
        await host.renewed();
        const { content } = host;
        if (content === undefined) return;
        if (content !== begunOn) {
          // Nobody knows which came first at the server, this change or another's. The pages were
          // not filled since, so they are absent.
          content.sizeIsDoubtful = true;
          return;
        }
        if ((await work(content)) === 'lost') await host.lose(content);
        ended(content, how);
      } finally {
        host.changes.end(change);
        release();
        leave();
      }
    };
    return {
      done: (bytes) => end('done', (content) => apply(content, bytes)),
      failed: () =>
        end('failed', async (content) => {
          content.sizeIsDoubtful = true;
          await applyUnknown(content, range);
          return 'applied';
        }),
    };
  }

  /** From now on the pages are not served, nor is what is on its way for them kept. */
  #suspend(rangeOf: (known: number) => PageRange): { range: PageRange; change: PageRange } {
    const range = rangeOf(this.#host.sizeBytes);
    this.#host.content?.fills.cut(range);
    return { range, change: this.#host.changes.begin(range) };
  }

  /** Durable before the first change goes out. A held file is left as it is: another takes over. */
  async #noteWriting(): Promise<void> {
    await this.#host.renewed();
    if (this.#host.content?.held === true) await this.#host.leaveToHolders();
    const { content } = this.#host;
    if (content === undefined || content.retired) return;
    const errno = await content.directory.markWriting();
    if (errno === 0) return;
    // The stamp will not be the server's any more, but only the note makes that certain.
    content.health.failed(errno, 'sync');
    // What only this disk has stays: after a kill its old stamp is a conflict, not an old byte.
    if (content.unsent.isAny) return;
    await this.#host.lose(content);
  }

  /** What was dirty before the change is at the server, or cannot be sent. */
  async #sent({ start, end }: PageRange): Promise<() => void> {
    const { content, dirty } = this.#host;
    if (
      content !== undefined &&
      content.map.countDirty(start, Math.min(end, content.map.pageCount)) > 0
    ) {
      await this.#writeBack.writeBackRange(dirty, { start, end });
    }
    return nothing;
  }

  #heldBack(range: PageRange): Promise<() => void> {
    const { content, dirty } = this.#host;
    if (content?.unsent.isAny !== true) return Promise.resolve(nothing);
    return this.#writeBack.holdBack(dirty, range);
  }
}

/** The page that `position` lies in, and all behind it. */
function fromPageOf(position: number): PageRange {
  return { start: Math.floor(position / PAGE_BYTES), end: Number.POSITIVE_INFINITY };
}

function nothing(): void {}
