/** The knowledge file, byte for byte, and its life. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { decodeKnowledge, encodeKnowledge } from '../../src/cache/knowledge-file.ts';
import { nextBoot, openExport } from './image-worlds.ts';
import { Killed, PaperDisk } from './paper-disk.ts';

const exportId = '000102030405060708090a0b0c0d0e0f';
const golden =
  '475646534b4e4f57 01000000 000102030405060708090a0b0c0d0e0f 404933f2 97100f4a 6e616d6573';

describe('knowledge file', () => {
  it('is these bytes', () => {
    const bytes = Buffer.from(golden.replaceAll(' ', ''), 'hex');
    assert.equal(
      encodeKnowledge(exportId, Buffer.from('names')).toString('hex'),
      bytes.toString('hex'),
    );
    const read = decodeKnowledge(exportId, bytes);
    assert.ok(read.ok && read.value.toString() === 'names');
  });

  it('is not believed with a flipped bit, cut, or of another export', () => {
    const bytes = encodeKnowledge(exportId, Buffer.from('names'));
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(decodeKnowledge(exportId, flipped).ok, false, `bit ${bit}`);
    }
    for (let length = 0; length < bytes.length; length += 1) {
      assert.equal(decodeKnowledge(exportId, bytes.subarray(0, length)).ok, false);
    }
    assert.equal(decodeKnowledge('ff'.repeat(16), bytes).ok, false);
  });

  it('is saved and loaded whole, and does not come back once forgotten', async () => {
    const disk = new PaperDisk();
    const { knowledge } = await openExport('/cache', disk.io, { paths: disk.paths });
    assert.equal(await knowledge.load(), undefined);
    await knowledge.save(Buffer.from('one'));
    await knowledge.save(Buffer.alloc(0));
    assert.equal((await knowledge.load())?.length, 0);
    await knowledge.save(Buffer.from('two'));
    assert.equal((await knowledge.load())?.toString(), 'two');
    const saving = knowledge.save(Buffer.from('three'));
    await Promise.all([saving, knowledge.forget()]);
    assert.equal(await knowledge.load(), undefined);
    const left = disk.afterPowerCut(() => 0);
    const later = await openExport('/cache', left.io, { paths: left.paths, bootId: nextBoot });
    assert.equal(await later.knowledge.load(), undefined);
  });

  it('is the old or the new one whenever the power is cut', async () => {
    const seen = new Set<string>();
    for (let after = 0; ; after += 1) {
      const disk = new PaperDisk();
      const quiet = { paths: disk.paths, changes: false };
      const { knowledge } = await openExport('/cache', disk.io, quiet);
      await knowledge.save(Buffer.from('old'));
      disk.killAfter = disk.effects + after;
      const ended = await knowledge.save(Buffer.from('new')).then(
        () => true,
        (error) => {
          assert.ok(error instanceof Killed);
          return false;
        },
      );
      for (const chance of [0, 0.4, 0.6, 0.999]) {
        const left = disk.afterPowerCut(() => chance);
        const later = await openExport('/cache', left.io, { paths: left.paths });
        const found = (await later.knowledge.load())?.toString() ?? 'none';
        assert.ok(ended ? found === 'new' : ['old', 'new'].includes(found), found);
        seen.add(found);
      }
      if (ended) break;
    }
    assert.deepEqual(seen, new Set(['old', 'new']));
  });

  it('is not believed after a daemon that may have changed names and did not end in order', async () => {
    for (const changes of [true, false]) {
      for (const inOrder of [true, false]) {
        const disk = new PaperDisk();
        const options = { paths: disk.paths, changes };
        const first = await openExport('/cache', disk.io, options);
        await first.knowledge.save(Buffer.from('names'));
        if (inOrder) await first.close();
        const left = disk.afterKill();
        const second = await openExport('/cache', left.io, { paths: left.paths });
        const found = (await second.knowledge.load())?.toString();
        assert.equal(found, changes && !inOrder ? undefined : 'names', `${changes} ${inOrder}`);
      }
    }
  });

  it('that the disk did not let go is not believed, though the daemon ended', async () => {
    const disk = new PaperDisk();
    let isStuck = false;
    const remove = (path: string) =>
      isStuck ? Promise.resolve(constants.errno.EROFS) : disk.paths.remove(path);
    const first = await openExport('/cache', disk.io, { paths: { ...disk.paths, remove } });
    await first.knowledge.save(Buffer.from('names'));
    isStuck = true;
    await first.knowledge.forget();
    await first.close();
    const left = disk.afterKill();
    const second = await openExport('/cache', left.io, { paths: left.paths });
    assert.equal(await second.knowledge.load(), undefined);
  });

  it('that is damaged is removed, and said', async () => {
    const disk = new PaperDisk();
    const failures: string[] = [];
    const { knowledge, path } = await openExport('/cache', disk.io, {
      paths: disk.paths,
      onFailure: ({ message }) => failures.push(message),
    });
    await knowledge.save(Buffer.from('names'));
    const file = disk.fileAt(`${path}/knowledge`);
    file.bytes[40] = 0;
    assert.equal(await knowledge.load(), undefined);
    assert.match(failures.join(), /knowledge is damaged: it is not used/);
    assert.equal(disk.has(`${path}/knowledge`), false);
  });

  it('that cannot be written or removed is said, and nothing is thrown', async () => {
    const disk = new PaperDisk();
    const failures: string[] = [];
    const { knowledge } = await openExport('/cache', disk.io, {
      paths: disk.paths,
      onFailure: ({ errno }) => failures.push(errno),
    });
    await knowledge.save(Buffer.from('names'));
    disk.failWith = constants.errno.EROFS;
    await knowledge.save(Buffer.from('more'));
    await knowledge.forget();
    assert.deepEqual(failures, ['EROFS', 'EROFS']);
    disk.failWith = 0;
    // Not taken for gone.
    await knowledge.forget();
    assert.equal(await knowledge.load(), undefined);
  });
});
