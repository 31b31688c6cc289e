import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { portOf } from '../../scripts/peers/ports.ts';
import { parseOptions } from '../../src/config/parse-options.ts';
import { gvfs, gvfsMount } from '../cli/run.ts';
import '../exit-on-signals.ts';
import { Children, PYTHON } from './children.ts';
import { isMounted } from './mount-fixture.ts';

/** Where a call's procedure stands after its record mark (RFC 5531, section 9); two of MOUNT. */
const PROCEDURE_AT = 24;
const MNT = 1;
const UMNT = 3;

const FAULTY_DAEMON = fileURLToPath(new URL('faulty-daemon.ts', import.meta.url));

let server: Ganesha;
let state = '';
let mountpoint: string;
let log: string;
let children: Children;

before(async () => {
  server = await startGanesha();
  writeFileSync(join(server.directory, 'file'), 'content\n');
});
after(() => server.stop());

beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'gvfs-command-'));
  mountpoint = join(state, 'mnt');
  log = join(state, 'log');
  mkdirSync(mountpoint);
  children = new Children();
});

afterEach(async () => {
  killAll();
  await until(() => daemons().length === 0, 'the daemons are gone');
  remove();
});

// The daemons are in the background: no Ctrl-C reaches them.
process.once('exit', () => {
  if (!existsSync(state)) return;
  killAll();
  remove();
});

function killAll(): void {
  children.killAll();
  for (const pid of daemons()) process.kill(pid, 'SIGKILL');
}

function remove(): void {
  for (let depth = 0; isMounted(mountpoint) && depth < 3; depth++) {
    execFileSync('umount', ['-l', '-i', mountpoint], { timeout: 10_000 });
  }
  rmdirSync(mountpoint); // not recursive, should it still be mounted
  rmSync(state, { recursive: true });
}

describe('in the background', () => {
  it('returns when the mount answers, and leaves nothing of itself to its caller', async () => {
    const { stdout } = await mount('-v');
    assert.equal(stdout, `gvfs-mount: 127.0.0.1:/export is mounted on ${mountpoint}\n`);
    assert.equal(await cat(), 'content\n');
    const [pid = 0, ...others] = daemons();
    assert.deepEqual(others, []);
    const [, , , sessionId] = read(`/proc/${pid}/stat`).replace(/.*\) /s, '').split(' ');
    assert.equal(sessionId, `${pid}`);
    assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/');

    await children.run('fusermount3', ['-u', mountpoint]);
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.deepEqual(messages(), ['mounted', 'unmounted']);
    const { serverBytes, writtenBytes } = JSON.parse(read(log).trim().split('\n').at(-1) ?? '');
    assert.ok(serverBytes >= 'content\n'.length, `${serverBytes} bytes from the server`);
    assert.equal(writtenBytes, 0);
  });

  it('tells the server of the mount and of the unmount', async () => {
    const calls: number[] = [];
    const mountd = createServer((client) => {
      const upstream = connect(server.mountPort, '127.0.0.1');
      client.on('data', (call) => calls.push(call.readUInt32BE(PROCEDURE_AT)));
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
    });
    await new Promise<void>((done) => mountd.listen(0, '127.0.0.1', done));
    try {
      await mount('-o', `mountport=${portOf(mountd)}`);
      assert.deepEqual(calls, [MNT]);
      await children.run('umount', [mountpoint]);
      await until(() => daemons().length === 0, 'the daemon has ended');
      assert.deepEqual(calls, [MNT, UMNT]);
    } finally {
      await new Promise((done) => mountd.close(done));
    }
  });

  it('by a relative path, and found by a symbolic link', async () => {
    const options = { cwd: state };
    const args = ['-o', ports(server, 'log=log'), '127.0.0.1:/export', './x/../mnt'];
    mkdirSync(join(state, 'x'));
    await children.run(process.execPath, [gvfsMount, ...args], options);
    assert.ok(isMounted(mountpoint));
    assert.ok(existsSync(log));
  });

  it('refuses a mountpoint in use, and the mount there goes on', async () => {
    await mount();
    const again = await refused();
    assert.match(again, /mnt is in use, 127.0.0.1:\/export is mounted there: unmount it first/);
    assert.equal(await cat(), 'content\n');
  });

  it('does not hang where a look at the mountpoint hangs', async () => {
    await mount('-o', 'noac');
    const [pid = 0] = daemons();
    process.kill(pid, 'SIGSTOP');
    try {
      assert.match(await refused(), /mnt does not answer, what is mounted there hangs: unmount it/);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    assert.equal(await cat(), 'content\n');
  });

  it('explains what a killed daemon has left, and mounts once it is freed', async () => {
    await mount();
    for (const pid of daemons()) process.kill(pid, 'SIGKILL');
    await until(() => daemons().length === 0, 'the daemon is gone');
    const stale = await refused();
    assert.match(stale, /Transport endpoint is not connected\): free it with fusermount3 -u/);
    await children.run('fusermount3', ['-u', mountpoint]);
    await mount();
    assert.equal(await cat(), 'content\n');
  });

  it('tells which exports there are when it is another one', async () => {
    assert.match(await refused({ source: '127.0.0.1:/exprot' }), /no export .*exports \/export\n/);
    const beneath = await refused({ source: '127.0.0.1:/export/nope' });
    assert.match(beneath, /does not give \/export\/nope, which lies in its export \/export: check/);
    const exports = await children.run(process.execPath, [gvfs, 'exports', ...serverArgs()]);
    assert.equal(exports, '/export (everyone)\n');
    const json = await children.run(process.execPath, [gvfs, 'exports', '--json', ...serverArgs()]);
    const expected = { server: '127.0.0.1', exports: [{ path: '/export', clients: [] }] };
    assert.deepEqual(JSON.parse(json), expected);
  });

  it('says that an unprivileged port was refused', async () => {
    const strict = await startGanesha({ privilegedPort: true });
    try {
      const denied = await refused({ server: strict, options: 'noresvport' });
      assert.match(denied, /from an unprivileged port: run gvfs-mount as root/);
      await mountFrom(strict);
    } finally {
      await children.finish('fusermount3', ['-u', mountpoint]);
      await until(() => daemons().length === 0, 'the daemon has ended');
      await strict.stop();
    }
  });

  it('reopens its log at SIGHUP and survives SIGUSR1 and SIGUSR2', async () => {
    await mount();
    const [pid = 0] = daemons();
    renameSync(log, `${log}.1`);
    process.kill(pid, 'SIGHUP');
    await until(() => existsSync(log), 'the log is there again');
    process.kill(pid, 'SIGUSR1');
    await until(() => messages().length === 1, 'it is logged');
    process.kill(pid, 'SIGUSR2');
    await until(() => messages().length === 2, 'it is logged');
    assert.equal(await cat(), 'content\n');
  });
});

