/**
 * Debian's kernel for virtual machines, unpacked from its package and never installed.
 *
 * The package is downloaded once with apt-get (which verifies it) and kept, unpacked, under
 * XDG_CACHE_HOME or the temporary directory.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

export interface Kernel {
  /** As uname -r says it. */
  version: string;
  /** The bootable image. */
  image: string;
  /** The directory of its modules. */
  modules: string;
}

/** Debian's name for "the newest cloud kernel of this release". */
const METAPACKAGE = 'linux-image-cloud-amd64';

/** The kernel, downloaded unless that was done before. Rejects with what to do about it. */
export async function debianKernel(): Promise<Kernel> {
  const cache = join(process.env.XDG_CACHE_HOME ?? tmpdir(), 'gvfs-kernel');
  mkdirSync(cache, { recursive: true });
  const name = await packageName();
  const known = name === undefined ? newestIn(cache) : name;
  if (known !== undefined && existsSync(join(cache, known))) return kernelIn(join(cache, known));
  return kernelIn(await download(name, cache));
}

/**
 * The files of the modules and of all they depend on, in the order in which insmod takes them.
 * What the kernel has built in is left out. Rejects when it has one neither way.
 */
export async function moduleFiles(kernel: Kernel, names: readonly string[]): Promise<string[]> {
  const builtin = await builtinModules(kernel);
  const files = new Map<string, string>();
  for (const file of readdirSync(kernel.modules, { recursive: true, encoding: 'utf8' })) {
    if (file.endsWith('.ko')) files.set(moduleName(file), join(kernel.modules, file));
  }
  const ordered: string[] = [];
  async function add(name: string): Promise<void> {
    if (builtin.has(name)) return;
    const file = files.get(name);
    if (file === undefined) throw new Error(`kernel ${kernel.version} has no module ${name}`);
    if (ordered.includes(file)) return;
    for (const needed of await dependencies(file)) await add(needed);
    ordered.push(file);
  }
  for (const name of names) await add(name);
  return ordered;
}

const run = promisify(execFile);

/** The package behind the metapackage; undefined where apt has no lists. */
async function packageName(): Promise<string | undefined> {
  const { stdout } = await run('apt-cache', ['depends', METAPACKAGE]).catch(() => ({ stdout: '' }));
  return stdout.match(/linux-image-\d\S*-cloud-amd64/)?.[0];
}

function newestIn(cache: string): string | undefined {
  return readdirSync(cache)
    .filter((name) => name.startsWith('linux-image-'))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
}

/** Tries with the lists that are there, then with fresh ones. */
async function download(name: string | undefined, cache: string): Promise<string> {
  const unpacked =
    name === undefined ? undefined : await unpack(name, cache).catch(() => undefined);
  if (unpacked !== undefined) return unpacked;
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const [program = 'apt-get', ...rest] = [...sudo, 'apt-get', 'update', '-q'];
  await run(program, rest).catch((error: Error) => {
    throw new Error(`apt-get update failed; run it as root, then try again: ${error.message}`);
  });
  const fresh = await packageName();
  if (fresh === undefined) throw new Error(`no package ${METAPACKAGE}: is this Debian on amd64?`);
  return unpack(fresh, cache);
}

/** Downloads into a directory of its own, so that a broken download is never taken for a kernel. */
async function unpack(name: string, cache: string): Promise<string> {
  const kept = join(cache, name);
  const work = mkdtempSync(join(cache, 'download-'));
  try {
    await run('apt-get', ['download', '-q', name], { cwd: work });
    const archive = readdirSync(work).find((file) => file.endsWith('.deb'));
    if (archive === undefined) throw new Error(`apt-get downloaded no ${name}`);
    await run('dpkg-deb', ['-x', join(work, archive), join(work, 'root')]);
    if (!existsSync(kept)) renameSync(join(work, 'root'), kept);
    return kept;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function kernelIn(root: string): Kernel {
  const libraries = existsSync(join(root, 'usr/lib/modules')) ? 'usr/lib/modules' : 'lib/modules';
  const [version] = readdirSync(join(root, libraries));
  if (version === undefined) throw new Error(`${root} holds no kernel: remove it and try again`);
  return {
    version,
    image: join(root, 'boot', `vmlinuz-${version}`),
    modules: join(root, libraries, version),
  };
}

async function builtinModules(kernel: Kernel): Promise<Set<string>> {
  const list = await readFile(join(kernel.modules, 'modules.builtin'), 'utf8');
  return new Set(list.split('\n').map(moduleName));
}

/** What the file's .modinfo section says after "depends=". */
async function dependencies(file: string): Promise<string[]> {
  const image = await readFile(file, 'latin1');
  const list = image.match(/\0depends=([^\0]*)\0/)?.[1] ?? '';
  return list.split(',').filter((name) => name !== '');
}

/** Module names have underscores where file names may have dashes. */
function moduleName(file: string): string {
  return basename(file, '.ko').replaceAll('-', '_');
}
