import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Ino } from '../../src/base/brand.ts';
import { EventHub } from '../../src/daemon/event-hub.ts';
import { logServer, tellCache, tellFileSystem } from '../../src/daemon/events.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { rpcChannels } from '../../src/nfsc/index.ts';
import { silentLog } from '../../src/observe/log.ts';
import { ManualClock } from '../base/manual-clock.ts';

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

describe('those who follow the events', () => {
  it('are not told of files that the mount opens to try itself', () => {
    const hub = new EventHub(new ManualClock());
    let hasPrograms = false;
    const files = tellFileSystem(hub, silentLog, () => hasPrograms);
    files.fileOpened(3 as Ino, '');
    files.fileOpened(4 as Ino, '');
    files.fileClosed(3 as Ino, '');
    hasPrograms = true;
    files.fileClosed(4 as Ino, ''); // the kernel says so late
    files.fileOpened(4 as Ino, 'vm/a');
    files.fileClosed(4 as Ino, 'vm/a');
    assert.deepEqual(
      hub.since(0).map(({ event, path }) => [event, path]),
      [
        ['opened', 'vm/a'],
        ['closed', 'vm/a'],
      ],
    );
  });

  it('are told of files by their paths, each event with its number', () => {
    const hub = new EventHub(new ManualClock());
    const seen: string[] = [];
    hub.tell('serverDown');
    const stop = hub.subscribe(({ number, event, path, bytes, message }) => {
      seen.push(`${number} ${event} ${path} ${bytes} ${message}`);
    });
    const files = tellFileSystem(hub, silentLog, () => true);
    const cache = tellCache(hub, silentLog);
    files.fileOpened(3 as Ino, 'vm/a');
    files.dirty(3 as Ino, 'vm/a');
    cache.writtenBack({ path: '/vm/a', bytes: 4096 });
    cache.notSent('0f', '/vm/a', localError('ENOSPC', 'write', 'no room'));
    files.conflict(3 as Ino, 'vm/a');
    files.unsentDropped(3 as Ino, 'vm/a', 512);
    stop();
    files.clean(3 as Ino, 'vm/a');
    assert.deepEqual(seen, [
      '2 opened vm/a null null',
      '3 dirty vm/a null null',
      '4 writtenBack vm/a 4096 null',
      '5 notSent vm/a null no room',
      '6 conflict vm/a null null',
      '7 notSent vm/a 512 its file is gone: dropped',
    ]);
    assert.deepEqual(
      hub.since(6).map(({ number, event }) => [number, event]),
      [
        [7, 'notSent'],
        [8, 'clean'],
      ],
    );
  });

  it('find the last thousands of them, and a gap before', () => {
    const hub = new EventHub(new ManualClock());
    for (let count = 0; count < 5000; count++) hub.tell('clean');
    const kept = hub.since(0);
    assert.equal(kept.at(-1)?.number, 5000);
    assert.equal(kept.length, 4096);
    assert.equal(kept[0]?.number, 5000 - 4096 + 1);
  });
});
