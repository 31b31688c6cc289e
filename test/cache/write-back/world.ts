/** An engine with its images and their files at a server, and what it told. */
import assert from 'node:assert/strict';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import { WriteBackEngine, type WriteBackPolicy } from '../../../src/cache/write-back/engine.ts';
import { EventClock } from '../memory-clock.ts';
import { PaperImage } from './paper-image.ts';
import { PaperServer } from './paper-server.ts';

export const MiB = 1024 * 1024;

export class World {
  readonly clock = new EventClock();
  readonly engine: WriteBackEngine;
  readonly told: string[] = [];
  reads = { inFlight: 0, begun: 0 };
  #images = 0;

  constructor(policy: Partial<WriteBackPolicy> = {}) {
    this.engine = new WriteBackEngine({
      clock: this.clock,
      reads: () => this.reads,
      policy: { mode: 'deferred', ageMs: 30_000, maxDirtyBytes: 1024 * MiB, ...policy },
      events: {
        writtenBack: (path, bytes) => this.told.push(`${path} written back ${bytes}`),
        failed: (path, bytes, { code }, willRetry) =>
          this.told.push(`${path} failed ${bytes} ${code}${willRetry ? ', again' : ''}`),
        conflict: (path) => this.told.push(`${path} conflict`),
        clean: (path) => this.told.push(`${path} clean`),
      },
    });
  }

  image(writeMax?: number): PaperImage {
    const name = `image-${++this.#images}`;
    return new PaperImage(this.clock, new PaperServer(this.clock, writeMax), name);
  }

  /** Whole pages, each with bytes of `seed`. */
  write(image: PaperImage, page: number, pages: number, seed: number): void {
    image.write(page * PAGE_BYTES, pagesOf(pages, seed));
    this.engine.changed(image);
  }

  writeBack(image: PaperImage) {
    return this.clock.until(this.engine.writeBack(image));
  }

  wait(ms: number): Promise<void> {
    return this.clock.until(
      new Promise((resolve) => {
        this.clock.after(ms, resolve);
      }),
    );
  }
}

export function pagesOf(pages: number, seed: number): Buffer {
  const bytes = Buffer.alloc(pages * PAGE_BYTES);
  for (let page = 0; page < pages; page++) {
    bytes.writeUInt32LE(seed, page * PAGE_BYTES);
    bytes.writeUInt32LE(seed ^ page, (page + 1) * PAGE_BYTES - 4);
  }
  return bytes;
}

/** The server has all of the image durably, and the image knows it. */
export function assertSent(image: PaperImage): void {
  assert.equal(image.dirtyBytes, 0);
  assert.equal(image.hasUnsentAttributes, false);
  assert.equal(image.isResting, true);
  assert.equal(image.takenRuns, 0);
  assert.ok(image.sending.durable().equals(image.content()), 'what the server has is other bytes');
  assert.equal(image.sending.mtimeNs, image.mtimeNs);
}
