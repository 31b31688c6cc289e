/** A plain local directory: the world whose answers are the truth. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Children } from './children.ts';

export interface LocalDirectory {
  readonly path: string;
  readonly children: Children;
  remove(): void;
}

export function localDirectory(): LocalDirectory {
  const path = mkdtempSync(join(tmpdir(), 'gvfs-local-'));
  chmodSync(path, 0o755); // other users must get through
  const children = new Children();
  return {
    path,
    children,
    remove() {
      children.killAll();
      rmSync(path, { recursive: true, force: true });
    },
  };
}
