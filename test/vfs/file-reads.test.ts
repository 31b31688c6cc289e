import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryServer } from './memory-server.ts';
import { alice, by, errno, Mounted, O_RDONLY, O_RDWR, O_WRONLY, value } from './mounted.ts';

describe('reads', () => {
  it('take three round trips from the mount to the first byte', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', 'hello');
    const handle = await mounted.open('/image', O_RDONLY);
    assert.equal((await mounted.read(handle, 0, 100)).toString(), 'hello');
    assert.deepEqual(
      mounted.server.calls.map((call) => call.procedure),
      ['lookup', 'access', 'read'],
    );
  });

  it('are split, and short answers are continued', async () => {
    const server = new MemoryServer();
    server.limits.readMax = 16;
    server.maxReadBytes = 5;
    const mounted = new Mounted({}, {}, server);
    const bytes = Buffer.from(Array.from({ length: 100 }, (_, index) => index));
    server.putFile('/image', bytes);
    const handle = await mounted.open('/image', O_RDONLY);
    assert.deepEqual(await mounted.read(handle, 0, 100), bytes);
    assert.deepEqual(await mounted.read(handle, 33, 40), bytes.subarray(33, 73));
    assert.deepEqual(await mounted.read(handle, 90, 40), bytes.subarray(90));
    assert.equal((await mounted.read(handle, 100, 40)).length, 0);
    assert.equal(server.unreleasedReads, 0);
  });

  it('of many short answers hold no more memory than they asked for', async () => {
    const server = new MemoryServer();
    server.maxReadBytes = 1;
    const mounted = new Mounted({}, {}, server);
    const bytes = Buffer.from(Array.from({ length: 3000 }, (_, index) => index));
    server.putFile('/image', bytes);
    const handle = await mounted.open('/image', O_RDONLY);
    const reply = value(await mounted.fs.read(by(alice), handle, 0, 3000));
    assert(reply.kind === 'bytes');
    assert(reply.bytes.length <= 2, `${reply.bytes.length} pieces`);
    assert(server.unreleasedReads <= 1, 'each holds a buffer for all that was asked for');
    assert.deepEqual(Buffer.concat(reply.bytes), bytes);
    reply.release();
    assert.equal(server.unreleasedReads, 0);
  });

  it('of many small writes have few parts: one writev(2) takes 1024', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', Buffer.alloc(6000, '.'));
    const handle = await mounted.open('/image', O_RDWR);
    const reader = await mounted.open('/image', O_RDONLY);
    for (let at = 0; at < 3000; at++) await mounted.write(handle, at, 'x');
    for (let at = 3000; at < 6000; at += 2) await mounted.write(handle, at, 'x');
    for (const [from, to] of [
      [0, 3000],
      [0, 6000],
    ] as const) {
      const reply = value(await mounted.fs.read(by(alice), reader, from, to - from));
      assert(reply.kind === 'bytes');
      assert(reply.bytes.length < 1000, `${reply.bytes.length} parts`);
      const expected = `${'x'.repeat(3000)}${'x.'.repeat(1500)}`;
      assert.equal(Buffer.concat(reply.bytes).toString(), expected.slice(from, to));
      reply.release();
    }
    value(await mounted.fsync(handle));
    assert.equal(mounted.fs.figures().heldBytes, 0);
    assert.equal(mounted.server.unreleasedReads, 0);
  });

  it('end early where the file was cut by another client', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', 'hello world');
    const { ino } = await mounted.walk('/image');
    const handle = await mounted.open('/image', O_RDONLY);
    mounted.server.putFile('/image', 'hello');
    assert.equal((await mounted.read(handle, 0, 11)).toString(), 'hello');
    assert.equal(await mounted.size(ino), 5);
    assert.equal(mounted.server.unreleasedReads, 0);
  });

  it('fail when the server ends the file before the size it states', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', 'hello world');
    const handle = await mounted.open('/image', O_RDONLY);
    mounted.server.eofAt = 5;
    assert.equal(errno(await mounted.fs.read(by(alice), handle, 0, 11)), 'EIO');
    assert.equal(errno(await mounted.fs.read(by(alice), handle, 6, 5)), 'EIO');
    assert.equal((await mounted.read(handle, 0, 5)).toString(), 'hello');
    assert.equal(mounted.server.unreleasedReads, 0);
  });

  it('give all memory back when one of their parts fails', async () => {
    const server = new MemoryServer();
    server.limits.readMax = 4;
    const mounted = new Mounted({}, {}, server);
    server.putFile('/image', 'hello world!');
    const handle = await mounted.open('/image', O_RDONLY);
    let sent = 0;
    server.fail = (call) => {
      if (call.procedure !== 'read') return undefined;
      sent += 1;
      return sent === 2 ? 'NFS3ERR_IO' : undefined;
    };
    assert.equal(errno(await mounted.fs.read(by(alice), handle, 0, 12)), 'EIO');
    assert.equal(server.unreleasedReads, 0);
  });

  it('are refused on a handle that was opened to write', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', 'hello');
    const handle = await mounted.open('/image', O_WRONLY);
    assert.equal(errno(await mounted.fs.read(by(alice), handle, 0, 1)), 'EBADF');
    const reader = await mounted.open('/image', O_RDONLY);
    assert.equal(errno(await mounted.write(reader, 0, 'x')), 'EBADF');
    assert.equal(mounted.payloads, 0);
  });

  it('know no holes', async () => {
    const mounted = new Mounted();
    mounted.server.putFile('/image', 'hello');
    const handle = await mounted.open('/image', O_RDONLY);
    const seek = (offset: number, whence: number) =>
      mounted.fs.lseek(by(alice), handle, offset, whence);
    assert.deepEqual(await seek(2, 3), { ok: true, value: 2 });
    assert.deepEqual(await seek(2, 4), { ok: true, value: 5 });
    assert.equal(errno(await seek(5, 3)), 'ENXIO');
    assert.equal(errno(await seek(5, 4)), 'ENXIO');
    assert.equal(errno(await seek(0, 1)), 'EINVAL');
  });
});
