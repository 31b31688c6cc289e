/**
 * The kernel's own protocol over /dev/fuse, through the addon.
 */
import type { Ino } from '../base/brand.ts';
import { systemClock } from '../base/clock.ts';
import type { Histogram } from '../base/histogram.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { FileSystem } from '../vfs/operations.ts';
import { abandon, attach, detach, type Place } from './attach.ts';
import { KernelBacking } from './backing.ts';
import { type Binding, loadBinding } from './binding.ts';
import { Callers } from './caller.ts';
import { type Agreement, isPassthrough } from './init.ts';
import { readReadAhead, writeReadAhead } from './mountinfo.ts';
import { NativeDevice } from './native-device.ts';
import { noticesTo } from './notices.ts';
import { READ_MAX_BYTES } from './operations.ts';
import { rehearse } from './rehearsal.ts';
import { type Counters, Session } from './session.ts';
import type {
  Capabilities,
  End,
  MountError,
  Mounted,
  MountSettings,
  Transport,
  UnmountError,
  Waiting,
} from './transport.ts';

/** What a rehearsal may add to the time of a mount. */
const REHEARSAL_LIMIT_MS = 50;

export interface NativeMounted extends Mounted {
  readonly counters: Readonly<Counters>;
  /** Requests that wait for the file system. */
  readonly inFlight: number;
}

export class NativeTransport implements Transport {
  readonly name = 'native';

  async mount(fs: FileSystem, settings: MountSettings): Promise<Result<NativeMounted, MountError>> {
    const binding = loadBinding();
    if (!binding.ok) return err({ code: 'NO_ADDON', message: binding.error });
    if (settings.rehearse !== false) await rehearse(fs, REHEARSAL_LIMIT_MS);
    const attached = await attach(binding.value, settings);
    if (!attached.ok) return attached;
    const { fd, place } = attached.value;
    const device = new NativeDevice(binding.value, fd);
    const session = new Session({
      device,
      fs,
      callers: new Callers(systemClock),
      clock: systemClock,
      wishes: {
        autoInvalidate: settings.autoInvalidate,
        passthrough: settings.passthrough === true,
      },
    });
    device.start(session);
    const ended = session.ended.then((end) => wind(binding.value, device, place, end));
    const agreement = await Promise.race([session.ready, ended]);
    if (agreement === undefined) {
      await abandon(binding.value, place);
      await ended;
      return err({
        code: 'KERNEL_TOO_OLD',
        message: "this kernel's FUSE protocol is older than 7.31: Linux 5.4 or newer is needed",
      });
    }
    if ('reason' in agreement) {
      const why = agreement.reason === 'failed' ? agreement.error.message : 'it was unmounted';
      return err({ code: 'MOUNT_FAILED', message: `the mount ended before it began: ${why}` });
    }
    const capabilities = await agreed(place, settings, agreement);
    const backing = isPassthrough(agreement) ? new KernelBacking(device) : undefined;
    return ok(new NativeMount(binding.value, place, capabilities, backing, device, session, ended));
  }
}

class NativeMount implements NativeMounted {
  readonly mountpoint: string;
  readonly notices;
  readonly backing: KernelBacking | undefined;
  readonly ended: Promise<End>;
  readonly #binding: Binding;
  readonly #place: Place;
  readonly #capabilities: Capabilities;
  readonly #session: Session;

  constructor(
    binding: Binding,
    place: Place,
    capabilities: Capabilities,
    backing: KernelBacking | undefined,
    device: NativeDevice,
    session: Session,
    ended: Promise<End>,
  ) {
    this.#binding = binding;
    this.mountpoint = place.mountpoint;
    this.#place = place;
    this.#capabilities = capabilities;
    this.backing = backing;
    this.notices = noticesTo(device);
    this.#session = session;
    this.ended = ended;
  }

  get capabilities(): Capabilities {
    const passthrough = this.backing?.state ?? this.#capabilities.passthrough;
    return { ...this.#capabilities, passthrough };
  }

  get counters(): Readonly<Counters> {
    return this.#session.counters;
  }

  get inFlight(): number {
    return this.#session.inFlight;
  }

  waiting(): Waiting[] {
    return this.#session.waiting();
  }

  failWaiting(ino: Ino): number {
    return this.#session.failWaiting(ino);
  }

  latencies(): ReadonlyMap<string, Histogram> {
    return this.#session.latencies();
  }

  unmount(): Promise<Result<void, UnmountError>> {
    return detach(this.#binding, this.#place);
  }

  async abandon(): Promise<void> {
    this.#session.abandon();
    await this.ended;
  }
}

/** The end of it: what is still in the tree is taken out of it, and every thread ends. */
async function wind(binding: Binding, device: NativeDevice, place: Place, end: End): Promise<End> {
  await abandon(binding, place).catch(() => undefined); // the threads end in any case
  await device.stop();
  return end;
}

async function agreed(
  { device }: Place,
  settings: MountSettings,
  agreement: Agreement,
): Promise<Capabilities> {
  if (device !== undefined && settings.readAheadKib !== undefined) {
    await writeReadAhead(device, settings.readAheadKib);
  }
  return {
    protocol: `7.${agreement.minor}`,
    maxReadBytes: READ_MAX_BYTES,
    maxWriteBytes: agreement.maxWriteBytes,
    readAheadKib: device === undefined ? undefined : await readReadAhead(device),
    passthrough:
      settings.passthrough === true ? 'the kernel has none (Linux 6.9)' : 'not asked for',
  };
}
