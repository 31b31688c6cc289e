/**
 * Boots a guest in QEMU and waits until it has done its work and powered itself off.
 *
 * KVM is used where it works, software emulation elsewhere. /dev/kvm may be absent, forbidden, or
 * there and unusable (inside of a virtual machine it can take a kernel and never run it), so a real
 * boot up to the initial RAM disk is tried.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type OwnedProcess, spawnOwned } from '../peers/owned-process.ts';
import {
  FAILURE_MARKER,
  KERNEL_MARKER,
  PROBE_PARAMETER,
  READY_MARKER,
  ROOT_MARKER,
} from './make.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface BootOptions {
  kernel: string;
  initrd: string;
  disk: string;
  /** QEMU's cache mode of the disk: none is O_DIRECT (the default). */
  cache?: 'none' | 'writeback';
  /** Default: the best that works here. */
  accelerator?: Accelerator;
  memoryMib?: number;
  /** When to give up (default 180 s). */
  limitMs?: number;
  /** Ends QEMU at once. */
  signal?: AbortSignal;
  /** Where QEMU is to write down each request to its disk (the trace event blk_co_preadv). */
  requestLog?: string;
  /** Called with each line of the serial console. */
  onLine?: (line: string) => void;
}

/** Times are milliseconds since QEMU was started. */
export interface Boot {
  accelerator: Accelerator;
  /** The guest's kernel runs and its RAM disk has taken over. */
  kernelMs: number;
  /** It runs from its disk. */
  rootMs: number;
  /** It has read its files and written its report. */
  readyMs: number;
  /** It has powered off and QEMU has ended. */
  endedMs: number;
  /** The checksum of what it read. */
  sha256: string;
  console: string[];
}

/** The guest did not come to its end; `console` and QEMU's own words tell why. */
export class BootError extends Error {
  readonly console: string[];

  constructor(message: string, console: string[]) {
    super(message);
    this.console = console;
  }
}

/** Rejects with a BootError when the guest did not do its work. Leaves no process either way. */
export async function bootGuest(options: BootOptions): Promise<Boot> {
  const accelerator = options.accelerator ?? (await bestAccelerator(options));
  const began = performance.now();
  const qemu = await spawnOwned('qemu-system-x86_64', qemuArguments(options, accelerator), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const seen = watch(qemu, began, options.onLine);
  const abort = () => void qemu.end('SIGKILL');
  options.signal?.addEventListener('abort', abort);
  const late = new AbortController();
  const limitMs = options.limitMs ?? 180_000;
  try {
    const ended = await Promise.race([
      qemu.ended,
      sleep(limitMs, undefined, { signal: late.signal }),
    ]);
    const endedMs = performance.now() - began;
    const sha256 = seen.console.find((line) => line.includes(READY_MARKER))?.split(READY_MARKER)[1];
    const failure = seen.console.find((line) => line.includes(FAILURE_MARKER));
    if (ended === undefined) {
      throw new BootError(`the guest did not end within ${limitMs / 1000} s`, seen.console);
    }
    if (ended.code !== 0 || sha256 === undefined) {
      const why = failure ?? (seen.complaints.trim() || 'the guest ended without its marker');
      throw new BootError(`${why} (QEMU: ${ended.signal ?? ended.code})`, seen.console);
    }
    const { kernelMs, rootMs, readyMs, console } = seen;
    return { accelerator, kernelMs, rootMs, readyMs, endedMs, sha256, console };
  } finally {
    late.abort();
    options.signal?.removeEventListener('abort', abort);
    await qemu.end('SIGKILL');
  }
}

/** KVM where this very kernel comes up under it within 5 s, else software emulation. */
export async function bestAccelerator(guest: {
  kernel: string;
  initrd: string;
}): Promise<Accelerator> {
  const qemu = await spawnOwned(
    'qemu-system-x86_64',
    machineArguments(guest, 'kvm', PROBE_PARAMETER),
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const seen = watch(qemu, performance.now());
  const late = new AbortController();
  await Promise.race([qemu.ended, sleep(PROBE_LIMIT_MS, undefined, { signal: late.signal })]);
  late.abort();
  await qemu.end('SIGKILL');
  return Number.isNaN(seen.kernelMs) ? 'tcg' : 'kvm';
}

const PROBE_LIMIT_MS = 5_000;

function machineArguments(
  guest: { kernel: string; initrd: string; memoryMib?: number },
  accelerator: Accelerator,
  parameters = '',
): string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-accel', accelerator, '-m', String(guest.memoryMib ?? 256)],
    ...['-kernel', guest.kernel, '-initrd', guest.initrd],
    ...['-append', `console=ttyS0 quiet panic=-1 ${parameters}`],
  ];
}

function qemuArguments(options: BootOptions, accelerator: Accelerator): string[] {
  const file = options.disk.replaceAll(',', ',,'); // QEMU's own way to quote a comma
  const cache = options.cache ?? 'none';
  return [
    ...machineArguments(options, accelerator),
    ...['-drive', `file=${file},format=raw,if=none,id=disk,cache=${cache}`],
    ...['-device', 'virtio-blk-pci,drive=disk'],
    ...(options.requestLog === undefined
      ? []
      : ['-trace', 'blk_co_preadv', '-D', options.requestLog]),
  ];
}

/** Follows the serial console. */
function watch(qemu: OwnedProcess, began: number, onLine?: (line: string) => void) {
  const seen = {
    console: [] as string[],
    complaints: '',
    kernelMs: Number.NaN,
    rootMs: Number.NaN,
    readyMs: Number.NaN,
  };
  let rest = '';
  qemu.child.stderr?.on('data', (chunk) => {
    seen.complaints += chunk;
  });
  qemu.child.stdout?.on('data', (chunk) => {
    const lines = (rest + chunk).split(/\r*\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const atMs = performance.now() - began;
      if (line.includes(KERNEL_MARKER)) seen.kernelMs = atMs;
      if (line.includes(ROOT_MARKER)) seen.rootMs = atMs;
      if (line.includes(READY_MARKER)) seen.readyMs = atMs;
      seen.console.push(line);
      onLine?.(line);
    }
  });
  return seen;
}
