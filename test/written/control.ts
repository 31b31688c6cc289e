/** The middleware's words, spoken over the control socket: no process for each of thousands. */
import assert from 'node:assert/strict';
import type { Result } from '../../src/base/result.ts';
import {
  type CallFailure,
  type ControlClient,
  connectTo,
} from '../../src/daemon/control/client.ts';
import type { ResultOf } from '../../src/daemon/control/schema.ts';
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

  close(): void {
    this.#client.close();
  }
}

function assertSent(answer: Result<ResultOf<'writeBack'>, CallFailure>): void {
  assert.ok(answer.ok, JSON.stringify(answer));
  const { unsentBytes, failed } = answer.value;
  assert.deepEqual({ unsentBytes, failed }, { unsentBytes: 0, failed: [] });
}
