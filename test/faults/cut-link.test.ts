/** The network between a hard mount and its server fails in the middle of transfers. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGanesha } from '../../scripts/peers/ganesha.ts';
import { type Relay, startRelay } from '../../scripts/relay/start-relay.ts';
import { PYTHON } from '../mount/children.ts';
import { mountExport } from '../mount/mount-fixture.ts';

const COPY = `
import os, sys
source, target = sys.argv[1:]
with open(source, 'rb') as read, open(target, 'wb', buffering=0) as write:
    done = 0
    while piece := read.read(262144):
        while piece: piece = piece[write.write(piece):]
        done += 1
        print('piece', done, '.', flush=True)
    os.fsync(write.fileno())
`;

/** What happens to the link while bytes cross it. */
const faults: Record<string, (relay: Relay) => Promise<void>> = {
  'its connections are reset': (relay) => relay.drop(),
  'it carries nothing for a while': async (relay) => {
    await relay.cut();
    await sleep(1500);
    await relay.restore();
  },
  'it carries nothing, then its connections are reset': async (relay) => {
    await relay.cut();
    await sleep(700);
    await relay.drop();
    await relay.restore();
  },
};

for (const connections of [1, 4]) {
  describe(`a link that fails, with ${connections} connections`, () => {
    for (const [what, strike] of Object.entries(faults)) {
      it(`spoils no byte when ${what}`, async () => {
        const server = await startGanesha();
        const relay = await startRelay({ to: { port: server.port }, mbit: 160 });
        try {
          const content = randomBytes(6 << 20);
          writeFileSync(join(server.directory, 'source'), content);
          const mount = await mountExport(server, {
            port: relay.port,
            options: ['hard', 'timeo=5', 'retrans=2', `nconnect=${connections}`],
          });
          try {
            const copy = await mount.children.start(PYTHON, [
              ...['-c', COPY, `${mount.mountpoint}/source`, `${mount.mountpoint}/target`],
            ]);
            for (const mark of [3, 12]) {
              await copy.says(`piece ${mark} .`);
              await strike(relay);
            }
            await copy.succeed();
            assert.equal(
              sha256(readFileSync(join(server.directory, 'target'))),
              sha256(content),
              'the copy',
            );
          } finally {
            await mount.close();
          }
        } finally {
          await relay.stop();
          await server.stop();
        }
      });
    }
  });
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
