/** The cache's and an export's directory: who may have it, and what it refuses. On real files. */
import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { FileHandle } from '../../src/base/brand.ts';
import {
  ExportDirectory,
  type ExportOptions,
  type ExportRefusal,
  exportsIn,
  lockHolderOf,
} from '../../src/cache/export-directory.ts';
import { exportIdOf, fileIdOf, isFileId } from '../../src/cache/file-id.ts';
import type { FileIo } from '../../src/cache/file-io.ts';
import { NativeFileIo } from '../../src/cache/native-file-io.ts';
import { content, exportOptions, fill, got, openExport, openImage } from './image-worlds.ts';
import { Killed, PaperDisk } from './paper-disk.ts';

const { EBUSY, EIO, ENOSPC, EROFS } = constants.errno;
const one = content(Buffer.alloc(100_000, 1), 1);

describe('export directory', () => {
  let io: FileIo;
  let root: string;
  let cacheDir: string;
  let worlds = 0;

  before(async () => {
    io = got(NativeFileIo.open());
    root = await mkdtemp(join(tmpdir(), 'gvfs-export-'));
  });
  after(async () => {
    await io.close();
    await rm(root, { recursive: true, force: true });
  });
  beforeEach(() => {
    worlds += 1;
    cacheDir = join(root, String(worlds), 'var', 'cache');
  });

  async function refusal(options: Partial<ExportOptions> = {}): Promise<ExportRefusal> {
    const opened = await ExportDirectory.open(exportOptions(cacheDir, io, options));
    assert.ok(!opened.ok);
    return opened.error;
  }

  it('is made for its owner alone, with the directories above it', async () => {
    const exportDirectory = await openExport(cacheDir, io);
    assert.equal((await stat(cacheDir)).mode & 0o777, 0o700);
    assert.equal((await stat(exportDirectory.path)).mode & 0o777, 0o700);
    assert.equal((await readFile(join(cacheDir, 'FORMAT'))).toString(), 'gvfs cache, format 2\n');
    assert.equal(exportDirectory.source, 'server:2049:/export');
    assert.equal(exportDirectory.path, join(cacheDir, exportIdOf('server:2049', '/export')));
    const { bootId: _, ...realBoot } = exportOptions(cacheDir, io, { exportPath: '/other' });
    const { bootId } = got(await ExportDirectory.open(realBoot));
    const ours = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    assert.equal(bootId, ours.trim().replaceAll('-', ''));
    assert.deepEqual(
      new Set(got(await exportsIn(cacheDir))),
      new Set([exportIdOf('server:2049', '/export'), exportIdOf('server:2049', '/other')]),
    );
  });

  it("is one daemon's: another one is told whose", async () => {
    const first = await openExport(cacheDir, io);
    const second = await refusal({ pid: 12 });
    assert.deepEqual(second, {
      kind: 'locked',
      holder: {
        pid: 4711,
        socket: '/run/gvfs/0.sock',
        mountpoint: '/mnt',
        source: 'server:2049:/export',
        changes: true,
        state: 'serving',
      },
      message: `${first.path} is in use by the daemon 4711, which serves server:2049:/export at /mnt`,
    });
    assert.equal(await first.setState('draining'), 0);
    const third = await refusal();
    assert.ok(third.kind === 'locked' && third.holder?.state === 'draining');
    assert.match(third.message, /about to end$/);
    await writeFile(join(first.path, 'LOCK'), '{"pid":');
    assert.match((await refusal()).message, /another daemon, which has not said who it is/);
    await (await openExport(cacheDir, io, { exportPath: '/other' })).close();
    await first.close();
    const long = '/m'.repeat(2000);
    const next = await openExport(cacheDir, io, { mountpoint: long });
    const holder = await lockHolderOf(cacheDir, next.id);
    assert.equal(holder?.mountpoint, long);
    await next.close();
    const last = await openExport(cacheDir, io, { mountpoint: '/short' });
    assert.equal((await lockHolderOf(cacheDir, last.id))?.mountpoint, '/short');
    assert.equal(
      (await readFile(join(last.path, 'LOCK'))).toString(),
      '{"pid":4711,"socket":"/run/gvfs/0.sock","mountpoint":"/short",' +
        '"source":"server:2049:/export","changes":true,"state":"serving"}\n',
    );
    await last.close();
  });

  it('of a daemon that was killed is free, whatever its LOCK says', async () => {
    const first = await openExport(cacheDir, io);
    await first.close();
    assert.equal((await lockHolderOf(cacheDir, first.id))?.pid, 4711);
    await (await openExport(cacheDir, io, { pid: 1 })).close();
  });

  it('of another format, of other files, or of nobody knows what, is refused', async () => {
    await (await openExport(cacheDir, io)).close();
    await writeFile(join(cacheDir, 'FORMAT'), 'gvfs cache, format 3\n');
    const other = await refusal();
    assert.equal(other.kind, 'refused');
    assert.match(other.message, /is of a format that this gvfs does not know \("gvfs cache, form/);
    await rm(join(cacheDir, 'FORMAT'));
    assert.match((await refusal()).message, /is no cache of gvfs: it has no FORMAT, but [0-9a-f]+/);
    assert.ok(!(await exportsIn(cacheDir)).ok);
    cacheDir = join(cacheDir, 'file');
    await writeFile(cacheDir, '');
    assert.match((await refusal()).message, /is not a directory|ENOTDIR/);
  });

  it('of the older format is taken over, and an older gvfs refuses it from then on', async () => {
    await (await openExport(cacheDir, io)).close();
    const format = join(cacheDir, 'FORMAT');
    await writeFile(format, 'gvfs cache, format 1\n');
    assert.ok((await exportsIn(cacheDir)).ok);
    await (await openExport(cacheDir, io)).close();
    assert.equal((await readFile(format)).toString(), 'gvfs cache, format 2\n');
  });

  it('that others may read, or that belongs to others, is refused', async () => {
    const { path } = await openExport(cacheDir, io);
    await chmod(path, 0o750);
    assert.match((await refusal()).message, /is open to others \(mode 750, it has to be 700\)/);
    await chmod(path, 0o700);
    await chmod(cacheDir, 0o701);
    assert.match((await refusal()).message, /is open to others \(mode 701/);
    await chmod(cacheDir, 0o700);
    await chown(path, 12345, 0);
    const us = process.geteuid?.() ?? -1;
    assert.match((await refusal()).message, new RegExp(`belongs to user 12345, not to ${us}`));
  });

  it('may be reached by a link, but not put elsewhere by one', async () => {
    const real = join(root, `${worlds}-real`);
    await mkdir(real, { mode: 0o700 });
    await mkdir(join(cacheDir, '..'), { recursive: true });
    await symlink(real, cacheDir);
    const { path, id } = await openExport(cacheDir, io);
    assert.ok((await readdir(real)).includes(id));
    await rm(path, { recursive: true });
    await symlink(root, path);
    assert.match((await refusal()).message, /is not a directory/);
  });

  it('lists, describes and drops images that are closed', async () => {
    const exportDirectory = await openExport(cacheDir, io);
    assert.deepEqual(got(await exportDirectory.images()), []);
    const image = await openImage(exportDirectory, one);
    await fill(image, io, one, 0, 3);
    image.touch(4, 'moved.img');
    image.touch(5, '');
    assert.equal(await exportDirectory.drop(image.fileId), EBUSY);
    await image.close(true);
    assert.deepEqual(got(await exportDirectory.images()), [image.fileId]);
    const info = got(await exportDirectory.describe(image.fileId));
    assert.deepEqual([info.path, info.lastUsedMs, info.presentPages], ['moved.img', 5, 3]);
    assert.equal(await exportDirectory.drop(image.fileId), 0);
    assert.deepEqual(got(await exportDirectory.images()), []);
    assert.equal(await exportDirectory.drop(image.fileId), 0);
    assert.ok(!(await exportDirectory.describe(image.fileId)).ok);
    await exportDirectory.close();
  });

  it('sweeps what is gone, also of daemons before, and twice at once', async () => {
    const failures: string[] = [];
    const onFailure: ExportOptions['onFailure'] = ({ message }) => failures.push(message);
    let exportDirectory = await openExport(cacheDir, io);
    for (let time = 0; time < 3; time += 1) {
      const image = await openImage(exportDirectory, one);
      await image.close(true);
      assert.equal(await exportDirectory.drop(image.fileId), 0);
      await exportDirectory.close();
      exportDirectory = await openExport(cacheDir, io, { onFailure });
    }
    const gone = join(exportDirectory.path, '.gone');
    assert.deepEqual((await readdir(gone)).sort(), ['0', '1', '2']);
    const swept = [exportDirectory.sweepGone(), exportDirectory.sweepGone()];
    assert.deepEqual(await Promise.all(swept), [3, 0]);
    assert.deepEqual(await readdir(gone), []);
    assert.deepEqual(failures, []);
  });

  it('opens no image at a start, however many there are', async () => {
    const exportDirectory = await openExport(cacheDir, io);
    for (let index = 0; index < 20; index += 1) {
      const file = Buffer.from(`handle ${index}`) as FileHandle;
      await (await openImage(exportDirectory, one, file)).close(true);
    }
    await exportDirectory.close();
    const before = (await readdir('/proc/self/fd')).length;
    const next = await openExport(cacheDir, io);
    assert.equal((await readdir('/proc/self/fd')).length, before + 1);
    assert.equal(got(await next.images()).length, 20);
    await next.close();
  });
});

describe('export directory on a disk of paper', () => {
  it('is made whole or can be made again, wherever its daemon is killed', async () => {
    for (let after = 0; ; after += 1) {
      const disk = new PaperDisk();
      disk.killAfter = after;
      const options = exportOptions('/a/cache', disk.io, { paths: disk.paths });
      const ended = await ExportDirectory.open(options).then(
        () => true,
        (error) => {
          assert.ok(error instanceof Killed);
          return false;
        },
      );
      for (const left of [disk.afterKill(), disk.afterPowerCut(() => after % 2)]) {
        const next = await openExport('/a/cache', left.io, { paths: left.paths });
        await (await openImage(next, one)).close(true);
        await next.close();
      }
      if (ended) break;
    }
  });

  it('says what the disk answers, and throws nothing', async () => {
    for (const [errno, name] of [
      [ENOSPC, 'ENOSPC'],
      [EROFS, 'EROFS'],
      [EIO, 'EIO'],
    ] as const) {
      const disk = new PaperDisk();
      disk.failWith = errno;
      const options = exportOptions('/cache', disk.io, { paths: disk.paths });
      const opened = await ExportDirectory.open(options);
      assert.ok(!opened.ok && opened.error.kind === 'refused');
      assert.equal(opened.error.error.errno, name);
      assert.match(opened.error.message, new RegExp(name));
      assert.equal(disk.openFiles, 0);
    }
  });
});

describe('ids', () => {
  it('are hashes of what the server knows things by', () => {
    assert.equal(exportIdOf('server:2049', '/export'), '4f80b354dad75d5ec6553fa356b62b1b');
    assert.equal(
      fileIdOf(Buffer.from('0102', 'hex') as FileHandle),
      'a12871fee210fb8619291eaea194581c',
    );
    assert.notEqual(exportIdOf('server:2049', '/a'), exportIdOf('server:2050', '/a'));
    assert.ok(isFileId(exportIdOf('a', '/b')));
    for (const name of ['LOCK', '.gone', 'knowledge', 'A'.repeat(32), 'a'.repeat(33)]) {
      assert.equal(isFileId(name), false, name);
    }
  });
});
