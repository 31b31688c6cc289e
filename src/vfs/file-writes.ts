/**
 * Writes to the server, and the promise that none is lost once it was acknowledged.
 *
 *   write --WRITE unstable--> kept --COMMIT, same verifier--> durable
 *                              ^ |
 *                              | | another verifier: the server restarted
 *                              +-+ sent again, alone in the lane
 *
 * W1  An acknowledged byte is durable at the server, or kept here. It is dropped only by a COMMIT
 *     that was sent after its WRITE was answered and that answers with the same verifier, by newer
 *     durable bytes, by a truncation, or with an event that says so.
 * W2  Bytes are sent again with no other change of the file in flight (lane), and only the newest
 *     of each (kept ranges are disjoint): sending again never undoes a later write.
 * W3  A truncation waits for the WRITEs in flight, later WRITEs wait for it, and what it cut off is
 *     not kept: sending again never resurrects bytes.
 * W4  Explicit times are set only when nothing is left to send: later WRITEs would move them.
 * W5  While bytes are kept the file is at least as long as they reach, and reads see them,
 *     whatever the server lost.
 *     Where the local disk acknowledges writes, times are set at once, and again in the end.
 * W6  Memory is bounded: COMMITs start in the background at a soft bound, writers wait at the hard
 *     one, and when COMMITs fail there, they write FILE_SYNC, which keeps nothing.
 * W7  Where the policy is such, the local disk takes a write (file-unsent.ts); what it does not take
 *     goes through, as all of the above. Both in the file's lane: of the same bytes the later wins.
 */
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, localError } from '../errors/fs-error.ts';
import type { AttributeCache } from './attribute-cache.ts';
import { ChangeLane } from './change-lane.ts';
import type { VfsEvents } from './events.ts';
import type { Inode, InodeTable } from './inodes.ts';
import { KeptBytes, type KeptRange, SharedMemory } from './kept-bytes.ts';
import type { Outcome, Payload } from './operations.ts';
import { durability, keepsWrites, type VfsOptions } from './options.ts';
import type { ImageServer, Stability, WriteOk } from './ports.ts';
import { lookBefore, sendWrite } from './server-changes.ts';

/**
 * A write that is longer goes out in parts of this size, all in flight: the server works on one
 * while the next is on its way, which a single writer, who waits for each write, gets no other way.
 */
const overlapBytes = 512 * 1024;
/** COMMIT and resend rounds of one commit, for servers that restart again and again. */
const maxRounds = 16;
/** WRITEs of lost bytes in flight at once. */
const resendsInFlight = 8;
/** A file with so many kept ranges is committed: what is kept of each costs more than its bytes. */
const manyRanges = 4096;
/** Attempts to commit what is left of a closed file, and the pause before each further one. */
const leftoverAttempts = 6;
const leftoverPauseMs = 1_000;

export interface FileWrites {
  readonly lane: ChangeLane;
  readonly kept: KeptBytes;
  /** The server's last write verifier. */
  verifier: bigint | undefined;
  committing: { readonly sent: number; readonly answer: Outcome<void> } | undefined;
  /** The last time that acknowledged bytes were given up, and why. */
  loss: { readonly serial: number; readonly error: FsError } | undefined;
  /** Leftovers of a closed file are being committed. */
  settling: Promise<void> | undefined;
}

export interface WriteContext {
  readonly server: ImageServer;
  readonly attributes: AttributeCache;
  readonly inodes: InodeTable;
  readonly options: VfsOptions;
  readonly clock: Clock;
  readonly events: VfsEvents;
}

/** How durable a write is to be when it is answered. */
export interface Durably {
  /** What its writer asks for. */
  readonly asked: Stability;
  /** What it is sent with, where it is sent. */
  readonly sent: Stability;
}

export class WriteBack {
  readonly #context: WriteContext;
  /** Files with kept bytes; each is pinned. */
  readonly #holding = new Set<Inode>();
  readonly #inFlight = new Set<Outcome<number>>();
  #heldBytes = 0;
  #serial = 0;

