/** The wire between client and server: two unshaped relays that count what crosses them. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ganesha } from '../peers/ganesha.ts';
import { type Relay, startRelay } from '../relay/start-relay.ts';

export interface Traffic {
  bytesToServer: number;
  bytesToClient: number;
  connections: number;
}

export interface Wire {
  /** Where the client finds the server's NFS and MOUNT. */
  readonly port: number;
  readonly mountPort: number;
  traffic(): Promise<Traffic>;
  /** Waits until the client has closed all connections; rejects after 10 s. */
  untilClosed(): Promise<void>;
  stop(): Promise<void>;
}

export async function wireTo(server: Ganesha): Promise<Wire> {
  const nfs = await startRelay({ to: { port: server.port } });
  const mount = await startRelay({ to: { port: server.mountPort } });
  const relays: readonly Relay[] = [nfs, mount];
  const counters = () => Promise.all(relays.map((relay) => relay.counters()));

  return {
    port: nfs.port,
    mountPort: mount.port,
    async traffic() {
      const sum = { bytesToServer: 0, bytesToClient: 0, connections: 0 };
      for (const each of await counters()) {
        sum.bytesToServer += each.bytesToServer;
        sum.bytesToClient += each.bytesToClient;
        sum.connections += each.connections;
      }
      return sum;
    },
    async untilClosed() {
      for (let tries = 0; tries < 200; tries++) {
        if ((await counters()).every((each) => each.openConnections === 0)) return;
        await sleep(50);
      }
      throw new Error('the daemon did not close its connections within 10 s of the unmount');
    },
    async stop() {
      for (const relay of relays) await relay.stop();
    },
  };
}
