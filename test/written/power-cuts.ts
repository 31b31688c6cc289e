/** The host loses its power, again and again, under writers that fsync. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopDisk, withDisk } from '../mount/loop-disk.ts';
import { policy, type Rounds } from './kills.ts';
import { pretendReboot } from './reboot.ts';
import { acknowledged, chances, withWrittenExport, writeBack } from './written-export.ts';

const DISK_MIB = 192;
const IMAGE_BYTES = 4 << 20;

/**
 * In each round the daemon stops dead at a random moment, its cache's disk loses what nobody had made
 * durable, and the next daemon finds itself in another boot: it has to show every write that was
 * acknowledged before an fsync that succeeded, or before a write-back that did, and nothing foreign.
 * What it shows is there to stay.
 */
export async function powerCuts({ rounds, seed, write, program }: Rounds): Promise<void> {
  const chance = chances(seed);
  let total = 0;
  let maps = 0;
  await withDisk(LoopDisk.ext4(DISK_MIB), async (disk) => {
    const cacheAt = join(disk.path, 'cache');
    await withWrittenExport(
      async (written) => {
        const { place } = written;
        const images = [
          written.image('one.raw', IMAGE_BYTES),
          written.image('other.raw', IMAGE_BYTES),
        ] as const;
        const verified = async (when: string) => {
          const mount = await place.mount('session=exclusive', ...policy(write, chance));
          for (const image of images) await image.assertKept(mount, 'synced', when);
          return mount;
        };
        for (let round = 0; round < rounds; round += 1) {
          const when = `round ${round}, seed ${seed}`;
          const mount = await verified(`before ${when}`);
          const [one, other] = images;
          await one.write(mount, 2, seed + 100 * round, { syncs: 0.02 + 0.1 * chance() });
          await other.write(mount, 1, seed + 100 * round + 50, { truncates: chance() < 0.3 });
          await sleep(20 + 400 * chance());
          if (chance() < 0.3) {
            await other.whileWrittenBack(() => writeBack(mount, write, other.name));
          }
          await sleep(400 * chance());
          await mount.stopDead(() => disk.cutPower());
          for (const { child } of images.flatMap(({ writers }) => writers)) await child.finish();
          for (const image of images) total += acknowledged(image);
          disk.powerUp();
          maps += pretendReboot(cacheAt);
        }
        const last = await verified(`at the end, seed ${seed}`);
        await writeBack(last, write);
        await last.close();
        written.assertAtServer();
      },
      { cacheAt, ...(program === undefined ? {} : { program }) },
    );
  });
  assert.ok(total > 10 * rounds, `only ${total} writes were acknowledged in ${rounds} rounds`);
  assert.ok(write === 'through' || maps > 0, 'no map was ever left by a power cut');
}
