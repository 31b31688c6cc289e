/**
 * gvfs map FILE: which pages of a file are here.
 */
import { call, daemonOf } from './daemon-call.ts';
import { complain, GvfsStatus } from './gvfs-errors.ts';
import { mapPicture, partsWanted } from './map-picture.ts';
import { jsonLine, type Shell } from './shell.ts';

export const mapHelp = `
Examples:
  gvfs map /mnt/vm/base.img
  gvfs map --width 32 --ascii /mnt/vm/base.img
  gvfs map --json /mnt/vm/base.img | jq '[.parts[].absent] | add'

Exit status: 0 done, 1 wrong usage, 3 no gvfs mount there, 32 it failed.
`;

/** Room for the label of a row, and for the lines around it. */
const MARGIN = 14;
const WIDTH_MAX = 512;

export interface MapRequest {
  readonly path: string;
  readonly json: boolean;
  readonly ascii: boolean;
  readonly width: number | undefined;
}

export async function map(shell: Shell, request: MapRequest): Promise<GvfsStatus> {
  const daemon = await daemonOf(shell, request.path);
  if (!daemon.ok) return complain(shell, daemon.error);
  const width = request.width ?? Math.min(Math.max(shell.columns - MARGIN, 8), 128);
  const params = { path: daemon.value.path, parts: partsWanted(width) };
  const answer = await call(shell, daemon.value, 'map', params);
  daemon.value.client.close();
  if (!answer.ok) return complain(shell, answer.error);
  if (request.json) {
    shell.out(jsonLine(answer.value));
    return GvfsStatus.done;
  }
  const { env } = shell.surroundings;
  const colours = shell.outIsTerminal && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  const unicode = !request.ascii && isUtf8(env);
  shell.out(mapPicture(answer.value, { width, unicode, colours }));
  return GvfsStatus.done;
}

/** The width of --width; undefined when it is none. */
export function parseWidth(text: string): number | undefined {
  const width = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  return width >= 1 && width <= WIDTH_MAX ? width : undefined;
}

/** As locale(7) has it: the first of these that is set counts. */
function isUtf8(env: Shell['surroundings']['env']): boolean {
  const locale = [env.LC_ALL, env.LC_CTYPE, env.LANG].find((value) => (value ?? '') !== '');
  return /utf-?8/i.test(locale ?? '');
}
