/**
 * A cache of images in memory, small in its pages and strict: it keeps what it may keep, serves what
 * it may serve, and fails the test where the file system breaks the contract (ports.ts):
 *
 *  - bytes go to the server only under a pending change that covers them, or as they are kept
 *    already (what a restarted server lost is sent again);
 *  - each change is ended exactly once, and none is pending at the last close;
 *  - what is settled is what the server has under the stamp that it is settled with;
 *  - a held content is not changed.
 */
import assert from 'node:assert/strict';
import type { FileHandle, HandleId } from '../../src/base/brand.ts';
import type { Credentials } from '../../src/base/credentials.ts';
import { ok, type Result } from '../../src/base/result.ts';
import type { FsError } from '../../src/errors/fs-error.ts';
import type {
  Attributes,
  Backing,
  CachedImage,
  ContentStamp,
  ImageCache,
  ImageSource,
  KnowledgeStore,
  PendingChange,
  ReadReply,
} from '../../src/vfs/ports.ts';
import type { MemoryServer } from './memory-server.ts';

interface Content {
  size: number;
  readonly pages: Map<number, Buffer>;
  stamp: ContentStamp;
  state: 'settled' | 'writing';
  holds: number;
  readonly fd: number;
}

interface Change {
  readonly start: number;
  /** Exclusive, in bytes; Infinity for a change of the size. */
  readonly end: number;
}

export class MemoryImages implements ImageCache {
  readonly pageBytes: number;
  readonly knowledge = new MemoryKnowledge();
  /** Awaited before an image does something to itself. */
  delay: () => Promise<void> | undefined = () => undefined;
  /** Bytes of reads by where they came from. */
  cachedBytes = 0;
  fetchedBytes = 0;
  /** Opens that found a kept image of their content, and those that did not. */
  taken = 0;
  setAside = 0;
  replaced = 0;
  settled = 0;
  /** What was found wrong where nobody waits for it. */
  readonly faults: string[] = [];
  /** Whether a complete image can be read by the kernel itself. */
  holdable = true;
  readonly #server: MemoryServer;
  readonly #disk = new Map<string, Content>();
  readonly #open = new Map<string, MemoryImage>();
  #lastFd = 100;

  constructor(server: MemoryServer, pageBytes = 8) {
    this.#server = server;
    this.pageBytes = pageBytes;
    const write = server.write.bind(server);
    server.write = (as, file, offset, bytes, stability) => {
      this.#open.get(key(file))?.checkSent(offset, bytes);
      return write(as, file, offset, bytes, stability);
    };
    const setattr = server.setattr.bind(server);
    server.setattr = (as, file, changes, guard) => {
      if (changes.size !== undefined) this.#open.get(key(file))?.checkResized();
      return setattr(as, file, changes, guard);
    };
  }

  async open(file: FileHandle, content: Attributes, source: ImageSource): Promise<CachedImage> {
    await this.delay();
    const open = this.#open.get(key(file));
    if (open !== undefined) {
      open.opens += 1;
      open.source = source;
      return open;
    }
    const kept = this.#disk.get(key(file));
    this.#disk.delete(key(file));
    const isOf = kept?.state === 'settled' && sameStamp(kept.stamp, content);
    if (kept !== undefined) this[isOf ? 'taken' : 'setAside'] += 1;
    const image = new MemoryImage(this, file, isOf ? kept : this.newContent(content), source);
    this.#open.set(key(file), image);
    return image;
  }

  async isKept(file: FileHandle): Promise<boolean> {
    return this.#open.has(key(file)) || this.#disk.has(key(file));
  }

