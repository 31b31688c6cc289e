/** The middleware's words, spoken over the control socket: no process for each of thousands. */
import assert from 'node:assert/strict';
import type { Result } from '../../src/base/result.ts';
import {
  type CallFailure,
  type ControlClient,
  connectTo,
} from '../../src/daemon/control/client.ts';
import type { ResultOf, Status } from '../../src/daemon/control/schema.ts';
import { socketPath } from '../../src/daemon/control/socket-path.ts';
import type { Mount } from '../mount/mount-fixture.ts';

export class Control {
  readonly #client: ControlClient;

  static async of(mount: Mount): Promise<Control> {
    const socket = await connectTo(socketPath(mount.mountpoint, { uid: 0, env: {} }));
    assert.ok(socket.ok, JSON.stringify(socket));
    return new Control(socket.value);
  }

  private constructor(client: ControlClient) {
    this.#client = client;
  }

  /** Returns when the server has all of the file, or of the mount, and asserts that it has. */
  async writeBack(name = ''): Promise<void> {
    assertSent(await this.#client.call('writeBack', name === '' ? {} : { path: name }));
  }

  async flush(name = ''): Promise<void> {
    assertSent(await this.#client.call('flush', name === '' ? {} : { path: name }));
  }

  /** What could not be sent, by path, and why; what it says must be the whole truth. */
  async writeBackInVain(name: string): Promise<string> {
    const answer = await this.#client.call('writeBack', { path: name });
    assert.ok(answer.ok, JSON.stringify(answer));
    const [failed, ...others] = answer.value.failed;
    assert.ok(failed !== undefined && others.length === 0, JSON.stringify(answer.value));
    assert.equal(failed.path, name);
    assert.ok(answer.value.unsentBytes > 0);
    return failed.errno;
  }

  async resolve(name: string, keep: 'mine' | 'theirs'): Promise<void> {
    assertSent(await this.#client.call('resolve', { path: name, keep }));
  }

  async unsent(): Promise<Status['unsent']> {
    const status = await this.#client.call('status', {});
    assert.ok(status.ok, JSON.stringify(status));
    return status.value.unsent;
  }

  close(): void {
    this.#client.close();
  }
}

function assertSent(answer: Result<ResultOf<'writeBack'>, CallFailure>): void {
  assert.ok(answer.ok, JSON.stringify(answer));
  const { unsentBytes, failed } = answer.value;
  assert.deepEqual({ unsentBytes, failed }, { unsentBytes: 0, failed: [] });
}
