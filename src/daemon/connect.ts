/**
 * The way to the server at mount time: once, or again and again where `retry` says so. Where a mount
 * is possible without the server, it is not waited for long.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { err, ok, type Result } from '../base/result.ts';
import {
  listExports,
  type MountError,
  type MountOptions,
  Nfs3Client,
  type MountFailure as ServerRefusal,
} from '../nfsc/index.ts';
import type { Log } from '../observe/log.ts';
import type { MountFailure } from './mount-failure.ts';
import type { MountPlan } from './mount-plan.ts';
import { mountOptionsOf, retryLimitMs } from './translate.ts';

const FIRST_PAUSE_MS = 1_000;
const LAST_PAUSE_MS = 30_000;
const EXPORTS_LIMIT_MS = 3_000;
/** For each step of an attempt, where there is another way to mount. */
const SHORT_LIMIT_MS = 5_000;

export interface ConnectHooks {
  /** With bg. Called once, when the first attempt found no server and others will follow. */
  readonly retrying?: ((failure: MountFailure) => void) | undefined;
  /** Called once, when the first attempt found no server: whether there is another way. */
  readonly without?: (() => Promise<boolean>) | undefined;
}

/** The mounted export, or that it is mounted without; `signal` ends the waiting in between. */
export async function connect(
  { source, settings }: MountPlan,
  log: Log,
  { retrying, without }: ConnectHooks,
  signal: AbortSignal,
): Promise<Result<Nfs3Client | { readonly without: string }, MountFailure>> {
  const options = mountOptionsOf(source, settings);
  const first = without === undefined ? options : { ...options, mountTimeoutMs: SHORT_LIMIT_MS };
  const giveUpAtMs = performance.now() + retryLimitMs(settings);
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
    const isFirst = pauseMs === FIRST_PAUSE_MS;
    const mounted = await Nfs3Client.mount(isFirst ? first : options);
    if (mounted.ok) {
      if (signal.aborted) void mounted.value.unmount(); // nobody waits for it any more
      return mounted;
    }
    const { detail, message } = mounted.error;
    if (isFirst && isAway(detail) && (await without?.())) return ok({ without: message });
    const failure = await describe(options, mounted.error);
    const again = mayPass(detail) && performance.now() + pauseMs < giveUpAtMs;
    if (!again || signal.aborted) return err(failure);
    if (isFirst) {
      log.warn('the server does not answer yet, still trying', { reason: message });
      if (!settings.fg) retrying?.(failure);
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return err({ kind: 'interrupted' });
  }
}

/** Whether the server cannot be spoken with, whatever it would say. */
function isAway(detail: ServerRefusal): boolean {
  return mayPass(detail) || (detail.kind === 'unreachable' && detail.reason === 'unknownHost');
}

/** Whether time alone may mend it, as mount.nfs sees it. */
function mayPass(detail: ServerRefusal): boolean {
  switch (detail.kind) {
    case 'unreachable':
      return detail.reason !== 'localPort' && detail.reason !== 'unknownHost';
    case 'timeout':
    case 'notRegistered':
      return true;
    case 'refused':
    case 'denied':
    case 'notDone':
    case 'noFlavor':
    case 'fsinfo':
    case 'protocol':
    case 'options':
      return false;
  }
}

async function describe(options: MountOptions, error: MountError): Promise<MountFailure> {
  const { detail, message } = error;
  const { server, exportPath } = options;
  const failure = { kind: 'server', server, exportPath, detail, message } as const;
  if (detail.kind !== 'refused') return failure;
  // What the server does export is the best hint for who asked for something else.
  const listed = await listExports({ ...options, mountTimeoutMs: EXPORTS_LIMIT_MS });
  if (!listed.ok) return failure;
  return { ...failure, exports: listed.value.map(({ directory }) => directory) };
}
