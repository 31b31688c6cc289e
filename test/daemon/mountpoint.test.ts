import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkMountpoint, liesBeneath } from '../../src/daemon/mountpoint.ts';

describe('checkMountpoint', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-mountpoint-'));
    mkdirSync(join(directory, 'a b'));
    writeFileSync(join(directory, 'file'), '');
    symlinkSync('a b', join(directory, 'link'));
    symlinkSync('nowhere', join(directory, 'dangling'));
  });
  after(() => rmSync(directory, { recursive: true }));

  it('answers the real path of a directory', async () => {
    const real = { ok: true, value: join(directory, 'a b') };
    assert.deepEqual(await checkMountpoint(join(directory, 'a b')), real);
    assert.deepEqual(await checkMountpoint(join(directory, 'link')), real);
    assert.deepEqual(await checkMountpoint('/'), { ok: true, value: '/' });
  });

  const faults: [name: string, fault: string][] = [
    ['none', 'missing'],
    ['none/deeper', 'missing'],
    ['dangling', 'missing'],
    ['file', 'notDirectory'],
    ['file/deeper', 'notDirectory'],
  ];
  for (const [name, fault] of faults) {
    it(`finds ${name} ${fault}`, async () => {
      const mountpoint = join(directory, name);
      const error = { kind: 'mountpoint', fault, mountpoint };
      assert.deepEqual(await checkMountpoint(mountpoint), { ok: false, error });
    });
  }

  it('a file lies beneath a directory by its real path, existing or not', () => {
    const real = join(directory, 'a b');
    assert.ok(liesBeneath(join(real, 'log'), real));
    assert.ok(liesBeneath(join(directory, 'link', 'deep', 'log'), real));
    assert.ok(liesBeneath(join(directory, 'link', '..', 'a b', 'log'), real));
    assert.ok(!liesBeneath(join(directory, 'a bc'), real));
    assert.ok(!liesBeneath(join(directory, 'file'), real));
    assert.ok(liesBeneath('/log', '/'));
  });

  it('a file lies beneath where a link leads that finds nothing yet', () => {
    const real = join(directory, 'a b');
    symlinkSync('link/none', join(directory, 'to-log'));
    symlinkSync('to-log', join(directory, 'to-to-log'));
    symlinkSync('endless/endless', join(directory, 'endless'));
    assert.ok(liesBeneath(join(directory, 'to-to-log'), real));
    assert.ok(!liesBeneath(join(directory, 'dangling'), real));
    assert.ok(!liesBeneath(join(directory, 'endless', 'log'), real));
  });
});
