/**
 * A mounted export: NFSv3 by procedure, for any number of callers at once.
 *
 * - Every method resolves with a Result and never rejects; a failure of the server carries the
 *   attributes that came with it. Only a bug of ours or of the caller throws.
 * - In whose name: each call's first argument. Handles are good for every user.
 * - NFS3ERR_JUKEBOX ("later") is asked again here, with a growing pause; a soft client gives up
 *   after its major time-out.
 * - A call that went out twice is judged by nfs3/replay.ts before its failure is passed on.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FileHandle, Name } from '../base/brand.ts';
import type { Credentials } from '../base/credentials.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type FsError, nfsError } from '../errors/fs-error.ts';
import type { MountError } from './mount-error.ts';
import {
  listExports,
  listMounts,
  type MountOptions,
  mountExport,
  type Reached,
  resumeExport,
  unmountExport,
} from './mount-export.ts';
import type { ExportNode, MountBody } from './mount3.ts';
import * as nfs3 from './nfs3/procedures.ts';
import { madeDirectory, madeLink, madeSymlink, type Witness, wasRenamed } from './nfs3/replay.ts';
import type {
  AccessOk3,
  CommitOk3,
  CreateOk3,
  Diropargs3,
  Fattr3,
  FsinfoOk3,
  FsstatOk3,
  LinkOk3,
  LookupOk3,
  Mknoddata3,
  PathconfOk3,
  ReaddirOk3,
  ReadlinkOk3,
  ReadOk3,
  RenameOk3,
  Resfail3,
  Sattr3,
  StableHow,
  WccData,
  WriteOk3,
} from './nfs3/types.ts';
import { failureError } from './rpc/failure.ts';
import type { Transport } from './rpc/transport.ts';

/** A failed call: FsError, and what the server told with it. */
export interface Nfs3Error extends FsError, Resfail3 {
  /**
   * The call went out more than once, and is not idempotent: the server may have done it the first
   * time.
   */
  readonly retransmitted?: boolean | undefined;
}

export type Answer<T> = Promise<Result<T, Nfs3Error>>;

/** What the server takes, and what we were told to ask for. */
export interface Limits {
  /** Bytes in one READ and in one WRITE. */
  readonly readMax: number;
  readonly writeMax: number;
  readonly maxFileSize: number;
  /** The resolution of the server's times. */
  readonly timeDeltaNs: bigint;
}

/** All that a mount learns from the server: enough to go on with another time. */
export interface KnownExport extends Reached {
  /** Of FSINFO: the most that the server takes in a READ and in a WRITE; 0 where it says nothing. */
  readonly rtmax: number;
  readonly wtmax: number;
  readonly maxFileSize: number;
  readonly timeDeltaNs: bigint;
}

/** CREATE's three ways; the client makes the EXCLUSIVE one's verifier. */
export type CreateHow =
  | { readonly kind: 'unchecked' | 'guarded'; readonly attributes: Sattr3 }
  | { readonly kind: 'exclusive' };

/** More at once is slower (servers' own preference, FSINFO's rtpref, notwithstanding). */
const MAX_TRANSFER_BYTES = 1024 * 1024;
/** What a server surely takes whose FSINFO says 0. */
const MIN_TRANSFER_BYTES = 8192;
const PAGE_BYTES = 4096;

const FIRST_JUKEBOX_MS = 100;
const LAST_JUKEBOX_MS = 5_000;
const UNMOUNT_TIMEOUT_MS = 3_000;

export class Nfs3Client {
  /** The handle of the export's root. */
  readonly root: FileHandle;
  readonly limits: Limits;
  /** `host:port` of the NFS server. */
  readonly server: string;
  /** For `resume`, when the server is away. */
  readonly known: KnownExport;
  /** A first measurement of the round trip, by a call of the mount; undefined when resumed. */
  readonly mountRoundTripMs: number | undefined;
  readonly #options: MountOptions;
  readonly #transport: Transport;
  readonly #closing = new AbortController();
  #lastVerifier = randomBytes(8).readBigUInt64BE();

  /**
   * Asks portmapper and mountd for the export's root, and the server for its limits. Each step is
   * bounded (`mountTimeoutMs`); a failure's `detail` says which, and why.
   */
  static async mount(options: MountOptions): Promise<Result<Nfs3Client, MountError>> {
    const mounted = await mountExport(options);
    if (!mounted.ok) return mounted;
    const { transport, fsinfo, roundTripMs, ...reached } = mounted.value;
    const { rtmax, wtmax, maxFileSize, timeDeltaNs } = fsinfo;
    const known = { ...reached, rtmax, wtmax, maxFileSize, timeDeltaNs };
    return ok(new Nfs3Client(options, transport, known, roundTripMs));
  }

