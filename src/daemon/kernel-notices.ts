/**
 * What the kernel is told to forget: pages and attributes of a file that others have changed, names
 * that are not everybody's any more, and on request whatever it has of a file.
 *
 * Programs change pages without a word where they have a file mapped (mmap, MAP_SHARED). Told to
 * forget a file, the kernel first writes back to us what was changed, and the notice is done when
 * we have taken all of it: that is how these pages are pulled.
 *
 * The notices leave from the transport's thread for them, so that the event loop goes on answering
 * the very WRITEs that a notice waits for. One file has one notice under way at most, and one that
 * waits for whoever came meanwhile: pages may have been changed behind the first.
 */
import type { Ino, Name } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { Notices } from '../fuse/transport.ts';

/** Without any WRITE for so long the kernel does not come on: something else holds its pages. */
const STUCK_MS = 10_000;
const LOOK_MS = 250;

interface Telling {
  readonly done: Promise<void>;
  next: Promise<void> | undefined;
}

export class KernelNotices {
  readonly #clock: Clock;
  readonly #files = new Map<Ino, Telling>();
  readonly #names = new Set<Promise<void>>();
  #notices: Notices | undefined;
  #writesAnswered: () => number = () => 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * From now on there is a kernel to be told. `writesAnswered` grows with each of its WRITEs: it
   * shows that a notice which takes its time comes on.
   */
  attach(notices: Notices, writesAnswered: () => number): void {
    this.#notices = notices;
    this.#writesAnswered = writesAnswered;
  }

  /** Whatever the kernel has of the file is to be forgotten. Resolves when it has done so. */
  forget(ino: Ino): Promise<void> {
    const present = this.#files.get(ino);
    if (present === undefined) return this.#tell(ino);
    present.next ??= present.done.then(() => this.#tell(ino));
    return present.next;
  }

  revoke(directory: Ino, names: readonly Name[]): void {
    for (const name of names) {
      const told = this.#notices?.invalidateEntry(directory, name);
      if (told === undefined) continue;
      this.#names.add(told);
      void told.finally(() => this.#names.delete(told));
    }
  }

  /**
   * Takes over what programs have changed of the files until now, and makes the kernel forget their
   * pages. Answers those of which this has not come about: the kernel is stuck, or `signal` ended
   * it. What is under way for them goes on.
   */
  async pull(inodes: Iterable<Ino>, signal: AbortSignal): Promise<Ino[]> {
    const left = new Set(inodes);
    const told = [...left].map(async (ino) => {
      await this.forget(ino);
      left.delete(ino);
    });
    await this.#unlessStuck(Promise.all(told), signal);
    return [...left];
  }

  /** Waits for what the kernel was told by now. Whether it has done all of it. */
  async settled(signal: AbortSignal): Promise<boolean> {
    const told = [...this.#files.values()].map(({ done, next }) => next ?? done);
    return this.#unlessStuck(Promise.all([...told, ...this.#names]), signal);
  }

  #tell(ino: Ino): Promise<void> {
    const notices = this.#notices;
    if (notices === undefined) return Promise.resolve();
    const telling: Telling = { done: notices.invalidateInode(ino, 0, 0), next: undefined };
    this.#files.set(ino, telling);
    return telling.done.finally(() => {
      if (telling.next === undefined) this.#files.delete(ino);
    });
  }

  /** Whether it came about. */
  #unlessStuck(all: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
    const clock = this.#clock;
    return new Promise((done) => {
      let seen = this.#writesAnswered();
      let movedMs = clock.monotonicMs();
      let isOver = false;
      const end = (cameAbout: boolean) => {
        isOver = true;
        signal.removeEventListener('abort', giveUp);
        done(cameAbout);
      };
      const giveUp = () => end(false);
      const look = () => {
        if (isOver) return;
        const now = this.#writesAnswered();
        if (now !== seen) [seen, movedMs] = [now, clock.monotonicMs()];
        if (clock.monotonicMs() - movedMs >= STUCK_MS) giveUp();
        else clock.after(LOOK_MS, look);
      };
      void all.then(() => end(true));
      if (signal.aborted) return giveUp();
      signal.addEventListener('abort', giveUp, { once: true });
      clock.after(LOOK_MS, look);
    });
  }
}
