/**
 * While anybody holds an image back, no WRITE of it is begun.
 */

export class Holds {
  #count = 0;
  #waiting: (() => void)[] = [];

  get areHeld(): boolean {
    return this.#count > 0;
  }

  /** Until the answer is called; more than once does no harm. */
  hold(): () => void {
    this.#count++;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#count--;
      if (this.#count > 0) return;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const go of waiting) go();
    };
  }

  async untilNone(): Promise<void> {
    while (this.#count > 0) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }
}
