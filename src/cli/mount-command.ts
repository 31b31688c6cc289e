/**
 * gvfs-mount's command line: argv to a typed request. Two callers: a person, and mount(8), which
 * runs a helper as `mount.gvfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]` and means
 * another thing by -f.
 */
import { Command, CommanderError } from '@commander-js/extra-typings';
import { err, ok, type Result } from '../base/result.ts';
import { type MountSource, parseSource } from '../config/mount-source.ts';
import { nearestName } from '../config/nearest-name.ts';
import { optionHelp } from '../config/option-docs.ts';
import { type OptionSpec, optionTable, type Settings } from '../config/options.ts';
import { type ParsedOptions, parseOptions } from '../config/parse-options.ts';
import { writeValue } from '../config/value-kind.ts';
import { packageVersion } from '../config/version.ts';
import type { CommandError, UsageError } from './mount-errors.ts';

export interface MountRequest {
  readonly kind: 'mount';
  readonly source: MountSource;
  /** As it was given. */
  readonly mountpoint: string;
  readonly settings: Settings;
  readonly notes: ParsedOptions['notes'];
  readonly foreground: boolean;
  /** Look at everything and mount nothing (mount --fake). */
  readonly fake: boolean;
  readonly verbose: boolean;
}

/** What was asked for is a text: --help, --version. */
export interface TextRequest {
  readonly kind: 'text';
  readonly text: string;
}

export type Caller = 'person' | 'mount(8)';