  constructor(context: WriteContext) {
    this.#context = context;
  }

  /** Files with acknowledged bytes that the server may lose. */
  holding(): Inode[] {
    return [...this.#holding];
  }

  /** Bytes of memory held for uncommitted writes and those in flight. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A point in the order of events, to compare with `FileWrites.loss`. */
  now(): number {
    return this.#serial;
  }

  /** The end of the last kept byte: the file is at least this long (W5). */
  keptEnd(inode: Inode): number {
    return inode.writes?.kept.end ?? 0;
  }

  /** Kept bytes of `start` to `end`, each piece holding its memory. */
  keptWithin(inode: Inode, start: number, end: number): KeptRange[] {
    return inode.writes?.kept.within(start, end) ?? [];
  }

  /** Writes the payload and gives it back; answers the bytes written, counted from its start. */
  async write(
    inode: Inode,
    as: Credentials,
    offset: number,
    payload: Payload,
    durably: Durably,
  ): Outcome<number> {
    const { inodes } = this.#context;
    const writing = this.#write(inode, as, offset, payload, durably);
    this.#inFlight.add(writing);
    // A killed writer's handle is closed, and its file forgotten, before the answer comes: then
    // there is nobody else to commit what it wrote.
    inodes.pin(inode);
    try {
      return await writing;
    } finally {
      this.#inFlight.delete(writing);
      if (inode.opens === 0) void this.settle(inode);
      inodes.unpin(inode);
    }
  }

  async #write(
    inode: Inode,
    as: Credentials,
    offset: number,
    payload: Payload,
    { asked, sent }: Durably,
  ): Outcome<number> {
    const { length } = payload.bytes;
    if (length === 0) {
      payload.release();
      return ok(0);
    }
    const memory = new SharedMemory(length, () => {
      this.#heldBytes -= length;
      payload.release();
    });
    // Without a wait the lane is entered at once: calls are carried out in the order they came.
    const isLocal = inode.image !== undefined && keepsWrites(this.#context.options);
    const isFull = this.#heldBytes >= this.#context.options.uncommittedMaxBytes;
    const mayKeep = isFull ? !isLocal && (await this.#waitForRoom(inode)) : true;
    this.#heldBytes += length;
    const writes = this.#writesOf(inode);
    const leave = await writes.lane.enterRange(offset, offset + length);
    let taken: 'kept' | 'through' = 'through';
    try {
      const local = isLocal
        ? await this.#writeLocally(inode, as, offset, payload.bytes)
        : ok(taken);
      if (!local.ok) return local;
      taken = local.value;
      if (taken === 'through') {
        const how = mayKeep ? sent : 'fileSync';
        return await this.#writeThrough(inode, as, offset, payload.bytes, memory, how);
      }
    } finally {
      leave();
      memory.drop();
      this.#startCommits(inode);
    }
    const durable = asked === 'unstable' ? ok(undefined) : await this.#makeDurable(inode);
    return durable.ok ? ok(length) : durable;
  }

  /** W7, in the lane. */
  async #writeLocally(
    inode: Inode,
    as: Credentials,
    offset: number,
    bytes: Buffer,
  ): Outcome<'kept' | 'through'> {
    const written = await inode.image?.local.write(as, offset, bytes);
    if (written?.ok === true && written.value === 'kept') {
      // What is older of these bytes must not be sent again.
      inode.writes?.kept.cut(offset, offset + bytes.length);
      this.#checkHolding(inode);
    }
    return written ?? ok('through');
  }

  /** In the lane. */
  async #writeThrough(
    inode: Inode,
    as: Credentials,
    offset: number,
    bytes: Buffer,
    memory: SharedMemory,
    stability: Stability,
  ): Outcome<number> {
    const { length } = bytes;
    if (inode.image !== undefined) await lookBefore(this.#context, as, inode, 'write');
    const kept = await inode.image?.beginWrite(offset, length);
    const partBytes = Math.min(this.#context.server.limits.writeMax, overlapBytes);
    const parts: Outcome<number>[] = [];
    for (let at = 0; at < length; at += partBytes) {
      const part = bytes.subarray(at, Math.min(at + partBytes, length));
      parts.push(this.#writePart(inode, as, offset + at, part, memory, stability));
    }
    const written = await writtenFromStart(parts, partBytes);
    if (written.ok) await kept?.done(bytes.subarray(0, written.value));
    else await kept?.failed();
    return written;
  }

  /** What O_SYNC asks of a write that the local disk has taken. */
  async #makeDurable(inode: Inode): Outcome<void> {
    const isHere = durability(this.#context.options).fsync === 'local';
    const local = inode.image?.local;
    return (await (isHere ? local?.sync() : local?.writeBack())) ?? ok(undefined);
  }

  /** Resolves when all that was acknowledged before the call is durable. */
  commit(inode: Inode): Outcome<void> {
    return this.#commit(inode, 'free');
  }

  /**
   * Runs `change`, which sets the size, alone in the file's lane (W3).
   * A size that the change did not set is not cut off: it answers whether it did.
   */
  async truncate<T>(
    inode: Inode,
    size: number,
    change: () => Outcome<T>,
  ): Promise<Result<T, FsError>> {
    const writes = this.#writesOf(inode);
    const leave = await writes.lane.enterAlone();
    try {
      return await settingAlone(inode, size, undefined, async () => {
        const result = await change();
        if (result.ok) {
          writes.kept.cut(size, Number.POSITIVE_INFINITY);
          this.#checkHolding(inode);
        }
        return result;
      });
    } finally {
      leave();
    }
  }

  /**
   * Runs `change`, which sets times and perhaps the size, alone in the file's lane and with all
   * acknowledged bytes durable (W4). `size`: the one that it sets, if any; `mtimeNs`: the mtime,
   * undefined where it is the server's clock's.
   */
  async whenDurable<T>(
    inode: Inode,
    size: number | undefined,
    mtimeNs: bigint | undefined,
    change: () => Outcome<T>,
  ): Promise<Result<T, FsError>> {
    const leave = await this.#writesOf(inode).lane.enterAlone();
    try {
      const committed = await this.#commit(inode, 'held');
      if (!committed.ok) return committed;
      if (durability(this.#context.options).close === 'server') {
        const sent = await inode.image?.local.writeBack();
        if (sent?.ok === false) return sent;
      }
      return await settingAlone(inode, size, mtimeNs, change);
    } finally {
      leave();
    }
  }

  /** Runs `work` with no change of the file's bytes in flight. */
  async alone(inode: Inode, work: () => Promise<void>): Promise<void> {
    const leave = await this.#writesOf(inode).lane.enterAlone();
    try {
      await work();
    } finally {
      leave();
    }
  }

  /** Commits, in the background and with some patience, what the last close left. */
  async settle(inode: Inode): Promise<void> {
    const { writes } = inode;
    if (writes === undefined || writes.kept.isEmpty) return;
    writes.settling ??= this.#settle(inode, writes).finally(() => {
      writes.settling = undefined;
    });
    await writes.settling;
  }

  async #settle(inode: Inode, writes: FileWrites): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const result = await this.commit(inode);
      // A file that was opened again has someone to tell.
      if (result.ok || writes.kept.isEmpty || inode.opens > 0) return;
      if (attempt === leftoverAttempts) {
        this.#giveUp(inode, result.error);
        return;
      }
      await this.#pause(leftoverPauseMs * attempt);
    }
  }

