/**
 * Write-back over a link in a time of its own: WRITEs queue before it in one direction, answers of
 * reads come by the other. What takes no time here: the server's CPU, the local disk, our code.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Credentials } from '../../../src/base/credentials.ts';
import { ok, type Result } from '../../../src/base/result.ts';
import { PAGE_BYTES } from '../../../src/cache/file-io.ts';
import type { DirtyImage, SendingRun } from '../../../src/cache/write-back/dirty-image.ts';
import { WriteBackEngine } from '../../../src/cache/write-back/engine.ts';
import type { FsError } from '../../../src/errors/fs-error.ts';
import type { Attributes, ImageSending, WriteOk } from '../../../src/vfs/ports.ts';
import { EventClock } from '../memory-clock.ts';
import { owner } from './paper-server.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const CALL_BYTES = 200;

interface LinkKind {
  readonly bitsPerSecond: number;
  readonly roundTripMs: number;
  /** What the server's disk takes. */
  readonly commitBytesPerSecond?: number;
  /** One direction for all: reads and writes share the bytes. */
  readonly isHalfDuplex?: boolean;
}

/** First come, first served. */
class Pipe {
  readonly #clock: EventClock;
  readonly #bytesPerMs: number;
  #freeMs = 0;

  constructor(clock: EventClock, bitsPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerMs = bitsPerSecond / 8 / 1000;
  }

  /** Resolves when the last byte is out. */
  carry(bytes: number): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    this.#freeMs = Math.max(this.#freeMs, nowMs) + bytes / this.#bytesPerMs;
    return wait(this.#clock, this.#freeMs - nowMs);
  }
}

function wait(clock: EventClock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

class FarServer implements ImageSending {
  readonly writeMax = MiB;
  readonly clock: EventClock;
  readonly #kind: LinkKind;
  readonly #up: Pipe;
  readonly #down: Pipe;
  writtenBytes = 0;
  commits = 0;
  reads = { inFlight: 0, begun: 0 };
  #uncommitted = 0;

  constructor(clock: EventClock, kind: LinkKind) {
    this.clock = clock;
    this.#kind = kind;
    this.#up = new Pipe(clock, kind.bitsPerSecond);
    this.#down = kind.isHalfDuplex === true ? this.#up : new Pipe(clock, kind.bitsPerSecond);
  }

  others(): readonly Credentials[] {
    return [];
  }

  async look(): Promise<Result<Attributes, FsError>> {
    await this.#call(CALL_BYTES, CALL_BYTES);
    return ok({} as Attributes);
  }

  async write(_as: Credentials, _at: number, bytes: Buffer): Promise<Result<WriteOk, FsError>> {
    await this.#call(CALL_BYTES + bytes.length, CALL_BYTES);
    this.writtenBytes += bytes.length;
    this.#uncommitted += bytes.length;
    return ok({ wcc: {}, count: bytes.length, committed: 'unstable', verifier: 1n });
  }

  async commit(): Promise<Result<{ verifier: bigint }, FsError>> {
    const { commitBytesPerSecond = 200e6 } = this.#kind;
    const bytes = this.#uncommitted;
    this.#uncommitted = 0;
    await this.#call(CALL_BYTES, CALL_BYTES, 5 + (bytes / commitBytesPerSecond) * 1000);
    this.commits++;
    return ok({ verifier: 1n });
  }

  finish(): Promise<Result<Attributes, FsError>> {
    return this.look();
  }

  /** Somebody waits for it. */
  async read(bytes: number): Promise<void> {
    this.reads.begun++;
    this.reads.inFlight++;
    await this.#call(CALL_BYTES, CALL_BYTES + bytes);
    this.reads.inFlight--;
  }

  async #call(upBytes: number, downBytes: number, atServerMs = 0): Promise<void> {
    const { roundTripMs } = this.#kind;
    await this.#up.carry(upBytes);
    await wait(this.clock, roundTripMs / 2 + atServerMs);
    await this.#down.carry(downBytes);
    await wait(this.clock, roundTripMs / 2);
  }
}