describe('the second transport', () => {
  it('mounts, reads, writes and unmounts', async () => {
    await mount('--transport=fuse-native');
    assert.equal(await cat(), 'content\n');
    await children.sh('echo written >"$1/new"', [mountpoint]);
    assert.equal(readFileSync(join(server.directory, 'new'), 'utf8'), 'written\n');
    assert.match(await refused(), /mnt is in use/);
    await children.run('fusermount3', ['-u', mountpoint]);
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.deepEqual(messages().slice(-1), ['unmounted']);
  });
});

describe('SIGTERM while a file is open', () => {
  async function holder(command: string) {
    const script = `exec 3<"$1/file"; echo open; read -r; ${command}`;
    const held = await children.start('bash', ['-c', script, 'bash', mountpoint], { input: '' });
    await held.says('open');
    return held;
  }

  it('takes the mount out of the tree and serves until the last close', async () => {
    await mount();
    const [pid = 0] = daemons();
    const script = 'exec 3<"$1/file"; echo open; until [[ -e "$2" ]]; do sleep 0.02; done; cat <&3';
    const go = join(state, 'go');
    const held = await children.start('bash', ['-c', script, 'bash', mountpoint, go]);
    await held.says('open');
    process.kill(pid, 'SIGTERM');
    await until(() => !isMounted(mountpoint), 'it is out of the tree');
    assert.deepEqual(daemons(), [pid]);
    writeFileSync(go, '');
    assert.match(await held.succeed(), /content/);
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.equal(messages().at(-1), 'unmounted');
  });

  it('ends it at once the second time', async () => {
    await mount();
    const [pid = 0] = daemons();
    const held = await holder('sleep 1000');
    process.kill(pid, 'SIGTERM');
    await until(() => !isMounted(mountpoint), 'it is out of the tree');
    process.kill(pid, 'SIGTERM');
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.equal(messages().at(-1), 'unmounted');
    held.killGroup();
  });
});

describe('a bug in the daemon', () => {
  for (const how of ['throw', 'reject']) {
    it(`ends the mount in order, and says so: ${how}`, async () => {
      const parsed = parseOptions([ports(server)]);
      assert.ok(parsed.ok);
      const plan = {
        source: { server: '127.0.0.1', path: '/export' },
        mountpoint,
        settings: parsed.value.settings,
        socket: join(state, 'run', 'control.sock'),
        notes: [],
        log: { file: log, required: true, level: 'info', format: 'json' },
      };
      const daemon = await children.start(process.execPath, [
        ...['--import', 'tsx', FAULTY_DAEMON, JSON.stringify(plan), how],
      ]);
      await daemon.says('ready');
      assert.equal(await cat(), 'content\n');
      process.kill(daemon.pid, 'SIGWINCH');
      const { code, stdout } = await daemon.finish();
      assert.match(stdout, /"end":"fault"/);
      assert.equal(code, 4);
      assert.ok(!isMounted(mountpoint));
      assert.deepEqual(messages(), ['mounted', 'internal error: the mount ends', 'unmounted']);
      assert.match(read(log), /a broken (invariant|promise).*faulty-daemon/);
    });
  }
});

