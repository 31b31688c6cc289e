import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { removeStaleSockets } from '../../src/daemon/stale-sockets.ts';

describe('control sockets of other daemons', () => {
  let directory: string;
  let own: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gvfs-sockets-'));
    own = join(directory, 'own.sock');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('are taken away when nobody answers', async () => {
    const paths = ['dead.sock', 'dead.sock.4711', 'own.sock', 'dead'];
    await Promise.all(paths.map((name) => leaveSocket(join(directory, name))));
    assert.equal(await removeStaleSockets(own, 0), 2);
    assert.deepEqual(
      paths.map((name) => existsSync(join(directory, name))),
      [false, false, true, true],
    );
  });

  it('stay when they answer, are young, or are no sockets', async (t) => {
    const alive = createServer();
    t.after(() => alive.close());
    await new Promise<void>((done) => alive.listen(join(directory, 'alive.sock'), done));
    writeFileSync(join(directory, 'file.sock'), '');
    assert.equal(await removeStaleSockets(own, 0), 0);
    await leaveSocket(join(directory, 'young.sock'));
    assert.equal(await removeStaleSockets(own, 60_000), 0);
    for (const name of ['alive.sock', 'file.sock', 'young.sock']) {
      assert.ok(existsSync(join(directory, name)), name);
    }
  });

  it('need not be there, nor their directory', async () => {
    assert.equal(await removeStaleSockets(join(directory, 'nowhere', 'own.sock')), 0);
  });
});

/** As a daemon that is killed leaves it. */
async function leaveSocket(path: string): Promise<void> {
  const script = 'require("net").createServer().listen(process.argv[1], () => console.log("up"))';
  const daemon = spawn(process.execPath, ['-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(daemon.stdout, 'data');
  const ended = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await ended;
}