  /** Waits for the writes in flight and commits every file. Resolves when nothing is kept. */
  async settleAll(): Promise<void> {
    while (this.#holding.size > 0 || this.#inFlight.size > 0) {
      await Promise.all(this.#inFlight);
      await Promise.all([...this.#holding].map((inode) => this.#settleForClose(inode)));
    }
  }

  /** The file is gone for good: nothing of it can be made durable. */
  forgetDeleted(inode: Inode): void {
    inode.writes?.kept.drop(() => true);
    this.#checkHolding(inode);
  }

  async #settleForClose(inode: Inode): Promise<void> {
    for (let attempt = 1; attempt <= 3; attempt++) {
      const result = await this.commit(inode);
      if (inode.writes?.kept.isEmpty !== false) return;
      if (attempt === 3 && !result.ok) this.#giveUp(inode, result.error);
    }
  }

  async #writePart(
    inode: Inode,
    as: Credentials,
    offset: number,
    bytes: Buffer,
    memory: SharedMemory,
    stability: Stability,
  ): Outcome<number> {
    let done = 0;
    while (done < bytes.length) {
      const rest = bytes.subarray(done);
      const result = await sendWrite(this.#context, inode, as, offset + done, rest, stability);
      if (!result.ok) return done > 0 ? ok(done) : result;
      const { count } = result.value;
      this.#acknowledged(inode, as, offset + done, rest.subarray(0, count), memory, result.value);
      done += count;
    }
    return ok(done);
  }

  #acknowledged(
    inode: Inode,
    as: Credentials,
    start: number,
    bytes: Buffer,
    memory: SharedMemory,
    answer: WriteOk,
  ): void {
    const writes = this.#writesOf(inode);
    this.#serial += 1;
    const { verifier } = answer;
    const restarted = writes.verifier !== undefined && writes.verifier !== verifier;
    writes.verifier = verifier;
    if (answer.committed === 'unstable') {
      const own = this.#ownMemory(bytes, memory);
      const moment = { since: this.#serial, sent: this.#serial };
      writes.kept.put({ start, ...own, as, ...moment, verifier });
    } else {
      writes.kept.cut(start, start + bytes.length);
    }
    this.#checkHolding(inode);
    if (restarted && !writes.kept.isEmpty) this.#commitInBackground(inode);
  }

  /** Memory to keep `bytes` in: the payload's own, or a copy where that would pin too much. */
  #ownMemory(bytes: Buffer, memory: SharedMemory): { bytes: Buffer; memory: SharedMemory } {
    if (bytes.length >= this.#context.options.copyBelowBytes) {
      memory.hold();
      return { bytes, memory };
    }
    const { length } = bytes;
    const copy = Buffer.allocUnsafeSlow(length);
    bytes.copy(copy);
    this.#heldBytes += length;
    const copied = new SharedMemory(length, () => {
      this.#heldBytes -= length;
    });
    return { bytes: copy, memory: copied };
  }

  async #commit(inode: Inode, lane: 'free' | 'held'): Outcome<void> {
    const { writes } = inode;
    if (writes === undefined) return ok(undefined);
    const { kept } = writes;
    const until = this.#serial;
    for (let round = 0; round < maxRounds; round++) {
      if (!kept.all().some((range) => range.since <= until)) return ok(undefined);
      const result = isAnyLost(writes)
        ? await this.#resendInLane(inode, writes, lane)
        : await this.#commitOnce(inode, writes);
      if (!result.ok) {
        this.#failed(inode, result.error);
        return result;
      }
    }
    return err(localError('EIO', 'COMMIT', 'COMMIT: the write verifier changes with every answer'));
  }

