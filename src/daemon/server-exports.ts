/**
 * What a server exports, asked of its MOUNT service.
 */
import { ok, type Result } from '../base/result.ts';
import type { MountSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import { type ExportNode, listExports } from '../nfsc/index.ts';
import type { MountFailure } from './mount-failure.ts';
import { mountOptionsOf } from './translate.ts';

export interface ServerExport {
  readonly path: string;
  /** Who may mount it, in the server's words; empty: everybody. */
  readonly clients: readonly string[];
}

export async function serverExports(
  server: string,
  settings: Settings,
): Promise<Result<readonly ServerExport[], MountFailure>> {
  const source: MountSource = { server, path: '/' };
  const listed = await listExports(mountOptionsOf(source, settings));
  if (listed.ok) return ok(listed.value.map(exportOf));
  const { detail, message } = listed.error;
  return { ok: false, error: { kind: 'server', server, exportPath: '/', detail, message } };
}

function exportOf({ directory, groups }: ExportNode): ServerExport {
  return { path: directory, clients: groups };
}
