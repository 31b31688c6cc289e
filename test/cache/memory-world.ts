/**
 * A disk cache without a kernel, a network or a disk: one image of one server's file, where each
 * step of the server and of the disk is the test's to allow.
 *
 * What may be answered: a read sees each byte as it was at some time while the read was under way,
 * and nothing else. `Watched` collects the states of the file in that time.
 */
import assert from 'node:assert/strict';
import type { FileHandle, HandleId } from '../../src/base/brand.ts';
import type { CacheEvents, Session, WriteMode } from '../../src/cache/cache-parts.ts';
import { DiskCache } from '../../src/cache/disk-cache.ts';
import { fileIdOf } from '../../src/cache/file-id.ts';
import type { Image } from '../../src/cache/image.ts';
import type { ImageContent } from '../../src/cache/image-content.ts';
import type { Amount, DiskSizes } from '../../src/cache/space.ts';
import type { ReadReply } from '../../src/vfs/ports.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { GatedIo } from './memory-gated-io.ts';
import { withBytes } from './memory-sending.ts';
import { type Gate, type MemorySource, settled } from './memory-source.ts';
import { PaperDisk } from './paper-disk.ts';

export const someone = { uid: 1000, gid: 1000, groups: [] };
export const imageFile = Buffer.from('0102030405060708', 'hex') as FileHandle;
export const firstReader = 1 as HandleId;
export const thisBoot = 'b0'.repeat(16);
export const nextBoot = 'b1'.repeat(16);

const manySteps = 20_000;
const unlimited: DiskSizes = {
  fileSystem: () => Promise.resolve({ totalBytes: 2 ** 40, availableBytes: 2 ** 40 }),
  names: () => Promise.resolve([]),
  image: () => Promise.resolve(0),
  rest: () => Promise.resolve(0),
};

/** A read under way, or a reply that was not sent yet. */
interface Watched {
  readonly offset: number;
  readonly length: number;
  readonly states: Buffer[];
}

interface Patch {
  readonly offset: number;
  readonly bytes: Buffer;
}

interface HeldReply extends Watched {
  readonly reply: ReadReply & { readonly kind: 'file' };
  readonly fd: number;
}

export interface WorldOptions {
  readonly disk?: PaperDisk;
  readonly bootId?: string;
  readonly size?: Amount;
  readonly maxBacklogBytes?: number;
  readonly session?: Session;
  readonly write?: WriteMode;
  /** What programs see, where the server has not all of it. */
  readonly local?: Buffer;
  /** false: the image is not opened, either. */
  readonly opens?: boolean;
  /** What the disk says that the image takes. */
  readonly imageBytes?: (id: string) => number;
}

export class World {
  readonly source: MemorySource;
  /** What programs see, where the server has not all of it. */
  local: Buffer | undefined;
  readonly clock = new ManualClock();
  readonly disk: PaperDisk;
  readonly gated: GatedIo;
  readonly gates: Gate[] = [];
  readonly events: string[] = [];
  /** Writes under way: readers may see them already. */
  readonly #patches = new Set<Patch>();
  /** Replies from the file that the kernel has not got yet. */
  readonly replies: HeldReply[] = [];
  readonly #bootId: string;
  readonly #size: Amount;
  readonly #maxBacklogBytes: number;
  readonly #session: Session;
  readonly #write: WriteMode;
  readonly #sizes: DiskSizes;
  readonly #watched = new Set<Watched>();
  #cache: DiskCache | undefined;
  #image: Image | undefined;
  #failure: unknown;

  private constructor(source: MemorySource, options: WorldOptions) {
    this.source = source;
    this.disk = options.disk ?? new PaperDisk();
    this.gated = new GatedIo(this.disk.io);
    this.#bootId = options.bootId ?? thisBoot;
    this.#maxBacklogBytes = options.maxBacklogBytes ?? 2 ** 40;
    this.#size = options.size ?? { bytes: 2 ** 40 };
    this.#session = options.session ?? 'shared';
    this.#write = options.write ?? 'through';
    this.local = options.local;
    const { imageBytes = () => 0 } = options;
    this.#sizes = { ...unlimited, image: (id) => Promise.resolve(imageBytes(id)) };
  }

