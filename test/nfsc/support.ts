/**
 * What the tests of nfsc share: clients that are closed, servers that are stopped, events.
 */
import assert from 'node:assert/strict';
import type { Channel } from 'node:diagnostics_channel';
import type { TestContext } from 'node:test';
import type { Name } from '../../src/base/brand.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import type { Result } from '../../src/base/result.ts';
import { type MountOptions, Nfs3Client } from '../../src/nfsc/index.ts';
import { exportScript, type FakeServer, type Script, startFakeServer } from './fake-server.ts';

export const root: Credentials = { uid: 0, gid: 0, groups: [] };

export function name(text: string): Name {
  return Buffer.from(text) as Name;
}

/** The value, or a failed test. */
export function must<T>(result: Result<T, { message: string }>): T {
  assert.ok(result.ok, result.ok ? '' : result.error.message);
  return result.value;
}

/** The error, or a failed test. */
export function mustFail<E>(result: Result<unknown, E>): E {
  assert.ok(!result.ok, 'it succeeded');
  return result.error;
}

/** A scripted server that is stopped with the test. */
export async function fakeServer(t: TestContext, script: Script): Promise<FakeServer> {
  const server = await startFakeServer(script);
  t.after(() => server.stop());
  return server;
}

/** A mounted fake export; both ends are closed with the test. */
export async function fakeMount(
  t: TestContext,
  nfs: Script,
  options: Partial<MountOptions> = {},
): Promise<{ server: FakeServer; client: Nfs3Client }> {
  const server = await fakeServer(t, exportScript(nfs));
  const { port } = server;
  const mounted = await Nfs3Client.mount({
    server: '127.0.0.1',
    exportPath: '/export',
    port,
    mountPort: port,
    resvport: false,
    ...options,
  });
  const client = must(mounted);
  t.after(() => client.close());
  return { server, client };
}

/** What is published on a channel while the test runs. */
export function listen<Event>(t: TestContext, channel: Channel<unknown, unknown>): Event[] {
  const events: Event[] = [];
  const take = (event: unknown) => {
    events.push(event as Event);
  };
  channel.subscribe(take);
  t.after(() => channel.unsubscribe(take));
  return events;
}

/** Waits until `isSo`, and fails when that seems never to be. */
export async function until(isSo: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 60_000;
  while (!isSo()) {
    assert.ok(performance.now() < giveUpAtMs, `never: ${isSo}`);
    await new Promise((again) => setTimeout(again, 5));
  }
}
