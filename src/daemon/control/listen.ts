/**
 * The control socket of a mount: puts it at its path, and takes it away.
 *
 * It is made under another name and renamed: whoever finds it at its path can connect, and what a
 * dead daemon left there is replaced. A living one whose mount is hidden by ours, or has left the
 * tree, loses its name too: the path speaks for the mount that is seen. One that goes on without a
 * mount takes a second name for itself, by which `gvfs status --all` finds it.
 */
import { chmodSync, linkSync, lstatSync, renameSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Clock, systemClock } from '../../base/clock.ts';
import { err, ok, type Result } from '../../base/result.ts';
import type { Log } from '../../observe/log.ts';
import type { Controlled } from './controlled.ts';
import { makePrivate } from './private-directory.ts';
import type { Handlers } from './protocol.ts';
import { defaultLimits, RpcServer, type ServerEvents, type ServerLimits } from './server.ts';
import { Service } from './service.ts';

export interface ControlServer {
  /**
   * The mount is gone and its daemon is not: calls that would hold it up are cancelled. It gets a
   * second name beside the first one, which is that of the next mount at the same place.
   */
  draining(): void;
  /** Cancels what runs, hangs up, and removes the socket. */
  close(): Promise<void>;
}

/** Serves the mount's methods at `socket`, an absolute path. The error is one clause. */
export async function listen(
  controlled: Controlled,
  socket: string,
  log: Log,
): Promise<Result<ControlServer, string>> {
  const service = new Service(controlled, systemClock);
  const events = {
    fault: (method: string, error: unknown) =>
      log.error('a control call failed, internal error', {
        method,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      }),
  };
  const listening = await listenWith(service.handlers, socket, events);
  if (!listening.ok) return listening;
  return ok({
    draining() {
      service.ending();
      listening.value.draining();
    },
    async close() {
      service.ending();
      await listening.value.close();
    },
  });
}

/** The same for any methods. */
export async function listenWith(
  handlers: Handlers,
  socket: string,
  events: ServerEvents,
  limits: ServerLimits = defaultLimits,
  clock: Clock = systemClock,
): Promise<Result<ControlServer, string>> {
  const made = makePrivate(dirname(socket), process.geteuid?.() ?? 0);
  if (!made.ok) return made;
  const server = new RpcServer(handlers, clock, events, limits);
  const temporary = `${socket}.${process.pid}`;
  let inode: number;
  try {
    remove(temporary);
    await server.listen(temporary);
    chmodSync(temporary, 0o600);
    inode = lstatSync(temporary).ino;
    renameSync(temporary, socket);
  } catch (error) {
    await server.close();
    return err(`${socket}: ${(error as Error).message}`);
  }
  const second = socket.replace(/(\.sock)?$/, `.${process.pid}.sock`);
  let hasSecond = false;
  return ok({
    draining() {
      if (hasSecond || inodeAt(socket) !== inode) return;
      try {
        linkSync(socket, second);
        hasSecond = true;
      } catch {
        // It is only harder to find, should the first name be lost.
      }
    },
    async close() {
      if (inodeAt(socket) === inode) remove(socket);
      if (hasSecond && inodeAt(second) === inode) remove(second);
      await server.close();
    },
  });
}

function inodeAt(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