  /**
   * Takes up an earlier mount's knowledge and asks nobody: the server may be away, and is connected
   * to by the first call that finds it. Where it has changed since, calls fail with STALE.
   */
  static resume(options: MountOptions, known: KnownExport): Nfs3Client {
    return new Nfs3Client(options, resumeExport(options, known), known);
  }

  private constructor(
    options: MountOptions,
    transport: Transport,
    known: KnownExport,
    roundTripMs?: number,
  ) {
    this.#options = options;
    this.#transport = transport;
    this.known = known;
    this.mountRoundTripMs = roundTripMs;
    this.root = known.root;
    this.server = transport.server;
    this.limits = limitsOf(known, options);
  }

  /** After how long a soft client's call fails: the sum of its time-outs. */
  get majorTimeoutMs(): number {
    return this.#transport.majorTimeoutMs;
  }

  /** Calls without an answer so far. */
  get callCount(): number {
    return this.#transport.callCount;
  }

  /** TCP connections that stand. */
  get connectionCount(): number {
    return this.#transport.connectionCount;
  }

  /**
   * Says on `rpcChannels.server` that the server does not respond, as somebody found out by other
   * ways, and looks for it until it does.
   */
  assumeAway(why: string): void {
    this.#transport.assumeAway(why);
  }

  /** UMNT, waiting at most 3 s, then `close`. The mount is over even if the UMNT failed. */
  async unmount(): Promise<Result<void, MountError>> {
    const options = { ...this.#options, mountTimeoutMs: UNMOUNT_TIMEOUT_MS };
    const answer = await unmountExport(options, this.known.mountPort);
    this.close();
    return answer;
  }

  /** Ends every call that waits, with the code CLOSED. It may be called again. */
  close(): void {
    this.#closing.abort();
    this.#transport.close();
  }

  /** Fails every call that waits, even on a hard mount; the client stays usable. */
  failWaiting(): void {
    this.#transport.failAll({ kind: 'timeout', message: 'the waiting calls were given up' });
  }

  /** The server's exports (MOUNT's EXPORT). */
  getExports(): Promise<Result<readonly ExportNode[], MountError>> {
    return listExports({ ...this.#options, mountPort: this.known.mountPort });
  }

  /** Who has mounted what (MOUNT's DUMP). */
  dump(): Promise<Result<readonly MountBody[], MountError>> {
    return listMounts({ ...this.#options, mountPort: this.known.mountPort });
  }

  // ---- Files and names ------------------------------------------------------------------------

  /** NULL (RFC 1813, section 3.3.0): a round trip. */
  async null(as: Credentials): Answer<void> {
    const answer = await this.#transport.call(nfs3.nullProcedure, as, undefined);
    return answer.ok ? ok(undefined) : err(failureError(answer.error, 'NULL'));
  }

  getattr(as: Credentials, file: FileHandle): Answer<Fattr3> {
    return this.#call(nfs3.getattr, as, { file });
  }

  /** With `guardCtimeNs`, refused (NOT_SYNC) unless that is the file's ctime. */
  setattr(
    as: Credentials,
    file: FileHandle,
    changes: Sattr3,
    guardCtimeNs?: bigint,
  ): Answer<WccData> {
    return this.#call(nfs3.setattr, as, { file, changes, guardCtimeNs });
  }

  lookup(as: Credentials, directory: FileHandle, name: Name): Answer<LookupOk3> {
    return this.#call(nfs3.lookup, as, { directory, name });
  }

  /** `wanted` and the answer are ACCESS3 bits (section 3.3.4). */
  access(as: Credentials, file: FileHandle, wanted: number): Answer<AccessOk3> {
    return this.#call(nfs3.access, as, { file, wanted });
  }

  readlink(as: Credentials, file: FileHandle): Answer<ReadlinkOk3> {
    return this.#call(nfs3.readlink, as, { file });
  }

  // ---- Data -----------------------------------------------------------------------------------

  /**
   * One READ of at most `limits.readMax` bytes. A short answer is one: unless it says `eof`, the
   * rest is the caller's to ask for.
   */
  read(as: Credentials, file: FileHandle, offset: number, count: number): Answer<ReadOk3> {
    const bounded = Math.min(count, this.limits.readMax);
    return this.#call(nfs3.read, as, { file, offset, count: bounded });
  }

  /**
   * One WRITE of at most `limits.writeMax` bytes; what of `bytes` is not written is the caller's to
   * send again. `bytes` must not change until the answer is there.
   */
  write(
    as: Credentials,
    file: FileHandle,
    offset: number,
    bytes: Buffer,
    stability: StableHow,
  ): Answer<WriteOk3> {
    const { writeMax } = this.limits;
    const bounded = bytes.length > writeMax ? bytes.subarray(0, writeMax) : bytes;
    return this.#call(nfs3.write, as, { file, offset, bytes: bounded, stability });
  }

  /** `count` 0 is everything from `offset` on. */
  commit(as: Credentials, file: FileHandle, offset: number, count: number): Answer<CommitOk3> {
    return this.#call(nfs3.commit, as, { file, offset, count });
  }

  // ---- Making and unmaking names --------------------------------------------------------------

  /**
   * EXCLUSIVE makes the file whoever else tries, and however often the call is sent. It sets no
   * attributes, and servers keep its verifier in the times: the caller sends a SETATTR after it,
   * with mode, owner and both times.
   */
  create(as: Credentials, directory: FileHandle, name: Name, how: CreateHow): Answer<CreateOk3> {
    if (how.kind !== 'exclusive') return this.#call(nfs3.create, as, { directory, name, how });
    this.#lastVerifier = BigInt.asUintN(64, this.#lastVerifier + 1n);
    const exclusive = { kind: 'exclusive', verifier: this.#lastVerifier } as const;
    return this.#call(nfs3.create, as, { directory, name, how: exclusive });
  }

  async mkdir(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    attributes: Sattr3,
  ): Answer<CreateOk3> {
    const at = { directory, name };
    const answer = await this.#call(nfs3.mkdir, as, { ...at, attributes });
    if (!mayBeDone(answer, 'NFS3ERR_EXIST')) return answer;
    const made = await madeDirectory(this.#witness(as), as, at, attributes);
    return made === undefined ? answer : ok({ ...made, directory: answer.error.wcc ?? {} });
  }

  async symlink(
    as: Credentials,
    directory: FileHandle,
    name: Name,
    target: Buffer,
    attributes: Sattr3,
  ): Answer<CreateOk3> {
    const at = { directory, name };
    const answer = await this.#call(nfs3.symlink, as, { ...at, target, attributes });
    if (!mayBeDone(answer, 'NFS3ERR_EXIST')) return answer;
    const made = await madeSymlink(this.#witness(as), at, target);
    return made === undefined ? answer : ok({ ...made, directory: answer.error.wcc ?? {} });
  }

  mknod(as: Credentials, directory: FileHandle, name: Name, node: Mknoddata3): Answer<CreateOk3> {
    return this.#call(nfs3.mknod, as, { directory, name, node });
  }

  async remove(as: Credentials, directory: FileHandle, name: Name): Answer<WccData> {
    const answer = await this.#call(nfs3.remove, as, { directory, name });
    return mayBeDone(answer, 'NFS3ERR_NOENT') ? ok(answer.error.wcc ?? {}) : answer;
  }

  async rmdir(as: Credentials, directory: FileHandle, name: Name): Answer<WccData> {
    const answer = await this.#call(nfs3.rmdir, as, { directory, name });
    return mayBeDone(answer, 'NFS3ERR_NOENT') ? ok(answer.error.wcc ?? {}) : answer;
  }

  async rename(as: Credentials, from: Diropargs3, to: Diropargs3): Answer<RenameOk3> {
    const answer = await this.#call(nfs3.rename, as, { from, to });
    if (!mayBeDone(answer, 'NFS3ERR_NOENT')) return answer;
    if (!(await wasRenamed(this.#witness(as), from, to))) return answer;
    return ok({ from: answer.error.wcc ?? {}, to: {} });
  }

  async link(as: Credentials, file: FileHandle, to: Diropargs3): Answer<LinkOk3> {
    const answer = await this.#call(nfs3.link, as, { file, to });
    if (!mayBeDone(answer, 'NFS3ERR_EXIST')) return answer;
    const attributes = await madeLink(this.#witness(as), file, to);
    if (attributes === undefined) return answer;
    return ok({ attributes, directory: answer.error.wcc ?? {} });
  }

  // ---- Listings, and the file system ----------------------------------------------------------

  /**
   * Some of a directory's entries, after the one with `cookie`; `cookie` and `verifier` 0n start.
   * `countBytes`, 512 to 1 MiB, bounds the whole answer.
   */
  readdir(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk3> {
    return this.#call(nfs3.readdir, as, { directory, cookie, verifier, countBytes });
  }

  /** The same with attributes and handles; NFS3ERR_NOTSUPP where the server has no such call. */
  readdirplus(
    as: Credentials,
    directory: FileHandle,
    cookie: bigint,
    verifier: bigint,
    countBytes: number,
  ): Answer<ReaddirOk3> {
    return this.#call(nfs3.readdirplus, as, { directory, cookie, verifier, countBytes });
  }

  fsstat(as: Credentials, file: FileHandle): Answer<FsstatOk3> {
    return this.#call(nfs3.fsstat, as, { file });
  }

  fsinfo(as: Credentials, file: FileHandle = this.root): Answer<FsinfoOk3> {
    return this.#call(nfs3.fsinfo, as, { file });
  }

  pathconf(as: Credentials, file: FileHandle = this.root): Answer<PathconfOk3> {
    return this.#call(nfs3.pathconf, as, { file });
  }

  // ---- How every call goes --------------------------------------------------------------------

  async #call<Args, Ok>(
    procedure: nfs3.Procedure3<Args, Ok>,
    as: Credentials,
    args: Args,
  ): Answer<Ok> {
    let pauseMs = FIRST_JUKEBOX_MS;
    let giveUpAtMs: number | undefined;
    let retransmitted = false;
    for (;;) {
      const answer = await this.#transport.call(procedure, as, args);
      retransmitted ||= answer.retransmitted && !procedure.isIdempotent;
      if (!answer.ok) return err({ ...failureError(answer.error, procedure.name), retransmitted });
      const reply = answer.value;
      if (reply.status === 'NFS3_OK') return ok(reply.ok);
      const error = { ...nfsError(reply.status, procedure.name), ...reply.fail, retransmitted };
      if (reply.status !== 'NFS3ERR_JUKEBOX' || this.#closing.signal.aborted) return err(error);
      const nowMs = performance.now();
      giveUpAtMs ??= this.#options.hard === false ? nowMs + this.majorTimeoutMs : Infinity;
      if (nowMs + pauseMs > giveUpAtMs) return err(error);
      await this.#pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LAST_JUKEBOX_MS);
    }
  }

  async #pause(pauseMs: number): Promise<void> {
    try {
      await sleep(pauseMs, undefined, { signal: this.#closing.signal });
    } catch {
      // Closed: the call that follows says so.
    }
  }

  #witness(as: Credentials): Witness {
    return {
      lookup: async ({ directory, name }) => {
        const found = await this.lookup(as, directory, name);
        if (found.ok) return found.value;
        return found.error.code === 'NFS3ERR_NOENT' ? 'absent' : undefined;
      },
      readlink: async (file) => {
        const answer = await this.readlink(as, file);
        return answer.ok ? answer.value.target : undefined;
      },
      getattr: async (file) => {
        const answer = await this.getattr(as, file);
        return answer.ok ? answer.value : undefined;
      },
    };
  }
}

/** The smaller of the two, in whole pages where there is at least one, and never nothing. */
function limitsOf(known: KnownExport, { rsize, wsize }: MountOptions): Limits {
  const { rtmax, wtmax, maxFileSize, timeDeltaNs } = known;
  return {
    readMax: transferMax(rsize, rtmax),
    writeMax: transferMax(wsize, wtmax),
    maxFileSize: maxFileSize === 0 ? Number.MAX_SAFE_INTEGER : maxFileSize,
    timeDeltaNs,
  };
}

function transferMax(asked: number | undefined, serverMax: number): number {
  const most = Math.min(asked || MAX_TRANSFER_BYTES, serverMax || MIN_TRANSFER_BYTES);
  const bounded = Math.min(most, MAX_TRANSFER_BYTES);
  return bounded < PAGE_BYTES ? bounded : bounded - (bounded % PAGE_BYTES);
}

/** A failure that can be the trace of an earlier success of the same call. */
function mayBeDone<T>(
  answer: Result<T, Nfs3Error>,
  code: FsError['code'],
): answer is { ok: false; error: Nfs3Error } {
  return !answer.ok && answer.error.retransmitted === true && answer.error.code === code;
}
