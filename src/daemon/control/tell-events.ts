/**
 * The method `events`: what has happened, and then what happens, until nobody listens any more.
 */
import type { EventHub } from '../event-hub.ts';
import type { Call, Outcome } from './protocol.ts';
import type { ParamsOf } from './schema.ts';

export async function tellEvents(
  hub: EventHub,
  { since = hub.last, follow = true }: ParamsOf<'events'>,
  { signal, event }: Call,
): Promise<Outcome<'events'>> {
  for (const kept of hub.since(since)) event(kept);
  if (follow && !signal.aborted) {
    const unsubscribe = hub.subscribe(event);
    await new Promise((done) => signal.addEventListener('abort', done, { once: true }));
    unsubscribe();
  }
  return { last: hub.last };
}