  /** One COMMIT that was sent after this call, shared by all who wait for one. */
  async #commitOnce(inode: Inode, writes: FileWrites): Outcome<void> {
    // One under way may have been sent too early for the caller's bytes: then another follows.
    if (writes.committing !== undefined) {
      const earlier = await writes.committing.answer;
      if (!earlier.ok) return earlier;
      return ok(undefined);
    }
    const answer = this.#sendCommit(inode, writes);
    writes.committing = { sent: this.#serial, answer };
    try {
      return await answer;
    } finally {
      writes.committing = undefined;
    }
  }

  async #sendCommit(inode: Inode, writes: FileWrites): Outcome<void> {
    const { server, attributes } = this.#context;
    const [first] = writes.kept.all();
    assert(first !== undefined, 'COMMIT of nothing');
    const sent = this.#serial;
    const stamp = attributes.stamp();
    // The whole file: no server of ours is faster with a range, and a range can miss bytes.
    const result = await server.commit(first.as, inode.file, 0, 0);
    if (!result.ok) return result;
    const { verifier, wcc } = result.value;
    attributes.observe(inode.attributes, wcc.after, stamp);
    writes.verifier = verifier;
    writes.kept.drop((range) => range.verifier === verifier && range.sent <= sent);
    this.#checkHolding(inode);
    return ok(undefined);
  }

  async #resendInLane(inode: Inode, writes: FileWrites, lane: 'free' | 'held'): Outcome<void> {
    if (lane === 'held') return this.#resend(inode, writes);
    const leave = await writes.lane.enterAlone();
    try {
      return await this.#resend(inode, writes);
    } finally {
      leave();
    }
  }

  /** Sends again what was written under another verifier than the server's last (W2). */
  async #resend(inode: Inode, writes: FileWrites): Outcome<void> {
    const lost = writes.kept.all().filter((range) => range.verifier !== writes.verifier);
    if (lost.length === 0) return ok(undefined);
    this.#context.events.resending?.(inode.ino, sumBytes(lost));
    const queue = lost.values();
    let failure: FsError | undefined;
    const sender = async (): Promise<void> => {
      for (const range of queue) {
        if (failure !== undefined) return;
        const result = await this.#resendRange(inode, writes, range);
        if (!result.ok) failure = result.error;
      }
    };
    await Promise.all(Array.from({ length: resendsInFlight }, sender));
    this.#checkHolding(inode);
    return failure === undefined ? ok(undefined) : err(failure);
  }

  async #resendRange(inode: Inode, writes: FileWrites, range: KeptRange): Outcome<void> {
    const { writeMax } = this.#context.server.limits;
    range.memory.hold();
    try {
      // The first part's: if a later part has another, COMMIT's tells that the range is lost again.
      let firstVerifier: bigint | undefined;
      let durable = true;
      for (let done = 0; done < range.bytes.length; ) {
        const bytes = range.bytes.subarray(done, done + writeMax);
        const at = range.start + done;
        const result = await sendWrite(this.#context, inode, range.as, at, bytes, 'unstable');
        if (!result.ok) return result;
        const { count, verifier, committed } = result.value;
        firstVerifier ??= verifier;
        writes.verifier = verifier;
        if (committed === 'unstable') durable = false;
        done += count;
      }
      this.#serial += 1;
      range.sent = this.#serial;
      range.verifier = firstVerifier ?? range.verifier;
      if (durable) writes.kept.drop((kept) => kept === range);
      return ok(undefined);
    } finally {
      range.memory.drop();
    }
  }

  #failed(inode: Inode, error: FsError): void {
    const { writes } = inode;
    if (writes === undefined || writes.kept.isEmpty) return;
    if (error.errno === 'ESTALE') {
      this.#giveUp(inode, error);
      return;
    }
    this.#context.events.writeBackFailed?.(inode.ino, writes.kept.sizeBytes, error);
  }

  /** W1's last resort: never silently. */
  #giveUp(inode: Inode, error: FsError): void {
    const { writes } = inode;
    if (writes === undefined) return;
    if (!inode.unlinked) {
      this.#serial += 1;
      writes.loss = { serial: this.#serial, error };
      this.#context.events.writesLost?.(inode.ino, writes.kept.sizeBytes, error);
    }
    inode.image?.lost(writes.kept.all());
    this.forgetDeleted(inode);
    this.#context.attributes.expire(inode.attributes);
  }

  /** Waits until less than the hard bound is held (W6); false when COMMITs do not make room. */
  async #waitForRoom(inode: Inode): Promise<boolean> {
    const { uncommittedMaxBytes } = this.#context.options;
    while (this.#heldBytes >= uncommittedMaxBytes) {
      const own = inode.writes?.kept.isEmpty === false;
      const file = own ? inode : this.#largest();
      // All memory is of writes in flight: they are answered before more is kept.
      if (file === undefined) return true;
      const result = await this.commit(file);
      if (!result.ok) return false;
    }
    return true;
  }

  #startCommits(inode: Inode): void {
    const { commitFileBytes, commitTotalBytes } = this.#context.options;
    const { sizeBytes = 0, count = 0 } = inode.writes?.kept ?? {};
    if (sizeBytes >= commitFileBytes || count >= manyRanges) this.#commitInBackground(inode);
    else if (this.#heldBytes >= commitTotalBytes) {
      const largest = this.#largest();
      if (largest !== undefined) this.#commitInBackground(largest);
    }
  }

  #commitInBackground(inode: Inode): void {
    if (inode.writes === undefined || inode.writes.committing !== undefined) return;
    // A failure is told by an event, and by the next fsync's own attempt.
    void this.commit(inode);
  }

  #largest(): Inode | undefined {
    let largest: Inode | undefined;
    for (const inode of this.#holding) {
      const size = inode.writes?.kept.sizeBytes ?? 0;
      if (size > (largest?.writes?.kept.sizeBytes ?? 0)) largest = inode;
    }
    return largest;
  }

  #checkHolding(inode: Inode): void {
    const holds = inode.writes?.kept.isEmpty === false;
    if (holds === this.#holding.has(inode)) return;
    if (holds) {
      this.#holding.add(inode);
      this.#context.inodes.pin(inode);
    } else {
      this.#holding.delete(inode);
      this.#context.inodes.unpin(inode);
    }
  }

  #writesOf(inode: Inode): FileWrites {
    inode.writes ??= {
      lane: new ChangeLane(),
      kept: new KeptBytes(),
      verifier: undefined,
      committing: undefined,
      loss: undefined,
      settling: undefined,
    };
    return inode.writes;
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#context.clock.after(delayMs, resolve);
    });
  }
}

