/** C10: a copy that was written back is the copy: the tool that made it finds nothing to do. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Mount } from '../mount/mount-fixture.ts';
import { type WritePolicy, withWrittenExport, writeBack } from './written-export.ts';

describe('rsync -a to a mount, write-back, rsync -a again', () => {
  for (const write of ['through', 'back', 'deferred'] as const) {
    it(`moves nothing, neither here nor after a remount (write=${write})`, () => copyTwice(write));
  }

  async function copyTwice(write: WritePolicy): Promise<void> {
    const source = mkdtempSync(join(tmpdir(), 'gvfs-source-'));
    try {
      mkdirSync(join(source, 'images/deep'), { recursive: true });
      for (let file = 0; file < 40; file += 1) {
        const path = join(source, file % 2 ? 'images' : 'images/deep', `file-${file}`);
        writeFileSync(path, randomBytes([0, 1, 4095, 4096, 70_000, 1_300_000][file % 6] ?? 0));
        utimesSync(path, 1_600_000_000 + file, 1_500_000_000.123 + file);
      }
      writeFileSync(join(source, 'zeros'), Buffer.alloc(1 << 20));
      await withWrittenExport(async ({ place }) => {
        const mount = await place.mount('session=exclusive', `write=${write}`);
        assert.match(await copy(source, mount), /file-39/);
        await writeBack(mount, write);
        assert.equal(await copy(source, mount), '');
        await mount.close();
        const again = await place.mount('session=exclusive', `write=${write}`);
        assert.equal(await copy(source, again), '');
        const { directory } = place.server;
        const difference = await again.children.finish('diff', ['-r', source, directory]);
        assert.equal(difference.stdout, '');
      });
    } finally {
      rmSync(source, { recursive: true });
    }
  }

  /** What rsync moved or set, one a line. */
  function copy(source: string, mount: Mount): Promise<string> {
    return mount.children.run('rsync', ['-a', '--itemize-changes', `${source}/`, mount.mountpoint]);
  }
});
