/**
 * What has happened on the mount, for whoever wants to know: each event has a number, and the last
 * ones are kept, so that a listener who was away a while misses nothing, or sees by a gap in the
 * numbers that it did.
 */
import type { Clock } from '../base/clock.ts';

export type MountEventKind =
  | 'opened'
  | 'closed'
  | 'dirty'
  | 'clean'
  | 'writtenBack'
  | 'notSent'
  | 'conflict'
  | 'changedUnderDirty'
  | 'serverDown'
  | 'serverUp'
  | 'completed';

export interface MountEvent {
  /** From 1, one more each time, as long as the daemon lives. */
  readonly number: number;
  /** ms since 1970. */
  readonly atMs: number;
  readonly event: MountEventKind;
  /** Of which file, from the mount's root. */
  readonly path: string | null;
  readonly bytes: number | null;
  /** What more there is to say, in one clause. */
  readonly message: string | null;
}

export type EventDetails = Partial<Pick<MountEvent, 'path' | 'bytes' | 'message'>>;

const KEPT_EVENTS = 4096;
const MS_NS = 1_000_000n;

export class EventHub {
  readonly #clock: Clock;
  readonly #kept: MountEvent[] = [];
  readonly #listeners = new Set<(event: MountEvent) => void>();
  #last = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The number of the last event; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  /** Its number. */
  tell(event: MountEventKind, details: EventDetails = {}): number {
    this.#last += 1;
    const { path = null, bytes = null, message = null } = details;
    const atMs = Number(this.#clock.wallNs() / MS_NS);
    const told = { number: this.#last, atMs, event, path, bytes, message };
    this.#kept.push(told);
    if (this.#kept.length > KEPT_EVENTS) this.#kept.shift();
    for (const listener of this.#listeners) listener(told);
    return told.number;
  }

  /** Those with greater numbers that are kept. */
  since(number: number): readonly MountEvent[] {
    return this.#kept.filter((event) => event.number > number);
  }

  /** Calls back for each from now on; the way to stop. */
  subscribe(listener: (event: MountEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
