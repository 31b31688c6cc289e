/**
 * The layers of a mount below the kernel, joined: server, cache, file system, control socket. They
 * are opened upwards, and closed in the order that keeps what each one promises:
 *
 *   file system       acknowledged writes are made durable, what is known is saved in the cache
 *   cache             images are written down, the lock is given back
 *   client            the server is told
 *   control socket    nobody asks any more: until then it tells how far the end is
 *
 * The cache may go before its turn, when the next mount of the export asks for it (`letGo`): what
 * is unsent stays in it.
 */

import type { Ino, Name } from '../base/brand.ts';
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
import type { Backing, ImageCache, RecoveredFile } from '../vfs/ports.ts';
import { logChanges } from './changes-log.ts';
import type { Controlled, ControlledCache, UnmountHow, Unmounting } from './control/controlled.ts';
import type { ControlServer } from './control/listen.ts';
import { EventHub } from './event-hub.ts';
import { logFileSystem, logServer, tellFileSystem, watchServer } from './events.ts';
import { KernelNotices } from './kernel-notices.ts';
import type { LifeState } from './life.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { behindRecord } from './mount-record.ts';
import { type Reached, reach } from './reach.ts';
import { measureRoundTrip } from './read-ahead.ts';
import { Sending } from './sending.ts';
import type { SignalRun } from './signal-runs.ts';
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

/** What the layers ask of the session that they belong to. */
export interface SessionSide {
  state(): LifeState;
  unmount(how: UnmountHow): Promise<Unmounting>;
}

export class Layers {
  readonly fileSystem: NfsFileSystem;
  readonly sending: Sending;
  readonly events: EventHub;
  readonly #plan: MountPlan;
  readonly #log: Log;
  readonly #reached: Reached;
  readonly #statistics: ServerStatistics;
  readonly #eventLoop: EventLoopDelay;
  readonly #startedAtMs = Date.now();
  readonly #kernel = new KernelNotices(systemClock);
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
    const events = new EventHub(systemClock);
    const reached = await reach(plan, log, events, retrying, signal);
    if (!reached.ok) return reached;
    const layers = new Layers(plan, log, events, reached.value);
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

  private constructor(plan: MountPlan, log: Log, events: EventHub, reached: Reached) {
    const { client, cache, away } = reached;
    this.events = events;
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
      recovered: recoveredOf(cache),
    };
    const beside = {
      textOf: printable,
      ...(isRoot() ? { own: ownCredentials() } : {}),
      ...(images === undefined ? {} : { cache: images }),
      ...(this.mayPassThrough ? { backing: this.#backing } : {}),
    };
    const told = {
      ...logFileSystem(log),
      ...tellFileSystem(events, log, () => this.#mounted !== undefined),
      changedByOthers: (ino: Ino) => void this.#kernel.forget(ino),
      namesRevoked: (directory: Ino, names: readonly Name[]) =>
        this.#kernel.revoke(directory, names),
    };
    const options = vfsOptionsOf(plan.settings, isRoot());
    const files = createFileSystem(client, options, systemClock, told, beside);
    this.fileSystem = files;
    this.sending = new Sending({
      files,
      kernel: this.#kernel,
      clock: systemClock,
    });
    this.#unsubscribe = [
      logServer(client.server, log),
      watchServer(client.server, (state) => {
        files.serverState(state);
        events.tell(state === 'away' ? 'serverDown' : 'serverUp');
      }),
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

  /** Acknowledged by the local disk, and not yet durable at the server. */
  get unsentBytes(): number {
    return this.fileSystem.unsent().reduce((sum, { unsent }) => sum + unsent.bytes, 0);
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

  /** Serves the control socket. Without it the mount goes on. */
  async listen(session: SessionSide): Promise<void> {
    const { listen, controlledCache } = await loadControl();
    const { cache } = this.#reached;
    const asked = this.#controlled(session, cache && controlledCache(cache));
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
    this.#kernel.attach(mounted.notices, () => {
      return mounted.latencies().get('WRITE')?.summary().count ?? 0;
    });
  }

  /** What a signal asks for; its end is logged, and is an event of the same number. */
  async runForSignal(kind: SignalRun): Promise<number> {
    const how = { signal: new AbortController().signal };
    const { sending } = this;
    const report = await (kind === 'flush'
      ? sending.flush(undefined, how)
      : sending.writeBack(undefined, how));
    const { files, sentBytes, unsentBytes, failed } = report;
    const [first] = failed;
    const why = first === undefined ? undefined : `${first.path}: ${first.error.message}`;
    const message = why === undefined ? `${kind}: done` : `${kind}: not all of it, ${why}`;
    const number = this.events.tell('completed', { bytes: sentBytes, message });
    const fields = { number, asked: kind, files, sentBytes };
    if (why === undefined) this.#log.info('done, as asked by a signal', fields);
    else {
      const failures = failed.length;
      this.#log.warn('not all done that a signal asked for', {
        ...fields,
        unsentBytes,
        failures,
        reason: why,
      });
    }
    return number;
  }

  // ---- The end ----------------------------------------------------------------------------------

  /** The mount is gone: the next one of the export may ask for the cache. */
  draining(): void {
    this.#marking ??= this.#reached.cache?.draining();
    this.#control?.draining();
  }

  /**
   * Refuses new work, and settles what was acknowledged; with `keepUnsent` only what is not in the
   * cache.
   */
  close(keepUnsent: boolean): Promise<void> {
    return this.fileSystem.close({ keepUnsent });
  }

  /** Drops what is unsent, for good; how many bytes. What cannot be dropped stays. */
  async discard(): Promise<number> {
    const dropped = this.fileSystem.unsent().map(async ({ ino, unsent }) => {
      const discarded = await this.fileSystem.discardUnsent(ino);
      return discarded.ok ? unsent.bytes : 0;
    });
    return (await Promise.all(dropped)).reduce((sum, bytes) => sum + bytes, 0);
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

  #tellOfRecovered(): void {
    const recovered = recoveredOf(this.#reached.cache);
    if (recovered.length === 0) return;
    const since = Math.min(...recovered.map(({ unsent }) => unsent.sinceMs));
    this.#log.warn('unsent writes of an earlier mount were found: they will be sent', {
      files: recovered.length,
      bytes: recovered.reduce((sum, { unsent }) => sum + unsent.bytes, 0),
      oldestSeconds: Math.max(0, Math.round((Date.now() - since) / 1000)),
    });
  }

  /** The root's attributes, which also prove that the export can be used; and the round trip. */
  async #prepare(): Promise<Result<void, MountFailure>> {
    const { client, away } = this.#reached;
    if (away !== undefined) {
      this.#log.warn('the server is away: mounted from what the cache knows', { reason: away.why });
      client.assumeAway(away.why);
    }
    this.#tellOfRecovered();
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

  #controlled(session: SessionSide, controlledCache: ControlledCache | undefined): Controlled {
    const { client, cache } = this.#reached;
    const { sending, fileSystem: files } = this;
    return {
      as: ownCredentials(),
      events: this.events,
      sending: {
        foundBytes: recoveredOf(cache).reduce((sum, { unsent }) => sum + unsent.bytes, 0),
        unsent: () => files.unsent(),
        resolve: (as, ino, which, signal) => files.resolve(as, ino, which, signal),
        writeBack: (ino, how) => sending.writeBack(ino, how),
        flush: (ino, how) => sending.flush(ino, how),
      },
      life: { unmount: (how) => session.unmount(how) },
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
          session.state(),
        ),
    };
  }
}

function recoveredOf(cache: ImageCache | undefined): readonly RecoveredFile[] {
  return cache?.recovered ?? [];
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
