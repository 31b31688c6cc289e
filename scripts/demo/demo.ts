/**
 * `npm run demo`: a virtual machine boots from a disk image that lies on an NFS server, and boots
 * once more, after a restart of the daemon, without a byte of the image from the network.
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
import { type Boot, BootError, bestAccelerator, bootGuest } from '../guest/boot.ts';
import { type Guest, makeGuest, REPORT_PATH } from '../guest/make.ts';
import { startGanesha } from '../peers/ganesha.ts';
import { imageBytesRead, isMounted, mount, unmount, warm } from './mount.ts';
import { fact, heading, mebibytes, quote, seconds, timed } from './progress.ts';
import { wireTo } from './wire.ts';

const run = promisify(execFile);
const work = mkdtempSync(join(tmpdir(), 'gvfs-demo-'));
const mountpoint = join(work, 'mnt');
const cache = join(work, 'cache');
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
  cleanups.push(endMount);
  const gvfsMount = (label: string) =>
    step(label, () =>
      mount({
        source: `127.0.0.1:${server.exportPath}`,
        mountpoint,
        options: [
          ...[`port=${wire.port}`, `mountport=${wire.mountPort}`, `log=${log}`],
          ...['session=exclusive', `cachedir=${cache}`],
        ],
      }),
    );
  const boot = (label: string) =>
    step(label, () => bootGuest({ ...onTheMount(guest), accelerator, cache: 'none', signal }));
  const end = () =>
    step('fusermount3 -u MOUNTPOINT, and the daemon ends', async () => {
      await unmount(mountpoint);
      await wire.untilClosed();
    });

  await gvfsMount('gvfs-mount -o session=exclusive SERVER:/EXPORT MOUNTPOINT');
  const first = await boot('the guest boots from there, works and powers off');
  const firstReads = await imageBytesRead(mountpoint);
  const booted = await wire.traffic();
  await step('gvfs warm: what the guest has not touched is fetched, too', () =>
    warm(onTheMount(guest).disk),
  );
  await end();
  const between = await wire.traffic();
  await gvfsMount('gvfs-mount again: another daemon, the same cache');
  const second = await boot('the guest boots once more');
  const secondReads = await imageBytesRead(mountpoint);
  await end();
  const traffic = await wire.traffic();
  await step('what the guest read and wrote is right on the server', async () => {
    if (first.sha256 !== second.sha256) throw new Error('the two boots read different bytes');
    await verify(guest, second.sha256);
  });
  if (secondReads > 0) throw new Error(`the second boot read ${secondReads} bytes from the server`);

  heading('The guest                           first boot    second boot');
  const both = (label: string, of: (boot: Boot) => string) =>
    fact(label, `${of(first).padEnd(13)} ${of(second)}`);
  fact('kernel', `Linux ${guest.kernelVersion}, ${accelerator === 'kvm' ? 'KVM' : 'emulated'}`);
  both('kernel up', ({ kernelMs }) => seconds(kernelMs));
  both('runs from its disk', ({ rootMs }) => seconds(rootMs));
  both('files read, report written', ({ readyMs }) => seconds(readyMs));
  both('powered off', ({ endedMs }) => seconds(endedMs));
  fact('images read from the server', `${mebibytes(firstReads).padEnd(13)} ${secondReads} bytes`);
  fact('checksum of its files', `${second.sha256.slice(0, 16)}... as on the server`);

  heading('What crossed the network');
  const images = [guest.kernel, guest.initrd, guest.disk].map((file) => statSync(file).size);
  fact('size of the images', mebibytes(images.reduce((sum, size) => sum + size, 0)));
  const warmed = between.bytesToClient - booted.bytesToClient;
  fact('to the client, first boot', mebibytes(booted.bytesToClient));
  fact('to the client, gvfs warm', mebibytes(warmed));
  fact('to the client, second boot', mebibytes(traffic.bytesToClient - between.bytesToClient));
  fact('to the server in all', mebibytes(traffic.bytesToServer));
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
  rmSync(cache, { recursive: true, force: true });
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
