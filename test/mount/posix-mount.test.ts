import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type Mount, mountExport } from './mount-fixture.ts';
import { posixCases, runPosixCase } from './posix-suite.ts';

describe('POSIX on the mount', () => {
  let server: Ganesha | undefined;
  let mount: Mount;

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

  for (const title of posixCases()) {
    it(title, () => runPosixCase(mount.children, title, mount.mountpoint, 'mount'));
  }

  it('leaves no hidden file on the server for those that lost their names while open', () => {
    const left = readdirSync(mount.serverDirectory, { recursive: true, encoding: 'latin1' }).filter(
      (path) => /(^|\/)\.(nfs|gvfs|fuse_hidden)/.test(path),
    );
    assert.deepEqual(left, []);
  });
});
