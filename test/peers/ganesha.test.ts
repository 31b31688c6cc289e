import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { type Ganesha, type GaneshaOptions, startGanesha } from '../../scripts/peers/ganesha.ts';
import { call, words } from './call.ts';

const NFS = 100_003;
const MOUNT = 100_005;

describe('a private nfs-ganesha', () => {
  const servers: Ganesha[] = [];

  async function start(options?: GaneshaOptions): Promise<Ganesha> {
    const server = await startGanesha(options);
    servers.push(server);
    return server;
  }

  afterEach(async () => {
    for (const server of servers.splice(0)) await server.stop();
  });

  it('answers NULL of NFS 3 and of MOUNT 3', async () => {
    const server = await start();
    assert.deepEqual(await nullOf(server.port, NFS), [1, 0, 0, 0, 0]);
    assert.deepEqual(await nullOf(server.mountPort, MOUNT), [1, 0, 0, 0, 0]);
  });

  it('mounts its export under its short name and refuses another', async () => {
    const server = await start();
    assert.equal((await mount(server, server.exportPath)).status, 0);
    assert.equal((await mount(server, '/elsewhere')).status, 13); // MNT3ERR_ACCES
  });

  it('refuses an unprivileged port when told so: not at MNT, but at the first NFS call', async () => {
    const open = await start();
    const strict = await start({ privilegedPort: true });
    assert.deepEqual(await fsinfo(open), [1, 0, 0, 0, 0, 0]); // accepted, NFS3_OK
    assert.deepEqual(await fsinfo(strict), [1, 1, 1, 5]); // denied, AUTH_ERROR, AUTH_TOOWEAK
  });

  it('keeps its ports when it is restarted', async () => {
    const server = await start();
    const { port, pid } = server;
    await server.restart();
    assert.equal(server.port, port);
    assert.notEqual(server.pid, pid);
    assert.ok(!runs(pid));
    assert.deepEqual(await nullOf(port, NFS), [1, 0, 0, 0, 0]);
  });

  it('is gone after kill() and back after restart()', async () => {
    const server = await start();
    const { port, pid } = server;
    await server.kill();
    assert.ok(!runs(pid));
    await assert.rejects(nullOf(port, NFS), { code: 'ECONNREFUSED' });
    await server.restart();
    assert.deepEqual(await nullOf(port, NFS), [1, 0, 0, 0, 0]);
  });

  it('answers after resume() what was asked while it was paused', async () => {
    const server = await start();
    server.pause();
    let answered = false;
    const reply = nullOf(server.port, NFS).finally(() => {
      answered = true;
    });
    await untilStopped(server.pid);
    assert.equal(answered, false);
    server.resume();
    assert.deepEqual(await reply, [1, 0, 0, 0, 0]);
  });

  it('leaves neither process nor state after stop(), even when paused', async () => {
    const server = await start();
    const { pid, directory } = server;
    server.pause();
    await server.stop();
    assert.ok(!runs(pid));
    assert.ok(!existsSync(directory));
  });

  it('leaves a directory that it was given', async () => {
    const exportDir = mkdtempSync(join(tmpdir(), 'gvfs-export-'));
    try {
      const server = await start({ exportDir });
      assert.equal(server.directory, exportDir);
      await server.stop();
      assert.ok(existsSync(exportDir));
    } finally {
      rmSync(exportDir, { recursive: true });
    }
  });
});

/** The words of a NULL reply after its xid: REPLY, MSG_ACCEPTED, no verifier, SUCCESS. */
async function nullOf(port: number, program: number): Promise<number[]> {
  return words(await call({ port, program, version: 3, procedure: 0 })).slice(1);
}

/** MNT (RFC 1813, section 5.2.1): mountstat3, and the root's file handle still encoded. */
async function mount(server: Ganesha, path: string): Promise<{ status: number; root: Buffer }> {
  const body = Buffer.alloc(4 + Math.ceil(path.length / 4) * 4);
  body.writeUInt32BE(path.length);
  body.write(path, 4);
  const reply = await call({
    port: server.mountPort,
    program: MOUNT,
    version: 3,
    procedure: 1,
    body,
  });
  const status = reply.readUInt32BE(24);
  return { status, root: status === 0 ? reply.subarray(28, 32 + reply.readUInt32BE(28)) : reply };
}

/** FSINFO of the export's root: the reply's words after its xid, up to the status. */
async function fsinfo(server: Ganesha): Promise<number[]> {
  const { root } = await mount(server, server.exportPath);
  const { port } = server;
  const reply = await call({ port, program: NFS, version: 3, procedure: 19, body: root });
  return words(reply).slice(1, 7);
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Waits until the kernel shows the process as stopped. */
async function untilStopped(pid: number): Promise<void> {
  while (!/^State:\s+T/m.test(await readFile(`/proc/${pid}/status`, 'utf8'))) {
    await new Promise((again) => setTimeout(again, 10));
  }
}
