/**
 * What a bench case does to a directory, as a process of its own: it may be a mount, which no
 * process that is needed to serve it may touch. Prints one JSON object.
 *
 *   workload.ts first-byte FILE        ms from open(2) to the first 4 KiB
 *   workload.ts write FILE BYTES       write(2) of 1 MiB blocks and one fsync(2): bytes a second
 *   workload.ts names DIRECTORY COUNT  operations a second of one thread: create, unlink
 *   workload.ts stat DIRECTORY         first stat(2)s after a listing, a second (listing not counted)
 */
import { randomFillSync } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';

const BLOCK_BYTES = 1 << 20;

const [kind, path = '', count = '0'] = process.argv.slice(2);
const workloads: Record<string, () => Record<string, number>> = {
  'first-byte': () => ({ ms: firstByteMs(path) }),
  write: () => ({ bytesPerSecond: writeRate(path, Number(count)) }),
  names: () => names(path, Number(count)),
  stat: () => ({ stat: statRate(path) }),
};
const workload = workloads[kind ?? ''];
if (workload === undefined) throw new Error(`unknown workload ${kind}`);
console.log(JSON.stringify(workload()));

function firstByteMs(file: string): number {
  const page = Buffer.alloc(4096);
  return timedMs(() => {
    const fd = fs.openSync(file, 'r');
    const bytes = fs.readSync(fd, page, 0, page.length, 0);
    if (bytes !== page.length) throw new Error(`read ${bytes} bytes of ${file}`);
  });
}

function writeRate(file: string, size: number): number {
  const block = randomFillSync(Buffer.alloc(BLOCK_BYTES));
  const fd = fs.openSync(file, 'w');
  const ms = timedMs(() => {
    for (let at = 0; at < size; at += BLOCK_BYTES) {
      if (fs.writeSync(fd, block) !== BLOCK_BYTES) throw new Error('short write');
    }
    fs.fsyncSync(fd);
  });
  fs.closeSync(fd);
  return size / (ms / 1000);
}

function names(directory: string, files: number): Record<string, number> {
  const home = fs.mkdtempSync(join(directory, 'names-'));
  const paths = Array.from({ length: files }, (_, at) => join(home, `file-${at}`));
  const rate = (work: () => void) => files / (timedMs(work) / 1000);
  const create = rate(() => {
    for (const file of paths) fs.closeSync(fs.openSync(file, 'w'));
  });
  const unlink = rate(() => {
    for (const file of paths) fs.unlinkSync(file);
  });
  fs.rmdirSync(home);
  return { create, unlink };
}

function statRate(directory: string): number {
  const files = fs.readdirSync(directory);
  const ms = timedMs(() => {
    for (const file of files) fs.statSync(join(directory, file));
  });
  return files.length / (ms / 1000);
}

function timedMs(work: () => void): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}
