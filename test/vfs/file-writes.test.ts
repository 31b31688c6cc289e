import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryServer } from './memory-server.ts';
import { alice, by, errno, gate, Mounted, O_RDWR, settled, value } from './mounted.ts';

describe('writes', () => {
  it('are at the server, unstable, when they are answered, and durable after fsync', async () => {
    const mounted = new Mounted();
    const { server } = mounted;
    const { ino, handle } = await mounted.create('/image');
    assert.equal(value(await mounted.write(handle, 0, 'hello')), 5);
    assert.equal(server.bytesOf('/image').toString(), 'hello');
    assert.equal(server.stableBytesOf('/image').length, 0);
    assert.equal(await mounted.size(ino), 5);
    value(await mounted.fsync(handle));
    assert.equal(server.stableBytesOf('/image').toString(), 'hello');
    assert.equal(server.count('commit'), 1);
    value(await mounted.fsync(handle));
    assert.equal(server.count('commit'), 1, 'nothing to commit, nothing asked');
    assert.equal(mounted.payloads, 0);
    assert.equal(mounted.fs.figures().heldBytes, 0);
  });

  it('that are long go out in parts, all at once, and arrive whole', async () => {
    const mounted = new Mounted();
    const { server } = mounted;
    const { handle } = await mounted.create('/image');
    const bytes = Buffer.alloc(1 << 20, 'a long write ');
    const answers = gate();
    let inFlight = 0;
    server.before = ({ procedure }) => {
      if (procedure !== 'write') return undefined;
      inFlight += 1;
      return answers.opened;
    };
    const writing = mounted.write(handle, 4096, bytes);
    await settled();
    assert.equal(inFlight, 2);
    answers.open();
    assert.equal(value(await writing), bytes.length);
    value(await mounted.fsync(handle));
    assert(server.stableBytesOf('/image').subarray(4096).equals(bytes));
    assert.equal(mounted.payloads, 0);
  });

  it('are sent again when the server restarted before the COMMIT', async () => {
    const resent: number[] = [];
    const mounted = new Mounted({}, { resending: (_ino, bytes) => resent.push(bytes) });
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'aaaa');
    await mounted.write(handle, 8, 'bbbb');
    mounted.server.restart();
    assert.equal(mounted.server.bytesOf('/image').length, 0);
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'aaaa\0\0\0\0bbbb');
    assert.deepEqual(resent, [8]);
  });

  it('are sent again when only a later WRITE tells of the restart', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'aaaa');
    mounted.server.restart();
    await mounted.write(handle, 4, 'bbbb');
    await settled();
    assert.equal(mounted.server.bytesOf('/image').toString(), 'aaaabbbb', 'without an fsync');
  });

  it('are sent once more when the server restarts between the parts of a resend', async () => {
    const server = new MemoryServer();
    const mounted = new Mounted({}, {}, server);
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abcdefgh');
    server.restart();
    server.maxWriteBytes = 4;
    let sent = 0;
    server.before = async ({ procedure }) => {
      if (procedure !== 'write') return;
      sent += 1;
      if (sent === 2) server.restart();
    };
    value(await mounted.fsync(handle));
    assert.equal(server.stableBytesOf('/image').toString(), 'abcdefgh');
  });

  it('are read back, with their size, from a server that has lost them', async () => {
    const mounted = new Mounted({ acregminMs: 0, acregmaxMs: 0 });
    mounted.server.putFile('/image', '0123456789');
    const { ino } = await mounted.walk('/image');
    const handle = await mounted.open('/image', O_RDWR);
    await mounted.write(handle, 8, 'xxxx');
    await mounted.write(handle, 2, 'yy');
    mounted.server.restart();
    assert.equal(await mounted.size(ino), 12);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), '01yy4567xxxx');
    assert.equal(mounted.server.unreleasedReads, 0);
  });

  it('never undo a later write of the same bytes when they are sent again', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'oldoldold');
    await mounted.write(handle, 3, 'new');
    mounted.server.restart();
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'oldnewold');
  });

  it('never undo a later durable write of the same bytes', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'oldoldold');
    const O_SYNC = 0o4010000;
    const synced = await mounted.open('/image', O_RDWR | O_SYNC);
    await mounted.write(synced, 3, 'new');
    mounted.server.restart();
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'oldnewold');
  });

  it('do not come back after a truncation', async () => {
    const mounted = new Mounted();
    const { ino, handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abcdefgh');
    const cut = value(await mounted.fs.setattr(by(alice), ino, { size: 3 }, handle));
    assert.equal(cut.attributes.size, 3);
    value(await mounted.fs.setattr(by(alice), ino, { size: 6 }, handle));
    mounted.server.restart();
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'abc\0\0\0');
    assert.equal(await mounted.size(ino), 6);
  });

  it('wait for a truncation under way, and it for the WRITEs before it', async () => {
    const mounted = new Mounted();
    const { server, fs } = mounted;
    const { ino, handle } = await mounted.create('/image');
    const hold = gate();
    server.before = (call) => (call.procedure === 'write' ? hold.opened : undefined);
    const first = mounted.write(handle, 0, 'abcdefgh');
    const cut = fs.setattr(by(alice), ino, { size: 2 }, handle);
    const second = mounted.write(handle, 4, 'xy');
    await settled();
    assert.deepEqual(
      server.calls.map((call) => call.procedure).filter((it) => it !== 'create'),
      ['write'],
      'the truncation is not sent before the WRITE is answered',
    );
    hold.open();
    await Promise.all([first, cut, second]);
    assert.equal(server.bytesOf('/image').toString(), 'ab\0\0xy');
    assert.equal(await mounted.size(ino), 6);
  });

  it('of one range are not in flight together', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    const hold = gate();
    let held = 0;
    mounted.server.before = (call) => {
      if (call.procedure !== 'write') return undefined;
      held += 1;
      return held === 1 ? hold.opened : undefined;
    };
    const writes = [mounted.write(handle, 0, 'aaaa'), mounted.write(handle, 2, 'bbbb')];
    const other = mounted.write(handle, 100, 'c');
    assert.equal(value(await other), 1, 'another range does not wait');
    assert.equal(held, 2);
    hold.open();
    await Promise.all(writes);
    assert.equal(mounted.server.bytesOf('/image').subarray(0, 6).toString(), 'aabbbb');
  });

  it('answered out of order do not shrink the file', async () => {
    const mounted = new Mounted();
    const { ino, handle } = await mounted.create('/image');
    const hold = gate();
    let answered = 0;
    mounted.server.after = (call) => {
      if (call.procedure !== 'write') return undefined;
      answered += 1;
      return answered === 1 ? hold.opened : undefined;
    };
    const slow = mounted.write(handle, 0, 'aaaa');
    await settled();
    await mounted.write(handle, 4, 'bbbb');
    assert.equal(await mounted.size(ino), 8);
    hold.open();
    await slow;
    assert.equal(await mounted.size(ino), 8);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'aaaabbbb');
  });

  it('of a server that tells no attributes show their size at once', async () => {
    const mounted = new Mounted();
    const { ino, handle } = await mounted.create('/image');
    mounted.server.omitWcc = true;
    await mounted.write(handle, 0, 'aaaa');
    assert.equal(await mounted.size(ino), 4);
    await mounted.write(handle, 4, 'bbbb');
    const { attributes } = value(await mounted.fs.getattr(by(alice), ino));
    assert.equal(attributes.size, 8);
    assert.equal(attributes.mtimeNs, mounted.server.attributesAt('/image').mtimeNs);
  });

  it('are split and continued as the server takes them', async () => {
    const server = new MemoryServer();
    server.limits.writeMax = 10;
    server.maxWriteBytes = 7;
    const mounted = new Mounted({}, {}, server);
    const { handle } = await mounted.create('/image');
    const bytes = Buffer.from('the quick brown fox jumps over the lazy dog');
    assert.equal(value(await mounted.write(handle, 3, bytes)), bytes.length);
    value(await mounted.fsync(handle));
    assert.deepEqual(server.stableBytesOf('/image').subarray(3), bytes);
  });

  it('answer what was written before the first failure', async () => {
    const server = new MemoryServer();
    server.limits.writeMax = 4;
    const mounted = new Mounted({}, {}, server);
    const { handle } = await mounted.create('/image');
    let sent = 0;
    server.fail = (call) => {
      if (call.procedure !== 'write') return undefined;
      sent += 1;
      return sent === 2 ? 'NFS3ERR_NOSPC' : undefined;
    };
    assert.equal(value(await mounted.write(handle, 0, 'aaaabbbbcccc')), 4);
    sent = 1;
    assert.equal(errno(await mounted.write(handle, 4, 'bbbb')), 'ENOSPC');
    assert.equal(mounted.payloads, 0);
  });

  it('are kept when a COMMIT fails, and committed by the next fsync', async () => {
    const failures: string[] = [];
    const mounted = new Mounted(
      {},
      { writeBackFailed: (_ino, bytes, { errno: why }) => failures.push(`${bytes} ${why}`) },
    );
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abc');
    mounted.server.fail = (call) => (call.procedure === 'commit' ? 'NFS3ERR_IO' : undefined);
    assert.equal(errno(await mounted.fsync(handle)), 'EIO');
    assert.deepEqual(failures, ['3 EIO']);
    mounted.server.fail = () => undefined;
    mounted.server.restart();
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'abc');
  });

  it('to a file that another client deleted are told as lost, once a handle', async () => {
    const lost: number[] = [];
    const mounted = new Mounted({}, { writesLost: (_ino, bytes) => lost.push(bytes) });
    const { ino, handle } = await mounted.create('/image');
    const other = value(await mounted.fs.open(by(alice), ino, O_RDWR)).handle;
    await mounted.write(handle, 0, 'abc');
    mounted.server.deletePath('/image');
    assert.equal(errno(await mounted.fsync(handle)), 'ESTALE');
    assert.equal(errno(await mounted.fsync(handle)), 'ok');
    assert.equal(errno(await mounted.fs.flush(by(alice), other)), 'ESTALE');
    assert.equal(errno(await mounted.fs.flush(by(alice), other)), 'ok');
    assert.deepEqual(lost, [3]);
    assert.equal(mounted.fs.figures().heldBytes, 0);
  });

  it('are committed at close, and what a failed close left in the background', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abc');
    mounted.server.fail = (call) => (call.procedure === 'commit' ? 'NFS3ERR_IO' : undefined);
    assert.equal(errno(await mounted.fs.flush(by(alice), handle)), 'EIO');
    mounted.fs.release(handle);
    await settled();
    mounted.server.fail = () => undefined;
    mounted.clock.advance(10_000);
    await settled();
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'abc');
    assert.equal(mounted.fs.figures().heldBytes, 0);
  });

  it('that outlive their killed writer are committed all the same, of one inode', async () => {
    const mounted = new Mounted({ nameCacheEntries: 1 });
    const { server, fs } = mounted;
    server.putFile('/other', '');
    const { ino, handle } = await mounted.create('/image');
    const hold = gate();
    server.before = (call) => (call.procedure === 'write' ? hold.opened : undefined);
    const late = mounted.write(handle, 0, 'late');
    await settled();
    fs.release(handle);
    fs.forget(ino, 1);
    await mounted.walk('/other'); // the only name that is kept now
    assert.equal((await mounted.walk('/image')).ino, ino, 'the lane of a file is one');
    hold.open();
    value(await late);
    await settled();
    assert.equal(server.stableBytesOf('/image').toString(), 'late');
    assert.equal(fs.figures().heldBytes, 0);
  });

  it('keep to their bound of memory without losing any', async () => {
    const mounted = new Mounted({
      commitFileBytes: 40,
      commitTotalBytes: 60,
      uncommittedMaxBytes: 100,
    });
    const { handle } = await mounted.create('/image');
    let most = 0;
    for (let at = 0; at < 50; at++) {
      await mounted.write(handle, at * 10, Buffer.alloc(10, at));
      most = Math.max(most, mounted.fs.figures().heldBytes);
    }
    assert(most <= 110, `${most} bytes held`);
    assert(mounted.server.count('commit') > 3);
    mounted.server.restart();
    value(await mounted.fsync(handle));
    const bytes = mounted.server.stableBytesOf('/image');
    for (let at = 0; at < 500; at++) assert.equal(bytes[at], Math.floor(at / 10));
  });

  it('of a few bytes each are committed by number, not only by size', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    for (let at = 0; at < 5000; at++) await mounted.write(handle, at, 'x');
    await settled();
    assert.equal(mounted.server.count('commit'), 1);
    assert(mounted.fs.figures().heldBytes < 1000);
  });

  it('go out FILE_SYNC when memory is full and COMMITs fail', async () => {
    const mounted = new Mounted({ uncommittedMaxBytes: 4 });
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'aaaa');
    mounted.server.fail = (call) => (call.procedure === 'commit' ? 'NFS3ERR_IO' : undefined);
    await mounted.write(handle, 4, 'bbbb');
    assert.deepEqual(
      mounted.server.calls.map((call) => call.stability).filter((it) => it !== undefined),
      ['unstable', 'fileSync'],
    );
  });

  it('that are synced one by one come to cost one round trip, until they are not', async () => {
    const mounted = new Mounted();
    const { server } = mounted;
    const { handle } = await mounted.create('/image');
    const writeAndSync = async (): Promise<void> => {
      await mounted.write(handle, 0, 'abcd');
      value(await mounted.fsync(handle));
    };
    for (let round = 0; round < 6; round++) await writeAndSync();
    assert.equal(server.count('commit'), 3);
    assert.equal(server.stableBytesOf('/image').toString(), 'abcd');
    await mounted.write(handle, 0, 'efgh');
    await mounted.write(handle, 4, 'ijkl');
    await mounted.write(handle, 8, 'mnop');
    const how = server.calls.map((call) => call.stability).filter((it) => it !== undefined);
    assert.deepEqual(how.slice(-3), ['fileSync', 'unstable', 'unstable']);
    server.restart();
    value(await mounted.fsync(handle));
    assert.equal(server.stableBytesOf('/image').toString(), 'efghijklmnop');
  });

  it('do not move times that were set after them', async () => {
    const mounted = new Mounted();
    const { ino, handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abc');
    const mtime = 1_000_000_000_123_456_789n;
    const set = value(await mounted.fs.setattr(by(alice), ino, { mtime, atime: mtime }));
    assert.equal(set.attributes.mtimeNs, mtime);
    mounted.server.restart();
    value(await mounted.fsync(handle));
    assert.equal(mounted.server.attributesAt('/image').mtimeNs, mtime);
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'abc');
  });

  it('go through a handle whatever the mode and the owner are by now', async () => {
    const mounted = new Mounted();
    const { ino, handle } = await mounted.create('/image', O_RDWR, alice, 0o444);
    value(await mounted.write(handle, 0, 'abc'));
    assert.equal((await mounted.read(handle, 0, 10)).toString(), 'abc');
    value(await mounted.fs.setattr(by(alice), ino, { size: 1 }, handle));
    assert.equal(mounted.server.bytesOf('/image').toString(), 'a');
  });

  it('of a closing session are refused, and what was acknowledged is settled', async () => {
    const mounted = new Mounted();
    const { handle } = await mounted.create('/image');
    await mounted.write(handle, 0, 'abc');
    const hold = gate();
    mounted.server.before = (call) => (call.procedure === 'write' ? hold.opened : undefined);
    const late = mounted.write(handle, 3, 'def');
    const closed = mounted.fs.close();
    assert.equal(errno(await mounted.write(handle, 6, 'ghi')), 'ENOTCONN');
    hold.open();
    value(await late);
    await closed;
    assert.equal(mounted.server.stableBytesOf('/image').toString(), 'abcdef');
    assert.equal(mounted.payloads, 0);
  });
});
