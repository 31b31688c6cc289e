/**
 * The methods of the control socket, over a running mount: those about how it is and what waits are
 * here, the others in modules of their own.
 *
 * Whatever may wait for the server is raced against the call's cancellation: a call never outlives
 * its client for long, nor the session. `status` and `failWaiting` ask the server nothing, since
 * they are for the time when it is away.
 */
import type { Ino } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { harmless } from '../../observe/printable.ts';
import type { Controlled, ControlledImage } from './controlled.ts';
import { ImageMethods } from './image-methods.ts';
import { Paths } from './paths.ts';
import { Failure, type Handlers, type Outcome } from './protocol.ts';
import {
  ErrorCode,
  type ParamsOf,
  PROTOCOL_VERSION,
  type ResultOf,
  type Status,
} from './schema.ts';
import { SendingMethods } from './sending-methods.ts';
import { Tasks } from './tasks.ts';
import { tellEvents } from './tell-events.ts';
import { unsentStatus } from './unsent-status.ts';

const WAITING_LISTED_MAX = 100;
/** For how long failWaiting waits to learn which file a name is. */
const NAME_LIMIT_MS = 2000;

export class Service {
  readonly handlers: Handlers;
  readonly #controlled: Controlled;
  readonly #clock: Clock;
  readonly #paths: Paths;
  readonly #tasks = new Tasks();
  readonly #ending = new AbortController();

  constructor(controlled: Controlled, clock: Clock) {
    this.#controlled = controlled;
    this.#clock = clock;
    this.#paths = new Paths(controlled);
    const { signal } = this.#ending;
    const images = new ImageMethods(controlled, clock, this.#paths, this.#tasks, signal);
    const sending = new SendingMethods(controlled, this.#paths, this.#tasks);
    this.handlers = {
      status: async () => this.#status(),
      failWaiting: (params) => this.#failWaiting(params),
      events: (params, call) => tellEvents(controlled.events, params, call),
      ...images.handlers,
      ...sending.handlers,
    };
  }

  /** The mount ends: what would hold it up is cancelled, and how it ends can still be asked. */
  ending(): void {
    this.#ending.abort();
  }

  #status(): Status {
    const { files, cache, kernel } = this.#controlled;
    const snapshot = this.#controlled.snapshot();
    const openFiles = files.openFiles();
    const paths = new Map(openFiles.map(({ ino, path }) => [ino, harmless(path)]));
    const waiting = kernel.waiting().toSorted((one, other) => other.ageMs - one.ageMs);
    return {
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
      ...snapshot,
      hitRatio: hitRatio(snapshot.bytes),
      unsent: unsentStatus(this.#controlled, this.#clock),
      open: openFiles.map((file) => ({
        path: harmless(file.path),
        sizeBytes: file.sizeBytes,
        presentBytes: presentOf(cache?.find(file.file), file.sizeBytes),
        readers: file.readers,
        writers: file.writers,
        servedBy: file.servedBy,
        why: file.why ?? null,
      })),
      waiting: waiting.slice(0, WAITING_LISTED_MAX).map(({ operation, ino, ageMs }) => ({
        operation,
        path: paths.get(ino) ?? this.#paths.pathOf(ino) ?? null,
        ageMs: Math.round(ageMs),
      })),
      waitingCount: waiting.length,
      tasks: this.#tasks.lines(),
    };
  }

  async #failWaiting({ path = '' }: ParamsOf<'failWaiting'>): Promise<Outcome<'failWaiting'>> {
    const { files, kernel } = this.#controlled;
    const fail = (inodes: ReadonlySet<Ino>): ResultOf<'failWaiting'> => {
      const failed = [...inodes].reduce((sum, ino) => sum + kernel.failWaiting(ino), 0);
      return { failed, waitElsewhere: kernel.waiting().length };
    };
    const waiting = new Set(kernel.waiting().map(({ ino }) => ino));
    if (path === '') return fail(waiting);
    // Who waits to open it has not opened it yet.
    const isMeant = (ino: Ino) => this.#paths.pathOf(ino) === path;
    const open = files.openFiles().filter((file) => harmless(file.path) === path);
    const inodes = new Set([...open.map(({ ino }) => ino), ...[...waiting].filter(isMeant)]);
    if (inodes.size > 0) return fail(inodes);
    const limit = new AbortController();
    const timer = this.#clock.after(NAME_LIMIT_MS, () => limit.abort());
    const located = await this.#paths.locate(path, limit.signal);
    timer.cancel();
    if (!(located instanceof Failure)) return fail(new Set([located.ino]));
    if (!limit.signal.aborted) return located;
    const message = 'it is not open, and the server does not say what it is';
    return new Failure({ code: ErrorCode.path, message, errno: 'ETIMEDOUT' });
  }
}

function presentOf(image: ControlledImage | undefined, sizeBytes: number): number | null {
  return image === undefined ? null : Math.min(image.presentBytes(), sizeBytes);
}

function hitRatio({ server, cache, zero, passthrough }: Status['bytes']): number | null {
  const here = cache + zero + (passthrough ?? 0);
  return here + server === 0 ? null : here / (here + server);
}