  newContent(of: Attributes): Content {
    this.#lastFd += 1;
    const fresh = { pages: new Map(), state: 'settled', holds: 0, fd: this.#lastFd } as const;
    return { ...fresh, size: of.size, stamp: stampOf(of) };
  }

  closed(image: MemoryImage): void {
    this.#open.delete(key(image.file));
    this.#disk.set(key(image.file), image.content);
  }

  /** What the server's file has if it is of the stamp. */
  serverBytes(file: FileHandle, stamp: ContentStamp): Buffer | undefined {
    const node = this.#server.nodeOf(file);
    const isOf = node !== undefined && sameStamp(stamp, { ...node, size: node.bytes.length });
    return isOf ? node.bytes : undefined;
  }

  /** The daemon dies: what is settled stays. */
  crash(): void {
    for (const image of this.#open.values()) {
      image.dead = true;
      if (image.content.state === 'settled') this.#disk.set(key(image.file), image.content);
    }
    this.#open.clear();
  }

  get openImages(): number {
    return this.#open.size;
  }

  /** Drops every `nth` page of all images. */
  evict(nth: number): void {
    for (const { content } of this.#open.values()) {
      if (content.holds > 0) continue;
      for (const page of [...content.pages.keys()]) {
        if (page % nth === 0) content.pages.delete(page);
      }
    }
  }

  presentBytes(file: FileHandle): number {
    const pages = (this.#open.get(key(file))?.content ?? this.#disk.get(key(file)))?.pages;
    return [...(pages?.values() ?? [])].reduce((sum, { length }) => sum + length, 0);
  }
}

class MemoryImage implements CachedImage {
  readonly file: FileHandle;
  content: Content;
  source: ImageSource;
  opens = 1;
  dead = false;
  readonly #cache: MemoryImages;
  readonly #pending = new Set<Change>();
  /** Moves with each change: what was asked for before one it overlaps is not kept. */
  readonly #cuts: { readonly change: Change; readonly at: number }[] = [];
  #now = 0;

  constructor(cache: MemoryImages, file: FileHandle, content: Content, source: ImageSource) {
    this.#cache = cache;
    this.file = file;
    this.content = content;
    this.source = source;
  }

  checkSent(offset: number, bytes: Buffer): void {
    const covers = ({ start, end }: Change) => start <= offset && end >= offset + bytes.length;
    if ([...this.#pending].some(covers)) return;
    const { pageBytes } = this.#cache;
    for (const [page, kept] of this.content.pages) {
      const from = Math.max(page * pageBytes, offset);
      const to = Math.min(page * pageBytes + kept.length, offset + bytes.length);
      if (from >= to) continue;
      const [sent, has] = [
        bytes.subarray(from - offset, to - offset),
        kept.subarray(from - page * pageBytes, to - page * pageBytes),
      ];
      assert.deepEqual(sent, has, 'bytes are sent that the cache was not told of');
    }
  }

  checkResized(): void {
    const isPending = [...this.#pending].some(({ end }) => end === Number.POSITIVE_INFINITY);
    assert(isPending, 'the size is set, and the cache was not told of it');
  }

  read(
    as: Credentials,
    _reader: HandleId,
    offset: number,
    length: number,
    fileSize: number,
  ): Result<ReadReply, FsError> | Promise<Result<ReadReply, FsError>> {
    assert(length > 0 && offset + length <= fileSize, 'a read beyond the size that it states');
    const found = this.#kept(offset, length);
    if (found === undefined) return this.#fetch(as, offset, length, fileSize);
    this.#cache.cachedBytes += length;
    return ok({ kind: 'bytes', bytes: [found], release: () => undefined });
  }

  readerGone(): void {}

  async beginWrite(offset: number, length: number): Promise<PendingChange> {
    const { size } = this.content;
    const change = this.#begin(Math.min(offset, size), offset + length);
    await this.#cache.delay();
    return this.#ending(change, (bytes) => {
      assert(bytes !== undefined && bytes.length <= length, 'a write that ends without its bytes');
      this.#put(offset, bytes);
      if (bytes.length < length) this.#drop(offset + bytes.length, offset + length);
    });
  }

  async beginResize(size: number): Promise<PendingChange> {
    const change = this.#begin(Math.min(size, this.content.size), Number.POSITIVE_INFINITY);
    await this.#cache.delay();
    return this.#ending(change, () => this.#resize(size));
  }

  async replace(content: Attributes): Promise<void> {
    this.#cache.replaced += 1;
    this.content = this.#cache.newContent(content);
    if (this.#pending.size > 0) this.content.state = 'writing';
    await this.#cache.delay();
  }

  async settle(): Promise<void> {
    await this.#cache.delay();
    const attributes = this.source.attributes();
    if (attributes === undefined || this.#pending.size > 0 || this.dead) return;
    if (attributes.size !== this.content.size) this.#resize(attributes.size);
    this.content.stamp = stampOf(attributes);
    this.content.state = 'settled';
    this.#cache.settled += 1;
    const bytes = this.#cache.serverBytes(this.file, attributes);
    if (bytes === undefined) return;
    for (const [page, kept] of this.content.pages) {
      const start = page * this.#cache.pageBytes;
      const has = bytes.subarray(start, start + this.#cache.pageBytes);
      if (!kept.equals(has)) this.#cache.faults.push(`settled page ${page} is not the server's`);
    }
  }

  hold(): { readonly fd: number; release(): void } | { readonly why: string } {
    const { content } = this;
    if (!this.#cache.holdable) return { why: 'not verified yet' };
    const count = Math.ceil(content.size / this.#cache.pageBytes);
    if (content.pages.size < count) return { why: 'not complete in the cache' };
    if (content.state === 'writing') return { why: 'being written' };
    content.holds += 1;
    let held = true;
    const release = () => {
      assert(held, 'released twice');
      held = false;
      content.holds -= 1;
    };
    return { fd: content.fd, release };
  }

  close(): void {
    assert(this.opens > 0, 'closed more often than opened');
    this.opens -= 1;
    if (this.opens > 0 || this.dead) return;
    assert.equal(this.#pending.size, 0, 'closed while a change is pending');
    this.#cache.closed(this);
  }

  #begin(start: number, end: number): Change {
    assert(this.opens > 0 || this.dead, 'changed while it is closed');
    if (this.content.holds > 0) this.content = { ...this.content, pages: new Map(), holds: 0 };
    this.content.state = 'writing';
    const change = { start, end };
    this.#pending.add(change);
    this.#cut(change);
    return change;
  }

  #cut(change: Change): void {
    this.#now += 1;
    this.#cuts.push({ change, at: this.#now });
  }

  #ending(change: Change, apply: (bytes: Buffer | undefined) => void): PendingChange {
    const end = async (work: () => void) => {
      await this.#cache.delay();
      work();
      assert(this.#pending.delete(change), 'a change that is ended twice');
    };
    const bytesNow = (bytes: Buffer | undefined) => {
      // Applied when it ended at the server, whatever comes between.
      assert(this.#pending.has(change), 'a change that is ended twice');
      apply(bytes);
    };
    return {
      done: (bytes) => {
        bytesNow(bytes);
        return end(() => undefined);
      },
      failed: () => end(() => this.#drop(change.start, change.end)),
    };
  }

  #kept(offset: number, length: number): Buffer | undefined {
    const { pageBytes } = this.#cache;
    if (offset + length > this.content.size) return undefined;
    const parts: Buffer[] = [];
    const first = Math.floor(offset / pageBytes);
    for (let page = first; page * pageBytes < offset + length; page++) {
      const kept = this.content.pages.get(page);
      if (kept === undefined || this.#isChanging(page)) return undefined;
      parts.push(kept);
    }
    const skip = offset - first * pageBytes;
    return Buffer.concat(parts).subarray(skip, skip + length);
  }

  async #fetch(
    as: Credentials,
    offset: number,
    length: number,
    fileSize: number,
  ): Promise<Result<ReadReply, FsError>> {
    const { pageBytes } = this.#cache;
    const { content, source } = this;
    const askedAt = this.#now;
    const first = Math.floor(offset / pageBytes);
    const last = Math.ceil((offset + length) / pageBytes);
    const start = first * pageBytes;
    const end = Math.min(last * pageBytes, fileSize);
    const pending = [...this.#pending];
    const fetched = await source.fetch(as, start, end - start);
    if (!fetched.ok) return fetched;
    const bytes = Buffer.from(fetched.value.bytes);
    fetched.value.release();
    await this.#cache.delay();
    this.#cache.fetchedBytes += bytes.length;
    const cuts = this.#cuts.filter(({ at }) => at > askedAt).map(({ change }) => change);
    const mayKeep = content === this.content && fileSize <= content.size && !this.dead;
    for (let page = first; mayKeep && page < last && content.holds === 0; page++) {
      const from = page * pageBytes;
      const wanted = Math.min(pageBytes, content.size - from);
      const isCut = [...cuts, ...pending].some((change) => overlaps(change, from, pageBytes));
      if (isCut || from - start + wanted > bytes.length || wanted <= 0) continue;
      content.pages.set(page, bytes.subarray(from - start, from - start + wanted));
    }
    const answer = bytes.subarray(offset - start, offset - start + length);
    return ok({ kind: 'bytes', bytes: [answer], release: () => undefined });
  }

  #put(offset: number, bytes: Buffer): void {
    const { content } = this;
    const { pageBytes } = this.#cache;
    const end = offset + bytes.length;
    if (end > content.size) this.#resize(end);
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < end; page++) {
      const from = page * pageBytes;
      const length = Math.min(pageBytes, content.size - from);
      const isWhole = offset <= from && end >= from + length;
      const kept = isWhole ? Buffer.alloc(length) : content.pages.get(page);
      if (kept === undefined) continue;
      const copy = Buffer.from(kept);
      const at = Math.max(from, offset);
      bytes.copy(copy, at - from, at - offset, Math.min(end, from + length) - offset);
      content.pages.set(page, copy);
    }
  }

  #resize(size: number): void {
    const { content } = this;
    const { pageBytes } = this.#cache;
    const old = content.size;
    content.size = size;
    for (const [page, kept] of [...content.pages]) {
      const length = Math.min(pageBytes, size - page * pageBytes);
      if (length <= 0) content.pages.delete(page);
      else if (length !== kept.length) {
        const resized = Buffer.alloc(length);
        kept.copy(resized);
        content.pages.set(page, resized);
      }
    }
    // A page that grows is what it was and zeros; those behind it are zeros, which a fetch tells.
    const last = Math.floor(old / pageBytes);
    if (size > old && !content.pages.has(last)) content.pages.delete(last);
  }

  #drop(start: number, end: number): void {
    for (const page of [...this.content.pages.keys()]) {
      const from = page * this.#cache.pageBytes;
      if (overlaps({ start, end }, from, this.#cache.pageBytes)) this.content.pages.delete(page);
    }
    this.#cut({ start, end });
  }

  #isChanging(page: number): boolean {
    const { pageBytes } = this.#cache;
    return [...this.#pending].some((change) => overlaps(change, page * pageBytes, pageBytes));
  }
}

export class MemoryKnowledge implements KnowledgeStore {
  blob: Buffer | undefined;
  saves = 0;

  async load(): Promise<Buffer | undefined> {
    return this.blob;
  }

  async save(bytes: Buffer): Promise<void> {
    this.saves += 1;
    this.blob = Buffer.from(bytes);
  }

  async forget(): Promise<void> {
    this.blob = undefined;
  }
}

/** The kernel's side of passthrough: which files it has open by itself. */
export class MemoryBacking implements Backing {
  readonly ids = new Map<number, number>();
  refuses = false;
  #lastId = 0;

  open(fd: number): number | undefined {
    if (this.refuses) return undefined;
    this.#lastId += 1;
    this.ids.set(this.#lastId, fd);
    return this.#lastId;
  }

  close(id: number): void {
    assert(this.ids.delete(id), 'a backing id that is closed twice');
  }
}

function overlaps({ start, end }: Change, from: number, length: number): boolean {
  return start < from + length && from < end;
}

function stampOf({ size, mtimeNs, ctimeNs }: ContentStamp): ContentStamp {
  return { size, mtimeNs, ctimeNs };
}

function sameStamp(one: ContentStamp, other: ContentStamp): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs && one.ctimeNs === other.ctimeNs;
}

function key(file: FileHandle): string {
  return file.toString('hex');
}
