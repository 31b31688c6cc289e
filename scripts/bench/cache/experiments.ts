/** One experiment: a place to measure in, which is made once, and what is measured in each run. */
import type { Ledger } from './ledger.ts';

export interface Experiment {
  readonly name: string;
  /** Makes the place; the answer measures once, adds what it found, and cleans up at the end. */
  open(imageBytes: number): Promise<Place>;
}

export interface Place {
  run(ledger: Ledger): Promise<void>;
  close(): Promise<void>;
}
