import { after, before, describe, it } from 'node:test';
import { type LocalDirectory, localDirectory } from './local-directory.ts';
import { posixCases, runPosixCase } from './posix-suite.ts';

describe('POSIX on a local directory, which proves the suite', () => {
  let local: LocalDirectory;

  before(() => {
    local = localDirectory();
  });
  after(() => local?.remove());

  for (const title of posixCases()) {
    it(title, () => runPosixCase(local.children, title, local.path, 'local'));
  }
});
