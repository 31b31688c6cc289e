/** Work that must not overlap: each piece begins when the one before it has ended. */
export class Lane {
  #last: Promise<unknown> = Promise.resolve();

  /** `work` must not wait for another piece of the same lane. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    // What this piece throws is its caller's: the next one runs all the same.
    this.#last = done.catch(() => undefined);
    return done;
  }
}
