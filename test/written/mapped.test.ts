/** A program that only stores to a shared mapping: what it stored before a write-back is sent by it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { PYTHON } from '../mount/children.ts';
import { withWrittenExport, writeBack } from './written-export.ts';

const PAGES = 256;
const PAGE_BYTES = 4096;

/** Stores a growing number to page after page; asked, it tells how many stores are done. */
const MAPPER = `import mmap, os, select, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
pages = int(sys.argv[2])
memory = mmap.mmap(fd, pages * 4096, mmap.MAP_SHARED)
store = 0
print('running', flush=True)
while True:
    for _ in range(200):
        store += 1
        struct.pack_into('<Q', memory, store % pages * 4096 + 8 * (store // pages % 512), store)
    if select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline(): break
        print(store, flush=True)`;

describe('a live writer through MAP_SHARED, without msync', () => {
  for (const what of ['the file', 'the mount'] as const) {
    it(`has at the server what it stored before the write-back of ${what}`, async () => {
      await withWrittenExport(async (written) => {
        const name = 'mapped.raw';
        const image = written.image(name, PAGES * PAGE_BYTES);
        const mount = await written.place.mount('session=exclusive', 'write=deferred');
        const mapper = await mount.children.start(
          PYTHON,
          ['-c', MAPPER, join(mount.mountpoint, name), String(PAGES)],
          { interactive: true },
        );
        await mapper.says('running\n');
        for (let round = 0; round < 3; round += 1) {
          const stores = Number(await mapper.ask('how many?'));
          assert.ok(stores > 0);
          await writeBack(mount, 'deferred', what === 'the file' ? name : '');
          assertStored(readFileSync(image.pathAtServer), stores);
        }
        mapper.endInput();
        await mapper.succeed();
      });
    });
  }

  /** Of each of the last stores up to `stores` its own number, or a later one, is in its place. */
  function assertStored(content: Buffer, stores: number): void {
    for (let store = Math.max(1, stores - PAGES * 512 + 1); store <= stores; store += 1) {
      const offset = (store % PAGES) * PAGE_BYTES + 8 * (Math.floor(store / PAGES) % 512);
      const found = Number(content.readBigUInt64LE(offset));
      const later = found > store && (found - store) % (PAGES * 512) === 0;
      assert.ok(found === store || later, `store ${store} of ${stores} is not there, but ${found}`);
    }
  }
});
