/**
 * The command line of gvfs: argv to one command, and its exit status.
 */
import { Command, CommanderError } from '@commander-js/extra-typings';
import { nearestName } from '../config/nearest-name.ts';
import { packageVersion } from '../config/version.ts';
import { parseByteRange } from './byte-range.ts';
import {
  evict,
  evictHelp,
  listHelp,
  listImages,
  pinHelp,
  setPinned,
  showUsage,
  usageHelp,
  verify,
  verifyHelp,
} from './cache-command.ts';
import { events, eventsHelp } from './events-command.ts';
import { exportsHelp, printExports, sayExports } from './exports-command.ts';
import { failWaiting, failWaitingHelp } from './fail-waiting-command.ts';
import { complain, type GvfsStatus, usage } from './gvfs-errors.ts';
import { map, mapHelp, parseWidth } from './map-command.ts';
import type { ExitStatus, UsageError } from './mount-errors.ts';
import { recoverExport, recoverHelp, recoverList, recoverWriteBack } from './recover-command.ts';
import { flushHelp, resolve, resolveHelp, send, writeBackHelp } from './sending-command.ts';
import type { Shell } from './shell.ts';
import { statusHelp, statusOfAll, statusOfOne } from './status-command.ts';
import { umount, umountHelp } from './umount-command.ts';
import { warm, warmHelp } from './warm-command.ts';

