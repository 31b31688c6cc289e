/**
 * One suite, several worlds: the same tests on a plain local directory, which proves that they
 * expect what the kernel and the tools do, on a mount, and on a mount with a cache.
 */
import { after, before, describe } from 'node:test';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type CacheDirectory, cacheDirectory } from './cache-directory.ts';
import type { Children } from './children.ts';
import { type LocalDirectory, localDirectory } from './local-directory.ts';
import { type Mount, mountExport } from './mount-fixture.ts';

/** Valid while the tests run, not while they are defined. */
export interface Place {
  readonly directory: string;
  readonly children: Children;
  /** The mount, in its world. */
  readonly mount: Mount | undefined;
  /** Writes wait on the local disk: zeros behind the server's end are not sent. */
  readonly delaysWrites: boolean;
}

/** Describes the suite in each world; all tests of one share one directory or one mount. */
export function inBothWorlds(subject: string, define: (place: Place) => void): void {
  describe(`${subject} on a local directory`, () => {
    let local: LocalDirectory | undefined;
    before(() => {
      local = localDirectory();
    });
    after(() => local?.remove());
    define({
      get directory() {
        return made(local).path;
      },
      get children() {
        return made(local).children;
      },
      mount: undefined,
      delaysWrites: false,
    });
  });
  onAMount(subject, define);
}

/** Describes the suite on mounts of a fresh export: without a cache, and with one. */
export function onAMount(subject: string, define: (place: Place) => void): void {
  onOneMount(`${subject} on the mount`, [], define);
  onOneMount(`${subject} on the mount with a cache`, ['session=exclusive'], define);
}

/** Without options it is a mount that keeps nothing. */
function onOneMount(
  subject: string,
  options: readonly string[],
  define: (place: Place) => void,
): void {
  describe(subject, () => {
    let cache: CacheDirectory | undefined;
    let server: Ganesha | undefined;
    let mount: Mount | undefined;
    before(async () => {
      cache = options.length === 0 ? undefined : cacheDirectory();
      server = await startGanesha();
      mount = await mountExport(server, { options, cacheDirectory: cache?.path });
    });
    after(async () => {
      try {
        await mount?.close();
      } finally {
        await server?.stop();
        cache?.remove();
      }
    });
    define({
      get directory() {
        return made(mount).mountpoint;
      },
      get children() {
        return made(mount).children;
      },
      get mount() {
        return made(mount);
      },
      delaysWrites: options.some((option) => /write=(back|deferred)/.test(option)),
    });
  });
}

function made<T>(thing: T | undefined): T {
  if (thing === undefined) throw new Error('it could not be set up');
  return thing;
}
