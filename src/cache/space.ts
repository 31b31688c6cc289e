/**
 * How much of the disk an export's cache takes, and how much it may.
 *
 *        0 ........... 90 % ....... 95 % ..... 100 %  of the limit
 *                       low         high       full: nothing is stored
 *   disk free:  1.10 floors     1.05 floors    1 floor
 *
 * Eviction begins at a high mark and goes on to the low ones. All figures are allocated bytes
 * (st_blocks), so that they agree with du(1): holes cost nothing, maps and directories do.
 *
 * What is being stored is counted at once, as if none of it were zeros, and measured soon after:
 * in between the figure is never too low. Closed images are measured in the background after the
 * start, a few at a time, so that a thousand of them delay neither the mount nor the event loop.
 */
import { lstat, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Timer } from '../base/clock.ts';

/** Of the file system that the cache is on, or absolute. Percent: 0 to 100. */
export type Amount = { readonly bytes: number } | { readonly percent: number };

export interface FileSystemSize {
  readonly totalBytes: number;
  /** Free to us: what is reserved for root is not. */
  readonly availableBytes: number;
}

/** The export's directory on the disk. Calls reject with what node:fs says. */
export interface DiskSizes {
  fileSystem(): Promise<FileSystemSize>;
  /** The directories of images. */
  names(): Promise<readonly string[]>;
  /** One image's directory with all in it; 0 when it does not exist. */
  image(name: string): Promise<number>;
  /** All the rest: the export's directory itself, its files, what waits to be removed. */
  rest(): Promise<number>;
}

export interface SpaceOptions {
  readonly sizes: DiskSizes;
  readonly limit: Amount;
  readonly freeFloor: Amount;
  readonly clock: Clock;
  /** New figures are there: eviction looks at them. */
  readonly measured: () => void;
  /** The disk could not be asked. */
  readonly failed: (error: unknown) => void;
}

export interface SpaceReport {
  readonly usedBytes: number;
  readonly limitBytes: number;
  readonly freeFloorBytes: number;
  readonly availableBytes: number;
  /** All images that were there at the start are counted. */
  readonly scanned: boolean;
}

const HIGH_MARK = 0.95;
const LOW_MARK = 0.9;
const HIGH_FLOORS = 1.05;
const LOW_FLOORS = 1.1;
/** Growth is measured when it is this much of the limit, and at most this many bytes... */
const GROWTH_TO_MEASURE = 0.01;
const GROWTH_TO_MEASURE_BYTES = 64 * 1024 * 1024;
/** ...and otherwise when it is this old. */
const MEASURE_AFTER_MS = 1_000;
/** Directories being measured at once in the scan: libuv's pool has four threads for all. */
const SCAN_AT_ONCE = 2;

/** What one image takes: measured, plus what was stored since. */
interface Account {
  measuredBytes: number;
  grownBytes: number;
}

export class Space {
  readonly #options: SpaceOptions;
  readonly #accounts = new Map<string, Account>();
  /** Those with growth that is not measured yet. */
  readonly #grown = new Set<string>();
  #fileSystem: FileSystemSize;
  #imageBytes = 0;
  #restBytes = 0;
  /** Stored since the last look at the images, and since the last at the file system. */
  #unmeasuredBytes = 0;
  #sinceStatfsBytes = 0;
  #timer: Timer | undefined;
  #measuring: Promise<void> | undefined;
  #lane: Promise<void> = Promise.resolve();
  #scanning: Promise<void> | undefined;
  #scanned = false;
  #closed = false;

  private constructor(options: SpaceOptions, fileSystem: FileSystemSize) {
    this.#options = options;
    this.#fileSystem = fileSystem;
  }

  /** Asks for the size of the file system, nothing else. Rejects with what statfs(2) says. */
  static async open(options: SpaceOptions): Promise<Space> {
    return new Space(options, await options.sizes.fileSystem());
  }

  get usedBytes(): number {
    return this.#imageBytes + this.#restBytes;
  }

