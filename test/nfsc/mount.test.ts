import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { listExports, listMounts, type MountOptions, Nfs3Client } from '../../src/nfsc/index.ts';
import { dial } from '../../src/nfsc/rpc/dial.ts';
import { exportScript, marked, type Script, startFakeServer, xdr } from './fake-server.ts';
import { fakeServer, must, mustFail, until } from './support.ts';

const options = { server: '127.0.0.1', exportPath: '/export', resvport: false } as const;

async function closedPort(): Promise<number> {
  const server = await startFakeServer(() => undefined);
  await server.stop();
  return server.port;
}

/** The error of a mount of an export behind `script`. */
async function failing(t: TestContext, script: Script, more: Partial<MountOptions> = {}) {
  const { port } = await fakeServer(t, script);
  return mustFail(await Nfs3Client.mount({ ...options, port, mountPort: port, ...more }));
}

const decent = exportScript(() => undefined);
const mountAnswers = (results: Buffer): Script => {
  return (call) => (call.program === 100_005 ? results : decent(call));
};
const refusing = (program: number, words: Buffer): Script => {
  return (call) => {
    if (call.program !== program) return decent(call);
    call.socket.write(marked(Buffer.concat([xdr(call.xid), words])));
    return undefined;
  };
};

describe('mounting', () => {
  it('finds both ports through the portmapper', async (t) => {
    const server = await fakeServer(t, decent);
    const portmapper = await fakeServer(t, () => xdr(server.port));
    const mounted = await Nfs3Client.mount({ ...options, portmapperPort: portmapper.port });
    must(mounted).close();
    assert.deepEqual(
      portmapper.calls.map(({ program, version, procedure }) => [program, version, procedure]),
      [
        [100_000, 2, 3],
        [100_000, 2, 3],
      ],
    );
    assert.deepEqual(
      portmapper.calls.map(({ args }) => args),
      [xdr(100_003, 3, 6, 0), xdr(100_005, 3, 6, 0)],
    );
  });

  it('asks no portmapper for a port that is given', async (t) => {
    const server = await fakeServer(t, decent);
    const { port } = server;
    const portmapper = await fakeServer(t, () => xdr(port));
    const found = { ...options, portmapperPort: portmapper.port };
    must(await Nfs3Client.mount({ ...found, port, mountPort: port })).close();
    assert.equal(portmapper.calls.length, 0);
    must(await Nfs3Client.mount({ ...found, port })).close();
    assert.equal(portmapper.calls.length, 1);
  });

  it('says when nobody listens where the portmapper should be', async () => {
    const port = await closedPort();
    const error = mustFail(await Nfs3Client.mount({ ...options, portmapperPort: port }));
    assert.deepEqual([error.code, error.errno], ['RPC_UNREACHABLE', 'ECONNREFUSED']);
    assert.deepEqual(error.detail, {
      kind: 'unreachable',
      service: 'portmapper',
      host: '127.0.0.1',
      port,
      reason: 'refused',
    });
  });

  it('says which program the portmapper does not know', async (t) => {
    const portmapper = await fakeServer(t, (call) =>
      xdr(call.args.readUInt32BE(0) === 100_003 ? 2049 : 0),
    );
    const error = mustFail(await Nfs3Client.mount({ ...options, portmapperPort: portmapper.port }));
    assert.deepEqual(error.detail, { kind: 'notRegistered', service: 'mountd' });
  });

  it('says when mountd, or the NFS server, is not there', async (t) => {
    const gone = await closedPort();
    const mountd = mustFail(await Nfs3Client.mount({ ...options, port: 1, mountPort: gone }));
    assert.ok(mountd.detail.kind === 'unreachable' && mountd.detail.service === 'mountd');
    const nfs = await failing(t, decent, { port: gone });
    assert.ok(nfs.detail.kind === 'unreachable' && nfs.detail.service === 'nfs');
    assert.equal(nfs.detail.port, gone);
  });

  it('says that a host is unknown', async () => {
    const server = 'no-such-host.invalid';
    const error = mustFail(await Nfs3Client.mount({ ...options, server, port: 1, mountPort: 1 }));
    assert.ok(error.detail.kind === 'unreachable' && error.detail.reason === 'unknownHost');
    assert.match(error.message, /no-such-host\.invalid: unknown host/);
  });

  it('gives up a server that never answers', async (t) => {
    const error = await failing(t, () => undefined, { mountTimeoutMs: 100 });
    assert.deepEqual([error.code, error.errno], ['RPC_TIMEOUT', 'ETIMEDOUT']);
    assert.ok(error.detail.kind === 'timeout' && error.detail.service === 'mountd');
  });

  it('gives up a server that hangs up', async (t) => {
    const error = await failing(t, (call) => {
      call.socket.destroy();
      return undefined;
    });
    assert.ok(error.detail.kind === 'unreachable' && error.detail.reason === 'lost');
  });

  it('passes on what MNT says, and whether our port was privileged', async (t) => {
    const acces = await failing(t, mountAnswers(xdr(13)));
    assert.deepEqual([acces.code, acces.errno], ['NFS3ERR_ACCES', 'EACCES']);
    assert.deepEqual(acces.detail, {
      kind: 'refused',
      status: 'MNT3ERR_ACCES',
      fromPrivilegedPort: false,
    });
    const noent = await failing(t, mountAnswers(xdr(2)));
    assert.ok(noent.detail.kind === 'refused' && noent.detail.status === 'MNT3ERR_NOENT');
    assert.equal(noent.errno, 'ENOENT');
  });

  it('says that the RPC layer refuses us', async (t) => {
    const error = await failing(t, refusing(100_003, xdr(1, 1, 1, 5)));
    assert.deepEqual([error.code, error.errno], ['RPC_DENIED', 'EACCES']);
    assert.deepEqual(error.detail, {
      kind: 'denied',
      service: 'nfs',
      stat: 'AUTH_TOOWEAK',
      fromPrivilegedPort: false,
    });
  });

  it('says that there is another version only', async (t) => {
    const error = await failing(t, refusing(100_003, xdr(1, 0, 0, 0, 2, 4, 4)));
    assert.deepEqual(error.detail, { kind: 'notDone', service: 'nfs', stat: 'PROG_MISMATCH' });
    assert.match(error.message, /versions 4 to 4 only/);
  });

  it('says that what answers is no such server', async (t) => {
    const rubbish = await failing(t, mountAnswers(xdr(99)));
    assert.ok(rubbish.detail.kind === 'protocol' && rubbish.detail.service === 'mountd');
    const root = Buffer.alloc(65);
    const long = await failing(t, mountAnswers(xdr(0, root, 0)));
    assert.equal(long.code, 'PROTOCOL');
    const http = await failing(t, (call) => {
      call.socket.write('HTTP/1.1 400 Bad Request\r\n\r\n');
      return undefined;
    });
    assert.ok(http.detail.kind === 'protocol' && http.detail.service === 'mountd');
  });

  it('says that FSINFO failed', async (t) => {
    const error = await failing(t, (call) => (call.procedure === 19 ? xdr(70, 0) : decent(call)));
    assert.deepEqual(error.detail, { kind: 'fsinfo', status: 'NFS3ERR_STALE' });
  });

  it('takes AUTH_NONE where there is nothing else, and refuses what it cannot', async (t) => {
    const handle = Buffer.from('h');
    const server = await fakeServer(t, mountAnswers(xdr(0, handle, 1, 0)));
    const { port } = server;
    must(await Nfs3Client.mount({ ...options, port, mountPort: port })).close();
    assert.equal(server.calls.at(-1)?.flavor, 0);
    const error = await failing(t, mountAnswers(xdr(0, handle, 2, 390_003, 390_004)));
    assert.deepEqual(error.detail, { kind: 'noFlavor', offered: [390_003, 390_004] });
  });

  it('refuses options that cannot be', async () => {
    for (const wrong of [
      { exportPath: 'relative' },
      { exportPath: `/${'x'.repeat(1024)}` },
      { nconnect: 17 },
      { timeoDeciseconds: 0 },
    ]) {
      const error = mustFail(await Nfs3Client.mount({ ...options, ...wrong }));
      assert.deepEqual([error.errno, error.detail.kind], ['EINVAL', 'options']);
    }
  });

  it('says UMNT when it ends, and ends even where nobody hears it', async (t) => {
    const server = await fakeServer(t, decent);
    const { port } = server;
    const first = must(await Nfs3Client.mount({ ...options, port, mountPort: port }));
    must(await first.unmount());
    const last = server.calls.at(-1);
    assert.deepEqual([last?.program, last?.procedure], [100_005, 3]);
    assert.deepEqual(last?.args, xdr(Buffer.from('/export')));
    const second = must(await Nfs3Client.mount({ ...options, port, mountPort: port }));
    await server.stop();
    assert.equal((await second.unmount()).ok, false);
    const call = await second.getattr({ uid: 0, gid: 0, groups: [] }, second.root);
    assert.equal(mustFail(call).code, 'CLOSED');
  });

  it('lists exports and mounts', async (t) => {
    const text = (value: string) => Buffer.from(value);
    const exports = xdr(1, text('/a'), 1, text('10.0.0.0/8'), 1, text('h'), 0, 1, text('/b'), 0, 0);
    const mounts = xdr(1, text('host'), text('/a'), 0);
    const server = await fakeServer(t, (call) => (call.procedure === 5 ? exports : mounts));
    const at = { server: '127.0.0.1', mountPort: server.port };
    assert.deepEqual(must(await listExports(at)), [
      { directory: '/a', groups: ['10.0.0.0/8', 'h'] },
      { directory: '/b', groups: [] },
    ]);
    assert.deepEqual(must(await listMounts(at)), [{ hostname: 'host', directory: '/a' }]);
  });
});

