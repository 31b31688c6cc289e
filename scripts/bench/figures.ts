/** All values taken on one link: who reached what, run by run. */
import type { Yardstick } from './bars.ts';
import type { CaseName } from './cases.ts';
import { type Summary, summarise } from './median.ts';

export const subjects = ['local', 'native', 'fuse-native'] as const;
export type Subject = (typeof subjects)[number];

/** `mount` is in ms, `resident` in MB; the cases have their own units. */
export type Measured = CaseName | 'mount' | 'resident';

export class Figures {
  readonly #values = new Map<string, number[]>();

  add(who: Subject | Yardstick, what: Measured, value: number): void {
    const key = `${who}: ${what}`;
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  of(who: Subject | Yardstick, what: Measured): Summary | undefined {
    const values = this.#values.get(`${who}: ${what}`);
    return values && summarise(values);
  }

  all(): Record<string, number[]> {
    return Object.fromEntries(this.#values);
  }
}
