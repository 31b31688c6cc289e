/**
 * gvfs exports SERVER: what a server exports, as showmount -e has it.
 */
import { parseSource } from '../config/mount-source.ts';
import { parseOptions } from '../config/parse-options.ts';
import { type ServerExport, serverExports } from '../daemon/server-exports.ts';
import { harmless } from '../observe/printable.ts';
import { type CommandError, ExitStatus, report, sentence } from './mount-errors.ts';
import { jsonLine, type Shell } from './shell.ts';

export const exportsHelp = `
Example:
  gvfs exports images.example.org

Exit status: 0 the server answered, 1 wrong usage, 32 it did not.
`;

export const sayExports = 'say gvfs exports SERVER';

export async function printExports(
  shell: Shell,
  server: string,
  options: string,
  json: boolean,
): Promise<ExitStatus> {
  const fail = (error: CommandError) => {
    const reported = report(error);
    shell.err(`${sentence('gvfs', reported)}\n`);
    return reported.status;
  };
  const { host } = /^(?<host>[^/]+|.*\]):\/.*$/.exec(server)?.groups ?? {};
  if (host !== undefined) {
    const what = `"${server}" is an export, not a server`;
    return fail({ kind: 'usage', what, toDo: `say gvfs exports ${host.replace(/:\d+$/, '')}` });
  }
  // A name is checked as in SERVER:/EXPORT, and IPv6 needs no brackets here.
  const source = parseSource(/^[^[]*:.*:/.test(server) ? `[${server}]:/` : `${server}:/`);
  if (!source.ok) {
    return fail({ kind: 'usage', what: `"${server}" is no server's name`, toDo: sayExports });
  }
  const parsed = parseOptions([options]);
  if (!parsed.ok) return fail(parsed.error);
  const exports = await serverExports(source.value.server, parsed.value.settings);
  if (!exports.ok) return fail(exports.error);
  if (json) shell.out(jsonLine({ server, exports: exports.value }));
  else shell.out(exports.value.map(line).join(''));
  return ExitStatus.success;
}

function line({ path, clients }: ServerExport): string {
  return `${harmless(`${path} ${clients.length === 0 ? '(everyone)' : clients.join(',')}`)}\n`;
}