/** Runs one command; `args` are those after the program's name. Returns the exit status. */
export async function runGvfs(args: readonly string[], shell: Shell): Promise<number> {
  const run = new Run();
  const gvfs = new Command('gvfs')
    .description('A grid virtual file system for virtual-machine images. gvfs-mount mounts.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeOut: shell.out, writeErr: () => undefined });
  addStatus(gvfs, shell, run);
  addWarm(gvfs, shell, run);
  addCache(gvfs, shell, run);
  addMap(gvfs, shell, run);
  addFailWaiting(gvfs, shell, run);
  addSending(gvfs, shell, run);
  addUmount(gvfs, shell, run);
  addEvents(gvfs, shell, run);
  addRecover(gvfs, shell, run);
  addExports(gvfs, shell, run);
  try {
    await gvfs.parseAsync(withHelp(args, gvfs), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : complain(shell, usageError(gvfs, args, error));
  }
  return run.status;
}

/** `gvfs help COMMAND` is `gvfs COMMAND --help`, and so is to say nothing. */
function withHelp(args: readonly string[], { commands }: Known): readonly string[] {
  const [first, ...command] = args;
  if (first !== undefined && first !== 'help') return args;
  const [name] = command;
  const isKnown = name === undefined || commands.some((one) => one.name() === name);
  // Of what is no command the help would be that of all.
  return isKnown ? [...command, '--help'] : command;
}

/** How the one command ended. */
class Run {
  status: GvfsStatus | ExitStatus = 0;

  async end(ending: Promise<GvfsStatus | ExitStatus>): Promise<void> {
    this.status = await ending;
  }
}

type Program = Command<[], Record<never, never>>;

const jsonFlag = ['--json', 'print one JSON object'] as const;

function addStatus(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('status')
    .description('Says how a mount is: server, cache, what is open and how it is served.')
    .argument('[path]', 'anything in the mount')
    .option(...jsonFlag)
    .option('--all', 'every mount, a line each')
    .option('-v, --verbose', 'with the times of calls and requests')
    .addHelpText('after', statusHelp)
    .action((path, { json = false, all = false, verbose = false }) => {
      if (all && path !== undefined) throw misuse('a path and --all contradict');
      const how = { json, verbose };
      return run.end(all ? statusOfAll(shell, how) : statusOfOne(shell, path, how));
    });
}

function addWarm(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('warm')
    .description('Fetches files, or parts of them, before they are needed.')
    .argument('<path...>', 'files in a mount')
    .option('--range <start-end>', 'only these bytes, as 0-64M or 1G-')
    .option('--background', 'return at once; gvfs status says how far it is')
    .option('--check', 'fetch nothing: check what is present, say what is absent')
    .option(...jsonFlag)
    .addHelpText('after', warmHelp)
    .action((paths, { range: text, background = false, check = false, json = false }) => {
      if (background && check) throw misuse('--background and --check contradict');
      const range = text === undefined ? { ok: true as const, value: {} } : parseByteRange(text);
      if (!range.ok) throw misuse(`"--range ${text}" is not possible`, range.error);
      return run.end(warm(shell, { paths, range: range.value, background, check, json }));
    });
}

function addCache(gvfs: Program, shell: Shell, run: Run): void {
  const cache = gvfs
    .command('cache')
    .description('What is kept on the local disk.')
    .helpCommand(false);
  const withTargets = (name: string, description: string, help: string) =>
    cache
      .command(name)
      .description(description)
      .argument('[path...]', 'images; all when left out')
      .option('--cachedir <directory>', 'a cache directory, with no daemon needed')
      .option(...jsonFlag)
      .addHelpText('after', help);
  withTargets('ls', 'Lists images.', listHelp).action((paths, { json = false, cachedir }) =>
    run.end(listImages(shell, { paths, json, cachedir })),
  );
  withTargets('du', 'Says what images take of the disk.', usageHelp).action(
    (paths, { json = false, cachedir }) => run.end(showUsage(shell, { paths, json, cachedir })),
  );
  withTargets('evict', 'Drops what is kept of images.', evictHelp)
    .option('--all', 'of all images')
    .option('--force', 'pinned images, too')
    .action((paths, { json = false, all = false, force = false, cachedir }) =>
      run.end(evict(shell, { paths, json, all, force, cachedir })),
    );
  withTargets('verify', 'Compares what is kept with its checksums.', verifyHelp).action(
    (paths, { json = false, cachedir }) => run.end(verify(shell, { paths, json, cachedir })),
  );
  for (const [method, description] of [
    ['pin', 'Keeps images from eviction.'],
    ['unpin', 'Allows the eviction of images again.'],
  ] as const) {
    cache
      .command(method)
      .description(description)
      .argument('<path...>', 'files in a mount, or ids of images')
      .option('--cachedir <directory>', 'a cache directory, with no daemon needed')
      .option(...jsonFlag)
      .addHelpText('after', pinHelp)
      .action((paths, { json = false, cachedir }) =>
        run.end(setPinned(shell, { paths, json, cachedir }, method)),
      );
  }
}

function addMap(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('map')
    .description("Draws a file's pages: absent, present, zero, dirty.")
    .argument('<file>', 'a file in a mount')
    .option('--width <cells>', 'cells in a row')
    .option('--ascii', 'draw in ASCII, whatever the locale')
    .option(...jsonFlag)
    .addHelpText('after', mapHelp)
    .action((path, { width: text, ascii = false, json = false }) => {
      const width = text === undefined ? undefined : parseWidth(text);
      if (text !== undefined && width === undefined) {
        throw misuse(`"--width ${text}" is not possible`, 'use a whole number from 1 to 512');
      }
      return run.end(map(shell, { path, width, ascii, json }));
    });
}

function addFailWaiting(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('fail-waiting')
    .description('Fails the requests that wait for the server.')
    .argument('<path>', 'a file in a mount, or the mountpoint')
    .option(...jsonFlag)
    .addHelpText('after', failWaitingHelp)
    .action((path, { json = false }) => run.end(failWaiting(shell, path, json)));
}

const timeoutFlag = ['--timeout <seconds>', 'how long to wait at most'] as const;

function addSending(gvfs: Program, shell: Shell, run: Run): void {
  for (const [name, verb, description, help] of [
    [
      'write-back',
      'writeBack',
      'Sends what is unsent, and returns when it is there.',
      writeBackHelp,
    ],
    ['flush', 'flush', 'Writes back, then believes nothing that is known.', flushHelp],
  ] as const) {
    gvfs
      .command(name)
      .description(description)
      .argument('[path...]', 'files in a mount, or mountpoints; every mount when left out')
      .option(...timeoutFlag)
      .option(...jsonFlag)
      .addHelpText('after', help)
      .action((paths, { timeout, json = false }) =>
        run.end(send(shell, verb, { paths, json, timeoutMs: timeoutOf(timeout) })),
      );
  }
  gvfs
    .command('resolve')
    .description('Says what counts of a file that another has changed, too.')
    .argument('<path>', 'a file in a mount, or its id')
    .option('--mine', 'what is here is sent')
    .option('--theirs', 'what is here and was not sent is dropped')
    .option(...timeoutFlag)
    .option(...jsonFlag)
    .addHelpText('after', resolveHelp)
    .action((path, { mine = false, theirs = false, timeout, json = false }) => {
      if (mine === theirs)
        throw misuse('whose bytes count is to be said', 'say --mine or --theirs');
      const how = { json, timeoutMs: timeoutOf(timeout) };
      return run.end(resolve(shell, path, mine ? 'mine' : 'theirs', how));
    });
}

function addUmount(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('umount')
    .alias('unmount')
    .description('Writes back what is unsent, then unmounts.')
    .argument('<mountpoint>', 'where it is mounted')
    .option('--keep-dirty', 'send nothing: what is unsent stays in the cache')
    .option('--discard', 'drop what is unsent')
    .option('--force', 'end it whoever uses it')
    .option(...timeoutFlag)
    .option(...jsonFlag)
    .addHelpText('after', umountHelp)
    .action((mountpoint, { keepDirty = false, discard = false, force = false, ...how }) => {
      if (keepDirty && discard) throw misuse('--keep-dirty and --discard contradict');
      const unsent = keepDirty ? 'keep' : discard ? 'discard' : 'send';
      const { json = false, timeout } = how;
      const timeoutMs = timeoutOf(timeout);
      return run.end(umount(shell, { mountpoint, unsent, force, json, timeoutMs }));
    });
}

function addEvents(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('events')
    .description('Prints what happens on a mount, a line of JSON each.')
    .argument('[path]', 'anything in the mount')
    .option('--follow', 'go on with what happens')
    .option('--since <number>', 'what comes after this number')
    .addHelpText('after', eventsHelp)
    .action((path, { follow = false, since: text }) => {
      const since = text === undefined ? undefined : Number(text);
      if (since !== undefined && !(/^\d{1,15}$/.test(text ?? '') && Number.isSafeInteger(since))) {
        throw misuse(`"--since ${text}" is not possible`, 'use the number of an event, or 0');
      }
      return run.end(events(shell, { path, follow, since }));
    });
}

function addRecover(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('recover')
    .description('Brings out what earlier mounts have left unsent, without a mount.')
    .argument('[name...]', 'paths in the export, or ids; all when left out')
    .option('--list', 'name what is unsent')
    .option('--write-back', 'send it')
    .option('--export <directory>', 'copy what is known of the files')
    .option('--cachedir <directory>', 'the cache')
    .option('-o, --options <list>', 'with --write-back: mount options for the way to the server')
    .option(...timeoutFlag)
    .option(...jsonFlag)
    .addHelpText('after', recoverHelp)
    .action((names, { list, writeBack, export: to, cachedir, json = false, ...more }) => {
      const verbs = [list, writeBack, to].filter((verb) => verb !== undefined);
      if (verbs.length !== 1) {
        throw misuse('recover does one thing', 'say --list, --write-back or --export DIRECTORY');
      }
      if (writeBack === true && names.length > 0) {
        throw misuse('--write-back sends all of a cache', 'leave the names out');
      }
      const request = { names, cachedir, json };
      if (to !== undefined) return run.end(recoverExport(shell, request, to));
      if (list === true) return run.end(recoverList(shell, request));
      const { options = '', timeout } = more;
      return run.end(recoverWriteBack(shell, request, options, timeoutOf(timeout)));
    });
}

/** In ms, of whole or decimal seconds. */
function timeoutOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,9}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(seconds)) {
    throw misuse(`"--timeout ${text}" is not possible`, 'use seconds, as 30 or 0.5');
  }
  return Math.round(seconds * 1000);
}

