/**
 * How far the kernel should read ahead of a sequential reader, where nobody says.
 *
 * One stream needs the link's bandwidth times the round trip in flight, and the kernel keeps
 * between one and two read-ahead windows of READs under way: 8 MiB fill 1 Gbit/s at 60 ms. On a
 * local link a large window only spoils the processor's cache.
 */
import type { Nfs3Client } from '../nfsc/index.ts';

/** KiB for a round trip in milliseconds. */
export function readAheadKib(roundTripMs: number): number {
  if (roundTripMs < 0.5) return 2048;
  return roundTripMs < 5 ? 4096 : 8192;
}

const PROBES = 3;

/**
 * The shortest of a few calls, in ms; undefined when none is answered. What took long twice is a
 * long way; what took long once may have been our own delay.
 */
export async function measureRoundTrip(client: Nfs3Client): Promise<number | undefined> {
  let shortest = client.mountRoundTripMs;
  const nobody = { uid: 65_534, gid: 65_534, groups: [] };
  for (let probe = 0; probe < PROBES; probe++) {
    const start = performance.now();
    const answer = await client.null(nobody);
    if (!answer.ok) return shortest;
    const elapsed = performance.now() - start;
    const isLong = shortest !== undefined && Math.min(shortest, elapsed) > LONG_MS;
    shortest = Math.min(shortest ?? elapsed, elapsed);
    if (isLong) break; // more would only delay the mount
  }
  return shortest;
}

const LONG_MS = 5;
