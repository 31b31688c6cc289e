/**
 * What people change over the control socket, as one line of the log each: pins, evictions, warming,
 * requests that were made to fail, conflicts, unmounts. Questions are not logged.
 */
import type { Log, LogFields } from '../observe/log.ts';
import type { Controlled, ControlledCache, ControlledImage } from './control/controlled.ts';

/** The same, with the log told of what was done. */
export function logChanges(controlled: Controlled, log: Log): Controlled {
  const { kernel, cache, sending, life } = controlled;
  return {
    ...controlled,
    sending: {
      foundBytes: sending.foundBytes,
      unsent: () => sending.unsent(),
      writeBack: (ino, how) => sending.writeBack(ino, how),
      flush: (ino, how) => sending.flush(ino, how),
      async resolve(as, ino, which, signal) {
        const bytes = sending.unsent().find((file) => file.ino === ino)?.unsent.bytes;
        const resolved = await sending.resolve(as, ino, which, signal);
        if (resolved.ok) log.warn('a conflict was resolved, as asked', { ino, kept: which, bytes });
        return resolved;
      },
    },
    life: {
      async unmount(how) {
        const { unsent, force } = how;
        log.info('an unmount was asked for', { unsent, force: force || undefined });
        const ended = await life.unmount(how);
        const { unmounted, why, droppedBytes } = ended;
        if (!unmounted) log.info('the mount goes on', { why });
        if (droppedBytes > 0) log.warn('unsent writes were dropped, as asked', { droppedBytes });
        return ended;
      },
    },
    cache: cache && logCacheChanges(cache, log),
    kernel: {
      waiting: () => kernel.waiting(),
      failWaiting(ino) {
        const failed = kernel.failWaiting(ino);
        if (failed > 0) log.info('waiting requests were failed, as asked', { ino, failed });
        return failed;
      },
    },
  };
}

function logCacheChanges(cache: ControlledCache, log: Log): ControlledCache {
  return {
    idOf: (file) => cache.idOf(file),
    list: (signal) => cache.list(signal),
    find(file) {
      const image = cache.find(file);
      return image && logWarming(image, log, { image: cache.idOf(file) });
    },
    async setPinned(id, pinned) {
      const done = await cache.setPinned(id, pinned);
      if (done.ok) log.info(pinned ? 'pinned, as asked' : 'unpinned, as asked', { image: id });
      return done;
    },
    async evict(id) {
      const evicted = await cache.evict(id);
      if (!evicted.ok) return evicted;
      const { freedBytes, why } = evicted.value;
      log.info('evicted, as asked', { image: id, freedBytes, kept: why });
      return evicted;
    },
    verify: (id, watch) => cache.verify(id, watch),
  };
}

function logWarming(image: ControlledImage, log: Log, of: LogFields): ControlledImage {
  return {
    presentBytes: (...range) => image.presentBytes(...range),
    pageStates: (parts) => image.pageStates(parts),
    async warm(range, how) {
      const warmed = await image.warm(range, how);
      if (how.check) return warmed;
      if (warmed.ok) {
        const { fetchedBytes, presentBytes } = warmed.value;
        log.info('warmed, as asked', { ...of, fetchedBytes, presentBytes });
      } else {
        log.info('warming has ended early', { ...of, reason: warmed.error.message });
      }
      return warmed;
    },
  };
}
