/** Two hosts and one image: what each of them may rely on. */
import { describe, it } from 'node:test';
import { Expected, handOvers, withTwoHosts } from './hand-overs.ts';
import { chances } from './written-export.ts';

const PAGE_BYTES = 4096;
const PAGES = 256;

describe('two hosts with one image, in exclusive sessions', () => {
  it('hand it over by a flush on one and a flush on the other', () => handOvers(20, 5, 'back'));
});

describe('two hosts with one image, in shared sessions', () => {
  for (const write of ['through', 'back'] as const) {
    const options = ['session=shared', `write=${write}`];

    it(`see at an open what the other has closed (write=${write})`, async () => {
      await withTwoHosts(options, async (hosts, image) => {
        const expected = new Expected(image, chances(9));
        for (let turn = 0; turn < 10; turn += 1) {
          const [one, other] = turn % 2 === 0 ? hosts : ([hosts[1], hosts[0]] as const);
          await expected.change(one.actor, true);
          expected.assertAtServer(image, `turn ${turn}`);
          await expected.assertSeenBy(other.actor, `turn ${turn}`);
        }
      });
    });

    it(`write different pages of it at the same time, and both are kept (write=${write})`, async () => {
      await withTwoHosts(options, async (hosts, image) => {
        const chance = chances(10);
        const expected = new Expected(image, chance);
        for (let turn = 0; turn < 3; turn += 1) {
          for (const { actor } of hosts) await actor.hold();
          for (let count = 0; count < 20; count += 1) {
            const who = chance() < 0.5 ? 0 : 1;
            const page = 2 * Math.floor((chance() * PAGES) / 2) + who;
            const from = chance() < 0.5 ? 0 : Math.floor(chance() * 2000);
            const length = from === 0 ? PAGE_BYTES : 1 + Math.floor(chance() * 2000);
            await expected.write(hosts[who].actor, page * PAGE_BYTES + from, length);
            if (chance() < 0.2) await hosts[who].actor.sync();
          }
          for (const { actor } of hosts) await actor.leave();
          expected.assertAtServer(image, `turn ${turn}`);
          // Whose change it was nobody can tell: so each is told to believe nothing.
          for (const { control } of hosts) await control.flush(image.name);
          for (const { actor } of hosts) await expected.assertSeenBy(actor, `turn ${turn}`);
        }
      });
    });
  }
});
