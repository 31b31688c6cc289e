/**
 * One mount, from the plan to its end: joins the layers below (layers.ts) and the way to the kernel,
 * and leads them through the life that life.ts draws.
 *
 * This process never looks into its own mount: it would wait for itself. Its working directory is
 * the root, and its log lies elsewhere.
 */
import { once } from 'node:events';
import { assert } from '../base/assert.ts';
import { systemClock } from '../base/clock.ts';
import { err, ok, type Result } from '../base/result.ts';
import { formatSource } from '../config/mount-source.ts';
import { formatOptions, rootOnlyNotes } from '../config/parse-options.ts';
import type { Mounted, Transport } from '../fuse/transport.ts';
import type { Log } from '../observe/log.ts';
import type { UnmountHow, Unmounting } from './control/controlled.ts';
import { detachLazily } from './detach.ts';
import { Layers } from './layers.ts';
import { type LifeEvent, type LifeState, next } from './life.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { readAheadKib } from './read-ahead.ts';
import { type SignalRun, SignalRuns } from './signal-runs.ts';
import { loadTransport } from './transports.ts';
import { type MountToEnd, unmount } from './unmounting.ts';

export interface SessionHooks {
  /** The mount waits for its server (bg): the caller need not. */
  retrying?(failure: MountFailure): void;
}

/**
 * How a mount ended: in order; with writes that stay in the cache for the next mount to send; with
 * acknowledged writes that the server never took; by a bug.
 */
export type SessionEnd = 'unmounted' | 'kept' | 'unsettled' | 'fault';

/**
 * For how long the end may take. What was acknowledged is waited for without a limit on a hard
 * mount: a second SIGTERM ends that. What is unsent then stays in the cache; what was only on its
 * way through (write=through) is given up.
 */
const SETTLE_LIMIT_MS = 60_000;
/** The same where nothing is sent any more: what is under way is all. */
const KEEP_LIMIT_MS = 1_000;
/** The same after a fault, when what is left of the session is not to be trusted. */
const FAULT_SETTLE_LIMIT_MS = 5_000;
/** For what is dropped: of what an earlier mount left the server is asked first. */
const DISCARD_LIMIT_MS = 5_000;
/** For the word that a mount is gone which others have taken away. */
const GONE_LIMIT_MS = 1_000;
/** For how long calls over the control socket may hold up the end. */
const CONTROL_LIMIT_MS = 2_000;
/** For the cache to be written down: a disk that hangs is not waited for. */
const CACHE_LIMIT_MS = 10_000;

