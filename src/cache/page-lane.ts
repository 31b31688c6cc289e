/**
 * The order of what changes the bytes of an image's local file: of two changes that overlap, the
 * one that came first ends before the other begins. Without it a store of what was fetched before
 * a local write could reach the file after it.
 */
import { assert } from '../base/assert.ts';
import { overlaps, type PageRange } from './page-range.ts';

interface Passage extends PageRange {
  readonly ended: Promise<void>;
}

export class PageLane {
  readonly #passages = new Set<Passage>();

  get isEmpty(): boolean {
    return this.#passages.size === 0;
  }

  /** Resolves when all earlier ones that overlap have left; to be left exactly once. */
  async enter(range: PageRange): Promise<() => void> {
    const earlier = [...this.#passages].filter((passage) => overlaps(passage, range));
    let end: (() => void) | undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const passage = { ...range, ended };
    this.#passages.add(passage);
    if (earlier.length > 0) await Promise.all(earlier.map((other) => other.ended));
    return () => {
      assert(this.#passages.delete(passage), 'left the page lane twice');
      end?.();
    };
  }
}
