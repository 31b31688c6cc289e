/** What the mount is held against besides the server's own directory: peers and the bare link. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { child } from './cases.ts';
import { IMAGE, type Site } from './site.ts';

/**
 * MB/s of libnfs's `nfs-cat`, its output read by another process, as a mount's bytes are. (Into
 * /dev/null it copies nothing out, and no reader has the bytes.)
 */
export async function nfsCat(site: Site): Promise<number> {
  const { port, mountPort } = site.route;
  const query = `version=3&nfsport=${port}&mountport=${mountPort}`;
  const url = `nfs://127.0.0.1${site.server.exportPath}/${IMAGE}?${query}`;
  const began = performance.now();
  const script = 'nfs-cat "$1" | wc -c';
  const { stdout } = await promisify(execFile)('sh', ['-c', script, 'sh', url]);
  const seconds = (performance.now() - began) / 1000;
  if (Number(stdout) !== site.imageBytes) throw new Error(`nfs-cat gave ${stdout.trim()} bytes`);
  return site.imageBytes / seconds / 1e6;
}

const NFSC = fileURLToPath(new URL('nfsc-alone.ts', import.meta.url));

/** The NFSv3 client without FUSE: MB/s sequentially, 4 KiB READs a second at a depth. */
export async function nfscSequential(site: Site): Promise<number> {
  return (await nfsc(site, 'sequential')) / 1e6;
}

export async function nfscRandom(site: Site, depth: number, seconds: number): Promise<number> {
  return nfsc(site, 'random', depth, seconds);
}

async function nfsc(site: Site, ...args: (string | number)[]): Promise<number> {
  const { port, mountPort } = site.route;
  const result = await child(NFSC, [port, mountPort, site.server.exportPath, IMAGE, ...args]);
  return result.rate ?? Number.NaN;
}
