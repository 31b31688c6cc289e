/**
 * What the layers tell without being asked: to the log, and to whoever follows the events.
 */
import type { Ino } from '../base/brand.ts';
import type { CacheEvents } from '../cache/cache-parts.ts';
import type { FsError } from '../errors/fs-error.ts';
import { type ConnectionEvent, rpcChannels, type ServerEvent } from '../nfsc/index.ts';
import { errnoText } from '../observe/errno-text.ts';
import type { Log } from '../observe/log.ts';
import type { VfsEvents } from '../vfs/events.ts';
import type { EventHub } from './event-hub.ts';

/** Logs what the NFS client says of one server (`host:port`); returns the way to stop. */
export function logServer(server: string, log: Log): () => void {
  const onServer = (message: unknown) => {
    const event = message as ServerEvent;
    if (event.server !== server) return;
    if (event.state === 'ok') log.info(event.message);
    else log.warn(event.message);
  };
  const onConnection = (message: unknown) => {
    const { connection, state, reason, ...event } = message as ConnectionEvent;
    if (event.server === server) log.debug('connection', { connection, state, reason });
  };
  rpcChannels.server.subscribe(onServer);
  rpcChannels.connection.subscribe(onConnection);
  return () => {
    rpcChannels.server.unsubscribe(onServer);
    rpcChannels.connection.unsubscribe(onConnection);
  };
}

/** The file system's events as lines of the log. */
export function logFileSystem(log: Log): VfsEvents {
  return {
    stale: (ino) => log.debug('the server no longer knows a file', { ino }),
    resending: (ino, bytes) =>
      log.info('the server restarted: writes are sent again', { ino, bytes }),
    writeBackFailed: (ino, bytes, { code, message }) =>
      log.warn('writes could not be made durable yet', { ino, bytes, code, reason: message }),
    writesLost: (ino, bytes, { code, message }) =>
      log.error('writes were lost', { ino, bytes, code, reason: message }),
    sillyNameLeft: (ino, name, { code, message }) =>
      log.warn('the name of a deleted file was left at the server', {
        ino,
        name,
        code,
        reason: message,
      }),
    readdirplusMissing: () => log.info('the server has no READDIRPLUS'),
  };
}

/**
 * The file system's events for those who follow: paths are from the root, as the log has them. Files
 * that are opened while there are no `programs` yet are the mount's own, which it tries itself by:
 * nobody is told.
 */
export function tellFileSystem(hub: EventHub, log: Log, programs: () => boolean) {
  const told = new Set<Ino>();
  return {
    fileOpened(ino: Ino, path: string) {
      if (!programs()) return;
      told.add(ino);
      hub.tell('opened', { path });
    },
    fileClosed(ino: Ino, path: string) {
      if (told.delete(ino)) hub.tell('closed', { path });
    },
    dirty: (_: Ino, path: string) => void hub.tell('dirty', { path }),
    clean: (_: Ino, path: string) => void hub.tell('clean', { path }),
    conflict(_: Ino, path: string) {
      hub.tell('conflict', { path });
      log.warn('another has changed a file with unsent writes: gvfs resolve says what counts', {
        path,
      });
    },
    unsentDropped(_: Ino, path: string, bytes: number) {
      log.info('the file of unsent writes is gone: they are dropped', { path, bytes });
      hub.tell('notSent', { path, bytes, message: 'its file is gone: dropped' });
    },
    recoveredGone(path: string, bytes: number, error: FsError) {
      const reason = error.message;
      log.warn('unsent writes of an earlier mount have no file any more: they stay in the cache', {
        path,
        bytes,
        reason,
      });
      const message = `left by an earlier mount, it stays in the cache: ${reason}`;
      hub.tell('notSent', { path, bytes, message });
    },
  };
}

/** The cache's events for those who follow. */
export function tellCache(hub: EventHub, log: Log) {
  const pathOf = (path: string) => path.replace(/^\/+/, '');
  return {
    writtenBack({ path, bytes }: { readonly path: string; readonly bytes: number }) {
      hub.tell('writtenBack', { path: pathOf(path), bytes });
    },
    changedUnderDirty(_: string, path: string) {
      hub.tell('changedUnderDirty', { path: pathOf(path) });
      log.warn('another has changed a file with unsent writes: they are sent all the same', {
        path,
      });
    },
    notSent(_: string, path: string, { code, message }: FsError) {
      log.warn('unsent writes could not be sent, they are kept', { path, code, reason: message });
      hub.tell('notSent', { path: pathOf(path), message });
    },
  };
}

/** The cache's events as lines of the log. */
export function logCache(log: Log): CacheEvents {
  return {
    setAside: (image, why) => log.info('what was cached of an image is not used', { image, why }),
    damaged: (image, offset, length) =>
      log.warn('cached bytes were damaged: they are fetched again', { image, offset, length }),
    notKept: (image, why) => log.warn('an image cannot be cached', { image, why }),
    disk({ state, errno, work }, was) {
      if (state === 'healthy') return log.info("the cache's disk is used again", { was });
      log.warn("the cache's disk is not used as it should be", {
        state,
        work,
        reason: errnoText(errno),
      });
    },
    evicted: ({ freedBytes, extents, images }) =>
      log.debug('evicted from the cache', { freedBytes, extents, images }),
    nothingToEvict: (wantedBytes) =>
      log.warn('the cache is full of what cannot be evicted', { wantedBytes }),
    failure: (reason) => log.warn('the cache has failed in something', { reason }),
  };
}

/** Calls back when the server (`host:port`) stops and starts answering; the way to stop. */
export function watchServer(server: string, changed: (state: 'away' | 'back') => void): () => void {
  const onServer = (message: unknown) => {
    const event = message as ServerEvent;
    if (event.server === server) changed(event.state === 'ok' ? 'back' : 'away');
  };
  rpcChannels.server.subscribe(onServer);
  return () => rpcChannels.server.unsubscribe(onServer);
}
