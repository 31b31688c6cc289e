/**
 * The client against a real server: a private nfs-ganesha.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { type Ganesha, type GaneshaOptions, startGanesha } from '../../scripts/peers/ganesha.ts';
import type { FileHandle } from '../../src/base/brand.ts';
import {
  type MountOptions,
  Nfs3Client,
  rpcChannels,
  type ServerEvent,
} from '../../src/nfsc/index.ts';
import { mountNull, umntAll } from '../../src/nfsc/mount3.ts';
import { Transport } from '../../src/nfsc/rpc/transport.ts';
import { visitEveryProcedure } from './every-procedure.ts';
import { listen, must, mustFail, name, root, until } from './support.ts';

const MIB = 1 << 20;

async function mount(t: TestContext, ganesha: Ganesha, options: Partial<MountOptions> = {}) {
  const { port, mountPort, exportPath } = ganesha;
  const mounted = await Nfs3Client.mount({
    server: '127.0.0.1',
    exportPath,
    port,
    mountPort,
    ...options,
  });
  const client = must(mounted);
  t.after(() => client.close());
  return client;
}

async function privateServer(t: TestContext, options: GaneshaOptions = {}): Promise<Ganesha> {
  const server = await startGanesha(options);
  t.after(() => server.stop());
  return server;
}

/** Writes all of `bytes`, several WRITEs at once, and commits them. */
async function writeAll(client: Nfs3Client, file: FileHandle, bytes: Buffer): Promise<void> {
  const step = client.limits.writeMax;
  const offsets = Array.from({ length: Math.ceil(bytes.length / step) }, (_, at) => at * step);
  await Promise.all(
    offsets.map(async (offset) => {
      const piece = bytes.subarray(offset, offset + step);
      const { count } = must(await client.write(root, file, offset, piece, 'unstable'));
      assert.equal(count, piece.length);
    }),
  );
  must(await client.commit(root, file, 0, 0));
}

/** The hash of `size` bytes, READs of `count` all at once, so that answers overtake each other. */
async function hashOf(client: Nfs3Client, file: FileHandle, size: number, count: number) {
  const offsets = Array.from({ length: Math.ceil(size / count) }, (_, at) => at * count);
  const answers = await Promise.all(
    offsets.map(async (offset) => must(await client.read(root, file, offset, count))),
  );
  const hash = createHash('sha256');
  for (const answer of answers) {
    hash.update(answer.bytes);
    answer.release();
  }
  return hash.digest('hex');
}

async function create(client: Nfs3Client, text: string): Promise<FileHandle> {
  const how = { kind: 'guarded', attributes: { mode: 0o644 } } as const;
  const { file } = must(await client.create(root, client.root, name(text), how));
  assert.ok(file);
  return file;
}

/** Resolves, within the call's own turn, when `count` calls have been answered. */
function answersOf(t: TestContext, count: number): Promise<void> {
  return new Promise((resolve) => {
    let answers = 0;
    const take = () => {
      if (++answers === count) resolve();
    };
    rpcChannels.call.subscribe(take);
    t.after(() => rpcChannels.call.unsubscribe(take));
  });
}

/** Whether each of the process's threads is stopped: a signal takes its time. */
function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /^State:\s+T/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')),
  );
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