  static async open(source: MemorySource, options: WorldOptions = {}): Promise<World> {
    const world = new World(source, options);
    // As the file system does.
    source.shownSize = () => world.#image?.local?.unsent?.size ?? 0;
    await world.#openCache();
    if (options.opens !== false) await world.openImage();
    return world;
  }

  /** The file as programs see it. */
  get file(): Buffer {
    return this.local ?? this.source.bytes;
  }

  get cache(): DiskCache {
    assert.ok(this.#cache !== undefined);
    return this.#cache;
  }

  get image(): Image {
    assert.ok(this.#image !== undefined);
    return this.#image;
  }

  get content(): ImageContent {
    const { content } = this.image;
    assert.ok(content !== undefined, 'nothing is kept');
    return content;
  }

  /** Of one of the image's files. */
  imagePath(name: string): string {
    return `${this.cache.directory}/${fileIdOf(imageFile)}/${name}`;
  }

  /** From now on the server and the disk wait for the test. */
  gate(): void {
    this.source.gates = this.gates;
    this.gated.gates = this.gates;
  }

  /** Opens the gate at `index`, counted round, and lets all go on. */
  async step(index = 0): Promise<void> {
    if (this.gates.length > 0) {
      const [gate] = this.gates.splice(index % this.gates.length, 1);
      gate?.open();
    }
    await settled();
    this.#check();
  }

  /** Opens all gates until nothing waits any more. */
  async run(): Promise<void> {
    for (let steps = 0; this.gates.length > 0; steps++) {
      assert.ok(steps < manySteps, 'the world does not come to rest');
      await this.step();
    }
    await settled();
    this.#check();
  }

  /** Lets all go on until `work` has ended. */
  async until<T>(work: Promise<T>): Promise<T> {
    const ended = { yes: false };
    const noted = work.finally(() => {
      ended.yes = true;
    });
    for (let steps = 0; !ended.yes; steps++) {
      assert.ok(steps < manySteps, `it waits for ever: ${this.gates.map(({ what }) => what)}`);
      await this.step();
      this.clock.advance(1);
      if (steps > 50 && this.gates.length === 0) await this.finishReplies();
    }
    return noted;
  }

  /** Opens only the gates that `work` needs, and none that is `what`. */
  async untilExcept<T>(what: string, work: Promise<T>): Promise<T> {
    const ended = { yes: false };
    const noted = work.finally(() => {
      ended.yes = true;
    });
    await settled();
    for (let steps = 0; !ended.yes; steps++) {
      const index = this.gates.findIndex((gate) => gate.what !== what);
      assert.ok(steps < manySteps && index >= 0, `it waits for ${what}, or for ever`);
      await this.step(index);
    }
    return noted;
  }

  async openImage(): Promise<void> {
    const { source } = this;
    const opened = this.cache.open(imageFile, source.attributesNow(), source);
    this.#image = (await this.until(opened)) as Image;
  }

  closeImage(): void {
    this.image.close();
    this.#image = undefined;
  }

  /** Ends the daemon in order; its disk is there for another. */
  async close(): Promise<void> {
    await this.finishReplies();
    this.#image?.close();
    await this.until(this.cache.close());
    await this.run();
  }

  /** The file has just changed, or may have: reads under way may see it so. */
  changed(): void {
    const state = Buffer.from(this.file);
    for (const watched of this.#watched) watched.states.push(state);
    for (const reply of this.replies) reply.states.push(state);
  }

  /**
   * A program writes, and gets its answer when `acknowledged` is called: in between, readers see
   * the old bytes or the new ones. 'failed': nobody knows.
   */
  writing(offset: number, bytes: Buffer): (outcome: 'acknowledged' | 'failed') => void {
    const patch = { offset, bytes };
    this.#patches.add(patch);
    const state = withBytes(this.file, offset, bytes);
    for (const watched of [...this.#watched, ...this.replies]) watched.states.push(state);
    return (outcome) => {
      if (outcome === 'acknowledged') {
        this.#patches.delete(patch);
        this.local = withBytes(this.file, offset, bytes);
      }
      this.changed();
    };
  }

  /** A write of a program to the image, as the file system does it. */
  async write(offset: number, bytes: Buffer): Promise<'kept' | 'through' | 'failed'> {
    const { local } = this.image;
    assert.ok(local !== undefined, 'the image keeps no writes');
    const end = this.writing(offset, bytes);
    const written = await local.write(someone, offset, Buffer.from(bytes), this.file.length);
    if (written.ok && written.value === 'kept') {
      end('acknowledged');
      return 'kept';
    }
    end('failed');
    return written.ok ? 'through' : 'failed';
  }

  /** The same, with all that it needs; it has to be kept. */
  async writeNow(offset: number, bytes: Buffer): Promise<void> {
    assert.equal(await this.until(this.write(offset, bytes)), 'kept');
  }

  /** All that was acknowledged is at the server when it resolves. */
  async writeBackNow(): Promise<void> {
    const { local } = this.image;
    if (local === undefined) return;
    const sent = await this.until(local.writeBack());
    assert.ok(sent.ok, sent.ok ? '' : sent.error.message);
  }

  /** Begins a read; what it answers is checked when it does. */
  read(offset: number, length: number, reader = firstReader): Promise<'read' | 'failed'> {
    const states: Buffer[] = [Buffer.from(this.file)];
    for (const patch of this.#patches) {
      states.push(withBytes(this.file, patch.offset, patch.bytes));
    }
    const fileSize = this.file.length;
    const count = Math.max(Math.min(length, fileSize - offset), 0);
    const watched = { offset, length: count, states };
    this.#watched.add(watched);
    const answer = this.image.read(someone, reader, offset, length, fileSize);
    const arrived = async (): Promise<'read' | 'failed'> => {
      const result = await answer;
      this.#watched.delete(watched);
      if (!result.ok) return 'failed';
      this.#answered(watched, result.value);
      return 'read';
    };
    return arrived().catch((error: unknown) => {
      this.#failure ??= error;
      return 'failed' as const;
    });
  }

  /** A read that waits for all that it needs. Its bytes are checked. */
  async readNow(offset: number, length: number, reader = firstReader): Promise<void> {
    const outcome = await this.until(this.read(offset, length, reader));
    assert.equal(outcome, 'read');
    await this.finishReplies();
    this.#check();
  }

  /** Bytes as the image has them, of a file of so many. Nothing of it is checked. */
  async bytesOf(offset: number, length: number, fileSize: number): Promise<Buffer> {
    const answer = await this.image.read(someone, firstReader, offset, length, fileSize);
    assert.ok(answer.ok, answer.ok ? '' : answer.error.message);
    const reply = answer.value;
    if (reply.kind === 'zeros') return Buffer.alloc(reply.length);
    const bytes =
      reply.kind === 'bytes'
        ? Buffer.concat(reply.bytes)
        : Buffer.from(await this.fileBytes(reply.fd, reply.offset, reply.length));
    reply.release();
    return bytes;
  }

  /** The same, while earlier replies are left as they are. */
  async readNowBeside(offset: number, length: number): Promise<void> {
    const earlier = this.replies.splice(0);
    await this.readNow(offset, length);
    this.replies.push(...earlier);
  }

  /** The kernel has read the file's range, or could not. */
  async finishReply(index: number, errno = 0): Promise<void> {
    if (this.replies.length === 0) return;
    const [held] = this.replies.splice(index % this.replies.length, 1);
    assert.ok(held !== undefined);
    if (errno === 0) {
      this.#watched.add(held);
      const bytes = await this.fileBytes(held.fd, held.offset, held.length);
      this.#watched.delete(held);
      assert.equal(bytes.length, held.length, 'the local file is too short for a reply');
      this.#matches(held, bytes);
      held.reply.release();
      return;
    }
    this.#watched.add(held);
    const instead = async () => {
      const result = await held.reply.instead(errno);
      this.#watched.delete(held);
      if (result.ok) this.#answered(held, result.value);
      held.reply.release();
    };
    instead().catch((error: unknown) => {
      this.#failure ??= error;
    });
  }

  async finishReplies(): Promise<void> {
    while (this.replies.length > 0) await this.finishReply(0);
    await settled();
    this.#check();
  }

  /** Bytes of the local file, as a descriptor of it reads them now. */
  async fileBytes(fd: number, offset: number, length: number): Promise<Buffer> {
    const into = Buffer.alloc(length);
    const { errno, got } = await this.disk.io.read(fd, offset, into);
    assert.equal(errno, 0, 'a file that is being read was closed');
    return into.subarray(0, got);
  }

  async #openCache(): Promise<void> {
    const note =
      (what: string) =>
      (...told: unknown[]) => {
        this.events.push(`${what} ${told.map((one) => String(one)).join(' ')}`);
      };
    const events: CacheEvents = {
      setAside: note('setAside'),
      damaged: note('damaged'),
      notKept: note('notKept'),
      disk: (report, was) => this.events.push(`disk ${was} ${report.state}`),
      failure: note('failure'),
      conflict: note('conflict'),
      changedUnderDirty: note('changedUnderDirty'),
      dirty: note('dirty'),
      clean: note('clean'),
      notSent: (image, path) => this.events.push(`notSent ${image} ${path}`),
    };
    const opened = await DiskCache.open(
      {
        cacheDir: '/cache',
        server: 'server:2049',
        exportPath: '/export',
        mountpoint: '/mnt',
        socket: '',
        pid: 1,
        size: this.#size,
        maxBacklogBytes: this.#maxBacklogBytes,
        freeFloor: { bytes: 0 },
        session: this.#session,
        write: this.#write,
        clock: this.clock,
        io: this.gated.io,
        paths: this.disk.paths,
        bootId: this.#bootId,
        probe: () => Promise.resolve(0),
        sizes: this.#sizes,
      },
      events,
    );
    assert.ok(opened.ok, opened.ok ? '' : opened.error.message);
    this.#cache = opened.value;
  }

  #answered(watched: Watched, reply: ReadReply): void {
    switch (reply.kind) {
      case 'bytes':
        this.#matches(watched, Buffer.concat(reply.bytes));
        reply.release();
        break;
      case 'zeros':
        this.#matches(watched, Buffer.alloc(reply.length));
        break;
      case 'file':
        assert.equal(reply.length, watched.length);
        // The descriptor is the daemon's; the file stays whatever becomes of it.
        this.replies.push({ ...watched, reply, fd: reply.fd });
        break;
    }
  }

  #matches({ offset, length, states }: Watched, bytes: Buffer): void {
    if (bytes.length < length) {
      const shortest = Math.min(...states.map((state) => state.length));
      assert.ok(offset + bytes.length >= shortest, `short: ${bytes.length} of ${length}`);
    }
    if (states.some((state) => bytes.equals(state.subarray(offset, offset + bytes.length)))) return;
    for (let i = 0; i < bytes.length; i++) {
      // What was cut off and grown again was zero in between, whether anybody saw it or not.
      const possible = states.some((state) => state[offset + i] === bytes[i]);
      assert.ok(possible, `wrong byte ${bytes[i]} at ${offset + i} of ${offset}+${length}`);
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
