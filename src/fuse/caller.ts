/**
 * Who made a request. The kernel tells uid, gid and thread id; supplementary groups stand only in
 * /proc, which is read when an operation asks for the credentials, not before.
 *
 * What was read is believed for `GROUPS_VALID_MS`. A process that changes its groups nearly always
 * changes its uid or gid too, which is part of the key; the rest is root's doing, seen a second
 * later. Reading for each request would cost more than a LOOKUP.
 */
import { readFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../base/credentials.ts';
import type { Caller } from '../vfs/operations.ts';

const GROUPS_VALID_MS = 1000;

/** The text of /proc/PID/status, or undefined when there is no such process to be seen. */
export type ReadStatus = (pid: number) => string | undefined;

export function readProcStatus(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/status`, 'latin1'); // procfs: memory, not a disk
  } catch {
    return undefined; // gone, or hidden from us
  }
}

export class Callers {
  readonly #clock: Clock;
  readonly #readStatus: ReadStatus;
  readonly #known = new Map<string, Credentials>();
  #knownSinceMs = 0;

  constructor(clock: Clock, readStatus: ReadStatus = readProcStatus) {
    this.#clock = clock;
    this.#readStatus = readStatus;
  }

  caller(uid: number, gid: number, pid: number): Caller {
    return new LazyCaller(this, uid, gid, pid);
  }

  credentials(uid: number, gid: number, pid: number): Credentials {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#knownSinceMs >= GROUPS_VALID_MS) {
      this.#known.clear(); // which bounds the map, too
      this.#knownSinceMs = nowMs;
    }
    const key = `${pid}:${uid}:${gid}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const credentials = { uid, gid, groups: this.#groupsOf(pid).filter((group) => group !== gid) };
    this.#known.set(key, credentials);
    return credentials;
  }

  /**
   * Whether a signal that ends the thread is pending (SIGKILL, into which the kernel turns every
   * fatal one), or it is on its way out: then the kernel closes its files, no signal is pending any
   * more, and its memory is gone. A thread that cannot be seen is taken for dying.
   */
  isDying(pid: number): boolean {
    const status = pid === 0 ? undefined : this.#readStatus(pid);
    const pending = /^SigPnd:\s*([0-9a-f]+)$/m.exec(status ?? '')?.[1];
    if (status === undefined || pending === undefined) return true;
    return (BigInt(`0x${pending}`) & SIGKILL_BIT) !== 0n || !/^VmSize:/m.test(status);
  }

  #groupsOf(pid: number): number[] {
    const groups = pid === 0 ? undefined : this.#field(pid, /^Groups:\s*([0-9 ]*)$/m);
    return groups === undefined ? [] : groups.split(' ').filter(Boolean).map(Number);
  }

  #field(pid: number, pattern: RegExp): string | undefined {
    if (pid === 0) return undefined;
    return pattern.exec(this.#readStatus(pid) ?? '')?.[1];
  }
}

const SIGKILL_BIT = 1n << 8n;

class LazyCaller implements Caller {
  readonly pid: number;
  readonly #callers: Callers;
  readonly #uid: number;
  readonly #gid: number;

  constructor(callers: Callers, uid: number, gid: number, pid: number) {
    this.#callers = callers;
    this.#uid = uid;
    this.#gid = gid;
    this.pid = pid;
  }

  get credentials(): Credentials {
    return this.#callers.credentials(this.#uid, this.#gid, this.pid);
  }
}