  get limitBytes(): number {
    return bytesOf(this.#options.limit, this.#fileSystem);
  }

  get freeFloorBytes(): number {
    return bytesOf(this.#options.freeFloor, this.#fileSystem);
  }

  /** Of the whole file system, as far as known. */
  get availableBytes(): number {
    return Math.max(0, this.#fileSystem.availableBytes - this.#sinceStatfsBytes);
  }

  report(): SpaceReport {
    const { usedBytes, limitBytes, freeFloorBytes, availableBytes } = this;
    const scanned = this.#scanned;
    return { usedBytes, limitBytes, freeFloorBytes, availableBytes, scanned };
  }

  /** Of one image. */
  allocatedBytes(name: string): number {
    const account = this.#accounts.get(name);
    return account === undefined ? 0 : account.measuredBytes + account.grownBytes;
  }

  /** May `bytes` more be stored? A full cache stores nothing until eviction has made room. */
  hasRoom(bytes: number): boolean {
    return this.missingBytes(bytes) === 0;
  }

  /** What has to go before `bytes` more can be stored; 0: nothing. */
  missingBytes(bytes: number): number {
    const overLimit = this.usedBytes + bytes - this.limitBytes;
    const belowFloor = this.freeFloorBytes - (this.availableBytes - bytes);
    return Math.max(overLimit, belowFloor, 0);
  }

  /** `bytes` are being stored in an image. Not more often than once a store. */
  grew(name: string, bytes: number): void {
    this.#account(name).grownBytes += bytes;
    this.#imageBytes += bytes;
    this.#unmeasuredBytes += bytes;
    this.#sinceStatfsBytes += bytes;
    this.#grown.add(name);
    const most = Math.min(GROWTH_TO_MEASURE * this.limitBytes, GROWTH_TO_MEASURE_BYTES);
    if (this.#unmeasuredBytes >= most) void this.refresh();
    else this.#measureLater();
  }

  /** Measures an image anew: it was taken up, closed, cut, or a part of it went. */
  measure(name: string): Promise<void> {
    // One after the other: two measurements of an image at once would both take off its growth.
    this.#lane = this.#lane.then(() => this.#measure(name));
    return this.#lane;
  }

  /** The image's directory is no more. */
  removed(name: string): void {
    const account = this.#accounts.get(name);
    if (account === undefined) return;
    this.#imageBytes -= account.measuredBytes + account.grownBytes;
    this.#accounts.delete(name);
    this.#grown.delete(name);
    this.#measureLater();
  }

  overHighBytes(): number {
    return this.#over(HIGH_MARK, HIGH_FLOORS);
  }

  overLowBytes(): number {
    return this.#over(LOW_MARK, LOW_FLOORS);
  }

  /** Measures all images that are on the disk, in the background; once. */
  scan(): Promise<void> {
    this.#scanning ??= this.#scan();
    return this.#scanning;
  }

  /** Measures what has grown, the rest, and the file system; one round at a time. */
  refresh(): Promise<void> {
    this.#measuring ??= this.#refresh().finally(() => {
      this.#measuring = undefined;
      if (this.#grown.size > 0) this.#measureLater();
    });
    return this.#measuring;
  }

  /** Resolves when nothing of it touches the disk any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#scanning;
    await this.#measuring;
    await this.#lane;
  }

  #account(name: string): Account {
    let account = this.#accounts.get(name);
    if (account === undefined) {
      account = { measuredBytes: 0, grownBytes: 0 };
      this.#accounts.set(name, account);
    }
    return account;
  }

  #over(part: number, floors: number): number {
    const aboveLimit = this.usedBytes - Math.round(part * this.limitBytes);
    const belowFloor = Math.round(floors * this.freeFloorBytes) - this.availableBytes;
    // Not more than there is: what others keep on the disk is not ours to free.
    return Math.min(Math.max(aboveLimit, belowFloor, 0), this.#imageBytes);
  }

  #measureLater(): void {
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = this.#options.clock.after(MEASURE_AFTER_MS, () => {
      this.#timer = undefined;
      void this.refresh();
    });
  }

  async #refresh(): Promise<void> {
    this.#unmeasuredBytes = 0;
    const names = [...this.#grown];
    this.#grown.clear();
    for (const name of names) {
      if (this.#closed) return;
      await this.measure(name);
    }
    this.#restBytes = (await this.#ask(this.#options.sizes.rest())) ?? this.#restBytes;
    await this.#askFileSystem();
    if (!this.#closed) this.#options.measured();
  }

  async #measure(name: string): Promise<void> {
    if (this.#closed) return;
    const account = this.#account(name);
    const { grownBytes } = account;
    const bytes = await this.#ask(this.#options.sizes.image(name));
    if (bytes === undefined || this.#accounts.get(name) !== account) return;
    // What was stored while the disk was asked may be in the answer or not: it stays counted.
    this.#imageBytes += bytes - account.measuredBytes - grownBytes;
    account.measuredBytes = bytes;
    account.grownBytes -= grownBytes;
    if (account.grownBytes > 0) this.#grown.add(name);
    else if (bytes === 0) this.#accounts.delete(name);
    await this.#askFileSystem();
  }

  async #scan(): Promise<void> {
    const names = [...((await this.#ask(this.#options.sizes.names())) ?? [])];
    const worker = async () => {
      for (let name = names.pop(); name !== undefined && !this.#closed; name = names.pop()) {
        await this.#count(name);
      }
    };
    await Promise.all(Array.from({ length: SCAN_AT_ONCE }, worker));
    if (this.#closed) return;
    this.#scanned = true;
    await this.refresh();
  }

  /** An image of the scan, unless it was opened and measured in the meantime. */
  async #count(name: string): Promise<void> {
    if (this.#accounts.has(name)) return;
    const bytes = await this.#ask(this.#options.sizes.image(name));
    if (bytes === undefined || bytes === 0 || this.#accounts.has(name)) return;
    this.#account(name).measuredBytes = bytes;
    this.#imageBytes += bytes;
  }

  async #askFileSystem(): Promise<void> {
    const before = this.#sinceStatfsBytes;
    const fileSystem = await this.#ask(this.#options.sizes.fileSystem());
    if (fileSystem === undefined) return;
    this.#fileSystem = fileSystem;
    this.#sinceStatfsBytes = Math.max(0, this.#sinceStatfsBytes - before);
  }

  async #ask<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (error) {
      this.#options.failed(error);
      return undefined;
    }
  }
}

/** In bytes, of a file system of this size. */
export function bytesOf(amount: Amount, fileSystem: FileSystemSize): number {
  if ('bytes' in amount) return amount.bytes;
  return Math.floor((amount.percent / 100) * fileSystem.totalBytes);
}

/** The sizes of an export's directory, asked from the disk. `notImages`: names beside them. */
export function diskSizes(exportPath: string, isImage: (name: string) => boolean): DiskSizes {
  return {
    async fileSystem() {
      const { bsize, blocks, bavail } = await statfs(exportPath);
      return { totalBytes: blocks * bsize, availableBytes: bavail * bsize };
    },
    async names() {
      return (await readdir(exportPath)).filter(isImage);
    },
    image: (name) => treeBytes(join(exportPath, name)),
    async rest() {
      let bytes = await allocated(exportPath);
      for (const name of await readdir(exportPath)) {
        if (!isImage(name)) bytes += await treeBytes(join(exportPath, name));
      }
      return bytes;
    },
  };
}

/** A directory with all in it, as du(1) counts; 0 for what does not exist. */
async function treeBytes(path: string): Promise<number> {
  const entry = await ifExists(lstat(path));
  if (entry === undefined) return 0;
  let bytes = entry.blocks * 512;
  if (!entry.isDirectory()) return bytes;
  for (const name of (await ifExists(readdir(path))) ?? []) {
    bytes += await treeBytes(join(path, name));
  }
  return bytes;
}

async function allocated(path: string): Promise<number> {
  return ((await ifExists(lstat(path)))?.blocks ?? 0) * 512;
}

/** What goes away while it is looked at is no failure. */
async function ifExists<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
