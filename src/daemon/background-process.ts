/**
 * The daemon's own process, started by the command in the foreground (background.ts). It gets its
 * plan over the channel to its parent, tells it how the mount went, and lets go of it.
 */
import { assert } from '../base/assert.ts';
import { formatSource } from '../config/mount-source.ts';
import type { FromDaemon, ToDaemon } from './background.ts';
import { type Served, serve } from './serve.ts';

/** Nobody waits for the status but service managers: it tells them of a bug, or of lost writes. */
const NOT_IN_ORDER = 4;
/** sysexits.h, EX_TEMPFAIL: writes stay in the cache for the next mount to send. */
const WRITES_KEPT = 75;

process.once('message', (message) => {
  void run(message as ToDaemon);
});

async function run({ plan }: ToDaemon): Promise<void> {
  process.title = `gvfs-mount ${formatSource(plan.source)} ${plan.mountpoint}`;
  process.chdir('/');
  const abandoned = new AbortController();
  const onDisconnect = () => abandoned.abort();
  process.once('disconnect', onDisconnect);

  /** The last word to the parent, which ends when it has it. */
  const tellAndLetGo = (message: FromDaemon) =>
    new Promise<void>((done) => {
      process.off('disconnect', onDisconnect);
      if (!process.connected) return done();
      process.send?.(message, () => {
        if (process.connected) process.disconnect();
        done();
      });
    });

  const served = await serve(
    plan,
    {
      ready: () => void tellAndLetGo({ kind: 'ready' }),
      retrying: (failure) => void tellAndLetGo({ kind: 'retrying', failure }),
    },
    abandoned.signal,
  );
  if (served.kind === 'failed') await tellAndLetGo(served);
  process.exit(statusOf(served));
}

function statusOf(served: Served): number {
  if (served.kind === 'failed') return NOT_IN_ORDER;
  if (served.end === 'kept') return WRITES_KEPT;
  return served.end === 'unmounted' ? 0 : NOT_IN_ORDER;
}

assert(process.connected, 'this process is started by gvfs-mount');
