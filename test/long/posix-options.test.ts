/** The POSIX suite under mount options that change how the daemon speaks with the server. */
import { after, before, describe, it } from 'node:test';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { type Mount, mountExport } from '../mount/mount-fixture.ts';
import { posixCases, runPosixCase } from '../mount/posix-suite.ts';

const variants = [['noac'], ['nordirplus'], ['nconnect=4'], ['rsize=4096', 'wsize=4096']];

for (const options of variants) {
  describe(`POSIX on a mount with ${options}`, () => {
    let server: Ganesha | undefined;
    let mount: Mount;

    before(async () => {
      server = await startGanesha();
      mount = await mountExport(server, { options });
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
  });
}
