import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Ino, Name } from '../../src/base/brand.ts';
import { changesToKernel, logServer } from '../../src/daemon/events.ts';
import { rpcChannels } from '../../src/nfsc/index.ts';
import { silentLog } from '../../src/observe/log.ts';

describe('changes of files', () => {
  it('reach the kernel one at a time for each file, and the last one always', async () => {
    const told: [number, () => void][] = [];
    const kernel = changesToKernel();
    kernel.changed(1 as Ino); // not mounted yet: the kernel knows nothing
    kernel.attach({
      invalidateInode: (ino) => new Promise((done) => told.push([ino, done])),
      invalidateAttributes: () => Promise.resolve(),
      invalidateEntry: () => Promise.resolve(),
    });
    for (const ino of [7, 7, 8, 7]) kernel.changed(ino as Ino);
    assert.deepEqual(
      told.map(([ino]) => ino),
      [7, 8],
    );
    for (const [, done] of told.splice(0)) done();
    await settle();
    assert.deepEqual(
      told.map(([ino]) => ino),
      [7],
    );
    for (const [, done] of told.splice(0)) done();
    await settle();
    assert.equal(told.length, 0);
    kernel.changed(7 as Ino);
    assert.deepEqual(
      told.map(([ino]) => ino),
      [7],
    );
  });
});

describe('names that not everybody may see any more', () => {
  it('are taken from the kernel', () => {
    const told: string[] = [];
    const kernel = changesToKernel();
    kernel.revoked(7 as Ino, [Buffer.from('before') as Name]); // not mounted yet
    kernel.attach({
      invalidateInode: () => Promise.resolve(),
      invalidateAttributes: () => Promise.resolve(),
      async invalidateEntry(parent, name) {
        told.push(`${parent} ${name}`);
      },
    });
    kernel.revoked(7 as Ino, [Buffer.from('a') as Name, Buffer.from('b') as Name]);
    assert.deepEqual(told, ['7 a', '7 b']);
  });
});

describe('what the client tells', () => {
  it('is logged for its own server, until it is no longer wanted', () => {
    const lines: string[] = [];
    const log = {
      ...silentLog,
      warn: (message: string) => lines.push(`warn ${message}`),
      info: (message: string) => lines.push(`info ${message}`),
    };
    const stop = logServer('a:1', log);
    const publish = (server: string, state: string) =>
      rpcChannels.server.publish({ server, state, message: `${server} ${state}` });
    publish('a:1', 'notResponding');
    publish('b:1', 'notResponding');
    publish('a:1', 'ok');
    stop();
    publish('a:1', 'notResponding');
    assert.deepEqual(lines, ['warn a:1 notResponding', 'info a:1 ok']);
  });
});

function settle(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}