describe('nfsc and nfs-ganesha', () => {
  let ganesha: Ganesha;
  before(async () => {
    ganesha = await startGanesha();
  });
  after(() => ganesha.stop());

  it('agree on every procedure', async (t) => {
    const server = await privateServer(t);
    const client = await mount(t, server);
    const steps = await visitEveryProcedure(client);
    const failures = steps.flatMap(({ step, result }) =>
      result.ok ? [] : [[step, result.error.code]],
    );
    assert.deepEqual(failures, [
      ['CREATE again', 'NFS3ERR_EXIST'],
      ['LOOKUP of nothing', 'NFS3ERR_NOENT'],
      ['SETATTR guarded', 'NFS3ERR_NOT_SYNC'],
      ['RENAME of nothing', 'NFS3ERR_NOENT'],
      ['REMOVE of a directory', 'NFS3ERR_ISDIR'],
      ['GETATTR of what is gone', 'NFS3ERR_STALE'],
    ]);
    const exports = must(await client.getExports());
    assert.deepEqual(exports, [{ directory: server.exportPath, groups: [] }]);
    assert.deepEqual(must(await client.dump()), []);
    must(await client.unmount());

    const mountd = new Transport({
      host: '127.0.0.1',
      port: server.mountPort,
      patience: 'mounting',
    });
    t.after(() => mountd.close());
    for (const procedure of [mountNull, umntAll]) {
      assert.ok((await mountd.call(procedure, root, undefined)).ok, procedure.name);
    }
  });

  it('move bytes unchanged, over one connection and over four', async (t) => {
    const bytes = randomBytes(16 * MIB + 4097);
    for (const nconnect of [1, 4]) {
      const client = await mount(t, ganesha, { nconnect });
      const text = `bytes-${nconnect}`;
      const file = await create(client, text);
      await writeAll(client, file, bytes);
      assert.ok(readFileSync(join(ganesha.directory, text)).equals(bytes));
      for (const count of [MIB, 65_536, 5_001]) {
        assert.equal(await hashOf(client, file, bytes.length, count), sha256(bytes));
      }
    }
  });

  it('agree where the end is', async (t) => {
    const client = await mount(t, ganesha);
    const file = await create(client, 'end');
    must(await client.write(root, file, 0, Buffer.from('12345'), 'fileSync'));
    const cases: [number, number, string, boolean][] = [
      [0, 5, '12345', true],
      [0, 4, '1234', false],
      [3, 100, '45', true],
      [5, 10, '', true],
      [1000, 10, '', true],
    ];
    for (const [offset, count, expected, eof] of cases) {
      const answer = must(await client.read(root, file, offset, count));
      assert.deepEqual([String(answer.bytes), answer.eof], [expected, eof]);
      answer.release();
    }
    const far = 2 ** 40 + 1;
    must(await client.setattr(root, file, { size: far }));
    must(await client.write(root, file, far, Buffer.from('far'), 'fileSync'));
    assert.equal(must(await client.getattr(root, file)).size, far + 3);
    const answer = must(await client.read(root, file, far, 100));
    assert.equal(String(answer.bytes), 'far');
    answer.release();
  });

  it('agree on names that are not text, and refuse nothing that is one', async (t) => {
    const client = await mount(t, ganesha);
    const names = [
      Buffer.from([0xff, 0xfe, 0x0a, 0x20]),
      Buffer.from('x'.repeat(255)),
      Buffer.from('...'),
      Buffer.from('grüße'),
    ];
    const made = must(await client.mkdir(root, client.root, name('names'), { mode: 0o755 }));
    const directory = made.file as FileHandle;
    for (const bytes of names) {
      must(await client.mkdir(root, directory, bytes as never, { mode: 0o755 }));
    }
    const { entries, eof } = must(await client.readdirplus(root, directory, 0n, 0n, 65_536));
    assert.ok(eof);
    const hex = (list: readonly Buffer[]) => list.map((one) => one.toString('hex')).sort();
    const dots = [Buffer.from('.'), Buffer.from('..')];
    assert.deepEqual(hex(entries.map((entry) => entry.name)), hex([...names, ...dots]));
  });

  it('list 2,000 entries, each once, page by page', async (t) => {
    const server = await privateServer(t);
    const directory = join(server.directory, 'many');
    mkdirSync(directory);
    for (let index = 0; index < 2000; index++) writeFileSync(join(directory, `file-${index}`), '');
    const client = await mount(t, server);
    const { file } = must(await client.lookup(root, client.root, name('many')));
    for (const list of ['readdir', 'readdirplus'] as const) {
      const seen: string[] = [];
      let [cookie, verifier, calls, isEnd] = [0n, 0n, 0, false];
      while (!isEnd) {
        const page = must(await client[list](root, file, cookie, verifier, 16_384));
        seen.push(...page.entries.map((entry) => String(entry.name)));
        [cookie, verifier, isEnd] = [
          page.entries.at(-1)?.cookie ?? cookie,
          page.verifier,
          page.eof,
        ];
        calls++;
        if (list === 'readdirplus') assert.ok(page.entries.every((entry) => entry.attributes));
      }
      assert.ok(calls > 2);
      assert.equal(seen.length, 2002);
      assert.equal(new Set(seen).size, 2002);
    }
  });

  it('make a file EXCLUSIVE once', async (t) => {
    const client = await mount(t, ganesha);
    const how = { kind: 'exclusive' } as const;
    const { file } = must(await client.create(root, client.root, name('exclusive'), how));
    assert.ok(file);
    must(await client.setattr(root, file, { mode: 0o600, atime: 'server', mtime: 'server' }));
    assert.equal(statSync(join(ganesha.directory, 'exclusive')).mode & 0o7777, 0o600);
    const again = mustFail(await client.create(root, client.root, name('exclusive'), how));
    assert.equal(again.code, 'NFS3ERR_EXIST');
  });

  it('let nobody read what is not theirs', async (t) => {
    const client = await mount(t, ganesha);
    const file = await create(client, 'secret');
    must(await client.setattr(root, file, { mode: 0o640, uid: 1, gid: 4242 }));
    const stranger = { uid: 1000, gid: 1000, groups: [] };
    const member = { uid: 1000, gid: 1000, groups: [77, 4242] };
    const error = mustFail(await client.read(stranger, file, 0, 10));
    assert.deepEqual([error.code, error.errno], ['NFS3ERR_ACCES', 'EACCES']);
    assert.equal(must(await client.access(stranger, file, 1)).granted, 0);
    assert.equal(must(await client.access(member, file, 1)).granted, 1);
    must(await client.read(member, file, 0, 10)).release();
  });

  it('squash root where the server does', async (t) => {
    const server = await privateServer(t, { squash: 'Root_Squash' });
    const client = await mount(t, server);
    writeFileSync(join(server.directory, 'secret'), 'x', { mode: 0o600 });
    const { file } = must(await client.lookup(root, client.root, name('secret')));
    assert.equal(mustFail(await client.read(root, file, 0, 1)).code, 'NFS3ERR_ACCES');
  });

  it('obey the server’s limits', async (t) => {
    const server = await privateServer(t, { maxRead: 65_536, maxWrite: 32_768 });
    const client = await mount(t, server);
    assert.deepEqual([client.limits.readMax, client.limits.writeMax], [65_536, 32_768]);
    const bytes = randomBytes(300_000);
    const file = await create(client, 'limited');
    await writeAll(client, file, bytes);
    assert.equal(await hashOf(client, file, bytes.length, client.limits.readMax), sha256(bytes));
  });

  it('tell wrong exports and unprivileged ports apart', async (t) => {
    const strict = await privateServer(t, { privilegedPort: true });
    const { port, mountPort, exportPath } = strict;
    const options = { server: '127.0.0.1', exportPath, port, mountPort };
    const refused = mustFail(await Nfs3Client.mount({ ...options, resvport: false }));
    assert.deepEqual(refused.detail, {
      kind: 'denied',
      service: 'nfs',
      stat: 'AUTH_TOOWEAK',
      fromPrivilegedPort: false,
    });
    must(await Nfs3Client.mount({ ...options, resvport: true })).close();
    const wrong = mustFail(await Nfs3Client.mount({ ...options, exportPath: '/elsewhere' }));
    assert.ok(wrong.detail.kind === 'refused' && wrong.detail.status === 'MNT3ERR_ACCES');
  });

  it('lose no byte when the server is killed and comes back', async (t) => {
    const server = await privateServer(t);
    const client = await mount(t, server, { nconnect: 2 });
    const bytes = randomBytes(24 * MIB);
    writeFileSync(join(server.directory, 'image'), bytes);
    const { file } = must(await client.lookup(root, client.root, name('image')));
    const copy = await create(client, 'copy');
    const answers = answersOf(t, 20);
    const reading = hashOf(client, file, bytes.length, 128 * 1024);
    const writing = Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const piece = bytes.subarray(index * MIB, (index + 1) * MIB);
        const written = await client.write(root, copy, index * MIB, piece, 'fileSync');
        assert.equal(must(written).count, MIB);
      }),
    );
    await answers;
    const killed = server.kill();
    assert.ok(client.callCount > 0, 'nothing was under way any more');
    await killed;
    await server.restart();
    assert.equal(await reading, sha256(bytes));
    await writing;
    assert.ok(readFileSync(join(server.directory, 'copy')).equals(bytes));
  });

  it('wait for a paused server when hard, and not when soft', async (t) => {
    const said = listen<ServerEvent>(t, rpcChannels.server);
    const server = await privateServer(t);
    const hard = await mount(t, server, { timeoDeciseconds: 2, retrans: 1 });
    const soft = await mount(t, server, { hard: false, timeoDeciseconds: 2, retrans: 0 });
    server.pause();
    await until(() => isStopped(server.pid));
    const waiting = hard.getattr(root, hard.root);
    const error = mustFail(await soft.getattr(root, soft.root));
    assert.deepEqual([error.code, error.errno], ['RPC_TIMEOUT', 'EIO']);
    const stillTrying = () => said.some(({ message }) => message.endsWith('still trying'));
    await until(stillTrying);
    server.resume();
    assert.equal(must(await waiting).type, 'directory');
    must(await soft.getattr(root, soft.root));
    assert.equal(said.filter(({ state }) => state === 'notResponding').length, 2);
    assert.equal(said.filter(({ state }) => state === 'ok').length, 2);
  });
});
