/**
 * The NFSv3 client without FUSE, as a process of its own: what the mount can at most reach.
 *
 *   nfsc-alone.ts PORT MOUNT_PORT EXPORT FILE sequential          bytes a second, 1 MiB READs, 8 at once
 *   nfsc-alone.ts PORT MOUNT_PORT EXPORT FILE random DEPTH SECONDS   4 KiB READs a second
 */
import { Nfs3Client } from '../../src/nfsc/index.ts';

const AT_ONCE = 8;
const [port, mountPort, exportPath = '', file = '', kind, depth = '1', seconds = '3'] =
  process.argv.slice(2);

const client = must(
  await Nfs3Client.mount({
    server: '127.0.0.1',
    exportPath,
    port: Number(port),
    mountPort: Number(mountPort),
  }),
);
const root = { uid: 0, gid: 0, groups: [] };
const found = must(await client.lookup(root, client.root, Buffer.from(file) as never));
const { size } = must(await client.getattr(root, found.file));
const rate =
  kind === 'sequential' ? await sequential() : await random(Number(depth), Number(seconds) * 1000);
console.log(JSON.stringify({ rate }));
await client.unmount();

async function sequential(): Promise<number> {
  const step = client.limits.readMax;
  let next = 0;
  const began = performance.now();
  const reader = async () => {
    while (next < size) {
      const at = next;
      next += step;
      await read(at, Math.min(step, size - at));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
  return size / ((performance.now() - began) / 1000);
}

async function random(readers: number, forMs: number): Promise<number> {
  const pages = Math.floor(size / 4096);
  let reads = 0;
  const began = performance.now();
  const reader = async () => {
    while (performance.now() - began < forMs) {
      await read(Math.floor(Math.random() * pages) * 4096, 4096);
      reads++;
    }
  };
  await Promise.all(Array.from({ length: readers }, reader));
  return reads / ((performance.now() - began) / 1000);
}

async function read(offset: number, count: number): Promise<void> {
  const answer = must(await client.read(root, found.file, offset, count));
  if (answer.bytes.length !== count) throw new Error(`short READ: ${answer.bytes.length}`);
  answer.release();
}

function must<T>(result: { ok: true; value: T } | { ok: false; error: { message: string } }): T {
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}
