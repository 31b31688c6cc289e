#!/usr/bin/env node
/**
 * gvfs-mount SERVER:/EXPORT DIRECTORY: mounts, and returns when the mount answers. Errors are one
 * sentence on standard error; the exit status is mount(8)'s.
 */
import { opendir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ok, type Result } from '../base/result.ts';
import {
  defaultCacheDirectory,
  defaultLogFile,
  type Surroundings,
} from '../config/default-paths.ts';
import { formatSource } from '../config/mount-source.ts';
import type { Settings } from '../config/options.ts';
import { mountInBackground } from '../daemon/background.ts';
import { socketPath } from '../daemon/control/socket-path.ts';
import type { LogPlan, MountPlan } from '../daemon/mount-plan.ts';
import { checkMountpoint, liesBeneath } from '../daemon/mountpoint.ts';
import type { SessionEnd } from '../daemon/session.ts';
import { type MountRequest, parseMountCommand } from './mount-command.ts';
import { type CommandError, ExitStatus, report, sentence } from './mount-errors.ts';

const name = basename(process.argv[1] ?? '') === 'mount.gvfs' ? 'mount.gvfs' : 'gvfs-mount';

const FIRST_TOUCH_LIMIT_MS = 1000;

async function main(): Promise<ExitStatus> {
  const parsed = parseMountCommand(
    process.argv.slice(2),
    name === 'mount.gvfs' ? 'mount(8)' : 'person',
  );
  if (!parsed.ok) return fail(parsed.error);
  const request = parsed.value;
  if (request.kind === 'text') {
    process.stdout.write(request.text);
    return ExitStatus.success;
  }
  const mounted = await mount(request);
  if (!mounted.ok) return fail(mounted.error);
  return mounted.value;
}

async function mount(request: MountRequest): Promise<Result<ExitStatus, CommandError>> {
  const path = resolve(request.mountpoint);
  const checked = await checkMountpoint(path);
  if (!checked.ok) return checked;
  const mountpoint = checked.value;
  const { source, settings, notes } = request;
  const log = logPlan(request);
  if (log.file !== undefined && liesBeneath(log.file, mountpoint)) {
    return { ok: false, error: { kind: 'logInside', file: log.file, mountpoint } };
  }
  const cache = cacheDirectoryOf(settings);
  if (!cache.ok) return cache;
  const cacheDirectory = cache.value;
  if (request.fake) return ok(ExitStatus.success);
  const socket = socketPath(mountpoint, surroundings());
  const plan: MountPlan = { source, mountpoint, settings, cacheDirectory, socket, notes, log };
  return request.foreground ? inForeground(plan) : inBackground(plan, request.verbose);
}

async function inForeground(plan: MountPlan): Promise<Result<ExitStatus, CommandError>> {
  process.chdir('/');
  const { serve } = await import('../daemon/serve.ts');
  const served = await serve(plan, { ready: () => undefined });
  if (served.kind === 'failed') return { ok: false, error: served.failure };
  return ok(endStatus[served.end]);
}

const endStatus: Record<SessionEnd, ExitStatus> = {
  unmounted: ExitStatus.success,
  kept: ExitStatus.unsent,
  unsettled: ExitStatus.internal,
  fault: ExitStatus.internal,
};

async function inBackground(
  plan: MountPlan,
  verbose: boolean,
): Promise<Result<ExitStatus, CommandError>> {
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  const mounted = await mountInBackground(plan, interrupted.signal);
  if (!mounted.ok) return mounted;
  if (mounted.value.kind === 'ready') await firstTouch(plan.mountpoint);
  const source = formatSource(plan.source);
  if (mounted.value.kind === 'retrying') {
    const { what } = report(mounted.value.failure);
    process.stderr.write(`${name}: ${what}: still trying in the background\n`);
  } else if (verbose) {
    process.stdout.write(`${name}: ${source} is mounted on ${plan.mountpoint}\n`);
  }
  return ok(ExitStatus.success);
}

/**
 * Uses the mount once, from this process that may: whoever comes next finds it warm, and the kernel
 * knows the first names of the root. A mount that hangs all the same is not ours to wait for.
 */
async function firstTouch(mountpoint: string): Promise<void> {
  const touched = (async () => {
    const root = await opendir(mountpoint);
    await root.read();
    await root.close();
    for (let at = 0; at < 8; at++) {
      await stat(join(mountpoint, `.gvfs-${at}`)).catch(() => undefined);
    }
  })().catch(() => undefined);
  await Promise.race([touched, sleep(FIRST_TOUCH_LIMIT_MS)]);
}

/** undefined: nothing is cached. */
function cacheDirectoryOf({ cache, cachedir }: Settings): Result<string | undefined, CommandError> {
  if (!cache) return ok(undefined);
  const directory =
    cachedir === undefined ? defaultCacheDirectory(surroundings()) : resolve(cachedir);
  if (directory !== undefined) return ok(directory);
  return { ok: false, error: { kind: 'cache', fault: 'nowhere', directory: '', message: '' } };
}

function surroundings(): Surroundings {
  return { uid: process.geteuid?.() ?? 0, env: process.env };
}

function logPlan({ settings, foreground }: MountRequest): LogPlan {
  const asked = settings.log === undefined ? undefined : resolve(settings.log);
  const file = asked ?? (foreground ? undefined : defaultLogFile(surroundings()));
  const onTerminal = file === undefined && process.stderr.isTTY;
  return {
    file,
    required: asked !== undefined,
    level: settings.log_level,
    format: settings.log_format ?? (onTerminal ? 'text' : 'json'),
  };
}

function fail(error: CommandError): ExitStatus {
  const reported = report(error);
  process.stderr.write(`${sentence(name, reported)}\n`);
  return reported.status;
}

// Not left to the end of the event loop: a helper that hangs on a dead mount must not hold us.
process.exit(await main());
