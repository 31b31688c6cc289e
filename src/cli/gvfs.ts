#!/usr/bin/env node
/**
 * gvfs COMMAND: what is not mounting. So far: which exports a server has.
 */
import { Command, CommanderError } from '@commander-js/extra-typings';
import { parseSource } from '../config/mount-source.ts';
import { nearestName } from '../config/nearest-name.ts';
import { parseOptions } from '../config/parse-options.ts';
import { packageVersion } from '../config/version.ts';
import { type ServerExport, serverExports } from '../daemon/server-exports.ts';
import { type CommandError, ExitStatus, report, sentence } from './mount-errors.ts';

async function main(): Promise<ExitStatus> {
  let status: ExitStatus = ExitStatus.success;
  const gvfs = new Command('gvfs')
    .description('A grid virtual file system for virtual-machine images. gvfs-mount mounts.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  gvfs
    .command('exports')
    .description('Lists what a server exports.')
    .argument('<server>', "the server's name or address")
    .option('--json', 'print one JSON object')
    .option('-o, --options <list>', 'mount options for the way there, as mountport=N')
    .addHelpText('after', exportsHelp)
    .action(async (server, { json = false, options = '' }) => {
      status = await printExports(server, options, json);
    });
  try {
    await gvfs.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? status : fail(usageError(gvfs.args, error));
  }
  return status;
}

const sayExports = 'say gvfs exports SERVER';

/** What is not done by this command, and what does it. */
const otherCommands: ReadonlyMap<string, string> = new Map([
  ['mount', 'gvfs-mount SERVER:/EXPORT DIRECTORY'],
  ['umount', 'fusermount3 -u DIRECTORY'],
  ['unmount', 'fusermount3 -u DIRECTORY'],
]);

const exportsHelp = `
Example:
  gvfs exports images.example.org

Exit status: 0 the server answered, 1 wrong usage, 32 it did not.
`;

async function printExports(server: string, options: string, json: boolean): Promise<ExitStatus> {
  // A name is checked as in SERVER:/EXPORT, and IPv6 needs no brackets here.
  const source = parseSource(/^[^[]*:.*:/.test(server) ? `[${server}]:/` : `${server}:/`);
  if (!source.ok) {
    return fail({ kind: 'usage', what: `"${server}" is no server's name`, toDo: sayExports });
  }
  const parsed = parseOptions([options]);
  if (!parsed.ok) return fail(parsed.error);
  const exports = await serverExports(source.value.server, parsed.value.settings);
  if (!exports.ok) return fail(exports.error);
  process.stdout.write(json ? `${JSON.stringify({ server, exports: exports.value })}\n` : '');
  if (!json) process.stdout.write(exports.value.map(line).join(''));
  return ExitStatus.success;
}

/** As showmount -e has it. */
function line({ path, clients }: ServerExport): string {
  return `${path} ${clients.length === 0 ? '(everyone)' : clients.join(',')}\n`;
}

function usageError(args: readonly string[], error: CommanderError): CommandError {
  const [text = ''] = error.message
    .replace(/^error: /, '')
    .replaceAll("'", '"')
    .split('\n');
  const usage = (what: string, toDo: string) => ({ kind: 'usage', what, toDo }) as const;
  switch (error.code) {
    case 'commander.help':
      return usage('no command is given', 'gvfs --help lists them');
    case 'commander.unknownCommand':
      return usage(text, insteadOf(args[0] ?? ''));
    case 'commander.missingArgument':
      return usage('the server is missing', sayExports);
    default:
      return usage(text, args.length > 0 ? 'gvfs COMMAND --help says how' : 'see gvfs --help');
  }
}

/** What to say instead of a command that there is not. */
function insteadOf(typed: string): string {
  const elsewhere = otherCommands.get(typed);
  if (elsewhere !== undefined) return `say ${elsewhere}`;
  const nearest = nearestName(typed, ['exports']);
  return nearest === undefined ? 'gvfs --help lists them' : `did you mean "${nearest}"?`;
}

function fail(error: CommandError): ExitStatus {
  const reported = report(error);
  process.stderr.write(`${sentence('gvfs', reported)}\n`);
  return reported.status;
}

process.exit(await main());
