/**
 * Another boot of the same host, as far as a cache can tell: its live maps were written under a boot
 * id that is not the present one.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { decodeMapHeader, encodeMapHeader, MAP_HEADER_BYTES } from '../../src/cache/map-file.ts';
import { keptImages } from '../cached/cached-export.ts';

/** How many maps there are. A header that a power loss has left unreadable stays as it is. */
export function pretendReboot(cache: string): number {
  const maps = keptImages(cache).map((image) => join(image, 'map'));
  return maps.filter(writtenInAnotherBoot).length;
}

function writtenInAnotherBoot(path: string): boolean {
  const fd = openSync(path, 'r+');
  try {
    const bytes = Buffer.alloc(MAP_HEADER_BYTES);
    readSync(fd, bytes, 0, bytes.length, 0);
    const header = decodeMapHeader(bytes);
    if (!header.ok) return false;
    const other = encodeMapHeader({ ...header.value, bootId: randomBytes(16).toString('hex') });
    assert.equal(writeSync(fd, other, 0, other.length, 0), other.length);
    return true;
  } finally {
    closeSync(fd);
  }
}
