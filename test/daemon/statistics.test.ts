import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Clock } from '../../src/base/clock.ts';
import { ServerStatistics } from '../../src/daemon/statistics.ts';
import { type CallEvent, rpcChannels } from '../../src/nfsc/index.ts';

describe('what has happened at the server', () => {
  it('is counted by procedure, for this server only', (t) => {
    const statistics = new ServerStatistics('images:2049', clock());
    t.after(() => statistics.close());
    const read = { procedure: 'READ', requestBytes: 100, replyBytes: 4224, contentBytes: 4096 };
    call({ ...read, durationMs: 2 });
    call({ ...read, durationMs: 2 });
    call({ ...read, outcome: 'NFS3ERR_STALE', contentBytes: 0, replyBytes: 50 });
    call({ procedure: 'WRITE', requestBytes: 1000, contentBytes: 900, outcome: 'NFS3_OK' });
    call({ procedure: 'READ', server: 'another:2049' });
    rpcChannels.retransmit.publish({ server: 'images:2049', procedure: 'READ', xid: 1, sends: 2 });
    rpcChannels.retransmit.publish({ server: 'another:2049', procedure: 'READ', xid: 1, sends: 2 });

    const { calls, readBytes, writtenBytes, retransmissions } = statistics.figures();
    assert.deepEqual(
      { readBytes, writtenBytes, retransmissions },
      {
        readBytes: 8192,
        writtenBytes: 900,
        retransmissions: 1,
      },
    );
    assert.deepEqual(
      calls.map(({ procedure }) => procedure),
      ['READ', 'WRITE'],
    );
    const [reads] = calls;
    assert.equal(reads?.calls, 3);
    assert.equal(reads.failures, 1);
    assert.equal(reads.sentBytes, 300);
    assert.equal(reads.receivedBytes, 2 * 4224 + 50);
    assert.ok(reads.medianMs !== undefined && Math.abs(reads.medianMs - 2) <= 0.25);
    assert.equal(statistics.callCount, 4);
  });

  it('does not call it a failure that a name is not there', (t) => {
    const statistics = new ServerStatistics('images:2049', clock());
    t.after(() => statistics.close());
    call({ procedure: 'LOOKUP', outcome: 'NFS3ERR_NOENT' });
    call({ procedure: 'LOOKUP', outcome: 'NFS3ERR_ACCES' });
    call({ procedure: 'REMOVE', outcome: 'NFS3ERR_NOENT' });
    const failures = statistics.figures().calls.map(({ procedure, calls, failures }) => {
      return [procedure, calls, failures];
    });
    assert.deepEqual(failures, [
      ['LOOKUP', 2, 1],
      ['REMOVE', 1, 1],
    ]);
  });

  it('leaves out what began before the mount', (t) => {
    const time = { nowMs: 1000 };
    const statistics = new ServerStatistics('images:2049', clock(time));
    t.after(() => statistics.close());
    call({ procedure: 'LOOKUP' });
    call({ procedure: 'READ', contentBytes: 10 });
    statistics.restart();
    time.nowMs = 1005;
    call({ procedure: 'READ', durationMs: 20, outcome: 'NFS3ERR_ISDIR' });
    call({ procedure: 'GETATTR', durationMs: 5 });
    const { calls, readBytes } = statistics.figures();
    assert.deepEqual(
      calls.map(({ procedure, calls }) => [procedure, calls]),
      [['GETATTR', 1]],
    );
    assert.equal(readBytes, 0);
    assert.equal(statistics.callCount, 4); // whatever happens keeps the process busy
  });

  it('includes for how long it has been away', (t) => {
    const time = { nowMs: 1000 };
    const statistics = new ServerStatistics('images:2049', clock(time));
    t.after(() => statistics.close());
    const say = (state: 'notResponding' | 'ok', server = 'images:2049') =>
      rpcChannels.server.publish({ server, state, message: '' });
    assert.equal(statistics.figures().state, 'up');
    say('notResponding', 'another:2049');
    assert.equal(statistics.figures().state, 'up');
    say('notResponding');
    time.nowMs = 4000;
    assert.deepEqual(pick(statistics), { state: 'notResponding', awayMs: 3000 });
    say('ok');
    assert.deepEqual(pick(statistics), { state: 'up', awayMs: undefined });
  });

  it('is not listened to any more when it is closed', () => {
    const statistics = new ServerStatistics('images:2049', clock());
    statistics.close();
    call({ procedure: 'READ' });
    assert.deepEqual(statistics.figures().calls, []);
  });
});

function pick(statistics: ServerStatistics) {
  const { state, awayMs } = statistics.figures();
  return { state, awayMs };
}

function call(event: Partial<CallEvent>): void {
  rpcChannels.call.publish({
    server: 'images:2049',
    procedure: 'NULL',
    xid: 1,
    durationMs: 1,
    requestBytes: 0,
    replyBytes: 0,
    contentBytes: 0,
    outcome: 'NFS3_OK',
    sends: 1,
    ...event,
  } satisfies CallEvent);
}

function clock(time = { nowMs: 0 }): Clock {
  return {
    monotonicMs: () => time.nowMs,
    wallNs: () => 0n,
    after: () => ({ cancel: () => undefined }),
  };
}