describe('a server that is away', () => {
  afterEach(() => server.restart());

  it('is waited for in the background with bg', async () => {
    await server.kill();
    const waiting = await mount('-o', 'bg');
    assert.match(waiting.stderr, /^gvfs-mount: .* accepts no connection .*: still trying .*\n$/);
    assert.ok(!isMounted(mountpoint));
    await server.restart();
    await until(() => isMounted(mountpoint), 'it is mounted');
    assert.equal(await cat(), 'content\n');
  });

  it('is waited for in the foreground with retry, until the mount answers', async () => {
    await server.kill();
    const waiting = await children.start(process.execPath, [
      ...[gvfsMount, ...args(), '-o', 'retry=5'],
    ]);
    await until(
      () => messages().includes('the server does not answer yet, still trying'),
      'it tries again',
    );
    assert.ok(waiting.alive());
    await server.restart();
    const { code, stderr } = await waiting.finish();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    assert.equal(await cat(), 'content\n');
  });

  it('can be given up with SIGINT', async () => {
    server.pause();
    const waiting = await children.start(process.execPath, [gvfsMount, ...args()]);
    await until(() => daemons().length === 1, 'the daemon tries');
    await sleep(500); // it has found its way to the server, or not: both must do
    process.kill(waiting.pid, 'SIGINT');
    const { code, stderr } = await waiting.finish();
    assert.equal(stderr, 'gvfs-mount: interrupted: nothing is mounted\n');
    assert.equal(code, 8);
    await until(() => daemons().length === 0, 'no daemon is left');
    assert.ok(!isMounted(mountpoint));
  });

  it('gets what was acknowledged when it is back, though writer and mount are gone', async () => {
    await mount();
    await sleep(1100); // nfs-ganesha's write verifier is the second in which it started
    const direct = join(server.directory, 'acknowledged');
    const writer = await children.start(PYTHON, [
      '-c',
      `import sys, time
file = open(sys.argv[1], 'wb', 0)
file.write(b'x' * 1000000)
print('written', flush=True)
time.sleep(1000)`,
      join(mountpoint, 'acknowledged'),
    ]);
    await writer.says('written');
    await server.kill();
    truncateSync(direct, 0); // as if the server's machine had lost what it had not made durable
    writer.kill();
    await until(() => !writer.alive(), 'the writer is gone');
    await children.run('fusermount3', ['-u', mountpoint]); // umount would look at the root first
    await server.restart();
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.ok(readFileSync(direct, 'utf8') === 'x'.repeat(1_000_000), read(log));
    assert.equal(messages().at(-1), 'unmounted');
  });

  it('does not keep the daemon from ending', async () => {
    await mount();
    await server.kill();
    await children.run('fusermount3', ['-u', mountpoint]);
    await until(() => daemons().length === 0, 'the daemon has ended');
    assert.ok(messages().includes('the server was not told of the unmount'));
  });
});

interface Target {
  server?: Ganesha;
  source?: string;
  options?: string;
}

function ports(of: Ganesha, ...more: string[]): string {
  return [`port=${of.port}`, `mountport=${of.mountPort}`, 'nocache', ...more].join(',');
}

function args({ server: of = server, source = '127.0.0.1:/export', options }: Target = {}) {
  const more = options === undefined ? [] : [options];
  return ['-o', ports(of, `log=${log}`, ...more), source, mountpoint];
}

function serverArgs(): string[] {
  return ['-o', `mountport=${server.mountPort}`, '127.0.0.1'];
}

/** Mounts in the background; asserts that it succeeds. */
async function mount(...flags: string[]) {
  const finished = await children.finish(process.execPath, [gvfsMount, ...args(), ...flags]);
  assert.equal(finished.code, 0, finished.stderr);
  return finished;
}

async function mountFrom(of: Ganesha): Promise<void> {
  await children.run(process.execPath, [gvfsMount, ...args({ server: of })]);
}

/** The one sentence with which a mount is refused. */
async function refused(target: Target = {}): Promise<string> {
  const { code, stderr } = await children.finish(process.execPath, [gvfsMount, ...args(target)]);
  assert.equal(code, 32, stderr);
  assert.match(stderr, /^gvfs-mount: [^\n]+\n$/);
  return stderr;
}

function cat(): Promise<string> {
  return children.run('cat', [join(mountpoint, 'file')]);
}

/** The processes that serve our mountpoint, by the title that they give themselves. */
function daemons(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const words = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
      return words.includes(mountpoint) && /gvfs-mount|background-process/.test(words);
    })
    .filter((pid) => pid !== process.pid && !/ Z /.test(read(`/proc/${pid}/stat`)))
    .filter((pid) => !read(`/proc/${pid}/cmdline`).includes('cli/gvfs-mount.js'));
}

function messages(): string[] {
  return read(log)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line).message);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it is gone, or not there yet
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let waitedMs = 0; !condition(); waitedMs += 20) {
    assert.ok(waitedMs < 30_000, `not in 30 s: ${what}\n${read(log)}`);
    await sleep(20);
  }
}