/** `args` are those after the program's name. */
export function parseMountCommand(
  args: readonly string[],
  caller: Caller,
): Result<MountRequest | TextRequest, CommandError> {
  let text = '';
  const command = (caller === 'person' ? forPerson() : forMount8()).exitOverride().configureOutput({
    writeOut: (part) => {
      text += part;
    },
    writeErr: () => undefined,
  });
  try {
    command.parse(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? ok({ kind: 'text', text }) : err(usageError(error, command));
  }
  const [source, mountpoint] = command.args;
  if (source === undefined || mountpoint === undefined) return err(tooFew);
  const flags: Flags = command.opts();
  return request(source, mountpoint, flags, caller);
}

/** The union of what both command lines yield. */
interface Flags extends Readonly<Record<string, unknown>> {
  readonly options?: string[];
  readonly foreground?: true;
  readonly fake?: true;
  readonly sloppy?: true;
  readonly verbose?: true;
  readonly readWrite?: true;
}

function request(
  sourceText: string,
  mountpoint: string,
  flags: Flags,
  caller: Caller,
): Result<MountRequest, CommandError> {
  const source = parseSource(sourceText);
  if (!source.ok) return source;
  const texts = [...(flags.options ?? []), ...fromLongFlags(flags)];
  const parsed = parseOptions(texts, { sloppy: flags.sloppy ?? false });
  if (!parsed.ok) return parsed;
  const { settings, notes } = parsed.value;
  return ok({
    kind: 'mount',
    source: source.value,
    mountpoint,
    settings,
    notes,
    foreground: flags.foreground ?? false,
    fake: caller === 'mount(8)' && (flags.fake ?? false),
    verbose: flags.verbose ?? false,
  });
}

function forPerson() {
  const command = common('gvfs-mount')
    .description('Mounts an NFSv3 export through FUSE, for virtual-machine images.')
    .option('-o, --options <list>', 'mount options, separated by commas (below)', collect)
    .option('-f, --foreground', 'stay in the foreground, log on the terminal')
    .option('-v, --verbose', 'say what was mounted')
    .option('-n, --no-mtab', 'accepted for mount(8), without effect')
    .option('-s, --sloppy', 'skip options that are not known')
    .option('-w, --read-write', 'the same as -o rw');
  for (const [flag, spec] of longFlags()) {
    const takes = spec.value.kind === 'switch' ? flag : `${flag} <${valueName(spec)}>`;
    command.option(flag === '--read-only' ? `-r, ${takes}` : takes, flagHelp(flag));
  }
  return command
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .addHelpText('after', helpWith(exampleForPerson));
}

function forMount8() {
  return common('mount.gvfs')
    .description('Mounts an NFSv3 export through FUSE, as mount(8) calls it.')
    .option('-o, --options <list>', 'mount options, separated by commas (below)', collect)
    .option('-f, --fake', 'mount nothing')
    .option('-v, --verbose', 'say what was mounted')
    .option('-n, --no-mtab', 'without effect')
    .option('-s, --sloppy', 'skip options that are not known')
    .option('-r, --read-only', 'the same as -o ro')
    .option('-w, --read-write', 'the same as -o rw')
    .option('-N, --namespace <namespace>', 'mount(8) has entered it already')
    .option('-t, --types <type>', 'gvfs, or what it is called in fstab')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .addHelpText('after', helpWith(exampleForMount8));
}

function common(name: string): Command<[string, string]> {
  return new Command(name)
    .argument('<source>', 'what to mount: SERVER:/EXPORT or nfs://SERVER[:PORT]/EXPORT')
    .argument('<mountpoint>', 'a directory') as unknown as Command<[string, string]>;
}

const exampleForPerson = `\
  gvfs-mount -o ro,nconnect=4 images.example.org:/vm /mnt/vm
  fusermount3 -u /mnt/vm`;

const exampleForMount8 = `\
  images.example.org:/vm  /mnt/vm  gvfs  _netdev,nofail  0  0    (a line of /etc/fstab)
  mount /mnt/vm`;

function helpWith(example: string): string {
  return `
${optionHelp()}

Example:
${example}

Exit status, as mount(8): 0 the mount answers (with bg also: the server is still being tried),
1 wrong usage or not permitted, 2 the system lacks something, 4 internal error, 8 interrupted,
32 not mounted. With -f also 75: it has ended, and unsent writes stay in the cache.
`;
}

function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

function longFlags(): [string, OptionSpec][] {
  return Object.values<OptionSpec>(optionTable).flatMap((spec) =>
    spec.flag === undefined ? [] : [[spec.flag, spec] as [string, OptionSpec]],
  );
}

function valueName({ value }: OptionSpec): string {
  return value.kind === 'choice' ? value.choices.join('|') : 'file';
}

function flagHelp(flag: string): string {
  const found = Object.entries<OptionSpec>(optionTable).find(([, spec]) => spec.flag === flag);
  const name = found?.[0] ?? '';
  return `the same as -o ${name}${found?.[1].value.kind === 'switch' ? '' : '=...'}`;
}

/** What the long flags say, as texts after -o. */
function fromLongFlags(flags: Flags): string[] {
  const texts = flags.readWrite ? ['rw'] : [];
  for (const [name, spec] of Object.entries<OptionSpec>(optionTable)) {
    if (spec.flag === undefined) continue;
    const value = flags[camelCase(spec.flag)];
    if (spec.value.kind === 'switch') {
      if (value === true) texts.push(name);
    } else if (typeof value === 'string') {
      texts.push(`${name}=${writeValue(spec.value, value)}`.replace(/[\\,]/g, '\\$&'));
    }
  }
  return texts;
}

/** As commander names the value of a flag. */
function camelCase(flag: string): string {
  return flag.slice(2).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

const noMountpoint: UsageError = {
  kind: 'usage',
  what: 'the directory to mount on is missing',
  toDo: 'say gvfs-mount SERVER:/EXPORT DIRECTORY',
};

const tooFew: UsageError = {
  kind: 'usage',
  what: 'what to mount and where are missing',
  toDo: 'say gvfs-mount SERVER:/EXPORT DIRECTORY',
};

function usageError(
  error: CommanderError,
  { options }: { readonly options: readonly { long?: string | undefined }[] },
): UsageError {
  const what = error.message
    .replace(/^error: /, '')
    .replace(/\n.*/s, '')
    .replaceAll("'", '"');
  switch (error.code) {
    case 'commander.missingArgument':
      return what.includes('"mountpoint"') ? noMountpoint : tooFew;
    case 'commander.excessArguments':
      return {
        kind: 'usage',
        what: 'too many arguments',
        toDo: 'say gvfs-mount SERVER:/EXPORT DIRECTORY, and quote what has blanks',
      };
    case 'commander.unknownOption': {
      const typed = /"(--[^="]+)/.exec(what)?.[1] ?? '';
      const flags = options.flatMap(({ long }) => (long === undefined ? [] : [long]));
      const nearest = typed === '' ? undefined : nearestName(typed, flags);
      return {
        kind: 'usage',
        what,
        toDo:
          nearest === undefined
            ? 'gvfs-mount --help lists them all, and mount options follow -o'
            : `did you mean "${nearest}"?`,
      };
    }
    case 'commander.optionMissingArgument':
      return { kind: 'usage', what, toDo: 'give it a value' };
    default:
      return { kind: 'usage', what, toDo: 'gvfs-mount --help says how' };
  }
}
