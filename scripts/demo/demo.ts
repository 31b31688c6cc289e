/**
 * `npm run demo`: a virtual machine boots from a disk image that lies on an NFS server.
 *
 * Starts nfs-ganesha on a fresh directory, puts a small real Linux guest there, mounts the export
 * with gvfs-mount, boots the guest in QEMU from the mount (O_DIRECT), and checks on the server that
 * what the guest read and wrote is right. Prints what crossed the network, counted on the wire.
 *
 * Needs root (for the server's mount namespace). Leaves nothing behind, interrupted or not; the
 * exit status is 0 only when everything was right.
 */
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BootError, bestAccelerator, bootGuest } from '../guest/boot.ts';
import { type Guest, makeGuest, REPORT_PATH } from '../guest/make.ts';
import { startGanesha } from '../peers/ganesha.ts';
import { isMounted, mount, unmount } from './mount.ts';
import { fact, heading, mebibytes, quote, seconds, timed } from './progress.ts';
import { wireTo } from './wire.ts';

const run = promisify(execFile);
const work = mkdtempSync(join(tmpdir(), 'gvfs-demo-'));
const mountpoint = join(work, 'mnt');
const log = join(work, 'gvfs.log');
const cleanups: (() => unknown)[] = [removeWork];
const interruption = new AbortController();

// npm passes a Ctrl-C on that we have got already: it must not kill us while we clean up.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interruption.abort());
}
try {
  await demo();
} catch (error) {
  if (interruption.signal.aborted) {
    process.exitCode = 130;
    console.error('\ndemo: interrupted');
  } else {
    process.exitCode = 1;
    explain(error);
  }
} finally {
  await cleanUp();
}

function explain(error: unknown): void {
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof BootError) quote('Serial console of the guest:', error.console.slice(-20));
  if (existsSync(log)) {
    quote('Log of gvfs-mount:', readFileSync(log, 'utf8').trimEnd().split('\n').slice(-20));
  }
}

async function demo(): Promise<void> {
  const { signal } = interruption;
  const step = <T>(label: string, does: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    return timed(label, does);
  };
  checkMachine();
  heading('gvfs: a virtual machine boots from a disk image on an NFS server');

  const server = await step('nfs-ganesha exports a fresh directory', () => startGanesha());
  cleanups.push(() => server.stop());
  const guest = await step('a guest is made of Debian packages and put there', () =>
    makeGuest(server.directory),
  );
  const accelerator = await step('KVM is tried', () => bestAccelerator(guest));
  const wire = await wireTo(server);
  cleanups.push(() => wire.stop());

  mkdirSync(mountpoint);
  const source = `127.0.0.1:${server.exportPath}`;
  const ports = [`port=${wire.port}`, `mountport=${wire.mountPort}`];
  cleanups.push(endMount);
  await step(`gvfs-mount -o nocache ${source} MOUNTPOINT`, () =>
    mount({ source, mountpoint, options: [...ports, 'nocache', `log=${log}`] }),
  );
  const mounted = await wire.traffic();

  const boot = await step('the guest boots from there, works and powers off', () =>
    bootGuest({ ...onTheMount(guest), accelerator, cache: 'none', signal }),
  );
  const traffic = await wire.traffic();
  await step('fusermount3 -u MOUNTPOINT, and the daemon ends', async () => {
    await unmount(mountpoint);
    await wire.untilClosed();
  });
  await step('what the guest read and wrote is right on the server', () =>
    verify(guest, boot.sha256),
  );

  heading('The guest');
  fact('kernel', `Linux ${guest.kernelVersion}, ${accelerator === 'kvm' ? 'KVM' : 'emulated'}`);
  fact('kernel up', seconds(boot.kernelMs));
  fact('runs from its disk', seconds(boot.rootMs));
  fact('files read, report written', seconds(boot.readyMs));
  fact('powered off', seconds(boot.endedMs));
  fact('checksum of its files', `${boot.sha256.slice(0, 16)}... as on the server`);

  heading('What crossed the network');
  const images = [guest.kernel, guest.initrd, guest.disk].map((file) => statSync(file).size);
  fact('by the mount', `${mounted.bytesToClient + mounted.bytesToServer} bytes`);
  fact('to the client in all', mebibytes(traffic.bytesToClient));
  fact('to the server in all', mebibytes(traffic.bytesToServer));
  fact('connections', String(traffic.connections));
  fact('size of the images', mebibytes(images.reduce((sum, size) => sum + size, 0)));
  console.log();
}

function checkMachine(): void {
  if (process.getuid?.() !== 0) throw new Error('needs root for its NFS server: sudo npm run demo');
  if (!existsSync('/dev/fuse')) throw new Error('there is no /dev/fuse: modprobe fuse');
}

/** The guest's files by their names on the mount: kernel and initrd come from there, too. */
function onTheMount(guest: Guest): { kernel: string; initrd: string; disk: string } {
  const name = (path: string) => join(mountpoint, path.slice(path.lastIndexOf('/') + 1));
  return { kernel: name(guest.kernel), initrd: name(guest.initrd), disk: name(guest.disk) };
}

/** Looks at the disk in the server's own directory: the guest's report, and the file system. */
async function verify(guest: Guest, sha256: string): Promise<void> {
  if (sha256 !== guest.sha256) {
    throw new Error(`the guest read other bytes: checksum ${sha256}, not ${guest.sha256}`);
  }
  const { stdout } = await run('debugfs', ['-R', `cat ${REPORT_PATH}`, guest.disk]);
  if (stdout.trim() !== sha256) {
    throw new Error(`the guest's report is not on the server: "${stdout.trim()}"`);
  }
  await run('e2fsck', ['-f', '-n', guest.disk]);
}

async function endMount(): Promise<void> {
  if (!isMounted(mountpoint)) return;
  await unmount(mountpoint).catch(() => run('umount', ['--lazy', mountpoint]));
}

/** Not recursively: if the mount were still there, that would empty the server's directory. */
function removeWork(): void {
  rmSync(log, { force: true });
  if (existsSync(mountpoint)) rmdirSync(mountpoint);
  rmdirSync(work);
}

/** Undoes what was done, last thing first; goes on where something cannot be undone. */
async function cleanUp(): Promise<void> {
  for (let cleanup = cleanups.pop(); cleanup !== undefined; cleanup = cleanups.pop()) {
    try {
      await cleanup();
    } catch (error) {
      process.exitCode = 1;
      console.error(`demo: cleaning up: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
