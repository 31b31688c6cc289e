/**
 * Local files that the kernel reads by itself: FUSE passthrough, Linux 6.9 and newer.
 *
 *   untried --an id--> granted
 *      +----a refusal for good--> refused (nothing is tried any more)
 *
 * INIT does not tell whether it will be granted: the first file does. It takes CAP_SYS_ADMIN, and a
 * file system that stands on no other. What fails for the moment (no memory) is tried again.
 */
import { Errno } from '../errors/errno.ts';
import type { Backing } from '../vfs/ports.ts';
import type { Device } from './device.ts';

/** errno.h: nothing else of ours meets it. */
const ELOOP = 40;

/** Errno of a refusal that the next file would meet, too, and why it is refused. */
const REFUSALS: ReadonlyMap<number, string> = new Map([
  [Errno.EPERM, 'the kernel asks for CAP_SYS_ADMIN'],
  [ELOOP, 'the cache lies on a file system that is stacked on another'],
  [Errno.EOPNOTSUPP, 'the file system of the cache has no such files'],
]);

export class KernelBacking implements Backing {
  readonly #device: Device;
  #state = 'no file was passed to the kernel yet';
  #refused = false;

  constructor(device: Device) {
    this.#device = device;
  }

  /** 'yes' when the kernel has taken a file; else one clause that says why not. */
  get state(): string {
    return this.#state;
  }

  open(fd: number): number | undefined {
    if (this.#refused) return undefined;
    const id = this.#device.openBacking(fd);
    if (id > 0) {
      this.#state = 'yes';
      return id;
    }
    const refusal = REFUSALS.get(-id);
    this.#refused = refusal !== undefined;
    this.#state = refusal ?? `the kernel did not take a file: errno ${-id}`;
    return undefined;
  }

  /** An id that the kernel does not know any more (the mount is gone) is as good as closed. */
  close(id: number): void {
    this.#device.closeBacking(id);
  }
}
