import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freePorts, portOf } from '../../scripts/peers/ports.ts';
import { gvfs, gvfsMount, run, runCommand } from './run.ts';

describe('gvfs-mount says in one sentence', () => {
  let directory: string;
  let mountpoint: string;
  let closed: number;
  let notNfs: Server;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-input-'));
    mountpoint = join(directory, 'mnt');
    mkdirSync(mountpoint);
    writeFileSync(join(directory, 'file'), '');
    [closed = 0] = await freePorts(1);
    notNfs = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    await new Promise<void>((done) => notNfs.listen(0, '127.0.0.1', done));
  });
  after(async () => {
    await new Promise((done) => notNfs.close(done));
    rmSync(directory, { recursive: true });
  });

  const cases: [name: string, args: () => string[], status: number, text: RegExp][] = [
    ['that something is missing', () => [], 1, /missing: say gvfs-mount SERVER/],
    ['unknown options', () => at('-o', 'harrd'), 1, /unknown option "harrd": did you mean "hard"/],
    ['unknown flags', () => at('--foreround'), 1, /did you mean "--foreground"/],
    ['vers=4', () => at('-o', 'vers=4'), 1, /"vers=4" .*: use 3/],
    ['a value out of range', () => at('-o', 'nconnect=17'), 1, /: use a whole number from 1 to 16/],
    ['a source without a server', () => ['/vm', mountpoint], 1, /as in server:\/export/],
    ['that the mountpoint is missing', () => to('none'), 32, /none does not exist: make it/],
    ['that it is no directory', () => to('file'), 32, /file is not a directory: mount/],
    [
      'that nobody listens',
      () => at(...ports(closed)),
      32,
      /accepts no connection on port \d+ \(m/,
    ],
    ['that it is no NFS server', () => at(...ports(portOf(notNfs))), 32, /port \d+/],
    [
      'that the log lies in the mount',
      () => at('-o', `log=${mountpoint}/a/log`),
      1,
      /lies beneath the mountpoint .*: name a file elsewhere/,
    ],
    ['that there can be no log', () => at('--log=/proc/none/log'), 1, /: name another file/],
  ];
  for (const [name, args, status, text] of cases) {
    it(name, async () => {
      const ran = await runCommand(gvfsMount, args());
      assert.match(ran.stderr, /^gvfs-mount: [^\n]+: [^\n]+\n$/);
      assert.match(ran.stderr, text);
      assert.equal(ran.stdout, '');
      assert.equal(ran.status, status);
    });
  }

  it('the same in the foreground', async () => {
    const ran = await runCommand(gvfsMount, at('-f', ...ports(closed)));
    assert.match(ran.stderr, /^gvfs-mount: [^\n]+ accepts no connection [^\n]+\n$/);
    assert.equal(ran.status, 32);
  });

  it('the same through the link that npm makes, and as mount.gvfs', async () => {
    for (const name of ['gvfs-mount', 'mount.gvfs']) {
      const link = join(directory, name);
      symlinkSync(gvfsMount, link);
      const ran = await runCommand(link, ['images:/vm', mountpoint, '-o', 'vers=4']);
      assert.match(ran.stderr, new RegExp(`^${name}: [^\\n]+: use 3[^\\n]+\\n$`));
      assert.equal(ran.status, 1);
    }
    const fake = [join(directory, 'mount.gvfs'), 'images:/vm', mountpoint, '-sfnv', '-o', 'rw,a=b'];
    assert.equal((await run(process.execPath, fake)).status, 0);
  });

  const to = (name: string) => ['images:/vm', join(directory, name)];
  const at = (...args: string[]) => [...args, '127.0.0.1:/vm', mountpoint];
  const ports = (port: number) => [
    '-o',
    `port=${port},mountport=${port},log=${join(directory, 'log')}`,
  ];
});

describe('gvfs', () => {
  it('prints its version and what it can do', async () => {
    const version = await runCommand(gvfs, ['--version']);
    assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
    const help = await runCommand(gvfs, ['--help']);
    assert.match(help.stdout, /exports/);
    assert.equal(help.status, 0);
  });

  it('refuses in one sentence', async () => {
    const [closed = 0] = await freePorts(1);
    const cases: [args: string[], status: number, text: RegExp][] = [
      [['cache'], 1, /no command is given/],
      [['exprots'], 1, /unknown command "exprots": did you mean "exports"\?/],
      [['export', 'a'], 1, /did you mean "exports"/],
      [['zzz'], 1, /unknown command "zzz": gvfs --help lists them/],
      [['mount', 'x'], 1, /say gvfs-mount SERVER:\/EXPORT DIRECTORY/],
      [['exports'], 1, /the server is missing: say gvfs exports SERVER/],
      [['exports', '--jsno', 'a'], 1, /unknown option "--jsno"/],
      [['exports', 'a/b'], 1, /no server's name/],
      [['exports', '-o', `mountport=${closed}`, '127.0.0.1'], 32, /accepts no connection/],
    ];
    for (const [args, status, text] of cases) {
      const ran = await runCommand(gvfs, args);
      assert.match(ran.stderr, /^gvfs: [^\n]+: [^\n]+\n$/);
      assert.match(ran.stderr, text);
      assert.equal(ran.status, status);
    }
  });
});
