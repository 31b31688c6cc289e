/**
 * The layers of a mount below the kernel, joined: server, cache, file system, control socket. They
 * are opened upwards, and closed in the order that keeps what each one promises:
 *
 *   control socket    nobody asks any more
 *   file system       acknowledged writes are made durable, what is known is saved in the cache
 *   cache             images are written down, the lock is given back
 *   client            the server is told
 *
 * The cache may go before its turn, when the next mount of the export asks for it (`letGo`).
 */
import { systemClock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { formatSource } from '../config/mount-source.ts';
import type { Mounted } from '../fuse/transport.ts';
import type { MountError } from '../nfsc/index.ts';
import { EventLoopDelay } from '../observe/event-loop-delay.ts';
import type { Log } from '../observe/log.ts';
import { printable } from '../observe/printable.ts';
import { createFileSystem, type NfsFileSystem } from '../vfs/file-system.ts';
import { ROOT_INO } from '../vfs/operations.ts';
import type { Backing, ImageCache } from '../vfs/ports.ts';
import { logChanges } from './changes-log.ts';
import type { Controlled, ControlledCache } from './control/controlled.ts';
import type { ControlServer } from './control/listen.ts';
import { changesToKernel, logFileSystem, logServer, watchServer } from './events.ts';
import type { LifeState } from './life.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { behindRecord } from './mount-record.ts';
import { type Reached, reach } from './reach.ts';
import { measureRoundTrip } from './read-ahead.ts';
import { snapshot } from './snapshot.ts';
import { removeStaleSockets } from './stale-sockets.ts';
import { ServerStatistics } from './statistics.ts';
import { vfsOptionsOf } from './translate.ts';

export interface Totals {
  readonly serverBytes: number;
  readonly cacheBytes: number;
  readonly zeroBytes: number;
  readonly writtenBytes: number;
}

export class Layers {
  readonly fileSystem: NfsFileSystem;
  readonly #plan: MountPlan;
  readonly #log: Log;
  readonly #reached: Reached;
  readonly #statistics: ServerStatistics;
  readonly #eventLoop: EventLoopDelay;
  readonly #startedAtMs = Date.now();
  readonly #kernel = changesToKernel();
  readonly #unsubscribe: readonly (() => void)[];
  #mounted: Mounted | undefined;
  #control: ControlServer | undefined;
  #roundTripMs: number | undefined;
  /** LOCK is being told that this daemon is about to end. */
  #marking: Promise<void> | undefined;

  /**
   * Reaches the server or does without, and opens the rest. The root's attributes are known then.
   * `signal` ends what waits. Code that is still being `loading` keeps the event loop busy: the
   * round trip is not measured before.
   */
  static async open(
    plan: MountPlan,
    log: Log,
    loading: Promise<unknown>,
    retrying: ((failure: MountFailure) => void) | undefined,
    signal: AbortSignal,
  ): Promise<Result<Layers, MountFailure>> {
    const quiet = Promise.all([loading, loadControl()]); // while the server is being asked
    const reached = await reach(plan, log, retrying, signal);
    if (!reached.ok) return reached;
    const layers = new Layers(plan, log, reached.value);
    await quiet;
    const prepared = await Promise.race([layers.#prepare(), aborted(signal)]);
    if (prepared.ok) {
      // Not before: it would make the round trip look longer than it is.
      void reached.value.cache?.takeUpLastUsed();
      return ok(layers);
    }
    await layers.abandon();
    return prepared;
  }

  private constructor(plan: MountPlan, log: Log, reached: Reached) {
    const { client, cache, away } = reached;
    this.#plan = plan;
    this.#log = log;
    this.#reached = reached;
    this.#roundTripMs = away?.record.roundTripMs;
    this.#statistics = new ServerStatistics(client.server, systemClock);
    const activity = () => this.#statistics.callCount + requestCount(this.#mounted);
    this.#eventLoop = new EventLoopDelay(activity, systemClock);
    const record = () => ({ known: client.known, roundTripMs: this.#roundTripMs });
    const images: ImageCache | undefined = cache && {
      open: (file, content, source) => cache.open(file, content, source),
      isKept: (file) => cache.isKept(file),
      knowledge: behindRecord(cache.knowledge, record),
    };
    const beside = {
      textOf: printable,
      ...(images === undefined ? {} : { cache: images }),
      ...(this.mayPassThrough ? { backing: this.#backing } : {}),
    };
    const events = {
      ...logFileSystem(log),
      changedByOthers: this.#kernel.changed,
      namesRevoked: this.#kernel.revoked,
    };
    const options = vfsOptionsOf(plan.settings, isRoot());
    this.fileSystem = createFileSystem(client, options, systemClock, events, beside);
    this.#unsubscribe = [
      logServer(client.server, log),
      watchServer(client.server, (state) => this.fileSystem.serverState(state)),
    ];
  }

  /** Whether the server answered when it was asked for the mount. */
  get isServerThere(): boolean {
    return this.#reached.away === undefined;
  }

  /** Whether the kernel may read images by itself: where no writer can come. */
  get mayPassThrough(): boolean {
    const { passthrough, ro } = this.#plan.settings;
    return passthrough && ro && this.#reached.cache !== undefined;
  }

  /** In ms; undefined where nobody could measure it. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Acknowledged, and not yet known to be durable at the server. */
  get heldBytes(): number {
    return this.fileSystem.figures().heldBytes;
  }

  /** Bytes that programs were given, by where they came from, and that the server took. */
  get totals(): Totals {
    const server = this.#statistics.figures();
    const counts = this.#reached.cache?.figures().counts;
    return {
      serverBytes: counts?.serverBytes ?? server.readBytes,
      cacheBytes: counts?.cacheBytes ?? 0,
      zeroBytes: counts?.zeroBytes ?? 0,
      writtenBytes: server.writtenBytes,
    };
  }

  /** Serves the control socket; `state` is asked for how the mount is. Without it the mount goes on. */
  async listen(state: () => LifeState): Promise<void> {
    const { listen, controlledCache } = await loadControl();
    const { cache } = this.#reached;
    const asked = this.#controlled(state, cache && controlledCache(cache));
    const controlled = logChanges(asked, this.#log);
    const listening = await listen(controlled, this.#plan.socket, this.#log);
    if (listening.ok) this.#control = listening.value;
    else this.#log.warn('there is no control socket', { reason: listening.error });
    void removeStaleSockets(this.#plan.socket).then((removed) => {
      if (removed > 0)
        this.#log.debug('control sockets of killed daemons were removed', { removed });
    });
  }

  /** From now on there is a kernel to be told. */
  attach(mounted: Mounted): void {
    this.#mounted = mounted;
    this.#statistics.restart();
    this.#kernel.attach(mounted.notices);
  }

  // ---- The end ----------------------------------------------------------------------------------

  /** The mount is gone: the next one of the export may ask for the cache. */
  draining(): void {
    this.#marking ??= this.#reached.cache?.draining();
  }

  async closeControl(): Promise<void> {
    await this.#control?.close();
    this.#control = undefined;
  }

  /** Gives the cache to whoever waits for it: what is written after this is not cached. */
  async letGo(): Promise<void> {
    await this.#marking;
    await this.#reached.cache?.close();
  }

  /** Tells the server, and ends what is left. */
  async unmount(): Promise<Result<void, MountError>> {
    const told = await this.#reached.client.unmount();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#eventLoop.close();
    this.#statistics.close();
    return told;
  }

  /** The end of layers that never had a mount: nobody has written anything. */
  async abandon(): Promise<void> {
    await this.closeControl();
    await this.letGo();
    await this.unmount();
  }

  // ---- Private ----------------------------------------------------------------------------------

  /** The root's attributes, which also prove that the export can be used; and the round trip. */
  async #prepare(): Promise<Result<void, MountFailure>> {
    const { client, away } = this.#reached;
    if (away !== undefined) {
      this.#log.warn('the server is away: mounted from what the cache knows', { reason: away.why });
      client.assumeAway(away.why);
    }
    await this.fileSystem.recall();
    const measured = away === undefined ? measureRoundTrip(client) : this.#roundTripMs;
    const caller = { credentials: ownCredentials(), pid: process.pid };
    const root = await this.fileSystem.getattr(caller, ROOT_INO);
    this.#roundTripMs = await measured;
    if (root.ok) return ok(undefined);
    const source = formatSource(this.#plan.source);
    return err({ kind: 'root', source, message: root.error.message });
  }

  /** The kernel's, which is there only when the mount is. */
  readonly #backing: Backing = {
    open: (fd) => this.#mounted?.backing?.open(fd),
    close: (id) => this.#mounted?.backing?.close(id),
  };

  #controlled(state: () => LifeState, controlledCache: ControlledCache | undefined): Controlled {
    const { client, cache } = this.#reached;
    return {
      as: ownCredentials(),
      files: this.fileSystem,
      cache: controlledCache,
      kernel: {
        waiting: () => this.#mounted?.waiting() ?? [],
        failWaiting: (ino) => this.#mounted?.failWaiting(ino) ?? 0,
      },
      snapshot: () =>
        snapshot(
          {
            plan: this.#plan,
            startedAtMs: this.#startedAtMs,
            client,
            cache,
            statistics: this.#statistics,
            eventLoop: this.#eventLoop,
            mounted: this.#mounted,
            roundTripMs: this.#roundTripMs,
          },
          state(),
        ),
    };
  }
}

/** Not needed before the mount, so that it does not delay the first word to the server. */
async function loadControl() {
  const [{ listen }, { controlledCache }] = await Promise.all([
    import('./control/listen.ts'),
    import('./control/cache-control.ts'),
  ]);
  return { listen, controlledCache };
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

function ownCredentials(): Credentials {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: [] };
}

/** The kernel's requests so far. */
function requestCount(mounted: Mounted | undefined): number {
  let count = 0;
  for (const durations of mounted?.latencies().values() ?? []) count += durations.count;
  return count;
}

function aborted(signal: AbortSignal): Promise<Result<never, MountFailure>> {
  return new Promise((done) => {
    const end = () => done(err({ kind: 'interrupted' }));
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}
