/**
 * An export behind a relay that counts and cuts, and a cache directory that outlives its mounts:
 * what is fetched by one is there for the next.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ganesha, type GaneshaOptions, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type Relay, startRelay } from '../../scripts/relay/start-relay.ts';
import type { Status } from '../../src/daemon/control/schema.ts';
import { cacheDirectory } from '../mount/cache-directory.ts';
import { type Mount, mountExport } from '../mount/mount-fixture.ts';

export interface CachedExport {
  readonly server: Ganesha;
  readonly relay: Relay;
  readonly cache: string;
  /** Mounts with that cache; all are closed at the end, whatever happened. */
  mount(...options: string[]): Promise<Mount>;
  /** Bytes that came from the server while `work` ran. */
  fetched(work: () => Promise<unknown>): Promise<number>;
  /** Random bytes in a file of the export. */
  image(name: string, bytes: number): Buffer;
}

export interface CachedExportOptions extends GaneshaOptions {
  /** Where the cache lies (default: a directory of its own, on the disk of temporary files). */
  cacheAt?: string;
  /** The link to the server (default: as fast as it goes). */
  link?: { rttMs?: number; mbit?: number };
  /** What node is to run instead of the built `gvfs-mount`. */
  program?: readonly string[];
}

export async function withCachedExport(
  body: (place: CachedExport) => Promise<void>,
  options: CachedExportOptions = {},
): Promise<void> {
  const cache = cacheDirectory();
  const server = await startGanesha({ watchful: true, ...options });
  const relay = await startRelay({ ...options.link, to: { port: server.port } });
  const mounts: Mount[] = [];
  const place: CachedExport = {
    server,
    relay,
    cache: options.cacheAt ?? cache.path,
    async mount(...more) {
      const mount = await mountExport(server, {
        ...{ port: relay.port, cacheDirectory: place.cache, options: more },
        program: options.program,
      });
      mounts.push(mount);
      return mount;
    },
    async fetched(work) {
      const before = (await relay.counters()).bytesToClient;
      await work();
      return (await relay.counters()).bytesToClient - before;
    },
    image(name, bytes) {
      const content = randomBytes(bytes);
      writeFileSync(join(server.directory, name), content);
      return content;
    },
  };
  let failure: unknown;
  try {
    await body(place);
  } catch (error) {
    failure = error;
  }
  try {
    await relay.restore().catch(() => undefined); // a test may have stopped it
    for (const mount of mounts) {
      await mount.close().catch((error: unknown) => {
        failure ??= error;
      });
    }
  } finally {
    await relay.stop();
    await server.stop();
    cache.remove();
  }
  if (failure !== undefined) throw failure;
}

/** The directories of the images that a cache keeps, whatever export they are of. */
export function keptImages(cache: string): string[] {
  return readdirSync(cache, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .flatMap((entry) => readdirSync(join(cache, entry.name)).map((n) => join(cache, entry.name, n)))
    .filter((path) => statSync(path).isDirectory() && existsSync(join(path, 'data')));
}

/** sha256 of a file below the mount, read by a child from its start to its end. */
export async function checksum(mount: Mount, name: string): Promise<string> {
  const printed = await mount.children.run('sha256sum', [join(mount.mountpoint, name)]);
  return printed.slice(0, 64);
}

/** Runs `gvfs` as a child and gives what it printed; rejects unless it ended with 0. */
export function gvfs(mount: Mount, ...args: string[]): Promise<string> {
  return mount.children.run(process.execPath, [GVFS, ...args], { timeoutMs: 60_000 });
}

export async function statusOf(mount: Mount): Promise<Status> {
  return JSON.parse(await gvfs(mount, 'status', '--json', mount.mountpoint)) as Status;
}

/** Fetches the whole image and has every block of it checked. */
export async function complete(mount: Mount, name: string): Promise<void> {
  await gvfs(mount, 'warm', join(mount.mountpoint, name));
  await gvfs(mount, 'warm', '--check', join(mount.mountpoint, name));
}

const GVFS = fileURLToPath(new URL('../../dist/cli/gvfs.js', import.meta.url));
