/**
 * The order of what changes the bytes of an image's local file: of two changes that overlap, the
 * one that came first ends before the other begins. Without it a store of what was fetched before
 * a local write could reach the file after it.
 */
import { assert } from '../base/assert.ts';
import { overlaps, type PageRange } from './page-range.ts';

interface Passage extends PageRange {
  /** Who waits for its end. */
  waiting: (() => void)[] | undefined;
}

export class PageLane {
  readonly #passages = new Set<Passage>();

  get isEmpty(): boolean {
    return this.#passages.size === 0;
  }

  /** Resolves when all earlier ones that overlap have left; to be left exactly once. */
  async enter(range: PageRange): Promise<() => void> {
    const earlier = [...this.#passages].filter((passage) => overlaps(passage, range));
    const leave = this.#pass(range);
    if (earlier.length > 0) await Promise.all(earlier.map(ended));
    return leave;
  }

  /** The same without a promise; undefined where an earlier one has to be waited for. */
  enterNow(range: PageRange): (() => void) | undefined {
    for (const passage of this.#passages) if (overlaps(passage, range)) return undefined;
    return this.#pass(range);
  }

  #pass({ start, end }: PageRange): () => void {
    const passage: Passage = { start, end, waiting: undefined };
    this.#passages.add(passage);
    return () => {
      assert(this.#passages.delete(passage), 'left the page lane twice');
      for (const go of passage.waiting ?? []) go();
    };
  }
}

function ended(passage: Passage): Promise<void> {
  return new Promise((resolve) => {
    passage.waiting ??= [];
    passage.waiting.push(resolve);
  });
}
