/**
 * One visit to an empty export that calls each of the 22 procedures, some of them to fail: run
 * against a real server when exchanges are captured, and against the capture ever after.
 *
 * It depends on nothing but the answers, so that the same answers make it send the same bytes.
 */
import type { FileHandle } from '../../src/base/brand.ts';
import type { Result } from '../../src/base/result.ts';
import type { Nfs3Client, Nfs3Error } from '../../src/nfsc/index.ts';
import { name, root } from './support.ts';

export interface Step {
  readonly step: string;
  readonly result: Result<unknown, Nfs3Error>;
}

const user = { uid: 1000, gid: 1001, groups: [1002, 1003] };

export async function visitEveryProcedure(client: Nfs3Client): Promise<Step[]> {
  const steps: Step[] = [];
  async function step<T>(label: string, call: Promise<Result<T, Nfs3Error>>): Promise<T> {
    const result = await call;
    // The value's memory may be the client's: what is kept is a copy.
    steps.push({ step: label, result: copied(result) });
    return (result.ok ? result.value : {}) as T;
  }
  const { root: top } = client;
  const at = (text: string) => ({ directory: top, name: name(text) });
  const bytes = Buffer.from('five bytes and three');
  const mode = { mode: 0o640 };

  await step('NULL', client.null(root));
  await step('FSINFO', client.fsinfo(root));
  await step('PATHCONF', client.pathconf(root));
  await step('FSSTAT', client.fsstat(root, top));
  await step('GETATTR', client.getattr(root, top));
  await step('SETATTR', client.setattr(root, top, { mode: 0o777, mtime: 'server' }));
  const guarded = { kind: 'guarded', attributes: { ...mode, size: 0 } } as const;
  const made = await step('CREATE', client.create(user, top, name('file'), guarded));
  const file = made.file as FileHandle;
  await step('CREATE again', client.create(user, top, name('file'), guarded));
  await step('LOOKUP', client.lookup(user, top, name('file')));
  await step('LOOKUP of nothing', client.lookup(user, top, name('näht'.normalize('NFC'))));
  await step('ACCESS', client.access({ uid: 5, gid: 5, groups: [] }, file, 0x3f));
  await step('WRITE', client.write(user, file, 1, bytes, 'unstable'));
  await step('WRITE stable', client.write(user, file, 0, bytes.subarray(0, 5), 'fileSync'));
  await step('COMMIT', client.commit(user, file, 0, 0));
  await step('READ', client.read(user, file, 0, 7));
  await step('READ to the end', client.read(user, file, 16, 4096));
  const times = { atime: 1_234_567_890_123_456_789n, mtime: 1_000_000_000n };
  await step('SETATTR of times', client.setattr(user, file, { size: 3, ...times }));
  await step('SETATTR guarded', client.setattr(user, file, mode, 42n));
  await step('MKDIR', client.mkdir(user, top, name('directory'), { mode: 0o755 }));
  const link = await step('SYMLINK', client.symlink(user, top, name('link'), bytes, {}));
  await step('READLINK', client.readlink(user, link.file as FileHandle));
  const fifo = { type: 'fifo', attributes: mode } as const;
  await step('MKNOD', client.mknod(user, top, name('fifo'), fifo));
  const device = { type: 'block', attributes: mode, major: 8, minor: 1 } as const;
  await step('MKNOD of a device', client.mknod(root, top, name('device'), device));
  await step('LINK', client.link(user, file, at('second name')));
  await step('RENAME', client.rename(user, at('second name'), at('third name')));
  await step('RENAME of nothing', client.rename(user, at('second name'), at('x')));
  await step('READDIR', client.readdir(user, top, 0n, 0n, 4096));
  await step('READDIRPLUS', client.readdirplus(user, top, 0n, 0n, 8192));
  for (const text of ['file', 'third name', 'link', 'fifo', 'device']) {
    await step(`REMOVE ${text}`, client.remove(root, top, name(text)));
  }
  await step('REMOVE of a directory', client.remove(root, top, name('directory')));
  await step('RMDIR', client.rmdir(root, top, name('directory')));
  await step('GETATTR of what is gone', client.getattr(root, file));
  return steps;
}

/** As JSON can hold it: bigints and bytes as strings that say what they are. */
export function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, item: unknown) => {
      if (key === 'release') return undefined;
      if (typeof item === 'bigint') return `${item}n`;
      const bytes = item as { type?: unknown; data?: unknown } | null;
      if (bytes?.type === 'Buffer') return Buffer.from(bytes.data as number[]).toString('hex');
      return item;
    }),
  );
}

function copied<T>(result: Result<T, Nfs3Error>): Result<unknown, Nfs3Error> {
  const bytes = result.ok && (result.value as { bytes?: unknown } | undefined)?.bytes;
  if (!result.ok || !Buffer.isBuffer(bytes)) return result;
  const value = { ...result.value, bytes: Buffer.from(bytes) };
  (result.value as { release?: () => void }).release?.();
  return { ok: true, value };
}
