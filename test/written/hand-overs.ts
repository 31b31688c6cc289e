/** Two hosts, that is two daemons with a cache each, and one image that both of them write to. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { cacheDirectory } from '../mount/cache-directory.ts';
import { type Mount, mountExport } from '../mount/mount-fixture.ts';
import { Actor } from './actor.ts';
import { Control } from './control.ts';
import { cellsOf, untouched } from './journal.ts';
import { chances, type Image, type WrittenExport, withWrittenExport } from './written-export.ts';

const IMAGE_BYTES = 1 << 20;
const TAG = 0x2057_1e5d;

/** A host: its mount, its program on the image, and its middleware. */
export interface Host {
  readonly mount: Mount;
  readonly actor: Actor;
  readonly control: Control;
}

/** Both hosts mount with the same options; all of it is gone afterwards. */
export async function withTwoHosts(
  options: readonly string[],
  body: (hosts: readonly [Host, Host], image: Image, written: WrittenExport) => Promise<void>,
): Promise<void> {
  await withWrittenExport(async (written) => {
    const image = written.image('disk.raw', IMAGE_BYTES);
    const otherCache = cacheDirectory();
    const { place } = written;
    const other = { port: place.relay.port, cacheDirectory: otherCache.path, options };
    const mounts = [await place.mount(...options), await mountExport(place.server, other)] as const;
    const controls: Control[] = [];
    try {
      const host = async (mount: Mount): Promise<Host> => {
        const actor = await Actor.on(mount, image.name);
        const control = await Control.of(mount);
        controls.push(control);
        return { mount, actor, control };
      };
      const hosts = [await host(mounts[0]), await host(mounts[1])] as const;
      await body(hosts, image, written);
      for (const { actor } of hosts) await actor.end();
    } finally {
      for (const control of controls) control.close();
      try {
        await mounts[1].close();
      } finally {
        otherCache.remove();
      }
    }
  });
}

/** What the image has to be, as one after the other changes it. */
export class Expected {
  bytes = untouched(0, 0);
  readonly #chance: () => number;
  #sequence = 0;

  constructor(image: Image, chance: () => number) {
    this.bytes = readFileSync(image.pathAtServer);
    this.#chance = chance;
  }

  /** Lets the actor write some pieces, within pages or over several of them. */
  async change(actor: Actor, cuts: boolean): Promise<void> {
    const chance = this.#chance;
    for (let count = 1 + Math.floor(4 * chance()); count > 0; count -= 1) {
      this.#sequence += 1;
      if (cuts && chance() < 0.05) {
        const size = Math.floor(IMAGE_BYTES * (0.5 + 0.5 * chance()));
        assert.equal(await actor.cut(size), 'done');
        this.#resize(size);
        continue;
      }
      const length = 1 + Math.floor(chance() < 0.5 ? 5000 * chance() : 60_000 * chance());
      const offset = Math.floor((IMAGE_BYTES - length) * chance());
      await this.write(actor, offset, length);
    }
  }

  async write(actor: Actor, offset: number, length: number): Promise<void> {
    this.#sequence += 1;
    const piece = cellsOf(TAG, this.#sequence, offset, length);
    assert.equal(await actor.write(offset, piece), 'done');
    if (offset + length > this.bytes.length) this.#resize(offset + length);
    piece.copy(this.bytes, offset);
  }

  async assertSeenBy(actor: Actor, when: string): Promise<void> {
    assert.ok(await actor.sees(this.bytes), when);
  }

  assertAtServer(image: Image, when: string): void {
    assert.ok(readFileSync(image.pathAtServer).equals(this.bytes), `${when}, at the server`);
  }

  #resize(size: number): void {
    const bytes = Buffer.alloc(size);
    this.bytes.copy(bytes);
    this.bytes = bytes;
  }
}

/**
 * The image goes to and fro: one host writes and flushes, the other flushes and finds all of it. In
 * some turns a program has it open all the time.
 */
export async function handOvers(turns: number, seed: number, write: string): Promise<void> {
  const chance = chances(seed);
  await withTwoHosts(['session=exclusive', `write=${write}`], async (hosts, image) => {
    const expected = new Expected(image, chance);
    for (let turn = 0; turn < turns; turn += 1) {
      const when = `turn ${turn}, seed ${seed}`;
      const [one, other] = turn % 2 === 0 ? hosts : ([hosts[1], hosts[0]] as const);
      const holds = chance() < 0.3;
      if (holds) await other.actor.hold();
      await expected.change(one.actor, true);
      await one.control.flush(image.name);
      expected.assertAtServer(image, when);
      await other.control.flush(image.name);
      await expected.assertSeenBy(other.actor, when);
      if (holds) assert.equal(await other.actor.leave(), 'done');
    }
  });
}
