/**
 * A shell for the commands of gvfs: what they print is kept, and mounts and sockets are the test's.
 */
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { runGvfs } from '../../src/cli/run-gvfs.ts';
import type { Shell } from '../../src/cli/shell.ts';
import { listenWith } from '../../src/daemon/control/listen.ts';
import { defaultLimits } from '../../src/daemon/control/server.ts';
import { Service } from '../../src/daemon/control/service.ts';
import { parseMounts } from '../../src/fuse/mountinfo.ts';
import { FakeMount, temporary } from '../control/fake.ts';

export interface GvfsRan {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export interface FakeWorld extends AsyncDisposable {
  readonly mount: FakeMount;
  /** For caches and the like; gone in the end. */
  readonly directory: string;
  readonly socket: string;
  gvfs(...args: string[]): Promise<GvfsRan>;
  /** As Ctrl-C does. */
  interrupt(): void;
  /** The daemon dies; the mount stays. */
  die(): Promise<void>;
  /** What surrounds the commands, to be changed. */
  readonly shell: { -readonly [K in keyof Shell]: Shell[K] };
}

const oneMount = `22 1 254:0 / / rw - ext4 /dev/vda1 rw
41 22 0:50 / /mnt/vm rw - fuse.gvfs images.example.org:/vm rw,user_id=0,group_id=0
`;

/** A mount at /mnt/vm whose daemon answers. */
export async function fakeWorld(mountinfo = oneMount): Promise<FakeWorld> {
  const place = temporary();
  const mount = new FakeMount();
  const owner = process.geteuid?.() ?? 0;
  const service = new Service(mount, systemClock);
  const listening = await listenWith(
    service.handlers,
    place.socket,
    {
      fault(_, error) {
        throw error;
      },
    },
    { ...defaultLimits, progressMs: 0 },
  );
  if (!listening.ok) throw new Error(listening.error);
  let server: { close(): Promise<void> } | undefined = listening.value;
  const printed = { out: '', err: '' };
  const interrupts = new Set<() => void>();
  const shell: FakeWorld['shell'] = {
    out(text) {
      printed.out += text;
    },
    err(text) {
      printed.err += text;
    },
    outIsTerminal: false,
    errIsTerminal: false,
    columns: 80,
    surroundings: { uid: 4711, env: { XDG_CACHE_HOME: join(place.path, 'cache') } },
    workingDirectory: '/',
    mounts: {
      lines: async () => parseMounts(mountinfo),
      uid: owner,
      sockets: () => [{ path: place.socket, owner }],
      ownSockets: async () => [place.socket],
    },
    clock: systemClock,
    bytesOf: (argument) => Buffer.from(argument),
    onInterrupt(interrupt) {
      interrupts.add(interrupt);
      return () => interrupts.delete(interrupt);
    },
  };
  const die = async () => {
    service.ending();
    const closing = server;
    server = undefined;
    await closing?.close();
  };
  return {
    mount,
    directory: place.path,
    socket: place.socket,
    shell,
    async gvfs(...args) {
      printed.out = '';
      printed.err = '';
      const status = await runGvfs(args, shell);
      return { status, ...printed };
    },
    interrupt() {
      for (const interrupt of interrupts) interrupt();
    },
    die,
    async [Symbol.asyncDispose]() {
      await die();
      place[Symbol.dispose]();
    },
  };
}