/**
 * Runs a change of the size, of the mtime or of both, that the file's image is told of, while nothing
 * is being sent. What is unsent is noted to be of what the server has then: an end of the daemon must
 * not make our own change look like another's.
 */
async function settingAlone<T>(
  inode: Inode,
  size: number | undefined,
  mtimeNs: bigint | undefined,
  change: () => Outcome<T>,
): Promise<Result<T, FsError>> {
  const { image } = inode;
  const resize = size === undefined ? undefined : await image?.beginResize(size);
  const set = async () => {
    const before = image?.local.unsent?.mtimeNs;
    await image?.local.modified(mtimeNs);
    const result = await change();
    if (result.ok) inode.cutTo = size;
    await (result.ok ? resize?.done() : resize?.failed());
    inode.cutTo = undefined;
    const now = mtimeNs ?? inode.attributes.known?.mtimeNs;
    await image?.local.modified(result.ok ? now : before);
    // A change of the size has its own note, until all is sent.
    if (size !== undefined || image?.local.unsent === undefined) return result;
    image.changed();
    await image.settle('attributes');
    return result;
  };
  return image === undefined ? set() : image.local.setting(set);
}

function isAnyLost(writes: FileWrites): boolean {
  return writes.kept.all().some((range) => range.verifier !== writes.verifier);
}

function sumBytes(ranges: readonly KeptRange[]): number {
  return ranges.reduce((sum, range) => sum + range.bytes.length, 0);
}

/** What a write(2) may answer: the bytes from its start without a gap, else the first error. */
async function writtenFromStart(
  parts: readonly Outcome<number>[],
  partBytes: number,
): Outcome<number> {
  const results = await Promise.all(parts);
  let written = 0;
  for (const result of results) {
    if (!result.ok) return written > 0 ? ok(written) : result;
    written += result.value;
    if (result.value < partBytes) return ok(written);
  }
  return ok(written);
}
