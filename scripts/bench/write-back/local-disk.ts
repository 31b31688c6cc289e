/** A directory on the disk that caches are on: the limit of what a cache can give. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface LocalDisk {
  readonly directory: string;
  remove(): void;
}

export function localDisk(): LocalDisk {
  const directory = mkdtempSync(join(tmpdir(), 'gvfs-bench-local-'));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
