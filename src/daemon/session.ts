/**
 * One mount, from the plan to its end: joins the NFS client, the file system and the way to the
 * kernel, and leads them through the life that life.ts draws.
 *
 * This process never looks into its own mount: it would wait for itself. Its working directory is
 * the root, and its log lies elsewhere.
 */
import { once } from 'node:events';
import { systemClock } from '../base/clock.ts';
import { err, ok, type Result } from '../base/result.ts';
import { formatSource } from '../config/mount-source.ts';
import { formatOptions, rootOnlyNotes } from '../config/parse-options.ts';
import type { Mounted, Transport } from '../fuse/transport.ts';
import type { Nfs3Client } from '../nfsc/index.ts';
import type { Log } from '../observe/log.ts';
import { createFileSystem, type NfsFileSystem } from '../vfs/file-system.ts';
import { ROOT_INO } from '../vfs/operations.ts';
import { connect } from './connect.ts';
import { detachLazily } from './detach.ts';
import { changesToKernel, logFileSystem, logServer } from './events.ts';
import { type LifeEvent, type LifeState, next } from './life.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { measureRoundTrip, readAheadKib } from './read-ahead.ts';
import { vfsOptionsOf } from './translate.ts';
import { loadTransport } from './transports.ts';

export interface SessionHooks {
  /** The mount waits for its server (bg): the caller need not. */
  retrying?(failure: MountFailure): void;
}

/** How a mount ended: in order, with acknowledged writes that the server never took, by a bug. */
export type SessionEnd = 'unmounted' | 'unsettled' | 'fault';

/**
 * For how long the end may take. What was acknowledged is waited for without a limit on a hard
 * mount: a second SIGTERM gives it up.
 */
const SETTLE_LIMIT_MS = 60_000;
/** The same after a fault, when what is left of the session is not to be trusted. */
const FAULT_SETTLE_LIMIT_MS = 5_000;

export class Session {
  readonly #plan: MountPlan;
  readonly #log: Log;
  readonly #source: string;
  #state: LifeState = 'starting';
  #client: Nfs3Client | undefined;
  #fileSystem: NfsFileSystem | undefined;
  #mounted: Mounted | undefined;
  /** Ends what `start` waits for. */
  readonly #cancel = new AbortController();
  #end: (end: SessionEnd) => void = () => undefined;
  #terminations = 0;
  #endsAs: SessionEnd = 'unmounted';
  #giveUp: MountFailure = { kind: 'interrupted' };

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
      await this.#client?.unmount();
      this.#enter('failed');
    }
    return started;
  }

  /**
   * Ends the mount, as SIGTERM asks: at once when nothing is open in it, else it leaves the tree
   * and is served until the last user closes. The second time it ends whoever uses it, and whatever
   * the server has not taken.
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
        if (this.#terminations > 1) void this.#drain(FAULT_SETTLE_LIMIT_MS);
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

  /** SIGUSR1 and SIGUSR2. Without a cache there is nothing that fsync and close do not send. */
  writeBack(): void {
    this.#log.info('nothing is cached: programs write back by fsync and close', {
      uncommittedBytes: this.#heldBytes(),
    });
  }

  async #start(hooks: SessionHooks): Promise<Result<void, MountFailure>> {
    const plan = this.#plan;
    const { signal } = this.#cancel;
    const cancelled = once(signal, 'abort').then(() => err(this.#giveUp));
    const loading = loadTransport(plan.settings.transport); // while the server is being asked
    const connected = await Promise.race([
      connect(plan, this.#log, hooks.retrying, signal),
      cancelled,
    ]);
    if (!connected.ok) return connected;
    const client = connected.value;
    this.#client = client;
    const unsubscribe = logServer(client.server, this.#log);
    void this.ended.then(unsubscribe);

    const kernel = changesToKernel();
    const fileSystem = createFileSystem(
      client,
      vfsOptionsOf(plan.settings, isRoot()),
      systemClock,
      {
        ...logFileSystem(this.#log),
        changedByOthers: kernel.changed,
        namesRevoked: kernel.revoked,
      },
    );
    this.#fileSystem = fileSystem;
    const prepared = await Promise.race([this.#prepare(client, fileSystem), cancelled]);
    if (!prepared.ok) return prepared;

    const transport = await loading;
    if (!transport.ok) {
      return err({ kind: 'kernel', mountpoint: plan.mountpoint, ...transport.error });
    }
    const mounted = await this.#mount(transport.value, fileSystem, prepared.value);
    if (!mounted.ok) return mounted;
    kernel.attach(mounted.value.notices);
    this.#mounted = mounted.value;
    this.#enter('mounted');
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
    const roundTripMs = prepared.value;
    this.#log.info('mounted', {
      source: this.#source,
      options: options === '' ? undefined : options,
      transport: transport.value.name,
      roundTripMs: roundTripMs === undefined ? undefined : Math.round(roundTripMs * 100) / 100,
      ...mounted.value.capabilities,
    });
    return ok(undefined);
  }

  /** The root's attributes, which also proves that the export can be used; and the round trip. */
  async #prepare(
    client: Nfs3Client,
    fileSystem: NfsFileSystem,
  ): Promise<Result<number | undefined, MountFailure>> {
    const [root, roundTripMs] = await Promise.all([
      fileSystem.getattr({ credentials: ownCredentials(), pid: process.pid }, ROOT_INO),
      measureRoundTrip(client),
    ]);
    if (!root.ok) {
      return err({ kind: 'root', source: this.#source, message: root.error.message });
    }
    return ok(roundTripMs);
  }

  async #mount(
    transport: Transport,
    fileSystem: NfsFileSystem,
    roundTripMs: number | undefined,
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

  /** Who still uses the mount fails, what was acknowledged is made durable, the server is told. */
  async #drain(limitMs: number): Promise<void> {
    if (this.#state !== 'draining') return;
    await this.#mounted?.abandon();
    const closing = this.#fileSystem?.close().catch((error: unknown) => this.fault(error));
    const patient = this.#plan.settings.hard && limitMs === SETTLE_LIMIT_MS;
    if (!(await inTime(closing, limitMs))) {
      const bytes = this.#heldBytes();
      if (bytes > 0 && patient) {
        this.#log.warn('acknowledged writes wait for the server, SIGTERM gives them up', { bytes });
        await closing;
      } else {
        this.#log.error('the server did not take everything in time', { bytes });
        if (bytes > 0 && this.#endsAs === 'unmounted') this.#endsAs = 'unsettled';
      }
    }
    const told = await this.#client?.unmount();
    if (told?.ok === false) {
      this.#log.warn('the server was not told of the unmount', { reason: told.error.message });
    }
    if (this.#isEnded()) return; // another way was faster
    this.#log.info('unmounted', { source: this.#source });
    this.#enter('settled');
  }

  /** Acknowledged, and not yet known to be durable at the server. */
  #heldBytes(): number {
    return this.#fileSystem?.figures().heldBytes ?? 0;
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

function ownCredentials() {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: [] };
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
