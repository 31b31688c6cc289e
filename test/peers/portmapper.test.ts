import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Portmapper, startPortmapper } from '../../scripts/peers/portmapper.ts';
import { call, words } from './call.ts';

describe('the portmapper peer', () => {
  let portmapper: Portmapper;

  before(async () => {
    portmapper = await startPortmapper([
      { program: 100_003, version: 3, port: 2049 },
      { program: 100_005, version: 3, protocol: 17, port: 20_048 },
    ]);
  });

  after(() => portmapper.stop());

  async function pmap(procedure: number, args: number[] = [], version = 2, program = 100_000) {
    const body = Buffer.alloc(4 * args.length);
    for (const [index, word] of args.entries()) body.writeUInt32BE(word, 4 * index);
    return words(await call({ port: portmapper.port, program, version, procedure, body })).slice(5);
  }

  it('answers GETPORT from its table, and 0 for what is not there', async () => {
    assert.deepEqual(await pmap(3, [100_003, 3, 6, 0]), [0, 2049]);
    assert.deepEqual(await pmap(3, [100_005, 3, 17, 0]), [0, 20_048]);
    assert.deepEqual(await pmap(3, [100_005, 3, 6, 0]), [0, 0]);
    assert.deepEqual(await pmap(3, [100_003, 4, 6, 0]), [0, 0]);
  });

  it('answers NULL and DUMP', async () => {
    assert.deepEqual(await pmap(0), [0]);
    assert.deepEqual(await pmap(4), [0, 1, 100_003, 3, 6, 2049, 1, 100_005, 3, 17, 20_048, 0]);
  });

  it('refuses another procedure, version or program', async () => {
    assert.deepEqual(await pmap(9), [3]);
    assert.deepEqual(await pmap(3, [], 3), [2, 2, 2]);
    assert.deepEqual(await pmap(0, [], 2, 100_003), [1]);
  });

  it('counts its calls', async () => {
    const before = portmapper.calls;
    await pmap(0);
    assert.equal(portmapper.calls, before + 1);
  });
});