/** Every other run of the file is dirty. */
class ScatteredImage implements DirtyImage {
  readonly fileId = 'disk';
  readonly path = 'disk';
  readonly as = owner;
  readonly inConflict = false;
  readonly isResting = true;
  readonly sending: FarServer;
  readonly #runPages: number;
  readonly #runs: number;
  #settled = 0;
  readonly #bytes: Buffer;

  constructor(sending: FarServer, totalBytes: number, runBytes: number) {
    this.sending = sending;
    this.#runPages = runBytes / PAGE_BYTES;
    this.#runs = totalBytes / runBytes;
    this.#bytes = Buffer.alloc(runBytes);
  }

  get dirtyBytes(): number {
    return this.#runs * this.#runPages * PAGE_BYTES - this.#settled;
  }

  get dirtySinceMs(): number {
    return 0;
  }

  get hasUnsentAttributes(): boolean {
    return this.dirtyBytes > 0;
  }

  beginSending() {
    return Promise.resolve(ok('may send' as const));
  }

  take(from: number, maxRunBytes: number): SendingRun[] {
    const index = Math.floor(from / (2 * this.#runPages));
    const first = index * 2 * this.#runPages;
    const isIn = from < first + this.#runPages;
    const start = isIn ? from : first + 2 * this.#runPages;
    if (start >= this.#runs * 2 * this.#runPages) return [];
    const endOfRun = (isIn ? first : start) + this.#runPages;
    const end = Math.min(endOfRun, start + Math.floor(maxRunBytes / PAGE_BYTES));
    const length = (end - start) * PAGE_BYTES;
    return [{ range: { start, end }, offset: start * PAGE_BYTES, length }];
  }

  async read(run: SendingRun) {
    await wait(this.sending.clock, 0.2);
    return ok(this.#bytes.subarray(0, run.length));
  }

  putBack(): void {
    assert.fail('nothing is lost here');
  }

  settle(runs: readonly SendingRun[]): Promise<void> {
    for (const { length } of runs) this.#settled += length;
    return wait(this.sending.clock, 2);
  }

  endSending(): Promise<Result<void, never>> {
    return Promise.resolve(ok(undefined));
  }

  local() {
    return { size: 0, mtimeNs: 0n };
  }

  failed(): void {
    assert.fail('nothing fails here');
  }
}

function start(kind: LinkKind, totalBytes: number, runBytes: number) {
  const clock = new EventClock();
  const server = new FarServer(clock, kind);
  const image = new ScatteredImage(server, totalBytes, runBytes);
  const engine = new WriteBackEngine({
    clock,
    reads: () => server.reads,
    policy: { mode: 'deferred', ageMs: 30_000, maxDirtyBytes: 2 ** 40 },
    events: {},
  });
  return { clock, server, image, engine };
}

/** Of the link, from the call to its answer, COMMITs included. */
async function share(kind: LinkKind, totalBytes: number, runBytes: number): Promise<number> {
  const { clock, engine, image, server } = start(kind, totalBytes, runBytes);
  const result = await clock.until(engine.writeBack(image));
  assert.deepEqual(result, ok({ sentBytes: totalBytes }));
  assert.ok(server.commits > 0);
  const seconds = clock.monotonicMs() / 1000;
  return (totalBytes * 8) / seconds / kind.bitsPerSecond;
}

/** How long one read after the other takes. */
async function readMs(server: FarServer, count: number, bytes: number): Promise<number> {
  const { clock } = server;
  const beganMs = clock.monotonicMs();
  for (let read = 0; read < count; read++) await server.read(bytes);
  return (clock.monotonicMs() - beganMs) / count;
}

const far: LinkKind = { bitsPerSecond: 1e8, roundTripMs: 35 };

describe('write-back alone fills the link', () => {
  const cases: [string, LinkKind, number, number][] = [
    ['64 KiB runs, 100 Mbit/s, 35 ms', far, 256 * MiB, 64 * KiB],
    ['1 MiB runs, 100 Mbit/s, 35 ms', far, 256 * MiB, MiB],
    ['16 KiB runs, 100 Mbit/s, 35 ms', far, 256 * MiB, 16 * KiB],
    ['64 KiB runs, 100 Mbit/s, 100 ms', { ...far, roundTripMs: 100 }, 512 * MiB, 64 * KiB],
    ['64 KiB runs, 1 Gbit/s, 35 ms', { ...far, bitsPerSecond: 1e9 }, 2048 * MiB, 64 * KiB],
    ['1 MiB runs, 1 Gbit/s, 1 ms', { bitsPerSecond: 1e9, roundTripMs: 1 }, 2048 * MiB, MiB],
    ['64 KiB runs, 10 Mbit/s, 35 ms', { ...far, bitsPerSecond: 1e7 }, 64 * MiB, 64 * KiB],
    ['a slow disk, 100 Mbit/s', { ...far, commitBytesPerSecond: 20e6 }, 256 * MiB, 64 * KiB],
  ];
  for (const [name, kind, totalBytes, runBytes] of cases) {
    it(name, async () => {
      const part = await share(kind, totalBytes, runBytes);
      assert.ok(part >= 0.9, `${part.toFixed(3)} of the link`);
    });
  }

  it('without a long queue before it', async () => {
    const { clock, engine, image } = start(far, 128 * MiB, 64 * KiB);
    const onProgress = () => {
      const delayBytes = (far.bitsPerSecond / 8 / 1000) * far.roundTripMs;
      const { inFlightBytes } = engine.figures();
      assert.ok(inFlightBytes <= 2 * delayBytes + MiB, `${inFlightBytes} bytes in flight`);
    };
    await clock.until(engine.writeBack(image, { onProgress }));
  });
});

describe('reads go first', () => {
  const cases: [string, LinkKind, number][] = [
    ['4 KiB, 100 Mbit/s, 35 ms', far, 4 * KiB],
    ['64 KiB, 100 Mbit/s, 35 ms', far, 64 * KiB],
    ['4 KiB, 1 Gbit/s, 1 ms', { bitsPerSecond: 1e9, roundTripMs: 1 }, 4 * KiB],
    ['1 MiB, 1 Gbit/s, 1 ms', { bitsPerSecond: 1e9, roundTripMs: 1 }, MiB],
    ['4 KiB, 10 Mbit/s, 35 ms', { ...far, bitsPerSecond: 1e7 }, 4 * KiB],
    ['64 KiB, both ways on one link', { ...far, isHalfDuplex: true }, 64 * KiB],
    ['1 MiB, both ways on one link', { ...far, isHalfDuplex: true }, MiB],
  ];
  for (const [name, kind, bytes] of cases) {
    it(`${name}: at most 25 % slower`, async () => {
      const quiet = start(kind, MiB, MiB);
      const aloneMs = await quiet.clock.until(readMs(quiet.server, 50, bytes));
      const { clock, engine, image, server } = start(kind, 16_384 * MiB, MiB);
      const abort = new AbortController();
      const sending = engine.writeBack(image, { signal: abort.signal });
      // The link is known and full.
      await clock.until(wait(clock, 4_000));
      assert.ok(engine.figures().inFlightBytes > 0);
      const sentBefore = server.writtenBytes;
      const besideMs = await clock.until(readMs(server, 400, bytes));
      abort.abort();
      await sending;
      const factor = besideMs / aloneMs;
      assert.ok(factor <= 1.25, `${factor.toFixed(2)} times as long`);
      assert.ok(server.writtenBytes > sentBefore, 'write-back does not go on');
    });
  }

  it('and leave the link again when they end', async () => {
    const { clock, engine, image, server } = start(far, 16_384 * MiB, 64 * KiB);
    const abort = new AbortController();
    const sending = engine.writeBack(image, { signal: abort.signal });
    await clock.until(wait(clock, 4_000));
    await clock.until(readMs(server, 100, 4 * KiB));
    await clock.until(wait(clock, 1_000));
    const sentBefore = server.writtenBytes;
    await clock.until(wait(clock, 4_000));
    const part = ((server.writtenBytes - sentBefore) * 8) / 4 / far.bitsPerSecond;
    abort.abort();
    await sending;
    assert.ok(part >= 0.9, `${part.toFixed(3)} of the link`);
  });
});