export class Session {
  readonly #plan: MountPlan;
  readonly #log: Log;
  readonly #source: string;
  #state: LifeState = 'starting';
  #layers: Layers | undefined;
  #mounted: Mounted | undefined;
  /** The kernel asks nothing any more. */
  #unmounted: Promise<unknown> | undefined;
  /** Ends what `start` waits for. */
  readonly #cancel = new AbortController();
  #end: (end: SessionEnd) => void = () => undefined;
  #terminations = 0;
  #endsAs: SessionEnd = 'unmounted';
  #giveUp: MountFailure = { kind: 'interrupted' };
  /** What becomes of what is unsent when the mount ends. */
  #unsent: UnmountHow['unsent'] = 'send';
  /** As it was when the sending was ended: once the files are closed nobody knows any more. */
  #keptBytes = 0;
  #droppedBytes = 0;
  /** The next mount has the cache: it sends what is unsent. */
  #isHandedOver = false;
  /** The last words are in the log: of two ways to the end, the faster one says them. */
  #hasTakenLeave = false;
  #settled: (left: { keptBytes: number; droppedBytes: number }) => void = () => undefined;
  readonly #allSettled = new Promise<{ keptBytes: number; droppedBytes: number }>((done) => {
    this.#settled = done;
  });
  readonly #signalRuns = new SignalRuns((kind) => this.#runForSignal(kind));

  /** Settles when the mount has ended and the server was told; never rejects. */
  readonly ended = new Promise<SessionEnd>((done) => {
    this.#end = done;
  });

  constructor(plan: MountPlan, log: Log) {
    this.#plan = plan;
    this.#log = log;
    this.#source = formatSource(plan.source);
  }

  get state(): LifeState {
    return this.#state;
  }

  /** Mounts. When it resolves with ok, the mount answers and the root's attributes are known. */
  async start(hooks: SessionHooks = {}): Promise<Result<void, MountFailure>> {
    const started = await this.#start(hooks);
    if (!started.ok && (this.#state === 'starting' || this.#state === 'cancelling')) {
      await this.#layers?.abandon();
      this.#enter('failed');
    }
    return started;
  }

  /**
   * Ends the mount, as SIGTERM asks: at once when nothing is open in it, else it leaves the tree
   * and is served until the last user closes; then what is unsent is written back. The second time
   * it ends whoever uses it, and what is unsent stays in the cache.
   */
  terminate(): void {
    this.#terminations += 1;
    this.#enter('terminate');
    switch (this.#state) {
      case 'cancelling':
        this.#cancel.abort();
        return;
      case 'leaving':
        void this.#leave();
        return;
      case 'draining':
        // The mount may have been ended otherwise: then this is the first word to us.
        if (this.#terminations > 1) this.#endNow();
        return;
      case 'starting':
      case 'serving':
      case 'ended':
        return;
    }
  }

  /** A bug has shown itself: the session ends in order, and is not trusted any more. */
  fault(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#log.error('internal error: the mount ends', { error: text });
    const before = this.#state;
    const isFirst = this.#endsAs !== 'fault';
    this.#enter('fault');
    if (before === 'ended') return;
    this.#endsAs = 'fault';
    if (before === 'draining') {
      // What the end waits for may never come: no more patience.
      if (isFirst) void this.#drain(FAULT_SETTLE_LIMIT_MS);
      return;
    }
    if (this.#state === 'cancelling') {
      this.#giveUp = { kind: 'internal', message: String(error) };
      this.#cancel.abort();
      return;
    }
    void this.#drain(FAULT_SETTLE_LIMIT_MS);
  }

  /** SIGUSR1: all that is unsent is sent; the log and an event say when. */
  writeBack(): void {
    this.#signalRuns.ask('write-back');
  }

  /** SIGUSR2. When the mount is gone, the next one of this export asks for the cache by it. */
  flush(): void {
    if (this.#state !== 'draining') {
      this.#signalRuns.ask('flush');
      return;
    }
    this.#isHandedOver = true;
    this.#log.info('the cache is given to the next mount', {
      source: this.#source,
      unsentBytes: this.#layers?.unsentBytes ?? 0,
    });
    void this.#layers?.letGo();
  }

  /** As `gvfs umount` asks. */
  unmount(how: UnmountHow): Promise<Unmounting> {
    const layers = this.#layers;
    assert(layers !== undefined, 'session: to be unmounted before it is mounted');
    const { fileSystem: files, sending } = layers;
    return unmount({ files, sending, clock: systemClock, mount: this.#mountToEnd() }, how);
  }

  async #start(hooks: SessionHooks): Promise<Result<void, MountFailure>> {
    const plan = this.#plan;
    const { signal } = this.#cancel;
    const cancelled = once(signal, 'abort').then(() => err(this.#giveUp));
    const loading = loadTransport(plan.settings.transport); // while the server is being asked
    const retrying = hooks.retrying?.bind(hooks);
    const opening = Layers.open(plan, this.#log, loading, retrying, signal);
    const opened = await Promise.race([opening, cancelled]);
    if (signal.aborted) {
      void opening.then((late) => (late.ok ? late.value.abandon() : undefined));
      return err(this.#giveUp);
    }
    if (!opened.ok) return opened;
    const layers = opened.value;
    this.#layers = layers;

    const transport = await loading;
    if (!transport.ok) {
      return err({ kind: 'kernel', mountpoint: plan.mountpoint, ...transport.error });
    }
    await layers.listen({ state: () => this.#state, unmount: (how) => this.unmount(how) });
    const mounted = await this.#mount(transport.value, layers);
    if (!mounted.ok) return mounted;
    layers.attach(mounted.value);
    this.#mounted = mounted.value;
    this.#enter('mounted');
    this.#unmounted = mounted.value.ended;
    void mounted.value.ended.then((end) => {
      if (end.reason === 'failed') return this.fault(end.error);
      const before = this.#state;
      this.#enter('unmounted');
      // Else it is the end that is under way which took the mount away.
      if (before === 'serving' || before === 'leaving') return this.#drain(SETTLE_LIMIT_MS);
    });
    if (this.#state === 'leaving') {
      void this.#leave();
      await this.ended;
      return err(this.#giveUp);
    }
    const options = formatOptions(plan.settings);
    const { roundTripMs } = layers;
    this.#log.info('mounted', {
      source: this.#source,
      options: options === '' ? undefined : options,
      transport: transport.value.name,
      roundTripMs: roundTripMs === undefined ? undefined : Math.round(roundTripMs * 100) / 100,
      ...mounted.value.capabilities,
    });
    return ok(undefined);
  }

  async #mount(
    transport: Transport,
    { fileSystem, roundTripMs, mayPassThrough, isServerThere }: Layers,
  ): Promise<Result<Mounted, MountFailure>> {
    const { mountpoint, settings, notes } = this.#plan;
    const mounted = await transport.mount(fileSystem, {
      mountpoint,
      source: this.#source,
      readOnly: settings.ro,
      allowOther: settings.allow_other ?? isRoot(),
      suid: settings.suid,
      dev: settings.dev,
      exec: settings.exec,
      // The server judges, by ACCESS in the caller's name.
      defaultPermissions: false,
      // Our own writes change times too: the file system tells whose change it was.
      autoInvalidate: false,
      passthrough: mayPassThrough,
      rehearse: isServerThere, // else it would wait for the server
      readAheadKib:
        settings.readahead ?? (roundTripMs === undefined ? undefined : readAheadKib(roundTripMs)),
    });
    if (!mounted.ok) return err({ kind: 'kernel', mountpoint, ...mounted.error });
    const inVain = isRoot() ? [] : rootOnlyNotes(settings);
    for (const { message, ...fields } of [...notes, ...inVain]) this.#log.info(message, fields);
    return mounted;
  }

  /** The kernel takes the mount out of the tree; `unmounted` follows. */
  async #leave(): Promise<void> {
    const asked = await this.#mounted?.unmount();
    if (asked === undefined || asked.ok || asked.error.code === 'NOT_MOUNTED') return;
    this.#log.warn('still in use: out of the tree now, ends when the last user closes', {
      reason: asked.error.message,
    });
    const detached = await detachLazily(this.#plan.mountpoint);
    if (!detached.ok) this.#log.error('cannot be unmounted', { reason: detached.error });
  }

  #mountToEnd(): MountToEnd {
    const session = this;
    return {
      get isDraining() {
        return session.#state === 'draining';
      },
      leave: async (unsent) => {
        const before = this.#unsent;
        this.#unsent = unsent;
        const asked = await this.#mounted?.unmount();
        if (asked === undefined || asked.ok) return ok(undefined);
        const isGone = asked.error.code === 'NOT_MOUNTED';
        // By others, just now; or it is out of the tree, or beneath another one, and goes on.
        if (isGone && (await inTime(this.#unmounted, GONE_LIMIT_MS))) return ok(undefined);
        this.#unsent = before;
        return err(isGone ? 'it is not at its place any more, and in use' : asked.error.message);
      },
      abandon: (unsent) => {
        this.#unsent = unsent;
        void this.#mounted?.abandon();
      },
      endNow: (unsent) => this.#endNow(unsent),
      settled: this.#allSettled,
    };
  }

  /** What is under way is given a moment; what is unsent stays in the cache. */
  #endNow(unsent: 'keep' | 'discard' = 'keep'): void {
    this.#unsent = unsent;
    const held = this.#layers?.heldBytes ?? 0;
    void this.#drain(held > 0 ? FAULT_SETTLE_LIMIT_MS : KEEP_LIMIT_MS);
  }

  async #runForSignal(kind: SignalRun): Promise<void> {
    const done = await this.#layers?.runForSignal(kind);
    if (done === undefined) this.#log.warn('there is no mount yet', { asked: kind });
  }

  /** Who still uses the mount fails, what was acknowledged is made durable, the server is told. */
  async #drain(limitMs: number): Promise<void> {
    if (this.#state !== 'draining') return;
    const layers = this.#layers;
    layers?.draining();
    await this.#mounted?.abandon();
    if (this.#unsent === 'discard') await inTime(this.#discard(), DISCARD_LIMIT_MS);
    const keepUnsent = this.#unsent !== 'send';
    const unsentBytes = layers?.unsentBytes ?? 0;
    if (keepUnsent) this.#keptBytes = Math.max(this.#keptBytes, unsentBytes);
    else if (unsentBytes > 0) {
      this.#log.info('unsent writes are written back, another SIGTERM keeps them', { unsentBytes });
    }
    const closing = layers?.close(keepUnsent).catch((error: unknown) => this.fault(error));
    const patient = this.#plan.settings.hard && limitMs === SETTLE_LIMIT_MS && !keepUnsent;
    if (!(await inTime(closing, limitMs))) {
      const bytes = layers?.heldBytes ?? 0;
      const unsent = layers?.unsentBytes ?? 0;
      if (bytes + unsent > 0 && patient) {
        this.#log.warn('acknowledged writes wait for the server, SIGTERM gives them up', {
          bytes,
          unsentBytes: unsent,
        });
        await closing;
      } else {
        this.#log.error('the server did not take everything in time', { bytes });
        if (bytes > 0 && this.#endsAs === 'unmounted') this.#endsAs = 'unsettled';
      }
    }
    const stays = this.#unsent !== 'send' ? this.#keptBytes : (layers?.unsentBytes ?? 0);
    const keptBytes = this.#isHandedOver ? 0 : stays;
    if (!(await inTime(layers?.letGo(), CACHE_LIMIT_MS))) {
      this.#log.error('the cache could not be written down in time', { source: this.#source });
    }
    const told = await layers?.unmount();
    const hasTakenLeave = this.#hasTakenLeave;
    this.#hasTakenLeave = true;
    if (told?.ok === false && !hasTakenLeave) {
      this.#log.warn('the server was not told of the unmount', { reason: told.error.message });
    }
    if (this.#isEnded()) return; // another way was faster
    if (keptBytes > 0) {
      const words = 'unsent writes stay in the cache: the next mount sends them';
      if (!hasTakenLeave) this.#log.warn(words, { keptBytes });
      if (this.#endsAs === 'unmounted') this.#endsAs = 'kept';
    }
    this.#settled({ keptBytes, droppedBytes: this.#droppedBytes });
    await inTime(layers?.closeControl(), CONTROL_LIMIT_MS);
    if (this.#isEnded()) return;
    this.#log.info('unmounted', { source: this.#source, ...layers?.totals });
    this.#enter('settled');
  }

  async #discard(): Promise<void> {
    this.#droppedBytes += (await this.#layers?.discard()) ?? 0;
  }

  #isEnded(): boolean {
    return this.#state === 'ended';
  }

  #enter(event: LifeEvent): void {
    const state = next(this.#state, event);
    if (state === this.#state) return;
    this.#log.debug('state', { from: this.#state, event, to: state });
    this.#state = state;
    if (state === 'ended') this.#end(this.#endsAs);
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** Whether the promise settled within `limitMs`. */
async function inTime(promise: Promise<unknown> | undefined, limitMs: number): Promise<boolean> {
  let timeout: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((done) => {
    timeout = setTimeout(done, limitMs, false);
  });
  try {
    return await Promise.race([Promise.resolve(promise).then(() => true), late]);
  } finally {
    clearTimeout(timeout);
  }
}
