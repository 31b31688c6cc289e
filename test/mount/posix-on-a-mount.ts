/** The cases of posix/ on a mount of a fresh export. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type CacheDirectory, cacheDirectory } from './cache-directory.ts';
import { type Mount, mountExport } from './mount-fixture.ts';
import { posixCases, runPosixCase } from './posix-suite.ts';

/** Without a session it is a mount that keeps nothing. */
export function posixOnAMount(name: string, session?: string): void {
  describe(`POSIX on ${name}`, () => {
    let cache: CacheDirectory | undefined;
    let server: Ganesha | undefined;
    let mount: Mount;

    before(async () => {
      cache = session === undefined ? undefined : cacheDirectory();
      server = await startGanesha();
      const options = session === undefined ? [] : [session];
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

    for (const title of posixCases()) {
      it(title, () => runPosixCase(mount.children, title, mount.mountpoint, 'mount'));
    }

    it('leaves no hidden file on the server for those that lost their names while open', async () => {
      const hidden = () =>
        readdirSync(mount.serverDirectory, { recursive: true, encoding: 'latin1' }).filter((path) =>
          /(^|\/)\.(nfs|gvfs|fuse_hidden)/.test(path),
        );
      // The last close waits for no server: the file goes just after it.
      for (let wait = 0; wait < 50 && hidden().length > 0; wait++) await sleep(100);
      assert.deepEqual(hidden(), []);
    });
  });
}