describe('a connection', () => {
  const onread = { buffer: Buffer.alloc(16), callback: () => true };
  const { signal } = new AbortController();
  /** Ports from here on are anybody's. */
  const free = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));

  async function localPort(
    port: number,
    sourcePort: 'auto' | 'privileged' | 'any',
    favouritePort?: number,
  ) {
    const target = { host: '127.0.0.1', port, sourcePort, timeoutMs: 5000, favouritePort };
    const dialled = await dial(target, onread, signal);
    if (!dialled.ok) return dialled.error.reason;
    const used = dialled.value.localPort;
    dialled.value.destroy();
    return used;
  }

  it('comes from a privileged port where we may, and not where we are told', async (t) => {
    const { port } = await fakeServer(t, () => undefined);
    for (const sourcePort of ['auto', 'privileged'] as const) {
      const used = await localPort(port, sourcePort);
      assert.ok(typeof used === 'number' && used >= 665 && used <= 1023, `${used}`);
    }
    assert.ok(Number(await localPort(port, 'any')) >= 1024);
  });

  it('falls back to any port where we may not, unless we must', async (t) => {
    const { port } = await fakeServer(t, () => undefined);
    const uid = process.geteuid?.() ?? 0;
    if (uid === 0) process.seteuid?.(65_534);
    try {
      const mayNot = free > 1023;
      const auto = await localPort(port, 'auto');
      assert.equal(Number(auto) >= 1024, mayNot);
      const must = await localPort(port, 'privileged');
      assert.equal(must === 'localPort', mayNot);
    } finally {
      if (uid === 0) process.seteuid?.(0);
    }
  });

  it('leads to the last known address while names do not resolve', async (t) => {
    const { port } = await fakeServer(t, () => undefined);
    const target = { host: 'gone.invalid', port, sourcePort: 'any', timeoutMs: 5000 } as const;
    const lost = mustFail(await dial(target, onread, signal));
    assert.equal(lost.reason, 'unknownHost');
    must(await dial({ ...target, lastAddress: '127.0.0.1' }, onread, signal)).destroy();
  });

  it('comes from another port when the first is taken', async (t) => {
    const { port } = await fakeServer(t, () => undefined);
    const taken = Number(await localPort(port, 'privileged'));
    const squatter = createServer();
    squatter.listen(taken, '127.0.0.1');
    t.after(() => squatter.close());
    await until(() => squatter.listening);
    const used = Number(await localPort(port, 'privileged', taken));
    assert.ok(used !== taken && used >= 665 && used <= 1023, `${used}`);
  });
});
