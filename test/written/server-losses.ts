/** The server loses its power while it is being written back to, and with it what was UNSTABLE. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopDisk, withDisk } from '../mount/loop-disk.ts';
import { stopProcess } from '../mount/stopped.ts';
import type { Rounds } from './kills.ts';
import { chances, withWrittenExport, writeBack } from './written-export.ts';

const DISK_MIB = 128;
const IMAGE_BYTES = 8 << 20;
/** Slow enough for the loss to come in the middle. */
const LINK = { rttMs: 2, mbit: 200 };

/**
 * In each round a writer writes, and while `gvfs write-back` sends it the server stops, its disk
 * loses what was not committed, and another server comes up. The command has to succeed, and the
 * server's file then to be what was written.
 *
 * Names are made before, and nothing is truncated: the server does not make SETATTR durable.
 */
export async function serverLosses({ rounds, seed, write }: Rounds): Promise<void> {
  const chance = chances(seed);
  let losses = 0;
  await withDisk(LoopDisk.ext4(DISK_MIB), async (disk) => {
    const exportDir = join(disk.path, 'export');
    mkdirSync(exportDir);
    await withWrittenExport(
      async (written) => {
        const { place } = written;
        const { server, relay } = place;
        const image = written.image('disk.raw', IMAGE_BYTES);
        execFileSync('sync', ['-f', disk.path]);
        const mount = await place.mount(
          ...['session=exclusive', `write=${write}`, 'timeo=5', 'retrans=1'],
        );
        for (let round = 0; round < rounds; round += 1) {
          const when = `round ${round}, seed ${seed}`;
          const [writer] = await image.write(mount, 1, seed + 100 * round, { operations: 300 });
          await writer?.child.succeed();
          const before = (await relay.counters()).bytesToServer;
          const share = (1 << 18) + chance() * (1 << 20);
          let ended = false;
          const written = writeBack(mount, write, image.name).finally(() => {
            ended = true;
          });
          written.catch(() => undefined); // it is awaited below, after the server is back
          while (!ended && (await relay.counters()).bytesToServer - before < share) await sleep(2);
          await stopProcess(server.pid); // or it would tell of the disk that fails
          disk.cutPower();
          process.kill(server.pid, 'SIGKILL');
          await server.kill();
          disk.powerUp();
          if (!ended && !image.isAtServer()) losses += 1;
          await server.restart();
          await written;
          image.assertAtServer(`after ${when}`);
          execFileSync('sync', ['-f', disk.path]);
        }
        await mount.close();
        image.assertAtServer();
      },
      { exportDir, link: LINK },
    );
  });
  assert.ok(losses > 0, 'the server never lost anything in the middle of a write-back');
}
