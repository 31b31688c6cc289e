/**
 * A small file system of its own, which a test may fill, break or cut from its power: ext4 on a loop
 * device, or a tmpfs. Unmounted and removed at the end, also when we are told to end.
 *
 * A power cut is ext4's own shutdown without a flush of its journal (EXT4_IOC_SHUTDOWN, fs/ext4/ext4.h):
 * what nobody had made durable is gone at the next mount, as the bytes on the device are the only thing
 * that counts then.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PYTHON } from './children.ts';

export class LoopDisk {
  /** Where it is mounted. */
  readonly path: string;
  readonly #home: string;
  /** undefined: a tmpfs. */
  readonly #device: string | undefined;
  readonly #lastResort = () => this.#remove();

  /** An ext4 of `mib` MiB, no blocks of it kept for root. */
  static ext4(mib: number): LoopDisk {
    const home = mkdtempSync(join(tmpdir(), 'gvfs-disk-'));
    const image = join(home, 'image');
    run('truncate', '-s', `${mib}M`, image);
    run('mkfs.ext4', '-q', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image);
    const device = run('losetup', '--find', '--show', image).trim();
    return new LoopDisk(home, device, ['-t', 'ext4', device]);
  }

  static tmpfs(mib: number): LoopDisk {
    const home = mkdtempSync(join(tmpdir(), 'gvfs-disk-'));
    return new LoopDisk(home, undefined, ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs']);
  }

  private constructor(home: string, device: string | undefined, mount: readonly string[]) {
    this.#home = home;
    this.#device = device;
    this.path = join(home, 'disk');
    mkdirSync(this.path);
    process.once('exit', this.#lastResort);
    run('mount', ...mount, this.path);
  }

  /** From now on everything fails, and what was not made durable is lost. */
  cutPower(): void {
    this.#shutDown(2); // EXT4_GOING_FLAGS_NOLOGFLUSH
  }

  /** Mounts it again, after its users have gone. */
  powerUp(): void {
    if (this.#device === undefined) throw new Error('a tmpfs has no second life');
    for (let attempt = 1; ; attempt += 1) {
      run('umount', this.path);
      run('mount', '-t', 'ext4', this.#device, this.path);
      try {
        // Another mount namespace may have kept the dead file system for a moment.
        writeFileSync(join(this.path, '.alive'), '');
        return;
      } catch (error) {
        if (attempt === 50) throw error;
        run('sleep', '0.1');
      }
    }
  }

  remove(): void {
    process.off('exit', this.#lastResort);
    this.#remove();
  }

  #shutDown(flags: number): void {
    const program = `import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', int(sys.argv[2])))`;
    run(PYTHON, '-c', program, this.path, String(flags));
  }

  #remove(): void {
    run('umount', '-l', this.path);
    if (this.#device !== undefined) run('losetup', '-d', this.#device);
    rmdirSync(this.path); // not recursive through a mount that is still there
    rmSync(this.#home, { recursive: true });
  }
}

export async function withDisk(disk: LoopDisk, body: (disk: LoopDisk) => Promise<void>) {
  try {
    await body(disk);
  } finally {
    disk.remove();
  }
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', timeout: 60_000 });
}
