/** Whatever happens to the cache's files, readers get the server's bytes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  closeSync,
  cpSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checksum, keptImages, withCachedExport } from './cached-export.ts';

const IMAGE_BYTES = 4 << 20;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

type Damage = (images: readonly string[]) => void;

const first = (images: readonly string[]) => {
  const [image] = images;
  assert.ok(image !== undefined, 'nothing is kept: the test would show nothing');
  return image;
};

function flip(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

const everywhere =
  (name: string, step: number): Damage =>
  (images) => {
    for (const image of images) {
      const path = join(image, name);
      for (let at = step >> 1; at < statSync(path).size; at += step) flip(path, at);
    }
  };

function swap(one: string, other: string): void {
  renameSync(one, `${one}.aside`);
  renameSync(other, one);
  renameSync(`${one}.aside`, other);
}

const damages: Record<string, Damage> = {
  'flipped bytes in data': everywhere('data', 100_000),
  'flipped bytes in the map': everywhere('map', 1000),
  'flipped bytes in the synced map': everywhere('map.synced', 1000),
  'flipped bytes in info': everywhere('info', 40),
  'data cut short': (images) => truncateSync(join(first(images), 'data'), 1_000_000),
  'data of length 0': (images) => truncateSync(join(first(images), 'data'), 0),
  'the map cut short': (images) => truncateSync(join(first(images), 'map'), 4096 + 100),
  'the map of length 0': (images) => truncateSync(join(first(images), 'map'), 0),
  'info of length 0': (images) => truncateSync(join(first(images), 'info'), 0),
  'no data': (images) => rmSync(join(first(images), 'data')),
  'no map': (images) => rmSync(join(first(images), 'map')),
  'no info': (images) => rmSync(join(first(images), 'info')),
  'zeros for data': (images) =>
    writeFileSync(join(first(images), 'data'), Buffer.alloc(IMAGE_BYTES)),
  'two images with their data swapped': ([a = '', b = '']) =>
    swap(join(a, 'data'), join(b, 'data')),
  'two images with their maps swapped': ([a = '', b = '']) => swap(join(a, 'map'), join(b, 'map')),
  'two images swapped whole': ([a = '', b = '']) => swap(a, b),
  'an image in the place of another': ([a = '', b = '']) => {
    rmSync(b, { recursive: true });
    cpSync(a, b, { recursive: true });
  },
};

describe('with its files damaged while no daemon ran, the cache gives no wrong byte', () => {
  for (const [name, damage] of Object.entries(damages)) {
    it(name, async () => {
      await withCachedExport(async (place) => {
        const one = sha256(place.image('one.raw', IMAGE_BYTES));
        const two = sha256(place.image('two.raw', IMAGE_BYTES));
        const before = await place.mount('session=exclusive');
        await checksum(before, 'one.raw');
        await checksum(before, 'two.raw');
        await before.close();
        const images = keptImages(place.cache).toSorted();
        assert.equal(images.length, 2);
        damage(images);
        for (const session of ['readonly', 'exclusive']) {
          const mount = await place.mount(`session=${session}`);
          assert.equal(await checksum(mount, 'one.raw'), one, session);
          assert.equal(await checksum(mount, 'two.raw'), two, session);
          await mount.close();
        }
      });
    });
  }
});
