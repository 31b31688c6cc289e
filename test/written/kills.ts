/** kill -9 of the daemon, again and again, under writers. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  acknowledged,
  chances,
  type Image,
  type WritePolicy,
  withWrittenExport,
  writeBack,
} from './written-export.ts';

const COMMON_BYTES = 4 << 20;
const FRESH_BYTES = 2 << 20;

export interface Rounds {
  readonly rounds: number;
  readonly seed: number;
  readonly write: WritePolicy;
  /** What node is to run instead of the built `gvfs-mount`. */
  readonly program?: readonly string[];
}

/**
 * In each round writers write to an image that lives through all rounds and to a new one, of which
 * nothing is in the cache yet; the daemon is killed at a random moment, and the next one has to show
 * every acknowledged write. Some rounds send nothing meanwhile, in some it is being sent all the
 * time. At the end all of it is at the server.
 */
export async function killRounds({ rounds, seed, write, program }: Rounds): Promise<void> {
  const chance = chances(seed);
  let total = 0;
  await withWrittenExport(
    async (written) => {
      const { place } = written;
      const common = written.image('common.raw', COMMON_BYTES);
      let fresh: Image | undefined;
      const verify = async (when: string) => {
        const mount = await place.mount('session=exclusive', ...policy(write, chance));
        await common.assertKept(mount, 'acknowledged', when);
        await fresh?.assertKept(mount, 'acknowledged', when);
        return mount;
      };
      for (let round = 0; round < rounds; round += 1) {
        const when = `round ${round}, seed ${seed}`;
        const mount = await verify(`before ${when}`);
        if (fresh !== undefined && chance() < 0.3) {
          await writeBack(mount, write);
          fresh.assertAtServer(`written back in ${when}`);
          common.assertAtServer(`written back in ${when}`);
        }
        fresh = written.image(`fresh-${round}.raw`, FRESH_BYTES);
        const truncates = chance() < 0.3;
        await common.write(mount, 2, seed + 100 * round, { direct: chance() < 0.2 });
        await fresh.write(mount, 1, seed + 100 * round + 50, { truncates });
        await sleep(20 + 600 * chance());
        await mount.crash();
        for (const { child } of [...common.writers, ...fresh.writers]) await child.finish();
        total += acknowledged(common) + acknowledged(fresh);
      }
      const last = await verify(`at the end, seed ${seed}`);
      await writeBack(last, write);
      await last.close();
      written.assertAtServer();
    },
    program === undefined ? {} : { program },
  );
  assert.ok(total > 10 * rounds, `only ${total} writes were acknowledged in ${rounds} rounds`);
}

/** Mount options of a policy; how old a write becomes before it is sent is not always the same. */
export function policy(write: WritePolicy, chance: () => number): string[] {
  if (write !== 'back') return [`write=${write}`];
  return ['write=back', `writeback_age=${chance() < 0.5 ? 1 : 30}`];
}
