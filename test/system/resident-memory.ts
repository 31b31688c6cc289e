/** How much memory the daemon takes while much is copied through it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Place } from '../mount/worlds.ts';

/** Copies so many random MiB in (with fsync) and out again, and compares them. */
export async function copyInAndOut(place: Place, sizeMiB: number): Promise<void> {
  await place.children.sh(
    `local=$(mktemp -d); trap 'rm -rf "$local"' EXIT
     head -c "$2"M /dev/urandom >"$local/source"
     dd if="$local/source" of="$1/copy" bs=1M conv=fsync status=none
     dd if="$1/copy" of="$local/again" bs=1M status=none iflag=nocache
     cmp "$local/source" "$1/copy"
     cmp "$local/source" "$local/again"
     rm "$1/copy"`,
    [place.directory, String(sizeMiB)],
    { timeoutMs: 1_200_000 },
  );
}

/** The most that the process has had resident so far (VmHWM, proc(5)), MiB. */
export function residentPeakMiB(pid: number): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  assert.ok(kib !== undefined, 'no VmHWM');
  return Math.round(Number(kib) / 1024);
}