function addExports(gvfs: Program, shell: Shell, run: Run): void {
  gvfs
    .command('exports')
    .description('Lists what a server exports.')
    .argument('<server>', "the server's name or address")
    .option(...jsonFlag)
    .option('-o, --options <list>', 'mount options for the way there, as mountport=N')
    .addHelpText('after', exportsHelp)
    .action((server, { json = false, options = '' }) =>
      run.end(printExports(shell, server, options, json)),
    );
}

const MISUSE = 'gvfs.misuse';

/** A wrong use that commander does not see. */
function misuse(what: string, toDo = ''): CommanderError {
  return new CommanderError(1, MISUSE, `${what}\n${toDo}`);
}

/** What is not done by this command, and what does it. */
const otherCommands: ReadonlyMap<string, string> = new Map([
  ['mount', 'gvfs-mount SERVER:/EXPORT DIRECTORY'],
]);

interface Known {
  readonly commands: readonly Known[];
  name(): string;
}

function usageError(gvfs: Known, args: readonly string[], error: CommanderError): UsageError {
  const [text = '', toDo = ''] = error.message
    .replace(/^error: /, '')
    .replaceAll("'", '"')
    .split('\n');
  const [first = '', second = ''] = args.filter((arg) => !arg.startsWith('-'));
  const within = gvfs.commands.find((command) => command.name() === first);
  const isGroup = within !== undefined && within.commands.length > 0;
  const called = isGroup ? `gvfs ${first}` : 'gvfs';
  const isCommand = isGroup && within.commands.some((command) => command.name() === second);
  const full = within === undefined ? 'gvfs' : `gvfs ${isCommand ? `${first} ${second}` : first}`;
  switch (error.code) {
    case MISUSE:
      return usage(text, toDo === '' ? `${full} --help says how` : toDo);
    case 'commander.help':
      return usage('no command is given', `${called} --help lists them`);
    case 'commander.unknownCommand':
      return isGroup
        ? usage(text, insteadOf(second, within, called))
        : usage(text, otherCommand(first) ?? insteadOf(first, gvfs, called));
    case 'commander.missingArgument':
      return first === 'exports'
        ? usage('the server is missing', sayExports)
        : usage('the path is missing', `say gvfs ${isGroup ? `${first} ${second}` : first} PATH`);
    default:
      return usage(text.replace(/\. Expected .*$/, ''), `${full} --help says how`);
  }
}

function otherCommand(typed: string): string | undefined {
  const elsewhere = otherCommands.get(typed);
  return elsewhere === undefined ? undefined : `say ${elsewhere}`;
}

/** What to say instead of a command that there is not. */
function insteadOf(typed: string, group: Known, called: string): string {
  const names = group.commands.map((command) => command.name());
  const nearest = nearestName(typed, names);
  return nearest === undefined ? `${called} --help lists them` : `did you mean "${nearest}"?`;
}
