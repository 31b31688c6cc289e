/**
 * Makes a small but real Linux guest out of Debian packages: kernel, initial RAM disk, disk image.
 *
 * The root file system is on the disk: the RAM disk only loads what finds it (virtio, ext4), mounts
 * it and hands over to the /sbin/init in it. That reads every file under /srv/read, writes the
 * checksum of what it read to /var/log/gvfs-boot, prints it on the serial console and powers off.
 * The content is random, so a right checksum proves that these very bytes were read.
 */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { debianKernel, type Kernel, moduleFiles } from './kernel.ts';

export interface GuestOptions {
  /** The disk's size (default 256 MiB), most of it free. */
  diskMib?: number;
  /** What the guest reads after its boot (default 16 MiB). */
  contentMib?: number;
}

/** The guest's files, all in one directory, and what it must report. */
export interface Guest {
  kernelVersion: string;
  kernel: string;
  initrd: string;
  disk: string;
  /** The checksum that the guest prints when it has read its files right. */
  sha256: string;
}

/** What the guest prints when its kernel is up, and when it runs from its disk. */
export const KERNEL_MARKER = 'GVFS-GUEST-KERNEL';
export const ROOT_MARKER = 'GVFS-GUEST-ROOT';
/** What the guest prints before the checksum when all went well. */
export const READY_MARKER = 'GVFS-GUEST-READY sha256=';
/** What it prints when something did not. */
export const FAILURE_MARKER = 'GVFS-GUEST-FAILED';
/** Where in its disk the guest leaves the checksum. */
export const REPORT_PATH = '/var/log/gvfs-boot';
/** On the kernel's command line: power off as soon as the kernel is up. */
export const PROBE_PARAMETER = 'gvfs.probe';

/** Writes vmlinuz, initrd.gz and disk.raw into `directory`. */
export async function makeGuest(directory: string, options: GuestOptions = {}): Promise<Guest> {
  const { diskMib = 256, contentMib = 16 } = options;
  const kernel = await debianKernel();
  const work = mkdtempSync(join(tmpdir(), 'gvfs-guest-'));
  const file = (name: string) => join(directory, name);
  try {
    copyFileSync(kernel.image, file('vmlinuz'));
    await makeInitrd(kernel, join(work, 'initrd'), file('initrd.gz'));
    const sha256 = makeRoot(kernel, join(work, 'root'), contentMib);
    await run('mkfs.ext4', ['-q', '-d', join(work, 'root'), file('disk.raw'), `${diskMib}M`]);
    return {
      kernelVersion: kernel.version,
      kernel: file('vmlinuz'),
      initrd: file('initrd.gz'),
      disk: file('disk.raw'),
      sha256,
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const run = promisify(execFile);
const BUSYBOX = '/bin/busybox';

async function makeInitrd(kernel: Kernel, tree: string, archive: string): Promise<void> {
  makeDirectories(tree, ['bin', 'dev', 'proc', 'sys', 'root', 'modules']);
  installBusybox(tree);
  const modules = await moduleFiles(kernel, ['virtio_pci', 'virtio_blk', 'ext4']);
  for (const module of modules) copyFileSync(module, join(tree, 'modules', basename(module)));
  writeExecutable(join(tree, 'init'), initrdScript(modules.map((module) => basename(module))));
  const pack =
    'cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -n -1 >"$2"';
  await run('sh', ['-c', pack, 'initrd', tree, archive]);
}

/** The tree of the root file system. Gives the checksum of what lies under /srv/read. */
function makeRoot(kernel: Kernel, tree: string, contentMib: number): string {
  const mountpoints = ['dev', 'proc', 'sys', 'tmp', 'root'];
  makeDirectories(tree, [...mountpoints, 'bin', 'sbin', 'etc', 'var/log', 'srv/read']);
  installBusybox(tree);
  cpSync(kernel.modules, join(tree, 'lib/modules', kernel.version), { recursive: true });
  writeFileSync(join(tree, 'etc/hostname'), 'gvfs-guest\n');
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\n');
  writeExecutable(join(tree, 'sbin/init'), ROOT_SCRIPT);

  const hash = createHash('sha256');
  for (let index = 0; index < contentMib; index++) {
    const half = randomBytes(1 << 19); // half random, half text that is twice as long
    const content =
      index % 2 === 0 ? Buffer.concat([half, half]) : Buffer.from(half.toString('hex'));
    writeFileSync(join(tree, 'srv/read', `part-${String(index).padStart(4, '0')}`), content);
    hash.update(content);
  }
  return hash.digest('hex');
}

function makeDirectories(tree: string, names: readonly string[]): void {
  for (const name of names) mkdirSync(join(tree, name), { recursive: true });
}

function installBusybox(tree: string): void {
  copyFileSync(BUSYBOX, join(tree, 'bin/busybox'));
  chmodSync(join(tree, 'bin/busybox'), 0o755);
  symlinkSync('busybox', join(tree, 'bin/sh'));
}

function writeExecutable(path: string, script: string): void {
  writeFileSync(path, script);
  chmodSync(path, 0o755);
}

function initrdScript(modules: readonly string[]): string {
  return `#!/bin/sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
echo "${KERNEL_MARKER}, Linux $(uname -r)"
grep -q ${PROBE_PARAMETER} /proc/cmdline && poweroff -f
for module in ${modules.join(' ')}; do insmod /modules/$module; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
if ! mount -t ext4 /dev/vda /root; then
  echo "${FAILURE_MARKER} the disk cannot be mounted"
  poweroff -f
fi
umount /proc
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
`;
}

const ROOT_SCRIPT = `#!/bin/sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
hostname -F /etc/hostname
echo "${ROOT_MARKER}, $(df -h / | tail -n 1)"
sum=$(cat /srv/read/* | sha256sum | cut -d ' ' -f 1)
if echo "$sum" >${REPORT_PATH} && sync && mount -o remount,ro /; then
  echo "${READY_MARKER}$sum"
else
  echo "${FAILURE_MARKER} the disk cannot be written"
fi
poweroff -f
`;
