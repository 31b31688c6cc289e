/**
 * One suite, two worlds: the same tests on a plain local directory, which proves that they expect
 * what the kernel and the tools do, and on a mount.
 */
import { after, before, describe } from 'node:test';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import type { Children } from './children.ts';
import { type LocalDirectory, localDirectory } from './local-directory.ts';
import { type Mount, mountExport } from './mount-fixture.ts';

/** Valid while the tests run, not while they are defined. */
export interface Place {
  readonly directory: string;
  readonly children: Children;
  /** The mount, in its world. */
  readonly mount: Mount | undefined;
}

/** Describes the suite twice; all tests of a world share one directory or one mount. */
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
    });
  });
  onAMount(subject, define);
}

/** Describes the suite on a mount of a fresh export. */
export function onAMount(subject: string, define: (place: Place) => void): void {
  describe(`${subject} on the mount`, () => {
    let server: Ganesha | undefined;
    let mount: Mount | undefined;
    before(async () => {
      server = await startGanesha();
      mount = await mountExport(server);
    });
    after(async () => {
      try {
        await mount?.close();
      } finally {
        await server?.stop();
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
    });
  });
}

function made<T>(thing: T | undefined): T {
  if (thing === undefined) throw new Error('it could not be set up');
  return thing;
}
